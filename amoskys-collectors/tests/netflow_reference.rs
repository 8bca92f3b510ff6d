//! Export datagrams of many vendors, decoded: every record as an independent decoder reads it.
#![cfg(feature = "netflow")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::netflow::{
    ExportRecord, NetflowCollector, NetflowConfig, NetflowDecoder, NetflowHandler,
};
use amoskys_collectors::packet::{Decoded, decode};
use amoskys_core::Collector;
use amoskys_core::event::{FlowRecord, Payload, Value};
use serde_json::Value as Json;

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("AMOSKYS_DATA").map(|root| PathBuf::from(root).join("netflow"));
    if data.is_none() {
        eprintln!("skipped: AMOSKYS_DATA is not set");
    }
    data
}

/// Rows of a CSV file, by column.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(cells);
    let header = lines.next().unwrap();
    lines
        .map(|cells| header.iter().cloned().zip(cells).collect())
        .collect()
}

fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cells.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            letter => cells.last_mut().unwrap().push(letter),
        }
    }
    cells
}

/// A record, in what can be compared.
struct Row {
    datagram: usize,
    set: u16,
    flow: FlowRecord,
    attributes: BTreeMap<String, Value>,
    /// Numbers of IANA's elements in it.
    elements: BTreeSet<u16>,
    /// Ports as they were exported, which for ICMP are none.
    ports: [Option<u16>; 2],
    exported: i64,
}

#[derive(Default)]
struct Rows {
    datagram: usize,
    rows: Vec<Row>,
}

impl Rows {
    fn add(&mut self, record: &ExportRecord<'_>) {
        let mut attributes = BTreeMap::new();
        let flow = record.flow(Some(&mut attributes));
        let iana = || record.fields().filter(|field| field.enterprise == 0);
        let port = |id| {
            let field = iana().find(|field| field.id == id);
            field.map(|field| u16::from_be_bytes(field.bytes.try_into().unwrap()))
        };
        self.rows.push(Row {
            datagram: self.datagram,
            set: record.template(),
            flow,
            attributes,
            elements: iana().map(|field| field.id).collect(),
            ports: [port(7), port(11)],
            exported: record.export().exported.nanos(),
        });
    }
}

impl NetflowHandler for Rows {
    fn flow(&mut self, record: &ExportRecord<'_>) {
        self.add(record);
    }

    fn options(&mut self, record: &ExportRecord<'_>) {
        self.add(record);
    }
}

fn decode_capture(path: &Path) -> (Rows, NetflowDecoder) {
    let mut capture = CaptureReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut decoder = NetflowDecoder::new(NetflowConfig::default()).unwrap();
    let mut rows = Rows::default();
    while let Some(packet) = capture.next_packet().unwrap() {
        let Decoded::Ip(ip) = decode(&packet) else {
            panic!("not IP")
        };
        decoder.push(ip.source(), packet.time, ip.payload(), &mut rows);
        rows.datagram += 1;
    }
    (rows, decoder)
}

/// The column of a row, as the reference writes it.
fn column(row: &Row, name: &str) -> String {
    let has = |ids: &[u16]| ids.iter().any(|id| row.elements.contains(id));
    let key = &row.flow.key;
    let only = |wanted: bool, text: String| if wanted { text } else { String::new() };
    match name {
        "src_addr" => only(has(&[8, 27]), key.source.to_string()),
        "dst_addr" => only(has(&[12, 28]), key.destination.to_string()),
        "src_port" => row.ports[0].map_or_else(String::new, |port| port.to_string()),
        "dst_port" => row.ports[1].map_or_else(String::new, |port| port.to_string()),
        "protocol" => only(has(&[4]), key.protocol.to_string()),
        "octets" => only(has(&[1]), row.flow.forward.bytes().to_string()),
        "packets" => only(has(&[2]), row.flow.forward.packets.to_string()),
        _ => unreachable!(),
    }
}

/// The column as it should be. Where a record has fields for addresses of both kinds, and that of version 4 is zero,
/// the reference lists the zero.
fn expected(name: &str, row: &BTreeMap<String, String>, fields: &serde_json::Map<String, Json>) -> String {
    let other = match name {
        "src_addr" => fields.get("srcaddrv6"),
        "dst_addr" => fields.get("dstaddrv6"),
        _ => None,
    };
    match other {
        Some(other) if row[name] == "0.0.0.0" => first(other).to_owned(),
        _ => row[name].clone(),
    }
}

