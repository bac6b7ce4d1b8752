//! How policies, clusters and fleets are, as the controller reports it, and what sidecars do.

mod shown;
mod text;
mod watch;

use clap::Args;
use kube::Api;
use kube::api::ListParams;
use spillway_api::{BurstPolicy, Fleet, MeshCluster};

use self::shown::Shown;
use self::watch::{Condition, Seen};
use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::output::{self, Listing};
use crate::policies::{missing, named};
use crate::progress::Progress;
use crate::rates::{self, Rates};

/// Show how policies, clusters and fleets are
///
/// Shows what the controller reports on the hub: which policies are in force in which clusters, and
/// why they are not. Shows besides how many requests each policy decides about, how many of them
/// stay home and why the others do not: from Prometheus where there is one, else from the sidecars;
/// and of these the ones without the filter, or with an older configuration. Clusters that do not
/// answer in time are named. Ends with 1 where something is not as it should be.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # All of it
  spillway status

  # One policy, for a program
  spillway status default/worker -o json

  # Wait until all policies are in force everywhere
  spillway status --until Programmed --timeout 60 --no-rates")]
pub(crate) struct Status {
    /// One policy: NAME, or NAMESPACE/NAME. Without it all of the hub, or of --namespace
    policy: Option<String>,

    /// Show it again whenever it changes: in place on a terminal, else a line for each change, or a document where -o names a form
    #[arg(short, long)]
    watch: bool,

    /// Watch until all that has this condition has it with this status, which is True where none
    /// is named, and end with 0
    #[arg(long, value_name = "TYPE[=STATUS]")]
    until: Option<Condition>,

    /// Stop watching after so many seconds, and end with 124
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,

    /// A Prometheus that scrapes the sidecars of all clusters, instead of that of each cluster
    #[arg(long, value_name = "URL", env = "SPILLWAY_PROMETHEUS")]
    prometheus: Option<String>,

    /// Ask the hub only
    #[arg(long, conflicts_with = "prometheus")]
    no_rates: bool,

    /// The form of what is shown
    #[arg(short, long, value_enum, default_value_t)]
    output: Listing,
}

pub(crate) fn run(status: &Status, connection: &Connection) -> Result<Exit, Failure> {
    let seen = crate::wait(async {
        if status.watch || status.until.is_some() || status.timeout.is_some() {
            return watch::run(status, connection).await;
        }
        let hub = connection.hub().await?;
        let _progress = Progress::new(format!("{} and its clusters tell", hub.name));
        Ok(Seen {
            shown: status.look(connection, &hub).await?,
            is_told: false,
            is_met: false,
        })
    })?;
    if !seen.is_told {
        let is_wide = status.output == Listing::Wide;
        output::tell(status.output.into(), &seen.shown, |it| {
            text::tree(it, is_wide)
        })?;
    }
    Ok(if seen.is_met || seen.shown.is_fine() {
        Exit::Fine
    } else {
        Exit::Findings
    })
}

impl Status {
    async fn look(&self, connection: &Connection, hub: &Cluster) -> Result<Shown, Failure> {
        let client = || hub.client.clone();
        let clusters: Api<MeshCluster> = Api::all(client());
        let (policies, clusters, fleets) = if let Some(policy) = &self.policy {
            let (namespace, name) = named(policy, connection, hub);
            let policies: Api<BurstPolicy> = Api::namespaced(client(), &namespace);
            let doing = format!("the policy {namespace}/{name} cannot be read");
            let found = policies.get(&name).await;
            let found = found.map_err(|error| missing(hub, &doing, &error))?;
            let clusters = if self.no_rates || self.prometheus.is_some() {
                Vec::new()
            } else {
                list(hub, &clusters).await?
            };
            (vec![found], clusters, Vec::new())
        } else {
            let policies = match &connection.namespace {
                Some(namespace) => Api::namespaced(client(), namespace),
                None => Api::all(client()),
            };
            (
                list(hub, &policies).await?,
                list(hub, &clusters).await?,
                list::<Fleet>(hub, &Api::all(client())).await?,
            )
        };
        let rates = if self.no_rates {
            Rates::default()
        } else {
            let url = self.prometheus.as_deref();
            let found = rates::find(connection, hub, url, &policies, &clusters).await;
            found.map_err(|why| {
                Failure::new(
                    Exit::Unreachable,
                    format!("{}: {why}", url.unwrap_or_default()),
                    "Name the address of a Prometheus by --prometheus, or ask the hub only by --no-rates.",
                )
            })?
        };
        let clusters = if self.policy.is_some() {
            &[]
        } else {
            &clusters[..]
        };
        Ok(Shown::new(&policies, clusters, &fleets, rates))
    }
}

/// All of a kind.
pub(crate) async fn list<T>(hub: &Cluster, of: &Api<T>) -> Result<Vec<T>, Failure>
where
    T: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let found = of.list(&ListParams::default()).await;
    let found = found.map_err(|error| hub.failed("its resources cannot be read", &error))?;
    Ok(found.items)
}
