//! The medians as bars.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use crate::contender::Verb;
use crate::table::{Report, Row};

const WIDTH: u32 = 900;
const BAR: i32 = 22;
const LEFT: i32 = 300;
const TOP: i32 = 40;
const OURS: RGBColor = RGBColor(31, 119, 180);
const OTHERS: RGBColor = RGBColor(160, 160, 160);

/// Draws ADD and DEL, one bar a contender, to the same scale.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn draw(report: &Report, file: &Path) -> Result<()> {
    let rows = i32::try_from(report.rows.len()).context("too many rows")?;
    let height = u32::try_from(TOP * 3 + BAR * rows).context("too many rows")?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    paint(&root, report).map_err(|e| anyhow!("draw {}: {e}", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Painted = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn paint(root: &Area<'_>, report: &Report) -> Painted {
    root.fill(&WHITE)?;
    let longest = report.rows.iter().map(|r| r.wall.median).fold(0.0, f64::max);
    let mut y = 0;
    for verb in [Verb::Add, Verb::Del] {
        y += TOP;
        let title = format!("{}, milliseconds (median of {} rounds)", verb.as_str(), report.rounds);
        root.draw(&Text::new(title, (10, y - 24), ("sans-serif", 16)))?;
        for row in report.rows.iter().filter(|r| r.verb == verb) {
            bar(root, row, y, longest)?;
            y += BAR;
        }
    }
    root.present()
}

fn bar(root: &Area<'_>, row: &Row, y: i32, longest: f64) -> Painted {
    let room = f64::from(WIDTH) - f64::from(LEFT) - 70.0;
    #[expect(clippy::cast_possible_truncation, reason = "pixels, at most the width")]
    let length = (row.wall.median / longest * room) as i32;
    let colour = if row.name.starts_with("flatnet") { OURS } else { OTHERS };
    let font = ("sans-serif", 13);
    root.draw(&Text::new(row.name.clone(), (10, y + 3), font))?;
    root.draw(&Rectangle::new([(LEFT, y + 2), (LEFT + length.max(1), y + BAR - 3)], colour.filled()))?;
    root.draw(&Text::new(format!("{:.1}", row.wall.median), (LEFT + length + 6, y + 3), font))
}
