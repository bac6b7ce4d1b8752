//! One control plane's writer.
//!
//! It compares what is wanted with what is there, and writes the difference in the order in which
//! no request is lost. That is all it ever does: a new intent, a drift, a restart and a cluster
//! that comes back are the same comparison, and an object that is as it should be is not touched.
//!
//! - Its queue holds the newest intent only; what was overtaken is never written.
//! - A failure of the cluster (no answer, 401, 429, 5xx) ends the pass and lets it back off. One of
//!   a single object (403, 404, 409, 422) does not: the object's policies wait, the others go on.
//! - Plugins are written at most once in [`Options::push_interval`]. A pass that comes too early
//!   waits, and writes what is the newest then.
//! - Of a difference it writes one stage; what is left after [`Options::settle`] is the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kube::Client;
use serde_json::Value;
use spillway_api::istio::Kind;
use spillway_plan::ControlPlane;
use spillway_plan::diff::{self, Action, Change, Stage};
use spillway_plan::output::{Key, POLICIES};
use tokio::sync::watch;

use super::authority::Authority;
use super::backoff::Backoff;
use super::options::Options;
use super::report::{Problem, Reports};
use super::reverts::Reverts;
use super::write::Writer;
use crate::clusters::call::Failure;
use crate::clusters::claim::{Claim, ClaimError};
use crate::observe::index::Index;
use crate::observe::kinds;

/// The claim is looked at again before a write when the last look is older than this.
const CONFIRM: Duration = Duration::from_secs(10);
/// After a conflict the object is compared anew at once, but not for ever.
const CONFLICTS: u32 = 3;

/// What a control plane is to have.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The objects.
    pub wanted: Arc<ControlPlane>,
    /// Counts the intents of this control plane.
    pub sequence: u64,
    /// By whose authority they are written.
    pub authority: Authority,
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

/// A write that is due.
struct Due {
    change: Change,
    key: Key,
    /// The policies that want the object, or wanted what is there.
    policies: BTreeSet<String>,
}

/// An object that could not be written.
struct Stuck {
    failure: Failure,
    policies: BTreeSet<String>,
    stage: Stage,
    conflicts: u32,
}

/// Writes to one control plane until the intents end.
pub struct Worker {
    site: Site,
    backoff: Backoff,
    /// When plugins may be written again.
    plugins_after: Option<Instant>,
    confirmed: Option<Instant>,
    /// Objects that could not be written, until they are tried again.
    stuck: BTreeMap<Key, Stuck>,
    retry_at: Option<Instant>,
    /// The versions of users' objects that were edited: the plan may still speak of them.
    edited: BTreeMap<Key, Value>,
    reverts: Reverts,
    /// The last intent that it had in full: a difference that comes later is somebody else's doing.
    settled: u64,
}

impl Worker {
    /// A worker for this site.
    #[must_use]
    pub fn new(site: Site) -> Self {
        Self {
            backoff: site.options.backoff.clone(),
            site,
            plugins_after: None,
            confirmed: None,
            stuck: BTreeMap::new(),
            retry_at: None,
            edited: BTreeMap::new(),
            reverts: Reverts::default(),
            settled: 0,
        }
    }

