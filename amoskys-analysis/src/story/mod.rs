//! Stories: alerts that follow from each other, from the first way in to what was done in the end.
//!
//! An alert says one thing about one host. [`Stories`] puts alerts together that are about the same host, or about hosts that they link,
//! at most a day apart, and tells them in order: `reverse shell → rights gained → job written → process injected`. Nothing is lost by
//! it: each alert stays what it is and gets the name of the story that it is part of.
//!
//! Stories are drawn from alerts alone, so that whoever has these in the same order draws the same: the alert file, the report
//! and [`Review`](crate::Review) agree.
//!
//! # What links
//!
//! - the same host: by address, by name, or by a connection that one of its processes made from an address;
//! - a host that was attacked in a way that gets one in (execution, guessed passwords, lateral movement, exploits, not a scan), and
//!   does something itself afterwards;
//! - a host that calls one that is accused, or calls the same outside host as another did before (commands and controls,
//!   exfiltration, reverse shells).
//!
//! An alert that fits several stories is part of the one that began first. Stories that turn out to be one stay two: what was written
//! down is not renamed.

mod teller;

pub(crate) use self::teller::machine;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::{Entity, Technique, Verdict, VerdictId};

use crate::alert::Alert;
use crate::attack::{self, Tactic};
use crate::correlation::Host;
use crate::measure::seconds_between;
use crate::sighting::is_local;

/// Seconds after the last alert of a story at which it is over.
const OVER: f64 = 86_400.0;
/// Stories that are remembered; the one that ended first goes.
const STORIES: usize = 1_000;
/// Alerts of one story that are told; of further ones only the number is kept.
const CHAPTERS: usize = 100;
/// Names and addresses of one story that link.
const LINKS: usize = 64;

/// Puts alerts together to stories, in the order in which it gets them.
///
/// Memory is bounded: 1,000 stories of 100 alerts each.
#[derive(Clone, Debug, Default)]
pub struct Stories {
    stories: BTreeMap<(Timestamp, VerdictId), Story>,
    of_alert: BTreeMap<VerdictId, (Timestamp, VerdictId)>,
}

/// Alerts that follow from each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    id: VerdictId,
    chapters: BTreeMap<(Timestamp, VerdictId), Chapter>,
    left_out: u64,
    updated: Timestamp,
    hosts: BTreeSet<Host>,
    victims: BTreeSet<IpAddr>,
    /// Outside hosts that were called.
    called: BTreeSet<IpAddr>,
}

/// An alert as part of a story.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Chapter {
    /// The alert.
    pub id: VerdictId,
    /// When it was raised, in event time.
    pub time: Timestamp,
    /// The one accused: an address, or a name.
    pub host: String,
    /// What was done, if a technique fits.
    pub technique: Option<Technique>,
    /// What it was done for, if known.
    pub tactic: Option<Tactic>,
    /// One line for people.
    pub title: String,
    /// Probability that it is an attack.
    pub score: f64,
}

impl Story {
    /// Its name: the id of the alert that it began with.
    #[must_use]
    pub const fn id(&self) -> VerdictId {
        self.id
    }

    /// Its alerts in order of their time. At most 100.
    pub fn chapters(&self) -> impl Iterator<Item = &Chapter> {
        self.chapters.values()
    }

    /// Alerts that are part of it and not among the chapters.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Time of the latest event behind it.
    #[must_use]
    pub const fn updated(&self) -> Timestamp {
        self.updated
    }

    /// What was done, in order, each tactic where it first appears.
    #[must_use]
    pub fn tactics(&self) -> Vec<Tactic> {
        let mut tactics = Vec::new();
        for tactic in self.chapters().filter_map(|chapter| chapter.tactic) {
            if !tactics.contains(&tactic) {
                tactics.push(tactic);
            }
        }
        tactics
    }
}

/// What of an alert matters for whether it is part of a story.
struct Scene {
    chapter: Chapter,
    updated: Timestamp,
    hosts: Vec<Host>,
    peers: Vec<IpAddr>,
}

impl Stories {
    /// No stories yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a verdict, and says which story it is part of; `None` if it is no alert.
    ///
    /// An alert that is one no more leaves its story.
    pub fn take(&mut self, verdict: &Verdict) -> Option<VerdictId> {
        if !verdict.is_alert() {
            self.forget(&verdict.id);
            return None;
        }
        Some(self.place(Scene::of(verdict), None))
    }

    /// Takes an alert as it was written down, with the story that it was part of then.
    pub fn learn(&mut self, alert: &Alert) {
        self.place(Scene::of_line(alert), alert.story);
    }

    /// The story that an alert is part of.
    #[must_use]
    pub fn of(&self, alert: &VerdictId) -> Option<&Story> {
        self.stories.get(self.of_alert.get(alert)?)
    }

    /// The stories, in order of their beginning.
    pub fn stories(&self) -> impl Iterator<Item = &Story> {
        self.stories.values().filter(|story| !story.chapters.is_empty())
    }

    fn place(&mut self, scene: Scene, known: Option<VerdictId>) -> VerdictId {
        let id = scene.chapter.id;
        let named = |id: VerdictId| self.stories.keys().find(|(_, story)| *story == id).copied();
        let key = self
            .of_alert
            .get(&id)
            .copied()
            .or_else(|| known.and_then(named))
            .or_else(|| {
                if known.is_none() {
                    self.fitting(&scene)
                } else {
                    None
                }
            })
            .unwrap_or_else(|| (scene.chapter.time, known.unwrap_or(id)));
        if !self.stories.contains_key(&key) {
            self.make_room();
        }
        let story = self.stories.entry(key).or_insert_with(|| Story {
            id: key.1,
            chapters: BTreeMap::new(),
            left_out: 0,
            updated: scene.updated,
            hosts: BTreeSet::new(),
            victims: BTreeSet::new(),
            called: BTreeSet::new(),
        });
        story.add(scene);
        self.of_alert.insert(id, key);
        key.1
    }

