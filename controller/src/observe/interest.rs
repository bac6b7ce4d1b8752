//! The namespaces that matter: those of the policies, whose services overflow, and those of the
//! callers. Nothing is watched in any other, so that the account needs rights in these only and the
//! memory does not grow with what else a cluster holds.

use std::collections::BTreeSet;

use spillway_api::BurstPolicy;

/// The namespaces of the targets and callers of these policies.
#[must_use]
pub fn namespaces<'a>(policies: impl IntoIterator<Item = &'a BurstPolicy>) -> BTreeSet<String> {
    let mut namespaces = BTreeSet::new();
    for policy in policies {
        namespaces.extend(policy.metadata.namespace.clone());
        let clients = policy.spec.clients.as_ref();
        namespaces.extend(
            clients
                .into_iter()
                .flat_map(|clients| clients.namespaces.clone()),
        );
    }
    namespaces
}
