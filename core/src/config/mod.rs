//! The plugin's configuration: wire form ([`wire`]), parsed form ([`Config`]), errors.
//!
//! Parsing tells every error at once, each with its path, and gives a form that cannot be wrong:
//! rates are intervals, the cluster's own row is picked, header values are prepared. The wire form
//! is documented in `docs/reference/plugin-configuration.md`.

mod check;
mod errors;
mod fields;
mod json;
mod parsed;
mod read;
pub mod wire;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use parsed::{Config, EnvoyCluster, Mode, Override, Policy, Rung, Workload};
pub use wire::{Bodies, Side};

/// The largest document, bytes.
pub const MAX_BYTES: usize = 512 * 1024;

/// One error of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where, as `policies[2].overflow[0].cluster`; empty for the document itself.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// All errors of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            if !error.path.is_empty() {
                write!(f, "{}: ", error.path)?;
            }
            f.write_str(&error.message)?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigErrors {}
