//! How patient the engine is.

use std::time::Duration;

use super::backoff::Backoff;

/// The engine's settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the controller, on the hub and in every member.
    pub system_namespace: String,
    /// Whether kubeconfigs may name programs.
    pub allow_exec: bool,
    /// For each call to an API server.
    pub deadline: Duration,
    /// A cluster's plugins are written at most once in this time: an Envoy that gets new
    /// configurations faster than it ends old connections grows.
    pub push_interval: Duration,
    /// Clusters are told within this time, each at another moment, that the filter's image can be
    /// had again: what lacks it in all of them asks one registry.
    pub spread: Duration,
    /// Between the stages of a change, for the proxies to follow. istiod gathers changes for
    /// 100 ms and needs as long again to hand them out.
    pub settle: Duration,
    /// A change that nothing follows within this time is planned …
    pub alone: Duration,
    /// … where more follow, the plan waits until nothing has changed for so long …
    pub quiet: Duration,
    /// … but no longer than this after the first change.
    pub gather: Duration,
    /// Changes of endpoints alone make a plan at most once in this time.
    pub endpoints: Duration,
    /// A user's object that is put back three times within this time is left alone.
    pub reverts: Duration,
    /// After failures.
    pub backoff: Backoff,
    /// Between every cluster having the mesh's tokens and the next step of their rotation: nothing
    /// tells when the last sidecar follows, and a rotation is never urgent.
    pub rotation_pause: Duration,
    /// A policy that is deleted waits so long for clusters that are away. These are cleaned when
    /// they are back.
    pub abandon_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            system_namespace: "spillway-system".to_owned(),
            allow_exec: false,
            deadline: Duration::from_secs(10),
            push_interval: Duration::from_secs(1),
            spread: Duration::from_secs(3),
            settle: Duration::from_millis(500),
            alone: Duration::from_millis(30),
            quiet: Duration::from_millis(100),
            gather: Duration::from_secs(1),
            endpoints: Duration::from_secs(2),
            reverts: Duration::from_secs(600),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            rotation_pause: Duration::from_secs(30),
            abandon_after: Duration::from_secs(60),
        }
    }
}
