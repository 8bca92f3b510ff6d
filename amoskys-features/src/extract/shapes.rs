use amoskys_core::event::{Entity, TcpState};

use super::catalog::{Catalog, Feature};
use super::fact::Fact;
use super::parts::count;
use crate::aggregate::{Damped, Distinct, Frequencies, Moments, Quantiles, aggregate};
use crate::hash::KeyHash;

/// Features of what the flows that a host opens look like: how long, how large, how fast, as quantiles. The entity is
/// [`Entity::Host`].
pub struct Shapes;

type F = Feature<ShapeAggregate>;

aggregate! {
    /// What is kept of the shapes of a host's flows.
    pub struct ShapeAggregate {
        durations: Quantiles,
        forward_bytes: Quantiles,
        backward_bytes: Quantiles,
        packets: Quantiles,
        forward_sizes: Quantiles,
        backward_sizes: Quantiles,
        gaps: Quantiles,
        handshakes: Quantiles,
        first_lengths: Frequencies,
        windows: Frequencies,
        ends: Frequencies,
        states: Frequencies,
        payloads: Distinct,
        interfaces: Distinct,
        turns: Moments,
        idles: Moments,
        subflows: Moments,
        now: Damped<1000>,
        lately: Damped<100>,
        before: Damped<10>,
    }
}

/// Four quantiles of a field.
macro_rules! quantiles {
    ($($field:ident, $name:literal, $unit:literal, $of:literal;)*) => {
        vec![$(
            F::new(concat!($name, "_p10"), $unit, concat!("a tenth of ", $of, " are no more; NaN without"), |w| w.$field.quantile(0.1))
                .within(0.0, f64::INFINITY),
            F::new(concat!($name, "_p50"), $unit, concat!("median of ", $of, "; NaN without"), |w| w.$field.quantile(0.5)),
            F::new(concat!($name, "_p90"), $unit, concat!("nine tenths of ", $of, " are no more; NaN without"), |w| w.$field.quantile(0.9)),
            F::new(concat!($name, "_p99"), $unit, concat!("99 of 100 of ", $of, " are no more; NaN without"), |w| w.$field.quantile(0.99)),
        )*]
    };
}

impl Catalog for Shapes {
    type Aggregate = ShapeAggregate;

