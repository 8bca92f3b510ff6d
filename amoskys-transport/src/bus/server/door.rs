//! Connections whose clients have not said yet who they are, and those that have.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amoskys_core::Name;
use tokio::sync::oneshot;

use super::offenders::network;
use crate::bus::limits::Limits;
use crate::wal::segment::lock;

/// An honest client on a good line needs much less to say who it is.
const IN_GOOD_TIME: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Door(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    strangers: usize,
    /// By address, the oldest first.
    waiting: BTreeMap<IpAddr, VecDeque<Stranger>>,
    inside: usize,
    /// How many connections each client has, and how many from where.
    clients: BTreeMap<Name, usize>,
    addresses: BTreeMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Stranger {
    number: u64,
    since: Instant,
    leave: oneshot::Sender<()>,
}

/// A stranger at the door, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    door: Arc<Mutex<State>>,
    address: IpAddr,
    number: u64,
    /// He has to make room for others.
    pub(crate) leave: oneshot::Receiver<()>,
}

/// A client inside, until this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    door: Arc<Mutex<State>>,
    address: IpAddr,
    name: Name,
}

impl Door {
    /// Lets somebody come to the door. `None` if there is no room: neither free, nor taken by one who has been there for
    /// too long.
    pub(crate) fn come(&self, address: IpAddr, limits: &Limits, now: Instant) -> Option<Ticket> {
        let address = network(address);
        let mut state = lock(&self.0);
        if state.inside >= limits.connections {
            return None;
        }
        let of_address = state.waiting.get(&address).map_or(0, VecDeque::len);
        let from = if of_address >= limits.strangers_of_address {
            Some(address)
        } else if state.strangers >= limits.strangers {
            // The address with the most has to give.
            let most = state.waiting.iter().max_by_key(|(_, strangers)| strangers.len());
            most.map(|(address, _)| *address)
        } else {
            None
        };
        if let Some(from) = from {
            let oldest = state.waiting.get(&from)?.front()?;
            if now.duration_since(oldest.since) < IN_GOOD_TIME {
                return None;
            }
            let number = oldest.number;
            if let Some(stranger) = state.forget(from, number) {
                let _ = stranger.leave.send(());
            }
        }
        let (leave, told) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.strangers += 1;
        state.waiting.entry(address).or_default().push_back(Stranger {
            number,
            since: now,
            leave,
        });
        Some(Ticket {
            door: self.0.clone(),
            address,
            number,
            leave: told,
        })
    }

    /// Connections of clients that have said who they are, and of those that have not.
    pub(crate) fn connections(&self) -> (usize, usize) {
        let state = lock(&self.0);
        (state.inside, state.strangers)
    }

    /// Whether somebody from this address is inside.
    pub(crate) fn is_inside(&self, address: IpAddr) -> bool {
        lock(&self.0).addresses.contains_key(&network(address))
    }
}

impl State {
    fn forget(&mut self, address: IpAddr, number: u64) -> Option<Stranger> {
        let strangers = self.waiting.get_mut(&address)?;
        let at = strangers.iter().position(|stranger| stranger.number == number)?;
        let stranger = strangers.remove(at);
        if strangers.is_empty() {
            self.waiting.remove(&address);
        }
        self.strangers -= 1;
        stranger
    }
}

/// Why somebody who is known may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// There are too many connections.
    All,
    /// This client has too many.
    One(usize),
}

impl Ticket {
    /// He has said who he is.
    pub(crate) fn enter(&self, name: &Name, limits: &Limits) -> Result<Guest, NoRoom> {
        let mut state = lock(&self.door);
        if state.inside >= limits.connections {
            return Err(NoRoom::All);
        }
        let own = state.clients.get(name).copied().unwrap_or_default();
        if own >= limits.connections_of_one {
            return Err(NoRoom::One(own));
        }
        state.forget(self.address, self.number);
        state.inside += 1;
        *state.clients.entry(name.clone()).or_default() += 1;
        *state.addresses.entry(self.address).or_default() += 1;
        Ok(Guest {
            door: self.door.clone(),
            address: self.address,
            name: name.clone(),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.door).forget(self.address, self.number);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut state = lock(&self.door);
        state.inside = state.inside.saturating_sub(1);
        less(&mut state.clients, &self.name);
        less(&mut state.addresses, &self.address);
    }
}

fn less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn limits() -> Limits {
        Limits {
            connections: 3,
            connections_of_one: 2,
            strangers: 4,
            strangers_of_address: 2,
            ..Limits::default()
        }
    }

    #[test]
    fn one_who_takes_his_time_makes_room_for_the_next() {
        let (door, limits, now) = (Door::default(), limits(), Instant::now());
        let mut slow: Vec<_> = (0..2)
            .map(|_| door.come(address(1), &limits, now).unwrap())
            .collect();
        // Of those who came just now, the first may finish.
        assert!(door.come(address(1), &limits, now).is_none());
        let later = now + IN_GOOD_TIME;
        let quick = door.come(address(1), &limits, later).unwrap();
        assert!(slow[0].leave.try_recv().is_ok());
        assert!(slow[1].leave.try_recv().is_err());
        // Of all addresses, the one with the most gives.
        let others = [2, 3].map(|last| door.come(address(last), &limits, later).unwrap());
        assert!(door.come(address(4), &limits, later).is_some());
        assert!(slow[1].leave.try_recv().is_ok());
        drop((slow, quick, others));
        assert_eq!(door.connections(), (0, 0));
    }

    #[test]
    fn connections_are_counted_for_all_and_for_each() {
        let (door, limits, now) = (Door::default(), limits(), Instant::now());
        let enter = |name: &str, last| {
            let ticket = door.come(address(last), &limits, now)?;
            Some(ticket.enter(&name.into(), &limits))
        };
        let first = enter("a", 1).unwrap().unwrap();
        let second = enter("a", 1).unwrap().unwrap();
        assert_eq!(enter("a", 2).unwrap().unwrap_err(), NoRoom::One(2));
        let third = enter("b", 2).unwrap().unwrap();
        assert!(enter("c", 3).is_none());
        assert_eq!(door.connections(), (3, 0));
        assert!(door.is_inside(address(1)) && door.is_inside(address(2)));
        drop((first, second));
        assert!(!door.is_inside(address(1)));
        drop((third, enter("c", 3).unwrap().unwrap()));
        assert_eq!(door.connections(), (0, 0));
        assert!(lock(&door.0).clients.is_empty() && lock(&door.0).addresses.is_empty());
    }
}
