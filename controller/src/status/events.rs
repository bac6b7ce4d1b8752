//! An event for every condition that changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use super::text::bounded;

/// Kubernetes takes notes of up to 1 kB.
const MAX_NOTE: usize = 1_000;

/// Conditions that are good when they hold; the others tell of something that is in the way.
const GOOD: [&str; 4] = ["Accepted", "Programmed", "Reachable", "Ready"];
/// Why a good condition may not hold though nothing is wrong.
const ON_THE_WAY: [&str; 3] = ["Pending", "InProgress", "NoClusters"];

/// What happened between two states of an object.
pub(super) fn events(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let changed = after.iter().filter(|now| {
        let known = before.iter().find(|known| known.type_ == now.type_);
        match known {
            Some(known) => known.status != now.status || known.reason != now.reason,
            // That nothing is in the way need not be said of a new object.
            None => is_good(now) || now.status == "True",
        }
    });
    changed.map(event).collect()
}

fn event(condition: &Condition) -> Event {
    let holds = condition.status == "True";
    let on_the_way = ON_THE_WAY.contains(&condition.reason.as_str());
    let fine = if is_good(condition) {
        holds || on_the_way
    } else {
        !holds
    };
    Event {
        type_: if fine {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: condition.reason.clone(),
        note: Some(bounded(
            &format!(
                "{} is {}: {}",
                condition.type_, condition.status, condition.message
            ),
            MAX_NOTE,
        )),
        action: condition.type_.clone(),
        secondary: None,
    }
}

fn is_good(condition: &Condition) -> bool {
    GOOD.contains(&condition.type_.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::conditions::{Holds, Stated, conditions};
    use super::super::tests::at;
    use super::*;

    fn told(stated: &[(&'static str, Holds, &'static str)]) -> Vec<Condition> {
        let stated = stated
            .iter()
            .map(|(kind, holds, reason)| Stated::new(kind, *holds, reason, "in words"));
        conditions(&[], stated, None, &at(0))
    }

    #[test]
    fn changes_are_told_and_nothing_else() {
        use Holds::{False, True};
        for (before, after, expected) in [
            (
                &[][..],
                &[
                    ("Accepted", True, "Accepted"),
                    ("Conflicted", False, "NoConflict"),
                ][..],
                &["Normal Accepted"][..],
            ),
            (&[], &[("Accepted", False, "Invalid")], &["Warning Invalid"]),
            (
                &[],
                &[("Conflicted", True, "AnotherPolicy")],
                &["Warning AnotherPolicy"],
            ),
            (
                &[("Programmed", False, "Pending")],
                &[("Programmed", False, "Pending")],
                &[],
            ),
            (
                &[("Programmed", False, "Pending")],
                &[("Programmed", True, "Programmed")],
                &["Normal Programmed"],
            ),
            (
                &[("Programmed", True, "Programmed")],
                &[("Programmed", False, "Pending")],
                &["Normal Pending"],
            ),
            (
                &[("Programmed", False, "Pending")],
                &[("Programmed", False, "Failed")],
                &["Warning Failed"],
            ),
            (
                &[("BounceDisabled", True, "UserRetries")],
                &[("BounceDisabled", False, "AsWritten")],
                &["Normal AsWritten"],
            ),
        ] {
            let found: Vec<String> = events(&told(before), &told(after))
                .iter()
                .map(|event| format!("{:?} {}", event.type_, event.reason))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_note_is_bounded() {
        let long = Stated::new("Accepted", Holds::False, "Invalid", "x".repeat(100_000));
        let after = conditions(&[], [long], None, &at(0));
        let note = events(&[], &after).remove(0).note.unwrap();
        assert!(note.starts_with("Accepted is False: xxx"), "{note}");
        assert_eq!(note.len(), MAX_NOTE);
    }
}
