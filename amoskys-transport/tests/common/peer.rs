//! A client that speaks the protocol as `docs/formats.md` and `bus.proto` describe it, with code of its own, and may break
//! it; and what a bus counts and logs meanwhile.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const HELLO: u8 = 1;
pub(crate) const WELCOME: u8 = 2;
pub(crate) const REFUSE: u8 = 3;
pub(crate) const BATCH: u8 = 4;
pub(crate) const ACK: u8 = 5;
pub(crate) const SUBSCRIBE: u8 = 7;

pub(crate) struct Peer(TlsStream<TcpStream>);

impl Peer {
    pub(crate) async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(address).await?, tls).await
    }

    /// From another address of this machine.
    pub(crate) async fn connect_from(
        from: IpAddr,
        address: SocketAddr,
        tls: Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        Self::over(tcp_from(from, address).await?, tls).await
    }

    async fn over(tcp: TcpStream, tls: Arc<ClientConfig>) -> std::io::Result<Self> {
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self(TlsConnector::from(tls).connect(name, tcp).await?))
    }

    pub(crate) async fn send(&mut self, kind: u8, body: &[u8]) {
        let len = u32::try_from(body.len() + 1).unwrap().to_le_bytes();
        let frame = [&len[..], &[kind], body].concat();
        // The bus may have hung up; what it said tells more.
        let _ = self.0.write_all(&frame).await;
        let _ = self.0.flush().await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    /// The next frame.
    pub(crate) async fn receive(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let reading = async {
            let len = self.0.read_u32_le().await?;
            let mut frame = vec![0; len as usize];
            self.0.read_exact(&mut frame).await?;
            Ok((frame[0], frame.split_off(1)))
        };
        tokio::time::timeout(Duration::from_secs(10), reading)
            .await
            .expect("in time")
    }

    /// Says hello, and hears the answer.
    pub(crate) async fn hello(&mut self, version: u64, part: u64, name: &str) -> (u8, Vec<u8>) {
        let mut hello = field(1, version);
        hello.extend(field(2, part));
        hello.extend(bytes_field(3, name.as_bytes()));
        self.send(HELLO, &hello).await;
        self.receive().await.unwrap()
    }

    /// The number of the reason of a refusal, which must come next but for acknowledgements, and the number of the next
    /// record that the bus says it wants.
    pub(crate) async fn refusal(mut self) -> (u64, Option<u64>) {
        loop {
            match self.receive().await.unwrap() {
                (ACK, _) => {}
                (REFUSE, body) => {
                    let fields = fields(&body);
                    let next = fields.get(&4).map(|point| match point {
                        Field::Bytes(point) => match self::fields(point).get(&1) {
                            Some(Field::Number(next)) => *next,
                            _ => 0,
                        },
                        Field::Number(_) => panic!("a point is a message"),
                    });
                    return match fields.get(&1) {
                        Some(Field::Number(reason)) => (*reason, next),
                        _ => (0, next),
                    };
                }
                (kind, _) => panic!("frame {kind} instead of a refusal"),
            }
        }
    }
}

/// A connection from another address of this machine.
pub(crate) async fn tcp_from(from: IpAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(address).await
}

#[derive(Debug)]
pub(crate) enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The last field of each number.
pub(crate) fn fields(mut body: &[u8]) -> BTreeMap<u64, Field> {
    let mut fields = BTreeMap::new();
    while !body.is_empty() {
        let key = varint(&mut body);
        let value = varint(&mut body);
        let value = match key & 7 {
            0 => Field::Number(value),
            2 => {
                let (bytes, rest) = body.split_at(usize::try_from(value).unwrap());
                body = rest;
                Field::Bytes(bytes.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.insert(key >> 3, value);
    }
    fields
}

fn varint(body: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = body.split_first().unwrap();
        *body = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

pub(crate) fn field(number: u64, value: u64) -> Vec<u8> {
    [put_varint(number << 3), put_varint(value)].concat()
}

pub(crate) fn bytes_field(number: u64, value: &[u8]) -> Vec<u8> {
    let mut out = put_varint(number << 3 | 2);
    out.extend(put_varint(value.len() as u64));
    out.extend(value);
    out
}

fn put_varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
    out
}

/// Counters and log lines of everything that runs on this thread.
#[derive(Clone, Default)]
pub(crate) struct Witness {
    counters: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    /// The value of `amoskys_bus_refused_total` for this reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.count(&format!("amoskys_bus_refused_total reason={reason}"))
    }

    /// The value of a counter, `NAME LABEL=VALUE`.
    pub(crate) fn count(&self, key: &str) -> u64 {
        let counters = self.counters.lock().unwrap();
        counters.get(key).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The sum of all counters whose key begins so.
    pub(crate) fn sum(&self, begins: &str) -> u64 {
        let counters = self.counters.lock().unwrap();
        let of = counters.iter().filter(|(key, _)| key.starts_with(begins));
        of.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }

    /// Whether a line that holds all of this was logged.
    pub(crate) fn says(&self, parts: &[&str]) -> bool {
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    }

    /// Whether a refusal was logged for this reason.
    pub(crate) fn logged(&self, reason: &str) -> bool {
        let wanted = format!("reason={reason} ");
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .any(|line| line.contains("refused:") && line.contains(&wanted))
    }
}

impl metrics::Recorder for Witness {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let mut name = key.name().to_owned();
        for label in key.labels() {
            let _ = write!(name, " {}={}", label.key(), label.value());
        }
        let counter = self.counters.lock().unwrap().entry(name).or_default().clone();
        metrics::Counter::from_arc(counter)
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

impl tracing::Subscriber for Witness {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                let _ = write!(self.0, "{}={value:?} ", field.name());
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }
}
