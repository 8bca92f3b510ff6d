//! Reads what clients say in the clear at the beginning of a flow: TLS and QUIC client hellos, HTTP requests.

use amoskys_core::event::{FlowTunnel, HttpRequest, TlsHello, TunnelKind};

use super::entry::Entry;
use super::slab::NONE;
use super::table::Table;
use crate::packet::http::RequestReader;
use crate::packet::tls::{HelloReader, Parsed};
use crate::packet::tunnel::Tunnel;
use crate::packet::{IpPacket, Transport, address, tcp_flags};

/// A beginning that is not whole after so many packets is left alone.
const MAX_PACKETS: u8 = 8;

/// How far the beginnings of a flow have been read: a bit for each direction that is done with.
pub(super) const NOTHING_READ: u8 = 0;
const ALL_READ: u8 = 3;

/// The readers, with their memory.
pub(super) struct Payloads {
    hello: HelloReader,
    request: RequestReader,
    /// TLS records put together.
    scratch: Vec<u8>,
    /// What is kept of a flow.
    text: Vec<u8>,
}

impl Payloads {
    pub(super) fn new() -> Self {
        Self {
            hello: HelloReader::new(),
            request: RequestReader::new(),
            scratch: Vec::with_capacity(super::gather::CAPACITY),
            text: Vec::with_capacity(1024),
        }
    }

    /// Whether a packet of this flow, with payload, is to be looked at.
    #[inline]
    pub(super) fn wants(flow: &Entry, from: usize) -> bool {
        flow.read & 1 << from == 0
    }

    /// Looks at the payload of a packet of direction `from`.
    #[cold]
    pub(super) fn look(&mut self, table: &mut Table, index: u32, ip: &IpPacket<'_>, from: u8) {
        self.text.clear();
        match &ip.transport {
            _ if ip.later_fragment => {}
            Transport::Tcp(header) => {
                let syn = u32::from(header.flags & tcp_flags::SYN != 0);
                self.segment(table, index, ip, from, header.seq.wrapping_add(syn));
            }
            #[cfg(feature = "quic")]
            Transport::Udp => self.datagram(table, index, ip, from),
            _ => table.flows[index].read = ALL_READ,
        }
    }

    fn segment(&mut self, table: &mut Table, index: u32, ip: &IpPacket<'_>, from: u8, seq: u32) {
        let flow = &mut table.flows[index];
        let number = flow.gather;
        if number == NONE {
            let base = flow.tcp.first_byte_of(from).unwrap_or(seq);
            let offset = seq.wrapping_sub(base) as usize;
            let read = match offset {
                0 => self.read(ip.payload),
                1..super::gather::CAPACITY => Parsed::Part,
                _ => Parsed::Other,
            };
            match read {
                Parsed::Part if ip.payload.len() == ip.payload_length as usize => {
                    let (number, robbed) = table.gathers.begin(index, from, base);
                    if let Some(robbed) = robbed {
                        done(&mut table.flows[robbed]);
                    }
                    table.flows[index].gather = number;
                    let gather = table.gathers.of(number);
                    gather.put(offset, ip.payload);
                    gather.packets = 1;
                }
                read => self.conclude(table, index, read, from),
            }
            return;
        }
        let gather = table.gathers.of(number);
        if gather.from != from {
            // The other side answers before the first has said all: nothing to read there.
            flow.read |= 1 << from;
            return;
        }
        gather.put(seq.wrapping_sub(gather.base) as usize, ip.payload);
        gather.packets += 1;
        let cut = ip.payload.len() != ip.payload_length as usize;
        let last = gather.packets >= MAX_PACKETS || gather.is_full() || cut;
        match self.read(gather.beginning()) {
            Parsed::Part if !last => {}
            read => self.conclude(table, index, read, from),
        }
    }

    #[cfg(feature = "quic")]
    fn datagram(&mut self, table: &mut Table, index: u32, ip: &IpPacket<'_>, from: u8) {
        use crate::packet::quic::Connection;
        let mut number = table.flows[index].gather;
        if number == NONE {
            let Some(connection) = Connection::of_first(ip.payload) else {
                table.flows[index].read |= 1 << from;
                return;
            };
            let robbed;
            (number, robbed) = table.gathers.begin(index, from, 0);
            if let Some(robbed) = robbed {
                done(&mut table.flows[robbed]);
            }
            table.flows[index].gather = number;
            table.gathers.of(number).quic = connection;
        }
        let gather = table.gathers.of(number);
        if gather.from != from {
            // A server's packets. They do not say that the client has said all.
            return;
        }
        gather.packets += 1;
        let connection = gather.quic;
        connection.read(ip.payload, |offset, bytes| {
            gather.put(usize::try_from(offset).unwrap_or(usize::MAX), bytes);
        });
        match self.hello.read_message(gather.beginning()) {
            Parsed::Part if gather.packets < MAX_PACKETS => {}
            Parsed::Whole => {
                self.write_hello(true);
                self.keep(table, index);
            }
            _ => done_and_release(table, index),
        }
    }

