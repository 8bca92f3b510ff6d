use crate::error::Remedy;

/// Why bytes could not be decoded. The bytes are at fault: the same bytes fail again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes are not protobuf, or end early.
    #[error("{field}: {reason}")]
    Malformed {
        /// Where, as `Message.field` of the `.proto`.
        field: &'static str,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The bytes are protobuf, but a field holds what it cannot hold.
    #[error("{field} {reason}")]
    Invalid {
        /// Which, as `Message.field` of the `.proto`.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Which, as `Message.field` of the `.proto`.
        field: &'static str,
    },
    /// There is more of something than is taken from outside.
    #[error("{what}: {found} is over the limit of {limit}")]
    TooLarge {
        /// Of what there is too much, and its unit.
        what: &'static str,
        /// How much there is, or is said to be.
        found: u64,
        /// How much is taken.
        limit: u64,
    },
    /// One of several events is at fault.
    #[error("event {index} of the batch cannot be decoded")]
    Event {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        source: Box<WireError>,
    },
}

impl WireError {
    /// What to do about it: always [`Remedy::Reject`]. Count the bytes as malformed and go on.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Reject
    }
}

/// What is wrong with a value, before it is known which field it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    EndsEarly,
    Varint,
    Key,
    WireType,
    Utf8,
    Length,
    Range,
    Contradiction,
    Twice,
    Missing,
    /// Not an error: the message says something that only a newer version can hold.
    Newer,
}

/// A flaw and the field it is in, once known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) flaw: Flaw,
    field: Option<&'static str>,
}

impl From<Flaw> for Fault {
    fn from(flaw: Flaw) -> Self {
        Self { flaw, field: None }
    }
}

impl Fault {
    pub(super) fn newer() -> Self {
        Flaw::Newer.into()
    }

    pub(super) fn in_field(flaw: Flaw, field: &'static str) -> Self {
        Self {
            flaw,
            field: Some(field),
        }
    }

    /// Names the field, unless a field further inside is named already.
    #[cold]
    pub(super) fn at(self, field: &'static str) -> Self {
        Self {
            flaw: self.flaw,
            field: self.field.or(Some(field)),
        }
    }
}

impl From<Fault> for WireError {
    fn from(fault: Fault) -> Self {
        let field = fault.field.unwrap_or("message");
        let malformed = |reason| Self::Malformed { field, reason };
        let invalid = |reason| Self::Invalid { field, reason };
        match fault.flaw {
            Flaw::EndsEarly => malformed("the bytes end early"),
            Flaw::Varint => malformed("not a variable-length integer in its shortest form"),
            Flaw::Key => malformed("not the key of a field"),
            Flaw::WireType => malformed("the field has another wire type"),
            Flaw::Utf8 => invalid("is not UTF-8"),
            Flaw::Length => invalid("has a length it cannot have"),
            Flaw::Range => invalid("is out of range"),
            Flaw::Contradiction => invalid("contradicts another field"),
            Flaw::Twice => invalid("is there twice"),
            Flaw::Newer => invalid("says something this version does not know"),
            Flaw::Missing => Self::Missing { field },
        }
    }
}
