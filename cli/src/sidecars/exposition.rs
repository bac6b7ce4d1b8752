//! Metrics of Spillway in the form in which Envoy tells them to Prometheus, and the one of its agent
//! that matters here.
//!
//! With Istio's `extraStatTags` they have labels. Without, the labels stand inside the name, with an
//! underscore for whatever is no letter or digit: both are read.

use std::collections::BTreeMap;

/// The images that an agent has fetched, or could not.
pub(crate) const FETCHES: &str = "istio_agent_wasm_remote_fetch_count";
/// What stands between the labels, and around their `=`, inside a name.
const WITHIN: &str = "___";

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Those of the samples that matter. What is not of the form is passed over: others write
/// there too.
pub(crate) fn samples(text: &str) -> impl Iterator<Item = Sample> {
    text.lines().filter_map(sample)
}

fn sample(line: &str) -> Option<Sample> {
    let line = line.strip_prefix("envoy_wasmcustom_").unwrap_or(line);
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    if !name.starts_with("spillway_") && !name.starts_with(FETCHES) {
        return None;
    }
    let value = value.parse().ok()?;
    let mut labels: BTreeMap<String, String> = labels
        .trim_end_matches('}')
        .split("\",")
        .filter_map(|label| label.split_once("=\""))
        .map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect();
    let mut parts = name.split(WITHIN);
    // `spillway_decisions_service` and its value, then the other keys and values.
    let first = parts.next()?;
    let mut key = "";
    let mut name = first;
    let mut parts = parts.filter(|part| !part.is_empty());
    if let Some(value) = parts.next() {
        (name, key) = first.rsplit_once('_')?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    while let (Some(next), Some(value), false) = (parts.next(), parts.next(), key.is_empty()) {
        labels.insert(next.to_owned(), value.to_owned());
    }
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// A label's value as it stands inside a name.
pub(crate) fn within(value: &str) -> String {
    let one = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    value.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_beside_the_name_or_in_it() {
        let text = "# TYPE spillway_decisions counter\n\
            spillway_decisions{service=\"default/worker\",reason=\"over-limit\",target=\"burst\"} 7\n\
            envoy_server_live{} 1\n\
            spillway_decisions_service___default_worker___reason___over_limit___target___burst___{} 7\n\
            envoy_wasmcustom_spillway_config_generation_side___client____{} 3\n\
            istio_agent_wasm_remote_fetch_count{result=\"download_failure\"} 2\n\
            istio_agent_startup_duration_seconds 1\n\
            spillway_strange not-a-number\n";
        let found: Vec<Sample> = samples(text).collect();
        let labels = |separator: &str| {
            [
                ("service", "default/worker"),
                ("reason", "over-limit"),
                ("target", "burst"),
            ]
            .map(|(key, value)| {
                let value = if separator.is_empty() {
                    within(value)
                } else {
                    value.to_owned()
                };
                (key.to_owned(), value)
            })
        };
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            found[..2]
                .iter()
                .all(|it| it.name == "spillway_decisions" && it.value == 7.0)
        );
        assert_eq!(found[0].labels, labels("/").into());
        assert_eq!(found[1].labels, labels("").into());
        assert_eq!(found[2].name, "spillway_config_generation");
        assert_eq!(found[2].labels["side"], "client");
        assert_eq!(found[3].name, FETCHES);
        assert_eq!(found[3].labels["result"], "download_failure");
    }
}
