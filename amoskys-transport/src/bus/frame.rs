//! Frames: what goes over a connection. `docs/formats.md` draws them.

use bytes::{BufMut, Bytes, BytesMut};

/// Length and type.
pub(crate) const FRAME_HEADER: usize = 5;
/// Most bytes behind the length: the largest record a log takes, and some.
pub(crate) const MAX_FRAME: usize = 40 << 20;
/// The same until the other side is known.
pub(crate) const MAX_FIRST_FRAME: usize = 64 << 10;
/// The same for what a bus answers first: it holds a mark for each stream.
pub(crate) const MAX_WELCOME: usize = 8 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameType {
    /// Client: who it is and what it wants.
    Hello = 1,
    /// Bus: what it knows of the client's streams.
    Welcome = 2,
    /// Bus: why it ends the connection.
    Refuse = 3,
    /// Publisher: a sealed record.
    Batch = 4,
    /// Bus: what is durable there, and how much more may be sent.
    Ack = 5,
    /// Subscriber: how much more may be sent.
    Credit = 6,
    /// Subscriber: which records it wants.
    Subscribe = 7,
    /// Bus: an offset and the record there.
    Record = 8,
    /// Bus: how far the log was read.
    Progress = 9,
    /// Subscriber: how far it is done.
    Commit = 10,
    /// Bus: records that were deleted before the subscriber read them.
    Lost = 11,
    /// Either: is anyone there?
    Ping = 12,
    /// The answer.
    Pong = 13,
    /// Either: nothing more will come.
    Bye = 14,
    /// Bus: send nothing for a while.
    Retry = 15,
}

impl FrameType {
    const ALL: [Self; 15] = [
        Self::Hello,
        Self::Welcome,
        Self::Refuse,
        Self::Batch,
        Self::Ack,
        Self::Credit,
        Self::Subscribe,
        Self::Record,
        Self::Progress,
        Self::Commit,
        Self::Lost,
        Self::Ping,
        Self::Pong,
        Self::Bye,
        Self::Retry,
    ];

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameType,
    pub(crate) body: Bytes,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {len} bytes is over the limit of {limit}")]
    TooLarge { len: usize, limit: usize },
    #[error("a frame is empty")]
    Empty,
    #[error("frame type {0} is unknown")]
    Unknown(u8),
    #[error("a frame {0:?} cannot be decoded")]
    Malformed(FrameType),
    #[error("a frame {0:?} is out of place")]
    OutOfPlace(FrameType),
}

/// What the first bytes of a frame say: its type, and the bytes of its body.
pub(crate) fn decode_header(
    header: [u8; FRAME_HEADER],
    limit: usize,
) -> Result<(FrameType, usize), FrameError> {
    let [a, b, c, d, code] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len > limit {
        return Err(FrameError::TooLarge { len, limit });
    }
    let body = len.checked_sub(1).ok_or(FrameError::Empty)?;
    let kind = FrameType::of_code(code).ok_or(FrameError::Unknown(code))?;
    Ok((kind, body))
}

/// The first bytes of a frame whose body has `body` bytes; they are at most `MAX_FRAME`, or it will be refused.
pub(crate) fn encode_header(kind: FrameType, body: usize) -> [u8; FRAME_HEADER] {
    let len = u32::try_from(body.saturating_add(1)).unwrap_or(u32::MAX);
    let [a, b, c, d] = len.to_le_bytes();
    [a, b, c, d, kind as u8]
}

/// A whole frame of a message.
pub(crate) fn encode_message(kind: FrameType, message: &impl prost::Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(FRAME_HEADER + len);
    out.put_slice(&encode_header(kind, len));
    // Memory grows as needed, so that there is room.
    let _ = message.encode(&mut out);
    out.freeze()
}

impl Frame {
    /// The message in it.
    pub(crate) fn message<M: prost::Message + Default>(&self) -> Result<M, FrameError> {
        M::decode(self.body.clone()).map_err(|_| FrameError::Malformed(self.kind))
    }
}

/// How many good frames `bytes` begin with, messages included.
pub(crate) fn check(mut bytes: &[u8]) -> usize {
    let mut good = 0;
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let Ok((kind, len)) = decode_header(*header, MAX_FRAME) else {
            break;
        };
        let Some((body, rest)) = rest.split_at_checked(len) else {
            break;
        };
        let frame = Frame {
            kind,
            body: Bytes::copy_from_slice(body),
        };
        if frame.check().is_err() {
            break;
        }
        (bytes, good) = (rest, good + 1);
    }
    good
}

impl Frame {
    fn check(&self) -> Result<(), FrameError> {
        use super::message as m;
        match self.kind {
            FrameType::Hello => self.message::<m::Hello>().map(drop),
            FrameType::Welcome => self.message::<m::Welcome>().map(drop),
            FrameType::Refuse => self.message::<m::Refuse>().map(drop),
            FrameType::Ack => self.message::<m::Ack>().map(drop),
            FrameType::Credit => self.message::<m::Credit>().map(drop),
            FrameType::Subscribe => self.message::<m::Subscribe>().map(drop),
            FrameType::Progress | FrameType::Commit => self.message::<m::At>().map(drop),
            FrameType::Lost => self.message::<m::Lost>().map(drop),
            FrameType::Retry => self.message::<m::Retry>().map(drop),
            FrameType::Batch | FrameType::Record => Ok(()),
            FrameType::Ping | FrameType::Pong | FrameType::Bye => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn types_have_the_codes_of_the_description() {
        for (at, kind) in FrameType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at + 1);
        }
    }

    #[test]
    fn limits_and_unknown_types_are_refused() {
        let header = |len: u32, code: u8| {
            let [a, b, c, d] = len.to_le_bytes();
            [a, b, c, d, code]
        };
        assert_eq!(decode_header(header(0, 1), 10), Err(FrameError::Empty));
        let over = FrameError::TooLarge { len: 11, limit: 10 };
        assert_eq!(decode_header(header(11, 1), 10), Err(over));
        assert_eq!(decode_header(header(1, 0), 10), Err(FrameError::Unknown(0)));
        assert_eq!(decode_header(header(1, 16), 10), Err(FrameError::Unknown(16)));
        assert_eq!(decode_header(header(10, 4), 10), Ok((FrameType::Batch, 9)));
    }

    proptest! {
        #[test]
        fn headers_come_back(at in 0..FrameType::ALL.len(), body in 0..MAX_FRAME - 1) {
            let kind = FrameType::ALL[at];
            prop_assert_eq!(decode_header(encode_header(kind, body), MAX_FRAME), Ok((kind, body)));
        }

        #[test]
        fn any_bytes_are_frames_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 1_u8..16) {
            check(&bytes);
            // As one frame of each type.
            let len = u32::try_from(bytes.len() + 1).unwrap_or(0).to_le_bytes();
            let frame = [&len[..], &[kind], &bytes].concat();
            prop_assert!(check(&frame) <= 1);
        }

        #[test]
        fn any_header_is_an_answer(header: [u8; FRAME_HEADER], limit in 0..MAX_FRAME) {
            if let Ok((_, body)) = decode_header(header, limit) {
                prop_assert!(body < limit);
            }
        }
    }
}
