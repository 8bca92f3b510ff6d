use std::time::Duration;

use amoskys_core::Name;
use amoskys_core::config::LegacySettings;

use super::trust::{LegacyTrust, LegacyTrustError, SharedLegacyTrust};

/// How a bus serves agents of the predecessor; see [`BusOptions::legacy`](crate::bus::BusOptions::legacy).
#[derive(Clone, Debug)]
pub struct LegacyOptions {
    pub(crate) trust: Option<SharedLegacyTrust>,
    pub(crate) allow_unsigned: bool,
    pub(crate) name: Option<Name>,
    pub(crate) window: Duration,
    pub(crate) max_ahead: Duration,
    pub(crate) index_bytes: u64,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) max_streams: u32,
    pub(crate) idle: Duration,
}

impl LegacyOptions {
    /// Takes envelopes that are signed with the keys of this map. A [`SharedLegacyTrust`] can be replaced while the bus
    /// runs.
    #[must_use]
    pub fn new(trust: impl Into<SharedLegacyTrust>) -> Self {
        Self::with(Some(trust.into()))
    }

    /// For a fleet that has never signed: takes envelopes without a signature from everyone with a certificate of the
    /// authority. Signed ones are refused, as there is no key to check them with.
    #[must_use]
    pub fn unsigned() -> Self {
        Self::with(None)
    }

    /// As the section `legacy` of a [`Config`](amoskys_core::config::Config) says. `None` if agents of the predecessor are not
    /// to be served.
    ///
    /// # Errors
    ///
    /// If the trust map cannot be used.
    pub fn from_settings(settings: &LegacySettings) -> Result<Option<Self>, LegacyTrustError> {
        let options = match &settings.trust_map {
            Some(path) => Self::new(LegacyTrust::load(path)?).allow_unsigned(settings.allow_unsigned),
            None if settings.allow_unsigned => Self::unsigned(),
            None => return Ok(None),
        };
        let bytes = usize::try_from(settings.max_in_flight_bytes).unwrap_or(usize::MAX);
        Ok(Some(
            options
                .window(settings.window)
                .index_bytes(settings.index_bytes)
                .max_in_flight(settings.max_in_flight)
                .max_in_flight_bytes(bytes),
        ))
    }

    /// The trust map, to be replaced or watched while the bus runs.
    #[must_use]
    pub fn trust(&self) -> Option<&SharedLegacyTrust> {
        self.trust.as_ref()
    }

    fn with(trust: Option<SharedLegacyTrust>) -> Self {
        Self {
            allow_unsigned: trust.is_none(),
            trust,
            name: None,
            window: Duration::from_secs(7 * 86_400),
            max_ahead: Duration::from_secs(3600),
            index_bytes: 64 << 20,
            max_in_flight: 8192,
            max_in_flight_bytes: 32 << 20,
            max_streams: 128,
            idle: Duration::from_secs(600),
        }
    }

    /// Whether agents in the trust map may leave out the signature. Default no. A signature that is there must always be
    /// right. Whoever has an agent's certificate and its key, but not its signing key, can then act as that agent.
    #[must_use]
    pub fn allow_unsigned(mut self, allow: bool) -> Self {
        self.allow_unsigned = allow;
        self
    }

    /// Name of the stream that the envelopes are sealed into. Default: the name of the bus and `-gateway`. No agent may
    /// have it.
    #[must_use]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How old an envelope may be when it comes. Default 7 days. As long, an envelope that comes again is recognised,
    /// unless [`index_bytes`](Self::index_bytes) is too little for that.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How far an envelope's time may be ahead of the bus's clock. Default one hour.
    #[must_use]
    pub fn max_ahead(mut self, ahead: Duration) -> Self {
        self.max_ahead = ahead;
        self
    }

    /// Memory for the keys of envelopes that are stored. Default 64 MiB, room for three million; the least is about 32 KiB.
    /// As much again may be on the disk. When it is used up, the oldest are forgotten, and nothing as old as those is taken
    /// any more of their agents.
    #[must_use]
    pub fn index_bytes(mut self, bytes: u64) -> Self {
        self.index_bytes = bytes;
        self
    }

    /// Envelopes that may wait to become durable, of all agents together. Default 8192; a quarter of it for each agent.
    /// Who sends more is told to come again.
    #[must_use]
    pub fn max_in_flight(mut self, envelopes: usize) -> Self {
        self.max_in_flight = envelopes.max(4);
        self
    }

    /// Bytes of envelopes that may be coming in or wait to become durable. Default 32 MiB; a quarter of it for each agent.
    #[must_use]
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.max_in_flight_bytes = bytes.max(super::envelope::MAX_ENVELOPE);
        self
    }

    /// Calls at a time on one connection. Default 128.
    #[must_use]
    pub fn max_streams(mut self, streams: u32) -> Self {
        self.max_streams = streams.max(1);
        self
    }

    /// How long a connection may be without a call before it is ended, in a way that loses nothing. Default 10 minutes. One
    /// whose other side is gone is found out within a minute.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle = timeout;
        self
    }
}
