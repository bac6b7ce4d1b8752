//! The burst workshop's watcher, on a real Prometheus and real routes: each second it asks for the
//! rate of the last 15 s, sends all requests to the burst cluster when it is above one limit, and
//! all back when it is below another.
//!
//! In its favour, a new route is in the Envoys within milliseconds: there is no API server and no
//! istiod between. When it is started anew it believes, as the workshop's does, that all is home.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Result;
use spillway_e2e::mesh::Mesh;
use spillway_e2e::sidecar::Sidecar;
use spillway_e2e::topology::Service;
use spillway_sim::watcher::LOOK;
use tokio::time::MissedTickBehavior;

use crate::demand::{Demand, LIMIT};
use crate::prometheus::Prometheus;

/// All come back below so many requests a second.
const LEAVE: f64 = 10.0;

/// Its rule.
#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    switched: bool,
}

impl Rule {
    /// What it switches to at this rate, if it does.
    fn look(&mut self, rate: f64) -> Option<bool> {
        let switched = match self.switched {
            false => rate > LIMIT,
            true => rate >= LEAVE,
        };
        (std::mem::replace(&mut self.switched, switched) != switched).then_some(switched)
    }
}

/// Prometheus and watcher, killed and started anew as the load says; ends with an error only.
pub(crate) async fn decide(mesh: &mut Mesh, demand: &Demand, started: Instant) -> Result<()> {
    let at =
        |seconds: f64| tokio::time::Instant::from_std(started + Duration::from_secs_f64(seconds));
    for (from, to) in demand.away {
        // The time is up: both are dropped, and Prometheus is killed with that.
        if let Ok(ended) = tokio::time::timeout_at(at(*from), watch(mesh)).await {
            return ended;
        }
        if to.is_infinite() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(at(*to)).await;
    }
    watch(mesh).await
}

async fn watch(mesh: &mut Mesh) -> Result<()> {
    let callers: Vec<Ipv4Addr> = mesh.callers().iter().map(Sidecar::address).collect();
    let prometheus = Prometheus::start(&callers).await?;
    let host = Service::worker().host;
    let mut rule = Rule::default();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(LOOK));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(rate) = prometheus.rate().await? else {
            continue;
        };
        if let Some(switched) = rule.look(rate) {
            let subset = if switched {
                "spillway-burst"
            } else {
                "spillway-home"
            };
            mesh.change_service(&host, |service| {
                service.split = vec![(subset.to_owned(), 100)]
            })
            .await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_where_it_is_between_the_limits() {
        let mut rule = Rule::default();
        let rates = [12.0, 15.0, 15.1, 20.0, 12.0, 10.0, 9.9, 12.0];
        let looks = rates.map(|rate| rule.look(rate));
        let wanted = [None, None, Some(true), None, None, None, Some(false), None];
        assert_eq!(looks, wanted);
    }
}
