//! Names and types of the information elements that are known here, as IANA registers them for IPFIX. NetFlow v9
//! numbers its fields the same way, with few exceptions that carry the same meaning.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use amoskys_core::event::Value;

/// How the bytes of an element are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unsigned,
    Signed,
    Float,
    /// An IPv4 or IPv6 address, by its length.
    Address,
    Mac,
    Text,
    Octets,
}

/// The private enterprise number under which RFC 5103 puts the reverse direction of every element.
pub(super) const REVERSE: u32 = 29_305;

/// IANA's name and type of an element, if it is known here.
pub(super) fn lookup(id: u16) -> Option<(&'static str, Kind)> {
    let at = ELEMENTS.binary_search_by_key(&id, |element| element.0).ok()?;
    ELEMENTS.get(at).map(|element| (element.1, element.2))
}

/// The name of any element: IANA's, or `element_ID`, or `enterprise_NUMBER_ID`. Reverse elements are named
/// `reverse_` and what they reverse.
pub(super) fn name(enterprise: u32, id: u16) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match (enterprise, lookup(id)) {
        (0, Some((name, _))) => return name.to_owned(),
        (0, None) => write!(text, "element_{id}"),
        (REVERSE, Some((name, _))) => write!(text, "reverse_{name}"),
        (REVERSE, None) => write!(text, "reverse_element_{id}"),
        _ => write!(text, "enterprise_{enterprise}_{id}"),
    };
    text
}

/// The type of an element. That of an unknown one is guessed from its length: what fits a number is one.
pub(super) fn kind(enterprise: u32, id: u16, length: usize) -> Kind {
    match enterprise {
        0 | REVERSE => lookup(id).map(|(_, kind)| kind),
        _ => None,
    }
    .unwrap_or(if matches!(length, 1 | 2 | 4 | 8) {
        Kind::Unsigned
    } else {
        Kind::Octets
    })
}

/// The value in these bytes. Bytes that do not have the form of their type are kept as they are.
pub(super) fn value(kind: Kind, bytes: &[u8]) -> Value {
    match kind {
        Kind::Unsigned if bytes.len() <= 8 => Value::Uint(unsigned(bytes)),
        Kind::Signed if (1..=8).contains(&bytes.len()) => {
            let unused = 64 - 8 * bytes.len() as u32;
            Value::Int((unsigned(bytes) << unused).cast_signed() >> unused)
        }
        Kind::Float => match bytes.len() {
            4 => Value::Float(f32::from_bits(unsigned(bytes) as u32).into()),
            8 => Value::Float(f64::from_bits(unsigned(bytes))),
            _ => Value::Bytes(bytes.to_vec()),
        },
        Kind::Address => match address(bytes) {
            Some(address) => Value::Text(address.to_string()),
            None => Value::Bytes(bytes.to_vec()),
        },
        Kind::Mac => match <[u8; 6]>::try_from(bytes) {
            Ok(mac) => Value::Text(amoskys_core::event::MacAddr(mac).to_string()),
            Err(_) => Value::Bytes(bytes.to_vec()),
        },
        Kind::Text => {
            // Fixed-length fields are filled up with zeros.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            match std::str::from_utf8(&bytes[..end]) {
                Ok(text) => Value::Text(text.to_owned()),
                Err(_) => Value::Bytes(bytes.to_vec()),
            }
        }
        _ => Value::Bytes(bytes.to_vec()),
    }
}

/// A number in network byte order; of more than eight bytes, the last eight.
#[inline]
pub(super) fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// An address, by its length.
pub(super) fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from_bits(unsigned(bytes) as u32).into()),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

use Kind::{Address, Float, Mac, Octets, Signed, Text, Unsigned};

