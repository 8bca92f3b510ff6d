use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use amoskys_core::Name;

/// How exports are received and decoded.
///
/// ```
/// use amoskys_collectors::netflow::NetflowConfig;
///
/// let config = NetflowConfig {
///     exporters: vec![[192, 0, 2, 1].into()],
///     ..NetflowConfig::default()
/// };
/// config.validate()?;
/// # Ok::<(), amoskys_collectors::netflow::NetflowConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetflowConfig {
    /// Exporters that are listened to; anybody, if empty. UDP does not prove who sent a datagram: this keeps out
    /// mistakes and the crudest forgeries. Default: empty.
    pub exporters: Vec<IpAddr>,
    /// Inventory names of exporters, used as the events' device. An exporter without one is named by its address.
    /// Default: empty.
    pub names: HashMap<IpAddr, Name>,
    /// Whether events get what has no place in a flow record as attributes: next hop, autonomous systems, address
    /// translation, fields of enterprises. They cost more than all the rest. Default true.
    pub attributes: bool,
    /// How many parts of exporters (address, version, observation domain) are remembered; what further ones send is
    /// dropped and counted. Default 1024; 1 to 1 million.
    pub max_domains: usize,
    /// An exporter that is silent for this long is forgotten when its place is needed. Default 2 hours; at least
    /// 1 s.
    pub domain_lifetime: Duration,
    /// Templates of one domain. Default 512; 1 to 65 280.
    pub max_templates: usize,
    /// Fields of a template; templates with more are dropped and counted. Default 512; 1 to 16 384.
    pub max_fields: usize,
    /// Memory for the templates of all exporters, in bytes. Default 64 MiB; at least 4 KiB.
    pub max_template_bytes: usize,
    /// A template that was not sent again for this long is forgotten. Exporters send them again every half an hour
    /// or more often. Default 2 hours; at least 1 s.
    pub template_lifetime: Duration,
    /// Records that come before their template wait for it: so many bytes of one domain. Default 64 KiB; 0 for
    /// none.
    pub max_waiting_bytes: usize,
    /// So many bytes of all domains. Default 16 MiB.
    pub max_total_waiting_bytes: usize,
    /// UDP ports whose datagrams in a capture file are taken for exports. Default 2055, 4739, 9995 and 9996.
    pub capture_ports: Vec<u16>,
    /// Receive buffer of the socket, in bytes; what arrives while it is full is lost and counted. The kernel may
    /// give less than asked (`net.core.rmem_max`), unless the process has `CAP_NET_ADMIN`. Default 8 MiB; at least
    /// 4 KiB.
    pub receive_buffer_bytes: usize,
}

impl Default for NetflowConfig {
    fn default() -> Self {
        let two_hours = Duration::from_secs(2 * 3600);
        Self {
            exporters: Vec::new(),
            names: HashMap::new(),
            attributes: true,
            max_domains: 1024,
            domain_lifetime: two_hours,
            max_templates: 512,
            max_fields: 512,
            max_template_bytes: 64 << 20,
            template_lifetime: two_hours,
            max_waiting_bytes: 64 << 10,
            max_total_waiting_bytes: 16 << 20,
            capture_ports: vec![2055, 4739, 9995, 9996],
            receive_buffer_bytes: 8 << 20,
        }
    }
}

/// A setting is out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}, but must be {range}")]
#[non_exhaustive]
pub struct NetflowConfigError {
    /// Name of the setting.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be.
    pub range: &'static str,
}

impl NetflowConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), NetflowConfigError> {
        let any = usize::MAX;
        number("max_domains", self.max_domains, 1, 1_000_000, "1 to 1000000")?;
        period("domain_lifetime", self.domain_lifetime)?;
        number("max_templates", self.max_templates, 1, 65_280, "1 to 65280")?;
        number("max_fields", self.max_fields, 1, 16_384, "1 to 16384")?;
        number(
            "max_template_bytes",
            self.max_template_bytes,
            4096,
            any,
            "at least 4096",
        )?;
        period("template_lifetime", self.template_lifetime)?;
        number(
            "receive_buffer_bytes",
            self.receive_buffer_bytes,
            4096,
            1 << 30,
            "4096 to 1073741824",
        )
    }
}

/// That a number is in its range.
pub(crate) fn number(
    key: &'static str,
    value: usize,
    least: usize,
    most: usize,
    range: &'static str,
) -> Result<(), NetflowConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let value = value.to_string();
    Err(NetflowConfigError { key, value, range })
}

/// That a period is not too short.
pub(crate) fn period(key: &'static str, value: Duration) -> Result<(), NetflowConfigError> {
    if value >= Duration::from_secs(1) {
        return Ok(());
    }
    Err(NetflowConfigError {
        key,
        value: format!("{value:?}"),
        range: "at least 1 s",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_named() {
        assert_eq!(NetflowConfig::default().validate(), Ok(()));
        let wrong = NetflowConfig {
            max_fields: 0,
            ..NetflowConfig::default()
        };
        assert_eq!(
            wrong.validate().unwrap_err().to_string(),
            "max_fields is 0, but must be 1 to 16384"
        );
        let wrong = NetflowConfig {
            template_lifetime: Duration::ZERO,
            ..NetflowConfig::default()
        };
        assert_eq!(wrong.validate().unwrap_err().key, "template_lifetime");
    }
}
