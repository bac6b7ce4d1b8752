//! The engine on real API servers: what clusters have after a policy, a restart, a drift, a fault.

mod apply;
mod claims;
mod faults;
mod late;
mod render;
mod world;
