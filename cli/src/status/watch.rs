//! The same again and again, until somebody has seen enough or a condition is met.
//!
//! On a terminal it is shown in place, on a screen of its own. Elsewhere every change is a line,
//! which says what it is about first: rates change all the time and are no change there. A look
//! that fails is said, and another one follows; only the first must not fail.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Status;
use super::shown::{Said, Shown};
use super::text;
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{self, Listing};
use crate::screen::Screen;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    kind: String,
    status: String,
}

impl FromStr for Condition {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, status) = text.split_once('=').unwrap_or((text, "True"));
        let is_type = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_type || !["True", "False", "Unknown"].contains(&status) {
            return Err("write a condition's type, such as Programmed or Ready=False");
        }
        Ok(Self {
            kind: kind.to_owned(),
            status: status.to_owned(),
        })
    }
}

impl Condition {
    /// Whether all that have it have it so.
    fn is_met(&self, shown: &Shown) -> bool {
        let is_it = |it: &&Said| it.r#type == self.kind;
        let mut found = shown.conditions().filter(is_it).peekable();
        found.peek().is_some() && found.all(|it| it.status == self.status)
    }

    /// What to say when it was never met.
    fn missed(&self, shown: &Shown) -> String {
        let Self { kind, status } = self;
        let others = shown
            .conditions()
            .filter(|it| it.r#type == *kind && it.status != *status);
        match others.count() {
            0 => format!("nothing has a condition {kind}"),
            count => format!("{count} of the conditions {kind} are not {status}"),
        }
    }
}

/// What was seen last.
pub(super) struct Seen {
    pub(super) shown: Shown,
    /// It was said already.
    pub(super) is_told: bool,
    /// What was waited for is there.
    pub(super) is_met: bool,
}

/// Watches.
///
/// # Errors
/// When the first look fails, or the time is over.
pub(super) async fn run(status: &Status, connection: &Connection) -> Result<Seen, Failure> {
    let hub = connection.hub().await?;
    let began = Instant::now();
    let deadline = status.timeout.map(Duration::from_secs);
    let mut shown = status.look(connection, &hub).await?;
    let is_text = matches!(status.output, Listing::Text | Listing::Wide);
    let mut screen = if status.watch && is_text {
        Screen::whole()
    } else {
        None
    };
    let mut lines = Lines::default();
    let mut failed = None;
    // It listens all the time: what comes while another branch runs must not be lost.
    let mut interrupted = std::pin::pin!(interrupted());
    loop {
        if let Some(screen) = &mut screen {
            let frame = frame(status, &shown, failed.as_ref());
            screen.draw(&output::plain_where_needed(&frame));
        } else {
            let new = lines.next(&shown, failed.as_ref());
            if is_text {
                let is_read = output::try_print(&new).is_ok();
                if !is_read && status.until.is_none() {
                    return Ok(Seen {
                        shown,
                        is_told: true,
                        is_met: false,
                    });
                }
            } else if status.watch && !new.is_empty() {
                output::tell(status.output.into(), &shown, |_| String::new())?;
            }
        }
        // The terminal shows what was there before; of other forms only changes were said.
        let is_told = screen.is_none() && (is_text || status.watch);
        if status
            .until
            .as_ref()
            .is_some_and(|until| until.is_met(&shown))
        {
            return Ok(Seen {
                shown,
                is_told,
                is_met: true,
            });
        }
        if deadline.is_some_and(|deadline| began.elapsed() >= deadline) {
            drop(screen);
            let missed = status.until.as_ref().map(|until| until.missed(&shown));
            let missed = missed.unwrap_or_else(|| "the time is over".to_owned());
            let seconds = status.timeout.unwrap_or_default();
            return Err(Failure::new(
                Exit::TimedOut,
                format!("{missed} after {seconds} s"),
                "`spillway status` shows what is the matter.",
            ));
        }
        let left = deadline.map(|deadline| deadline.saturating_sub(began.elapsed()));
        let pause = PAUSE.min(left.unwrap_or(PAUSE));
        let again = async {
            tokio::time::sleep(pause).await;
            status.look(connection, &hub).await
        };
        tokio::select! {
            found = again => match found {
                Ok(found) => (shown, failed) = (found, None),
                Err(failure) => failed = Some(failure.message().to_owned()),
            },
            () = &mut interrupted => return Ok(Seen { shown, is_told, is_met: false }),
        }
    }
}

/// Somebody has seen enough.
async fn interrupted() {
    let Ok(mut ended) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = ended.recv() => {}
    }
}

fn frame(status: &Status, shown: &Shown, failed: Option<&String>) -> String {
    let mut frame = failed.map_or(String::new(), |failed| format!("(as it was) {failed}\n"));
    frame += &text::tree(shown, status.output == Listing::Wide);
    frame
}

/// The lines that were said, by what they are about.
#[derive(Debug, Default)]
struct Lines {
    said: BTreeMap<String, String>,
    failed: Option<String>,
}

impl Lines {
    /// Those that were not said yet.
    fn next(&mut self, shown: &Shown, failed: Option<&String>) -> String {
        let now = text::summaries(shown);
        let gone = self.said.keys().filter(|about| !now.contains_key(*about));
        let gone: Vec<String> = gone.map(|about| format!("{about}: gone")).collect();
        let is_new = |(about, line): &(&String, &String)| self.said.get(*about) != Some(*line);
        let new = now.iter().filter(is_new);
        let mut lines: Vec<String> = new
            .map(|(about, line)| format!("{about}: {line}"))
            .collect();
        lines.extend(gone);
        if self.failed.as_ref() != failed {
            lines.extend(failed.cloned());
            self.failed = failed.cloned();
        }
        let time = Timestamp::now();
        let time = Timestamp::from_second(time.as_second()).unwrap_or(time);
        self.said = now;
        lines
            .iter()
            .map(|line| format!("{time} {line}\n"))
            .collect()
    }
}
