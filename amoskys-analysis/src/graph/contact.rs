//! Scores conversations: edges of which also service, outcome and volume are known.

use amoskys_core::event::ScoreInterval;
use serde::{Deserialize, Serialize};

use super::edge::{EdgeParams, EdgeScore, EdgeScorer, Role};
use super::{GraphError, Nodes};
use crate::calibrate::share_interval;
use crate::measure::{BoundedMap, mix};

/// A conversation between two nodes, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Who began it.
    pub source: u64,
    /// Whom it was meant for.
    pub destination: u64,
    /// What was asked for, a number of the caller's choosing: see [`Nodes::port`]. The same for the same kind of service of any
    /// destination.
    pub service: u64,
    /// Whether data came back; `None` if it is not known.
    pub answered: Option<bool>,
    /// Payload bytes the source sent, if they are known.
    pub bytes: Option<u64>,
}

/// Settings of a [`ContactScorer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContactParams {
    /// Of the edges alone. By default [`Role::Either`] and ticks of a minute.
    pub edges: EdgeParams,
    /// Ticks after which a failure counts half. Default 10,080: a week of minutes, so that a scan of a port an hour adds up.
    pub failure_half_life: f32,
    /// Share of first contacts that fail for an honest source. Default 0.1.
    pub honest_failures: f32,
    /// The same for one that probes. Default 0.8 (Jung et al. 2004).
    pub probing_failures: f32,
    /// Conversations, services and sources remembered, each. Default 65,536, at most about 30 MB in all.
    pub capacity: usize,
}

impl Default for ContactParams {
    fn default() -> Self {
        Self {
            edges: EdgeParams {
                role: Role::Either,
                ..EdgeParams::default()
            },
            failure_half_life: 10_080.0,
            honest_failures: 0.1,
            probing_failures: 0.8,
            capacity: 65_536,
        }
    }
}

/// What a conversation amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ContactScore {
    /// All parts together: `edge.value + strange_service + strange_volume + probing`, the last being the greatest of the
    /// three that follow it. Higher is more anomalous.
    pub value: f32,
    /// What its ends and its minute say.
    pub edge: EdgeScore,
    /// Whether source, destination and service were not seen together before.
    pub first: bool,
    /// How rarely the destination is asked for such a service, in nats. Strangers who ask a server for what it serves add nothing.
    pub strange_service: f32,
    /// How far the bytes sent are above those of earlier contacts of the same kind, in nats of a normal tail; none below.
    pub strange_volume: f32,
    /// Evidence that the source looks for one service on many destinations, in nats.
    pub sweep: f32,
    /// Evidence that the source looks for services of one destination, in nats.
    pub scan: f32,
    /// Evidence that one service is looked for by many sources that get no answer, in nats.
    pub flood: f32,
}

impl ContactScore {
    /// The greatest of `sweep`, `scan` and `flood`.
    #[must_use]
    pub fn probing(&self) -> f32 {
        self.sweep.max(self.scan).max(self.flood)
    }
}

/// Scores conversations from those before them, in bounded memory.
///
/// To what [`EdgeScorer`] sees of the ends it adds what the conversation tells:
///
/// - **Outcomes.** First contacts are a random walk (threshold random walk, Jung et al. 2004): each failure is evidence for
///   probing, each answer against it, and the sum never falls below zero, so that honest work earns no credit. The walk
///   is kept for each source and service, over destinations, and for each source and destination, over services: honest
///   work of the same host on other services says nothing about them. It has no window: what is half forgotten after
///   a week adds up also if a probe comes once an hour.
/// - **Services.** How often this destination is asked for this service, among all that it is asked for. On an open server new
///   sources are normal; that one asks for something that nobody asks for is not.
/// - **Volume.** Bytes sent, in their logarithm, against earlier contacts of the same three, or of the same service if there
///   are none.
///
/// # When it fails
///
/// A probe that is answered is a conversation. Whoever probes fewer hosts or ports than it takes to be sure (about six
/// failures) is not heard. A broken program that looks for a service that moved away probes; so do peer-to-peer programs. When
/// conversations are forgotten because there are too many, contacts seem first that are not.
///
/// # Cost
///
/// About a microsecond a conversation.
#[derive(Debug, Serialize, Deserialize)]
pub struct ContactScorer {
    params: ContactParams,
    edges: EdgeScorer,
    origin: Option<u64>,
    now: u64,
    /// Conversations by source, destination and service.
    known: BoundedMap<u64, Volume>,
    /// What sources send to a service.
    volumes: BoundedMap<u64, Volume>,
    /// Contacts of a destination, in all and by service.
    asked: BoundedMap<u64, f32>,
    sweeps: BoundedMap<u64, Walk>,
    scans: BoundedMap<u64, Walk>,
    floods: BoundedMap<u64, Walk>,
}

