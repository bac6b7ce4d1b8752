//! Policies on the hub, and the changes that people make to them in a hurry: all home, all to the
//! overflow, or nothing at all.

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::BurstPolicy;

use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::output;

/// Who changes fields, as API servers keep it.
pub(crate) const MANAGER: &str = "spillway";

/// Send all requests home, or all to the overflow, for a time
///
/// The override ends by itself, whether anybody is there or not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # Nothing leaves home for ten minutes
  spillway force home worker --for 10m

  # All to the first rung, while home is maintained
  spillway force overflow default/worker --for 2h --dry-run")]
pub(crate) struct Force {
    /// Where requests go
    to: To,

    #[command(flatten)]
    change: Change,

    /// How long: a whole number and s, m or h
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: SignedDuration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    Home,
    Overflow,
}

/// End an override before its time
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # The policy decides again
  spillway unforce worker")]
pub(crate) struct Unforce {
    #[command(flatten)]
    change: Change,
}

/// Let a policy decide and count only, or let it act
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # Decide and count, and change nothing
  spillway shadow on worker

  # Act
  spillway shadow off worker")]
pub(crate) struct Shadow {
    /// Whether it only decides and counts
    state: State,

    #[command(flatten)]
    change: Change,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    On,
    Off,
}

/// Which policy, and whether it is really changed.
#[derive(Debug, Args)]
struct Change {
    /// NAME, or NAMESPACE/NAME
    policy: String,

    /// Say what would be changed, and change nothing: the API server is asked all the same
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn force(force: &Force, connection: &Connection) -> Result<Exit, Failure> {
    let until = Timestamp::now().saturating_add(force.time);
    let until = until
        .ok()
        .and_then(|until| Timestamp::from_second(until.as_second()).ok());
    let until = until.unwrap_or(Timestamp::MAX);
    let (to, words) = match force.to {
        To::Home => ("Home", "all requests stay home"),
        To::Overflow => ("Overflow", "all requests go to the overflow"),
    };
    let spec = json!({"override": {"force": to, "until": until.to_string()}});
    force
        .change
        .make(connection, &spec, &format!("{words} until {until}"))
}

pub(crate) fn unforce(unforce: &Unforce, connection: &Connection) -> Result<Exit, Failure> {
    let spec = json!({"override": null});
    unforce
        .change
        .make(connection, &spec, "the policy decides, without an override")
}

pub(crate) fn shadow(shadow: &Shadow, connection: &Connection) -> Result<Exit, Failure> {
    let (enforcement, words) = match shadow.state {
        State::On => ("Shadow", "it decides and counts, and changes nothing"),
        State::Off => ("Active", "it acts"),
    };
    let spec = json!({"enforcement": enforcement});
    shadow.change.make(connection, &spec, words)
}

impl Change {
    fn make(&self, connection: &Connection, spec: &Value, words: &str) -> Result<Exit, Failure> {
        crate::wait(async {
            let hub = connection.hub().await?;
            let (namespace, name) = named(&self.policy, connection, &hub);
            let policies: Api<BurstPolicy> = Api::namespaced(hub.client.clone(), &namespace);
            let parameters = PatchParams {
                dry_run: self.dry_run,
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let doing = format!("the policy {namespace}/{name} cannot be changed");
            let failed = |error| missing(&hub, &doing, &error);
            let before = policies.get(&name).await.map_err(failed)?;
            let patch = Patch::Merge(json!({"spec": spec}));
            let after = policies
                .patch(&name, &parameters, &patch)
                .await
                .map_err(failed)?;
            let changed = before.resource_version() != after.resource_version();
            let how = match (self.dry_run, changed) {
                (true, _) => " (dry run)",
                (false, true) => "",
                (false, false) => " (as it was)",
            };
            output::print(&format!("policy {namespace}/{name}: {words}{how}\n"));
            Ok(Exit::Fine)
        })
    }
}

/// The namespace and name of a policy as people write it.
pub(crate) fn named(policy: &str, connection: &Connection, hub: &Cluster) -> (String, String) {
    match policy.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => {
            let namespace = connection.namespace.clone();
            let namespace = namespace.unwrap_or_else(|| hub.config.default_namespace.clone());
            (namespace, policy.to_owned())
        }
    }
}

/// A policy that is not there is a mistake of who names it.
pub(crate) fn missing(hub: &Cluster, doing: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 404 && status.details.is_some() => {
            Failure::bad_input(
                format!("{}: {doing}: {}", hub.name, status.message),
                "`spillway status` lists policies; name one of another namespace as NAMESPACE/NAME.",
            )
        }
        error => hub.failed(doing, error),
    }
}

/// A whole number above zero and its unit.
pub(crate) fn time(text: &str) -> Result<SignedDuration, &'static str> {
    const FORM: &str = "write a whole number above 0 and s, m or h, such as 10m";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(FORM),
    };
    let number = digits.parse::<u32>().ok().filter(|number| *number > 0);
    let number = number.ok_or(FORM)?;
    Ok(SignedDuration::from_secs(i64::from(number) * seconds))
}
