//! Where events come from: capture files, or this machine: an interface, the kernel, what it lists, and its files, in
//! any combination.

use std::error::Error;
use std::path::PathBuf;

use amoskys_collectors::capture::LiveConfig;
use amoskys_collectors::flow::{FlowCollector, FlowConfig, Progress};
use amoskys_core::Shutdown;
use amoskys_core::config::Config;
use amoskys_core::pipeline::PipelineBuilder;
use clap::{ArgGroup, Args};

const SOURCES: [&str; 6] = ["read", "interface", "ebpf", "proc", "integrity", "replay"];

/// What to watch or read.
#[derive(Args)]
#[command(group(ArgGroup::new("input").required(true).multiple(true).args(SOURCES)))]
pub(crate) struct Inputs {
    /// Read these capture files (pcap or pcapng), in this order.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["interface", "ebpf", "proc", "integrity"])]
    pub(crate) read: Vec<PathBuf>,
    /// Watch this interface until Ctrl-C (Linux; needs CAP_NET_RAW).
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// Meter the flows of the interface in the kernel, which hands over only packets that have to be read (needs CAP_BPF,
    /// CAP_PERFMON and CAP_NET_ADMIN instead).
    #[arg(long, requires = "interface")]
    pub(crate) in_kernel: bool,
    /// Watch what processes do, from inside the kernel, until Ctrl-C (Linux; needs CAP_BPF and CAP_PERFMON).
    #[arg(long)]
    pub(crate) ebpf: bool,
    /// Sample the processes and the host, as the kernel lists them, until Ctrl-C (Linux; needs CAP_SYS_PTRACE for all
    /// of what processes of other users have open).
    #[arg(long)]
    pub(crate) proc: bool,
    /// With --proc, watch what each process uses as well: seven metrics a process, every ten seconds, in the log too.
    #[arg(long, requires = "proc")]
    pub(crate) process_metrics: bool,
    /// Watch these files, and all below these directories, for changes until Ctrl-C (Linux).
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) integrity: Vec<PathBuf>,
    /// Of what processes do, look at that of this control group alone: a directory of the unified hierarchy.
    #[arg(long, value_name = "DIR", requires = "ebpf")]
    pub(crate) cgroup: Option<PathBuf>,
    /// With --ebpf, record every system call too, by its number: `train --log` learns in what order programs make them.
    #[arg(long, requires = "ebpf")]
    pub(crate) calls: bool,
    /// Analyze again what is in the log of the data directory, without adding to it.
    #[arg(long, requires = "data_dir", conflicts_with_all = ["read", "interface", "ebpf", "proc", "integrity"])]
    pub(crate) replay: bool,
}

impl Inputs {
    /// Adds the collectors to a pipeline. The progress is that of reading files.
    pub(crate) fn join(
        &self,
        mut pipeline: PipelineBuilder,
        config: &Config,
        stop: &Shutdown,
    ) -> Result<(PipelineBuilder, Option<Progress>), Box<dyn Error>> {
        let mut progress = None;
        let flows = match &self.interface {
            Some(_) if self.in_kernel => None,
            Some(name) => {
                let live = FlowCollector::from_interface(name, LiveConfig::default());
                Some(live.with_device(config.agent.name.as_str()))
            }
            None if !self.read.is_empty() => {
                let files = FlowCollector::from_files(&self.read)?;
                progress = Some(files.progress());
                Some(files)
            }
            None => None,
        };
        if let Some(flows) = flows {
            let flows = flows.with_config(FlowConfig::from(&config.flow))?;
            pipeline = pipeline.collector(flows.with_stop(stop.clone()));
        }
        Ok((host::join(self, pipeline, config, stop)?, progress))
    }

    /// What is read or watched, for the report.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .read
            .iter()
            .chain(&self.integrity)
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        names.extend(self.interface.clone());
        names.extend(self.ebpf.then(|| "ebpf".to_owned()));
        names.extend(self.proc.then(|| "proc".to_owned()));
        names
    }
}

#[cfg(target_os = "linux")]
mod scope;

