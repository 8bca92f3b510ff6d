//! How many packets stand for one that was counted, as exporters state it.

use std::collections::HashMap;

use super::element::unsigned;

/// Samplers remembered for an exporter; further ones are not.
const MAX_SAMPLERS: usize = 256;

/// One packet in so many was looked at: `population` divided by `sampled`. Never below 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplingRate {
    population: u32,
    sampled: u32,
}

impl SamplingRate {
    /// `None` if that is no sampling: nothing of something, or more than there is.
    #[must_use]
    pub fn new(sampled: u32, population: u32) -> Option<Self> {
        (sampled > 0 && population >= sampled).then_some(Self { population, sampled })
    }

    /// Whether every packet was looked at.
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.population == self.sampled
    }

    /// How many packets one stands for.
    #[must_use]
    pub fn interval(self) -> f64 {
        f64::from(self.population) / f64::from(self.sampled)
    }

    /// The same in whole packets, the nearest number.
    #[must_use]
    pub fn rounded(self) -> u32 {
        let (population, sampled) = (u64::from(self.population), u64::from(self.sampled));
        u32::try_from((population + sampled / 2) / sampled).unwrap_or(u32::MAX)
    }

    /// A count, scaled to what was there; rounded down, saturating.
    #[must_use]
    pub fn scale(self, count: u64) -> u64 {
        let scaled = u128::from(count) * u128::from(self.population) / u128::from(self.sampled);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

/// What an exporter has said about its samplers.
#[derive(Clone, Debug, Default)]
pub(super) struct Samplers {
    /// What holds for records that name no sampler.
    pub(super) default: Option<SamplingRate>,
    by_id: HashMap<u64, SamplingRate>,
}

/// What one record says about sampling, gathered field by field.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SamplingFields {
    id: Option<u64>,
    interval: Option<u32>,
    packets: Option<u32>,
    space: Option<u32>,
    size: Option<u32>,
    population: Option<u32>,
    probability: Option<f64>,
}

impl SamplingFields {
    /// Whether one of IANA's elements is about sampling.
    pub(super) fn is_one(id: u16) -> bool {
        matches!(id, 34 | 48 | 50 | 302 | 305 | 306 | 309..=311)
    }

    /// Takes note of one of IANA's elements, if it is about sampling.
    pub(super) fn take(&mut self, id: u16, bytes: &[u8]) {
        if !Self::is_one(id) {
            return;
        }
        let number = unsigned(bytes);
        let short = Some(u32::try_from(number).unwrap_or(u32::MAX));
        match id {
            48 | 302 => self.id = Some(number),
            34 | 50 => self.interval = short,
            305 => self.packets = short,
            306 => self.space = short,
            309 => self.size = short,
            310 => self.population = short,
            _ => self.probability = (bytes.len() == 8).then(|| f64::from_bits(number)),
        }
    }

    /// The rate that the record itself states.
    fn rate(&self) -> Option<SamplingRate> {
        if let Some(interval) = self.interval {
            // 0 is how some exporters say that they do not sample.
            return SamplingRate::new(1, interval.max(1));
        }
        if let (Some(packets), Some(space)) = (self.packets, self.space) {
            return SamplingRate::new(packets, packets.saturating_add(space));
        }
        if let (Some(size), Some(population)) = (self.size, self.population) {
            return SamplingRate::new(size, population);
        }
        let probability = self.probability.filter(|p| *p > 0.0 && *p <= 1.0)?;
        SamplingRate::new(1, (1.0 / probability).round() as u32)
    }
}

impl Samplers {
    /// Learns from a record that describes the exporter; whether there was something to learn.
    pub(super) fn learn(&mut self, fields: &SamplingFields) -> bool {
        let Some(rate) = fields.rate() else {
            return false;
        };
        match fields.id {
            None => self.default = Some(rate),
            Some(id) if self.by_id.len() < MAX_SAMPLERS || self.by_id.contains_key(&id) => {
                self.by_id.insert(id, rate);
            }
            Some(_) => return false,
        }
        true
    }

    /// The rate that holds for a flow record: its own, that of the sampler it names, or the exporter's.
    #[inline]
    pub(super) fn rate_of(&self, fields: &SamplingFields) -> Option<SamplingRate> {
        let named = || fields.id.and_then(|id| self.by_id.get(&id).copied());
        // An exporter with a single sampler often does not name it.
        let only = || match self.by_id.len() {
            1 if fields.id.is_none() => self.by_id.values().next().copied(),
            _ => None,
        };
        fields.rate().or_else(named).or(self.default).or_else(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(u16, &[u8])]) -> SamplingFields {
        let mut fields = SamplingFields::default();
        for (id, bytes) in list {
            fields.take(*id, bytes);
        }
        fields
    }

    #[test]
    fn all_ways_to_state_a_rate_are_understood() {
        let interval = |list: &[(u16, &[u8])]| fields(list).rate().map(SamplingRate::interval);
        assert_eq!(interval(&[(34, &[0, 0, 1, 0])]), Some(256.0));
        assert_eq!(interval(&[(50, &[100])]), Some(100.0));
        assert_eq!(interval(&[(305, &[2]), (306, &[3])]), Some(2.5));
        assert_eq!(interval(&[(309, &[1]), (310, &[64])]), Some(64.0));
        assert_eq!(interval(&[(311, &0.01_f64.to_bits().to_be_bytes())]), Some(100.0));
        assert_eq!(interval(&[(34, &[0])]), Some(1.0), "0 is no sampling");
        for nonsense in [
            &[(309, &[9_u8][..]), (310, &[1])][..],
            &[(311, &[0; 8])],
            &[(311, &[0xff; 8])],
            &[],
        ] {
            assert_eq!(interval(nonsense), None);
        }
    }

    #[test]
    fn a_flow_has_its_own_rate_or_its_samplers_or_the_exporters() {
        let mut samplers = Samplers::default();
        assert!(samplers.learn(&fields(&[(48, &[7]), (50, &[10])])));
        let rate = |samplers: &Samplers, list: &[(u16, &[u8])]| {
            samplers.rate_of(&fields(list)).map(SamplingRate::interval)
        };
        assert_eq!(rate(&samplers, &[]), Some(10.0), "there is one sampler");
        assert_eq!(rate(&samplers, &[(48, &[0])]), None, "another sampler");
        assert!(samplers.learn(&fields(&[(34, &[20])])));
        assert_eq!(rate(&samplers, &[]), Some(20.0));
        assert_eq!(rate(&samplers, &[(48, &[7])]), Some(10.0));
        assert_eq!(rate(&samplers, &[(48, &[7]), (34, &[5])]), Some(5.0));
        assert!(!samplers.learn(&fields(&[(48, &[7])])));
    }

    #[test]
    fn scaled_counts_do_not_overflow() {
        let rate = SamplingRate::new(2, 5).unwrap();
        assert_eq!((rate.scale(3), rate.scale(u64::MAX)), (7, u64::MAX));
        assert_eq!(rate.rounded(), 3, "2.5");
        let most = SamplingRate::new(1, u32::MAX).unwrap();
        assert_eq!((most.rounded(), most.scale(1)), (u32::MAX, u32::MAX.into()));
        assert_eq!(SamplingRate::new(0, 1), None);
    }
}
