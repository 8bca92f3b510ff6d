use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use amoskys_core::config::Config;

use super::certificates::{self, Wanted};
use super::problem::Problem;
use super::{log, network, signing};
use crate::identity::{Credentials, Identity, Role};

/// Looks at certificates, keys, trust maps, log directory, addresses and ports of one process, and changes nothing.
#[derive(Clone, Debug)]
#[must_use]
pub struct Checkup<'a> {
    config: &'a Config,
    identity: Identity,
    credentials: Option<Credentials>,
    hosts: Vec<String>,
    listen: Option<SocketAddr>,
    soon: Duration,
    now: Option<SystemTime>,
    running: bool,
}

impl<'a> Checkup<'a> {
    /// For a process with these settings, which are valid in themselves, in this role. Its name is `agent.name`, that
    /// of a bus `bus.name`; its certificates and keys are in `bus.cert_dir`, named as [`Credentials::in_dir`] does.
    pub fn new(config: &'a Config, role: Role) -> Self {
        let name = match role {
            Role::Bus => config.bus.name.as_str(),
            _ => config.agent.name.as_str(),
        };
        let dir = config.bus.cert_dir.as_deref();
        Self {
            config,
            identity: Identity {
                role,
                name: name.into(),
            },
            credentials: dir.map(|dir| Credentials::in_dir(dir, name)),
            hosts: Vec::new(),
            listen: None,
            soon: Duration::from_secs(30 * 86_400),
            now: None,
            running: false,
        }
    }

    /// Certificates and keys are elsewhere.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Adds a host name or address that the certificate has to be for. Default none.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// The bus will listen here. Default: on all addresses at `bus.server_port`.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Sets how long before its end a certificate is a problem. Default 30 days.
    pub fn expiring_within(mut self, time: Duration) -> Self {
        self.soon = time;
        self
    }

    /// Sets the time to check for. Default: what the clock says.
    pub fn at(mut self, time: SystemTime) -> Self {
        self.now = Some(time);
        self
    }

    /// The process runs already: that its log and its ports are in use is as it should be.
    pub fn running(mut self) -> Self {
        self.running = true;
        self
    }

    /// Everything that is wrong. Empty if the program can start.
    ///
    /// It reads files and resolves the address of the bus, which blocks, for five seconds at most where the name
    /// service does not answer.
    #[must_use]
    pub fn run(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut key = None;
        match &self.credentials {
            Some(files) => {
                let wanted = Wanted {
                    identity: &self.identity,
                    hosts: &self.hosts,
                    now: self.now.unwrap_or_else(SystemTime::now),
                    soon: self.soon,
                };
                problems.extend(certificates::check(&files.tls, &wanted));
                let log = &self.config.log.path;
                key = signing::check(files, &self.identity, log, &mut problems);
            }
            None => problems.push(Problem::error(
                "bus.cert_dir",
                "it is not set, so that there are no certificates",
                "set it to the directory with the certificates and keys of this process",
            )),
        }
        problems.extend(log::check(
            self.config,
            &self.identity,
            key.as_ref(),
            self.running,
        ));
        #[cfg(feature = "legacy")]
        if self.identity.role == Role::Bus {
            problems.extend(super::legacy::check(self.config));
        }
        if !self.running {
            problems.extend(network::check(self.config, self.identity.role, self.listen));
        }
        problems
    }
}