/// Evidence that adds up and fades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Walk {
    nats: f32,
    tick: u64,
}

/// Mean and spread of the logarithm of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Volume {
    count: f32,
    mean: f32,
    squares: f32,
}

/// Contacts after which the mean of a conversation's volume is not given more weight: it follows slow changes.
const VOLUME_MEMORY: f32 = 100.0;
/// Contacts from which on a volume can be strange.
const VOLUME_FEWEST: f32 = 10.0;
/// Bytes differ by this factor (e) between any two contacts without meaning.
const VOLUME_SPREAD: f32 = 1.0;
/// No single walk says more than this: beyond it there is nothing to be surer of.
const CERTAIN: f32 = 60.0;

impl ContactScorer {
    /// A scorer that has seen nothing.
    ///
    /// # Errors
    ///
    /// [`GraphError::Setting`] if a setting is out of range.
    pub fn new(params: &ContactParams) -> Result<Self, GraphError> {
        let share = |share: f32| share > 0.0 && share < 1.0;
        let refuse = |setting, reason| Err(GraphError::Setting { setting, reason });
        if !share(params.honest_failures) || !share(params.probing_failures) {
            return refuse("honest_failures and probing_failures", "must be between 0 and 1");
        }
        if params.honest_failures >= params.probing_failures {
            return refuse("honest_failures", "must be below probing_failures");
        }
        if !(params.failure_half_life >= 1.0 && params.failure_half_life.is_finite()) {
            return refuse("failure_half_life", "must be a number of ticks from 1 up");
        }
        if params.capacity == 0 {
            return refuse("capacity", "must be 1 or more");
        }
        let capacity = params.capacity;
        Ok(Self {
            edges: EdgeScorer::new(&params.edges)?,
            params: params.clone(),
            origin: None,
            now: 0,
            known: BoundedMap::new(capacity),
            volumes: BoundedMap::new(capacity),
            asked: BoundedMap::new(capacity),
            sweeps: BoundedMap::new(capacity),
            scans: BoundedMap::new(capacity),
            floods: BoundedMap::new(capacity),
        })
    }

    /// Scores a conversation, and remembers it. Ticks as for [`EdgeScorer::score`]. Call it once for each, when its outcome is
    /// known.
    pub fn score(&mut self, contact: &Contact, tick: u64) -> ContactScore {
        let origin = *self.origin.get_or_insert(tick);
        self.now = self.now.max(tick.saturating_sub(origin));
        let Contact {
            source,
            destination,
            service,
            ..
        } = *contact;
        let edge = self.edges.score(source, destination, tick);
        let three = mix(mix(source ^ mix(destination)) ^ service);
        let served = mix(destination ^ mix(service));
        let sought = mix(source ^ mix(service));

        let first = self.known.peek(&three).is_none();
        let strange_volume = self.volume(contact, three, sought);
        let strange_service = self.service(destination, served);
        let (mut sweep, mut scan, mut flood) = (0.0, 0.0, 0.0);
        if let Some(answered) = contact.answered {
            let step = self.step(answered);
            let (now, half_life) = (self.now, self.params.failure_half_life);
            // A contact that is known tells nothing new, unless it has never been answered.
            let step = if first { step } else { 0.0 };
            sweep = self
                .sweeps
                .entry(&sought, Walk::default)
                .walk(step, now, half_life);
            let pair = mix(source ^ mix(destination).rotate_left(1));
            scan = self.scans.entry(&pair, Walk::default).walk(step, now, half_life);
            flood = self
                .floods
                .entry(&served, Walk::default)
                .walk(step, now, half_life);
        }
        let mut score = ContactScore {
            value: 0.0,
            edge,
            first,
            strange_service,
            strange_volume,
            sweep,
            scan,
            flood,
        };
        score.value = edge.value + strange_service + strange_volume + score.probing();
        score
    }

    /// Takes the volume of a conversation that was scored before its volume was known: `strange_volume`, and nothing else.
    pub fn ended(&mut self, contact: &Contact) -> f32 {
        let Contact {
            source,
            destination,
            service,
            ..
        } = *contact;
        let three = mix(mix(source ^ mix(destination)) ^ service);
        self.volume(contact, three, mix(source ^ mix(service)))
    }

