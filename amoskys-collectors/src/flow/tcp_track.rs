//! Follows a TCP connection: handshake, flags, sequence numbers.

use amoskys_core::Timestamp;
use amoskys_core::event::{FlowEnd, TcpDirection, TcpFlagCounts, TcpState, TcpStats};

use crate::packet::TcpHeader;
use crate::packet::tcp_flags::{ACK, FIN, RST, SYN};

/// What both directions share.
pub(super) struct TcpTrack {
    syn: i64,
    syn_ack: i64,
    ack: i64,
    /// Sequence number of the first SYN.
    syn_seq: u32,
    state: TcpState,
    /// Direction that sent the first SYN, or the opposite of the first SYN+ACK; 2 if neither was seen.
    opener: u8,
    /// Bit per direction: it sent FIN.
    finished: u8,
}

/// No such time: no packet has it.
const NEVER: i64 = i64::MIN;

/// One direction.
pub(super) struct TcpSide {
    /// In the order of their bits: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    flags: [u32; 8],
    retransmitted: u32,
    out_of_order: u32,
    zero_windows: u32,
    /// Sequence number after the latest byte.
    next_seq: u32,
    initial_window: u16,
    mss: u16,
    window_scale: u8,
    /// Whether a packet came, so that the window and the sequence number mean something.
    seen: bool,
}

const FLAG_BITS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

impl TcpSide {
    pub(super) const NEW: Self = Self {
        flags: [0; 8],
        retransmitted: 0,
        out_of_order: 0,
        zero_windows: 0,
        next_seq: 0,
        initial_window: 0,
        mss: 0,
        window_scale: TcpHeader::NO_SCALE,
        seen: false,
    };

    #[inline]
    fn count(&mut self, header: &TcpHeader, payload_length: u32) {
        let flags = u32::from(header.flags);
        // In this form the compiler makes one step of four.
        for (count, bit) in self.flags.iter_mut().zip(FLAG_BITS) {
            *count += u32::from(flags & bit == bit);
        }
        if header.flags & SYN != 0 {
            (self.mss, self.window_scale) = (header.mss, header.window_scale);
        }
        let control = u32::from(header.flags & SYN != 0) + u32::from(header.flags & FIN != 0);
        let after = header.seq.wrapping_add(payload_length).wrapping_add(control);
        if !self.seen {
            self.seen = true;
            self.initial_window = header.window;
            self.next_seq = after;
            return;
        }
        if header.window == 0 && header.flags & (RST | SYN | FIN) == 0 {
            self.zero_windows += 1;
        }
        // A reset's sequence number need not continue anything.
        if payload_length + control > 0 && header.flags & RST == 0 {
            self.follow(header.seq, after, payload_length);
        }
    }

    #[inline]
    fn follow(&mut self, seq: u32, after: u32, payload_length: u32) {
        let ahead = seq.wrapping_sub(self.next_seq).cast_signed();
        if ahead > 0 {
            self.out_of_order += u32::from(payload_length > 0);
        } else if ahead < 0 {
            // One byte just before the next is how a keep-alive probe looks.
            self.retransmitted += u32::from(payload_length > 1 || (payload_length == 1 && ahead < -1));
        }
        if after.wrapping_sub(self.next_seq).cast_signed() > 0 {
            self.next_seq = after;
        }
    }

    fn public(&self) -> TcpDirection {
        let [fin, syn, rst, psh, ack, urg, ece, cwr] = self.flags.map(u64::from);
        TcpDirection {
            flags: TcpFlagCounts {
                fin,
                syn,
                rst,
                psh,
                ack,
                urg,
                ece,
                cwr,
            },
            initial_window: self.seen.then_some(self.initial_window),
            mss: (self.mss != 0).then_some(self.mss),
            window_scale: (self.window_scale != TcpHeader::NO_SCALE).then_some(self.window_scale),
            retransmitted: u64::from(self.retransmitted),
            out_of_order: u64::from(self.out_of_order),
            zero_windows: u64::from(self.zero_windows),
        }
    }
}

impl TcpTrack {
    pub(super) const NEW: Self = Self {
        syn: NEVER,
        syn_ack: NEVER,
        ack: NEVER,
        syn_seq: 0,
        state: TcpState::Midstream,
        opener: 2,
        finished: 0,
    };

