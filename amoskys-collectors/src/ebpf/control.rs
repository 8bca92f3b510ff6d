//! The maps that user space writes: filters and settings, of both objects at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};

use super::config::{CallStreams, EbpfConfig, EbpfFilters, Selection};
use super::counters::KernelStats;
use super::error::EbpfError;
use super::record::EventKind;
use super::sensor::{Counters, Sensor, SettingsBytes, add_counts, settings};

/// Changes the filters of a sensor while it runs, and reads its counters. Clones are the same.
#[derive(Clone)]
pub struct EbpfHandle(Arc<Mutex<Maps>>);

impl std::fmt::Debug for EbpfHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbpfHandle").finish_non_exhaustive()
    }
}

/// The maps of one object.
struct ObjectMaps {
    settings: Array<MapData, SettingsBytes>,
    counters: Counters,
    uids: HashMap<MapData, u32, u8>,
    cgroups: HashMap<MapData, u64, u8>,
}

struct Maps {
    events: ObjectMaps,
    calls: Option<(ObjectMaps, Array<MapData, u8>)>,
    ports: HashMap<MapData, u16, u8>,
    watched: LpmTrie<MapData, [u8; 256], u8>,
    filters: EbpfFilters,
    state: Settings,
}

/// `struct settings`.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    kinds: u64,
    kill_kinds: u64,
    own_pid: u32,
    modes: [u32; 5],
    streams: u32,
    only_denied: u32,
    generation: u32,
}

impl EbpfHandle {
    pub(super) fn new(sensor: &mut Sensor, config: &EbpfConfig, own_pid: u32) -> Result<Self, EbpfError> {
        let events = ObjectMaps::take(|name| sensor.take(name))?;
        let failed = EbpfError::map;
        let ports = HashMap::try_from(sensor.take("PORTS")?).map_err(failed("ports"))?;
        let watched = LpmTrie::try_from(sensor.take("WATCHED")?).map_err(failed("watched paths"))?;
        let missing = |name| EbpfError::Map {
            what: name,
            source: "the object has no such map".into(),
        };
        let calls = match sensor.take_of_calls("CALL_SET") {
            None => None,
            Some(set) => {
                let set = Array::try_from(set?).map_err(failed("set of calls"))?;
                let take = |name| sensor.take_of_calls(name).unwrap_or_else(|| Err(missing(name)));
                Some((ObjectMaps::take(take)?, set))
            }
        };
        let kinds = |kinds: &[EventKind]| kinds.iter().fold(0, |bits, kind| bits | kind.bit());
        let mut maps = Maps {
            events,
            calls,
            ports,
            watched,
            filters: EbpfFilters {
                watched: Vec::new(),
                ..EbpfFilters::default()
            },
            state: Settings {
                kinds: kinds(&config.events),
                kill_kinds: kinds(&config.enforcement.kill_on),
                own_pid,
                streams: config.streams as u32,
                ..Settings::default()
            },
        };
        maps.set_filters(&config.filters)?;
        Ok(Self(Arc::new(Mutex::new(maps))))
    }

    /// Replaces all filters. Events that happen meanwhile may meet old ones and new ones.
    ///
    /// # Errors
    ///
    /// If a filter is out of range, or a map of the programs cannot be written.
    pub fn set_filters(&self, filters: &EbpfFilters) -> Result<(), EbpfError> {
        filters.validate()?;
        self.lock().set_filters(filters)
    }

    /// The filters as they are.
    #[must_use]
    pub fn filters(&self) -> EbpfFilters {
        self.lock().filters.clone()
    }

    /// Chooses kinds of events, among those for which programs were attached at the start.
    ///
    /// # Errors
    ///
    /// If a map of the programs cannot be written.
    pub fn set_events(&self, events: &[EventKind]) -> Result<(), EbpfError> {
        let mut maps = self.lock();
        maps.state.kinds = events.iter().fold(0, |bits, kind| bits | kind.bit());
        maps.write_settings()
    }

    /// What the programs counted since they were attached.
    ///
    /// # Errors
    ///
    /// If a map of the programs cannot be read.
    pub fn stats(&self) -> Result<KernelStats, EbpfError> {
        let maps = self.lock();
        let mut stats = KernelStats::default();
        add_counts(&mut stats, &maps.events.counters)?;
        if let Some((calls, _)) = &maps.calls {
            add_counts(&mut stats, &calls.counters)?;
        }
        Ok(stats)
    }

