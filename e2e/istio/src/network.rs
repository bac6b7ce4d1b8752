//! The node's network: one bridge, to which every pod is tied.
//!
//! Pods of the n-th cluster have addresses of 10.200.n.0/24. What runs on the node itself (istiods,
//! the registry), and the outer addresses of gateways, are of 10.200.0.0/24, which every pod
//! reaches. Pods reach the pods of their own network, which are all of them unless clusters are told
//! to lie on others (`topology.istio.io/network`): then there is no route, as between two sites. API
//! servers stand at loopback addresses, which no pod can reach.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use crate::sandbox::succeed;

const BRIDGE: &str = "pods";
/// A bridge without a hardware address of its own takes the least of those that are tied to it,
/// and pods that knew another one would not find the node any more.
const HARDWARE: &str = "02:00:00:00:00:01";

/// The node's own address.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

/// The bridge, and which addresses are taken.
#[derive(Debug, Default)]
pub struct Network {
    links: u32,
    pods: Vec<u8>,
}

impl Network {
    /// Makes the bridge.
    ///
    /// # Errors
    /// When this is no sandbox: see [`crate::sandbox::run`].
    pub fn start() -> Result<Self> {
        let bridge = ["link", "add", BRIDGE, "address", HARDWARE, "type", "bridge"];
        succeed("ip", &bridge)?;
        add_address(NODE)?;
        succeed("ip", &["link", "set", BRIDGE, "up"])?;
        Ok(Self::default())
    }

    /// The node's address for the control plane of the n-th cluster, counted from 1.
    #[must_use]
    pub fn control_plane(cluster: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 200, 0, 10 + cluster)
    }

    /// Gives the node that address.
    ///
    /// # Errors
    /// When it is taken.
    pub fn add_control_plane(&self, cluster: u8) -> Result<()> {
        add_address(Self::control_plane(cluster))
    }

    /// The next address for a pod of the n-th cluster, counted from 1.
    ///
    /// # Errors
    /// When a cluster has more than 250 pods.
    pub(crate) fn pod_address(&mut self, cluster: u8) -> Result<Ipv4Addr> {
        let index = usize::from(cluster);
        if self.pods.len() <= index {
            self.pods.resize(index + 1, 0);
        }
        let used = self.pods.get_mut(index).context("it was just made")?;
        *used += 1;
        ensure!(*used <= 250, "a cluster has at most 250 pods");
        Ok(Ipv4Addr::new(10, 200, cluster, *used))
    }

    /// The address at which other networks find a gateway of the n-th cluster, counted from 1.
    #[must_use]
    pub(crate) fn gateway(cluster: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 200, 0, 50 + cluster)
    }

    /// Ties the namespace of a process to the bridge, as its `eth0`.
    pub(crate) fn connect(&mut self, pid: u32) -> Result<()> {
        self.links += 1;
        let (link, pid) = (format!("pod{}", self.links), pid.to_string());
        let pair = ["type", "veth", "peer", "name", "eth0", "netns", &pid];
        succeed("ip", &[&["link", "add", &link][..], &pair].concat())?;
        succeed("ip", &["link", "set", &link, "master", BRIDGE, "up"])
    }
}

fn add_address(address: Ipv4Addr) -> Result<()> {
    let address = format!("{address}/16");
    succeed("ip", &["address", "add", &address, "dev", BRIDGE])
}