    /// Whether the connection was opened and not closed.
    pub(super) fn is_open(&self) -> bool {
        self.state == TcpState::Established
    }

    /// Takes over that `from` opened the connection with this sequence number, which was seen elsewhere.
    #[cfg(all(feature = "ebpf", target_os = "linux"))]
    pub(super) fn opened_by(&mut self, from: u8, syn_seq: u32) {
        (self.syn, self.syn_seq, self.opener) = (0, syn_seq, from);
    }

    /// Sequence number of the first byte that `from` sends, if its SYN was seen.
    pub(super) fn first_byte_of(&self, from: u8) -> Option<u32> {
        (self.syn != NEVER && self.opener == from).then_some(self.syn_seq.wrapping_add(1))
    }

    /// What to go on with after a silence.
    pub(super) fn suspended(&self) -> Self {
        Self {
            state: self.state,
            opener: self.opener,
            ..Self::NEW
        }
    }

    /// Whether a packet opens a new connection in place of this one, which is `ending` or not.
    #[inline]
    pub(super) fn is_replaced_by(&self, header: &TcpHeader, ending: bool) -> bool {
        if header.flags & (SYN | ACK | RST | FIN) != SYN {
            return false;
        }
        // A SYN with the number of the first one was sent again, unless that connection is over.
        let other = self.syn == NEVER || self.syn_seq != header.seq;
        self.finished == 3 || (other && (ending || self.state >= TcpState::Established))
    }

    /// Counts a packet of direction `from`; says if it ends the connection.
    #[inline]
    pub(super) fn count(
        &mut self,
        side: &mut TcpSide,
        from: u8,
        header: &TcpHeader,
        payload_length: u32,
        time: i64,
    ) -> Option<FlowEnd> {
        side.count(header, payload_length);
        // Nothing changes in the middle of a connection.
        if self.state == TcpState::Established && header.flags & (SYN | FIN | RST) == 0 {
            return None;
        }
        self.advance(from, header, time)
    }

    fn advance(&mut self, from: u8, header: &TcpHeader, time: i64) -> Option<FlowEnd> {
        let flags = header.flags;
        match flags & (SYN | ACK) {
            SYN if self.syn == NEVER => {
                (self.syn, self.syn_seq, self.opener) = (time, header.seq, from);
                self.raise(if self.syn_ack == NEVER {
                    TcpState::SynSent
                } else {
                    TcpState::SynReceived
                });
            }
            // The other SYN bit combination is a SYN+ACK; the order of the two may be lost on the way.
            both if both == SYN | ACK && self.syn_ack == NEVER => {
                (self.syn_ack, self.opener) = (time, 1 - from);
                self.raise(TcpState::SynReceived);
            }
            ACK if flags & RST == 0 && from == self.opener => {
                // Where only one direction is captured, the SYN+ACK was missed.
                if matches!(self.state, TcpState::SynSent | TcpState::SynReceived) {
                    self.ack = time;
                    self.state = TcpState::Established;
                }
            }
            _ => {}
        }
        if flags & RST != 0 {
            return self.reset(from);
        }
        if flags & FIN != 0 {
            self.finished |= 1 << from;
            self.raise(if self.finished == 3 {
                TcpState::Closed
            } else {
                TcpState::Closing
            });
        }
        (self.finished == 3).then_some(FlowEnd::Finished)
    }

    fn raise(&mut self, state: TcpState) {
        self.state = self.state.max(state);
    }

    fn reset(&mut self, from: u8) -> Option<FlowEnd> {
        match self.state {
            // Some close in a hurry, after both have said that they are finished.
            TcpState::Closed => return Some(FlowEnd::Finished),
            TcpState::SynSent if from != self.opener => self.state = TcpState::Refused,
            TcpState::Refused => {}
            _ => self.state = TcpState::Reset,
        }
        Some(FlowEnd::Reset)
    }

    pub(super) fn public(&self, forward: &TcpSide, backward: &TcpSide) -> TcpStats {
        let time = |nanos: i64| (nanos != NEVER).then_some(Timestamp::from_nanos(nanos));
        TcpStats {
            state: self.state,
            syn: time(self.syn),
            syn_ack: time(self.syn_ack),
            ack: time(self.ack),
            forward: forward.public(),
            backward: backward.public(),
        }
    }
}
