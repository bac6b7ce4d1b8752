//! A cluster: its endpoints, what they serve and may serve, and how others reach it.

use core::num::NonZeroU32;

use spillway_core::rate::{Capacity, DELIVERY, Rate, RateLimit, Unit};

/// A cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How many endpoints it has.
    pub endpoints: usize,
    /// What the policy says that it serves; `None`: it has no gate.
    pub limit: Option<Limit>,
    /// What it takes to serve a request.
    pub service: Service,
    /// Callers of other clusters reach it through a gateway.
    pub gateway: Option<Gateway>,
    /// Who changes the number of its endpoints.
    pub autoscaler: Option<Autoscaler>,
}

impl Cluster {
    /// Endpoints that answer after 10 ms, however many requests there are, within a limit.
    #[must_use]
    pub fn new(endpoints: usize, limit: Option<Limit>) -> Self {
        Self {
            endpoints,
            limit,
            service: Service {
                takes: Takes::Fixed(0.01),
                places: None,
            },
            gateway: None,
            autoscaler: None,
        }
    }
}

/// A capacity as a policy writes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The amounts are those of each endpoint; otherwise of all together.
    pub each: bool,
    /// Requests in a time.
    pub rate: Option<Rate>,
    /// Requests in flight.
    pub concurrency: Option<NonZeroU32>,
    /// The burst tolerance B of an endpoint, requests; otherwise the one that ships.
    pub tolerance: Option<f64>,
}

impl Limit {
    /// So many requests a second by all endpoints together.
    #[must_use]
    pub fn total(per_second: u32) -> Self {
        Self {
            each: false,
            rate: Rate::new(per_second, Unit::Second),
            concurrency: None,
            tolerance: None,
        }
    }

    /// So many requests at once at each endpoint.
    #[must_use]
    pub fn at_once(requests: u32) -> Self {
        Self {
            each: true,
            rate: None,
            concurrency: NonZeroU32::new(requests),
            tolerance: None,
        }
    }

    /// The capacity of one of so many endpoints.
    #[must_use]
    pub fn capacity(&self, endpoints: usize) -> Capacity {
        let m = u32::try_from(endpoints).ok().and_then(NonZeroU32::new);
        let m = m.unwrap_or(NonZeroU32::MIN);
        let capacity = if self.each {
            Capacity::of_each(self.rate, self.concurrency, m)
        } else {
            Capacity::of_total(self.rate, self.concurrency, m)
        };
        match (self.tolerance, capacity.rate) {
            (Some(tolerance), Some(rate)) => Capacity {
                rate: Some(tolerant(rate.interval, tolerance)),
                ..capacity
            },
            _ => capacity,
        }
    }

    /// What all endpoints serve together, requests a second.
    #[must_use]
    pub fn per_second(&self, endpoints: usize) -> Option<f64> {
        let rate = self.rate?.per_second_milli() as f64 / 1_000.0;
        Some(if self.each {
            rate * endpoints as f64
        } else {
            rate
        })
    }
}

/// A limit with another tolerance B (requests) than the one that ships.
#[must_use]
pub fn tolerant(interval: u64, tolerance: f64) -> RateLimit {
    let limit = (interval as f64 * (tolerance - 1.0)) as u64;
    RateLimit {
        interval,
        limit: limit.saturating_sub(DELIVERY),
    }
}

/// What it takes to serve a request.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// How long.
    pub takes: Takes,
    /// How many an endpoint serves at once, the others wait; `None`: any number.
    pub places: Option<usize>,
}

/// How long a request is served, seconds.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// Each the same.
    Fixed(f64),
    /// Exponentially distributed with this mean.
    Exponential(f64),
}

/// An east–west gateway: callers see one host, and each of their connections stays with the pod
/// that the gateway chose for it.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    /// Connections that a caller's thread keeps to it.
    pub connections: usize,
    /// A bounce ends its connection, and the next one may lead to another pod.
    pub reconnects: bool,
}

/// A horizontal pod autoscaler on the processor, with Kubernetes' defaults for what is not here.
#[derive(Clone, Copy, Debug)]
pub struct Autoscaler {
    /// The share of an endpoint's places that should be busy.
    pub target: f64,
    /// How few endpoints.
    pub least: usize,
    /// How many endpoints.
    pub most: usize,
    /// Seconds until a new endpoint is ready.
    pub start: f64,
}
