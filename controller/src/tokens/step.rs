//! From what the Secret says to what it is to say next.

use spillway_plan::settings::{Token, Tokens};

/// What the Secret says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The tokens of the mesh.
    pub tokens: Tokens,
    /// What is to follow; none where nothing is rotated.
    pub next: Option<Next>,
}

/// The token that is to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The controller is to make it.
    Unmade,
    /// It was made.
    Made(Token),
    /// What stands there is no token.
    Unusable,
}

impl From<&str> for Next {
    fn from(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::Unmade;
        }
        Token::try_from(text.to_owned()).map_or(Self::Unusable, Self::Made)
    }
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A token into `next`.
    Make,
    /// Another token that is accepted. It takes nothing from anybody, and waits for nobody.
    Accept(Tokens),
    /// Others, once every cluster has the ones before.
    Settled(Tokens),
    /// The last ones, without `next`, once every cluster has the ones before.
    Last(Tokens),
    /// `next` is what the mesh has already: it goes.
    Done,
}

impl Kept {
    /// What is to be written next; none where nothing is to be rotated.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        let next = match self.next.as_ref()? {
            Next::Unmade => return Some(Step::Make),
            Next::Unusable => return None,
            Next::Made(next) => next,
        };
        let sent = self.tokens.sent();
        let one = |token: &Token| Tokens::new(token.clone(), None);
        let two = |sent: &Token, other: &Token| Tokens::new(sent.clone(), Some(other.clone()));
        Some(match self.tokens.accepted() {
            None if sent == next => Step::Done,
            None => Step::Accept(two(sent, next)),
            Some(_) if sent == next => Step::Last(one(next)),
            Some(accepted) if accepted == next => Step::Settled(two(next, sent)),
            // The end of an earlier rotation, by hand: nobody sends it any more.
            Some(_) => Step::Settled(one(sent)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(tokens: &str, next: Option<&str>) -> Kept {
        Kept {
            tokens: tokens.parse().unwrap(),
            next: next.map(Next::from),
        }
    }

    #[test]
    fn every_state_has_one_step() {
        let tokens = |text: &str| text.parse::<Tokens>().unwrap();
        for (now, next, step) in [
            ("token-old", None, None),
            ("token-old,token-new", None, None),
            ("token-old", Some(""), Some(Step::Make)),
            ("token-old,token-older", Some(" \n"), Some(Step::Make)),
            ("token-old", Some("short"), None),
            ("token-old", Some("two-tokens,at-once"), None),
            (
                "token-old",
                Some("token-new\n"),
                Some(Step::Accept(tokens("token-old,token-new"))),
            ),
            (
                "token-old,token-new",
                Some("token-new"),
                Some(Step::Settled(tokens("token-new,token-old"))),
            ),
            (
                "token-new,token-old",
                Some("token-new"),
                Some(Step::Last(tokens("token-new"))),
            ),
            (
                "token-new,token-new",
                Some("token-new"),
                Some(Step::Last(tokens("token-new"))),
            ),
            ("token-new", Some("token-new"), Some(Step::Done)),
            (
                "token-old,token-older",
                Some("token-new"),
                Some(Step::Settled(tokens("token-old"))),
            ),
        ] {
            assert_eq!(kept(now, next).step(), step, "{now} and {next:?}");
        }
    }

    /// Whatever it begins with, it ends with the new one alone; a token is sent only when it was
    /// accepted a step before, and accepted as long as it was sent a step before.
    #[test]
    fn every_rotation_ends_and_no_step_goes_too_far() {
        for begin in [
            "token-old",
            "token-old,token-older",
            "token-old,token-new",
            "token-new,token-old",
        ] {
            let mut kept = kept(begin, Some("token-new"));
            let mut steps = 0;
            while let Some(step) = kept.step() {
                steps += 1;
                assert!(steps < 6, "{begin} does not end");
                let (tokens, next) = match step {
                    Step::Accept(tokens) | Step::Settled(tokens) => (tokens, kept.next.clone()),
                    Step::Last(tokens) => (tokens, None),
                    Step::Done | Step::Make => panic!("{begin}: {step:?}"),
                };
                let takes = |tokens: &Tokens, sent: &Token| {
                    let sent = sent.as_str();
                    tokens.iter().any(|token| token == sent)
                };
                assert!(takes(&kept.tokens, tokens.sent()), "{begin}");
                assert!(takes(&tokens, kept.tokens.sent()), "{begin}");
                kept = Kept { tokens, next };
            }
            assert_eq!(kept, self::kept("token-new", None), "{begin}");
        }
    }
}