/// By number, in order.
#[rustfmt::skip]
const ELEMENTS: &[(u16, &str, Kind)] = &[
    (1, "octetDeltaCount", Unsigned), (2, "packetDeltaCount", Unsigned), (3, "deltaFlowCount", Unsigned),
    (4, "protocolIdentifier", Unsigned), (5, "ipClassOfService", Unsigned), (6, "tcpControlBits", Unsigned),
    (7, "sourceTransportPort", Unsigned), (8, "sourceIPv4Address", Address),
    (9, "sourceIPv4PrefixLength", Unsigned), (10, "ingressInterface", Unsigned),
    (11, "destinationTransportPort", Unsigned), (12, "destinationIPv4Address", Address),
    (13, "destinationIPv4PrefixLength", Unsigned), (14, "egressInterface", Unsigned),
    (15, "ipNextHopIPv4Address", Address), (16, "bgpSourceAsNumber", Unsigned),
    (17, "bgpDestinationAsNumber", Unsigned), (18, "bgpNextHopIPv4Address", Address),
    (19, "postMCastPacketDeltaCount", Unsigned), (20, "postMCastOctetDeltaCount", Unsigned),
    (21, "flowEndSysUpTime", Unsigned), (22, "flowStartSysUpTime", Unsigned),
    (23, "postOctetDeltaCount", Unsigned), (24, "postPacketDeltaCount", Unsigned),
    (25, "minimumIpTotalLength", Unsigned), (26, "maximumIpTotalLength", Unsigned),
    (27, "sourceIPv6Address", Address), (28, "destinationIPv6Address", Address),
    (29, "sourceIPv6PrefixLength", Unsigned), (30, "destinationIPv6PrefixLength", Unsigned),
    (31, "flowLabelIPv6", Unsigned), (32, "icmpTypeCodeIPv4", Unsigned), (33, "igmpType", Unsigned),
    (34, "samplingInterval", Unsigned), (35, "samplingAlgorithm", Unsigned),
    (36, "flowActiveTimeout", Unsigned), (37, "flowIdleTimeout", Unsigned), (38, "engineType", Unsigned),
    (39, "engineId", Unsigned), (40, "exportedOctetTotalCount", Unsigned),
    (41, "exportedMessageTotalCount", Unsigned), (42, "exportedFlowRecordTotalCount", Unsigned),
    (44, "sourceIPv4Prefix", Address), (45, "destinationIPv4Prefix", Address), (46, "mplsTopLabelType", Unsigned),
    (47, "mplsTopLabelIPv4Address", Address), (48, "samplerId", Unsigned), (49, "samplerMode", Unsigned),
    (50, "samplerRandomInterval", Unsigned), (52, "minimumTTL", Unsigned), (53, "maximumTTL", Unsigned),
    (54, "fragmentIdentification", Unsigned), (55, "postIpClassOfService", Unsigned),
    (56, "sourceMacAddress", Mac), (57, "postDestinationMacAddress", Mac), (58, "vlanId", Unsigned),
    (59, "postVlanId", Unsigned), (60, "ipVersion", Unsigned), (61, "flowDirection", Unsigned),
    (62, "ipNextHopIPv6Address", Address), (63, "bgpNextHopIPv6Address", Address),
    (64, "ipv6ExtensionHeaders", Unsigned), (70, "mplsTopLabelStackSection", Octets),
    (71, "mplsLabelStackSection2", Octets), (72, "mplsLabelStackSection3", Octets),
    (80, "destinationMacAddress", Mac), (81, "postSourceMacAddress", Mac), (82, "interfaceName", Text),
    (83, "interfaceDescription", Text), (84, "samplerName", Text), (85, "octetTotalCount", Unsigned),
    (86, "packetTotalCount", Unsigned), (88, "fragmentOffset", Unsigned), (89, "forwardingStatus", Unsigned),
    (90, "mplsVpnRouteDistinguisher", Octets), (94, "applicationDescription", Text), (95, "applicationId", Octets),
    (96, "applicationName", Text), (98, "postIpDiffServCodePoint", Unsigned), (99, "multicastReplicationFactor", Unsigned),
    (101, "classificationEngineId", Unsigned), (128, "bgpNextAdjacentAsNumber", Unsigned),
    (129, "bgpPrevAdjacentAsNumber", Unsigned), (130, "exporterIPv4Address", Address),
    (131, "exporterIPv6Address", Address), (132, "droppedOctetDeltaCount", Unsigned),
    (133, "droppedPacketDeltaCount", Unsigned), (134, "droppedOctetTotalCount", Unsigned),
    (135, "droppedPacketTotalCount", Unsigned), (136, "flowEndReason", Unsigned),
    (137, "commonPropertiesId", Unsigned), (138, "observationPointId", Unsigned),
    (139, "icmpTypeCodeIPv6", Unsigned), (140, "mplsTopLabelIPv6Address", Address), (141, "lineCardId", Unsigned),
    (142, "portId", Unsigned), (143, "meteringProcessId", Unsigned), (144, "exportingProcessId", Unsigned),
    (145, "templateId", Unsigned), (146, "wlanChannelId", Unsigned), (147, "wlanSSID", Text), (148, "flowId", Unsigned),
    (149, "observationDomainId", Unsigned), (150, "flowStartSeconds", Unsigned), (151, "flowEndSeconds", Unsigned),
    (152, "flowStartMilliseconds", Unsigned), (153, "flowEndMilliseconds", Unsigned),
    (154, "flowStartMicroseconds", Unsigned), (155, "flowEndMicroseconds", Unsigned),
    (156, "flowStartNanoseconds", Unsigned), (157, "flowEndNanoseconds", Unsigned),
    (158, "flowStartDeltaMicroseconds", Unsigned), (159, "flowEndDeltaMicroseconds", Unsigned),
    (160, "systemInitTimeMilliseconds", Unsigned), (161, "flowDurationMilliseconds", Unsigned),
    (162, "flowDurationMicroseconds", Unsigned), (163, "observedFlowTotalCount", Unsigned),
    (164, "ignoredPacketTotalCount", Unsigned), (165, "ignoredOctetTotalCount", Unsigned),
    (166, "notSentFlowTotalCount", Unsigned), (167, "notSentPacketTotalCount", Unsigned),
    (168, "notSentOctetTotalCount", Unsigned), (173, "flowKeyIndicator", Unsigned),
    (174, "postMCastPacketTotalCount", Unsigned), (175, "postMCastOctetTotalCount", Unsigned),
    (176, "icmpTypeIPv4", Unsigned), (177, "icmpCodeIPv4", Unsigned), (178, "icmpTypeIPv6", Unsigned),
    (179, "icmpCodeIPv6", Unsigned), (180, "udpSourcePort", Unsigned), (181, "udpDestinationPort", Unsigned),
    (182, "tcpSourcePort", Unsigned), (183, "tcpDestinationPort", Unsigned), (184, "tcpSequenceNumber", Unsigned),
    (185, "tcpAcknowledgementNumber", Unsigned), (186, "tcpWindowSize", Unsigned), (187, "tcpUrgentPointer", Unsigned),
    (188, "tcpHeaderLength", Unsigned), (189, "ipHeaderLength", Unsigned), (190, "totalLengthIPv4", Unsigned),
    (191, "payloadLengthIPv6", Unsigned), (192, "ipTTL", Unsigned), (193, "nextHeaderIPv6", Unsigned),
    (194, "mplsPayloadLength", Unsigned), (195, "ipDiffServCodePoint", Unsigned), (196, "ipPrecedence", Unsigned),
    (197, "fragmentFlags", Unsigned), (200, "mplsTopLabelTTL", Unsigned), (201, "mplsLabelStackLength", Unsigned),
    (202, "mplsLabelStackDepth", Unsigned), (203, "mplsTopLabelExp", Unsigned), (204, "ipPayloadLength", Unsigned),
    (205, "udpMessageLength", Unsigned), (206, "isMulticast", Unsigned), (210, "paddingOctets", Octets),
    (211, "collectorIPv4Address", Address), (212, "collectorIPv6Address", Address), (213, "exportInterface", Unsigned),
    (214, "exportProtocolVersion", Unsigned), (215, "exportTransportProtocol", Unsigned),
    (218, "tcpSynTotalCount", Unsigned), (219, "tcpFinTotalCount", Unsigned), (220, "tcpRstTotalCount", Unsigned),
    (221, "tcpPshTotalCount", Unsigned), (222, "tcpAckTotalCount", Unsigned), (223, "tcpUrgTotalCount", Unsigned),
    (224, "ipTotalLength", Unsigned), (225, "postNATSourceIPv4Address", Address),
    (226, "postNATDestinationIPv4Address", Address), (227, "postNAPTSourceTransportPort", Unsigned),
    (228, "postNAPTDestinationTransportPort", Unsigned), (229, "natOriginatingAddressRealm", Unsigned),
    (230, "natEvent", Unsigned), (231, "initiatorOctets", Unsigned), (232, "responderOctets", Unsigned),
    (233, "firewallEvent", Unsigned), (234, "ingressVRFID", Unsigned), (235, "egressVRFID", Unsigned),
    (236, "VRFname", Text), (239, "biflowDirection", Unsigned), (243, "dot1qVlanId", Unsigned),
    (244, "dot1qPriority", Unsigned), (245, "dot1qCustomerVlanId", Unsigned), (246, "dot1qCustomerPriority", Unsigned),
    (252, "ingressPhysicalInterface", Unsigned), (253, "egressPhysicalInterface", Unsigned),
    (254, "postDot1qVlanId", Unsigned), (255, "postDot1qCustomerVlanId", Unsigned), (256, "ethernetType", Unsigned),
    (258, "collectionTimeMilliseconds", Unsigned), (260, "maxExportSeconds", Unsigned), (261, "maxFlowEndSeconds", Unsigned),
    (281, "postNATSourceIPv6Address", Address), (282, "postNATDestinationIPv6Address", Address),
    (291, "basicList", Octets), (292, "subTemplateList", Octets), (293, "subTemplateMultiList", Octets),
    (298, "initiatorPackets", Unsigned), (299, "responderPackets", Unsigned), (300, "observationDomainName", Text),
    (301, "selectionSequenceId", Unsigned), (302, "selectorId", Unsigned), (303, "informationElementId", Unsigned),
    (304, "selectorAlgorithm", Unsigned), (305, "samplingPacketInterval", Unsigned),
    (306, "samplingPacketSpace", Unsigned), (307, "samplingTimeInterval", Unsigned), (308, "samplingTimeSpace", Unsigned),
    (309, "samplingSize", Unsigned), (310, "samplingPopulation", Unsigned), (311, "samplingProbability", Float),
    (312, "dataLinkFrameSize", Unsigned), (313, "ipHeaderPacketSection", Octets), (315, "dataLinkFrameSection", Octets),
    (318, "selectorIdTotalPktsObserved", Unsigned), (319, "selectorIdTotalPktsSelected", Unsigned),
    (322, "observationTimeSeconds", Unsigned), (323, "observationTimeMilliseconds", Unsigned),
    (324, "observationTimeMicroseconds", Unsigned), (325, "observationTimeNanoseconds", Unsigned),
    (335, "selectorName", Text), (346, "privateEnterpriseNumber", Unsigned), (351, "layer2SegmentId", Unsigned),
    (352, "layer2OctetDeltaCount", Unsigned), (353, "layer2OctetTotalCount", Unsigned),
    (361, "portRangeStart", Unsigned), (362, "portRangeEnd", Unsigned), (365, "staMacAddress", Mac),
    (366, "staIPv4Address", Address), (367, "wtpMacAddress", Mac), (368, "ingressInterfaceType", Unsigned),
    (369, "egressInterfaceType", Unsigned), (371, "userName", Text), (372, "applicationCategoryName", Text),
    (373, "applicationSubCategoryName", Text), (374, "applicationGroupName", Text),
    (377, "p2pTechnology", Text), (378, "tunnelTechnology", Text), (379, "encryptedTechnology", Text),
    (434, "mibObjectValueInteger", Signed),
    // Of Cisco's firewalls, in v9. IPFIX has no numbers above 32767.
    (33_000, "ingressAclId", Octets), (33_001, "egressAclId", Octets), (33_002, "firewallExtendedEvent", Unsigned),
    (40_000, "userName", Text), (40_001, "postNATSourceIPv4Address", Address),
    (40_002, "postNATDestinationIPv4Address", Address), (40_003, "postNAPTSourceTransportPort", Unsigned),
    (40_004, "postNAPTDestinationTransportPort", Unsigned), (40_005, "firewallEvent", Unsigned),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(ELEMENTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn every_element_has_a_name() {
        assert_eq!(name(0, 1), "octetDeltaCount");
        assert_eq!(name(REVERSE, 1), "reverse_octetDeltaCount");
        assert_eq!(name(0, 50_000), "element_50000");
        assert_eq!(name(35_632, 82), "enterprise_35632_82");
    }

    #[test]
    fn values_have_the_type_of_their_element() {
        let read = |id, bytes: &[u8]| value(kind(0, id, bytes.len()), bytes);
        assert_eq!(read(1, &[1, 0]), Value::Uint(256));
        assert_eq!(read(434, &[0xff, 0xfe]), Value::Int(-2));
        assert_eq!(read(311, &0.5_f64.to_be_bytes()), Value::Float(0.5));
        assert_eq!(read(15, &[192, 0, 2, 1]), Value::Text("192.0.2.1".into()));
        assert_eq!(
            read(15, &[1]),
            Value::Bytes(vec![1]),
            "not the length of an address"
        );
        assert_eq!(read(96, b"dns\0\0"), Value::Text("dns".into()));
        assert_eq!(read(96, &[0xff]), Value::Bytes(vec![0xff]));
        assert_eq!(read(50_000, &[0, 0, 0, 9]), Value::Uint(9));
        assert_eq!(read(50_000, &[1, 2, 3]), Value::Bytes(vec![1, 2, 3]));
        assert_eq!(read(1, &[]), Value::Uint(0));
    }
}
