//! Addresses of a mesh: a block of the loopback range, as a pod network is a block of addresses.
//!
//! Each sidecar has an address of its own, so that all ports are free and the same everywhere,
//! nothing is lost between asking for a free port and binding it, and an endpoint that is stopped
//! and started again comes back at the same place. Outgoing connections leave from 127.0.0.1 and
//! never take one of these ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// The port of Envoy's admin interface, at each sidecar's address.
pub const ADMIN_PORT: u16 = 15000;
/// Outbound listeners stand at this plus the service's port (80 → 20080), since low ports are not
/// everybody's to bind.
const OUTBOUND_BASE: u16 = 20000;
/// Applications stand at this plus their logical port, which Envoy's inbound listener has.
const APP_BASE: u16 = 10000;
/// Held open by the process that owns a block.
const LOCK_PORT: u16 = 15999;

/// A /24 of 127.0.0.0/8 that belongs to this value until it is dropped.
#[derive(Debug)]
pub struct Block {
    second: u8,
    third: u8,
    used: u8,
    _lock: TcpListener,
}

impl Block {
    /// Takes a block that no other mesh on this machine has.
    ///
    /// # Errors
    /// When every block is taken.
    pub fn take() -> Result<Self> {
        // Not the block of a mesh that was just dropped: its applications' listeners close when
        // their tasks have ended, which nobody waits for.
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id()
            .wrapping_mul(61)
            .wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        for offset in 0..16_384_u32 {
            // 127.64.0.0 to 127.127.255.0: away from what other programs like to use.
            let number = start.wrapping_add(offset) % 16_384;
            let [_, _, high, third] = number.to_be_bytes();
            let second = 64 + high;
            let address = Ipv4Addr::new(127, second, third, 254);
            if let Ok(lock) = TcpListener::bind((address, LOCK_PORT)) {
                return Ok(Self {
                    second,
                    third,
                    used: 0,
                    _lock: lock,
                });
            }
        }
        anyhow::bail!("no free block of addresses in 127.64.0.0/10")
    }

    /// The next address of the block.
    ///
    /// # Errors
    /// When a mesh has more than 250 sidecars.
    pub fn next_address(&mut self) -> Result<Ipv4Addr> {
        self.used = self
            .used
            .checked_add(1)
            .filter(|used| *used <= 250)
            .context("a mesh has at most 250 sidecars")?;
        Ok(Ipv4Addr::new(127, self.second, self.third, self.used))
    }
}

/// Where the sidecar's outbound listener for services of this port stands.
#[must_use]
pub fn outbound_port(service_port: u16) -> u16 {
    OUTBOUND_BASE.saturating_add(service_port)
}

/// Where the application really listens that Envoy calls `inbound|app_port||`.
#[must_use]
pub fn real_app_port(app_port: u16) -> u16 {
    APP_BASE.saturating_add(app_port)
}
