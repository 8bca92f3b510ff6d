use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::{FlowRecord, Value};

use super::SamplingRate;
use super::assemble::Assembler;
use super::element::{self, REVERSE};
use super::template::{FieldSpec, Span, V9_SCOPE};

/// The datagram a record came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Address of the exporter.
    pub exporter: IpAddr,
    /// 5, 9, or 10 for IPFIX.
    pub version: u16,
    /// Which part of the exporter: source id of v9, observation domain of IPFIX, engine type and id of v5.
    pub domain: u32,
    /// When it arrived, by our clock.
    pub received: Timestamp,
    /// When it was sent, by the exporter's clock.
    pub exported: Timestamp,
    /// Milliseconds since the exporter booted, when it was sent. IPFIX does not state it.
    pub(super) uptime_ms: Option<u32>,
    /// When the exporter booted, as IPFIX may state it in other records.
    pub(super) booted: Option<Timestamp>,
}

/// One record as it was exported: fields in the template's order, borrowed from the datagram.
#[derive(Clone, Copy, Debug)]
pub struct ExportRecord<'a> {
    pub(super) export: &'a Export,
    pub(super) template: u16,
    pub(super) fields: &'a [FieldSpec],
    pub(super) spans: &'a [Span],
    pub(super) data: &'a [u8],
    pub(super) sampling: Option<SamplingRate>,
}

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Number of the element. IANA registers those of enterprise 0.
    pub id: u16,
    /// Private enterprise number, 0 for IANA's elements. 29305 is the reverse direction (RFC 5103); the largest
    /// number stands for the scopes of v9, which are numbered on their own.
    pub enterprise: u32,
    /// As it came.
    pub bytes: &'a [u8],
}

impl Field<'_> {
    /// IANA's name, for example `octetDeltaCount`; `reverse_` before it for the other direction; `element_ID` and
    /// `enterprise_NUMBER_ID` for elements that are not known here.
    #[must_use]
    pub fn name(&self) -> String {
        match self.enterprise {
            V9_SCOPE => format!("scope_{}", self.id),
            enterprise => element::name(enterprise, self.id),
        }
    }

    /// The value, by the element's type; of unknown elements, a number if it is 1, 2, 4 or 8 bytes long.
    #[must_use]
    pub fn value(&self) -> Value {
        element::value(
            element::kind(self.enterprise, self.id, self.bytes.len()),
            self.bytes,
        )
    }
}

impl<'a> ExportRecord<'a> {
    /// The datagram it came in.
    #[must_use]
    pub fn export(&self) -> &'a Export {
        self.export
    }

    /// Number of its template; 0 for v5, which has none.
    #[must_use]
    pub fn template(&self) -> u16 {
        self.template
    }

    /// How it was sampled, if the exporter says so: in the record, for the sampler the record names, or for all it
    /// exports.
    #[must_use]
    pub fn sampling(&self) -> Option<SamplingRate> {
        self.sampling
    }

    /// Its fields, in the template's order. Those of no length are left out.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let data = self.data;
        self.fields.iter().zip(self.spans).map(move |(spec, span)| Field {
            id: spec.id,
            enterprise: spec.enterprise,
            bytes: data
                .get(span.start as usize..span.end as usize)
                .unwrap_or_default(),
        })
    }

    /// The flow it describes; its number is 0. `attributes` gets what has no place in the flow, by name, and is not
    /// cleared first.
    pub fn flow(&self, attributes: Option<&mut BTreeMap<String, Value>>) -> FlowRecord {
        let mut assembler = Assembler::default();
        if let Some(attributes) = attributes {
            for field in self.fields() {
                if !assembler.take(&field) && !is_padding(&field) {
                    insert(attributes, field.name(), field.value());
                }
            }
            self.describe(&assembler, attributes);
        } else {
            for field in self.fields() {
                assembler.take(&field);
            }
        }
        let mut flow = assembler.finish(self.export);
        flow.sampling_rate = self.sampling.map_or(0, SamplingRate::rounded);
        flow
    }

    /// What is said of every record, and counts as they were before sampling.
    fn describe(&self, assembler: &Assembler, attributes: &mut BTreeMap<String, Value>) {
        let export = self.export;
        attributes.insert(
            "exportProtocolVersion".to_owned(),
            Value::Uint(export.version.into()),
        );
        attributes.insert(
            "observationDomainId".to_owned(),
            Value::Uint(export.domain.into()),
        );
        if let Some(rate) = self.sampling.filter(|rate| !rate.is_all()) {
            attributes.insert("sampling_interval".to_owned(), Value::Float(rate.interval()));
            let [forward, backward] = assembler.counts();
            let mut scaled = |name: &str, count: u64| {
                attributes.insert(name.to_owned(), Value::Uint(rate.scale(count)));
            };
            scaled("scaled_packets", forward.0);
            scaled("scaled_octets", forward.1);
            if backward != (0, 0) {
                scaled("scaled_reverse_packets", backward.0);
                scaled("scaled_reverse_octets", backward.1);
            }
        }
    }
}

fn is_padding(field: &Field<'_>) -> bool {
    field.id == 210 && matches!(field.enterprise, 0 | REVERSE)
}

/// A record may have an element several times; the later ones are numbered.
fn insert(attributes: &mut BTreeMap<String, Value>, name: String, value: Value) {
    match attributes.entry(name) {
        Entry::Vacant(place) => _ = place.insert(value),
        Entry::Occupied(taken) => {
            let name = taken.key().clone();
            let mut numbered = (2..=16).map(|number| format!("{name}.{number}"));
            if let Some(free) = numbered.find(|numbered| !attributes.contains_key(numbered)) {
                attributes.insert(free, value);
            }
        }
    }
}
