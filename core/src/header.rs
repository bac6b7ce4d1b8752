//! The headers between sidecars, written and read without allocation.
//!
//! Envoy does not run the caller's filter again when it retries, so the header of the first
//! attempt arrives at every later one: the server tells the attempts apart by Envoy's own count.
//! One header carries all, since each costs a host call.

use alloc::vec::Vec;

/// Caller's sidecar → server's sidecar: `TARGET;TOKEN;HOME;POLICY;N;FLAGS`, and `;EPOCH` where a
/// policy switches by the rate of the whole service.
pub const HOP: &str = "x-spillway";
/// Server's sidecar → caller's sidecar: `CLUSTER;RHO;K`, and `;ENDPOINT;TOTAL;TIME;DEMAND;EPOCH` where a
/// policy switches by the rate of the whole service.
pub const LOAD: &str = "x-spillway-load";
/// Server's sidecar → caller's Envoy: this answer is the gate's; repeat the request elsewhere.
pub const BOUNCE: &str = "x-spillway-bounce";
/// Server's sidecar → caller: why a request was shed.
pub const SHED: &str = "x-spillway-shed";
/// What all of Spillway's own header names begin with.
pub const FAMILY: &[u8] = b"x-spillway";
/// The count of attempts that Envoy sends (`include_request_attempt_count`, on in Istio).
pub const ATTEMPT_COUNT: &str = "x-envoy-attempt-count";

/// No header of ours is longer; a longer one is not read.
pub const MAX_LEN: usize = 384;

/// A request's header as it arrived. All parts are slices of it: nothing is believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop<'a> {
    /// The cluster that the caller chose.
    pub target: &'a str,
    /// The mesh token, as sent.
    pub token: &'a str,
    /// The request's home.
    pub home: &'a str,
    /// The policy's id.
    pub policy: &'a str,
    /// Requests for this target since the last that was sent there, this one included (N).
    pub echo: u32,
    /// What the caller allows.
    pub flags: Flags,
}

/// Flags of a [`Hop`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `b`: may be bounced.
    pub bounceable: bool,
    /// `h`: came home because all else is full.
    pub returned: bool,
    /// `s`: the policy is in Shadow; nothing may change. With `h`: it would have spilled.
    pub shadow: bool,
}

impl<'a> Hop<'a> {
    /// Reads the header; `None` where it is not of our form.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        if value.len() > MAX_LEN {
            return None;
        }
        let mut parts = core::str::from_utf8(value).ok()?.split(';');
        let hop = Self {
            target: parts.next()?,
            token: parts.next()?,
            home: parts.next()?,
            policy: parts.next()?,
            echo: number(parts.next()?.as_bytes())?,
            flags: Flags::parse(parts.next()?)?,
        };
        (ends(parts, 1) && hop.echo > 0).then_some(hop)
    }

    /// The part that a policy knows beforehand; [`Self::finish`] adds the rest. Routes match its
    /// beginning (`TARGET;TOKEN;`).
    #[must_use]
    pub fn start(target: &str, token: &str, home: &str, policy: &str) -> Vec<u8> {
        let mut start = Vec::new();
        for part in [target, token, home, policy] {
            start.extend_from_slice(part.as_bytes());
            start.push(b';');
        }
        start
    }

    /// Writes the whole value into `buffer`, which is emptied first.
    pub fn finish(buffer: &mut Vec<u8>, start: &[u8], echo: u32, flags: Flags) {
        buffer.clear();
        buffer.extend_from_slice(start);
        push_number(buffer, echo);
        buffer.push(b';');
        for (set, letter) in [
            (flags.bounceable, b'b'),
            (flags.returned, b'h'),
            (flags.shadow, b's'),
        ] {
            if set {
                buffer.push(letter);
            }
        }
    }
}

impl Flags {
    fn parse(text: &str) -> Option<Self> {
        let mut flags = Self::default();
        for letter in text.bytes() {
            let flag = match letter {
                b'b' => &mut flags.bounceable,
                b'h' => &mut flags.returned,
                b's' => &mut flags.shadow,
                _ => return None,
            };
            if core::mem::replace(flag, true) {
                return None;
            }
        }
        Some(flags)
    }
}

/// A response's load header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load<'a> {
    /// The cluster that answers.
    pub cluster: &'a str,
    /// Its load for the request's class, thousandths.
    pub rho: u32,
    /// The attempt that was answered, from 1.
    pub attempt: u32,
}

impl<'a> Load<'a> {
    /// Reads the header; `None` where it is not of our form.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        if value.len() > MAX_LEN {
            return None;
        }
        let mut parts = core::str::from_utf8(value).ok()?.split(';');
        let load = Self {
            cluster: parts.next()?,
            rho: number(parts.next()?.as_bytes())?,
            attempt: number(parts.next()?.as_bytes())?,
        };
        ends(parts, 5).then_some(load)
    }

    /// Writes the value into `buffer`, which is emptied first.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(self.cluster.as_bytes());
        buffer.push(b';');
        push_number(buffer, self.rho);
        buffer.push(b';');
        push_number(buffer, self.attempt);
    }
}

/// Whether what is left of a header is nothing, or so many numbers: what [`crate::totals`] appends.
fn ends<'a>(mut parts: impl Iterator<Item = &'a str>, numbers: usize) -> bool {
    let mut count = 0;
    let good = parts.all(|part| {
        count += 1;
        number(part.as_bytes()).is_some()
    });
    good && (count == 0 || count == numbers)
}

/// Reads a decimal number without sign, space or more than nine digits: every number that is
/// exchanged is far smaller, and nothing that is longer can be meant well.
#[must_use]
pub fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    text.iter().try_fold(0_u32, |sum, byte| {
        byte.is_ascii_digit().then(|| {
            sum.saturating_mul(10)
                .saturating_add(u32::from(byte - b'0'))
        })
    })
}

/// Appends `value`, cut at the nine digits that [`number`] reads.
pub(crate) fn push_number(to: &mut Vec<u8>, value: u32) {
    let mut value = value.min(999_999_999);
    let start = to.len();
    loop {
        to.push(b'0' + u8::try_from(value % 10).unwrap_or_default());
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if let Some(digits) = to.get_mut(start..) {
        digits.reverse();
    }
}
