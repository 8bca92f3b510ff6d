//! The wire format against an independent implementation of protobuf, older and newer versions, and bytes
//! that are no events.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agreement;
mod fixtures;
mod generate;
mod host;
mod host_samples;
mod mirror;
mod newer;
mod peer;
mod samples;
