//! A bus that is being served, and credentials for all who talk to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_core::Shutdown;
use amoskys_core::ledger::Account;
use amoskys_transport::bus::{Bus, BusError, BusOptions, BusReport, ConnectOptions};
use amoskys_transport::identity::{Credentials, TlsError, pki};
use amoskys_transport::{LogOptions, TrustMap, WalOptions};
use tokio::task::JoinHandle;

use crate::round::Failure;

/// What the bus keeps on disk: at full speed it deletes about once a second.
const KEPT: u64 = 256 << 20;

/// Settings of the logs of agents and bus.
pub(crate) fn log_files() -> WalOptions {
    WalOptions::new().budget_bytes(4 * KEPT).segment_bytes(32 << 20)
}

/// A bus, its clients' credentials, and where they may put their logs.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<Result<BusReport, BusError>>,
}

impl Site {
    /// Makes certificates and keys, and begins a bus.
    pub(crate) fn begin(dir: &Path, agents: &[String]) -> Result<Self, Failure> {
        let mut site = pki::Site::new(dir.join("pki"))
            .bus("bus")
            .host("localhost")
            .host("127.0.0.1")
            .analyzer("analyzer");
        for agent in agents {
            site = site.agent(agent.as_str());
        }
        site.make()?;
        let files = Credentials::in_dir(dir.join("pki"), "bus");
        let log = LogOptions::new().wal(log_files()).key_file(&files.signing_key);
        let trust = TrustMap::load(&files.trust)?;
        let options = BusOptions::new(dir.join("bus"), files.tls.server_config()?, trust)
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .retain_bytes(KEPT)
            .log(log);
        let bus = Arc::new(Bus::open(options)?);
        let (address, shutdown) = (bus.local_addr(), Shutdown::new());
        let stop = shutdown.clone();
        Ok(Self {
            dir: dir.to_owned(),
            address,
            shutdown,
            task: tokio::spawn(async move { bus.serve(stop).await }),
        })
    }

    /// Certificate and key of a member.
    pub(crate) fn credentials(&self, name: &str) -> Credentials {
        Credentials::in_dir(self.dir.join("pki"), name)
    }

    /// How a member reaches the bus at an address that may be that of a relay.
    pub(crate) fn connect(&self, name: &str, address: SocketAddr) -> Result<ConnectOptions, TlsError> {
        let tls = self.credentials(name).tls.client_config()?;
        Ok(ConnectOptions::new(address.to_string(), tls))
    }

    /// Ends the bus. Fails if it failed before, or has refused something.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        self.shutdown.trigger();
        let report = self.task.await??;
        match report.ledger.accounts.values().map(Account::dropped_total).sum() {
            0 => Ok(()),
            dropped => Err(format!("the bus dropped {dropped} events: {}", report.ledger).into()),
        }
    }
}
