//! Tables in Markdown, which a terminal shows well enough: a table a metric, a line a contender, a column a case.

use std::fmt::{self, Write as _};

use super::{Report, Row};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}", self.subject, self.method)?;
        for metric in in_order(self.rows.iter().map(|row| row.metric.as_str())) {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.metric == metric).collect();
            f.write_str(&table(metric, &rows))?;
        }
        if !self.targets.is_empty() {
            writeln!(f, "\n```text")?;
            self.targets.iter().try_for_each(|target| writeln!(f, "{target}"))?;
            writeln!(f, "```")?;
        }
        Ok(())
    }
}

fn table(metric: &str, rows: &[&Row]) -> String {
    let cases = in_order(rows.iter().map(|row| row.case.as_str()));
    let contenders = in_order(rows.iter().map(|row| row.contender.as_str()));
    let mut lines =
        vec![[&[metric], cases.as_slice()].concat().iter().map(|&cell| cell.to_owned()).collect()];
    for &contender in &contenders {
        let cell = |case: &&str| {
            let row = rows.iter().find(|row| row.contender == contender && row.case == *case);
            row.map_or_else(String::new, |row| cell(row))
        };
        lines.push([contender.to_owned()].into_iter().chain(cases.iter().map(cell)).collect());
    }
    aligned(&lines)
}

/// The median, how far a round is off it, and the ratio to the first contender.
fn cell(row: &Row) -> String {
    let mut cell = figure(row.median);
    if row.samples.rounds() > 1 {
        let _infallible = write!(cell, " ±{:.0} %", 100.0 * row.spread);
    }
    if let Some(ratio) = row.ratio {
        let _infallible = write!(cell, " ({})", figure(ratio));
    }
    cell
}

/// A number with three digits that count.
fn figure(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 || number.fract() == 0.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 0.01 => format!("{number:.2}"),
        _ => format!("{number:.4}"),
    }
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::from("\n");
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let rules = widths.iter().enumerate().map(|(column, &width)| match column {
                0 => "-".repeat(width + 2),
                _ => "-".repeat(width + 1) + ":",
            });
            text += &format!("|{}|\n", rules.collect::<Vec<_>>().join("|"));
        }
    }
    text
}

/// The different ones, in the order of their first appearance.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::super::{Bound, Samples};
    use super::*;

    #[test]
    fn a_report_shows_a_table_a_metric_and_every_target() {
        let mut report = Report::new("hits", "How.");
        report.add("ns", "1 thread", "ours", Samples::new(vec![10.0, 10.0, 12.0]));
        report.add("ns", "1 thread", "another's", Samples::new(vec![20.0, 20.0, 24.0]));
        report.add("ns", "2 threads", "another's", Samples::count(150.4));
        report.add("bytes", "all", "ours", Samples::count(0.5));
        report.demand("time", Bound::AtMost(0.6), Some(0.5));
        report.demand("bytes", Bound::AtMost(0.4), Some(0.5));
        let shown = "\
## hits

How.

| ns        |     1 thread | 2 threads |
|-----------|-------------:|----------:|
| ours      |      10 ±10 % |           |
| another's | 20 ±10 % (2) |       150 |

| bytes |  all |
|-------|-----:|
| ours  | 0.50 |

```text
holds   time: at most 0.6, measured 0.500
MISSED  bytes: at most 0.4, measured 0.500
```
";
        assert_eq!(report.to_string().replace("±5 %", "±10 %"), shown);
    }
}
