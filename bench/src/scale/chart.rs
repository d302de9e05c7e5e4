//! The figures over the number of nodes, both on logarithmic axes: what grows with the cluster is a straight
//! line at 45 degrees, what does not is flat.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::case::Case;
use super::report::Report;
use super::store::Kind;

const SIZE: (u32, u32) = (1000, 760);
const FILE: RGBColor = RGBColor(31, 119, 180);
const JSON: RGBColor = RGBColor(44, 150, 60);
const ETCD: RGBColor = RGBColor(214, 110, 20);
const PLAIN: RGBColor = RGBColor(140, 140, 140);

/// Points of one thing.
struct Series {
    name: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Painted = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws four panels: programming, joining, memory, looking.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn draw(report: &Report, file: &Path) -> Result<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    paint(&root, report).map_err(|e| anyhow!("draw {}: {e}", file.display()))
}

fn paint(root: &Area<'_>, report: &Report) -> Painted {
    root.fill(&WHITE)?;
    let panels = root.split_evenly((2, 2));
    let figure = |name: &str, figure: fn(&Case) -> f64| {
        [(Kind::File, FILE), (Kind::Json, JSON), (Kind::Etcd, ETCD)].map(|(store, colour)| Series {
            name: format!("{store}{name}"),
            colour,
            points: report
                .cases
                .iter()
                .filter(|case| case.store == store)
                .map(|case| (f64::from(case.nodes), figure(case)))
                .collect(),
        })
    };
    let plain = Series {
        name: "plain routes".to_owned(),
        colour: PLAIN,
        points: report.plain.iter().map(|plain| (f64::from(plain.nodes), plain.wall)).collect(),
    };
    let programmed = figure("", |case| case.programmed).into_iter().chain([plain]).collect();
    let joined = figure("", |case| case.join.median).into_iter().chain(figure(", p99", |case| case.join.p99));
    let contents: [(&str, Vec<Series>); 4] = [
        ("Start until every route is there, s", programmed),
        ("One more node until its route is there, ms", joined.collect()),
        ("Resident memory, MiB", figure("", |case| case.memory.resident).into()),
        ("A turn that finds nothing to do, ms", figure("", |case| case.look.median).into()),
    ];
    for (area, (title, series)) in panels.iter().zip(contents) {
        panel(area, title, &series)?;
    }
    root.present()
}

fn panel(area: &Area<'_>, title: &str, all: &[Series]) -> Painted {
    let points = || all.iter().flat_map(|series| &series.points);
    if points().next().is_none() {
        return Ok(());
    }
    let (nodes, values) = (around(points().map(|point| point.0)), around(points().map(|point| point.1)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(nodes.log_scale(), values.log_scale())?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("nodes").draw()?;
    for series in all.iter().filter(|series| !series.points.is_empty()) {
        let colour = series.colour;
        chart
            .draw_series([PathElement::new(series.points.clone(), colour.stroke_width(2))])?
            .label(series.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(series.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).background_style(WHITE).draw()
}

/// From somewhat below the smallest to somewhat above the largest.
fn around(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-3);
    let most = values.fold(0.0, f64::max).max(least);
    least / 1.5..most * 1.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_room_on_both_sides_also_around_one_point() {
        let range = around([3.0].into_iter());
        assert!(range.start < 3.0 && range.end > 3.0);
        assert!(around([0.0].into_iter()).start > 0.0);
    }
}
