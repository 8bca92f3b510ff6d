//! What happens to many hosts.

use std::net::Ipv4Addr;
use std::time::Duration;

use amoskys_core::Timestamp;
use amoskys_core::event::Entity;

pub(crate) struct Happening {
    pub(crate) host: Entity,
    pub(crate) time: Timestamp,
    pub(crate) bytes: u32,
    pub(crate) packets: u32,
    pub(crate) failed: bool,
    pub(crate) destination: u32,
    pub(crate) port: u16,
    pub(crate) duration: f64,
    pub(crate) service: u16,
}

pub(crate) struct Load {
    pub(crate) happenings: Vec<Happening>,
    per_second: u32,
}

impl Load {
    /// So many events of so many hosts, so many a second of their own time.
    pub(crate) fn new(events: u32, hosts: u32, per_second: u32) -> Self {
        let mut state = 1_u64;
        let mut below = move |limit: u32| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            #[expect(clippy::cast_possible_truncation, reason = "below the limit")]
            let number = ((u128::from(state) * u128::from(limit)) >> 64) as u32;
            number
        };
        let happenings = (0..events).map(|n| {
            let nanos = i64::from(n) * 1_000_000_000 / i64::from(per_second);
            // Few hosts talk to many others; ports are of a few services and some at random.
            let host = below(hosts);
            let destinations = if host.is_multiple_of(100) { 10_000 } else { 20 };
            let magnitude = below(20);
            let ticks = below(2 << magnitude);
            let service = [53, 80, 123, 443, 445, 3389][below(6) as usize];
            Happening {
                host: Entity::Host(Ipv4Addr::from(0x0a00_0000 + host).into()),
                time: Timestamp::from_secs(1_700_000_000).plus(Duration::from_nanos(nanos.unsigned_abs())),
                bytes: 40 + (1 << magnitude) + below(1000),
                packets: 1 + below(50),
                failed: below(10) == 0,
                destination: below(destinations),
                port: if below(4) == 0 {
                    1024 + below(60_000) as u16
                } else {
                    service
                },
                duration: f64::from(1 + ticks) * 1e-4,
                service,
            }
        });
        Self {
            happenings: happenings.collect(),
            per_second,
        }
    }

    /// How long the events last, in their own time.
    pub(crate) fn duration(&self) -> Duration {
        let nanos = 1_000_000_000 * self.happenings.len() as u64 / u64::from(self.per_second);
        Duration::from_nanos(nanos)
    }
}
