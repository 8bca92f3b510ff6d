//! What the messages of verdicts should say.

use amoskys_core::event::*;
use amoskys_core::id::{Digest, Name};

use super::{Says, ip, stream_id};
use crate::peer::{Fields, Node};

pub(super) fn conclusion(verdict: &Verdict) -> Fields {
    let layer = match verdict.layer {
        Layer::Fused => 0,
        Layer::Geometric => 1,
        Layer::Temporal => 2,
        Layer::Behavioral => 3,
        Layer::Rule => 4,
        _ => unreachable!(),
    };
    let evidence = verdict.evidence.iter().map(|evidence| {
        let says = Says::default().put("feature", Node::Text(evidence.feature.to_string()));
        let says = says
            .double("value", evidence.value)
            .double("contribution", evidence.contribution);
        Node::Message(says.0)
    });
    let model = &verdict.model;
    let events = Says::default()
        .put("stream", Node::Message(stream_id(&verdict.events.stream)))
        .uint("first", verdict.events.first.0)
        .uint("last", verdict.events.last.0);
    let mut says = Says::default()
        .put("id", Node::Bytes(verdict.id.0.to_vec()))
        .uint("revision", verdict.revision)
        .int("time_ns", verdict.time.nanos())
        .int("updated_ns", verdict.updated.nanos())
        .number("layer", layer)
        .put("entity", Node::Message(entity(&verdict.entity)))
        .list(
            "peers",
            verdict.peers.iter().map(|peer| Node::Message(entity(peer))),
        )
        .text("title", &verdict.title)
        .double("score", verdict.score)
        .list("evidence", evidence)
        .message("model", model_ref(&model.name, &model.version, &model.digest))
        .bytes("schema", &verdict.schema.0)
        .put("events", Node::Message(events.0));
    if let Some(technique) = &verdict.technique {
        says = says.put("technique", Node::Text(technique.to_string()));
    }
    if let Some(bounds) = &verdict.interval {
        let bounds = Says::default()
            .double("low", bounds.low)
            .double("high", bounds.high);
        says = says.put("interval", Node::Message(bounds.0));
    }
    says.0
}

fn model_ref(name: &Name, version: &Name, digest: &Digest) -> Fields {
    let says = Says::default()
        .text("name", name.as_str())
        .text("version", version.as_str());
    says.bytes("digest", &digest.0).0
}

fn entity(entity: &Entity) -> Fields {
    let says = Says::default();
    let says = match entity {
        Entity::Host(host) => says.put("address", ip(*host)),
        Entity::Pair(a, b) => says.number("kind", 1).put("address", ip(*a)).put("peer", ip(*b)),
        Entity::Service(host, protocol, port) => {
            let says = says.number("kind", 2).put("address", ip(*host));
            says.uint("protocol", *protocol).uint("port", *port)
        }
        Entity::Client(host, protocol, port) => {
            let says = says.number("kind", 3).put("address", ip(*host));
            says.uint("protocol", *protocol).uint("port", *port)
        }
        Entity::Named(name) => says.number("kind", 4).put("name", Node::Text(name.to_string())),
        _ => unreachable!(),
    };
    says.0
}
