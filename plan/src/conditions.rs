//! What a policy's owner is told.
//!
//! Every condition stands there each time, True or False, so that a change is a transition and an
//! alert can be written for each. Times are the controller's to add; `Programmed` is its to tell.

use std::collections::BTreeSet;

/// One condition, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What about.
    pub kind: Type,
    /// Whether it holds.
    pub status: Status,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// Why, in words.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl Status {
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

/// The types of conditions that the planner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// It is carried out.
    Accepted,
    /// Something of a user's, or another policy, is in its way.
    Conflicted,
    /// Full services do not turn requests away, though the policy lets them.
    BounceDisabled,
    /// A gateway leads to the service past Spillway.
    GatewayNotCovered,
    /// Some routes of the user's lead past Spillway.
    RoutesNotCovered,
    /// Some callers do not have their side.
    ClientsNotCovered,
    /// Some clusters of overflow are passed over.
    RungsPassedOver,
}

impl Type {
    /// As in a status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Conflicted => "Conflicted",
            Self::BounceDisabled => "BounceDisabled",
            Self::GatewayNotCovered => "GatewayNotCovered",
            Self::RoutesNotCovered => "RoutesNotCovered",
            Self::ClientsNotCovered => "ClientsNotCovered",
            Self::RungsPassedOver => "RungsPassedOver",
        }
    }

    /// Those that are only told when they hold, with the reason and words of when they do not.
    const NOTES: [(Self, &'static str, &'static str); 6] = [
        (Self::Conflicted, "NoConflict", "nothing is in its way"),
        (
            Self::BounceDisabled,
            "AsWritten",
            "bounces are as the policy says",
        ),
        (
            Self::GatewayNotCovered,
            "Covered",
            "no gateway leads past it",
        ),
        (
            Self::RoutesNotCovered,
            "Covered",
            "no route of a user's leads past it",
        ),
        (
            Self::ClientsNotCovered,
            "Covered",
            "all callers have their side",
        ),
        (Self::RungsPassedOver, "AllInUse", "every rung is in use"),
    ];
}

/// Something that a policy's owner is to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Note {
    pub(crate) kind: Type,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Why a policy is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
    pub(crate) messages: Vec<String>,
}

/// A message that would be longer is cut: a status has a bounded size.
const MAX_MESSAGE: usize = 8_192;

/// The conditions of a policy, from what was found on its way.
pub(crate) fn conditions(
    refusal: Option<&Refusal>,
    carried_out: bool,
    notes: &BTreeSet<Note>,
) -> Vec<Condition> {
    let accepted = |status, reason, message| Condition {
        kind: Type::Accepted,
        status,
        reason,
        message,
    };
    let accepted = match refusal {
        None => accepted(Status::True, "Accepted", "it is carried out".to_owned()),
        Some(refusal) => {
            let message = joined(refusal.messages.iter().map(String::as_str));
            if carried_out {
                accepted(Status::True, "PartlyAccepted", message)
            } else {
                accepted(refusal.status, refusal.reason, message)
            }
        }
    };
    let told = Type::NOTES.iter().map(|(kind, reason, message)| {
        let mut of_kind = notes.iter().filter(|note| note.kind == *kind).peekable();
        match of_kind.peek().map(|note| note.reason) {
            Some(reason) => Condition {
                kind: *kind,
                status: Status::True,
                reason,
                message: joined(of_kind.map(|note| note.message.as_str())),
            },
            None => Condition {
                kind: *kind,
                status: Status::False,
                reason,
                message: (*message).to_owned(),
            },
        }
    });
    [accepted].into_iter().chain(told).collect()
}

fn joined<'a>(messages: impl Iterator<Item = &'a str>) -> String {
    let mut text = messages.collect::<Vec<_>>().join("; ");
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or_default();
        text.truncate(end);
        text.push_str(" …");
    }
    text
}

/// A few names in a sentence, and how many more there are.
pub(crate) fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let names: BTreeSet<&str> = names.into_iter().collect();
    let shown: Vec<&str> = names.iter().copied().take(MOST).collect();
    let mut text = shown.join(", ");
    if names.len() > MOST {
        text.push_str(&format!(" and {} more", names.len() - MOST));
    }
    text
}
