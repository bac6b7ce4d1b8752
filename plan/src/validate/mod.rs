//! Everything that can be wrong, in words: with a policy as it is written ([`terms`]), with its
//! clusters ([`ladder`]) and services ([`services`]), with its callers ([`clients`]), with other
//! policies ([`meetings`], [`held`]) and with what users have in the way ([`obstacles`]).
//!
//! An error in what is written refuses the policy, with all errors at once. What is the matter
//! with one service or one cluster only leaves that one out: a cluster that joins a fleet must not
//! be able to take a policy down.

mod clients;
mod held;
mod ladder;
mod meetings;
pub(crate) mod obstacles;
pub(crate) mod services;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use spillway_api::BurstPolicy;
use spillway_api::burst_policy::TargetRef;

use crate::conditions::{Note, Refusal, Status, Type};
use crate::input::Input;
use crate::model::{Target, Terms, Unseen};
use crate::names;
use crate::output::Key;
use crate::world::World;

/// What was found on the way of the policies.
#[derive(Default)]
pub(crate) struct Accepted {
    /// What is carried out, the older policies first.
    pub(crate) targets: Vec<Target>,
    /// Services about which nothing is known now.
    pub(crate) unseen: Vec<Unseen>,
    /// Objects about which nothing is known now, and those that stay with them, by control plane.
    pub(crate) held: BTreeMap<String, BTreeSet<Key>>,
    pub(crate) ledger: Ledger,
}

/// What is told, by policy.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Every policy that was looked at.
    pub(crate) policies: BTreeSet<String>,
    /// Why services of it are left out.
    pub(crate) refusals: BTreeMap<String, Refusal>,
    pub(crate) notes: BTreeMap<String, BTreeSet<Note>>,
}

impl Ledger {
    pub(crate) fn note(&mut self, policy: &str, kind: Type, reason: &'static str, message: String) {
        let note = Note {
            kind,
            reason,
            message,
        };
        self.notes
            .entry(policy.to_owned())
            .or_default()
            .insert(note);
    }

    pub(crate) fn refuse(&mut self, policy: &str, reason: &'static str, message: String) {
        self.tell(policy, Status::False, reason, message);
    }

    fn tell(&mut self, policy: &str, status: Status, reason: &'static str, message: String) {
        let refusal = self
            .refusals
            .entry(policy.to_owned())
            .or_insert_with(|| Refusal {
                status,
                reason,
                messages: Vec::new(),
            });
        refusal.messages.push(message);
    }
}

/// Why a policy, or one of its services, is left out.
pub(crate) struct Reason {
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Reason {
    fn refused(reason: &'static str, message: String) -> Self {
        Self {
            status: Status::False,
            reason,
            message,
        }
    }
}

/// Validates all policies, the older ones first: where two are in each other's way, the older one
/// stays.
pub(crate) fn all(world: &World<'_>, input: &Input) -> Accepted {
    let policies = &input.policies;
    let mut by_age: Vec<&BurstPolicy> = policies.iter().map(AsRef::as_ref).collect();
    by_age.sort_by_key(|policy| age(policy));
    let mut accepted = Accepted::default();
    for policy in by_age {
        let key = key_of(policy);
        accepted.ledger.policies.insert(key.clone());
        match terms::read(Some(world), policy) {
            Ok(terms) => each_service(world, policy, &key, &terms, &mut accepted),
            Err(errors) => {
                for error in errors {
                    accepted.ledger.refuse(&key, "Invalid", error);
                }
            }
        }
    }
    meetings::settle(&mut accepted);
    clients::place(world, policies, &mut accepted);
    held::hold(world, &mut accepted);
    obstacles::find(world, &mut accepted);
    accepted
}

/// Reads a policy by itself.
pub(crate) fn read(policy: &BurstPolicy) -> Result<Terms, Vec<String>> {
    terms::read(None, policy)
}

fn key_of(policy: &BurstPolicy) -> String {
    let meta = &policy.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&meta.namespace), part(&meta.name))
}

fn age(policy: &BurstPolicy) -> (Option<&Time>, Option<&str>, Option<&str>) {
    let meta = &policy.metadata;
    (
        meta.creation_timestamp.as_ref(),
        meta.namespace.as_deref(),
        meta.name.as_deref(),
    )
}

fn each_service(
    world: &World<'_>,
    policy: &BurstPolicy,
    key: &str,
    terms: &Terms,
    accepted: &mut Accepted,
) {
    for (i, target) in policy.spec.target_refs.iter().enumerate() {
        match one_service(world, policy, key, terms, target, &mut accepted.ledger) {
            Ok(target) => accepted.targets.push(target),
            Err(why) => {
                if why.status == Status::Unknown {
                    accepted.unseen.push(Unseen {
                        namespace: policy.metadata.namespace.clone().unwrap_or_default(),
                        service: target.name.clone(),
                        clients: clients::named(policy),
                    });
                }
                let message = format!("spec.targetRefs[{i}]: {}", why.message);
                accepted.ledger.tell(key, why.status, why.reason, message);
            }
        }
    }
}

fn one_service(
    world: &World<'_>,
    policy: &BurstPolicy,
    key: &str,
    terms: &Terms,
    target: &TargetRef,
    ledger: &mut Ledger,
) -> Result<Target, Reason> {
    let meta = &policy.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let home = ladder::home(world, policy.spec.home.as_deref())?;
    let (site, service) = services::find(world, home, namespace, &target.name)?;
    let ports = services::ports(service, &target.name, target.section_name.as_deref())?;
    let ladder = ladder::read(world, policy, key, home, &target.name, ledger)?;
    let selector = policy.spec.clients.as_ref();
    Ok(Target {
        policy: key.to_owned(),
        id: names::policy_id(
            namespace,
            meta.name.as_deref().unwrap_or_default(),
            &target.name,
            target.section_name.as_deref(),
        ),
        namespace: namespace.to_owned(),
        service: target.name.clone(),
        host: names::host(namespace, &target.name, &world.mesh.domain),
        workload: services::workload(site, namespace, service, &ports.covered),
        ports: ports.covered,
        all_ports: ports.all,
        home: home.map(|site| site.istio.to_owned()),
        rungs: ladder.rungs,
        beyond: ladder.beyond,
        terms: terms.clone(),
        clients: BTreeMap::new(),
        selector: selector
            .map(|clients| clients.selector.match_labels.clone())
            .unwrap_or_default(),
    })
}
