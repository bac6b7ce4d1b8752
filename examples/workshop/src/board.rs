//! The board: what happens now, for all who watch (the pages in browsers, the headless run).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval};

use crate::channel::CHANNEL;
use crate::settings::Settings;
use crate::tally::{Snapshot, Tally, Totals};
use crate::worker::Answer;

/// Time between two snapshots.
const TICK: Duration = Duration::from_millis(250);
/// Snapshots that a new page gets: those of the last minute.
const HISTORY: usize = 240;
/// Events that a slow page may be behind before it misses some.
const BEHIND: usize = 1_024;

/// What a page is told.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub(crate) enum Event {
    /// An answer came by the channel.
    #[serde(rename_all = "camelCase")]
    Answer {
        /// The answer itself.
        #[serde(flatten)]
        answer: Answer,
        /// Whether the overflow cluster computed it.
        burst: bool,
    },
    /// The rates now, and the limit beside them.
    Tick(Tick),
    /// The settings that are in force now.
    Settings(InForce),
    /// A job failed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// One point of the chart.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tick {
    #[serde(flatten)]
    snapshot: Snapshot,
    limit: u32,
}

/// Settings, and what it took to bring them into force.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InForce {
    /// The settings.
    #[serde(flatten)]
    pub(crate) settings: Settings,
    /// Number of the plugin configuration.
    pub(crate) generation: u64,
    /// Milliseconds until every sidecar had it.
    pub(crate) applied_ms: u64,
}

struct State {
    tally: Tally,
    in_force: InForce,
    history: VecDeque<Tick>,
}

/// The shared state of one workshop.
pub(crate) struct Board {
    start: Instant,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

impl Board {
    /// A board with nothing on it.
    pub(crate) fn new(tally: Tally, in_force: InForce) -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::new(State {
                tally,
                in_force,
                history: VecDeque::new(),
            }),
            events: broadcast::Sender::new(BEHIND),
        }
    }

    /// The events from now on, with the settings and the last minute before them.
    pub(crate) fn watch(&self) -> (InForce, Vec<Tick>, broadcast::Receiver<Event>) {
        let state = self.state();
        (
            state.in_force,
            state.history.iter().cloned().collect(),
            self.events.subscribe(),
        )
    }

    /// Job `id` is sent now.
    pub(crate) fn sent(&self, id: u64) {
        self.state().tally.on_sent(self.start.elapsed(), id);
    }

    /// Job `id` failed.
    pub(crate) fn failed(&self, id: u64, reason: &str) {
        self.state().tally.on_error(id);
        self.tell(Event::Failed {
            reason: reason.to_owned(),
        });
    }

    /// New settings are in force.
    pub(crate) fn in_force(&self, next: InForce) {
        let mut state = self.state();
        let old = std::mem::replace(&mut state.in_force, next);
        if next.settings.frequency != old.settings.frequency {
            let (old, new) = (old.settings.frequency, next.settings.frequency);
            state.tally.on_frequency(self.start.elapsed(), old, new);
        }
        drop(state);
        self.tell(Event::Settings(next));
    }

    /// Counts since the start, and jobs that are still under way.
    pub(crate) fn totals(&self) -> (Totals, usize) {
        let state = self.state();
        (state.tally.totals(), state.tally.outstanding())
    }

    /// Takes a snapshot every 250 ms until it is aborted.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut state = self.state();
            let snapshot = state.tally.snapshot(self.start.elapsed());
            let tick = Tick {
                snapshot,
                limit: state.in_force.settings.limit,
            };
            if state.history.len() == HISTORY {
                state.history.pop_front();
            }
            state.history.push_back(tick.clone());
            drop(state);
            self.tell(Event::Tick(tick));
        }
    }

    /// Puts on the board what the workers publish, until the subscription ends.
    pub(crate) async fn listen(self: Arc<Self>, subscription: redis::aio::PubSub) {
        let mut messages = subscription.into_on_message();
        while let Some(message) = messages.next().await {
            let Ok(answer) = serde_json::from_slice::<Answer>(message.get_payload_bytes()) else {
                continue;
            };
            let seen = self.state().tally.on_answer(self.start.elapsed(), &answer);
            if let Some(burst) = seen {
                self.tell(Event::Answer { answer, burst });
            }
        }
    }

    /// Tells whoever watches; nobody need watch.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscribes to the workers' channel.
///
/// # Errors
/// When the server is away.
pub(crate) async fn subscribe(client: &redis::Client) -> redis::RedisResult<redis::aio::PubSub> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
    Ok(subscription)
}
