//! As much of gRPC as a call with one message each way takes (<https://grpc.io/docs/what-is-grpc/core-concepts/>, over
//! HTTP/2): its frame around a message, and how it says that a call failed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};

use super::reason::Refusal;

/// What a call ended with, if not with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Ok = 0,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    Unimplemented = 12,
    Internal = 13,
}

/// Why there is no message.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The message is larger than it may be. It was passed over, so that the client hears why.
    TooLarge(usize),
    /// There is no room for it.
    Refused(Refusal),
    Status(Code, &'static str),
}

/// Bytes in front of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// A message beyond this is not even passed over.
const MAX_PASSED_OVER: usize = 16 << 20;
const GRPC: &str = "application/grpc";

/// Whether this is a call of this method.
pub(crate) fn check_call<B>(request: &Request<B>, path: &str) -> Result<(), (Code, &'static str)> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_grpc = kind
        .strip_prefix(GRPC)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']));
    if request.method() != Method::POST || !is_grpc {
        return Err((Code::Internal, "this is no gRPC call"));
    }
    if request.uri().path() != path {
        return Err((
            Code::Unimplemented,
            "there is only messaging.EventBus/Publish here",
        ));
    }
    Ok(())
}

/// Reads the message of a call. Memory for it is taken from `reserve`, once its length is known.
pub(crate) async fn read_message<G>(
    mut body: Incoming,
    limit: usize,
    reserve: impl FnOnce(usize) -> Result<G, Refusal>,
) -> Result<(Bytes, G), CallError> {
    let mut read = BytesMut::new();
    let mut reserve = Some(reserve);
    let mut reserved = None;
    let mut length = None;
    let mut total = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| CallError::Status(Code::Internal, "the call was broken off"))?;
        let Ok(data) = frame.into_data() else { continue };
        total = total.saturating_add(data.len());
        if length.is_none_or(|length| length <= limit) {
            read.extend_from_slice(&data);
        }
        if length.is_none() && read.len() >= PREFIX {
            let mut prefix = &read[..];
            if prefix.get_u8() != 0 {
                return Err(CallError::Status(
                    Code::Unimplemented,
                    "compressed messages are not supported; send them as they are",
                ));
            }
            length = usize::try_from(prefix.get_u32()).ok();
        }
        let expected = length.map_or(PREFIX, |length| length.saturating_add(PREFIX));
        if length.is_some() && total > expected {
            return Err(CallError::Status(
                Code::InvalidArgument,
                "one message is expected, and there is more",
            ));
        }
        if let Some(length) = length
            && length <= limit
            && let Some(reserve) = reserve.take()
        {
            reserved = Some(reserve(length).map_err(CallError::Refused)?);
        }
        if let Some(length) = length.filter(|length| *length > limit) {
            read.clear();
            if length > MAX_PASSED_OVER {
                return Err(CallError::TooLarge(length));
            }
        }
    }
    match (length, reserved) {
        (Some(length), _) if total < length + PREFIX => {
            Err(CallError::Status(Code::Internal, "the message ends early"))
        }
        (Some(_), Some(reserved)) => {
            read.advance(PREFIX);
            Ok((read.freeze(), reserved))
        }
        (Some(length), None) => Err(CallError::TooLarge(length)),
        (None, _) => Err(CallError::Status(Code::InvalidArgument, "there is no message")),
    }
}

/// The answer to a call: a message, then that all is well; or that and why it is not.
pub(crate) struct Answer {
    message: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The answer with a message.
pub(crate) fn answer(message: &impl prost::Message) -> Response<Answer> {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows.
    let _ = message.encode(&mut framed);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, HeaderValue::from(Code::Ok as u16));
    respond(Answer {
        message: Some(framed.freeze()),
        trailers: Some(trailers),
    })
}

/// The answer to a call that failed.
pub(crate) fn failed(code: Code, text: &'static str) -> Response<Answer> {
    let mut response = respond(Answer {
        message: None,
        trailers: None,
    });
    let headers = response.headers_mut();
    headers.insert(STATUS, HeaderValue::from(code as u16));
    headers.insert(MESSAGE, HeaderValue::from_static(text));
    response
}

fn respond(body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    response
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }
}
