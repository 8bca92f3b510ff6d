//! MITRE ATT&CK (Enterprise matrix): the names of techniques, and the tactic that each serves.

use std::fmt;

use amoskys_core::event::Technique;
use serde::{Deserialize, Serialize};

use self::Tactic::{
    Collection, CommandAndControl, CredentialAccess, DefenseEvasion, Discovery, Execution, Exfiltration,
    Impact, InitialAccess, LateralMovement, Persistence, PrivilegeEscalation, Reconnaissance,
    ResourceDevelopment,
};

/// What an intruder is after: the columns of the matrix, in the order in which an intrusion usually goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tactic {
    /// To learn about the target from outside.
    Reconnaissance,
    /// To get what an attack needs.
    ResourceDevelopment,
    /// To get in.
    InitialAccess,
    /// To run code.
    Execution,
    /// To stay.
    Persistence,
    /// To get more rights.
    PrivilegeEscalation,
    /// To remain unseen.
    DefenseEvasion,
    /// To get names and passwords.
    CredentialAccess,
    /// To learn about the surroundings from inside.
    Discovery,
    /// To get to other hosts.
    LateralMovement,
    /// To gather data.
    Collection,
    /// To steer what was taken over.
    CommandAndControl,
    /// To take data away.
    Exfiltration,
    /// To disturb or destroy.
    Impact,
}

impl Tactic {
    /// Its name in the matrix.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reconnaissance => "Reconnaissance",
            ResourceDevelopment => "Resource Development",
            InitialAccess => "Initial Access",
            Execution => "Execution",
            Persistence => "Persistence",
            PrivilegeEscalation => "Privilege Escalation",
            DefenseEvasion => "Defense Evasion",
            CredentialAccess => "Credential Access",
            Discovery => "Discovery",
            LateralMovement => "Lateral Movement",
            Collection => "Collection",
            CommandAndControl => "Command and Control",
            Exfiltration => "Exfiltration",
            Impact => "Impact",
        }
    }
}

impl fmt::Display for Tactic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The tactic of a technique. Of several that the matrix names, the one under which this project's detectors and rules look for it;
/// a sub-technique that is not in the table has its parent's. `None` if neither is known.
#[must_use]
pub fn tactic(technique: &Technique) -> Option<Tactic> {
    known(technique.as_str())
        .or_else(|| known(parent(technique)))
        .map(|known| known.2)
}

/// The name of a technique; of a sub-technique, the name of both. `None` if it is not in the table.
#[must_use]
pub fn name(technique: &Technique) -> Option<String> {
    let id = technique.as_str();
    let own = known(id)?.1;
    match id.split_once('.') {
        Some((parent, _)) => known(parent).map(|parent| format!("{}: {own}", parent.1)),
        None => Some(own.to_owned()),
    }
}

/// The id without the part that names a sub-technique.
#[must_use]
pub fn parent(technique: &Technique) -> &str {
    let id = technique.as_str();
    id.split_once('.').map_or(id, |(parent, _)| parent)
}

type Row = (&'static str, &'static str, Tactic);

fn known(id: &str) -> Option<&'static Row> {
    TECHNIQUES
        .binary_search_by(|row| row.0.cmp(id))
        .ok()
        .map(|at| &TECHNIQUES[at])
}

