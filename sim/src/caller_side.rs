//! What happens at the callers: requests begin, are sent and repeated, and their answers arrive.

use spillway_core::caller::Answer;
use spillway_core::header::{Flags, Hop, Load};
use spillway_core::rate::SECOND;
use spillway_core::totals::epoch::News;
use spillway_core::{ATTEMPTS, UPDATE_FREQUENCY};

use crate::callers::Choice;
use crate::events::Event;
use crate::measure::Ended;
use crate::random::{Random, nanos};
use crate::requests::Outcome;
use crate::run::{EPOCH, Run, Site, TICK};
use crate::scenario::Scheme;

/// Envoy waits between retries for a random time below this many milliseconds, by the number of
/// the retry: a base interval of 1 ms that doubles, at most ten times as long.
const BACK_OFF: [u64; 4] = [1, 3, 7, 10];

impl Run {
    /// A stream has its next request.
    pub(crate) fn arrive(&mut self, source: usize) -> Option<()> {
        let source = self.sources.get(source)?;
        let offset = source
            .spread
            .as_ref()
            .map(|spread| spread.choose(&mut self.random));
        let caller = source.first + offset.unwrap_or_default();
        let process = self.processes.get(caller)?;
        let threads = self.scenario.callers.get(process.group)?.threads;
        let thread = process.first_thread + self.random.below(threads);
        self.begin(thread, self.now, 0)
    }

    /// An application makes a request, for the first time or again.
    fn begin(&mut self, at: usize, began: u64, repeats: u32) -> Option<()> {
        let thread = self.threads.get(at)?;
        let caller = thread.process;
        let group = self.processes.get(caller)?.group;
        let home = *self.scenario.callers.get(group)?.ladder.first()?;
        self.begun += 1;
        self.measured.on_offered(group, caller, home, self.now);
        let decision = self.decide(at)?;
        let epoch = self.told(at, &decision);
        let place = decision.rung.map_or(0, |rung| rung + 1);
        let callers = self.scenario.callers.get(group)?;
        let target = *callers.ladder.get(place)?;
        let number = self.requests.begin();
        let request = self.requests.get_mut(number)?;
        request.thread = at;
        request.began = began;
        request.repeats = repeats;
        request.place = place;
        request.bounceable = decision.bounceable;
        if callers.filter && self.scenario.scheme == Scheme::Spillway {
            let start = self.starts.get(home)?.get(target)?;
            let flags = Flags {
                bounceable: decision.bounceable,
                returned: decision.returned,
                shadow: false,
            };
            let echo = callers.forged_echo.unwrap_or(decision.echo);
            Hop::finish(&mut request.hop, start, echo, flags);
            if let Some(epoch) = epoch {
                epoch.append(&mut request.hop);
            }
        }
        let generation = request.generation;
        if let Some(patience) = callers.patience
            && repeats <= patience.repeats
        {
            let wait = nanos(patience.seconds);
            self.after(wait, Event::GiveUp(number, generation));
        }
        self.send(number)
    }

    /// A caller's Envoy makes an attempt.
    pub(crate) fn send(&mut self, number: u32) -> Option<()> {
        let request = self.requests.get_mut(number)?;
        request.attempts += 1;
        let attempts = request.attempts;
        let (place, at, began) = (request.place, request.thread, request.began);
        self.measured.on_attempt(began);
        let thread = self.threads.get_mut(at)?;
        let process = self.processes.get_mut(thread.process)?;
        let callers = self.scenario.callers.get(process.group)?;
        let home = *callers.ladder.first()?;
        let target = *callers.ladder.get(place)?;
        let turn = (attempts.saturating_sub(1) / UPDATE_FREQUENCY) % 2;
        let cluster = if turn == 0 && self.sites.get(target)?.known.is_empty() || turn == 1 {
            let others = callers.ladder.iter().copied().filter(|c| *c != target);
            let reach = if callers.filter { usize::MAX } else { 0 };
            one_by_size(&self.sites, others.take(reach), &mut self.random).unwrap_or(target)
        } else {
            target
        };
        let choice = Choice {
            cluster,
            known: &self.sites.get(cluster)?.known,
            balancing: callers.balancing,
            gateway: self
                .scenario
                .clusters
                .get(cluster)?
                .gateway
                .filter(|_| cluster != home),
            tried: &self.requests.get(number)?.tried,
        };
        let Some(endpoint) = thread.choose(process, &choice, &mut self.random) else {
            return self.end(number, Outcome::Failed);
        };
        process.begin(endpoint);
        self.requests.get_mut(number)?.tried.push(endpoint);
        let wait = self.delay(home, cluster);
        if self.random.share(self.scenario.network.lost) {
            self.requests.get_mut(number)?.outcome = Outcome::Refused;
            self.after(2 * wait, Event::Return(number));
        } else {
            self.after(wait, Event::Reach(number));
        }
        Some(())
    }

