//! Names of what is written. All of them fit Kubernetes' and Istio's limits whatever the inputs,
//! and do not change as long as the service's name does not.

use sha2::{Digest, Sha256};

/// What all of our names begin with.
pub const PREFIX: &str = "spillway-";
/// The subset and route of home.
pub const HOME: &str = "spillway-home";
/// The plugin of the callers' side, and its root id.
pub const CLIENT: &str = "spillway-client";
/// The plugin of the servers' side, and its root id.
pub const SERVER: &str = "spillway-server";
/// The longest cluster name that leaves room for [`PREFIX`] in a subset's name.
pub const MAX_RUNG: usize = 63 - PREFIX.len();

/// The name of a service's DestinationRule and VirtualService.
#[must_use]
pub fn routes(service: &str) -> String {
    format!("{PREFIX}{service}")
}

/// The subset and route of a rung. Istio takes DNS labels only, and `home` is taken.
///
/// # Errors
/// A sentence that says what to change.
pub fn rung(cluster: &str) -> Result<String, &'static str> {
    if cluster == "home" {
        return Err("is named home, as the subset of home is: a rung needs another name");
    }
    if cluster.len() > MAX_RUNG || !is_dns_label(cluster) {
        return Err(
            "has a name that no subset can have: a rung's name in Istio is 1 to 54 of a-z 0-9 - that begin and end with a letter or digit",
        );
    }
    Ok(format!("{PREFIX}{cluster}"))
}

/// The name of a MeshCluster for a cluster that Istio knows: the same where Kubernetes takes it.
#[must_use]
pub fn cluster(istio: &str) -> String {
    if is_dns_label(istio) {
        istio.to_owned()
    } else {
        hashed_cluster(istio)
    }
}

/// Another name for it: as much of the same as there is room for, and a hash.
#[must_use]
pub fn hashed_cluster(istio: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let readable: String = istio.chars().map(plain).take(52).collect();
    let readable = readable.trim_matches('-').to_ascii_lowercase();
    let hash: String = hash(istio.as_bytes()).chars().take(10).collect();
    let name = format!("{readable}-{hash}");
    name.trim_start_matches('-').to_owned()
}

fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| inner(b) || b == b'-')
        && name.bytes().next().is_some_and(inner)
        && name.bytes().last().is_some_and(inner)
}

/// The id that a policy has in the header between sidecars: the service's name as far as there is
/// room, and a hash, since two namespaces may have services of one name.
#[must_use]
pub fn policy_id(namespace: &str, policy: &str, service: &str, section: Option<&str>) -> String {
    let whole = [namespace, policy, service, section.unwrap_or_default()].join("/");
    let readable: String = service
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
        .take(21)
        .collect();
    let hash: String = hash(whole.as_bytes()).chars().take(10).collect();
    format!("{readable}-{hash}")
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The name that Istio knows a service by.
#[must_use]
pub fn host(namespace: &str, service: &str, domain: &str) -> String {
    format!("{service}.{namespace}.svc.{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_any_name_in_istio_has_one_in_kubernetes() {
        assert_eq!(cluster("burst-1"), "burst-1");
        for istio in ["Burst_1", "burst.1", "-", "___", "ä", &"B".repeat(253)] {
            let name = cluster(istio);
            assert!(is_dns_label(&name), "{istio}: {name}");
            assert_ne!(name, cluster(&format!("{istio}_")));
        }
        assert!(cluster("Burst_1").starts_with("burst-1-"));
        assert!(is_dns_label(&hashed_cluster("burst-1")));
    }
}
