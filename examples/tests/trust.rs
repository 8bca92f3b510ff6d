//! Keys and certificates of a site of separate processes: a key that is handed over, a certificate that is revoked, evidence
//! against a log that was cut off, and no secret in what the programs say.

mod support;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_core::{Offset, Open as _, Payload, RecordSource as _, Wal as _};
use amoskys_transport::bus::{ConnectOptions, SubscribeOptions, Subscription};
use amoskys_transport::identity::Credentials;
use amoskys_transport::protect::{FileSubjectKeys, Reveal};
use amoskys_transport::{FileSigner, Log, LogOptions};
use support::site::{Site, finish};
use support::{data, fail, program, succeed};

/// What of the secrets of a site could be seen: each key as base64, as hexadecimal digits, and as bytes written by Rust.
fn traces(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the directory") {
        let path = entry.expect("an entry").path();
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        if !matches!(ending, "key" | "sign") {
            continue;
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("a key");
        if !text.starts_with("-----") {
            found.push((name, text.trim().to_owned()));
            continue;
        }
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = decode(&body);
        // Behind what all keys of a kind have in common: an Ed25519 seed, or the middle of a P-256 key's.
        let secret = if bytes.len() == 48 {
            &bytes[16..48]
        } else {
            &bytes[40..64]
        };
        found.push((name.clone(), body[body.len() / 3..body.len() / 3 + 16].to_owned()));
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        found.push((name.clone(), hex[..16].to_owned()));
        found.push((name.clone(), hex[..16].to_uppercase()));
        let list: Vec<_> = secret[..8].iter().map(u8::to_string).collect();
        found.push((name, list.join(", ")));
    }
    assert!(found.len() > 12);
    found
}

/// Base64 without padding, as far as it goes.
fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_certificates_are_revoked_and_no_secret_is_told() {
    let mut site = Site::new(&["sensor"]);
    let (said, audit) = (site.path("bus.stderr"), site.path("audit"));
    let variables = [
        ("RUST_LOG", "trace".to_owned()),
        ("AMOSKYS_AUDIT_DIR", audit.display().to_string()),
        ("AMOSKYS_BUS_HEADS_INTERVAL", "200ms".to_owned()),
        ("AMOSKYS_STDERR", said.display().to_string()),
    ];
    let bus = site.start_bus_with(variables);
    let mut outputs = Vec::new();
    let mut run = |site: &Site| {
        let output = finish(
            "agent",
            site.agent("sensor", &data("lab.pcap")).env("RUST_LOG", "trace"),
        );
        outputs.push(String::from_utf8_lossy(&output.stderr).into_owned());
    };
    run(&site);
    // The log as it was, to be put back later by somebody who wants to hide what comes.
    let early = site.path("early");
    succeed(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(site.path("sensor"))
            .arg(&early),
    );
    let key = site.path("pki/sensor.sign");
    let old = traces(&site.path("pki"));
    FileSigner::create(FileSigner::next_path(&key)).expect("a key");
    run(&site);
    assert!(
        !FileSigner::next_path(&key).exists(),
        "the new key is in the place of the old"
    );

    // A subscriber whose certificate is revoked is cut off.
    let files = Credentials::in_dir(site.path("pki"), "analyzer");
    let tls = files.tls.client_config().expect("certificates");
    let address = site.member("agent", "x");
    let address = address
        .get_envs()
        .find(|(name, _)| *name == "AMOSKYS_BUS_ADDRESS");
    let address = address.and_then(|(_, value)| value).expect("the bus runs");
    let options = ConnectOptions::new(address.to_str().expect("text"), tls);
    let mut subscription = Subscription::new(SubscribeOptions::new(options));
    subscription.next_records().await.expect("records");
    let begun = Instant::now();
    let mut pki = program("pki");
    succeed(
        pki.arg("--dir")
            .arg(site.path("pki"))
            .args(["--revoke", "analyzer"]),
    );
    let cut = async { while subscription.next_records().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), cut)
        .await
        .expect("cut off");
    eprintln!(
        "cut off {:?} after the command to revoke was given",
        begun.elapsed()
    );
    assert!(bus.stop(), "the bus failed");

    // Evidence: the trust map knows the old key, and the bus's line is not in it.
    let (trust, public) = (site.path("pki/trust"), site.path("pki/bus.pub"));
    let verify = |log: &Path| {
        let mut verify = program("verify");
        verify.arg(log).arg("--trust").arg(&trust);
        verify
            .arg("--anchors")
            .arg(site.path("bus"))
            .arg("--anchors-key")
            .arg(&public);
        verify
    };
    let output = succeed(&mut verify(&site.path("sensor")));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("handed over") && text.contains(": agrees") && text.ends_with("clean\n"),
        "{text}"
    );
    let output = verify(&early).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    // Of what came since, the hand-over, it knows nothing.
    assert!(text.contains(": CUT OFF") && !text.contains("ABSENT"), "{text}");
    let heads = site.path("heads");
    let mut export = program("verify");
    export
        .arg(site.path("bus"))
        .arg("--key")
        .arg(&public)
        .arg("--export-anchors")
        .arg(&heads);
    succeed(&mut export);
    let mut by_file = program("verify");
    by_file.arg(&early).arg("--trust").arg(&trust).arg("--json");
    by_file
        .arg("--anchors")
        .arg(&heads)
        .arg("--anchors-key")
        .arg(&public);
    let output = by_file.output().expect("run");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["schema"], "amoskys.verify/1");
    let verdicts = report["seen"]["streams"].as_array().expect("streams");
    assert!(
        verdicts.iter().any(|stream| stream["verdict"] == "cut_off"),
        "{report}"
    );
    let (code, _) = fail(program("verify").arg(&early).arg("--anchors").arg(&heads));
    assert_eq!(code, Some(2), "whom to believe is not said");

    // The audit log of the bus.
    let log = audit.join("audit.jsonl");
    let mut check = program("verify");
    check
        .arg(&log)
        .args(["--audit", "--audit-key"])
        .arg(audit.join("audit.key"));
    let output = succeed(&mut check);
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("clean\n"));
    let text = std::fs::read_to_string(&log).expect("lines");
    for action in [
        "bus.start",
        "key.handed_over",
        "certificates.replaced",
        "bus.stop",
        "certificate_revoked",
    ] {
        assert!(text.contains(action), "{action} in {text}");
    }
    std::fs::write(&log, text.replacen("bus.start", "bus.stert", 1)).expect("written");
    let output = check.stdout(Stdio::piped()).output().expect("run");
    assert_eq!(output.status.code(), Some(1));

    let mut secrets = old;
    secrets.extend(traces(&site.path("pki")));
    secrets.push((
        "audit.key".to_owned(),
        std::fs::read_to_string(audit.join("audit.key")).expect("a key"),
    ));
    outputs.push(std::fs::read_to_string(&said).expect("what the bus said"));
    outputs.push(text);
    // At the most talkative level, both say what they do.
    assert!(outputs[0].contains("connected to the bus"), "{}", outputs[0]);
    assert!(outputs[2].contains("key.handed_over"), "{}", outputs[2]);
    for (name, secret) in &secrets {
        let secret = secret.trim();
        assert!(secret.len() >= 16);
        assert!(
            outputs.iter().all(|said| !said.contains(secret)),
            "{name} was told"
        );
    }
}

