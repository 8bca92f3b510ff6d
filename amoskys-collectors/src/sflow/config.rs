use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use amoskys_core::Name;

use super::SflowConfigError;
use crate::netflow::config::{number, period};

/// How sFlow is received and decoded.
///
/// ```
/// use amoskys_collectors::sflow::SflowConfig;
///
/// let config = SflowConfig {
///     senders: vec![[192, 0, 2, 1].into()],
///     ..SflowConfig::default()
/// };
/// config.validate()?;
/// # Ok::<(), amoskys_collectors::sflow::SflowConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SflowConfig {
    /// Addresses that datagrams are taken from; any, if empty. UDP does not prove who sent a datagram: this keeps out
    /// mistakes and the crudest forgeries. Default: empty.
    pub senders: Vec<IpAddr>,
    /// Inventory names of agents, by the address that an agent says it has, used as the events' device. An agent
    /// without one is named by that address. Default: empty.
    pub names: HashMap<IpAddr, Name>,
    /// Whether events get what has no place in a flow record as attributes. Default true.
    pub attributes: bool,
    /// How many pairs of agent and sub-agent are remembered; what further ones send is dropped and counted. Default
    /// 1024; 1 to 1 million.
    pub max_agents: usize,
    /// An agent that is silent for this long is forgotten when its place is needed. Default 2 hours; at least 1 s.
    pub agent_lifetime: Duration,
    /// UDP ports whose datagrams in a capture file are taken for sFlow. Default 6343.
    pub capture_ports: Vec<u16>,
    /// Receive buffer of the socket, in bytes; what arrives while it is full is lost and counted. The kernel may
    /// give less than asked (`net.core.rmem_max`), unless the process has `CAP_NET_ADMIN`. Default 8 MiB; 4 KiB to
    /// 1 GiB.
    pub receive_buffer_bytes: usize,
}

impl Default for SflowConfig {
    fn default() -> Self {
        Self {
            senders: Vec::new(),
            names: HashMap::new(),
            attributes: true,
            max_agents: 1024,
            agent_lifetime: Duration::from_secs(2 * 3600),
            capture_ports: vec![6343],
            receive_buffer_bytes: 8 << 20,
        }
    }
}

impl SflowConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), SflowConfigError> {
        number("max_agents", self.max_agents, 1, 1_000_000, "1 to 1000000")?;
        period("agent_lifetime", self.agent_lifetime)?;
        number(
            "receive_buffer_bytes",
            self.receive_buffer_bytes,
            4096,
            1 << 30,
            "4096 to 1073741824",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_named() {
        assert_eq!(SflowConfig::default().validate(), Ok(()));
        let wrong = SflowConfig {
            max_agents: 0,
            ..SflowConfig::default()
        };
        assert_eq!(wrong.validate().unwrap_err().key, "max_agents");
    }
}
