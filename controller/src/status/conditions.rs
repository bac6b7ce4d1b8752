//! Conditions as Kubernetes writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::text::bounded;

/// The API server takes messages of up to 32,768 characters; a status is read by people.
const MAX_MESSAGE: usize = 2_560;

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl Holds {
    /// As in a status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says now; since when, its status before tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Its type, in CamelCase.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: Holds,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// Why, in words.
    pub message: String,
}

impl Stated {
    /// A condition.
    #[must_use]
    pub fn new(
        kind: &'static str,
        holds: Holds,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            holds,
            reason,
            message: message.into(),
        }
    }
}

/// The conditions as they are now. One that is not stated any more is gone.
pub(super) fn conditions(
    before: &[Condition],
    stated: impl IntoIterator<Item = Stated>,
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    let condition = |stated: Stated| {
        let old = before
            .iter()
            .find(|condition| condition.type_ == stated.kind);
        let since = old.map(|old| {
            let since = old.last_transition_time.clone();
            if old.status == stated.holds.as_str() {
                since
            } else {
                // Who wrote it may have had a clock that is ahead: time goes forward all the same.
                since.max(now.clone())
            }
        });
        Condition {
            type_: stated.kind.to_owned(),
            status: stated.holds.as_str().to_owned(),
            reason: stated.reason.to_owned(),
            message: bounded(&stated.message, MAX_MESSAGE),
            observed_generation: generation,
            last_transition_time: since.unwrap_or_else(|| now.clone()),
        }
    };
    stated.into_iter().map(condition).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::at;
    use super::*;

    fn accepted(holds: Holds, reason: &'static str) -> Stated {
        Stated::new("Accepted", holds, reason, "in words")
    }

    #[test]
    fn the_time_is_that_of_the_last_change_of_the_status() {
        let first = conditions(&[], [accepted(Holds::True, "Accepted")], Some(1), &at(10));
        assert_eq!(first[0].last_transition_time, at(10));
        // Another reason, message or generation is no transition.
        let second = conditions(&first, [accepted(Holds::True, "Other")], Some(2), &at(20));
        assert_eq!(second[0].last_transition_time, at(10));
        assert_eq!(second[0].reason, "Other");
        assert_eq!(second[0].observed_generation, Some(2));
        let third = conditions(
            &second,
            [accepted(Holds::False, "Invalid")],
            Some(2),
            &at(30),
        );
        assert_eq!(third[0].last_transition_time, at(30));
        // The clock of another replica is behind.
        let fourth = conditions(&third, [accepted(Holds::True, "Accepted")], Some(2), &at(5));
        assert_eq!(fourth[0].last_transition_time, at(30));
    }

    #[test]
    fn what_is_not_stated_is_gone() {
        let other = Stated::new("Conflicted", Holds::False, "NoConflict", "");
        let stated = [accepted(Holds::True, "Accepted"), other];
        let before = conditions(&[], stated, None, &at(10));
        let after = conditions(&before, [accepted(Holds::True, "Accepted")], None, &at(20));
        assert_eq!(after, before[..1]);
    }

    #[test]
    fn a_message_is_bounded() {
        let stated = Stated::new("Accepted", Holds::False, "Invalid", "x".repeat(100_000));
        let told = conditions(&[], [stated], None, &at(0));
        assert_eq!(told[0].message.len(), MAX_MESSAGE);
    }
}
