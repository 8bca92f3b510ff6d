use crate::ebpf::EbpfError;
use crate::flow::FlowConfig;

/// Where in the kernel packets are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlowHook {
    /// At the entry and the exit of the interface (TC): both directions. The default. On Linux 6.6 and later it stands
    /// beside other programs there (`tcx`); before, as a filter of the queueing discipline `clsact`, which is added if
    /// it is not there, and stays.
    #[default]
    Traffic,
    /// Where the driver hands packets over (XDP): only what is received, and earliest. There can be one such program
    /// on an interface. Linux 5.18.
    Express,
}

/// How flows are metered in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelFlowConfig {
    /// Name of the interface, in the network namespace of the calling thread.
    pub interface: String,
    /// Time-outs and other settings of the meter. Default: those of [`FlowConfig`]. The table is made at once, about 1
    /// KiB of the kernel's memory for each of [`max_flows`](FlowConfig::max_flows); flows that are metered in user space
    /// have a table of their own, as large at most.
    pub flow: FlowConfig,
    /// Where packets are counted. Default: [`FlowHook::Traffic`].
    pub hook: FlowHook,
    /// Memory for records and packets on their way to user space, in bytes, a power of two of pages. A record has 992
    /// bytes. Default 8 MiB; 64 KiB to 1 GiB.
    pub ring_bytes: u32,
    /// How much of a packet goes to user space where its message or payload is read, or all of it is metered there.
    /// Default 2048, as of [`LiveConfig`](crate::capture::LiveConfig); 96 to 9216.
    pub snap_bytes: u32,
}

impl KernelFlowConfig {
    /// The defaults, for this interface.
    #[must_use]
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            flow: FlowConfig::default(),
            hook: FlowHook::default(),
            ring_bytes: 8 << 20,
            snap_bytes: 2048,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// If one is out of range.
    pub fn validate(&self) -> Result<(), EbpfError> {
        self.flow.validate()?;
        if !(64 << 10..=1 << 30).contains(&self.ring_bytes) || !self.ring_bytes.is_power_of_two() {
            return Err(EbpfError::NotInKernel(
                "use a ring that is not a power of two from 64 KiB to 1 GiB",
            ));
        }
        if !(96..=9216).contains(&self.snap_bytes) {
            return Err(EbpfError::NotInKernel(
                "hand over less than 96 bytes of a packet, or more than 9216",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_named() {
        let good = KernelFlowConfig::new("eth0");
        assert!(good.validate().is_ok());
        let said = |change: fn(&mut KernelFlowConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config
                .validate()
                .map_err(|error| error.to_string())
                .err()
                .unwrap_or_default()
        };
        assert_eq!(
            said(|config| config.snap_bytes = 10_000),
            "metering in the kernel cannot hand over less than 96 bytes of a packet, or more than 9216"
        );
        assert!(said(|config| config.ring_bytes = 100_000).contains("ring"));
        assert!(said(|config| config.flow.max_flows = 1).contains("settings"));
    }
}
