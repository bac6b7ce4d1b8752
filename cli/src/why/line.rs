//! The reasons in an access log.
//!
//! Formats differ, so a reason is any whole word of a line, or any whole value of a line in JSON,
//! that is one of the filter's. Lines that say the same are told once, with their number.

use std::collections::BTreeMap;

use serde_json::Value;
use spillway_core::caller::Reason;

use super::Explained;
use crate::exit::Failure;
use crate::output::counted;

/// What stands before a reason that changed nothing.
const SHADOW: &str = "shadow:";

/// What a line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    reason: Option<&'static str>,
    shadow: bool,
    /// The gate's answer, in the response code details.
    answer: Option<&'static str>,
    /// The subset in the name of the upstream cluster.
    subset: Option<String>,
}

const ANSWERS: [(&str, &str); 2] = [
    (
        "spillway_bounced",
        "the server's gate had no room and turned the request away before the application saw it; the caller's Envoy repeats it in another cluster",
    ),
    (
        "spillway_shed",
        "home and every rung were full, and the policy says onExhausted: Shed",
    ),
];

/// What each reason means.
const fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::Below => "there is room at home",
        Reason::Probe => {
            "nothing was heard of home's load for 3 s, so this request went home to ask"
        }
        Reason::Over => {
            "home's load was above its capacity: of what is wanted, min(1, 1.02/ρ) goes home, and this request was of the rest"
        }
        Reason::Switched => {
            "mode Switch: the rate was above `enter`, and has not been below `leave` since"
        }
        Reason::Never => "its path is of a route of class Never, which stays home",
        Reason::Override => "an override is in force: `spec.override` of the policy",
        Reason::Exhausted => {
            "home and every rung were full, closed after failures, or at their maxRate, so it came home all the same"
        }
    }
}

pub(super) fn explain(log: &str) -> Result<Vec<Explained>, Failure> {
    let mut all: BTreeMap<Said, usize> = BTreeMap::new();
    for line in log.lines().filter(|line| !line.trim().is_empty()) {
        *all.entry(read(line)).or_default() += 1;
    }
    if all.is_empty() {
        return Err(Failure::bad_input(
            "there is no line",
            "Give a proxy's access log, such as by kubectl logs POD -c istio-proxy.",
        ));
    }
    Ok(all
        .into_iter()
        .map(|(said, lines)| told(&said, lines))
        .collect())
}

fn read(line: &str) -> Said {
    let mut said = Said::default();
    match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(fields)) => {
            for value in fields.values().filter_map(Value::as_str) {
                said.hear(value);
            }
        }
        _ => {
            for word in line.split([' ', '\t', '"', '\'', '[', ']', '=', ',']) {
                said.hear(word);
            }
        }
    }
    said
}

impl Said {
    fn hear(&mut self, word: &str) {
        let (reason, shadow) = match word.strip_prefix(SHADOW) {
            Some(reason) => (reason, true),
            None => (word, false),
        };
        if let Some(reason) = Reason::ALL.iter().find(|known| known.as_str() == reason) {
            self.reason = Some(reason.as_str());
            self.shadow = shadow;
        }
        if let Some((answer, _)) = ANSWERS.iter().find(|(answer, _)| *answer == word) {
            self.answer = Some(answer);
        }
        // As Istio names clusters: outbound|PORT|SUBSET|HOST.
        if word.starts_with("outbound|") {
            let subset = word
                .split('|')
                .nth(2)
                .and_then(|it| it.strip_prefix("spillway-"));
            self.subset = subset.map(str::to_owned);
        }
    }
}

fn told(said: &Said, lines: usize) -> Explained {
    let mut steps = Vec::new();
    let reason = said
        .reason
        .and_then(|it| Reason::ALL.into_iter().find(|known| known.as_str() == it));
    steps.extend(reason.map(|reason| format!("{}: {}", reason.as_str(), meaning(reason))));
    if said.shadow {
        steps.push("shadow: the policy is in Shadow, so this is what would have been".to_owned());
    }
    let answer = ANSWERS
        .iter()
        .find(|(answer, _)| Some(*answer) == said.answer);
    steps.extend(answer.map(|(answer, meaning)| format!("{answer}: {meaning}")));
    let outcome = match (&said.subset, reason, said.answer) {
        (Some(subset), ..) if subset == "home" => "it was sent home".to_owned(),
        (Some(subset), ..) => format!("it was sent to {subset}"),
        (None, None, None) => {
            "it stayed home, where there was room (below-limit leaves no reason), or no filter decided about it".to_owned()
        }
        (None, _, Some("spillway_bounced")) => "it was turned away, to be repeated".to_owned(),
        (None, _, Some(_)) => "it was turned away for good".to_owned(),
        (None, Some(_), None) => {
            "where it went stands in the name of the upstream cluster: log %UPSTREAM_CLUSTER%".to_owned()
        }
    };
    let words = [said.reason, said.answer, said.subset.as_deref()];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let about = match words.as_slice() {
        [] => "nothing of Spillway's".to_owned(),
        words => words.join(", "),
    };
    Explained {
        about: format!("{}: {about}", counted(lines, "line")),
        steps,
        outcome,
    }
}
