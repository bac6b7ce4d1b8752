//! The configuration of a plugin, in the filter's own wire form.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use spillway_api::burst_policy::Scope;
use spillway_core::config::wire;
use spillway_core::table::Table;

use super::Place;
use crate::endpoints;
use crate::model::{Target, Workload};
use crate::validate::services::{self, Standing};
use crate::world::Site;

/// A policy as the filter reads it, for the clusters of one control plane.
pub(super) fn policy(place: &Place<'_, '_>, target: &Target, bounce: bool) -> wire::Policy {
    let terms = &target.terms;
    let Workload { labels, ports } = workload(place, target);
    wire::Policy {
        id: target.id.clone(),
        name: format!("{}/{}", target.namespace, target.service),
        destinations: vec![wire::Destination {
            host: target.host.clone(),
            ports: target.ports.clone(),
        }],
        workload: Some(wire::Workload {
            labels: labels.into_iter().collect(),
            ports,
        }),
        home: target.home.clone(),
        overflow: target
            .rungs
            .iter()
            .map(|rung| wire::Overflow {
                cluster: rung.cluster.clone(),
                max_rate: rung.max_rate,
            })
            .collect(),
        mode: terms.mode,
        switch: terms.switch.map(|switch| wire::SwitchLimits {
            enter: switch.enter,
            leave: switch.leave,
            endpoints: match switch.scope {
                Scope::Caller => Table::default(),
                Scope::Service => at_home(place, target),
            },
        }),
        capacity: place
            .world
            .served(place.site.name)
            .filter_map(|site| {
                let limit = target.limit(site.istio)?;
                let row = limit.row(endpoints::count(place.site, site, target));
                Some((site.istio.to_owned(), row))
            })
            .collect(),
        bounce: if bounce {
            wire::Bounce::On
        } else {
            wire::Bounce::Off
        },
        bodies: terms.bodies,
        routes: terms.routes.clone(),
        enforcement: terms.enforcement,
        override_: terms.override_,
        on_exhausted: terms.on_exhausted,
    }
}

/// How many endpoints a target has at home: where callers' requests are counted.
fn at_home(place: &Place<'_, '_>, target: &Target) -> Table<NonZeroU32> {
    let row = |site: &Site<'_>| {
        let count = endpoints::count(place.site, site, target);
        (site.istio.to_owned(), count)
    };
    match &target.home {
        Some(home) => place.world.by_istio(home).map(row).into_iter().collect(),
        None => place.world.served(place.site.name).map(row).collect(),
    }
}

/// The pods that serve a target, as a cluster of this control plane has them.
pub(super) fn workload(place: &Place<'_, '_>, target: &Target) -> Workload {
    place
        .world
        .served(place.site.name)
        .find_map(|site| {
            match services::standing(place.world, site, &target.namespace, &target.service) {
                Standing::Fit(service) => Some(services::workload(
                    site,
                    &target.namespace,
                    service,
                    &target.ports,
                )),
                _ => None,
            }
        })
        .unwrap_or_else(|| target.workload.clone())
}

/// Whether a target may have pods in a cluster of this control plane.
pub(super) fn may_be_served(place: &Place<'_, '_>, target: &Target) -> bool {
    place.world.served(place.site.name).any(|site| {
        match services::standing(place.world, site, &target.namespace, &target.service) {
            Standing::Fit(_) => true,
            Standing::Unseen => {
                target.home.as_deref() == Some(site.istio)
                    || target.rungs.iter().any(|rung| rung.cluster == site.istio)
            }
            Standing::Absent | Standing::Unfit(_) => false,
        }
    })
}

/// The clusters that policies, or proxies of this control plane, speak of.
pub(super) fn clusters(place: &Place<'_, '_>, policies: &[wire::Policy]) -> BTreeSet<String> {
    let served = place.world.served(place.site.name);
    let served = served.map(|site| site.istio.to_owned());
    let spoken_of = policies.iter().flat_map(|policy| {
        let rungs = policy.overflow.iter().map(|rung| rung.cluster.clone());
        policy.home.iter().cloned().chain(rungs)
    });
    served.chain(spoken_of).collect()
}

/// The document around policies.
pub(super) fn around(
    place: &Place<'_, '_>,
    side: wire::Side,
    policies: Vec<wire::Policy>,
) -> wire::Document {
    let mesh = place.world.mesh;
    let row = |site: &Site<'_>| {
        let row = wire::Cluster {
            prefix: site.prefix.to_owned(),
        };
        (site.istio.to_owned(), row)
    };
    wire::Document {
        version: wire::VERSION,
        generation: 0,
        side,
        tokens: mesh.tokens.iter().map(str::to_owned).collect(),
        prefix_header: mesh.prefix_header.name().to_owned(),
        clusters: clusters(place, &policies)
            .iter()
            .filter_map(|name| place.world.by_istio(name))
            .map(row)
            .collect(),
        policies,
    }
}
