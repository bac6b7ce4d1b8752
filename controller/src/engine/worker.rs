//! One control plane's writer.
//!
//! It compares what is wanted with what is there, and writes the difference in the order in which
//! no request is lost. That is all it ever does: a new intent, a drift, a restart and a cluster
//! that comes back are the same comparison, and an object that is as it should be is not touched.
//!
//! - Its queue holds the newest intent only; what was overtaken is never written.
//! - A failure of the cluster (no answer, 401, 429, 5xx) ends the pass and lets it back off. One of
//!   a single object (403, 404, 409, 422) does not: the object's policies wait, the others go on.
//! - What somebody else changed is put right at once, and ever slower where it is changed again and
//!   again ([`super::repairs`]).
//! - Plugins are written at most once in [`Options::push_interval`]. A pass that comes too early
//!   waits, and writes what is the newest then.
//! - Plugins that need an image which cannot be had are held back ([`super::gate`]).
//! - Plugins are written once more when the image can be had again ([`super::renewal`]).
//! - Of a difference it writes one stage; what is left after [`Options::settle`] is the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kube::Client;
use serde_json::Value;
use spillway_plan::ControlPlane;
use spillway_plan::diff::Action;
use spillway_plan::output::Key;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::authority::Authority;
use super::backoff::Backoff;
use super::due::{self, Due};
use super::gate;
use super::options::Options;
use super::renewal::Renewal;
use super::repairs::Repairs;
use super::report::{Problem, Reports};
use super::reverts::Reverts;
use super::stuck::Stuck;
use super::write::Writer;
use crate::clusters::call::Failure;
use crate::clusters::claim::{Claim, ClaimError};
use crate::image::Availability;
use crate::metrics::{Applied, Kind as Counted, Metrics};
use crate::observe::index::Index;

/// The claim is looked at again before a write when the last look is older than this.
const CONFIRM: Duration = Duration::from_secs(10);

/// What a control plane is to have.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The objects.
    pub wanted: Arc<ControlPlane>,
    /// Counts the intents of this control plane.
    pub sequence: u64,
    /// By whose authority they are written.
    pub authority: Authority,
    /// When the first change was seen that this control plane does not have yet.
    pub since: Instant,
}

/// What a worker works with.
pub struct Site {
    /// The MeshCluster.
    pub cluster: String,
    /// The member.
    pub client: Client,
    /// What is seen of it.
    pub index: Arc<Index>,
    /// The claim on it.
    pub claim: Claim,
    /// Where it says how far it is.
    pub reports: Arc<Reports>,
    /// How patient it is.
    pub options: Options,
    /// Whether the filter's image can be had.
    pub image: watch::Receiver<Availability>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Knows what is under way, so that the process does not end in the midst of it.
    pub under_way: TaskTracker,
}

/// When to look again.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// When something changes.
    Change,
    /// After this time, whatever changes; at once when it is zero.
    After(Duration),
    /// After this time, or when something changes.
    ChangeOr(Duration),
}

/// Writes to one control plane until the intents end.
pub struct Worker {
    site: Site,
    backoff: Backoff,
    /// When plugins may be written again.
    plugins_after: Option<Instant>,
    confirmed: Option<Instant>,
    stuck: Stuck,
    /// The versions of users' objects that were edited: the plan may still speak of them.
    edited: BTreeMap<Key, Value>,
    reverts: Reverts,
    repairs: Repairs,
    renewal: Renewal,
    /// The last intent that it had in full: a difference that comes later is somebody else's doing.
    settled: u64,
    /// Whether anything was written since.
    wrote: bool,
}

impl Worker {
    /// A worker for this site.
    #[must_use]
    pub fn new(site: Site) -> Self {
        Self {
            backoff: site.options.backoff.clone(),
            reverts: Reverts::new(site.options.reverts),
            renewal: Renewal::new(site.options.spread, site.reports.get(&site.cluster).renewed),
            site,
            plugins_after: None,
            confirmed: None,
            stuck: Stuck::default(),
            edited: BTreeMap::new(),
            repairs: Repairs::default(),
            settled: 0,
            wrote: false,
        }
    }

