//! The program that receives exports, as somebody with a switch meets it: a real agent, garbage, and mistakes.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{data, fail, program, succeed};

/// A running program, and the port it listens on.
struct Receiver {
    child: Child,
    said: BufReader<ChildStderr>,
    port: u16,
}

impl Receiver {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, Stdio::piped())
    }

    fn start_with(arguments: &[&str], output: Stdio) -> Self {
        let mut child = program("netflow")
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut said = BufReader::new(child.stderr.take().expect("its errors"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        let port = line.trim().rsplit(':').next().expect("a port");
        let port = port.parse().unwrap_or_else(|_| panic!("{line}"));
        Self { child, said, port }
    }

    fn send(&self, datagram: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let sent = socket.send_to(datagram, ("127.0.0.1", self.port));
        assert_eq!(sent.expect("send"), datagram.len());
    }

    /// Ends it as Ctrl-C does; the lines that it printed, and what it said.
    fn end(mut self) -> (Vec<Value>, String) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::INT).expect("a signal");
        let mut said = String::new();
        // Standard output is read first: a pipe that is full would keep the program from ending.
        let mut printed = String::new();
        let mut output = self.child.stdout.take().expect("its output");
        output.read_to_string(&mut printed).expect("text");
        self.said.read_to_string(&mut said).expect("text");
        let status = self.child.wait().expect("its end");
        assert!(status.success() && !said.contains("panicked"), "{status}\n{said}");
        let lines = printed.lines().map(serde_json::from_str);
        (lines.collect::<Result<_, _>>().expect("JSON a line"), said)
    }
}

/// pmacct's agent; `None` if it is not installed.
fn pmacctd() -> Option<PathBuf> {
    let found = ["/usr/sbin/pmacctd", "/usr/local/sbin/pmacctd"].map(PathBuf::from);
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        let required = std::env::var("AMOSKYS_REQUIRE_PEERS");
        assert_ne!(required.as_deref(), Ok("1"), "pmacctd is missing");
        eprintln!("skipped: pmacctd is missing");
    }
    found
}

