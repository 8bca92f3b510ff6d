//! In place of the ring on platforms that have none.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use super::Packet;
use super::live::{LiveConfig, LiveError};

#[derive(Debug)]
pub(super) struct Ring(Infallible);

impl Ring {
    pub(super) fn open_shared(_: &str, _: &LiveConfig, _: &mut Option<u16>) -> Result<Self, LiveError> {
        Err(LiveError::Unsupported)
    }

    pub(super) fn begin(&self, _: u32) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn open(_: &str, _: &LiveConfig) -> Result<Self, LiveError> {
        Err(LiveError::Unsupported)
    }

    pub(super) fn wait(&mut self, _: Duration) -> io::Result<bool> {
        match self.0 {}
    }

    pub(super) fn next_packet(&mut self) -> Option<Packet<'_>> {
        match self.0 {}
    }

    pub(super) fn next_packets(&mut self) -> Option<RingPackets<'_>> {
        match self.0 {}
    }

    pub(super) fn take_drops(&mut self) -> io::Result<u64> {
        match self.0 {}
    }
}

pub(super) type RingPackets<'a> = std::iter::Empty<Packet<'a>>;