    /// Works until there is nobody left to give orders.
    pub async fn run(mut self, mut orders: watch::Receiver<Option<Orders>>) {
        let mut seen = self.site.index.ours();
        let mut image = self.site.image.clone();
        loop {
            seen.borrow_and_update();
            image.borrow_and_update();
            // Before the orders are read: who takes them back and waits then waits for this pass.
            let under_way = self.site.under_way.token();
            let order = orders.borrow_and_update().clone();
            let next = match &order {
                Some(order) if order.authority.holds() && self.site.index.is_complete() => {
                    self.pass(order, &orders).await
                }
                _ => Next::Change,
            };
            drop(under_way);
            let pause = match next {
                Next::After(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Next::ChangeOr(pause) => pause,
                Next::Change => Duration::MAX,
            };
            tokio::select! {
                changed = orders.changed() => if changed.is_err() { return },
                _ = seen.changed() => {}
                Ok(()) = image.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn pass(&mut self, order: &Orders, orders: &watch::Receiver<Option<Orders>>) -> Next {
        self.stuck.try_again(Instant::now());
        let mut due = due::all(&order.wanted, &self.site.index);
        let image = self.site.image.borrow().clone();
        let waiting = gate::hold_back(&mut due, &self.site.index, &image);
        self.renew(&mut due, &order.wanted, &image);
        due.retain(|due| self.can_be_written(due));
        let Some(stage) = due.iter().map(Due::stage).min() else {
            return self.finish(order, waiting).await;
        };
        let now: Vec<&Due> = due.iter().filter(|due| due.stage() == stage).collect();
        if now.iter().any(|due| due.is_plugin())
            && let Some(wait) = self.plugins_after.and_then(|at| left(at, Instant::now()))
        {
            return Next::After(wait);
        }
        if let Err(error) = self.prepare(&now).await {
            return self.refused(&error);
        }
        let repairs = self.settled == order.sequence;
        for due in now {
            if !order.authority.holds() || orders.has_changed().unwrap_or(true) {
                return Next::After(Duration::ZERO);
            }
            match self
                .write(due, repairs && !due.is_edit() && !due.renews)
                .await
            {
                Ok(()) => {}
                Err(failure) if failure.is_local() => self.set_aside(due, failure),
                Err(failure) => return self.back_off(&failure),
            }
        }
        self.backoff.succeed();
        self.clear_problem();
        if due.iter().any(|due| due.stage() > stage) {
            Next::After(self.site.options.settle)
        } else {
            Next::After(Duration::ZERO)
        }
    }

    /// Adds what is to be written anew, unless it is written anyway.
    fn renew(&mut self, due: &mut Vec<Due>, wanted: &ControlPlane, image: &Availability) {
        let (index, now) = (&self.site.index, Instant::now());
        self.renewal.look(image, wanted, index, now);
        for key in self.renewal.due(now) {
            if due.iter().all(|due| due.key != *key) {
                due.extend(due::renewal(wanted, index, key));
            }
        }
    }

    fn can_be_written(&self, due: &Due) -> bool {
        if let Action::Replace { object, .. } = &due.change.action
            && (self.edited.get(&due.key) == object.pointer("/metadata/resourceVersion")
                || self.reverts.is_fought(&due.key, object, Instant::now()))
        {
            return false;
        }
        self.stuck.allows(due) && !self.repairs.hold(due, Instant::now())
    }

    /// The cluster is still ours, and the claim names every namespace that is written to.
    async fn prepare(&mut self, due: &[&Due]) -> Result<(), ClaimError> {
        let now = Instant::now();
        if self
            .confirmed
            .is_none_or(|at| now.saturating_duration_since(at) > CONFIRM)
        {
            self.site.claim.confirm().await?;
            self.confirmed = Some(now);
        }
        let mut namespaces = self.site.claim.noted();
        namespaces.extend(due.iter().map(|due| due.key.namespace.clone()));
        self.site.claim.note(namespaces).await
    }

    async fn write(&mut self, due: &Due, repairs: bool) -> Result<(), Failure> {
        let writer = Writer {
            client: &self.site.client,
            index: &self.site.index,
            deadline: self.site.options.deadline,
        };
        if due.is_plugin() {
            self.plugins_after = Some(Instant::now() + self.site.options.push_interval);
        }
        let by = self.site.index.changed_by(&due.key);
        let written = writer.carry_out(&due.change.action).await;
        let kind = due.key.kind().map(Counted::from);
        if let Some(kind) = kind {
            let result = match &written {
                Ok(()) if due.is_removal() => Applied::Deleted,
                Ok(()) => Applied::Written,
                Err(failure) => Applied::from(failure),
            };
            self.site.metrics.applied(kind, result);
            if repairs && written.is_ok() {
                self.site.metrics.repaired(kind);
            }
        }
        written?;
        self.wrote = true;
        if let Action::Replace { object, .. } = &due.change.action {
            self.edited(due, object);
            self.reverts.wrote(&due.key, object, Instant::now());
        } else if !due.renews {
            self.repaired(due, by);
        }
        self.renewal.wrote(&due.key);
        self.stuck.written(&due.key);
        tracing::info!(
            cluster = self.site.cluster,
            kind = due.key.kind().map_or("", |kind| kind.kind),
            namespace = due.key.namespace,
            name = due.key.name,
            action = due.verb(),
            repairs,
            renews = due.renews,
            "an object was written"
        );
        self.site.reports.update(&self.site.cluster, |report| {
            report.writes = report.writes.saturating_add(1);
            report.repairs = report.repairs.saturating_add(repairs.into());
            report.last_seen = Some(SystemTime::now());
        });
        Ok(())
    }

    fn repaired(&mut self, due: &Due, by: Option<String>) {
        if self.repairs.wrote(due, by.clone(), Instant::now()) {
            tracing::warn!(
                cluster = self.site.cluster,
                kind = due.key.kind().map_or("", |kind| kind.kind),
                namespace = due.key.namespace,
                name = due.key.name,
                by,
                "an object of ours is changed again and again, and is put right ever less often"
            );
        }
    }

    /// The plan speaks of a version that is not there any more; the next one will not.
    fn edited(&mut self, due: &Due, object: &Value) {
        let version = object.pointer("/metadata/resourceVersion");
        self.edited
            .insert(due.key.clone(), version.cloned().unwrap_or_default());
    }

    fn set_aside(&mut self, due: &Due, failure: Failure) {
        let is_conflict = failure.code() == Some(409);
        if let Action::Replace { object, .. } = &due.change.action
            && is_conflict
        {
            self.edited(due, object);
            return;
        }
        let message = failure.to_string();
        if self.stuck.set_aside(due, failure) {
            tracing::warn!(
                cluster = self.site.cluster,
                kind = due.key.kind().map_or("", |kind| kind.kind),
                namespace = due.key.namespace,
                name = due.key.name,
                error = message,
                "an object could not be written"
            );
        }
    }

    /// Nothing is left that can be written now.
    async fn finish(&mut self, order: &Orders, waiting: BTreeMap<String, Problem>) -> Next {
        let mut failed = self.stuck.failed();
        failed.extend(self.reverts.fought(&order.wanted, Instant::now()));
        failed.extend(self.repairs.fights(Instant::now()));
        let can_be_whole = self.stuck.is_empty();
        let is_whole = can_be_whole && waiting.is_empty();
        let forbidden = self.site.index.forbidden().into_iter().collect();
        let renewed = self.renewal.answered();
        self.site.reports.update(&self.site.cluster, |report| {
            report.failed = failed;
            report.waiting = waiting;
            report.forbidden = forbidden;
            report.problem = None;
            report.reached = order.sequence;
            report.renewed = renewed;
            if is_whole {
                report.applied = order.sequence;
            }
            if report.applied == report.ordered {
                report.behind = None;
            }
            report.last_seen = Some(SystemTime::now());
        });
        if !can_be_whole {
            let pause = self.backoff.after_failure();
            self.stuck.retry_at(Instant::now() + pause);
            return Next::ChangeOr(pause);
        }
        self.backoff.succeed();
        self.repairs.forget(Instant::now());
        let next = self.truce(Instant::now());
        if !is_whole {
            return next;
        }
        if self.wrote && self.settled != order.sequence {
            self.site.metrics.propagated(order.since.elapsed());
        }
        self.settled = order.sequence;
        self.wrote = false;
        let edits = order.wanted.edits.iter();
        let edits: BTreeSet<Key> = edits.filter_map(|edit| Key::of(&edit.before)).collect();
        self.edited.retain(|key, _| edits.contains(key));
        self.reverts.keep(|key| edits.contains(key));
        let mut inhabited = self.site.index.inhabited();
        inhabited.extend(self.site.index.forbidden());
        inhabited.retain(|name| self.site.claim.noted().contains(name));
        if let Err(error) = self.site.claim.note(inhabited).await {
            tracing::debug!(cluster = self.site.cluster, %error, "the claim keeps a namespace too many");
        }
        next
    }

    /// Waits for the first fight to be over, or to go on, and for plugins to be written anew.
    fn truce(&self, now: Instant) -> Next {
        let waits = [
            self.repairs.next(now),
            self.reverts.next(now),
            self.renewal.next(now),
        ];
        let first = waits.into_iter().flatten().min();
        first.map_or(Next::Change, Next::ChangeOr)
    }

    fn refused(&mut self, error: &ClaimError) -> Next {
        self.confirmed = None;
        self.problem(error.reason(), error.to_string())
    }

    fn back_off(&mut self, failure: &Failure) -> Next {
        let next = self.problem(failure.reason(), failure.to_string());
        match (next, failure.retry_after()) {
            (Next::After(pause), Some(asked)) => Next::After(pause.max(asked)),
            (next, _) => next,
        }
    }

    fn problem(&mut self, reason: &'static str, message: String) -> Next {
        let pause = self.backoff.after_failure();
        tracing::warn!(cluster = self.site.cluster, error = message, retry = ?pause, "a cluster cannot be written to");
        let problem = Problem { reason, message };
        self.site
            .reports
            .update(&self.site.cluster, |report| report.problem = Some(problem));
        Next::After(pause)
    }

    fn clear_problem(&self) {
        self.site
            .reports
            .update(&self.site.cluster, |report| report.problem = None);
    }
}

/// How long it is until then, if it is not yet.
fn left(then: Instant, now: Instant) -> Option<Duration> {
    then.checked_duration_since(now)
        .filter(|left| !left.is_zero())
}
