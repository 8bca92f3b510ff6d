//! What a bus shows of itself a few times a second: gauges, and whether it can store anything.

use std::time::{Duration, Instant};

use amoskys_core::error::Chain;
use amoskys_core::{Offset, Wal as _, WalError};

use super::shared::Shared;

/// Without room for so long, the bus is not ready.
const SHORT: Duration = Duration::from_secs(1);

pub(crate) struct Gauges {
    connections: metrics::Gauge,
    strangers: metrics::Gauge,
    in_flight: metrics::Gauge,
    kept_out: [metrics::Gauge; 2],
    used: metrics::Gauge,
    budget: metrics::Gauge,
    durable: metrics::Gauge,
    lag: metrics::Gauge,
    /// A record that was in the log at that time, and was not durable.
    behind: Option<(Offset, Instant)>,
}

impl Gauges {
    pub(crate) fn new(shared: &Shared) -> Self {
        let bus = || shared.name.to_string();
        let kept_out =
            |kind: &'static str| metrics::gauge!("amoskys_bus_kept_out", "bus" => bus(), "kind" => kind);
        Self {
            connections: metrics::gauge!("amoskys_bus_connections", "bus" => bus()),
            strangers: metrics::gauge!("amoskys_bus_strangers", "bus" => bus()),
            in_flight: metrics::gauge!("amoskys_bus_in_flight_bytes", "bus" => bus()),
            kept_out: ["agent", "address"].map(kept_out),
            used: metrics::gauge!("amoskys_bus_log_used_bytes", "bus" => bus()),
            budget: metrics::gauge!("amoskys_bus_log_budget_bytes", "bus" => bus()),
            durable: metrics::gauge!("amoskys_bus_log_durable_offset", "bus" => bus()),
            lag: metrics::gauge!("amoskys_bus_durable_lag_seconds", "bus" => bus()),
            behind: None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floats; 53 bits are enough for them"
    )]
    pub(crate) fn publish(&mut self, shared: &Shared) {
        let (connections, strangers) = shared.door.connections();
        self.connections.set(connections as f64);
        self.strangers.set(strangers as f64);
        self.in_flight.set(shared.flow.on_the_way_bytes() as f64);
        let (agents, addresses) = shared.offenders.kept_out(Instant::now());
        for (gauge, count) in self.kept_out.iter().zip([agents, addresses]) {
            gauge.set(count as f64);
        }
        self.used.set(shared.wal.used_bytes() as f64);
        self.budget.set(shared.wal.budget_bytes() as f64);
        let (next, durable) = (shared.wal.next(), shared.wal.durable());
        self.durable.set(durable.0 as f64);
        match self.behind {
            Some((offset, since)) if durable < offset => self.lag.set(since.elapsed().as_secs_f64()),
            _ => {
                self.lag.set(0.0);
                self.behind = (durable < next).then(|| (next, Instant::now()));
            }
        }
    }
}

/// Tells whoever asked for it whether there is room in the log.
#[derive(Debug, Default)]
pub(crate) struct Room {
    told: Option<Option<String>>,
}

impl Room {
    pub(crate) fn tell(&mut self, shared: &Shared) {
        let why = shared.waiting.longer_than(SHORT);
        self.say(shared, why);
    }

    pub(crate) fn failed(&mut self, shared: &Shared, error: &WalError) {
        self.say(shared, Some(Chain(error).to_string()));
    }

    fn say(&mut self, shared: &Shared, why: Option<String>) {
        if self.told.as_ref() == Some(&why) {
            return;
        }
        match &why {
            Some(why) => tracing::warn!(bus = %shared.name, "nothing can be stored: {why}"),
            None if self.told.is_some() => tracing::info!(bus = %shared.name, "there is room again"),
            None => {}
        }
        if let Some(watch) = &shared.options.watch {
            watch(why.as_deref());
        }
        self.told = Some(why);
    }
}
