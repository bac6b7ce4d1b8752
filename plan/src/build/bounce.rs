//! Whether a full service may turn requests away, in one control plane.
//!
//! Envoy repeats a bounced request in the next priority, which is any other cluster with
//! endpoints. Where that could be one that the policy does not name, or where the user's own
//! retries would let the 429 through or change their meaning, bounces are off and the echo alone
//! holds the limit, unless the policy says otherwise.

use spillway_api::burst_policy::{Bounce, Routing, UserRetries};

use super::Place;
use crate::conditions::{Type, some};
use crate::endpoints::{Presence, Strays, strays};
use crate::model::Target;
use crate::user::{self, destination_rule, virtual_service};
use crate::validate::Ledger;

pub(super) fn decide<'a>(
    place: &Place<'_, 'a>,
    target: &Target,
    presence: &Presence<'a>,
    ledger: &mut Ledger,
) -> bool {
    if target.terms.bounce == Bounce::Off {
        return false;
    }
    let plane = place.site.name;
    let mut why = Vec::new();
    if target.terms.bounce == Bounce::On {
        match strays(place.world, place.site, target, presence) {
            Strays::None => {}
            Strays::Some(clusters) => why.push((
                "OtherClusters",
                format!(
                    "in {plane}: {} has ready endpoints in {}, where a request must not end up: name it in overflow, or write bounce: AnyCluster",
                    target.host,
                    some(clusters)
                ),
            )),
            Strays::Unseen(clusters) => why.push((
                "ClustersUnseen",
                format!(
                    "in {plane}: whether {} has endpoints in {} is not known yet",
                    target.host,
                    some(clusters)
                ),
            )),
        }
    }
    if target.acts() && place.has_clients(target) {
        why.extend(retries(place, target));
    }
    let off = !why.is_empty();
    for (reason, message) in why {
        ledger.note(&target.policy, Type::BounceDisabled, reason, message);
    }
    !off
}

/// The user's own retries that bounces would meet.
fn retries(place: &Place<'_, '_>, target: &Target) -> Vec<(&'static str, String)> {
    let replace = target.terms.user_retries == UserRetries::Replace;
    let plane = place.site.name;
    let mesh = place.world.mesh;
    let mut why = Vec::new();
    let inherited =
        destination_rule::inherited(place.observed, target, &mesh.root_namespace, &mesh.domain);
    if let Some(rule) = inherited.retry_limit(&target.ports, replace) {
        why.push((
            "RetryBudget",
            format!(
                "in {plane}: the DestinationRule {rule} limits retries, so that callers would see what is turned away: take maxRetries or retryBudget out, or write userRetries: Replace for maxRetries"
            ),
        ));
    }
    if replace || target.terms.routing == Routing::Own {
        return why;
    }
    let clients = target.clients.get(plane).cloned().unwrap_or_default();
    for found in virtual_service::about(place.observed, &target.host, &clients, &mesh.domain) {
        let namespace = user::identity(found.value).0;
        for (i, route) in virtual_service::routes(found.value).enumerate() {
            let whole = virtual_service::leading(route, namespace, &target.host, &mesh.domain)
                == virtual_service::Leading::Whole;
            if whole && virtual_service::has_own_retries(route) {
                why.push((
                    "UserRetries",
                    format!(
                        "in {plane}: route {i} of the VirtualService {} has retries of its own: take them out, or write userRetries: Replace",
                        user::name(found.value)
                    ),
                ));
            }
        }
    }
    why
}