#[cfg(target_os = "linux")]
mod host {
    use std::time::Duration;

    use amoskys_collectors::capture::LiveCapture;
    use amoskys_collectors::ebpf::flows::{KernelFlowCollector, KernelFlowConfig};
    use amoskys_collectors::ebpf::{CallStreams, EbpfCollector, EbpfConfig, Selection};
    use amoskys_collectors::fim::{FimCollector, FimConfig};
    use amoskys_collectors::proc::{FlowOwners, ProcCollector, ProcConfig};
    use amoskys_core::Event;

    use super::scope::Scope;
    use super::{Config, Error, FlowConfig, Inputs, LiveConfig, PipelineBuilder, Shutdown};

    /// Where the kernel lists processes.
    const PROC: &str = "/proc";
    /// How often the sockets of this machine are listed, to name the processes behind flows.
    const SOCKETS_EVERY: Duration = Duration::from_secs(1);

    pub(super) fn join(
        inputs: &Inputs,
        mut pipeline: PipelineBuilder,
        config: &Config,
        stop: &Shutdown,
    ) -> Result<PipelineBuilder, Box<dyn Error>> {
        let device = config.agent.name.as_str();
        if let Some(name) = &inputs.interface {
            if inputs.in_kernel {
                let mut settings = KernelFlowConfig::new(name);
                settings.flow = FlowConfig::from(&config.flow);
                let flows = KernelFlowCollector::open(settings)?;
                // Under load the kernel takes seconds to check the program; what passed before is not seen.
                eprintln!("sentinel: watching {name} in the kernel");
                pipeline = pipeline.collector(flows.with_device(device).with_stop(stop.clone()));
            } else {
                check_capture(name)?;
            }
        }
        if inputs.ebpf {
            let mut settings = EbpfConfig::default();
            if inputs.calls {
                settings.streams = CallStreams::Sequences;
            }
            if let Some(directory) = &inputs.cgroup {
                let mut scope = Scope::open(directory)?;
                settings.filters.cgroups = Selection::Only(vec![scope.cgroup()]);
                pipeline = pipeline.transform(move |event: &mut Event| scope.sift(event));
            }
            let sensor = EbpfCollector::open(settings)?;
            pipeline = pipeline.collector(sensor.with_device(device).with_stop(stop.clone()));
        }
        if inputs.proc {
            let settings = ProcConfig {
                // The sensor in the kernel sees them better.
                process_events: !inputs.ebpf,
                // Most processes end before it is known what is usual of them, and of 300 come 210 events a second.
                process_metrics: inputs.process_metrics,
                ..ProcConfig::default()
            };
            let processes = ProcCollector::open(settings)?;
            pipeline = pipeline.collector(processes.with_device(device).with_stop(stop.clone()));
        }
        if !inputs.integrity.is_empty() {
            let files = FimCollector::open(FimConfig::new(&inputs.integrity))?;
            pipeline = pipeline.collector(files.with_device(device).with_stop(stop.clone()));
        }
        if inputs.interface.is_some() && (inputs.ebpf || inputs.proc) {
            pipeline = pipeline.transform(FlowOwners::start(PROC, SOCKETS_EVERY)?);
        }
        Ok(pipeline)
    }

    /// The interface is opened for good when the pipeline runs. What would keep it from that is better said once, and before.
    fn check_capture(name: &str) -> Result<(), Box<dyn Error>> {
        let briefly = LiveConfig {
            promiscuous: false,
            ..LiveConfig::default()
        };
        LiveCapture::open(name, &briefly)?;
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
mod host {
    use super::{Config, Error, Inputs, PipelineBuilder, Shutdown};

    pub(super) fn join(
        inputs: &Inputs,
        pipeline: PipelineBuilder,
        _: &Config,
        _: &Shutdown,
    ) -> Result<PipelineBuilder, Box<dyn Error>> {
        match inputs.in_kernel || inputs.ebpf || inputs.proc || !inputs.integrity.is_empty() {
            true => Err("--in-kernel, --ebpf, --proc and --integrity need Linux".into()),
            false => Ok(pipeline),
        }
    }
}