    /// An answer arrives: Envoy repeats the request, or hands the answer to the filter and on.
    pub(crate) fn answered(&mut self, number: u32) -> Option<()> {
        let request = self.requests.get_mut(number)?;
        let endpoint = *request.tried.last()?;
        if request.abandoned {
            self.requests.end(number);
            return Some(());
        }
        let outcome = request.outcome;
        let thread = self.threads.get_mut(request.thread)?;
        self.processes.get_mut(thread.process)?.end(endpoint);
        let again = matches!(outcome, Outcome::Bounced | Outcome::Refused);
        request.bounced |= outcome == Outcome::Bounced;
        if outcome == Outcome::Bounced {
            let cluster = self.endpoints.get(endpoint as usize)?.cluster;
            let gateway = self.scenario.clusters.get(cluster)?.gateway;
            if gateway.is_some_and(|gateway| gateway.reconnects) {
                thread.disconnect(cluster, endpoint);
            }
        }
        if again && request.attempts <= ATTEMPTS {
            let retry = request.attempts.saturating_sub(1) as usize;
            let most = BACK_OFF.get(retry).copied().unwrap_or_default();
            let wait = self.random.between(0, most * SECOND / 1_000);
            self.after(wait, Event::Repeat(number));
            return Some(());
        }
        if request.hop.is_empty() {
            return self.end(number, outcome);
        }
        let load = Load::parse(&request.load);
        let news = News::of_load(&request.load);
        let at = request.thread;
        let state = &mut thread.state;
        let answer = Answer {
            target: request.place,
            bounceable: request.bounceable,
            load: load.map(|load| (state.place(load.cluster), load.rho, load.attempt)),
            // The caller's side makes a 503 of what was shed; Envoy makes one of a lost connection.
            server_error: matches!(outcome, Outcome::Failed | Outcome::Refused),
            not_repeated: outcome == Outcome::Bounced,
            strayed: false,
        };
        let now = self.now + EPOCH - (self.now + thread.phase) % TICK;
        state.on_answer(answer, now);
        if let Some(news) = news
            && answer.load.is_some_and(|(place, ..)| place == Some(0))
        {
            self.learn(at, &news);
        }
        self.end(number, outcome)
    }

    /// The application has its answer.
    fn end(&mut self, number: u32, outcome: Outcome) -> Option<()> {
        let request = self.requests.get(number)?;
        let ended = Ended {
            began: request.began,
            bounced: request.bounced,
            spilled: request.place > 0,
            outcome,
        };
        self.measured.on_end(&ended, self.now);
        self.requests.end(number);
        Some(())
    }

    /// An application no longer waits, and makes the request again if it may.
    pub(crate) fn give_up(&mut self, number: u32, generation: u32) -> Option<()> {
        let request = self.requests.get_mut(number)?;
        if request.generation != generation || request.abandoned {
            return None;
        }
        request.abandoned = true;
        let (thread, began, repeats) = (request.thread, request.began, request.repeats);
        let last = request.tried.last().copied();
        let process = self.threads.get(thread)?.process;
        let process = self.processes.get_mut(process)?;
        if let Some(endpoint) = last {
            process.end(endpoint);
        }
        let patience = self.scenario.callers.get(process.group)?.patience?;
        if repeats < patience.repeats {
            self.begin(thread, began, repeats + 1)
        } else {
            self.measured.on_given_up(began, self.now);
            Some(())
        }
    }
}

/// One of several clusters, each as likely as it has endpoints: Envoy has them in one priority.
fn one_by_size(
    sites: &[Site],
    clusters: impl Iterator<Item = usize> + Clone,
    random: &mut Random,
) -> Option<usize> {
    let size = |cluster: usize| sites.get(cluster).map_or(0, |site| site.known.len());
    let mut at = random.below(clusters.clone().map(size).sum());
    clusters.into_iter().find(|cluster| {
        let size = size(*cluster);
        let found = at < size;
        at = at.saturating_sub(size);
        found
    })
}
