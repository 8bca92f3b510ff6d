//! Frames over a stream of bytes, in both directions at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::frame::{
    FRAME_HEADER, Frame, FrameError, FrameType, MAX_FIRST_FRAME, decode_header, encode_header, encode_message,
};

/// A body up to this size gets its memory at once; a larger one as its bytes come.
const AT_ONCE: usize = 1 << 20;
/// Bytes a second that the slowest line carries.
const SLOWEST: usize = 4 << 10;
/// The same where large frames are sent, which take memory from others.
const SLOWEST_LARGE: usize = 64 << 10;
/// Pieces written in one call.
const PIECES: usize = 16;

/// One end of a connection. Nothing is lost when one of its futures is dropped.
pub(crate) struct Link<S> {
    io: S,
    limit: usize,
    header: [u8; FRAME_HEADER],
    header_len: usize,
    /// The frame that is coming in, and the bytes of its body.
    incoming: Option<(FrameType, usize)>,
    body: BytesMut,
    outgoing: VecDeque<Bytes>,
    outgoing_bytes: usize,
    unflushed: bool,
    /// When something came last.
    heard: Instant,
    /// When the frame that is coming in began.
    begun: Instant,
    /// Where memory for a large frame is to be had.
    stores: Option<[Arc<Semaphore>; 2]>,
    asking: Option<Asking>,
    granted: Option<[OwnedSemaphorePermit; 2]>,
}

type Asking = Pin<Box<dyn Future<Output = Option<[OwnedSemaphorePermit; 2]>> + Send + Sync>>;

/// What happened at a [`Link`].
#[derive(Debug)]
pub(crate) enum Turn {
    /// A frame came.
    Frame(Frame),
    /// There is room for more to send.
    Room,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the other side does not keep to the protocol")]
    Frame(#[from] FrameError),
}

#[cfg(feature = "legacy")]
impl<S> Link<S> {
    pub(crate) fn io(&self) -> &S {
        &self.io
    }

