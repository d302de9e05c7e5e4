//! A table like kubectl's: columns as wide as they need to be, no lines.

use std::io::{self, Write};

use super::Style;

const GAP: usize = 2;

/// Writes a table, indented below its claim. Each row says whether it is as it should be.
pub(crate) fn table(
    out: &mut impl Write,
    style: Style,
    columns: &[&str],
    rows: &[(Vec<&str>, bool)],
) -> io::Result<()> {
    let head: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|(cells, _)| cells.get(at)).map(|c| c.chars().count());
        let head = head.get(at).map_or(0, |name| name.chars().count());
        cells.chain([head]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    writeln!(out, "  {}", style.faint(&line(&head, &widths)))?;
    rows.iter().try_for_each(|(cells, so)| {
        let text = line(cells, &widths);
        writeln!(out, "  {}", if *so { text } else { style.alarm(&format!("{text}  <--")) })
    })
}

fn line(cells: &[&str], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    padded.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_wrong_rows_stand_out() {
        let mut out = Vec::new();
        let rows = [(vec!["web", "n1 → n3"], true), (vec!["orders", "n2"], false)];
        table(&mut out, Style::Plain, &["from", "nodes"], &rows).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert_eq!(shown, "  FROM    NODES\n  web     n1 → n3\n  orders  n2  <--\n");
    }
}
