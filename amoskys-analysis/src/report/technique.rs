//! Names of the MITRE ATT&CK techniques (Enterprise matrix) that network and host telemetry can show.

use amoskys_core::event::Technique;

/// The name of a technique; of a sub-technique, the name of both. `None` if it is not in the table.
pub(super) fn name(technique: &Technique) -> Option<String> {
    let id = technique.as_str();
    let own = known(id)?;
    match id.split_once('.') {
        Some((parent, _)) => known(parent).map(|parent| format!("{parent}: {own}")),
        None => Some(own.to_owned()),
    }
}

fn known(id: &str) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|(known, _)| *known == id)
        .map(|(_, name)| *name)
}

const NAMES: &[(&str, &str)] = &[
    ("T1001", "Data Obfuscation"),
    ("T1008", "Fallback Channels"),
    ("T1016", "System Network Configuration Discovery"),
    ("T1018", "Remote System Discovery"),
    ("T1020", "Automated Exfiltration"),
    ("T1021", "Remote Services"),
    ("T1021.001", "Remote Desktop Protocol"),
    ("T1021.002", "SMB/Windows Admin Shares"),
    ("T1021.004", "SSH"),
    ("T1027", "Obfuscated Files or Information"),
    ("T1029", "Scheduled Transfer"),
    ("T1030", "Data Transfer Size Limits"),
    ("T1036", "Masquerading"),
    ("T1040", "Network Sniffing"),
    ("T1041", "Exfiltration Over C2 Channel"),
    ("T1046", "Network Service Discovery"),
    ("T1048", "Exfiltration Over Alternative Protocol"),
    ("T1048.003", "Exfiltration Over Unencrypted Non-C2 Protocol"),
    ("T1049", "System Network Connections Discovery"),
    ("T1053", "Scheduled Task/Job"),
    ("T1059", "Command and Scripting Interpreter"),
    ("T1071", "Application Layer Protocol"),
    ("T1071.001", "Web Protocols"),
    ("T1071.002", "File Transfer Protocols"),
    ("T1071.003", "Mail Protocols"),
    ("T1071.004", "DNS"),
    ("T1090", "Proxy"),
    ("T1090.003", "Multi-hop Proxy"),
    ("T1095", "Non-Application Layer Protocol"),
    ("T1102", "Web Service"),
    ("T1104", "Multi-Stage Channels"),
    ("T1105", "Ingress Tool Transfer"),
    ("T1110", "Brute Force"),
    ("T1110.001", "Password Guessing"),
    ("T1110.003", "Password Spraying"),
    ("T1110.004", "Credential Stuffing"),
    ("T1132", "Data Encoding"),
    ("T1133", "External Remote Services"),
    ("T1135", "Network Share Discovery"),
    ("T1187", "Forced Authentication"),
    ("T1189", "Drive-by Compromise"),
    ("T1190", "Exploit Public-Facing Application"),
    ("T1200", "Hardware Additions"),
    ("T1203", "Exploitation for Client Execution"),
    ("T1205", "Traffic Signaling"),
    ("T1205.001", "Port Knocking"),
    ("T1210", "Exploitation of Remote Services"),
    ("T1219", "Remote Access Tools"),
    ("T1485", "Data Destruction"),
    ("T1486", "Data Encrypted for Impact"),
    ("T1496", "Resource Hijacking"),
    ("T1498", "Network Denial of Service"),
    ("T1498.001", "Direct Network Flood"),
    ("T1498.002", "Reflection Amplification"),
    ("T1499", "Endpoint Denial of Service"),
    ("T1499.001", "OS Exhaustion Flood"),
    ("T1499.002", "Service Exhaustion Flood"),
    ("T1557", "Adversary-in-the-Middle"),
    ("T1557.001", "LLMNR/NBT-NS Poisoning and SMB Relay"),
    ("T1557.002", "ARP Cache Poisoning"),
    ("T1557.003", "DHCP Spoofing"),
    ("T1565", "Data Manipulation"),
    ("T1566", "Phishing"),
    ("T1567", "Exfiltration Over Web Service"),
    ("T1568", "Dynamic Resolution"),
    ("T1568.001", "Fast Flux DNS"),
    ("T1568.002", "Domain Generation Algorithms"),
    ("T1570", "Lateral Tool Transfer"),
    ("T1571", "Non-Standard Port"),
    ("T1572", "Protocol Tunneling"),
    ("T1573", "Encrypted Channel"),
    ("T1590", "Gather Victim Network Information"),
    ("T1595", "Active Scanning"),
    ("T1595.001", "Scanning IP Blocks"),
    ("T1595.002", "Vulnerability Scanning"),
    ("T1595.003", "Wordlist Scanning"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_technique_names_its_parent() {
        assert_eq!(
            name(&Technique::new("T1110.001")).as_deref(),
            Some("Brute Force: Password Guessing")
        );
        assert_eq!(
            name(&Technique::new("T1046")).as_deref(),
            Some("Network Service Discovery")
        );
        assert_eq!(name(&Technique::new("T9999")), None);
    }

    #[test]
    fn every_sub_technique_has_its_parent_in_the_table() {
        for (id, _) in NAMES {
            assert!(name(&Technique::new(id)).is_some(), "{id}");
        }
    }
}