/// By id. Those that network and host telemetry can show.
const TECHNIQUES: &[Row] = &[
    ("T1001", "Data Obfuscation", CommandAndControl),
    ("T1003", "OS Credential Dumping", CredentialAccess),
    ("T1003.007", "Proc Filesystem", CredentialAccess),
    ("T1003.008", "/etc/passwd and /etc/shadow", CredentialAccess),
    ("T1008", "Fallback Channels", CommandAndControl),
    ("T1014", "Rootkit", DefenseEvasion),
    ("T1016", "System Network Configuration Discovery", Discovery),
    ("T1018", "Remote System Discovery", Discovery),
    ("T1020", "Automated Exfiltration", Exfiltration),
    ("T1021", "Remote Services", LateralMovement),
    ("T1021.001", "Remote Desktop Protocol", LateralMovement),
    ("T1021.002", "SMB/Windows Admin Shares", LateralMovement),
    ("T1021.004", "SSH", LateralMovement),
    ("T1027", "Obfuscated Files or Information", DefenseEvasion),
    ("T1029", "Scheduled Transfer", Exfiltration),
    ("T1030", "Data Transfer Size Limits", Exfiltration),
    ("T1033", "System Owner/User Discovery", Discovery),
    ("T1036", "Masquerading", DefenseEvasion),
    ("T1037", "Boot or Logon Initialization Scripts", Persistence),
    ("T1040", "Network Sniffing", CredentialAccess),
    ("T1041", "Exfiltration Over C2 Channel", Exfiltration),
    ("T1046", "Network Service Discovery", Discovery),
    ("T1048", "Exfiltration Over Alternative Protocol", Exfiltration),
    (
        "T1048.003",
        "Exfiltration Over Unencrypted Non-C2 Protocol",
        Exfiltration,
    ),
    ("T1049", "System Network Connections Discovery", Discovery),
    ("T1053", "Scheduled Task/Job", Persistence),
    ("T1053.003", "Cron", Persistence),
    ("T1053.006", "Systemd Timers", Persistence),
    ("T1055", "Process Injection", DefenseEvasion),
    ("T1055.008", "Ptrace System Calls", DefenseEvasion),
    ("T1055.009", "Proc Memory", DefenseEvasion),
    ("T1056", "Input Capture", Collection),
    ("T1057", "Process Discovery", Discovery),
    ("T1059", "Command and Scripting Interpreter", Execution),
    ("T1059.004", "Unix Shell", Execution),
    ("T1059.006", "Python", Execution),
    (
        "T1068",
        "Exploitation for Privilege Escalation",
        PrivilegeEscalation,
    ),
    ("T1070", "Indicator Removal", DefenseEvasion),
    ("T1070.002", "Clear Linux or Mac System Logs", DefenseEvasion),
    ("T1071", "Application Layer Protocol", CommandAndControl),
    ("T1071.001", "Web Protocols", CommandAndControl),
    ("T1071.002", "File Transfer Protocols", CommandAndControl),
    ("T1071.003", "Mail Protocols", CommandAndControl),
    ("T1071.004", "DNS", CommandAndControl),
    ("T1074", "Data Staged", Collection),
    ("T1078", "Valid Accounts", InitialAccess),
    ("T1082", "System Information Discovery", Discovery),
    ("T1083", "File and Directory Discovery", Discovery),
    ("T1090", "Proxy", CommandAndControl),
    ("T1090.003", "Multi-hop Proxy", CommandAndControl),
    ("T1095", "Non-Application Layer Protocol", CommandAndControl),
    ("T1098", "Account Manipulation", Persistence),
    ("T1098.004", "SSH Authorized Keys", Persistence),
    ("T1102", "Web Service", CommandAndControl),
    ("T1104", "Multi-Stage Channels", CommandAndControl),
    ("T1105", "Ingress Tool Transfer", CommandAndControl),
    ("T1110", "Brute Force", CredentialAccess),
    ("T1110.001", "Password Guessing", CredentialAccess),
    ("T1110.003", "Password Spraying", CredentialAccess),
    ("T1110.004", "Credential Stuffing", CredentialAccess),
    ("T1113", "Screen Capture", Collection),
    ("T1119", "Automated Collection", Collection),
    ("T1132", "Data Encoding", CommandAndControl),
    ("T1133", "External Remote Services", InitialAccess),
    ("T1135", "Network Share Discovery", Discovery),
    ("T1136", "Create Account", Persistence),
    ("T1136.001", "Local Account", Persistence),
    ("T1140", "Deobfuscate/Decode Files or Information", DefenseEvasion),
    ("T1187", "Forced Authentication", CredentialAccess),
    ("T1189", "Drive-by Compromise", InitialAccess),
    ("T1190", "Exploit Public-Facing Application", InitialAccess),
    ("T1200", "Hardware Additions", InitialAccess),
    ("T1203", "Exploitation for Client Execution", Execution),
    ("T1205", "Traffic Signaling", CommandAndControl),
    ("T1205.001", "Port Knocking", CommandAndControl),
    ("T1210", "Exploitation of Remote Services", LateralMovement),
    ("T1219", "Remote Access Tools", CommandAndControl),
    (
        "T1222",
        "File and Directory Permissions Modification",
        DefenseEvasion,
    ),
    ("T1485", "Data Destruction", Impact),
    ("T1486", "Data Encrypted for Impact", Impact),
    ("T1489", "Service Stop", Impact),
    ("T1490", "Inhibit System Recovery", Impact),
    ("T1496", "Resource Hijacking", Impact),
    ("T1498", "Network Denial of Service", Impact),
    ("T1498.001", "Direct Network Flood", Impact),
    ("T1498.002", "Reflection Amplification", Impact),
    ("T1499", "Endpoint Denial of Service", Impact),
    ("T1499.001", "OS Exhaustion Flood", Impact),
    ("T1499.002", "Service Exhaustion Flood", Impact),
    ("T1505", "Server Software Component", Persistence),
    ("T1505.003", "Web Shell", Persistence),
    ("T1543", "Create or Modify System Process", Persistence),
    ("T1543.002", "Systemd Service", Persistence),
    ("T1546", "Event Triggered Execution", Persistence),
    ("T1546.004", "Unix Shell Configuration Modification", Persistence),
    ("T1547", "Boot or Logon Autostart Execution", Persistence),
    ("T1547.006", "Kernel Modules and Extensions", Persistence),
    ("T1548", "Abuse Elevation Control Mechanism", PrivilegeEscalation),
    ("T1548.001", "Setuid and Setgid", PrivilegeEscalation),
    ("T1548.003", "Sudo and Sudo Caching", PrivilegeEscalation),
    ("T1552", "Unsecured Credentials", CredentialAccess),
    ("T1557", "Adversary-in-the-Middle", CredentialAccess),
    (
        "T1557.001",
        "LLMNR/NBT-NS Poisoning and SMB Relay",
        CredentialAccess,
    ),
    ("T1557.002", "ARP Cache Poisoning", CredentialAccess),
    ("T1557.003", "DHCP Spoofing", CredentialAccess),
    ("T1560", "Archive Collected Data", Collection),
    ("T1562", "Impair Defenses", DefenseEvasion),
    ("T1564", "Hide Artifacts", DefenseEvasion),
    ("T1565", "Data Manipulation", Impact),
    ("T1566", "Phishing", InitialAccess),
    ("T1567", "Exfiltration Over Web Service", Exfiltration),
    ("T1568", "Dynamic Resolution", CommandAndControl),
    ("T1568.001", "Fast Flux DNS", CommandAndControl),
    ("T1568.002", "Domain Generation Algorithms", CommandAndControl),
    ("T1570", "Lateral Tool Transfer", LateralMovement),
    ("T1571", "Non-Standard Port", CommandAndControl),
    ("T1572", "Protocol Tunneling", CommandAndControl),
    ("T1573", "Encrypted Channel", CommandAndControl),
    ("T1574", "Hijack Execution Flow", Persistence),
    ("T1574.006", "Dynamic Linker Hijacking", Persistence),
    ("T1580", "Cloud Infrastructure Discovery", Discovery),
    ("T1587", "Develop Capabilities", ResourceDevelopment),
    ("T1588", "Obtain Capabilities", ResourceDevelopment),
    ("T1590", "Gather Victim Network Information", Reconnaissance),
    ("T1595", "Active Scanning", Reconnaissance),
    ("T1595.001", "Scanning IP Blocks", Reconnaissance),
    ("T1595.002", "Vulnerability Scanning", Reconnaissance),
    ("T1595.003", "Wordlist Scanning", Reconnaissance),
    ("T1610", "Deploy Container", DefenseEvasion),
    ("T1611", "Escape to Host", PrivilegeEscalation),
    ("T1614", "System Location Discovery", Discovery),
    ("T1620", "Reflective Code Loading", DefenseEvasion),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_technique_names_its_parent() {
        let of = |id: &str| name(&Technique::new(id));
        assert_eq!(of("T1110.001").as_deref(), Some("Brute Force: Password Guessing"));
        assert_eq!(of("T1046").as_deref(), Some("Network Service Discovery"));
        assert_eq!(of("T9999"), None);
    }

    #[test]
    fn the_table_is_in_order_and_every_sub_technique_has_its_parent_in_it() {
        assert!(TECHNIQUES.is_sorted_by(|a, b| a.0 < b.0));
        for (id, _, of) in TECHNIQUES {
            assert!(name(&Technique::new(id)).is_some(), "{id}");
            assert_eq!(tactic(&Technique::new(id)), Some(*of), "{id}");
        }
    }

    #[test]
    fn an_unknown_sub_technique_serves_its_parent_s_tactic() {
        assert_eq!(tactic(&Technique::new("T1053.099")), Some(Persistence));
        assert_eq!(tactic(&Technique::new("T9999.001")), None);
        assert_eq!(tactic(&Technique::new("")), None);
    }
}
