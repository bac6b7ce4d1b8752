//! What the visitor can set, checked as a whole: a request that asks for something wrong changes
//! nothing and is told every reason.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The highest frequency of the box: what two cores serve with all proxies beside them.
const MAX_FREQUENCY: u32 = 300;
/// The highest limit of the home cluster.
const MAX_LIMIT: u32 = 300;
/// The longest an override may last, in seconds.
const MAX_OVERRIDE: u64 = 3_600;

/// What happens to the requests above the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// The excess only goes to the overflow cluster.
    Spill,
    /// All requests go there, until the rate has fallen to two thirds of the limit.
    Switch,
}

/// Where an override sends every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Force {
    /// To the home cluster.
    Home,
    /// To the overflow cluster.
    Overflow,
}

/// An override that is in force until a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Override {
    /// Where every request goes.
    pub(crate) force: Force,
    /// Until when, in seconds since 1970.
    pub(crate) until_unix_seconds: u64,
}

/// All that is set at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Jobs per second; 0 sends none.
    pub(crate) frequency: u32,
    /// What happens above the limit.
    pub(crate) mode: Mode,
    /// Requests per second that home serves, over all its endpoints.
    pub(crate) limit: u32,
    /// The override, if one was set.
    #[serde(rename = "override")]
    pub(crate) forced: Option<Override>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            frequency: 5,
            mode: Mode::Spill,
            limit: 15,
            forced: None,
        }
    }
}

/// A change that a visitor asks for: what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Change {
    frequency: Option<u32>,
    mode: Option<Mode>,
    limit: Option<u32>,
    #[serde(rename = "override")]
    forced: Option<ForceChange>,
}

/// An override to be set or, without `force`, to be taken away.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForceChange {
    force: Option<Force>,
    #[serde(default)]
    seconds: u64,
}

impl Change {
    /// A change of the frequency only.
    pub(crate) fn of_frequency(frequency: u32) -> Self {
        Self {
            frequency: Some(frequency),
            ..Self::default()
        }
    }
}

impl Settings {
    /// The settings after `change`, asked for at `now`.
    ///
    /// # Errors
    /// Every reason why the change is refused, in one sentence each.
    pub(crate) fn with(self, change: &Change, now: SystemTime) -> Result<Self, Vec<String>> {
        let mut reasons = Vec::new();
        let mut next = self;
        if let Some(frequency) = change.frequency {
            if frequency > MAX_FREQUENCY {
                reasons.push(format!(
                    "The frequency is a whole number from 0 to {MAX_FREQUENCY}."
                ));
            }
            next.frequency = frequency;
        }
        if let Some(limit) = change.limit {
            if limit == 0 || limit > MAX_LIMIT {
                reasons.push(format!(
                    "The limit is a whole number from 1 to {MAX_LIMIT}."
                ));
            }
            next.limit = limit;
        }
        next.mode = change.mode.unwrap_or(self.mode);
        if let Some(forced) = &change.forced {
            if forced.force.is_some() && !(1..=MAX_OVERRIDE).contains(&forced.seconds) {
                reasons.push(format!(
                    "An override lasts from 1 to {MAX_OVERRIDE} seconds."
                ));
            }
            let until = now + Duration::from_secs(forced.seconds.min(MAX_OVERRIDE));
            let until_unix_seconds = until
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            next.forced = forced.force.map(|force| Override {
                force,
                until_unix_seconds,
            });
        }
        if reasons.is_empty() {
            Ok(next)
        } else {
            Err(reasons)
        }
    }

    /// Whether the policy, and not only the frequency, differs from `other`'s.
    pub(crate) fn policy_differs(self, other: Self) -> bool {
        Self {
            frequency: 0,
            ..self
        } != Self {
            frequency: 0,
            ..other
        }
    }

    /// The rate at which Switch mode returns home: two thirds of the limit, per minute since the
    /// limit need not be divisible by three.
    pub(crate) fn leave(self) -> String {
        format!("{}/m", self.limit * 40)
    }

    /// The rate that home serves.
    pub(crate) fn enter(self) -> String {
        format!("{}/s", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(json: &str) -> Change {
        serde_json::from_str(json).unwrap()
    }

    fn after(json: &str) -> Result<Settings, Vec<String>> {
        Settings::default().with(&change(json), UNIX_EPOCH + Duration::from_secs(1_000))
    }

    #[test]
    fn what_is_absent_stays() {
        let next = after(r#"{"frequency": 75}"#).unwrap();
        assert_eq!(
            next,
            Settings {
                frequency: 75,
                ..Settings::default()
            }
        );
        assert!(!next.policy_differs(Settings::default()));
    }

    #[test]
    fn every_reason_is_told_at_once() {
        let reasons =
            after(r#"{"frequency": 301, "limit": 0, "override": {"force": "Home"}}"#).unwrap_err();
        assert_eq!(reasons.len(), 3, "{reasons:?}");
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<Change>(r#"{"frequenzy": 5}"#).is_err());
    }

    #[test]
    fn an_override_has_an_end_and_can_be_taken_away() {
        let next = after(r#"{"override": {"force": "Overflow", "seconds": 30}}"#).unwrap();
        assert_eq!(
            next.forced,
            Some(Override {
                force: Force::Overflow,
                until_unix_seconds: 1_030
            })
        );
        assert!(next.policy_differs(Settings::default()));
        let none = next
            .with(&change(r#"{"override": {"force": null}}"#), UNIX_EPOCH)
            .unwrap();
        assert_eq!(none, Settings::default());
    }

    #[test]
    fn switch_leaves_at_two_thirds_of_the_limit() {
        assert_eq!(Settings::default().leave(), "600/m");
        assert_eq!(
            Settings {
                limit: 10,
                ..Settings::default()
            }
            .leave(),
            "400/m"
        );
    }
}
