//! Our own OpenMetrics text, read back into numbers: for `com metrics`, and for tests of what is really exported.

use std::collections::BTreeMap;

/// A metric with all its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// As queries name it: counters with `_total`, histograms without `_bucket`.
    pub name: String,
    /// What it says, for people.
    pub help: String,
    /// `counter`, `gauge`, `histogram`, `info`.
    pub kind: String,
    /// In the order of their labels.
    pub series: Vec<Series>,
}

/// One series of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Sorted by name.
    pub labels: Vec<(String, String)>,
    /// The value; of a histogram the number of observations.
    pub value: f64,
    /// Of a histogram: sum of the observations.
    pub sum: f64,
    /// Of a histogram: upper bound and number of observations up to it, ascending; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Series {
    /// What a label says; empty when it is not there.
    pub fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// An estimate of a quantile from buckets, as Prometheus makes it: linear within a bucket; what lies beyond the last
/// bound is told as that bound. None without observations.
pub fn quantile(buckets: &[(f64, u64)], quantile: f64) -> Option<f64> {
    let total = buckets.last()?.1;
    if total == 0 {
        return None;
    }
    let rank = quantile * total as f64;
    let (mut lower, mut below) = (0.0, 0_u64);
    for (bound, count) in buckets {
        if *count as f64 >= rank {
            if bound.is_infinite() {
                return Some(lower);
            }
            let within = (count - below).max(1) as f64;
            return Some(lower + (bound - lower) * (rank - below as f64) / within);
        }
        (lower, below) = (*bound, *count);
    }
    Some(lower)
}

/// Reads text as [`crate::Metrics::text`] writes it, in order of name. Lines that are something else are passed over.
pub fn read(text: &str) -> Vec<Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut series: BTreeMap<(String, Vec<(String, String)>), Series> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            describe(rest, &mut metrics);
        } else if let Some((name, labels, value)) = sample(line) {
            add(&metrics, &mut series, name, labels, value);
        }
    }
    for ((name, _), series) in series {
        if let Some(metric) = metrics.get_mut(&name) {
            metric.series.push(series);
        }
    }
    let mut metrics: Vec<Metric> = metrics.into_values().collect();
    for metric in &mut metrics {
        if metric.kind == "counter" {
            metric.name += "_total";
        }
        if metric.kind == "info" {
            metric.name += "_info";
        }
    }
    metrics
}

/// `HELP name text` and `TYPE name kind`.
fn describe(rest: &str, metrics: &mut BTreeMap<String, Metric>) {
    let mut words = rest.splitn(3, ' ');
    let (Some(what), Some(name)) = (words.next(), words.next()) else {
        return;
    };
    let said = words.next().unwrap_or_default().trim_end_matches('.');
    let metric = metrics.entry(name.to_owned()).or_insert_with(|| Metric {
        name: name.to_owned(),
        help: String::new(),
        kind: String::new(),
        series: Vec::new(),
    });
    match what {
        "HELP" => metric.help = said.to_owned(),
        "TYPE" => metric.kind = said.to_owned(),
        _ => {}
    }
}

/// `name{label="value",…} 1.5`, perhaps with an exemplar behind it.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let (name, rest) = match line.find(['{', ' ']) {
        Some(at) => line.split_at(at),
        None => return None,
    };
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?;
    Some((name, labels, value.parse().ok()?))
}

type Labels = Vec<(String, String)>;

fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            labels.sort();
            return Some((labels, rest));
        }
        let (name, value) = rest.split_once("=\"")?;
        let (mut text, mut escaped, mut end) = (String::new(), false, None);
        for (at, character) in value.char_indices() {
            match (escaped, character) {
                (true, 'n') => text.push('\n'),
                (false, '\\') => {
                    escaped = true;
                    continue;
                }
                (false, '"') => {
                    end = Some(at + 1);
                    break;
                }
                (_, other) => text.push(other),
            }
            escaped = false;
        }
        labels.push((name.to_owned(), text));
        rest = &value[end?..];
    }
}

fn add(
    metrics: &BTreeMap<String, Metric>,
    series: &mut BTreeMap<(String, Labels), Series>,
    name: &str,
    mut labels: Labels,
    value: f64,
) {
    let endings = ["_bucket", "_sum", "_count", "_total", "_info"];
    let family = |ending: &'static str| {
        let family = name.strip_suffix(ending)?;
        metrics.contains_key(family).then_some((family, ending))
    };
    let (family, ending) = match endings.into_iter().find_map(family) {
        Some(found) => found,
        None if metrics.contains_key(name) => (name, ""),
        None => return,
    };
    let bound = labels.iter().position(|(name, _)| name == "le");
    let bound = bound.map(|at| labels.remove(at).1);
    let key = (family.to_owned(), labels.clone());
    let entry = series.entry(key).or_insert_with(|| Series {
        labels,
        value: 0.0,
        sum: 0.0,
        buckets: Vec::new(),
    });
    match ending {
        "_bucket" => {
            let bound = bound.and_then(|bound| bound.parse().ok());
            entry
                .buckets
                .push((bound.unwrap_or(f64::INFINITY), value as u64));
        }
        "_sum" => entry.sum = value,
        _ => entry.value = value,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Metrics, Trace};

    #[test]
    fn what_is_written_is_read() {
        let metrics = Metrics::new();
        for millis in 1..=100 {
            let took = Duration::from_millis(millis);
            metrics.call_answered("a.B/C", 0, took, Some(Trace::start()));
        }
        metrics.call_refused("a.B/C");
        let read = read(&metrics.text());
        let find = |name: &str| read.iter().find(|metric| metric.name == name).unwrap();
        let served = find("commonplace_rpc_server_call_duration_seconds");
        assert_eq!(
            (served.kind.as_str(), served.series.len()),
            ("histogram", 1)
        );
        let series = &served.series[0];
        assert_eq!((series.label("rpc_method"), series.value), ("a.B/C", 100.0));
        assert!((series.sum - 5.05).abs() < 1e-9);
        let middle = quantile(&series.buckets, 0.5).unwrap();
        assert!((0.032..0.064).contains(&middle), "{middle}");
        let refused = find("commonplace_rpc_server_refused_total");
        let of_method = |series: &&Series| series.label("rpc_method") == "a.B/C";
        let refused: Vec<_> = refused.series.iter().filter(of_method).collect();
        assert_eq!((refused.len(), refused[0].value), (1, 1.0));
        assert_eq!(quantile(&[(1.0, 0), (f64::INFINITY, 0)], 0.5), None);
        assert_eq!(quantile(&[(1.0, 0), (f64::INFINITY, 4)], 0.5), Some(1.0));
    }

    #[test]
    fn odd_labels_are_read() {
        let text = "# TYPE a gauge\na{b=\"x\\\"y,}\",c=\"\"} 2\nnoise\n# EOF\n";
        let read = read(text);
        assert_eq!(read[0].series[0].label("b"), "x\"y,}");
        assert_eq!(read[0].series[0].value, 2.0);
    }
}