/// What is in all flows of a log, as `revealed` and `protected`.
fn flows(log: &Path, keys: Option<&Path>) -> (usize, usize) {
    let log = Log::open(log, LogOptions::new().agent("sensor")).expect("the log");
    let keys = keys.map(|path| Arc::new(FileSubjectKeys::open(path).expect("keys")));
    let reveal = keys.map(|keys| Reveal::new(keys));
    let (mut revealed, mut protected, mut from) = (0, 0, Offset(0));
    loop {
        let records = log.wal.read(from, 1 << 20).expect("records");
        let Some((last, _)) = records.last() else {
            return (revealed, protected);
        };
        from = last.next();
        for (_, record) in &records {
            for mut event in log.opener.open(record).expect("a record").events {
                if let Some(reveal) = &reveal {
                    reveal.reveal(&mut event);
                }
                match event.payload {
                    Payload::Flow(_) => revealed += 1,
                    Payload::Protected(_) => protected += 1,
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn what_is_known_of_an_address_is_erased_by_settings_and_a_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, keys) = (dir.path().join("data"), dir.path().join("subjects.keys"));
    let with_rules = |name: &str| {
        let mut command = program(name);
        command
            .env("AMOSKYS_PROTECT_RULES", "address:0.0.0.0/0, address:::/0")
            .env("AMOSKYS_PROTECT_KEY_FILE", &keys)
            .env("AMOSKYS_AGENT_NAME", "sensor")
            .env("AMOSKYS_LOG_PATH", &data);
        command
    };
    let mut sentinel = with_rules("sentinel");
    let output = succeed(sentinel.arg("--read").arg(support::data("lab.pcap")));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // What is said of it is the same as without.
    let plain = succeed(program("sentinel").arg("--read").arg(support::data("lab.pcap")));
    let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
    let alerts = |text: &str| text.matches("alert").count();
    assert_eq!(alerts(&said), alerts(&plain), "{said}\n{plain}");
    let (clear, protected) = flows(&data, None);
    assert!(clear == 0 && protected > 50, "{clear} {protected}");
    let (revealed, left) = flows(&data, Some(&keys));
    assert!(revealed > 50 && left == 0, "{revealed} {left}");

    let subjects = |keys: &Path| FileSubjectKeys::open(keys).expect("keys").subjects();
    let before = subjects(&keys);
    assert!(before > 1, "{before}");
    // Of whom nothing is known nothing is erased.
    let (code, _) = fail(with_rules("agent").args(["--forget", "address:192.0.2.254"]));
    assert_eq!(code, Some(1));
    let subject = first_source(&data, &keys);
    let output = succeed(with_rules("agent").arg("--forget").arg(&subject));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("subject.forget") && !said.contains(&subject["address:".len()..]),
        "{said}"
    );
    assert_eq!(subjects(&keys), before - 1);
    let (after, left) = flows(&data, Some(&keys));
    assert!(
        left > 0 && after < revealed && after + left == revealed,
        "{after} {left} of {revealed}"
    );
    // The chain is as it was.
    succeed(program("verify").arg(&data));
}

/// The subject of the first flow.
fn first_source(log: &Path, keys: &Path) -> String {
    let log = Log::open(log, LogOptions::new().agent("sensor")).expect("the log");
    let reveal = Reveal::new(Arc::new(FileSubjectKeys::open(keys).expect("keys")));
    let records = log.wal.read(Offset(0), 1 << 20).expect("records");
    let events = records
        .iter()
        .flat_map(|(_, record)| log.opener.open(record).expect("a record").events);
    let mut sources = events.filter_map(|mut event| {
        reveal.reveal(&mut event);
        match event.payload {
            Payload::Flow(flow) => Some(flow.key.source),
            _ => None,
        }
    });
    format!("address:{}", sources.next().expect("a flow"))
}