    /// What is recorded of all system calls now: less than was configured, if the reader could not keep up.
    #[must_use]
    pub fn streams(&self) -> CallStreams {
        match self.lock().state.streams {
            2 => CallStreams::Sequences,
            1 => CallStreams::Histograms,
            _ => CallStreams::None,
        }
    }

    pub(super) fn set_streams(&self, streams: CallStreams) -> Result<(), EbpfError> {
        let mut maps = self.lock();
        maps.state.streams = streams as u32;
        maps.write_settings()
    }

    /// Whether a path begins like one that is watched.
    pub(super) fn is_watched(&self, path: &str) -> bool {
        self.lock()
            .filters
            .watched
            .iter()
            .any(|prefix| path.starts_with(prefix.as_str()))
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectMaps {
    fn take(
        mut take: impl FnMut(&'static str) -> Result<aya::maps::Map, EbpfError>,
    ) -> Result<Self, EbpfError> {
        Ok(Self {
            settings: settings(take("SETTINGS")?)?,
            counters: Counters::try_from(take("COUNTS")?).map_err(EbpfError::map("counters"))?,
            uids: HashMap::try_from(take("UIDS")?).map_err(EbpfError::map("users"))?,
            cgroups: HashMap::try_from(take("CGROUPS")?).map_err(EbpfError::map("control groups"))?,
        })
    }

    fn fill(&mut self, filters: &EbpfFilters) -> Result<(), EbpfError> {
        fill(&mut self.uids, &filters.uids).map_err(EbpfError::map("users"))?;
        fill(&mut self.cgroups, &filters.cgroups).map_err(EbpfError::map("control groups"))
    }
}

impl Maps {
    fn set_filters(&mut self, filters: &EbpfFilters) -> Result<(), EbpfError> {
        self.events.fill(filters)?;
        fill(&mut self.ports, &filters.ports).map_err(EbpfError::map("ports"))?;
        if let Some((calls, set)) = &mut self.calls {
            calls.fill(filters)?;
            for call in 0..512 {
                let chosen = filters.calls.values().contains(&call);
                set.set(call, u8::from(chosen), 0)
                    .map_err(EbpfError::map("set of calls"))?;
            }
        }
        let before: BTreeSet<&String> = self.filters.watched.iter().collect();
        let after: BTreeSet<&String> = filters.watched.iter().collect();
        let failed = || EbpfError::map("watched paths");
        for path in after.difference(&before) {
            self.watched.insert(&prefix(path), 1, 0).map_err(failed())?;
        }
        for path in before.difference(&after) {
            self.watched.remove(&prefix(path)).map_err(failed())?;
        }
        self.state.modes = [
            filters.uids.mode(),
            filters.cgroups.mode(),
            filters.ports.mode(),
            0,
            filters.calls.mode(),
        ];
        self.state.only_denied = u32::from(filters.only_denied_failures);
        self.filters = filters.clone();
        self.write_settings()
    }

    fn write_settings(&mut self) -> Result<(), EbpfError> {
        self.state.generation = self.state.generation.wrapping_add(1);
        let bytes = self.state.bytes();
        let calls = self.calls.as_mut().map(|(calls, _)| calls);
        for object in [&mut self.events].into_iter().chain(calls) {
            object
                .settings
                .set(0, bytes, 0)
                .map_err(EbpfError::map("settings"))?;
        }
        Ok(())
    }
}

impl Settings {
    fn bytes(&self) -> SettingsBytes {
        let mut bytes = [0; size_of::<SettingsBytes>()];
        let words = [self.own_pid].into_iter().chain(self.modes).chain([
            self.streams,
            self.only_denied,
            self.generation,
        ]);
        bytes[..8].copy_from_slice(&self.kinds.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.kill_kinds.to_ne_bytes());
        for (place, word) in bytes[16..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Makes the keys of a map those of a selection.
fn fill<K: aya::Pod + Ord>(
    map: &mut HashMap<MapData, K, u8>,
    selection: &Selection<K>,
) -> Result<(), MapError> {
    let wanted: BTreeSet<K> = selection.values().iter().copied().collect();
    let present = map.keys().collect::<Result<BTreeSet<K>, _>>()?;
    for key in wanted.difference(&present) {
        map.insert(key, 1, 0)?;
    }
    for key in present.difference(&wanted) {
        map.remove(key)?;
    }
    Ok(())
}

fn prefix(path: &str) -> Key<[u8; 256]> {
    let mut text = [0; 256];
    text[..path.len()].copy_from_slice(path.as_bytes());
    Key::new(path.len() as u32 * 8, text)
}