/// Lets the agent send what it samples of a capture, one packet in 10.
fn sample(pmacctd: &Path, port: u16) {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("pmacctd.conf");
    let capture = data("lab.pcap");
    let settings = format!(
        "daemonize: false\npcap_savefile: {}\nplugins: sfprobe\nsfprobe_receiver: 127.0.0.1:{port}\n\
         sfprobe_agentip: 192.0.2.7\nplugin_pipe_size: 33554432\nplugin_buffer_size: 65536\nsampling_rate: 10\n",
        capture.display()
    );
    std::fs::write(&config, settings).expect("write");
    let mut child = Command::new(pmacctd)
        .arg("-f")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the agent");
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().expect("its state").is_none() {
        assert!(Instant::now() < deadline, "the agent does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A v5 datagram of one flow of 7 packets, one packet in `sampling` looked at.
fn v5(sampling: u8) -> Vec<u8> {
    let mut datagram = vec![0, 5, 0, 1, 0, 0, 0, 9, 0x65, 0x53, 0xf1, 0];
    datagram.resize(24, 0);
    datagram[23] = sampling;
    let mut record = [0; 48];
    record[3] = 1;
    record[19] = 7;
    record[23] = 200;
    record[38] = 17;
    datagram.extend(record);
    datagram
}

#[test]
fn what_a_real_agent_samples_is_printed_and_garbage_is_counted() {
    let Some(pmacctd) = pmacctd() else {
        return;
    };
    let receiver = Receiver::start(&["--sflow"]);
    // Another format, one that ends in its header, one that claims more samples than there are, and nothing at all.
    receiver.send(&v5(0));
    receiver.send(&[0, 0, 0, 5, 0, 0, 0, 1, 192, 0]);
    let mut cut = vec![0, 0, 0, 5, 0, 0, 0, 1, 192, 0, 2, 99];
    cut.extend([0; 12]);
    cut.extend([0xff; 8]);
    receiver.send(&cut);
    receiver.send(&[]);
    sample(&pmacctd, receiver.port);
    let (flows, said) = receiver.end();
    let number = |flow: &Value, name: &str| flow[name].as_u64().expect("a number");
    let sampled: u64 = flows.iter().map(|flow| number(flow, "packets")).sum();
    assert!(sampled > 500, "{sampled} packets\n{said}");
    assert!(flows.iter().all(|flow| flow["exporter"] == "192.0.2.7"));
    assert!(flows.iter().all(|flow| flow["sampling_rate"] == 10));
    assert!(
        flows.iter().all(|flow| flow["attributes"]["scaled_packets"]
            .to_string()
            .contains(&(number(flow, "packets") * 10).to_string())),
        "{:?}",
        flows.first()
    );
    for part in ["1 unknown_version", "3 malformed"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // The others are ARP messages.
    let used = said
        .split_once(" records used")
        .and_then(|(before, _)| before.rsplit(' ').next());
    let used: u64 = used.and_then(|used| used.parse().ok()).expect("a number");
    assert!((sampled..sampled + 100).contains(&used), "{sampled} in {said}");
}

#[test]
fn exports_are_printed_with_their_rate_and_what_is_none_is_counted() {
    let receiver = Receiver::start(&["--no-attributes"]);
    receiver.send(&v5(20));
    receiver.send(b"GET / HTTP/1.1\r\n\r\n");
    receiver.send(&v5(0)[..40]);
    let (flows, said) = receiver.end();
    assert_eq!(flows.len(), 1, "{said}");
    assert_eq!(
        (&flows[0]["packets"], &flows[0]["sampling_rate"]),
        (&7.into(), &20.into())
    );
    for part in [
        "3 datagrams",
        "1 records used",
        "1 unknown_version",
        "1 malformed",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn mistakes_are_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = taken.local_addr().expect("its address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text");
    std::fs::write(&text, "this is not a capture, whatever its name").expect("write");
    let path = |path: &Path| path.to_str().expect("a name").to_owned();
    for (arguments, parts) in [
        (["--listen", &address], [&*address, "in use"]),
        (["--listen", "nowhere"], ["address", "invalid socket address"]),
        (["--read", "/no/such.pcap"], ["/no/such.pcap", "No such file"]),
        (
            ["--read", &path(folder.path())],
            [&path(folder.path()), "Is a directory"],
        ),
        (["--read", &path(&text)], [&path(&text), "not a capture"]),
    ] {
        for sflow in [&[][..], &["--sflow"]] {
            let (code, said) = fail(program("netflow").args(arguments).args(sflow));
            assert_eq!(code, Some(1), "{said}");
            for part in parts {
                assert!(said.contains(part), "{part} in {said}");
            }
        }
    }
    // A disk that is full.
    if Path::new("/dev/full").exists() {
        let receiver = Receiver::start_with(&[], std::fs::File::create("/dev/full").expect("a file").into());
        receiver.send(&v5(0));
        let Receiver {
            mut child, mut said, ..
        } = receiver;
        let mut text = String::new();
        said.read_to_string(&mut text).expect("text");
        assert!(!child.wait().expect("its end").success());
        assert!(text.contains("standard output: No space left"), "{text}");
    }
    // A capture without exports, and a capture cut off in a packet, are read.
    let lab = std::fs::read(data("lab.pcap")).expect("the capture");
    let cut = folder.path().join("cut.pcap");
    std::fs::write(&cut, &lab[..100_003]).expect("write");
    let output = succeed(program("netflow").arg("--read").arg(&cut).args(["--port", "53"]));
    let said = String::from_utf8_lossy(&output.stderr);
    // To port 53 go DNS messages, which are none.
    assert!(
        output.stdout.is_empty() && said.contains(" 0 records used"),
        "{said}"
    );
    assert!(
        said.contains("unknown_version") && said.contains("lost 1 packets: capture_truncated"),
        "{said}"
    );
}
