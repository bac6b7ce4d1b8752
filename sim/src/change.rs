//! What changes on the way: endpoints come and go, by hand or by an autoscaler; limits change.

use spillway_core::rate::SECOND;

use crate::endpoint::Phase;
use crate::events::Event;
use crate::random::{nanos, seconds};
use crate::run::{Run, number};
use crate::scenario::{Change, Scheme};

/// The period of an autoscaler (`--horizontal-pod-autoscaler-sync-period`), ns.
pub(crate) const AUTOSCALE: u64 = 15 * SECOND;
/// It leaves things as they are within this of its target (`…-tolerance`).
const TOLERANCE: f64 = 0.1;
/// It goes down to the most that it wanted within this time (`…-downscale-stabilization`), ns.
const STABLE: u64 = 300 * SECOND;
/// It adds as many as there are, or this many, in a period (the default `scaleUp` policies).
const ADDED_AT_ONCE: usize = 4;

impl Run {
    /// One of the scenario's changes.
    pub(crate) fn change(&mut self, at: u32) -> Option<()> {
        let (_, change) = *self.scenario.changes.get(at as usize)?;
        match change {
            Change::Endpoints(cluster, wanted) => self.scale(cluster, wanted, 0)?,
            Change::Kill(cluster, nth) => {
                let endpoint = *self.sites.get(cluster)?.ready.get(nth)?;
                self.take_out(endpoint, Phase::Dead)?;
            }
            Change::Slow(cluster, nth, factor) => {
                let endpoint = *self.sites.get(cluster)?.ready.get(nth)?;
                self.endpoints.get_mut(endpoint as usize)?.slow = factor;
            }
            Change::Lie(cluster, nth, claim) => {
                let endpoint = *self.sites.get(cluster)?.ready.get(nth)?;
                self.endpoints.get_mut(endpoint as usize)?.lies = Some(claim);
            }
            Change::SlowAll(cluster, factor) => {
                for endpoint in &mut self.endpoints {
                    if endpoint.cluster == cluster {
                        endpoint.slow = factor;
                    }
                }
            }
            Change::Failing(cluster, failing) => self.sites.get_mut(cluster)?.failing = failing,
            Change::Limit(cluster, limit) => {
                self.scenario.clusters.get_mut(cluster)?.limit = limit;
                self.notice(cluster);
            }
            Change::Restart(group) => self.restart(group),
            Change::Deaf(share) => self.scenario.network.deaf = share,
        }
        Some(())
    }

    /// Brings a cluster to a number of endpoints; new ones are ready after `wait`.
    fn scale(&mut self, cluster: usize, wanted: usize, wait: u64) -> Option<()> {
        let starting =
            |e: &&crate::endpoint::Endpoint| e.cluster == cluster && e.phase == Phase::Starting;
        let there = self.sites.get(cluster)?.ready.len();
        let coming = self.endpoints.iter().filter(starting).count();
        for _ in there + coming..wanted {
            self.add_endpoint(cluster, wait);
        }
        for _ in wanted..there {
            let endpoint = *self.sites.get(cluster)?.ready.last()?;
            self.take_out(endpoint, Phase::Leaving)?;
        }
        self.after(nanos(self.scenario.notice), Event::Notice(number(cluster)));
        Some(())
    }

    fn take_out(&mut self, at: u32, phase: Phase) -> Option<()> {
        let endpoint = self.endpoints.get_mut(at as usize)?;
        endpoint.phase = phase;
        let cluster = endpoint.cluster;
        let site = self.sites.get_mut(cluster)?;
        site.ready.retain(|other| *other != at);
        if phase == Phase::Leaving {
            // It goes on serving until the callers know.
            endpoint.phase = Phase::Ready;
        }
        self.after(nanos(self.scenario.notice), Event::Notice(number(cluster)));
        Some(())
    }

    /// An endpoint is ready.
    pub(crate) fn ready(&mut self, at: u32) -> Option<()> {
        let endpoint = self.endpoints.get_mut(at as usize)?;
        endpoint.phase = Phase::Ready;
        let cluster = endpoint.cluster;
        self.sites.get_mut(cluster)?.ready.push(at);
        self.start_ticks(at);
        self.after(nanos(self.scenario.notice), Event::Notice(number(cluster)));
        Some(())
    }

    /// The sidecars learn which endpoints a cluster has, and what each of them serves.
    pub(crate) fn notice(&mut self, at: usize) {
        let Some(site) = self.sites.get_mut(at) else {
            return;
        };
        site.known.clone_from(&site.ready);
        let gates = self.scenario.scheme == Scheme::Spillway;
        let limit = self
            .scenario
            .clusters
            .get(at)
            .and_then(|cluster| cluster.limit);
        let limit = limit.filter(|_| gates);
        site.capacity = limit.map(|limit| limit.capacity(site.known.len()));
        for process in &mut self.processes {
            let sees = self
                .scenario
                .callers
                .get(process.group)
                .and_then(|c| c.sees);
            process.look(at, &site.known, sees);
        }
    }

    /// A cluster's autoscaler looks: the number at which its endpoints are as busy as they should
    /// be.
    pub(crate) fn autoscale(&mut self, at: usize) -> Option<()> {
        let cluster = self.scenario.clusters.get(at)?;
        let autoscaler = cluster.autoscaler?;
        let places = cluster.service.places.unwrap_or(1) as f64;
        let now = self.now;
        let ready = self.sites.get(at)?.ready.clone();
        let mut work = 0;
        for endpoint in &ready {
            work += self.endpoints.get_mut(*endpoint as usize)?.take_work(now);
        }
        let there = ready.len();
        let busy = seconds(work) / seconds(AUTOSCALE) / places / there.max(1) as f64;
        let ratio = busy / autoscaler.target;
        let mut wanted = if (ratio - 1.0).abs() <= TOLERANCE {
            there
        } else {
            (there as f64 * ratio).ceil() as usize
        };
        wanted = wanted.min((there * 2).max(there + ADDED_AT_ONCE));
        wanted = wanted.clamp(autoscaler.least, autoscaler.most);
        let site = self.sites.get_mut(at)?;
        site.wanted.retain(|(when, _)| now - when <= STABLE);
        site.wanted.push((now, wanted));
        if wanted < there {
            wanted = site.wanted.iter().map(|(_, n)| *n).max()?.min(there);
        }
        if wanted != there {
            self.scale(at, wanted, nanos(autoscaler.start))?;
        }
        self.again(AUTOSCALE, Event::Autoscale(number(at)));
        Some(())
    }
}
