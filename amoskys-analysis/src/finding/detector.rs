use amoskys_core::event::{Layer, Technique};
use serde::{Deserialize, Serialize};

/// The detectors, each of which raises one kind of hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Detector {
    PortScan,
    HostSweep,
    ArpSweep,
    HalfOpenFlood,
    ArpSpoofing,
    Beacon,
    RepeatedUpload,
    EchoTunnel,
    VolumeOut,
    PasswordGuessing,
    RepeatedCalls,
    NameTunnel,
    TlsHandshake,
    PasswordSpraying,
    PacketFlood,
    RequestFlood,
    SlowRequests,
    CommunityGuessing,
    ReverseShell,
}

/// Kinds of attack. Findings of one kind about one host are one incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Family {
    Scan,
    Flood,
    Spoofing,
    Channel,
    EchoTunnel,
    Volume,
    NameTunnel,
    Guessing,
    Calls,
    Exploit,
}

impl Family {
    /// Whether it is about connections that were made and used. Two such findings about the same service are about the
    /// same connections, and so about one attack.
    pub(crate) const fn is_of_connections(self) -> bool {
        matches!(self, Self::Channel | Self::Volume | Self::Guessing | Self::Calls)
    }
}

impl Detector {
    const ALL: [Self; 19] = [
        Self::PortScan,
        Self::HostSweep,
        Self::ArpSweep,
        Self::HalfOpenFlood,
        Self::ArpSpoofing,
        Self::Beacon,
        Self::RepeatedUpload,
        Self::EchoTunnel,
        Self::VolumeOut,
        Self::PasswordGuessing,
        Self::RepeatedCalls,
        Self::NameTunnel,
        Self::TlsHandshake,
        Self::PasswordSpraying,
        Self::PacketFlood,
        Self::RequestFlood,
        Self::SlowRequests,
        Self::CommunityGuessing,
        Self::ReverseShell,
    ];

    /// The layer it belongs to.
    pub(crate) const fn layer(self) -> Layer {
        match self {
            Self::PortScan
            | Self::HostSweep
            | Self::ArpSweep
            | Self::HalfOpenFlood
            | Self::ArpSpoofing
            | Self::PacketFlood
            | Self::RequestFlood
            | Self::SlowRequests => Layer::Geometric,
            Self::Beacon | Self::RepeatedUpload | Self::EchoTunnel | Self::VolumeOut => Layer::Temporal,
            Self::PasswordGuessing
            | Self::PasswordSpraying
            | Self::RepeatedCalls
            | Self::NameTunnel
            | Self::TlsHandshake
            | Self::CommunityGuessing
            | Self::ReverseShell => Layer::Behavioral,
        }
    }

    /// The kind of attack it looks for.
    pub(crate) const fn family(self) -> Family {
        match self {
            Self::PortScan | Self::HostSweep | Self::ArpSweep => Family::Scan,
            Self::HalfOpenFlood | Self::PacketFlood | Self::RequestFlood | Self::SlowRequests => {
                Family::Flood
            }
            Self::ArpSpoofing => Family::Spoofing,
            Self::Beacon | Self::RepeatedUpload | Self::ReverseShell => Family::Channel,
            Self::EchoTunnel => Family::EchoTunnel,
            Self::VolumeOut => Family::Volume,
            Self::NameTunnel => Family::NameTunnel,
            Self::PasswordGuessing | Self::PasswordSpraying | Self::CommunityGuessing => Family::Guessing,
            Self::RepeatedCalls => Family::Calls,
            Self::TlsHandshake => Family::Exploit,
        }
    }

    /// The MITRE ATT&CK technique it names.
    pub(crate) fn technique(self) -> Technique {
        Technique::new(match self {
            // Network Service Discovery.
            Self::PortScan | Self::HostSweep => "T1046",
            // Remote System Discovery.
            Self::ArpSweep => "T1018",
            // Endpoint Denial of Service: OS Exhaustion Flood.
            Self::HalfOpenFlood => "T1499.001",
            // Adversary-in-the-Middle: ARP Cache Poisoning.
            Self::ArpSpoofing => "T1557.002",
            // Application Layer Protocol: Web Protocols.
            Self::Beacon => "T1071.001",
            // Exfiltration Over C2 Channel.
            Self::RepeatedUpload => "T1041",
            // Exfiltration Over Alternative Protocol.
            Self::VolumeOut => "T1048",
            // Non-Application Layer Protocol.
            Self::EchoTunnel => "T1095",
            // Brute Force: Password Guessing.
            Self::PasswordGuessing | Self::CommunityGuessing => "T1110.001",
            // Brute Force: Password Spraying.
            Self::PasswordSpraying => "T1110.003",
            // Network Denial of Service: Direct Network Flood.
            Self::PacketFlood => "T1498.001",
            // Endpoint Denial of Service: Service Exhaustion Flood.
            Self::RequestFlood | Self::SlowRequests => "T1499.002",
            // Command and Scripting Interpreter.
            Self::ReverseShell => "T1059",
            // Exploitation of Remote Services.
            Self::RepeatedCalls => "T1210",
            // Application Layer Protocol: DNS.
            Self::NameTunnel => "T1071.004",
            // Exploit Public-Facing Application.
            Self::TlsHandshake => "T1190",
        })
    }
}

/// The layer whose detectors name this technique.
pub(crate) fn layer_of(technique: &Technique) -> Option<Layer> {
    let named = Detector::ALL
        .iter()
        .find(|detector| detector.technique() == *technique);
    named.map(|detector| detector.layer())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_complete_and_in_order() {
        for (at, detector) in Detector::ALL.iter().enumerate() {
            assert_eq!(*detector as usize, at);
            assert!(detector.technique().as_str().starts_with('T'));
        }
    }
}