    /// What is below, for another protocol. Nothing may have been read yet.
    pub(crate) fn into_io(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(crate) fn new(io: S) -> Self {
        Self {
            io,
            limit: MAX_FIRST_FRAME,
            header: [0; FRAME_HEADER],
            header_len: 0,
            incoming: None,
            body: BytesMut::new(),
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            unflushed: false,
            heard: Instant::now(),
            begun: Instant::now(),
            stores: None,
            asking: None,
            granted: None,
        }
    }

    /// The largest frame that is taken from now on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// From now on, memory for frames larger than 1 MiB is taken from both of these, in KiB. One that is larger than all
    /// of it would wait for ever, so there must be enough for the limit.
    pub(crate) fn set_stores(&mut self, stores: [Arc<Semaphore>; 2]) {
        self.stores = Some(stores);
    }

    /// Gives back the memory of the last frame, whose bytes are used up.
    pub(crate) fn give_back(&mut self) {
        if self.incoming.is_none() {
            self.granted = None;
        }
    }

    /// Whether the frame that is coming in takes too long: more than `patience`, and the time a slow line needs.
    pub(crate) fn is_dawdling(&self, patience: Duration) -> bool {
        let Some((_, len)) = self.incoming else {
            return self.header_len > 0 && self.begun.elapsed() > patience;
        };
        let slowest = if len > AT_ONCE { SLOWEST_LARGE } else { SLOWEST };
        self.asking.is_none() && self.begun.elapsed() > patience + Duration::from_secs((len / slowest) as u64)
    }

    /// How long nothing has come.
    pub(crate) fn silence(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Bytes that wait to be sent.
    pub(crate) fn outgoing_bytes(&self) -> usize {
        self.outgoing_bytes
    }

    /// Puts a message in line to be sent.
    pub(crate) fn push(&mut self, kind: FrameType, message: &impl prost::Message) {
        self.push_piece(encode_message(kind, message));
    }

    /// Puts a record in line to be sent, behind some bytes of its own. It is not copied.
    pub(crate) fn push_record(&mut self, kind: FrameType, before: &[u8], record: Bytes) {
        let mut head = BytesMut::with_capacity(FRAME_HEADER + before.len());
        head.put_slice(&encode_header(kind, before.len() + record.len()));
        head.put_slice(before);
        self.push_piece(head.freeze());
        self.push_piece(record);
    }

    fn push_piece(&mut self, piece: Bytes) {
        self.outgoing_bytes += piece.len();
        self.outgoing.push_back(piece);
    }

    /// Sends what is in line, and waits for the next frame; or, if `room_below` is given, until fewer bytes than
    /// that wait to be sent.
    pub(crate) async fn turn(&mut self, room_below: Option<usize>) -> Result<Turn, LinkError> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                // What the other side said last tells more than that it does not listen.
                return match self.poll_frame(cx) {
                    Poll::Ready(Ok(frame)) => Poll::Ready(Ok(Turn::Frame(frame))),
                    _ => Poll::Ready(Err(error.into())),
                };
            }
            if let Poll::Ready(frame) = self.poll_frame(cx) {
                return Poll::Ready(frame.map(Turn::Frame));
            }
            if room_below.is_some_and(|limit| self.outgoing_bytes < limit) {
                return Poll::Ready(Ok(Turn::Room));
            }
            Poll::Pending
        })
        .await
    }

    /// Sends what is in line, and waits for the next frame.
    pub(crate) async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Turn::Frame(frame) = self.turn(None).await? {
                return Ok(frame);
            }
        }
    }

    /// Sends all that is in line.
    pub(crate) async fn flush(&mut self) -> Result<(), LinkError> {
        Ok(poll_fn(|cx| self.poll_send(cx)).await?)
    }

    /// Sends all that is in line, and ends the connection in good order. What still comes is passed over for a
    /// moment, because unread bytes would make the other side lose what was said last.
    pub(crate) async fn close(&mut self, patience: Duration) {
        let _ = tokio::time::timeout(patience, async {
            self.flush().await?;
            poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await?;
            let mut rest = vec![0; 16 << 10];
            while self.io.read(&mut rest).await? > 0 {}
            Ok::<(), LinkError>(())
        })
        .await;
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            for (slot, piece) in pieces.iter_mut().zip(&self.outgoing) {
                *slot = IoSlice::new(piece);
                used += 1;
            }
            let sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &pieces[..used]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.sent(sent);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn sent(&mut self, mut bytes: usize) {
        self.outgoing_bytes = self.outgoing_bytes.saturating_sub(bytes);
        while let Some(piece) = self.outgoing.front_mut() {
            if piece.len() > bytes {
                piece.advance(bytes);
                return;
            }
            bytes -= piece.len();
            self.outgoing.pop_front();
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, LinkError>> {
        loop {
            let Some((kind, len)) = self.incoming else {
                if self.header_len < FRAME_HEADER {
                    let mut rest = &mut self.header[self.header_len..];
                    let read = ready!(pin!(self.io.read_buf(&mut rest)).poll(cx))?;
                    if read == 0 {
                        return Poll::Ready(Err(LinkError::Closed));
                    }
                    if self.header_len == 0 {
                        self.begun = Instant::now();
                    }
                    self.header_len += read;
                    continue;
                }
                let (kind, len) = decode_header(self.header, self.limit)?;
                self.header_len = 0;
                self.incoming = Some((kind, len));
                self.granted = None;
                self.body = BytesMut::with_capacity(len.min(AT_ONCE));
                continue;
            };
            let missing = len - self.body.len();
            if missing == 0 {
                self.incoming = None;
                self.heard = Instant::now();
                let body = std::mem::take(&mut self.body).freeze();
                return Poll::Ready(Ok(Frame { kind, body }));
            }
            if len > AT_ONCE && self.granted.is_none() && self.stores.is_some() {
                ready!(self.poll_grant(cx, len));
            }
            if self.body.capacity() == self.body.len() {
                let more = self.body.len().max(AT_ONCE).min(missing);
                self.body.reserve(more);
            }
            let mut limited = (&mut self.body).limit(missing);
            let read = ready!(pin!(self.io.read_buf(&mut limited)).poll(cx))?;
            if read == 0 {
                return Poll::Ready(Err(LinkError::Closed));
            }
            self.heard = Instant::now();
        }
    }
}

impl<S> Link<S> {
    /// Waits for memory for a large frame, in the order of those who ask.
    fn poll_grant(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<()> {
        let Some(stores) = &self.stores else {
            return Poll::Ready(());
        };
        let asking = self.asking.get_or_insert_with(|| {
            let ([own, all], amount) = (stores.clone(), u32::try_from(len >> 10).unwrap_or(u32::MAX));
            // Never closed, so never an error.
            Box::pin(async move {
                let own = own.acquire_many_owned(amount).await.ok()?;
                Some([own, all.acquire_many_owned(amount).await.ok()?])
            })
        });
        self.granted = ready!(asking.as_mut().poll(cx));
        self.asking = None;
        // The time until now was not the other side's.
        self.begun = Instant::now();
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{MAX_FRAME, encode_header};
    use super::super::message::{At, Nothing};
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let limited = async { tokio::time::timeout(Duration::from_secs(20), work).await };
        runtime.unwrap().block_on(limited).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn frames_come_back_through_any_pipe(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 1..20),
            pipe in 1_usize..9000,
        ) {
            run(async {
                let (near, far) = tokio::io::duplex(pipe);
                let (mut near, mut far) = (Link::new(near), Link::new(far));
                for body in &bodies {
                    near.push_record(FrameType::Batch, &[7], Bytes::from(body.clone()));
                    near.push(FrameType::Progress, &At { offset: body.len() as u64 });
                }
                let send = async { near.flush().await.unwrap() };
                let receive = async {
                    for body in &bodies {
                        let frame = far.next().await.unwrap();
                        assert_eq!((frame.kind, &frame.body[..1], &frame.body[1..]), (FrameType::Batch, &[7][..], &body[..]));
                        let frame = far.next().await.unwrap();
                        assert_eq!(frame.message::<At>().unwrap().offset, body.len() as u64);
                    }
                };
                tokio::join!(send, receive);
            });
        }
    }

    #[test]
    fn a_dropped_future_loses_nothing() {
        run(async {
            let (near, far) = tokio::io::duplex(64);
            let (mut near, mut far) = (Link::new(near), Link::new(far));
            near.push_record(FrameType::Batch, &[], Bytes::from(vec![3; 1000]));
            near.push(FrameType::Bye, &Nothing {});
            let mut turns = 0;
            let frame = loop {
                // Each future is polled once and dropped.
                let polled = poll_fn(|cx| Poll::Ready(pin!(near.turn(None)).poll(cx).is_ready())).await;
                assert!(!polled);
                turns += 1;
                let polled = poll_fn(|cx| match pin!(far.next()).poll(cx) {
                    Poll::Ready(frame) => Poll::Ready(Some(frame)),
                    Poll::Pending => Poll::Ready(None),
                });
                if let Some(frame) = polled.await {
                    break frame.unwrap();
                }
            };
            assert!(turns > 10);
            assert_eq!(frame.body, vec![3; 1000]);
            near.flush().await.unwrap();
            assert_eq!(far.next().await.unwrap().kind, FrameType::Bye);
        });
    }

    #[test]
    fn an_announced_length_reserves_no_memory() {
        run(async {
            let (mut near, far) = tokio::io::duplex(64);
            let mut far = Link::new(far);
            far.set_limit(MAX_FRAME);
            let header = encode_header(FrameType::Batch, MAX_FRAME - 1);
            near.write_all(&header).await.unwrap();
            drop(near);
            assert!(matches!(far.next().await, Err(LinkError::Closed)));
            assert!(far.body.capacity() <= AT_ONCE);
        });
    }
}
