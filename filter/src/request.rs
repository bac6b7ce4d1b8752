//! What both sides read off a message, in one pass over its headers.

use spillway_core::config::Bodies;
use spillway_core::header;

use crate::host::{self, Map};
use crate::pairs;

/// The largest body that is bounced by its declared length, bytes: a hundredth of what Envoy
/// buffers for a retry by default, so that many fit.
const SMALL_BODY: u32 = 64 * 1024;

/// Headers of our own family that came with a message: what is there has to be taken off.
#[derive(Default)]
pub(crate) struct Ours<'a> {
    /// `x-spillway`, if it came exactly once.
    pub(crate) hop: Option<&'a [u8]>,
    /// `x-spillway` is there, once or more often.
    pub(crate) hops: u32,
    /// `x-spillway-load`, the last.
    pub(crate) load: Option<&'a [u8]>,
    /// The configured prefix header is there.
    pub(crate) prefix: bool,
    /// `x-spillway-shed` is there.
    shed: bool,
    /// `x-spillway-bounce` is there.
    pub(crate) bounce: bool,
    /// Names of the family that mean nothing, the first few.
    others: Vec<&'a [u8]>,
}

impl<'a> Ours<'a> {
    #[inline(always)]
    fn see(&mut self, first: Option<&u8>, name: &'a [u8], value: &'a [u8], prefix: &[u8]) {
        // Most names end here, before anything is compared byte by byte.
        if first == prefix.first() && name == prefix {
            self.prefix = true;
        } else if first == Some(&b'x') && name.starts_with(header::FAMILY) {
            self.see_family(name, value);
        }
    }

    fn see_family(&mut self, name: &'a [u8], value: &'a [u8]) {
        if name == header::HOP.as_bytes() {
            self.hops = self.hops.saturating_add(1);
            self.hop = (self.hops == 1).then_some(value);
        } else if name == header::LOAD.as_bytes() {
            self.load = Some(value);
        } else if name == header::SHED.as_bytes() {
            self.shed = true;
        } else if name == header::BOUNCE.as_bytes() {
            self.bounce = true;
        } else if !self.others.contains(&name) && self.others.len() < 64 {
            self.others.push(name);
        }
    }

    /// Takes off all but the hop and the prefix header, which the sides treat themselves.
    pub(crate) fn strip(&self, map: Map, keep_shed: bool) {
        for name in &self.others {
            let _ = host::remove_header(map, name);
        }
        if self.load.is_some() {
            let _ = host::remove_header(map, header::LOAD.as_bytes());
        }
        if self.bounce {
            let _ = host::remove_header(map, header::BOUNCE.as_bytes());
        }
        if self.shed && !keep_shed {
            let _ = host::remove_header(map, header::SHED.as_bytes());
        }
    }
}

/// A request's headers, as far as they matter.
#[derive(Default)]
pub(crate) struct Request<'a> {
    pub(crate) ours: Ours<'a>,
    pub(crate) path: &'a [u8],
    /// Envoy's count of attempts; 1 where it is absent or no number.
    pub(crate) attempt: u32,
    connects: bool,
    grpc: bool,
    length: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    pub(crate) fn read(map: &'a [u8], prefix_header: &str) -> Self {
        let mut request = Self {
            attempt: 1,
            ..Self::default()
        };
        pairs::each(map, |name, value| match (name.len(), name.first()) {
            (5, Some(b':')) if name == b":path" => request.path = value,
            (7, Some(b':')) => request.connects |= name == b":method" && value == b"CONNECT",
            (7, Some(b'u')) if name == b"upgrade" => request.connects = true,
            (14, Some(b'c')) if name == b"content-length" => request.length = Some(value),
            (12, Some(b'c')) if name == b"content-type" => {
                request.grpc = value.starts_with(b"application/grpc");
            }
            (21, Some(b'x')) if name == header::ATTEMPT_COUNT.as_bytes() => {
                request.attempt = header::number(value).unwrap_or(1).max(1);
            }
            (_, first) => request
                .ours
                .see(first, name, value, prefix_header.as_bytes()),
        });
        request
    }

    /// Whether Envoy can repeat the request: it keeps a body for a retry only up to its buffer.
    /// gRPC counts as small although it declares no length.
    pub(crate) fn repeatable(&self, bodies: Bodies, bodiless: bool) -> bool {
        if self.connects {
            return false;
        }
        match bodies {
            _ if bodiless => true,
            Bodies::Never => false,
            Bodies::Small => self.small().unwrap_or(self.grpc),
            Bodies::Buffered => self.small().unwrap_or(true),
        }
    }

    /// Whether its body is known to fit Envoy's buffer; `None` when its length is not known.
    pub(crate) fn small(&self) -> Option<bool> {
        self.length
            .map(|l| header::number(l).is_some_and(|l| l <= SMALL_BODY))
    }
}

/// A response's headers, as far as they matter.
#[derive(Default)]
pub(crate) struct Response<'a> {
    pub(crate) ours: Ours<'a>,
    status: u32,
    /// gRPC's, where it stands in the headers: an answer without a message, as Envoy's own are.
    grpc_status: Option<u32>,
}

/// gRPC's statuses for what is 429 and 503 in HTTP.
const RESOURCE_EXHAUSTED: Option<u32> = Some(8);
const UNAVAILABLE: Option<u32> = Some(14);

impl<'a> Response<'a> {
    pub(crate) fn read(map: &'a [u8], prefix_header: &str) -> Self {
        let mut response = Self::default();
        pairs::each(map, |name, value| match (name.len(), name.first()) {
            (7, Some(b':')) => response.status = header::number(value).unwrap_or(0),
            (11, Some(b'g')) if name == b"grpc-status" => {
                response.grpc_status = header::number(value);
            }
            (_, first) => response
                .ours
                .see(first, name, value, prefix_header.as_bytes()),
        });
        response
    }

    /// Shed by the gate, not by the application.
    pub(crate) fn shed(&self) -> bool {
        self.ours.shed && self.refused()
    }

    /// Bounced by the gate, and repeated by nobody.
    pub(crate) fn bounced(&self) -> bool {
        self.ours.bounce && self.refused()
    }

    fn refused(&self) -> bool {
        self.status == 429 || self.grpc_status == RESOURCE_EXHAUSTED
    }

    pub(crate) fn server_error(&self) -> bool {
        (500..600).contains(&self.status) || self.grpc_status == UNAVAILABLE
    }

    /// In gRPC it is 200, whatever happened.
    pub(crate) const fn is_grpc(&self) -> bool {
        self.grpc_status.is_some()
    }
}

/// Traps when a request asks for it: a test build shows what a trap costs the traffic.
#[cfg(feature = "trap")]
pub(crate) fn trap(map: &[u8]) {
    pairs::each(map, |name, _| {
        if name == b"x-test-trap" {
            core::arch::wasm32::unreachable();
        }
    });
}
