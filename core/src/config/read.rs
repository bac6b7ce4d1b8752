//! Reads the wire form, telling every error with its path.
//!
//! Derived deserialisation stops at the first error, and takes three times the code in the
//! filter. Here a wrong or missing field leaves its default behind and an error in the list, and
//! reading goes on; a document with errors is never used.
//!
//! Nothing here is inlined: a host compiles each function in one piece of memory, and keeps that.

use alloc::format;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::errors::{Errors, Step};
use super::fields::{At, Fields};
use super::json::{self, Json};
use super::{MAX_BYTES, wire};
use crate::table::Table;

/// The field that grows: its items are read as they come.
const POLICIES: &str = "policies";

/// Reads a document. What cannot be read is in `errors`, and the rest as far as it goes.
#[inline(never)]
pub(super) fn document(text: &[u8], errors: &mut Errors) -> wire::Document {
    let mut at = At(Json::Other);
    let mut policies = Vec::new();
    if text.len() > MAX_BYTES {
        errors.add(
            "",
            format!("has {} bytes: write at most {MAX_BYTES}", text.len()),
        );
    } else {
        let mut number = 0;
        let mut each = |value| {
            let read = errors.at(Step::Field(POLICIES), |errors| {
                errors.at(Step::Item(number), |errors| policy(At(value), errors))
            });
            number += 1;
            match read {
                Some(policy) => policies.push(policy),
                None => errors.gaps = true,
            }
        };
        match json::parse(text, POLICIES, &mut each) {
            Ok(value) => at.0 = value,
            Err(e) => {
                *errors = Errors::default();
                errors.add("", format!("is not JSON: {e}"));
            }
        }
    }
    let read = |f: &mut Fields<'_, '_>| wire::Document {
        version: f
            .must("version", |at, e| at.number(1, 1, e))
            .map_or(wire::VERSION, |_| wire::VERSION),
        generation: f.or_default("generation", |at, e| at.number(0, 1 << 53, e)),
        side: f
            .must("side", |at, e| {
                at.one_of(
                    &[
                        ("Client", wire::Side::Client),
                        ("Server", wire::Side::Server),
                    ],
                    e,
                )
            })
            .unwrap_or(wire::Side::Client),
        tokens: f
            .must("tokens", |at, e| at.list(e, At::string))
            .unwrap_or_default(),
        prefix_header: f
            .maybe("prefixHeader", At::string)
            .unwrap_or_else(|| wire::PREFIX_HEADER.into()),
        clusters: f
            .must("clusters", |at, e| at.table(e, cluster))
            .unwrap_or_default(),
        // They have been read, and an empty list is left.
        policies: f
            .must(POLICIES, |at, e| at.list(e, policy))
            .unwrap_or_default(),
    };
    let document = at.object(errors, read).unwrap_or_else(|| wire::Document {
        version: wire::VERSION,
        generation: 0,
        side: wire::Side::Client,
        tokens: Vec::new(),
        prefix_header: wire::PREFIX_HEADER.into(),
        clusters: Table::default(),
        policies: Vec::new(),
    });
    wire::Document {
        policies,
        ..document
    }
}

#[inline(never)]
fn cluster(at: At, errors: &mut Errors) -> Option<wire::Cluster> {
    at.object(errors, |f| wire::Cluster {
        prefix: f.or_default("prefix", At::string),
    })
}

