//! Health checks over real connections, kind and unkind.
#![cfg(feature = "health")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::net::SocketAddr;
use std::time::Duration;

use amoskys_core::Shutdown;
use amoskys_core::config::Config;
use amoskys_transport::health::{Health, HealthServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

struct Scene {
    address: SocketAddr,
    health: Health,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

async fn start(adjust: impl FnOnce(HealthServer) -> HealthServer) -> Scene {
    let (health, shutdown) = (Health::new(), Shutdown::new());
    let server = adjust(HealthServer::bind("127.0.0.1:0").await.unwrap());
    Scene {
        address: server.local_addr(),
        serving: tokio::spawn(server.serve(health.clone(), shutdown.clone())),
        health,
        shutdown,
    }
}

/// What is said to these bytes until the connection is closed.
async fn say(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that stops listening to nonsense may reset the connection.
    let _ = timeout(Duration::from_secs(9), stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8(answer).unwrap()
}

/// Status and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = say(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn says_whether_it_lives_and_is_ready() {
    let scene = start(|server| server).await;
    let Scene { address, health, .. } = &scene;
    assert_eq!(get(*address, "/livez").await, (200, "ok\n".to_owned()));
    let (status, body) = get(*address, "/readyz").await;
    assert!(status == 503 && body.contains("\"started\""), "{body}");
    assert!(!health.is_ready());
    health.ready(true);
    health.fail("bus", "\"bus\" does not\nanswer");
    health.fail("log", "full");
    let (status, body) = get(*address, "/readyz").await;
    assert_eq!(status, 503);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "ready": false,
        "failing": { "bus": "\"bus\" does not\nanswer", "log": "full" },
    });
    assert_eq!(body, expected);
    health.pass("bus");
    assert_eq!(get(*address, "/readyz").await.0, 503);
    health.pass("log");
    let (status, body) = get(*address, "/readyz?verbose").await;
    assert_eq!(
        (status, body.as_str()),
        (200, "{\"failing\":{},\"ready\":true}\n")
    );
    assert!(health.is_ready());
    let report = health.reporter("bus");
    assert!(!health.is_ready(), "nothing is known of it yet");
    report(None);
    assert!(health.is_ready());
    report(Some("away"));
    assert_eq!(health.failing().values().collect::<Vec<_>>(), ["away"]);
    report(None);
    assert_eq!(get(*address, "/metrics").await.0, 404);
    assert_eq!(get(*address, "/").await.0, 404);
}

#[tokio::test]
async fn gives_out_metrics_and_survives_their_panic() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let scene = start(|server| {
        server.metrics(move || {
            let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(call != 1, "no metrics today");
            format!("calls {call}\n")
        })
    })
    .await;
    assert_eq!(
        get(scene.address, "/metrics").await,
        (200, "calls 0\n".to_owned())
    );
    assert_eq!(get(scene.address, "/metrics").await.0, 500);
    assert_eq!(
        get(scene.address, "/metrics").await,
        (200, "calls 2\n".to_owned())
    );
}

#[tokio::test]
async fn refuses_what_is_no_question() {
    let scene = start(|server| server).await;
    let status = |answer: String| answer.split(' ').nth(1).map(str::to_owned).unwrap_or_default();
    let answer = say(
        scene.address,
        "POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    )
    .await;
    assert_eq!(status(answer.clone()), "405");
    assert!(answer.to_lowercase().contains("allow: get, head"), "{answer}");
    let answer = say(scene.address, "HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(
        status(answer.clone()) == "200" && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    assert_eq!(status(say(scene.address, "nonsense\r\n\r\n").await), "400");
    let many: String = (0..100).map(|n| format!("h{n}: x\r\n")).collect();
    let answer = say(scene.address, &format!("GET /livez HTTP/1.1\r\n{many}\r\n")).await;
    assert_eq!(status(answer), "431");
    let long = "a".repeat(20_000);
    let answer = say(
        scene.address,
        &format!("GET /livez HTTP/1.1\r\nh: {long}\r\n\r\n"),
    )
    .await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(get(scene.address, "/livez").await.0, 200);
}

/// Clients that send a byte now and then, or nothing, are shut out after a while, and others get their turn.
#[tokio::test]
async fn slow_clients_are_bounded_in_number_and_time() {
    let scene = start(|server| server).await;
    let mut slow = Vec::new();
    for _ in 0..70 {
        let mut stream = TcpStream::connect(scene.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nX").await.unwrap();
        slow.push(stream);
    }
    let started = Instant::now();
    let answer = timeout(Duration::from_secs(15), get(scene.address, "/livez")).await;
    assert_eq!(answer.unwrap().0, 200);
    // All places were taken: it waited for one of them.
    assert!(
        started.elapsed() > Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    let mut rest = Vec::new();
    let closed = timeout(Duration::from_secs(1), slow[0].read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the first is connected still");
}

#[tokio::test]
async fn stops_when_told_and_answers_what_has_begun() {
    let scene = start(|server| {
        server.metrics(|| {
            std::thread::sleep(Duration::from_millis(300));
            "slow 1\n".to_owned()
        })
    })
    .await;
    // One that says nothing does not hold it up for long.
    let idle = TcpStream::connect(scene.address).await.unwrap();
    let begun = tokio::spawn(async move { get(scene.address, "/metrics").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.shutdown.trigger();
    assert_eq!(begun.await.unwrap(), (200, "slow 1\n".to_owned()));
    timeout(Duration::from_secs(6), scene.serving)
        .await
        .unwrap()
        .unwrap();
    drop(idle);
    assert!(TcpStream::connect(scene.address).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let scene = start(|server| server).await;
    let error = HealthServer::bind(scene.address).await.unwrap_err();
    assert!(std::error::Error::source(&error).is_some(), "{error}");
}

#[tokio::test]
async fn ports_come_from_settings() {
    let mut config = Config::default();
    let none = HealthServer::bind_settings(&config, String::new).await.unwrap();
    assert!(none.is_empty());
    let free = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = free.local_addr().unwrap().port();
    (config.health.port, config.metrics.port) = (Some(port), Some(port));
    assert!(
        HealthServer::bind_settings(&config, String::new).await.is_err(),
        "the port is taken"
    );
    drop(free);
    let render = || "up 1\n".to_owned();
    let mut one = HealthServer::bind_settings(&config, render).await.unwrap();
    assert_eq!(one.len(), 1);
    let server = one.remove(0);
    let serving = tokio::spawn(server.serve(Health::new(), Shutdown::new()));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(get(address, "/metrics").await, (200, "up 1\n".to_owned()));
    assert_eq!(get(address, "/livez").await.0, 200);
    serving.abort();
}
