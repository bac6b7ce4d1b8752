//! Whether this process may write.

use std::time::Instant;

use crate::lead::Lease;

/// The right to write.
#[derive(Clone, Debug)]
pub enum Authority {
    /// There is one process only.
    Alone,
    /// This process was elected.
    Elected(Lease),
}

impl Authority {
    /// Whether a write may be sent now.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self {
            Self::Alone => true,
            Self::Elected(lease) => lease.still_leads(Instant::now()),
        }
    }

    /// Waits until it is over.
    pub async fn lost(&mut self) {
        match self {
            Self::Alone => std::future::pending().await,
            Self::Elected(lease) => lease.lost().await,
        }
    }
}
