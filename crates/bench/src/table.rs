//! Tables of plain text, and numbers short enough to stand in them.

use std::fmt;

/// A table whose first column is words and whose others are numbers.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|&title| title.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// Draws the table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            text += &line(row);
            if index == 0 {
                let rule = |column| if column == 0 { "---" } else { "---:" }.to_owned();
                text += &line(&(0..row.len()).map(rule).collect::<Vec<_>>());
            }
        }
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (index, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                line += &if index == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("  {cell:>width$}")
                };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Three or four digits and a prefix: `981`, `28.4k`, `1.63M`.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 10.0 => format!("{rate:.2}"),
        rate if rate < 1e4 => format!("{rate:.0}"),
        rate if rate < 1e5 => format!("{:.1}k", rate / 1e3),
        rate if rate < 1e6 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.2}M", rate / 1e6),
    }
}

/// Microseconds in the unit that fits: `85ns`, `1.24us`, `150us`, `4.60ms`, `1.20s`.
pub(crate) fn time(micros: f64) -> String {
    let digits = |number: f64, unit: &str| match number {
        number if number < 10.0 => format!("{number:.2}{unit}"),
        number if number < 100.0 => format!("{number:.1}{unit}"),
        number => format!("{number:.0}{unit}"),
    };
    match micros {
        micros if micros < 1.0 => format!("{:.0}ns", micros * 1e3),
        micros if micros < 1e3 => digits(micros, "us"),
        micros if micros < 1e6 => digits(micros / 1e3, "ms"),
        micros => digits(micros / 1e6, "s"),
    }
}

/// Whole mebibytes.
pub(crate) fn bytes(bytes: f64) -> String {
    format!("{:.0}M", bytes / f64::from(1 << 20))
}

/// A ratio: `0.034`, `1.27`, `12.3`, `340`.
pub(crate) fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 0.1 => format!("{ratio:.3}"),
        ratio if ratio < 10.0 => format!("{ratio:.2}"),
        ratio if ratio < 100.0 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["store", "ops/s"]);
        table.row(["holm".to_owned(), rate(28_412.0)]);
        table.row(["a longer one".to_owned(), rate(981.4)]);
        let drawn = "store         ops/s\nholm          28.4k\na longer one    981\n";
        assert_eq!(table.to_string(), drawn);
    }

    #[test]
    fn markdown_has_a_rule_below_its_header() {
        let mut table = Table::new(&["store", "ops/s"]);
        table.row(["holm".to_owned(), rate(981.4)]);
        assert_eq!(table.markdown(), "| store | ops/s |\n| --- | ---: |\n| holm | 981 |\n");
    }

    #[test]
    fn numbers_are_short() {
        let rates = [0.5, 9_999.0, 123_456.0, 1_634_000.0].map(rate);
        assert_eq!(rates, ["0.50", "9999", "123k", "1.63M"]);
        let times = [0.085, 1.239, 150.2, 4_600.0, 1_200_000.0].map(time);
        assert_eq!(times, ["85ns", "1.24us", "150us", "4.60ms", "1.20s"]);
        assert_eq!([0.0341, 1.268, 12.34, 340.2].map(ratio), ["0.034", "1.27", "12.3", "340"]);
    }
}
