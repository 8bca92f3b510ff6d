//! The bounds of a connection bite: a real client that has bytes to send stops at the window of a real bus, and an agent has
//! as many streams as it may have and no more.

#![cfg(all(feature = "bus", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use amoskys_core::{RecordSink as _, Remedy};
use amoskys_transport::bus::admission::{Admitted, Rejection, Submission};
use amoskys_transport::bus::{ConnectionError, PublishError, Publisher, PublisherOptions, RefuseReason};
use amoskys_transport::identity::Role;
use site::{Agent, PATIENCE, Running, Site, carry, connect_options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tower::Service;
use tower::layer::layer_fn;

/// Nothing goes into the log before it is opened.
#[derive(Clone)]
struct Gate<S>(S, watch::Receiver<bool>);

impl<S> Service<Submission> for Gate<S>
where
    S: Service<Submission, Response = Admitted, Error = Rejection> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Admitted;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Admitted, Rejection>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, submission: Submission) -> Self::Future {
        let spare = self.0.clone();
        let mut inner = std::mem::replace(&mut self.0, spare);
        let mut gate = self.1.clone();
        Box::pin(async move {
            let _ = gate.wait_for(|is_open| *is_open).await;
            inner.call(submission).await
        })
    }
}

/// A relay that takes whatever a client sends at once, and counts it: what the client holds back, it holds back by itself.
async fn relay(to: SocketAddr) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let bus = TcpStream::connect(to).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_bus, mut to_bus) = bus.into_split();
            let (pieces, mut waiting) = mpsc::unbounded_channel::<Vec<u8>>();
            let count = count.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                    count.fetch_add(length as u64, Ordering::Relaxed);
                    if pieces.send(buffer[..length].to_vec()).is_err() {
                        break;
                    }
                }
            });
            tokio::spawn(async move {
                while let Some(piece) = waiting.recv().await {
                    if to_bus.write_all(&piece).await.is_err() {
                        break;
                    }
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut from_bus, &mut to_client).await });
        }
    });
    (address, sent)
}

/// Bytes that a client with much to send puts on the wire of a bus that acknowledges nothing; everything is delivered in the
/// end.
async fn sent_unacknowledged(window_bytes: u64) -> (u64, u64) {
    let mut site = Site::new();
    site.know("a");
    let (open, gate) = watch::channel(false);
    let options = site.bus_options().window_bytes(window_bytes);
    let bus = Running::new(options.admission(layer_fn(move |intake| Gate(intake, gate.clone()))));
    let (address, sent) = relay(bus.address).await;
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(1500);
    let all: usize = agent.sealed.iter().map(bytes::Bytes::len).sum();
    let connect = connect_options(address, site.client_tls(Role::Agent, "a"));
    let mut publisher = Publisher::for_log(&agent.log, PublisherOptions::new(connect));
    let feed = agent.feed(0);
    let watching = async {
        // Until nothing more comes for a while.
        let (mut before, mut quiet) = (0, 0);
        let begun = tokio::time::Instant::now();
        while quiet < 10 {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = sent.load(Ordering::Relaxed);
            quiet = if now == before && now > 20_000 {
                quiet + 1
            } else {
                0
            };
            before = now;
        }
        let delivered = |bus: &Running| {
            bus.bus
                .ledger()
                .snapshot()
                .accounts
                .get("bus/a")
                .map(|a| a.delivered)
        };
        assert_eq!(delivered(&bus).unwrap_or(0), 0, "the gate is closed");
        open.send(true).unwrap();
        before
    };
    let (carried, on_the_wire) = tokio::join!(carry(&mut publisher, &feed), watching);
    carried.unwrap();
    assert_eq!(bus.stop().await.ledger.accounts["bus/a"].delivered, 6000);
    (on_the_wire, all as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_stops_at_the_window_of_the_bus() {
    const WINDOW: u64 = 64 << 10;
    // Hellos and certificates, and the headers of frames and of TLS.
    const BESIDE: u64 = 16 << 10;
    let (narrow, all) = sent_unacknowledged(WINDOW).await;
    let (wide, _) = sent_unacknowledged(8 << 20).await;
    println!("{narrow} and {wide} of {all} bytes sent before anything was durable");
    assert!(all > 8 * WINDOW, "{all}");
    assert!((WINDOW..WINDOW + BESIDE).contains(&narrow), "{narrow}");
    assert!(wide > all, "{wide} of {all}");
}

#[tokio::test]
async fn an_agent_has_so_many_streams_and_no_more() {
    let mut site = Site::new();
    site.know("a");
    let mut agent = Agent::open(&site.path("a"), "a");
    // Four batches of measurements, and then one of alerts, which have a stream of their own.
    agent.collect(5);
    let bus = Running::new(site.bus_options().max_streams(1));
    let mut publisher = agent.publisher(&site, &bus);
    let error = publisher.carry(&agent.feed(0)).await.unwrap_err();
    // It may be granted more later.
    assert!(matches!(publisher.remedy(&error), Remedy::RetryAfter(_)));
    let PublishError::Connection(ConnectionError::Refused { reason, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(*reason, RefuseReason::TooManyStreams);
    assert!(
        amoskys_core::error::Chain(&error)
            .to_string()
            .contains("too many streams"),
        "{}",
        amoskys_core::error::Chain(&error)
    );
    let report = bus.stop().await;
    assert_eq!(
        report.ledger.accounts["bus/a"].delivered, 16,
        "the first stream goes on"
    );
    // Nothing of the second is lost: it is sent when there may be two.
    let bus = Running::new(site.bus_options().max_streams(2));
    agent.send(&site, &bus).await.unwrap();
    let report = bus.stop().await;
    assert!(report.ledger.unbalanced().is_empty());
    assert_eq!(report.ledger.accounts["bus/a"].delivered, 20);
    site::assert_clean(&site, "bus");
}
