//! Spillway on the hub: installed, upgraded, and taken out again.
//!
//! The chart stands in the command, and the user's Helm installs it: so the release is Helm's, with
//! its history and its values, and whoever prefers Helm goes on with that. The definitions of the
//! resources are the exception: Helm never changes what is there, so they are applied here, first.
//!
//! Everything can be done again: who is interrupted runs the same command anew.

mod chart;
mod demo;
mod helm;
mod ready;
mod release;
mod rollout;
mod uninstall;

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

pub(crate) use self::demo::environment;
use self::helm::Helm;
pub(crate) use self::ready::{CONTROLLER, Count, is_established, reasons as pod_reasons};
use self::release::State;
use self::rollout::Rollout;
pub(crate) use self::uninstall::{Uninstall, run as uninstall};
use crate::attach::{Place, step};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output;

/// The Helm release on the hub. All that it installs is named after it.
const RELEASE: &str = "spillway";

/// Install Spillway on the hub
///
/// Installs the definitions of the resources and, by the helm in the path, the controller, and waits
/// until that is ready. It can be run again after an interruption. The images of the controller and
/// the filter have no default: `spillway push` and `make push-images` print their names.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # What would be installed, with the values of a file
  spillway install --values values.yaml --dry-run

  # Install it, with a service, load and a policy to look at
  spillway install --values values.yaml --run-demo

  # Without Helm
  spillway install --render --set image.repository=registry.example.com/spillway/controller --set filter.image=oci://registry.example.com/spillway/filter@sha256:0000000000000000000000000000000000000000000000000000000000000000")]
pub(crate) struct Install {
    #[command(flatten)]
    values: Values,

    /// Print what would be applied, for `kubectl apply --server-side -f -`, and talk to no cluster.
    /// Without Helm only the images can be set
    #[arg(long, conflicts_with_all = ["dry_run", "run_demo"])]
    render: bool,

    /// Install a demo too, in the namespace spillway-demo: a service, load that is too much for it,
    /// and a policy. In these other clusters only the service
    #[arg(long, value_name = "CONTEXT", num_args = 0.., value_delimiter = ',', require_equals = true)]
    run_demo: Option<Vec<String>>,

    /// The image of the demo's service and load: one with the program fortio
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "docker.io/fortio/fortio:1.75.3"
    )]
    demo_image: String,

    #[command(flatten)]
    place: Place,

    /// Give up waiting after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

/// Upgrade Spillway on the hub
///
/// Brings the definitions and the controller to the version of this command, or changes values.
/// Values that were set before stay as they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # What would change
  spillway upgrade --dry-run

  # To the version of this command, with another value
  spillway upgrade --set replicas=3")]
pub(crate) struct Upgrade {
    #[command(flatten)]
    values: Values,

    #[command(flatten)]
    place: Place,

    /// Give up waiting after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

/// The chart's values, as Helm takes them.
#[derive(Debug, Args)]
struct Values {
    /// A value of the chart; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// A file with values of the chart; may be repeated
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Values {
    fn arguments(&self) -> Vec<String> {
        let files = self
            .files
            .iter()
            .map(|path| format!("--values={}", path.display()));
        let set = self.set.iter().map(|set| format!("--set={set}"));
        files.chain(set).collect()
    }
}

pub(crate) fn install(install: &Install, connection: &Connection) -> Result<Exit, Failure> {
    if install.render {
        output::print(&install.rendered()?);
        return Ok(Exit::Fine);
    }
    let place = &install.place;
    let rollout = Rollout::new(&install.values, place, install.timeout)?;
    // What is wrong with the values is told before anything is written.
    rollout.template()?;
    crate::wait(async {
        let hub = connection.hub().await?;
        match release::state(&hub, &place.system_namespace, RELEASE).await? {
            State::Busy(status) => return Err(busy(place, &status)),
            State::Deployed if place.dry_run => step(&format!(
                "Helm release {RELEASE} in {}: as it was (dry run)",
                hub.name
            )),
            State::Deployed => {
                rollout.definitions(&hub).await?;
                step(&format!(
                    "Helm release {RELEASE} in {}: as it was; `spillway upgrade` changes it",
                    hub.name
                ));
            }
            State::Missing | State::Failed => rollout.run(connection, &hub, &[]).await?,
        }
        if !place.dry_run {
            ready::wait(&hub, &place.system_namespace, install.timeout).await?;
        }
        if let Some(others) = &install.run_demo {
            install.demo(connection, &hub, others).await?;
        }
        Ok(Exit::Fine)
    })
}

pub(crate) fn upgrade(upgrade: &Upgrade, connection: &Connection) -> Result<Exit, Failure> {
    let place = &upgrade.place;
    let rollout = Rollout::new(&upgrade.values, place, upgrade.timeout)?;
    crate::wait(async {
        let hub = connection.hub().await?;
        match release::state(&hub, &place.system_namespace, RELEASE).await? {
            State::Busy(status) => return Err(busy(place, &status)),
            State::Missing => {
                return Err(Failure::bad_input(
                    format!(
                        "{} has no Helm release {RELEASE} in {}",
                        hub.name, place.system_namespace
                    ),
                    "`spillway install` makes it; name another namespace by --system-namespace.",
                ));
            }
            State::Deployed | State::Failed => {}
        }
        rollout
            .run(connection, &hub, &["--reset-then-reuse-values"])
            .await?;
        if !place.dry_run {
            ready::wait(&hub, &place.system_namespace, upgrade.timeout).await?;
        }
        Ok(Exit::Fine)
    })
}

fn busy(place: &Place, status: &str) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!(
            "the Helm release {RELEASE} is {status}: another Helm is at work, or was interrupted"
        ),
        format!(
            "Wait for it. If nobody is at work: helm rollback {RELEASE} --namespace {}, or `spillway uninstall` where it was never there.",
            place.system_namespace
        ),
    )
}

impl Install {
    /// What would be applied, by Helm or, without it, by what its tests keep.
    fn rendered(&self) -> Result<String, Failure> {
        let namespace = &self.place.system_namespace;
        let space = yaml(&chart::namespace(namespace))?;
        let rest = match Helm::find() {
            Some(helm) => {
                let chart = chart::unpack().map_err(|error| no_folder(&error))?;
                helm.template(chart.path(), namespace, &self.values.arguments())?
            }
            None => self.rendered_without_helm()?,
        };
        Ok(format!("---\n{space}{rest}"))
    }

    fn rendered_without_helm(&self) -> Result<String, Failure> {
        let failed = |why: String| {
            Failure::bad_input(
                format!("there is no helm in the PATH: {why}"),
                "Write --set image.repository=…, --set filter.image=… and, if need be, --set image.digest=… or image.tag=…; or install Helm.",
            )
        };
        if let Some(file) = self.values.files.first() {
            return Err(failed(format!(
                "{} may say more than the images",
                file.display()
            )));
        }
        let images = chart::Images::read(&self.values.set).map_err(failed)?;
        let objects = chart::rendered(&self.place.system_namespace, &images)
            .map_err(|error| failed(error.to_string()))?;
        let mut text = String::new();
        for definition in chart::definitions() {
            text += &format!("---\n{definition}");
        }
        for object in objects {
            text += &format!("---\n{}", yaml(&object)?);
        }
        Ok(text)
    }
}

fn yaml(object: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(object).map_err(|error| broken(&error))
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::bad_input(error, "This is a mistake of Spillway's: report it.")
}

fn no_folder(error: &std::io::Error) -> Failure {
    Failure::bad_input(
        format!("the chart cannot be laid down for Helm: {error}"),
        "Let TMPDIR name a folder that can be written to.",
    )
}