/// Fields that become attributes of the same value.
const SAME: [(&str, &str); 33] = [
    ("outputint", "egressInterface"),
    ("nexthop", "ipNextHopIPv4Address"),
    ("nexthopv6", "ipNextHopIPv6Address"),
    ("srcas", "bgpSourceAsNumber"),
    ("dstas", "bgpDestinationAsNumber"),
    ("direction", "flowDirection"),
    ("ip_version", "ipVersion"),
    ("post_natsource_ipv4_address", "postNATSourceIPv4Address"),
    (
        "post_natdestination_ipv4_address",
        "postNATDestinationIPv4Address",
    ),
    ("post_naptsource_transport_port", "postNAPTSourceTransportPort"),
    (
        "post_naptdestination_transport_port",
        "postNAPTDestinationTransportPort",
    ),
    ("firewall_event", "firewallEvent"),
    ("flow_id", "flowId"),
    ("post_octets", "postOctetDeltaCount"),
    ("post_packets", "postPacketDeltaCount"),
    ("permanent_octets", "octetTotalCount"),
    ("permanent_packets", "packetTotalCount"),
    ("sta_mac_address", "staMacAddress"),
    ("sta_ipv4_address", "staIPv4Address"),
    ("wtp_mac_address", "wtpMacAddress"),
    ("wlan_ssid", "wlanSSID"),
    ("appl_name", "applicationName"),
    ("appl_desc", "applicationDescription"),
    ("flowsexp", "exportedFlowRecordTotalCount"),
    ("packetsexp", "exportedMessageTotalCount"),
    ("octetsexp", "exportedOctetTotalCount"),
    ("flow_active_timeout", "flowActiveTimeout"),
    ("sampling_interval", "samplingInterval"),
    ("sampling_algorithm", "samplingAlgorithm"),
    ("layer2_segment_id", "layer2SegmentId"),
    ("observation_point_id", "observationPointId"),
    ("post_dstmac", "postDestinationMacAddress"),
    ("bgpnexthop", "bgpNextHopIPv4Address"),
];