    /// Entries forgotten because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        let walks = self.sweeps.evicted() + self.scans.evicted() + self.floods.evicted();
        self.edges.evicted() + self.known.evicted() + self.volumes.evicted() + self.asked.evicted() + walks
    }

    /// Whether another scorer has the same settings, so that its state can be gone on from.
    pub(super) fn same_settings(&self, other: &Self) -> bool {
        let mut edges = self.edges.clone();
        self.params == other.params && edges.adopt(other.edges.clone()).is_ok()
    }

    /// What a first contact with this outcome is worth.
    fn step(&self, answered: bool) -> f32 {
        let (probing, honest) = (self.params.probing_failures, self.params.honest_failures);
        if answered {
            ((1.0 - probing) / (1.0 - honest)).ln()
        } else {
            (probing / honest).ln()
        }
    }

    /// Between which bounds evidence of probing lies, by the number of failed contacts that it amounts to: of as many, another share
    /// might have failed. 90 %, as of verdicts.
    pub(super) fn probing_bounds(&self, nats: f64) -> [f64; 2] {
        let (failure, answer) = (f64::from(self.step(false)), f64::from(self.step(true)));
        let contacts = nats / failure;
        let (low, high) = share_interval(contacts, contacts, ScoreInterval::CONFIDENCE);
        [low, high].map(|share| contacts * (share * failure + (1.0 - share) * answer))
    }

    /// How much more is sent than was before.
    fn volume(&mut self, contact: &Contact, three: u64, sought: u64) -> f32 {
        let Some(bytes) = contact.bytes else {
            self.known.entry(&three, Volume::default);
            return 0.0;
        };
        let logarithm = (bytes as f32 + 1.0).ln();
        let known = self.known.entry(&three, Volume::default);
        let of_these = known.excess(logarithm);
        known.add(logarithm);
        let service = self.volumes.entry(&mix(contact.service), Volume::default);
        let of_service = service.excess(logarithm);
        service.add(logarithm);
        let own = self.volumes.entry(&sought, Volume::default);
        let of_source = own.excess(logarithm);
        own.add(logarithm);
        of_these.or(of_source).or(of_service).unwrap_or(0.0)
    }

    /// How rarely the destination is asked for such a service.
    fn service(&mut self, destination: u64, served: u64) -> f32 {
        let all = self.asked.entry(&destination, || 0.0);
        let total = *all;
        *all += 1.0;
        let of_service = self.asked.entry(&served, || 0.0);
        let chance = (*of_service + 0.5) / (total + 1.0);
        *of_service += 1.0;
        -chance.min(1.0).ln()
    }
}

impl Walk {
    fn walk(&mut self, step: f32, now: u64, half_life: f32) -> f32 {
        let passed = now.saturating_sub(self.tick) as f32 / half_life;
        let faded = self.nats * super::number::halved(passed);
        self.nats = (faded + step).clamp(0.0, CERTAIN);
        self.tick = now;
        self.nats
    }
}

impl Volume {
    /// Nats of a normal tail above the mean; `None` before there is enough to compare with.
    fn excess(&self, value: f32) -> Option<f32> {
        (self.count >= VOLUME_FEWEST).then(|| {
            let variance = self.squares / self.count + VOLUME_SPREAD * VOLUME_SPREAD;
            let above = (value - self.mean).max(0.0);
            // Three spreads are within what happens.
            let far = (above * above / variance - 9.0).max(0.0) / 2.0;
            far.min(CERTAIN)
        })
    }

    fn add(&mut self, value: f32) {
        self.count = (self.count + 1.0).min(VOLUME_MEMORY);
        let apart = value - self.mean;
        self.mean += apart / self.count;
        // Once the memory is full, an old share goes for each new one.
        let kept = if self.count < VOLUME_MEMORY {
            1.0
        } else {
            1.0 - 1.0 / VOLUME_MEMORY
        };
        self.squares = self.squares * kept + apart * (value - self.mean);
    }
}

impl Contact {
    /// A conversation of two hosts.
    #[must_use]
    pub fn of_hosts(
        nodes: &Nodes,
        client: std::net::IpAddr,
        server: std::net::IpAddr,
        protocol: u8,
        port: u16,
    ) -> Self {
        Self {
            source: nodes.host(client),
            destination: nodes.host(server),
            service: nodes.port(protocol, port),
            ..Self::default()
        }
    }
}
