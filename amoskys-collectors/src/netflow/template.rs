//! Templates: what the fields of a record are, and where they lie.

use super::element::unsigned;
use super::sampling::SamplingFields;

/// A length that says: each record states its own.
pub(super) const VARIABLE: u16 = u16::MAX;

/// One field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldSpec {
    pub(super) id: u16,
    /// 0 for IANA's elements.
    pub(super) enterprise: u32,
    /// In bytes, or [`VARIABLE`].
    pub(super) length: u16,
}

/// The layout of the records of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    /// Fields of no length are left out: they hold nothing, and would make work without end.
    pub(super) fields: Vec<FieldSpec>,
    /// Whether its records describe the exporter rather than flows.
    pub(super) options: bool,
    /// Whether its records are about traffic: they have an address, or count something.
    pub(super) flow: bool,
    /// Whether its records say how they were sampled.
    pub(super) sampling: bool,
    /// Length of a record, where it is fixed.
    fixed: Option<usize>,
    /// The least length of a record.
    least: usize,
}

/// Where a field lies in the bytes of its set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Template {
    /// `None` if its records would have no length.
    pub(super) fn new(fields: impl IntoIterator<Item = FieldSpec>, options: bool) -> Option<Self> {
        let fields: Vec<FieldSpec> = fields.into_iter().filter(|field| field.length > 0).collect();
        let length = |field: &FieldSpec| match field.length {
            VARIABLE => 1,
            length => usize::from(length),
        };
        let least = fields.iter().map(length).sum();
        let fixed = fields.iter().all(|field| field.length != VARIABLE);
        let any = |wanted: fn(u16) -> bool| {
            fields
                .iter()
                .any(|field| field.enterprise == 0 && wanted(field.id))
        };
        let flow = any(|id| matches!(id, 1 | 2 | 8 | 12 | 27 | 28 | 85 | 86 | 231 | 232));
        let sampling = any(SamplingFields::is_one);
        (least > 0).then_some(Self {
            fields,
            options,
            flow,
            sampling,
            fixed: fixed.then_some(least),
            least,
        })
    }

    /// What it occupies, roughly, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.fields.len() * size_of::<FieldSpec>()
    }

    /// Finds the fields of the record at `start`; returns its end. `None` where there is no further whole record.
    #[inline]
    pub(super) fn locate(&self, set: &[u8], start: usize, spans: &mut Vec<Span>) -> Option<usize> {
        spans.clear();
        if set.len().checked_sub(start)? < self.fixed.unwrap_or(self.least) {
            return None;
        }
        let mut at = start;
        for field in &self.fields {
            let length = if field.length == VARIABLE {
                let (length, header) = variable_length(set.get(at..)?)?;
                at += header;
                length
            } else {
                usize::from(field.length)
            };
            let end = at + length;
            if end > set.len() {
                return None;
            }
            // A set is shorter than 64 KiB.
            spans.push(Span {
                start: at as u32,
                end: end as u32,
            });
            at = end;
        }
        Some(at)
    }
}

/// The stated length of a variable-length field, and how many bytes state it (RFC 7011, section 7).
fn variable_length(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes {
        [255, high, low, ..] => Some((usize::from(u16::from_be_bytes([*high, *low])), 3)),
        [255, ..] | [] => None,
        [length, ..] => Some((usize::from(*length), 1)),
    }
}

/// A template record found in a set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// A template under this number. `None`: its records would have no length, or it has too many fields.
    Template(u16, Option<Template>),
    /// This one is not used any more; 2 and 3 stand for all (IPFIX).
    Withdrawal,
}

/// Reads the next template record of a set and moves past it. `None` at the end; `Err` if it is cut short or
/// contradicts itself, after which the rest of the set cannot be read.
pub(super) fn next_definition(
    set: &mut &[u8],
    kind: SetKind,
    max_fields: usize,
) -> Result<Option<Definition>, Broken> {
    // What is left may be padding, up to a multiple of four bytes.
    if set.len() < 4 || set.iter().take(4).all(|byte| *byte == 0) {
        return Ok(None);
    }
    let id = take_u16(set)?;
    let (count, scopes) = match kind {
        SetKind::V9Template => (take_u16(set)?, 0),
        SetKind::V9Options => {
            // Lengths in bytes, of four for each field.
            let scopes = take_u16(set)?;
            let options = take_u16(set)?;
            ((scopes / 4).saturating_add(options / 4), scopes / 4)
        }
        SetKind::IpfixTemplate => (take_u16(set)?, 0),
        SetKind::IpfixOptions => {
            let count = take_u16(set)?;
            if count == 0 {
                return Ok(Some(Definition::Withdrawal));
            }
            (count, take_u16(set)?)
        }
    };
    if count == 0 {
        return match kind {
            SetKind::IpfixTemplate => Ok(Some(Definition::Withdrawal)),
            _ => Err(Broken),
        };
    }
    let mut fields = Vec::new();
    for at in 0..count {
        let mut field = FieldSpec {
            id: take_u16(set)?,
            enterprise: 0,
            length: take_u16(set)?,
        };
        match kind {
            SetKind::IpfixTemplate | SetKind::IpfixOptions if field.id & 0x8000 != 0 => {
                field.id &= 0x7fff;
                let (enterprise, rest) = set.split_at_checked(4).ok_or(Broken)?;
                *set = rest;
                field.enterprise = unsigned(enterprise) as u32;
            }
            // The scopes of v9 are numbered on their own: 1 system, 2 interface and so on.
            SetKind::V9Options if at < scopes => {
                field.enterprise = V9_SCOPE;
            }
            _ => {}
        }
        if usize::from(at) < max_fields {
            fields.push(field);
        }
    }
    if id < 256 {
        return Err(Broken);
    }
    let options = matches!(kind, SetKind::V9Options | SetKind::IpfixOptions);
    let whole = usize::from(count) <= max_fields;
    let template = whole.then(|| Template::new(fields, options)).flatten();
    Ok(Some(Definition::Template(id, template)))
}

/// Stands in the place of an enterprise number for the scopes of NetFlow v9. IANA keeps it for no enterprise.
pub(super) const V9_SCOPE: u32 = u32::MAX;

/// Which kind of template set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetKind {
    V9Template,
    V9Options,
    IpfixTemplate,
    IpfixOptions,
}

/// Bytes that contradict themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

fn take_u16(bytes: &mut &[u8]) -> Result<u16, Broken> {
    let (number, rest) = bytes.split_first_chunk::<2>().ok_or(Broken)?;
    *bytes = rest;
    Ok(u16::from_be_bytes(*number))
}
