//! Rust types whose shape protobuf does not have, by way of flat parts.

use std::net::IpAddr;

use prost::encoding::WireType;

use super::error::{Fault, Flaw};
use super::message::{enumeration, message, read_nested, write_nested};
use super::scalar::{Element, Field, Held, Present, Scalar};
use crate::event::{ArpOperation, Entity, FlowEnd, FlowPhase};
use crate::id::Name;

enumeration! {
    PhaseKind { Start = 0, Update = 1, End = 2 }
    EntityKind { Host = 0, Pair = 1, Service = 2, Client = 3, Named = 4 }
}

#[derive(Clone, Copy, Default, PartialEq)]
enum PhaseKind {
    #[default]
    Start,
    Update,
    End,
}

#[derive(Default)]
struct PhaseParts {
    kind: PhaseKind,
    end: FlowEnd,
}

message! {
    PhaseParts = Self::default(), "FlowPhase";
    1 kind, strict;
    2 end;
}

impl From<&FlowPhase> for PhaseParts {
    fn from(phase: &FlowPhase) -> Self {
        match phase {
            FlowPhase::Start => Self::default(),
            FlowPhase::Update => Self {
                kind: PhaseKind::Update,
                ..Self::default()
            },
            FlowPhase::End(end) => Self {
                kind: PhaseKind::End,
                end: *end,
            },
        }
    }
}

impl TryFrom<PhaseParts> for FlowPhase {
    type Error = Fault;

    fn try_from(parts: PhaseParts) -> Result<Self, Fault> {
        match parts {
            PhaseParts {
                kind: PhaseKind::Start,
                end: FlowEnd::Idle,
            } => Ok(Self::Start),
            PhaseParts {
                kind: PhaseKind::Update,
                end: FlowEnd::Idle,
            } => Ok(Self::Update),
            PhaseParts {
                kind: PhaseKind::End,
                end,
            } => Ok(Self::End(end)),
            _ => Err(Fault::in_field(Flaw::Contradiction, "FlowPhase.end")),
        }
    }
}

impl Field for FlowPhase {
    #[inline]
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_nested(&PhaseParts::from(self), number, false, out);
    }

    #[inline]
    fn read(
        &mut self,
        number: u32,
        wire: WireType,
        input: &mut &[u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Held, Fault> {
        let mut parts = PhaseParts::default();
        let held = read_nested(&mut parts, number, wire, input, unknown)?;
        *self = Self::try_from(parts)?;
        Ok(held)
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
enum EntityKind {
    #[default]
    Host,
    Pair,
    Service,
    Client,
    Named,
}

#[derive(Default, PartialEq)]
struct EntityParts {
    kind: EntityKind,
    address: Option<IpAddr>,
    peer: Option<IpAddr>,
    protocol: u8,
    port: u16,
    name: Option<Name>,
}

message! {
    EntityParts = Self::default(), "Entity";
    1 kind, strict;
    2 address;
    3 peer;
    4 protocol;
    5 port;
    6 name;
}

impl From<&Entity> for EntityParts {
    fn from(entity: &Entity) -> Self {
        let service = |kind, host, protocol, port| Self {
            kind,
            address: Some(host),
            protocol,
            port,
            ..Self::default()
        };
        match entity {
            Entity::Host(host) => Self {
                address: Some(*host),
                ..Self::default()
            },
            Entity::Pair(a, b) => Self {
                kind: EntityKind::Pair,
                address: Some(*a),
                peer: Some(*b),
                ..Self::default()
            },
            Entity::Service(host, protocol, port) => service(EntityKind::Service, *host, *protocol, *port),
            Entity::Client(host, protocol, port) => service(EntityKind::Client, *host, *protocol, *port),
            Entity::Named(name) => Self {
                kind: EntityKind::Named,
                name: Some(name.clone()),
                ..Self::default()
            },
        }
    }
}

impl TryFrom<EntityParts> for Entity {
    type Error = Fault;

    fn try_from(parts: EntityParts) -> Result<Self, Fault> {
        let missing = |field| move || Fault::in_field(Flaw::Missing, field);
        let address = || parts.address.ok_or_else(missing("Entity.address"));
        let entity = match parts.kind {
            EntityKind::Host => Self::Host(address()?),
            EntityKind::Pair => Self::Pair(address()?, parts.peer.ok_or_else(missing("Entity.peer"))?),
            EntityKind::Service => Self::Service(address()?, parts.protocol, parts.port),
            EntityKind::Client => Self::Client(address()?, parts.protocol, parts.port),
            EntityKind::Named => Self::Named(parts.name.clone().ok_or_else(missing("Entity.name"))?),
        };
        // Whatever is left over belongs to another kind.
        if EntityParts::from(&entity) == parts {
            Ok(entity)
        } else {
            Err(Fault::in_field(Flaw::Contradiction, "Entity.kind"))
        }
    }
}

impl Field for Entity {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        self.write_present(number, out);
    }

    fn read(
        &mut self,
        number: u32,
        wire: WireType,
        input: &mut &[u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Held, Fault> {
        let mut parts = EntityParts::default();
        let held = read_nested(&mut parts, number, wire, input, unknown)?;
        *self = Self::try_from(parts)?;
        Ok(held)
    }
}

impl Present for Entity {
    fn empty() -> Self {
        Self::Named(Name::default())
    }

    fn write_present(&self, number: u32, out: &mut Vec<u8>) {
        write_nested(&EntityParts::from(self), number, true, out);
    }
}

impl Element for Entity {}

impl Field for ArpOperation {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        self.write_present(number, out);
    }

    fn read(
        &mut self,
        number: u32,
        wire: WireType,
        input: &mut &[u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Held, Fault> {
        let mut operation = u16::zero();
        let held = operation.read(number, wire, input, unknown)?;
        *self = Self::from(operation);
        Ok(held)
    }
}

impl Present for ArpOperation {
    fn empty() -> Self {
        Self::Other(0)
    }

    fn write_present(&self, number: u32, out: &mut Vec<u8>) {
        u16::from(*self).write_present(number, out);
    }
}
