//! What is known of one part of an exporter.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::Timestamp;

use super::NetflowConfig;
use super::element::unsigned;
use super::record::{Export, ExportRecord};
use super::sampling::Samplers;
use super::sequence::{Sequence, Uptime};
use super::template::Template;

/// An exporter's templates, sequence and samplers, and what waits for a template.
#[derive(Debug, Default)]
pub(super) struct Domain {
    pub(super) templates: HashMap<u16, Known>,
    pub(super) sequence: Sequence,
    pub(super) uptime: Uptime,
    pub(super) samplers: Samplers,
    /// When the exporter booted, if it said so in a record of its own.
    pub(super) booted: Option<Timestamp>,
    /// When something came last.
    pub(super) seen: Timestamp,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// No template expires before it.
    expiry: Option<Timestamp>,
}

/// A template, and when it was sent last.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) template: Arc<Template>,
    sent: Timestamp,
}

/// A set whose template is not known yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) export: Export,
    pub(super) id: u16,
    pub(super) set: Box<[u8]>,
}

/// What the exporters occupy together, in bytes.
#[derive(Debug, Default)]
pub(super) struct Room {
    templates: usize,
    waiting: usize,
}

impl Room {
    /// Whether sets have to be given up for another to wait.
    pub(super) fn is_waiting_full(&self, config: &NetflowConfig) -> bool {
        self.waiting + config.max_waiting_bytes / 2 > config.max_total_waiting_bytes
    }
}

impl Waiting {
    fn memory(&self) -> usize {
        size_of::<Self>() + self.set.len()
    }
}

impl Domain {
    /// Keeps a template; whether there was room for it.
    pub(super) fn learn(
        &mut self,
        id: u16,
        template: Template,
        now: Timestamp,
        config: &NetflowConfig,
        room: &mut Room,
    ) -> bool {
        self.expiry.get_or_insert(now.plus(config.template_lifetime));
        if let Some(known) = self.templates.get_mut(&id)
            && *known.template == template
        {
            known.sent = now;
            return true;
        }
        let replaced = self.templates.remove(&id);
        room.templates -= replaced.map_or(0, |known| known.template.memory());
        let memory = template.memory();
        if self.templates.len() >= config.max_templates || room.templates + memory > config.max_template_bytes
        {
            return false;
        }
        room.templates += memory;
        let template = Arc::new(template);
        self.templates.insert(id, Known { template, sent: now });
        true
    }

    /// Forgets templates that were not sent again in time; says how many.
    pub(super) fn expire(&mut self, now: Timestamp, lifetime: Duration, room: &mut Room) -> u64 {
        if self.expiry.is_none_or(|expiry| now <= expiry) {
            return 0;
        }
        let (before, oldest) = (self.templates.len(), now.minus(lifetime));
        self.templates.retain(|_, known| {
            let stays = known.sent >= oldest;
            if !stays {
                room.templates -= known.template.memory();
            }
            stays
        });
        let earliest = self.templates.values().map(|known| known.sent).min();
        self.expiry = earliest.map(|sent| sent.plus(lifetime));
        (before - self.templates.len()) as u64
    }

    /// Forgets all templates.
    pub(super) fn forget_templates(&mut self, room: &mut Room) {
        for known in self.templates.drain() {
            room.templates -= known.1.template.memory();
        }
        self.expiry = None;
    }

    /// The exporter began anew: what it said of its numbers and clocks does not hold any more.
    pub(super) fn restart(&mut self) {
        self.sequence.reset();
        self.booted = None;
    }

    /// Keeps a set until its template comes; says how many sets were given up for want of room.
    pub(super) fn wait(&mut self, waiting: Waiting, config: &NetflowConfig, room: &mut Room) -> u64 {
        let memory = waiting.memory();
        let mut given_up = 0;
        while self.waiting_bytes + memory > config.max_waiting_bytes {
            let Some(oldest) = self.waiting.pop_front() else {
                return given_up + 1;
            };
            self.waiting_bytes -= oldest.memory();
            room.waiting -= oldest.memory();
            given_up += 1;
        }
        if room.waiting + memory > config.max_total_waiting_bytes {
            return given_up + 1;
        }
        self.waiting_bytes += memory;
        room.waiting += memory;
        self.waiting.push_back(waiting);
        given_up
    }

    /// Gives up what has waited since before `oldest`; says how many sets it was.
    pub(super) fn give_up_old(&mut self, oldest: Timestamp, room: &mut Room) -> u64 {
        let mut given_up = 0;
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.export.received < oldest)
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.waiting_bytes -= waiting.memory();
            room.waiting -= waiting.memory();
            given_up += 1;
        }
        given_up
    }

    /// What waited for this template, in the order it came.
    pub(super) fn take_waiting(&mut self, id: u16, room: &mut Room) -> Vec<Waiting> {
        if !self.waiting.iter().any(|waiting| waiting.id == id) {
            return Vec::new();
        }
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for waiting in self.waiting.drain(..) {
            if waiting.id == id {
                taken.push(waiting);
            } else {
                left.push_back(waiting);
            }
        }
        let memory: usize = taken.iter().map(Waiting::memory).sum();
        self.waiting_bytes -= memory;
        room.waiting -= memory;
        self.waiting = left;
        taken
    }

    /// Gives up what waits; says how many sets it was.
    pub(super) fn give_up(&mut self, room: &mut Room) -> u64 {
        room.waiting -= std::mem::take(&mut self.waiting_bytes);
        let count = self.waiting.len() as u64;
        self.waiting.clear();
        count
    }

    /// Takes note of when the exporter booted.
    pub(super) fn learn_boot(&mut self, record: &ExportRecord<'_>) {
        let boot = record
            .fields()
            .find(|field| field.enterprise == 0 && field.id == 160);
        let ms = boot.map(|field| unsigned(field.bytes)).filter(|ms| *ms > 0);
        if let Some(ms) = ms.and_then(|ms| i64::try_from(ms).ok()) {
            self.booted = Some(Timestamp::from_nanos(ms.saturating_mul(1_000_000)));
        }
    }
}