    const NAME: &'static str = "shape";

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        match fact {
            Fact::Opened { record, .. } | Fact::Closed { record, .. } => {
                Some(Entity::Host(record.key.source))
            }
            _ => None,
        }
    }

    fn add(shape: &mut ShapeAggregate, fact: &Fact<'_>) {
        match fact {
            Fact::Opened { record, .. } => {
                shape.now.add(record.first, 1.0);
                shape.lately.add(record.first, 1.0);
                shape.before.add(record.first, 1.0);
            }
            Fact::Closed { record, end } => {
                shape.durations.add(record.duration().as_secs_f64());
                shape.forward_bytes.add(count(record.forward.bytes()));
                shape.backward_bytes.add(count(record.backward.bytes()));
                shape.packets.add(count(record.packets()));
                for (sizes, direction) in [
                    (&mut shape.forward_sizes, &record.forward),
                    (&mut shape.backward_sizes, &record.backward),
                ] {
                    if direction.packets > 0 {
                        sizes.add(direction.lengths.mean());
                    }
                }
                if record.gaps.count > 0 {
                    shape.gaps.add(record.gaps.mean() / 1e9);
                }
                shape.ends.add(KeyHash::of(end.as_str().as_bytes()));
                shape.idles.add(count(record.idle.count));
                shape.subflows.add(count(record.subflows));
                shape
                    .interfaces
                    .add(KeyHash::of_number(u64::from(record.interface)));
                let turns = record
                    .sequence
                    .windows(2)
                    .filter(|pair| pair[0].backward != pair[1].backward);
                shape.turns.add(count(turns.count() as u64));
                if let Some(first) = record.sequence.first() {
                    shape
                        .first_lengths
                        .add(KeyHash::of_number(u64::from(first.length)));
                }
                if !record.forward.first_bytes.is_empty() {
                    shape.payloads.add(KeyHash::of(&record.forward.first_bytes));
                }
                if let Some(tcp) = &record.tcp {
                    let state: TcpState = tcp.state;
                    shape.states.add(KeyHash::of(state.as_str().as_bytes()));
                    if let Some(window) = tcp.forward.initial_window {
                        shape.windows.add(KeyHash::of_number(u64::from(window)));
                    }
                    if let (Some(syn), Some(answer)) = (tcp.syn, tcp.syn_ack) {
                        shape.handshakes.add(answer.since(syn).as_secs_f64());
                    }
                }
            }
            _ => {}
        }
    }

    fn features() -> Vec<Feature<ShapeAggregate>> {
        let mut features = quantiles! {
            durations, "duration", "s", "durations of flows that ended";
            forward_bytes, "forward_bytes", "By", "bytes sent in flows that ended";
            backward_bytes, "backward_bytes", "By", "bytes received in flows that ended";
            packets, "packets", "", "packets of flows that ended";
            forward_sizes, "forward_size", "By", "mean packet lengths sent in flows that ended";
            backward_sizes, "backward_size", "By", "mean packet lengths received in flows that ended";
            gaps, "gap", "s", "mean times between packets of flows that ended";
            handshakes, "handshake", "s", "times from SYN to SYN+ACK of flows that ended";
        };
        features.extend([
            F::new("first_lengths", "", "distinct lengths of first packets", |w| {
                w.first_lengths.distinct()
            }),
            F::new(
                "first_length_entropy",
                "bit",
                "entropy of the lengths of first packets",
                |w| w.first_lengths.entropy(),
            ),
            F::new(
                "first_length_top_share",
                "",
                "share of the commonest length of first packets",
                |w| w.first_lengths.top_share(),
            ),
            F::new(
                "initial_windows",
                "",
                "distinct initial TCP windows of the host",
                |w| w.windows.distinct(),
            ),
            F::new(
                "initial_window_entropy",
                "bit",
                "entropy of the initial TCP windows",
                |w| w.windows.entropy(),
            ),
            F::new(
                "end_entropy",
                "bit",
                "entropy of the reasons why flows ended",
                |w| w.ends.entropy(),
            ),
            F::new(
                "state_entropy",
                "bit",
                "entropy of how far TCP connections came",
                |w| w.states.entropy(),
            ),
            F::new(
                "state_top_share",
                "",
                "share of the commonest final state of TCP connections",
                |w| w.states.top_share(),
            ),
            F::new(
                "payloads",
                "",
                "distinct first payloads, by their first 16 bytes",
                |w| w.payloads.count(),
            ),
            F::new(
                "turns_mean",
                "",
                "mean changes of direction among the first packets; NaN without",
                |w| w.turns.mean(),
            ),
            F::new(
                "turns_max",
                "",
                "most changes of direction among the first packets; NaN without",
                |w| w.turns.max(),
            ),
            F::new(
                "idles_mean",
                "",
                "mean pauses of flows that ended; NaN without",
                |w| w.idles.mean(),
            ),
            F::new(
                "subflows_mean",
                "",
                "mean bursts of packets of flows that ended; NaN without",
                |w| w.subflows.mean(),
            ),
            F::new(
                "interfaces",
                "",
                "distinct capture interfaces that saw the host's flows",
                |w| w.interfaces.count(),
            ),
            F::new(
                "opened_damped_1s",
                "",
                "flows opened, each counting half as much after 1 s",
                |w| w.now.sums().weight(),
            )
            .within(0.0, f64::INFINITY),
            F::new(
                "opened_damped_10s",
                "",
                "flows opened, each counting half as much after 10 s",
                |w| w.lately.sums().weight(),
            )
            .within(0.0, f64::INFINITY),
            F::new(
                "opened_damped_100s",
                "",
                "flows opened, each counting half as much after 100 s",
                |w| w.before.sums().weight(),
            )
            .within(0.0, f64::INFINITY),
        ]);
        features
    }
}
