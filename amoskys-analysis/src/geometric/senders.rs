//! Who sends a flood: how many, and which of them to name.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::measure::{Distinct, hash_address};

/// Addresses beyond which a flood is taken to come from everywhere.
const FEW: f64 = 8.0;
/// Addresses counted one by one.
const FREQUENT: usize = 8;

/// The senders of one flood.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Senders {
    addresses: Distinct,
    /// The most frequent (Misra and Gries 1982): every one with more than a ninth of all is among them.
    frequent: Vec<(IpAddr, u32)>,
    /// Who was accused first: the accusation does not move while the flood goes on.
    accused: Option<IpAddr>,
}

impl Senders {
    pub(super) fn add(&mut self, client: IpAddr) {
        self.addresses.insert(hash_address(client));
        if let Some(known) = self.frequent.iter_mut().find(|(source, _)| *source == client) {
            known.1 = known.1.saturating_add(1);
        } else if self.frequent.len() < FREQUENT {
            self.frequent.push((client, 1));
        } else {
            self.frequent.iter_mut().for_each(|(_, count)| *count -= 1);
            self.frequent.retain(|(_, count)| *count > 0);
        }
    }

    /// How many there are, about.
    pub(super) fn count(&self) -> f64 {
        self.addresses.estimate()
    }

    /// What it takes away that a flood of this amount may be an outage: many try at once, and in vain.
    pub(super) fn outage(&self, amount: f64) -> f64 {
        if self.count() > FEW && amount < 1_000.0 {
            -2.0
        } else {
            0.0
        }
    }

    /// Who is accused, and where the flood comes from in words.
    pub(super) fn accuse(&mut self) -> Option<(IpAddr, String)> {
        let frequent = self.frequent.iter().copied();
        let (most, _) = frequent.max_by_key(|(source, count)| (*count, *source))?;
        let accused = *self.accused.get_or_insert(most);
        let count = self.count();
        let from = if count > FEW {
            format!(
                "about {} addresses, probably forged, {accused} among the first",
                count.round()
            )
        } else {
            accused.to_string()
        };
        Some((accused, from))
    }
}