#[inline(never)]
fn policy(at: At, errors: &mut Errors) -> Option<wire::Policy> {
    use wire::{Bodies, Bounce, Enforcement, Mode, OnExhausted};
    at.object(errors, |f| wire::Policy {
        id: f.must("id", At::string).unwrap_or_default(),
        name: f.must("name", At::string).unwrap_or_default(),
        destinations: f.or_default("destinations", |at, e| at.list(e, destination)),
        workload: f.maybe("workload", workload),
        home: f.maybe("home", At::string),
        overflow: f.or_default("overflow", |at, e| at.list(e, overflow)),
        mode: f.or_default("mode", |at, e| {
            at.one_of(&[("Spill", Mode::Spill), ("Switch", Mode::Switch)], e)
        }),
        switch: f.maybe("switch", switch),
        capacity: f.or_default("capacity", |at, e| at.table(e, capacity)),
        bounce: f.or_default("bounce", |at, e| {
            at.one_of(&[("On", Bounce::On), ("Off", Bounce::Off)], e)
        }),
        bodies: f.or_default("bodies", |at, e| {
            at.one_of(
                &[
                    ("Never", Bodies::Never),
                    ("Small", Bodies::Small),
                    ("Buffered", Bodies::Buffered),
                ],
                e,
            )
        }),
        routes: f.or_default("routes", |at, e| at.list(e, route)),
        enforcement: f.or_default("enforcement", |at, e| {
            at.one_of(
                &[
                    ("Active", Enforcement::Active),
                    ("Shadow", Enforcement::Shadow),
                ],
                e,
            )
        }),
        override_: f.maybe("override", override_),
        on_exhausted: f.or_default("onExhausted", |at, e| {
            at.one_of(
                &[("Home", OnExhausted::Home), ("Shed", OnExhausted::Shed)],
                e,
            )
        }),
    })
}

fn port(at: At, errors: &mut Errors) -> Option<u16> {
    at.number(1, u64::from(u16::MAX), errors)
        .and_then(|port| u16::try_from(port).ok())
}

#[inline(never)]
fn destination(at: At, errors: &mut Errors) -> Option<wire::Destination> {
    at.object(errors, |f| wire::Destination {
        host: f.must("host", At::string).unwrap_or_default(),
        ports: f.or_default("ports", |at, e| at.list(e, port)),
    })
}

#[inline(never)]
fn workload(at: At, errors: &mut Errors) -> Option<wire::Workload> {
    at.object(errors, |f| wire::Workload {
        labels: f
            .must("labels", |at, e| at.table(e, At::string))
            .unwrap_or_default(),
        ports: f.or_default("ports", |at, e| at.list(e, port)),
    })
}

#[inline(never)]
fn overflow(at: At, errors: &mut Errors) -> Option<wire::Overflow> {
    at.object(errors, |f| wire::Overflow {
        cluster: f.must("cluster", At::string).unwrap_or_default(),
        max_rate: f.maybe("maxRate", At::rate),
    })
}

#[inline(never)]
fn switch(at: At, errors: &mut Errors) -> Option<wire::SwitchLimits> {
    at.object(errors, |f| {
        let endpoints = f.or_default("endpoints", |at, e| at.table(e, At::count));
        (
            f.must("enter", At::rate),
            f.must("leave", At::rate),
            endpoints,
        )
    })
    .and_then(|(enter, leave, endpoints)| {
        Some(wire::SwitchLimits {
            enter: enter?,
            leave: leave?,
            endpoints,
        })
    })
}

#[inline(never)]
fn capacity(at: At, errors: &mut Errors) -> Option<wire::Capacity> {
    at.object(errors, |f| wire::Capacity {
        per_endpoint: f.maybe("perEndpoint", amount),
        total: f.maybe("total", amount),
        endpoints: f.maybe("endpoints", At::count).unwrap_or(NonZeroU32::MIN),
    })
}

#[inline(never)]
fn amount(at: At, errors: &mut Errors) -> Option<wire::Amount> {
    at.object(errors, |f| wire::Amount {
        rate: f.maybe("rate", At::rate),
        concurrency: f.maybe("concurrency", At::count),
    })
}

#[inline(never)]
fn route(at: At, errors: &mut Errors) -> Option<wire::Route> {
    at.object(errors, |f| wire::Route {
        path_prefix: f.must("pathPrefix", At::string).unwrap_or_default(),
        class: f
            .must("class", |at, e| {
                at.one_of(&[("Never", wire::Class::Never)], e)
            })
            .unwrap_or(wire::Class::Never),
    })
}

#[inline(never)]
fn override_(at: At, errors: &mut Errors) -> Option<wire::Override> {
    let names = [
        ("Home", wire::Force::Home),
        ("Overflow", wire::Force::Overflow),
    ];
    at.object(errors, |f| {
        let until = f.must("untilUnixSeconds", |at, e| at.number(1, 1 << 53, e));
        (f.must("force", |at, e| at.one_of(&names, e)), until)
    })
    .and_then(|(force, until)| {
        Some(wire::Override {
            force: force?,
            until_unix_seconds: until?,
        })
    })
}
