//! Who is meant: a host by its address, or by its name in the inventory, and which of them are one.

use std::net::IpAddr;

use amoskys_core::Name;
use amoskys_core::event::{Entity, Event, Payload};
use serde::{Deserialize, Serialize};

use crate::measure::BoundedMap;
use crate::sighting::is_host;

/// A host, as a verdict names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Host {
    Address(IpAddr),
    /// By its name in the inventory.
    Device(Name),
}

impl Host {
    /// The host that an entity is, or belongs to: what is named `DEVICE/PROCESS` or `DEVICE/METRIC` is part of the device.
    pub(crate) fn of(entity: &Entity) -> Option<Self> {
        if let Some(address) = entity.host() {
            return Some(Self::Address(address));
        }
        let Entity::Named(name) = entity else {
            return None;
        };
        let device = name
            .as_str()
            .split_once('/')
            .map_or(name.as_str(), |parts| parts.0);
        (!device.is_empty()).then(|| Self::Device(Name::from(device)))
    }
}

/// Addresses of one machine that are remembered.
const ADDRESSES: usize = 8;

/// Which address is which machine's, as the machines' own connections show.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hosts {
    addresses: BoundedMap<Name, Vec<IpAddr>>,
    devices: BoundedMap<IpAddr, Name>,
}

impl Hosts {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            addresses: BoundedMap::new(capacity),
            devices: BoundedMap::new(capacity),
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.addresses.evicted() + self.devices.evicted()
    }

    /// Learns from a connection that a process of the machine made or took.
    pub(super) fn learn(&mut self, event: &Event) {
        let Payload::Activity(activity) = &event.payload else {
            return;
        };
        let own = activity
            .local_address
            .filter(|own| is_host(*own) && !own.is_loopback());
        let (Some(own), false) = (own, event.device.as_str().is_empty()) else {
            return;
        };
        if self.devices.peek(&own) == Some(&event.device) {
            return;
        }
        // An address that moved is the new one's alone.
        if let Some(before) = self.devices.peek(&own)
            && let Some(list) = self.addresses.peek_mut(&before.clone())
        {
            list.retain(|address| *address != own);
        }
        *self.devices.entry(&own, || event.device.clone()) = event.device.clone();
        let list = self.addresses.entry(&event.device, Vec::new);
        if list.len() >= ADDRESSES {
            list.remove(0);
        }
        list.push(own);
    }

    /// All names of a host, its own first.
    pub(super) fn aliases(&self, host: &Host) -> Vec<Host> {
        let device = match host {
            Host::Address(address) => self.devices.peek(address),
            Host::Device(device) => Some(device),
        };
        let mut aliases = vec![host.clone()];
        let Some(device) = device else { return aliases };
        let addresses = self.addresses.peek(device).into_iter().flatten();
        let others =
            std::iter::once(Host::Device(device.clone())).chain(addresses.map(|own| Host::Address(*own)));
        for other in others {
            if !aliases.contains(&other) {
                aliases.push(other);
            }
        }
        aliases
    }
}

#[cfg(test)]
mod tests {
    use amoskys_core::event::{ActivityAction, ActivityEvent};

    use super::*;

    fn connection(device: &str, own: [u8; 4]) -> Event {
        let activity = ActivityEvent {
            action: ActivityAction::Connect,
            local_address: Some(own.into()),
            ..ActivityEvent::default()
        };
        Event {
            device: device.into(),
            payload: Payload::Activity(Box::new(activity)),
            ..Event::default()
        }
    }

    #[test]
    fn a_machine_is_known_by_the_addresses_it_speaks_from() {
        let mut hosts = Hosts::new(10);
        let (web, db) = (Host::Device("web".into()), Host::Device("db".into()));
        let at = |last: u8| Host::Address([10, 0, 0, last].into());
        hosts.learn(&connection("web", [10, 0, 0, 1]));
        hosts.learn(&connection("web", [127, 0, 0, 1]));
        hosts.learn(&connection("db", [10, 0, 0, 2]));
        assert_eq!(hosts.aliases(&web), [web.clone(), at(1)]);
        assert_eq!(hosts.aliases(&at(1)), [at(1), web.clone()]);
        assert_eq!(hosts.aliases(&at(9)), [at(9)]);
        // It is given to another.
        hosts.learn(&connection("db", [10, 0, 0, 1]));
        assert_eq!(hosts.aliases(&web), [web]);
        assert_eq!(hosts.aliases(&at(1)), [at(1), db, at(2)]);
    }

    #[test]
    fn what_belongs_to_a_machine_is_named_after_it() {
        let of = |name: &str| Host::of(&Entity::Named(name.into()));
        assert_eq!(of("web//usr/bin/bash"), Some(Host::Device("web".into())));
        assert_eq!(of("web/load{core=1}"), Some(Host::Device("web".into())));
        assert_eq!(of("web"), Some(Host::Device("web".into())));
        assert_eq!(of("/bash"), None);
    }
}
