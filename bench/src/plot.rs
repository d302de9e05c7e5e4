//! Medians as bars.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

const WIDTH: u32 = 900;
const BAR: i32 = 22;
const LEFT: i32 = 300;
const TOP: i32 = 40;
const OURS: RGBColor = RGBColor(31, 119, 180);
const OTHERS: RGBColor = RGBColor(160, 160, 160);

/// A title and a bar for each contender.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) bars: Vec<(String, f64)>,
    /// The value whose bar takes the whole width: charts with the same one are to the same scale.
    pub(crate) widest: f64,
}

/// Draws the charts one below the other.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn draw(charts: &[Chart], file: &Path) -> Result<()> {
    let bars = i32::try_from(charts.iter().map(|c| c.bars.len()).sum::<usize>()).context("too many bars")?;
    let titles = i32::try_from(charts.len()).context("too many charts")?;
    let height = u32::try_from(TOP * (titles + 1) + BAR * bars).context("too many bars")?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    paint(&root, charts).map_err(|e| anyhow!("draw {}: {e}", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Painted = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn paint(root: &Area<'_>, charts: &[Chart]) -> Painted {
    root.fill(&WHITE)?;
    let mut y = 0;
    for chart in charts {
        y += TOP;
        root.draw(&Text::new(chart.title.clone(), (10, y - 24), ("sans-serif", 16)))?;
        for (name, value) in &chart.bars {
            bar(root, (name, *value), y, chart.widest)?;
            y += BAR;
        }
    }
    root.present()
}

fn bar(root: &Area<'_>, (name, value): (&str, f64), y: i32, widest: f64) -> Painted {
    let room = f64::from(WIDTH) - f64::from(LEFT) - 70.0;
    #[expect(clippy::cast_possible_truncation, reason = "pixels, at most the width")]
    let length = (value / widest * room) as i32;
    let colour = if name.starts_with("flatnet") { OURS } else { OTHERS };
    let font = ("sans-serif", 13);
    root.draw(&Text::new(name.to_owned(), (10, y + 3), font))?;
    root.draw(&Rectangle::new([(LEFT, y + 2), (LEFT + length.max(1), y + BAR - 3)], colour.filled()))?;
    root.draw(&Text::new(format!("{value:.1}"), (LEFT + length + 6, y + 3), font))
}
