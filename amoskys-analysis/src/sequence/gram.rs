//! Numbers for short runs of calls.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest run that is numbered.
pub(super) const MAX_ORDER: usize = 4;

/// A run of calls, padded with [`u32::MAX`], which is no call.
pub(super) type Gram = [u32; MAX_ORDER];

/// The run of these calls, of which there are at most [`MAX_ORDER`].
#[inline]
pub(super) fn gram(calls: &[u32]) -> Gram {
    let mut gram = [u32::MAX; MAX_ORDER];
    for (place, call) in gram.iter_mut().zip(calls) {
        *place = *call;
    }
    gram
}

/// Runs, numbered in the order in which they were first met.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grams {
    numbers: HashMap<Gram, u32>,
}

impl Grams {
    /// The number of a run, given to it now if it is new.
    pub(super) fn number(&mut self, gram: Gram) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(gram).or_insert(next)
    }

    /// The number of a run, if it is known.
    #[inline]
    pub(super) fn find(&self, gram: &Gram) -> Option<u32> {
        self.numbers.get(gram).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

impl Serialize for Grams {
    /// The runs in the order of their numbers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut grams: Vec<(&Gram, &u32)> = self.numbers.iter().collect();
        grams.sort_by_key(|(_, number)| **number);
        serializer.collect_seq(grams.into_iter().map(|(gram, _)| gram))
    }
}

impl<'de> Deserialize<'de> for Grams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let grams = Vec::<Gram>::deserialize(deserializer)?;
        let count = grams.len();
        let numbers: HashMap<Gram, u32> = grams.into_iter().zip(0..).collect();
        if numbers.len() != count {
            return Err(serde::de::Error::custom("a run is there twice"));
        }
        Ok(Self { numbers })
    }
}
