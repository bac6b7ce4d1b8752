//! Another token in the place of one, while both count.
//!
//! Two kinds of token keep a mesh together, and neither may stop anything when it is replaced:
//! - [`route`]: what requests carry that leave their home. The controller replaces it in three
//!   steps; here it is asked to, followed, and hurried where [`proxies`] can be seen.
//! - [`cluster`]: what the controller writes into a cluster with. The cluster makes a second one,
//!   the hub gets it, and the first goes when the second is used.
//!
//! Who is interrupted runs the same command anew.

mod cluster;
mod proxies;
mod route;

use clap::Args;

use crate::attach::Place;
use crate::connection::Connection;
use crate::exit::{Exit, Failure};

/// Replace the mesh's token, or a cluster's
///
/// Without a cluster it replaces the token that requests carry when they leave their home, in three
/// steps, each when every proxy acts by the one before; where proxies cannot be asked, half a minute
/// after every cluster has it. With a cluster it replaces the token of the controller's account
/// there. No request fails meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # What would be done
  spillway rotate --dry-run

  # The token of the controller's account in the cluster of the context burst
  spillway rotate burst")]
pub(crate) struct Rotate {
    /// The context of a cluster in the kubeconfig
    cluster: Option<String>,

    /// The name of its MeshCluster, where it is not the context's
    #[arg(long, requires = "cluster")]
    name: Option<String>,

    /// How long is waited at most until the cluster says that its new token is used, before the old
    /// one goes: longer than the controller's callTimeout
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    pause: u64,

    #[command(flatten)]
    place: Place,

    /// Give up waiting after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

pub(crate) fn run(rotate: &Rotate, connection: &Connection) -> Result<Exit, Failure> {
    crate::wait(async {
        let hub = connection.hub().await?;
        match &rotate.cluster {
            None => route::run(rotate, connection, &hub).await,
            Some(context) => {
                let member = connection.cluster(Some(context)).await?;
                let name = rotate.name.as_ref().unwrap_or(context);
                cluster::run(rotate, &hub, &member, name).await
            }
        }
    })
}
