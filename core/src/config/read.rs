//! Reads the wire form out of JSON, telling every error with its path.
//!
//! Derived deserialisation stops at the first error, and takes three times the code in the
//! filter. Here a wrong or missing field leaves its default behind and an error in the list, and
//! reading goes on; a document with errors is never used.
//!
//! Nothing here is inlined: a host compiles each function in one piece of memory, and keeps that.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde_json::{Map, Value};

use super::{ConfigError, ConfigErrors, MAX_BYTES, wire};
use crate::rate::Rate;
use crate::table::Table;

/// The errors so far.
#[derive(Default)]
pub(super) struct Errors {
    list: Vec<ConfigError>,
    /// An item of a list could not be read at all, so that places in the list are no longer the
    /// document's.
    gaps: bool,
    /// Errors beyond [`MOST_ERRORS`].
    more: usize,
}

/// So many are told one by one: enough to mend a document, and few enough for a log line.
const MOST_ERRORS: usize = 50;

impl Errors {
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(path.into(), message.into());
    }

    #[inline(never)]
    fn push(&mut self, path: String, message: String) {
        // What could not be read, in whole or in part, is not also complained about for what stands
        // in for it.
        let told = |e: &ConfigError| {
            let below = e.path.strip_prefix(path.as_str());
            e.path.is_empty() || below.is_some_and(|b| b.is_empty() || b.starts_with(['.', '[']))
        };
        if self.list.iter().any(told) {
            return;
        }
        if self.list.len() < MOST_ERRORS {
            self.list.push(ConfigError { path, message });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn require(&mut self, holds: bool, path: &[&str], message: &str) {
        if !holds {
            self.add(path.concat(), message);
        }
    }

    pub(super) fn none(mut self) -> Result<(), ConfigErrors> {
        if self.list.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            self.list.push(ConfigError {
                path: String::new(),
                message: format!("has {} more errors", self.more),
            });
        }
        Err(ConfigErrors(self.list))
    }

    pub(super) const fn gaps(&self) -> bool {
        self.gaps
    }
}

/// A value with its path.
struct At {
    path: String,
    value: Value,
}

impl At {
    #[inline(never)]
    fn wrong<T>(&self, form: &str, errors: &mut Errors) -> Option<T> {
        errors.add(self.path.as_str(), ["write ", form].concat());
        None
    }

    #[inline(never)]
    fn string(self, errors: &mut Errors) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text),
            _ => self.wrong("a text in quotes", errors),
        }
    }

    #[inline(never)]
    fn number(self, least: u64, most: u64, errors: &mut Errors) -> Option<u64> {
        match self.value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => self.wrong(&format!("a whole number from {least} to {most}"), errors),
        }
    }

    #[inline(never)]
    fn count(self, errors: &mut Errors) -> Option<NonZeroU32> {
        let number = self.number(1, u64::from(u32::MAX), errors)?;
        u32::try_from(number).ok().and_then(NonZeroU32::new)
    }

    #[inline(never)]
    fn rate(self, errors: &mut Errors) -> Option<Rate> {
        let path = self.path.clone();
        let text = self.string(errors)?;
        Rate::parse(&text)
            .map_err(|message| errors.add(path, message))
            .ok()
    }

    #[inline(never)]
    fn one_of<T: Copy>(self, names: &[(&str, T)], errors: &mut Errors) -> Option<T> {
        let text = self.value.as_str().unwrap_or_default();
        if let Some((_, value)) = names.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        self.wrong(&["one of ", &names.join(", ")].concat(), errors)
    }

    #[inline(never)]
    fn list<T>(
        self,
        errors: &mut Errors,
        read: impl Fn(Self, &mut Errors) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Array(items) = self.value else {
            return self.wrong("a list", errors);
        };
        let mut list = Vec::with_capacity(items.len());
        for (i, value) in items.into_iter().enumerate() {
            match read(
                Self {
                    path: format!("{}[{i}]", self.path),
                    value,
                },
                errors,
            ) {
                Some(item) => list.push(item),
                None => errors.gaps = true,
            }
        }
        Some(list)
    }

    #[inline(never)]
    fn table<T>(
        self,
        errors: &mut Errors,
        read: impl Fn(Self, &mut Errors) -> Option<T>,
    ) -> Option<Table<T>> {
        let Value::Object(map) = self.value else {
            return self.wrong("a table", errors);
        };
        let mut table = Table::default();
        for (key, value) in map {
            let at = Self {
                path: join(&self.path, &key),
                value,
            };
            if let Some(row) = read(at, errors) {
                table.insert(key, row);
            }
        }
        Some(table)
    }

    /// Reads an object by its fields; what `read` leaves is unknown.
    fn object<T>(self, errors: &mut Errors, read: impl Fn(&mut Fields<'_>) -> T) -> Option<T> {
        let mut fields = self.open(errors)?;
        let value = read(&mut fields);
        fields.close();
        Some(value)
    }

    #[inline(never)]
    fn open(self, errors: &mut Errors) -> Option<Fields<'_>> {
        match self.value {
            Value::Object(map) => Some(Fields {
                path: self.path,
                map,
                asked: Vec::new(),
                errors,
            }),
            _ => self.wrong("an object", errors),
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.into()
    } else {
        [path, ".", key].concat()
    }
}

