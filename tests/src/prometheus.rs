//! The text format of Prometheus, version 0.0.4, read by somebody who did not write it.

use std::collections::{BTreeMap, BTreeSet};

/// A page of metrics.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Kind and help of each metric, by its name.
    pub metrics: BTreeMap<String, (String, String)>,
    /// Every value.
    pub samples: Vec<Series>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The name of its metric: without the suffix of a histogram's part.
    pub metric: String,
    /// The suffix: `_bucket`, `_sum` or `_count` of a histogram, else empty.
    pub part: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Page {
    /// Reads a page.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut help = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(line) = line.strip_prefix("# HELP ") {
                let (name, words) = line.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                help.insert(name.to_owned(), words.replace("\\\"", "\"").replace("\\\\", "\\"));
            } else if let Some(line) = line.strip_prefix("# TYPE ") {
                let (name, kind) = line.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                let words = help.remove(name).unwrap_or_else(|| panic!("{name} has no help before its type"));
                let before = page.metrics.insert(name.to_owned(), (kind.to_owned(), words));
                assert_eq!(before, None, "{name} comes twice");
            } else {
                let series = page.series(line).unwrap_or_else(|| panic!("no sample: {line}"));
                page.samples.push(series);
            }
        }
        page
    }

    fn series(&self, line: &str) -> Option<Series> {
        let (head, value) = line.rsplit_once(' ')?;
        let (name, labels) = match head.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (head, ""),
        };
        let parts = ["_bucket", "_sum", "_count"];
        let of_histogram = parts.into_iter().find_map(|part| {
            let metric = name.strip_suffix(part)?;
            (self.metrics.get(metric)?.0 == "histogram").then_some((metric, part))
        });
        let (metric, part) = of_histogram.unwrap_or((name, ""));
        assert!(self.metrics.contains_key(metric), "{name} has no type");
        let labels = labels.split(',').filter(|label| !label.is_empty());
        let label = |label: &str| {
            let (name, value) = label.split_once('=')?;
            Some((name.to_owned(), value.strip_prefix('"')?.strip_suffix('"')?.to_owned()))
        };
        Some(Series {
            metric: metric.to_owned(),
            part,
            labels: labels.map(label).collect::<Option<_>>()?,
            value: value.parse().ok()?,
        })
    }

    /// The sum of all samples of a metric with these labels, and perhaps others; of a histogram by its part's whole name.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let is_meant = |series: &&Series| {
            let is_named = name.strip_prefix(series.metric.as_str()) == Some(series.part);
            is_named
                && labels.iter().all(|(name, value)| series.labels.get(*name).is_some_and(|it| it == value))
        };
        self.samples.iter().filter(is_meant).map(|series| series.value).sum()
    }

    /// The names of the labels that a metric's series have, but for a histogram's own.
    #[must_use]
    pub fn labels(&self, metric: &str) -> BTreeSet<&str> {
        let of_metric = self.samples.iter().filter(|series| series.metric == metric);
        of_metric
            .flat_map(|series| series.labels.keys())
            .map(String::as_str)
            .filter(|name| *name != "le")
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_its_kinds_labels_and_parts() {
        let page = Page::parse(
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total{group=\"g\",x=\"1\"} 2\na_total{group=\"h\"} 3\n\n\
             # HELP b_seconds Of \\\"b\\\".\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"+Inf\"} 4\nb_seconds_sum 0.5\n",
        );
        assert_eq!(page.metrics["b_seconds"], ("histogram".to_owned(), "Of \"b\".".to_owned()));
        assert_eq!((page.sum("a_total", &[]), page.sum("a_total", &[("group", "g")])), (5.0, 2.0));
        assert_eq!((page.sum("b_seconds_sum", &[]), page.sum("b_seconds", &[])), (0.5, 0.0));
        assert_eq!(page.labels("a_total"), BTreeSet::from(["group", "x"]));
        assert!(page.labels("b_seconds").is_empty());
    }

    #[test]
    #[should_panic(expected = "no type")]
    fn a_sample_of_nothing_is_no_page() {
        let _ = Page::parse("a_total 1\n");
    }
}