    fn fitting(&self, scene: &Scene) -> Option<(Timestamp, VerdictId)> {
        let fits = self.stories.iter().filter(|(_, story)| story.is_about(scene));
        fits.map(|(key, _)| *key).next()
    }

    fn make_room(&mut self) {
        if self.stories.len() < STORIES {
            return;
        }
        let oldest = self
            .stories
            .iter()
            .min_by_key(|(key, story)| (story.updated, **key));
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.stories.remove(&key);
            self.of_alert.retain(|_, story| *story != key);
        }
    }

    fn forget(&mut self, alert: &VerdictId) {
        if let Some(key) = self.of_alert.remove(alert)
            && let Some(story) = self.stories.get_mut(&key)
        {
            story.chapters.retain(|_, chapter| chapter.id != *alert);
        }
    }
}

impl Story {
    fn is_about(&self, scene: &Scene) -> bool {
        if seconds_between(self.updated, scene.updated).abs() > OVER {
            return false;
        }
        let accused = |address: &IpAddr| self.hosts.contains(&Host::Address(*address));
        let addresses = || {
            scene.hosts.iter().filter_map(|host| match host {
                Host::Address(address) => Some(address),
                Host::Device(_) => None,
            })
        };
        scene.hosts.iter().any(|host| self.hosts.contains(host))
            || addresses().any(|address| self.victims.contains(address))
            || (scene.calls()
                && scene
                    .peers
                    .iter()
                    .any(|peer| accused(peer) || self.called.contains(peer)))
    }

    fn add(&mut self, scene: Scene) {
        self.updated = self.updated.max(scene.updated);
        let calls = scene.calls();
        let gets_in = scene.gets_in();
        for host in scene.hosts {
            if self.hosts.len() < LINKS {
                self.hosts.insert(host);
            }
        }
        for peer in scene.peers {
            if gets_in && self.victims.len() < LINKS {
                self.victims.insert(peer);
            }
            if calls && !is_local(peer) && self.called.len() < LINKS {
                self.called.insert(peer);
            }
        }
        let key = (scene.chapter.time, scene.chapter.id);
        if self.chapters.len() < CHAPTERS || self.chapters.contains_key(&key) {
            self.chapters.insert(key, scene.chapter);
        } else {
            self.left_out += 1;
        }
    }
}

impl Scene {
    fn of(verdict: &Verdict) -> Self {
        Self::new(
            &verdict.entity,
            &verdict.peers,
            verdict.updated,
            Chapter {
                id: verdict.id,
                time: verdict.time,
                host: crate::alert::shown(&verdict.entity),
                technique: verdict.technique.clone(),
                tactic: verdict.technique.as_ref().and_then(attack::tactic),
                title: verdict.title.clone(),
                score: verdict.score,
            },
        )
    }

    fn of_line(alert: &Alert) -> Self {
        let peers: Vec<Entity> = alert.peers.iter().map(|peer| read(peer)).collect();
        Self::new(
            &read(&alert.host),
            &peers,
            alert.time_ns,
            Chapter {
                id: alert.id,
                time: alert.time_ns,
                host: alert.host.clone(),
                technique: alert.technique.clone(),
                tactic: alert.technique.as_ref().and_then(attack::tactic),
                title: alert.title.clone(),
                score: alert.score,
            },
        )
    }

    fn new(entity: &Entity, peers: &[Entity], updated: Timestamp, chapter: Chapter) -> Self {
        let mut hosts: Vec<Host> = Host::of(entity).into_iter().collect();
        let mut others = Vec::new();
        for peer in peers {
            match peer {
                // A connection of the host's own: it says by which address the host is known.
                Entity::Pair(own, other) => {
                    if matches!(hosts.first(), Some(Host::Device(_))) && !hosts.contains(&Host::Address(*own))
                    {
                        hosts.push(Host::Address(*own));
                    }
                    others.push(*other);
                }
                other => others.extend(other.host()),
            }
        }
        Self {
            chapter,
            updated,
            hosts,
            peers: others,
        }
    }

    /// Whether its peers are hosts that it calls, and takes commands from or brings data to.
    fn calls(&self) -> bool {
        use Tactic::{CommandAndControl, Execution, Exfiltration};
        // To be tunnelled to, a resolver need know nothing of it.
        let tunnel = self
            .chapter
            .technique
            .as_ref()
            .is_some_and(|t| t.as_str() == "T1071.004");
        !tunnel
            && matches!(
                self.chapter.tactic,
                Some(CommandAndControl | Execution | Exfiltration)
            )
    }

    /// Whether its peers may be taken over by it.
    fn gets_in(&self) -> bool {
        use Tactic::{CredentialAccess, InitialAccess, LateralMovement};
        // Whose traffic was led astray was not entered.
        let spoofed = self
            .chapter
            .technique
            .as_ref()
            .is_some_and(|t| attack::parent(t) == "T1557");
        !spoofed
            && matches!(
                self.chapter.tactic,
                Some(CredentialAccess | InitialAccess | LateralMovement)
            )
    }
}

/// An entity as an alert's line names it.
fn read(text: &str) -> Entity {
    let address = |text: &str| text.parse::<IpAddr>().ok();
    if let Some((own, other)) = text.split_once("->")
        && let (Some(own), Some(other)) = (address(own), address(other))
    {
        return Entity::Pair(own, other);
    }
    address(text).map_or_else(|| Entity::Named(text.into()), Entity::Host)
}

#[cfg(test)]
mod tests;