    /// Works until there is nobody left to give orders.
    pub async fn run(mut self, mut orders: watch::Receiver<Option<Orders>>) {
        let mut seen = self.site.index.ours();
        loop {
            seen.borrow_and_update();
            let order = orders.borrow_and_update().clone();
            let next = match &order {
                Some(order) if order.authority.holds() && self.site.index.is_complete() => {
                    self.pass(order, &orders).await
                }
                _ => Next::Change,
            };
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
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn pass(&mut self, order: &Orders, orders: &watch::Receiver<Option<Orders>>) -> Next {
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.stuck.clear();
            self.retry_at = None;
        }
        let due = self.due(order);
        let Some(stage) = due.iter().map(|due| due.change.stage).min() else {
            return self.finish(order).await;
        };
        let now: Vec<&Due> = due.iter().filter(|due| due.change.stage == stage).collect();
        if now.iter().any(|due| is_plugin(due))
            && let Some(wait) = self.plugins_after.and_then(|at| left(at, Instant::now()))
        {
            return Next::After(wait);
        }
        if let Err(error) = self.prepare(&now).await {
            return self.refused(&error);
        }
        if self.settled == order.sequence {
            self.repairing(&now);
        }
        for due in now {
            if !order.authority.holds() || orders.has_changed().unwrap_or(true) {
                return Next::After(Duration::ZERO);
            }
            match self.write(due).await {
                Ok(()) => {}
                Err(failure) if failure.is_local() => self.set_aside(due, failure),
                Err(failure) => return self.back_off(&failure),
            }
        }
        self.backoff.succeed();
        self.clear_problem();
        if due.iter().any(|due| due.change.stage > stage) {
            Next::After(self.site.options.settle)
        } else {
            Next::After(Duration::ZERO)
        }
    }

    /// What is to be written and can be.
    fn due(&self, order: &Orders) -> Vec<Due> {
        let deployed = self.site.index.deployed();
        let changes = diff::changes(&order.wanted, &deployed).into_iter();
        let due = changes.filter_map(|change| {
            let key = key_of(&change.action)?;
            let policies = self.policies_of(&order.wanted, &change.action, &key);
            Some(Due {
                change,
                key,
                policies,
            })
        });
        due.filter(|due| self.can_be_written(due)).collect()
    }

    fn can_be_written(&self, due: &Due) -> bool {
        if let Action::Replace { object, .. } = &due.change.action
            && (self.edited.get(&due.key) == object.pointer("/metadata/resourceVersion")
                || self.reverts.is_fought(&due.key, object, Instant::now()))
        {
            return false;
        }
        if let Some(stuck) = self.stuck.get(&due.key) {
            return stuck.conflicts < CONFLICTS && stuck.failure.code() == Some(409);
        }
        // What comes after a write that failed waits for it.
        self.stuck.values().all(|stuck| {
            stuck.stage >= due.change.stage || stuck.policies.is_disjoint(&due.policies)
        })
    }

    fn policies_of(&self, wanted: &ControlPlane, action: &Action, key: &Key) -> BTreeSet<String> {
        let kind = key.kind().and_then(kinds::Kind::of_ours);
        let there = kind.and_then(|kind| {
            let place = (kind, key.namespace.clone());
            self.site.index.found(&place, &key.name)
        });
        let mut policies = there.as_ref().map(named_in).unwrap_or_default();
        match action {
            Action::Apply { object, .. } => policies.extend(named_in(object)),
            Action::Replace { .. } => {
                let mut edits = wanted.edits.iter();
                let edit = edits.find(|edit| Key::of(&edit.before).as_ref() == Some(key));
                policies.extend(edit.into_iter().flat_map(|edit| edit.policies.clone()));
            }
            Action::Delete { .. } => {}
        }
        policies
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

    async fn write(&mut self, due: &Due) -> Result<(), Failure> {
        let writer = Writer {
            client: &self.site.client,
            index: &self.site.index,
            deadline: self.site.options.deadline,
        };
        if is_plugin(due) {
            self.plugins_after = Some(Instant::now() + self.site.options.push_interval);
        }
        writer.carry_out(&due.change.action).await?;
        if let Action::Replace { object, .. } = &due.change.action {
            self.edited(due, object);
            self.reverts.wrote(&due.key, object, Instant::now());
        }
        self.stuck.remove(&due.key);
        tracing::info!(
            cluster = self.site.cluster,
            kind = due.key.kind().map_or("", |kind| kind.kind),
            namespace = due.key.namespace,
            name = due.key.name,
            action = verb(&due.change.action),
            "an object was written"
        );
        self.site.reports.update(&self.site.cluster, |report| {
            report.writes = report.writes.saturating_add(1);
            report.last_seen = Some(SystemTime::now());
        });
        Ok(())
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
        let conflicts = self.stuck.get(&due.key).map_or(0, |stuck| stuck.conflicts);
        let stuck = Stuck {
            failure,
            policies: due.policies.clone(),
            stage: due.change.stage,
            conflicts: conflicts.saturating_add(1),
        };
        if stuck.conflicts >= CONFLICTS || !is_conflict {
            self.tell_stuck(&due.key, &stuck);
        }
        self.stuck.insert(due.key.clone(), stuck);
    }

    fn tell_stuck(&self, key: &Key, stuck: &Stuck) {
        tracing::warn!(
            cluster = self.site.cluster,
            kind = key.kind().map_or("", |kind| kind.kind),
            namespace = key.namespace,
            name = key.name,
            error = %stuck.failure,
            "an object could not be written"
        );
    }

    /// Nothing is left that can be written now.
    async fn finish(&mut self, order: &Orders) -> Next {
        let failed: BTreeMap<String, String> = self
            .stuck
            .values()
            .flat_map(|stuck| {
                let policies = stuck.policies.iter();
                policies.map(|policy| (policy.clone(), stuck.failure.to_string()))
            })
            .chain(self.fought(order))
            .collect();
        let is_whole = self.stuck.is_empty();
        let forbidden = self.site.index.forbidden().into_iter().collect();
        self.site.reports.update(&self.site.cluster, |report| {
            report.failed = failed;
            report.forbidden = forbidden;
            report.problem = None;
            if is_whole {
                report.applied = order.sequence;
            }
            report.last_seen = Some(SystemTime::now());
        });
        if !is_whole {
            let pause = self.backoff.after_failure();
            self.retry_at = Some(Instant::now() + pause);
            return Next::ChangeOr(pause);
        }
        self.settled = order.sequence;
        self.backoff.succeed();
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
        Next::Change
    }

    /// Policies whose routes somebody keeps taking out of a user's VirtualService.
    fn fought(&self, order: &Orders) -> Vec<(String, String)> {
        let now = Instant::now();
        let fought = order.wanted.edits.iter().filter(|edit| {
            edit.before != edit.after
                && Key::of(&edit.after)
                    .is_some_and(|key| self.reverts.is_fought(&key, &edit.after, now))
        });
        fought
            .flat_map(|edit| {
                let name = Key::of(&edit.after).map(|key| format!("{}/{}", key.namespace, key.name));
                let message = format!(
                    "the routes in the VirtualService {} were taken out three times in ten minutes and are left out now: put them into its source, as `spillway render` prints them",
                    name.unwrap_or_default()
                );
                edit.policies.iter().map(move |policy| (policy.clone(), message.clone()))
            })
            .collect()
    }

    fn repairing(&self, due: &[&Due]) {
        let is_ours = |due: &&&Due| !matches!(due.change.action, Action::Replace { .. });
        let repairs = due.iter().filter(is_ours);
        let count = u64::try_from(repairs.count()).unwrap_or_default();
        if count == 0 {
            return;
        }
        tracing::info!(
            cluster = self.site.cluster,
            objects = count,
            "objects of ours were changed by somebody else and are put right"
        );
        self.site.reports.update(&self.site.cluster, |report| {
            report.repairs = report.repairs.saturating_add(count);
        });
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

fn key_of(action: &Action) -> Option<Key> {
    match action {
        Action::Apply { key, .. } | Action::Delete { key, .. } => Some(key.clone()),
        Action::Replace { object, .. } => Key::of(object),
    }
}

/// The policies that an object of ours names.
fn named_in(object: &Value) -> BTreeSet<String> {
    let annotations = object.pointer("/metadata/annotations");
    let named = annotations.and_then(|annotations| annotations.get(POLICIES)?.as_str());
    let named = named.into_iter().flat_map(|named| named.split(','));
    named.map(str::to_owned).collect()
}

fn is_plugin(due: &Due) -> bool {
    let applies = matches!(due.change.action, Action::Apply { .. });
    applies && due.key.kind() == Some(Kind::WASM_PLUGIN)
}

const fn verb(action: &Action) -> &'static str {
    match action {
        Action::Apply { .. } => "apply",
        Action::Replace { .. } => "edit",
        Action::Delete { .. } => "delete",
    }
}

/// How long it is until then, if it is not yet.
fn left(then: Instant, now: Instant) -> Option<Duration> {
    then.checked_duration_since(now)
        .filter(|left| !left.is_zero())
}
