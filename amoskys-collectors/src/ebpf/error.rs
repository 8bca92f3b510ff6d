use std::io;

use super::EbpfConfigError;
use crate::flow::FlowConfigError;

/// Why the sensor could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EbpfError {
    /// A setting is out of range.
    #[error("the sensor's settings are wrong")]
    Config(#[from] EbpfConfigError),
    /// The process may not load programs into the kernel.
    #[error("missing {}; give the process these capabilities, or run it as root", missing.join(", "))]
    Privileges {
        /// The capabilities it needs and has not.
        missing: Vec<&'static str>,
    },
    /// The kernel does not describe its types (`CONFIG_DEBUG_INFO_BTF`), so programs cannot be fitted to it.
    #[error("the kernel has no type information at /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)")]
    NoTypes(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There are no programs for this processor.
    #[error("there are no programs for the processor {0}")]
    Architecture(&'static str),
    /// The kernel refused a map or program without which nothing works. Linux 5.8 or newer is needed.
    #[error("the kernel refused {what}")]
    Load {
        /// What it refused.
        what: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map of the programs could not be read or written.
    #[error("could not access the programs' {what}")]
    Map {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting of the flow meter is out of range.
    #[error("the flow meter's settings are wrong")]
    FlowConfig(#[from] FlowConfigError),
    /// The flow meter is to do what can only be done in user space:
    /// [`FlowCollector`](crate::flow::FlowCollector) does it.
    #[error("metering in the kernel cannot {0}")]
    NotInKernel(&'static str),
    /// There is no interface of this name.
    #[error("there is no network interface {name:?}")]
    NoInterface {
        /// The name.
        name: String,
    },
    /// Another program is where the meter's should go, and there can be one only.
    #[error("another program is attached to the {hook} hook of {name:?}; detach it, or use the other hook")]
    Occupied {
        /// The interface.
        name: String,
        /// The hook.
        hook: &'static str,
    },
    /// The kernel refused to attach the meter to the interface.
    #[error("could not attach to the {hook} hook of {name:?}")]
    Attach {
        /// The interface.
        name: String,
        /// The hook.
        hook: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Waiting for events failed.
    #[error("could not wait for events")]
    Wait(#[source] io::Error),
    /// The thread that reads events could not be started.
    #[error("the thread that reads events could not be started")]
    Thread(#[source] io::Error),
}

impl EbpfError {
    pub(super) fn load(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Load {
            what,
            source: Box::new(source),
        }
    }

    pub(super) fn map(what: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map {
            what,
            source: Box::new(source),
        }
    }
}
