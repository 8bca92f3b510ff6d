//! Whether the bus can be found, and ports can be listened on.

use std::io;
use std::net::{Ipv4Addr, TcpListener, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use amoskys_core::config::Config;

use super::problem::Problem;
use crate::identity::Role;

pub(super) fn check(config: &Config, role: Role) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut ports = vec![
        ("health.port", config.health.port),
        ("metrics.port", config.metrics.port),
    ];
    match role {
        Role::Bus => ports.push(("bus.server_port", Some(config.bus.server_port))),
        _ => problems.extend(address(&config.bus.address)),
    }
    let ports: Vec<_> = ports
        .into_iter()
        .filter_map(|(name, port)| Some((name, port?)))
        .collect();
    for (index, (name, port)) in ports.iter().enumerate() {
        match ports[..index].iter().find(|(_, other)| other == port) {
            Some((other, _)) => problems.push(Problem::error(
                name,
                format!("port {port} is that of {other} too"),
                "set another port",
            )),
            None => problems.extend(listen(name, *port)),
        }
    }
    problems
}

/// How long a name service may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn address(address: &str) -> Option<Problem> {
    let (sender, answer) = mpsc::channel();
    let asked = address.to_owned();
    // The call cannot be ended, so it is left alone when it takes too long.
    let resolver = std::thread::Builder::new().name("amoskys-resolve".to_owned());
    let started = resolver.spawn(move || {
        let found = asked.to_socket_addrs().map(|addresses| addresses.count());
        let _ = sender.send(found);
    });
    let why = match started.map(|_| answer.recv_timeout(PATIENCE)) {
        Ok(Ok(Ok(found))) if found > 0 => return None,
        Ok(Ok(Ok(_))) => format!("{address} has no address"),
        Ok(Ok(Err(error))) => format!("{address} cannot be resolved: {error}"),
        Ok(Err(_)) => format!("{address} is not resolved within {} s", PATIENCE.as_secs()),
        Err(error) => format!("{address} cannot be resolved: {error}"),
    };
    let what_to_do = "correct the host, or see that the name service knows it";
    Some(Problem::error("bus.address", why, what_to_do))
}

fn listen(name: &str, port: u16) -> Option<Problem> {
    let error = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).err()?;
    let what_to_do = match error.kind() {
        io::ErrorKind::AddrInUse => "stop what uses it, or set another port",
        io::ErrorKind::PermissionDenied => "set a port from 1024 on, or grant CAP_NET_BIND_SERVICE",
        _ => "set another port",
    };
    let why = format!("port {port} cannot be listened on: {error}");
    Some(Problem::error(name, why, what_to_do))
}