/// The fields of an object that are yet to be read.
struct Fields<'e> {
    path: String,
    map: Map<String, Value>,
    asked: Vec<&'static str>,
    errors: &'e mut Errors,
}

impl Fields<'_> {
    /// A field that may be left out.
    #[inline(never)]
    fn maybe<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(At, &mut Errors) -> Option<T>,
    ) -> Option<T> {
        let at = self.take(name, false)?;
        read(at, self.errors)
    }

    /// A field that may be left out for its type's default.
    fn or_default<T: Default>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(At, &mut Errors) -> Option<T>,
    ) -> T {
        self.maybe(name, read).unwrap_or_default()
    }

    /// A field that must be there.
    #[inline(never)]
    fn must<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(At, &mut Errors) -> Option<T>,
    ) -> Option<T> {
        let at = self.take(name, true)?;
        read(at, self.errors)
    }

    // Not inlined, as `close`: there are some forty fields.
    #[inline(never)]
    fn take(&mut self, name: &'static str, must: bool) -> Option<At> {
        self.asked.push(name);
        let path = join(&self.path, name);
        match self.map.remove(name) {
            Some(value) => Some(At { path, value }),
            None if must => {
                self.errors.add(path, "is missing");
                None
            }
            None => None,
        }
    }

    #[inline(never)]
    fn close(self) {
        let known = self.asked.join(", ");
        for key in self.map.keys() {
            self.errors.add(
                join(&self.path, key),
                ["unknown field: write one of ", &known].concat(),
            );
        }
    }
}

/// Reads a document. What cannot be read is in `errors`, and the rest as far as it goes.
#[inline(never)]
pub(super) fn document(text: &[u8], errors: &mut Errors) -> wire::Document {
    let mut at = At {
        path: String::new(),
        value: Value::Null,
    };
    if text.len() > MAX_BYTES {
        errors.add(
            "",
            format!("has {} bytes: write at most {MAX_BYTES}", text.len()),
        );
    } else {
        match serde_json::from_slice(text) {
            Ok(value) => at.value = value,
            Err(e) => errors.add("", format!("is not JSON: {e}")),
        }
    }
    let read = |f: &mut Fields<'_>| wire::Document {
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
        policies: f
            .must("policies", |at, e| at.list(e, policy))
            .unwrap_or_default(),
    };
    at.object(errors, read).unwrap_or_else(|| wire::Document {
        version: wire::VERSION,
        generation: 0,
        side: wire::Side::Client,
        tokens: Vec::new(),
        prefix_header: wire::PREFIX_HEADER.into(),
        clusters: Table::default(),
        policies: Vec::new(),
    })
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
