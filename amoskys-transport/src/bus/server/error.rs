use std::net::SocketAddr;

use amoskys_core::{Remedy, WalError};

use crate::log::LogError;

/// Why a bus cannot be opened or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// Its log cannot be opened.
    #[error("the log of the bus cannot be opened")]
    Open(#[from] LogError),
    /// Its log failed. Open the bus again; what was acknowledged is safe.
    #[error("the log of the bus failed")]
    Log(#[from] WalError),
    /// It cannot listen there.
    #[error("the bus cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// [`serve`](super::Bus::serve) was called a second time.
    #[error("the bus has been served before; open it again")]
    Served,
}

impl BusError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}