    /// Reads the beginning of a TCP stream.
    fn read(&mut self, bytes: &[u8]) -> Parsed {
        match bytes.first() {
            None => {
                self.text.clear();
                Parsed::Part
            }
            Some(0x16) => match self.hello.read_stream(bytes, &mut self.scratch) {
                Parsed::Whole => {
                    self.write_hello(false);
                    Parsed::Whole
                }
                // What was put together of records is not told from what was not.
                other => {
                    self.text.clear();
                    other
                }
            },
            Some(_) if RequestReader::may_begin(bytes) => {
                let parsed = self.request.read(bytes);
                self.write_request();
                parsed
            }
            Some(_) => Parsed::Other,
        }
    }

    /// The beginning of a stream of direction `from` has been read, or cannot be.
    fn conclude(&mut self, table: &mut Table, index: u32, read: Parsed, from: u8) {
        match read {
            // A request whose headers go on has said its method, and perhaps more.
            Parsed::Whole | Parsed::Part if !self.text.is_empty() => self.keep(table, index),
            _ => {
                let flow = &mut table.flows[index];
                flow.read |= 1 << from;
                table.gathers.release(std::mem::replace(&mut flow.gather, NONE));
            }
        }
        self.text.clear();
    }

    /// Keeps what was written.
    fn keep(&mut self, table: &mut Table, index: u32) {
        table.flows[index].learned = table.texts.keep(&self.text);
        self.text.clear();
        done_and_release(table, index);
    }

    fn write_hello(&mut self, quic: bool) {
        let [high, low] = self.hello.version().to_be_bytes();
        let ja4 = self.hello.ja4(quic);
        self.text.clear();
        self.text.extend([TLS, u8::from(quic), high, low]);
        for part in [&ja4[..], self.hello.server_name(), self.hello.alpn()] {
            put(&mut self.text, part);
        }
    }

    fn write_request(&mut self) {
        self.text.clear();
        self.text.push(HTTP);
        if self.request.method().is_empty() {
            self.text.clear();
            return;
        }
        for part in [
            self.request.method(),
            self.request.host(),
            self.request.user_agent(),
        ] {
            put(&mut self.text, part);
        }
    }
}

fn done(flow: &mut Entry) {
    flow.read = ALL_READ;
    flow.gather = NONE;
}

fn done_and_release(table: &mut Table, index: u32) {
    let flow = &mut table.flows[index];
    table.gathers.release(flow.gather);
    done(flow);
}

const TLS: u8 = 1;
const HTTP: u8 = 2;

/// A part of at most 255 bytes, after its length.
#[expect(clippy::cast_possible_truncation, reason = "cut to 255 bytes")]
fn put(text: &mut Vec<u8>, part: &[u8]) {
    let part = &part[..part.len().min(255)];
    text.push(part.len() as u8);
    text.extend_from_slice(part);
}

/// What is public of what was learned, filled again and again.
#[derive(Default)]
pub(super) struct Learned {
    pub(super) tls: TlsHello,
    pub(super) http: HttpRequest,
}

/// What a text is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Tls,
    Http,
}

impl Learned {
    /// Reads what was kept; says what it is about.
    pub(super) fn read(&mut self, text: &[u8]) -> Option<About> {
        match *text {
            [TLS, quic, high, low, ref rest @ ..] => {
                self.tls.quic = quic != 0;
                self.tls.version = u16::from_be_bytes([high, low]);
                let rest = take(&mut self.tls.ja4, rest);
                let rest = take(&mut self.tls.server_name, rest);
                take(&mut self.tls.alpn, rest);
                Some(About::Tls)
            }
            [HTTP, ref rest @ ..] => {
                let rest = take(&mut self.http.method, rest);
                let rest = take(&mut self.http.host, rest);
                take(&mut self.http.user_agent, rest);
                Some(About::Http)
            }
            _ => None,
        }
    }
}

/// Takes a part; gives the rest.
fn take<'a>(to: &mut String, bytes: &'a [u8]) -> &'a [u8] {
    to.clear();
    let Some((length, rest)) = bytes.split_first() else {
        return &[];
    };
    let (part, rest) = rest.split_at(rest.len().min((*length).into()));
    // The readers let nothing through but printable ASCII.
    to.push_str(std::str::from_utf8(part).unwrap_or_default());
    rest
}

/// The text that says which tunnel a flow came in.
pub(super) fn tunnel_text(tunnel: &Tunnel) -> [u8; 39] {
    let mut text = [0; 39];
    text[0] = tunnel.kind as u8;
    text[1] = tunnel.version;
    text[2] = u8::from(tunnel.id.is_some());
    text[3..7].copy_from_slice(&tunnel.id.unwrap_or_default().to_be_bytes());
    text[7..23].copy_from_slice(&tunnel.source.to_be_bytes());
    text[23..].copy_from_slice(&tunnel.destination.to_be_bytes());
    text
}

/// The tunnel of a text.
pub(super) fn tunnel_of(text: &[u8]) -> Option<FlowTunnel> {
    let text: &[u8; 39] = text.try_into().ok()?;
    let [kind, version, has_id, ..] = *text;
    let bits = |at: usize| {
        text[at..]
            .first_chunk()
            .map_or(0, |bits| u128::from_be_bytes(*bits))
    };
    let id = text[3..].first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
    Some(FlowTunnel {
        kind: *TunnelKind::ALL.iter().find(|known| **known as u8 == kind)?,
        id: (has_id != 0).then_some(id),
        source: address(version, bits(7)),
        destination: address(version, bits(23)),
    })
}
