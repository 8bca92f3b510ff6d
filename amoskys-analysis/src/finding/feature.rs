use std::sync::{Arc, LazyLock};

use amoskys_core::{FeatureDef, FeatureSchema, Name};
use serde::{Deserialize, Serialize};

macro_rules! features {
    ($($variant:ident = $name:literal, $unit:literal, $text:literal;)*) => {
        /// What a detector measures and names as evidence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub(crate) enum Feature {
            $($variant,)*
        }

        impl Feature {
            const ALL: &'static [(&'static str, &'static str, &'static str)] = &[$(($name, $unit, $text),)*];

            /// The name in evidence.
            pub(crate) fn name(self) -> Name {
                static NAMES: LazyLock<Vec<Name>> =
                    LazyLock::new(|| Feature::ALL.iter().map(|(name, ..)| Name::from(*name)).collect());
                NAMES[self as usize].clone()
            }
        }
    };
}

features! {
    Prior = "prior", "", "log-odds that such a candidate is an attack before anything is measured";
    // Geometric.
    FailedPorts = "failed_ports", "", "distinct ports of one host that refused, did not answer or were left without data";
    AnsweredPorts = "answered_ports", "", "distinct ports of the same host that were used with data";
    UsualContacts = "usual_contacts", "", "answered conversations with the same host on ports used before";
    UndecidedPorts = "undecided_ports", "", "distinct ports of one host tried so recently that an answer may still come";
    FailedHosts = "failed_hosts", "", "distinct hosts that refused or did not answer on one port";
    AnsweredHosts = "answered_hosts", "", "distinct hosts that were used with data on the same port";
    PingedHosts = "pinged_hosts", "", "distinct hosts pinged for the first time within five minutes";
    SilentHosts = "silent_hosts", "", "share of these hosts that did not answer";
    SideBySide = "side_by_side", "", "share of these hosts whose address lies next to that of the one before";
    FromOutside = "from_outside", "", "1 if it comes from beyond the local networks into them";
    HalfOpen = "half_open", "", "connections to one service begun and not completed, recent ones counting most";
    HalfOpenShare = "half_open_share", "", "share of recent connections to the service that were not completed";
    Sources = "sources", "", "distinct addresses that began connections to the service";
    FloodPackets = "flood_packets", "", "packets or conversations in ten seconds that one host got and nobody asked for or answered";
    FloodShare = "flood_share", "", "their share of all conversations begun with the host";
    WholeConnections = "whole_connections", "", "connections to one service with data within ten seconds, recent ones counting most";
    TopShare = "top_share", "", "the most frequent client's share of them";
    Growth = "growth", "", "how many times as many as in the ten minutes before";
    Unfinished = "unfinished_requests", "", "requests of one client to one service that it goes on with and does not finish";
    ArpContradictions = "arp_contradictions", "", "times a station asked for an address that it had claimed to have";
    ArpConflicts = "arp_conflicts", "", "times an address in use by one station was claimed by another";
    ArpUnasked = "arp_unasked_replies", "", "ARP replies to one host that it had not asked for";
    ArpAddresses = "arp_addresses", "", "addresses one station claims";
    ArpRedirected = "arp_redirected", "", "hosts whose outgoing packets moved to the station after its claim";
    ArpSwept = "arp_swept", "", "distinct addresses asked for in five minutes that nobody answered for";
    ArpBlock = "arp_block", "", "share of the addresses asked for whose neighbour was asked for too";
    PeerClients = "peer_clients", "", "distinct hosts seen to use the same service";
    PeerOutside = "peer_outside", "", "1 if the peer is beyond the local networks and the host is within";
    EdgeKnown = "edge_known", "", "1 if the host used the service in the baseline, else 0";
    // Temporal.
    Regular = "regular_intervals", "", "intervals between connections that keep to one period";
    Irregular = "irregular_intervals", "", "intervals between the same connections that do not";
    Period = "period", "s", "median interval between connections";
    SizeSpread = "size_spread", "", "spread of the bytes per connection around their median, as a share of it";
    Busy = "busy_share", "", "share of the period in which the connection is open";
    Repetitions = "repetitions", "", "connections of the series";
    ExchangeBytes = "exchange_bytes", "bytes", "median payload of one connection";
    RegularPeers = "regular_peers", "", "services the same host contacts at regular intervals";
    UncommonPort = "uncommon_port", "", "1 if the server port belongs to no common service";
    Datagrams = "datagrams", "", "1 if the series is of UDP conversations, else 0";
    UploadRatio = "upload_ratio", "", "payload sent per payload received";
    UploadBytes = "upload_bytes", "bytes", "median payload sent in one connection";
    ControlChannel = "control_channel", "", "1 if the host keeps a nearly silent connection to the same service meanwhile";
    AlteredReplies = "altered_echo_replies", "", "ICMP echo replies whose data are not those of the request";
    UnmatchedReplies = "unmatched_echo_replies", "", "ICMP echo replies without a request";
    EchoSizeSpread = "echo_size_spread", "bytes", "standard deviation of the payload of ICMP echoes";
    EchoBytes = "echo_bytes", "bytes", "payload carried in ICMP echoes";
    StartRate = "start_rate", "1/s", "connections the host begins per second, over about ten seconds";
    HostRarity = "host_window_rarity", "", "p-value of the host's rarest window in five minutes, among the windows of the baseline";
    VolumeSent = "volume_sent", "bytes", "payload sent to one outside server, with a memory of ten minutes";
    VolumeSurprise = "volume_surprise", "", "standard deviations of what the host sends outside in a minute above its own history";
    // Behavioral.
    Attempts = "attempts", "", "short connections to one service in ten minutes";
    LoginService = "login_service", "", "1 if the service asks for a login, by its port or its greeting";
    RemoteService = "remote_service", "", "1 if the service runs procedures or shares files of an operating system";
    AttemptSpread = "attempt_spread", "", "spread of the bytes per attempt around their median, as a share of it";
    AttemptInterval = "attempt_interval", "s", "median time between the starts of attempts";
    LongSessions = "long_sessions", "", "connections of the same client to the service that were no short attempts";
    TurnedAway = "turned_away", "", "share of the attempts that the server turned away, where the connections show it";
    LetIn = "let_in", "", "connections in ten minutes in which the same client was let in";
    SprayedHosts = "sprayed_hosts", "", "distinct servers that turned the client away in ten minutes";
    FormLogin = "form_login", "", "1 if it is by a form of a web page, which does not show how a login went";
    Communities = "unanswered_requests", "", "SNMP requests to one agent within a minute that it did not answer";
    RequestSizes = "request_sizes_vary", "", "1 if these requests differ in size";
    AnswersOthers = "answers_others", "", "1 if the agent answers other hosts, else 0";
    SameCalls = "same_calls", "", "connections in a minute whose payload is within a tenth of their median";
    UniqueNames = "unique_names", "", "distinct names asked for below one domain";
    NameShare = "unique_name_share", "", "distinct names per query below the domain";
    NameLength = "name_length", "bytes", "mean length of the part of a name below the domain";
    NameEntropy = "name_entropy", "bit", "mean entropy per character of that part";
    NewLabels = "new_labels", "", "distinct labels for each distinct name below the domain";
    NameRhythm = "name_rhythm", "", "intervals between new names below the domain that keep to one period";
    RareTypes = "rare_type_share", "", "share of queries for types that carry free data";
    NameUpload = "name_upload", "bytes", "bytes carried by distinct names below the domain";
    AnswerBytes = "answer_bytes", "bytes", "mean bytes of data in an answer";
    ListLookups = "list_lookups", "", "answers within 127.0.0.0/8, as block lists give";
    EarlyBytes = "early_bytes", "bytes", "bytes the client sent after the server's hello and before its next message";
    ReplyBytes = "reply_bytes", "bytes", "bytes of the server's next message";
    Reset = "client_reset", "", "1 if the client ended the connection with a reset";
    SequenceSurprise = "sequence_surprise", "nat", "mean surprise of the host's latest connection outcomes, each given the one before";
    Commands = "commands", "", "times the server said a little after a pause, and the client answered with more at once";
    ClientShare = "client_share", "", "payload the client sent per payload the server sent";
    PlainText = "plain_text", "", "1 if both sides begin with text, else 0";
    // Baseline.
    Familiar = "familiar", "", "log-odds the same behaviour of the same host had in the baseline";
    Unfamiliar = "unfamiliar", "", "highest log-odds any behaviour of the kind had in the baseline";
}

/// The schema of the evidence: every feature a detector of this crate may name.
#[must_use]
pub fn evidence_schema() -> Arc<FeatureSchema> {
    static SCHEMA: LazyLock<Arc<FeatureSchema>> = LazyLock::new(|| {
        let features = Feature::ALL
            .iter()
            .map(|(name, unit, text)| FeatureDef::new(name, unit, text));
        Arc::new(FeatureSchema::new("amoskys.evidence", features.collect()))
    });
    SCHEMA.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_the_schema() {
        let schema = evidence_schema();
        for (at, (name, ..)) in Feature::ALL.iter().enumerate() {
            assert_eq!(schema.index_of(name), Some(at), "{name}");
        }
        assert_eq!(Feature::FailedPorts.name().as_str(), "failed_ports");
    }
}