fn text(value: &Value) -> String {
    match value {
        Value::Uint(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// The first value, where the reference has several.
fn first(json: &Json) -> &str {
    match json {
        Json::Array(all) => first(&all[0]),
        json => json.as_str().unwrap(),
    }
}

/// Seconds with nine decimals as nanoseconds.
fn nanos(text: &str) -> i64 {
    let (secs, fraction) = text.split_once('.').unwrap();
    secs.parse::<i64>().unwrap() * 1_000_000_000 + fraction.parse::<i64>().unwrap()
}

/// `Apr 15, 2018 03:26:50.000000000 UTC`, or with a second space before a single digit.
fn absolute(text: &str) -> i64 {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let parts: Vec<&str> = text.split_whitespace().collect();
    let month = MONTHS.iter().position(|month| *month == parts[0]).unwrap() as i64 + 1;
    let (day, year): (i64, i64) = (
        parts[1].trim_matches(',').parse().unwrap(),
        parts[2].parse().unwrap(),
    );
    let mut clock = parts[3].splitn(3, ':');
    let hours: i64 = clock.next().unwrap().parse().unwrap();
    let minutes: i64 = clock.next().unwrap().parse().unwrap();
    // Days since 1970 of the proleptic Gregorian calendar, with the year beginning in March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719_469;
    (days * 86_400 + hours * 3600 + minutes * 60) * 1_000_000_000 + nanos(clock.next().unwrap())
}

/// Compares everything the reference decoded that has a place here; returns how many facts.
fn compare_fields(row: &Row, fields: &serde_json::Map<String, Json>, at: &str) -> usize {
    let flow = &row.flow;
    let mut compared = 0;
    let mut same = |name: &str, ours: String, theirs: &str| {
        assert_eq!(ours, theirs, "{name} {at}");
        compared += 1;
    };
    let get = |name: &str| fields.get(name).map(first);
    for (theirs, ours) in SAME {
        if let Some(value) = get(theirs) {
            same(
                theirs,
                row.attributes.get(ours).map(text).unwrap_or_default(),
                value,
            );
        }
    }
    if let Some(value) = get("inputint") {
        same("inputint", flow.interface.to_string(), value);
    }
    if let Some(value) = get("vlanid") {
        same("vlanid", flow.vlan.unwrap_or(0).to_string(), value);
    }
    for (name, mac) in [("srcmac", flow.source_mac), ("dstmac", flow.destination_mac)] {
        if let Some(value) = get(name) {
            let mac = mac.map_or("00:00:00:00:00:00".to_owned(), |mac| mac.to_string());
            same(name, mac, value);
        }
    }
    if let (Some(value), Some(tcp)) = (get("tcpflags"), &flow.tcp) {
        let counts = tcp.forward.flags;
        let bits = [
            counts.fin, counts.syn, counts.rst, counts.psh, counts.ack, counts.urg, counts.ece, counts.cwr,
        ];
        let flags: u64 = bits.iter().enumerate().map(|(bit, seen)| seen << bit).sum();
        same("tcpflags", format!("{flags:#04x}"), value);
    }
    if let Some(value) = get("tos") {
        let tos = row
            .attributes
            .get("ipClassOfService")
            .map(text)
            .unwrap_or_default();
        same("tos", format!("{:#04x}", tos.parse::<u64>().unwrap()), value);
    }
    if let (Some(value), None) = (get("permanent_octets"), get("octets")) {
        same("octets by total", flow.forward.bytes().to_string(), value);
    }
    if let Some(Json::Array(both)) = fields.get("permanent_octets") {
        same(
            "octets of the reverse direction",
            flow.backward.bytes().to_string(),
            first(&both[1]),
        );
    }
    // A time of the epoch is how the reference shows an uptime of zero.
    if let Some(value) = get("abstimestart").filter(|value| absolute(value) > 0) {
        same(
            "abstimestart",
            flow.first.nanos().to_string(),
            &absolute(value).to_string(),
        );
    }
    if let Some(value) = get("abstimeend") {
        same(
            "abstimeend",
            flow.last.nanos().to_string(),
            &absolute(value).to_string(),
        );
    }
    if let (Some(start), Some(end)) = (get("timestart"), get("timeend")) {
        let lasted = nanos(end) - nanos(start);
        same(
            "duration",
            (flow.last.nanos() - flow.first.nanos()).to_string(),
            &lasted.to_string(),
        );
        // By the clock since boot, flows end before they are exported, and not hours before.
        let age = row.exported - flow.last.nanos();
        assert!(
            (-60_000_000_000..7200 * 1_000_000_000).contains(&age),
            "exported {age} ns after its end {at}"
        );
    }
    compared
}

#[test]
fn every_record_is_as_the_reference_has_it() {
    let Some(data) = data() else { return };
    let datagrams = rows(&data.join("datagrams.csv"));
    let reference = rows(&data.join("flow_records.csv"));
    let malformed: BTreeSet<(String, String)> = datagrams
        .iter()
        .filter(|row| row["malformed"] == "yes")
        .map(|row| (row["group"].clone(), row["datagram"].clone()))
        .collect();
    let groups: BTreeSet<&String> = datagrams.iter().map(|row| &row["group"]).collect();
    let (mut records, mut facts) = (0, 0);
    for group in &groups {
        let (ours, _) = decode_capture(&data.join("pcap").join(format!("{group}.pcap")));
        let is_sound = |datagram: &str| !malformed.contains(&((*group).clone(), datagram.to_owned()));
        let ours: Vec<&Row> = ours
            .rows
            .iter()
            .filter(|row| is_sound(&row.datagram.to_string()))
            .collect();
        let theirs: Vec<_> = reference
            .iter()
            .filter(|row| row["group"] == **group && is_sound(&row["datagram"]))
            .collect();
        assert_eq!(ours.len(), theirs.len(), "records of {group}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            let at = format!(
                "in {group}, datagram {}, record {}",
                theirs["datagram"], theirs["flow_in_datagram"]
            );
            assert_eq!(ours.datagram.to_string(), theirs["datagram"], "{at}");
            if !theirs["set_id"].is_empty() {
                assert_eq!(ours.set.to_string(), theirs["set_id"], "{at}");
            }
            let fields: serde_json::Map<String, Json> =
                serde_json::from_str(&theirs["decoded_fields"]).unwrap();
            for name in [
                "src_addr", "dst_addr", "src_port", "dst_port", "protocol", "octets", "packets",
            ] {
                assert_eq!(column(ours, name), expected(name, theirs, &fields), "{name} {at}");
            }
            facts += compare_fields(ours, &fields, &at);
            records += 1;
        }
    }
    assert_eq!(records, 296, "all but those of damaged datagrams");
    assert!(facts > 2000, "{facts} facts");
}

#[test]
fn damaged_datagrams_are_counted_and_what_fits_is_read() {
    let Some(data) = data() else { return };
    let (rows, decoder) = decode_capture(&data.join("pcap/netflow5__invalid01.pcap"));
    assert_eq!(
        (rows.rows.len(), decoder.stats().malformed),
        (30, 1),
        "a false count"
    );
    for group in ["netflow9__h3c", "ipfix__netscaler"] {
        let (_, decoder) = decode_capture(&data.join("pcap").join(format!("{group}.pcap")));
        assert!(decoder.stats().malformed <= 2, "{group}: {:?}", decoder.stats());
    }
}

#[tokio::test]
async fn the_collector_gives_an_event_for_every_flow() {
    let Some(data) = data() else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(data.join("pcap"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut flows = 0;
    for file in files {
        let mut collector = NetflowCollector::from_files([&file], NetflowConfig::default()).unwrap();
        let mut used = 0;
        while let Some(batch) = collector.next_batch().await.unwrap() {
            used += batch.tally.used;
            for event in batch.events {
                if let Payload::Flow(_) = event.payload {
                    let exporter: IpAddr = event.device.as_str().parse().unwrap();
                    assert!(!exporter.is_unspecified());
                    flows += 1;
                }
            }
        }
        let (rows, _) = decode_capture(&file);
        assert_eq!(used, rows.rows.len() as u64, "{}", file.display());
    }
    assert!(flows > 270, "{flows} flows");
}
