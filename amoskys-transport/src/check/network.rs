//! Whether the bus can be found, and ports can be listened on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use amoskys_core::config::Config;

use super::problem::Problem;
use crate::identity::Role;

pub(super) fn check(config: &Config, role: Role, listen_at: Option<SocketAddr>) -> Vec<Problem> {
    let everywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let mut problems = Vec::new();
    let mut wanted = vec![("health.port", config.health.port.map(everywhere))];
    // Health checks and metrics can be had from one port.
    if config.metrics.port != config.health.port {
        wanted.push(("metrics.port", config.metrics.port.map(everywhere)));
    }
    match role {
        Role::Bus => {
            let address = listen_at.unwrap_or_else(|| everywhere(config.bus.server_port));
            let name = listen_at.map_or("bus.server_port", |_| "the address to listen on");
            wanted.push((name, Some(address)));
        }
        _ => problems.extend(address(&config.bus.address)),
    }
    let wanted: Vec<_> = wanted
        .into_iter()
        .filter_map(|(name, address)| Some((name, address?)))
        .collect();
    for (index, (name, address)) in wanted.iter().enumerate() {
        let port = address.port();
        match wanted[..index]
            .iter()
            .find(|(_, other)| overlap(*other, *address))
        {
            Some((other, _)) => problems.push(Problem::error(
                name,
                format!("port {port} is that of {other} too"),
                "set another port",
            )),
            None => problems.extend(listen(name, *address)),
        }
    }
    problems
}

/// Whether only one of two can be listened on.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = |ip: IpAddr| ip.is_unspecified();
    let same = one.ip() == other.ip() || everywhere(one.ip()) || everywhere(other.ip());
    one.port() == other.port() && one.port() != 0 && same
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

fn listen(name: &str, address: SocketAddr) -> Option<Problem> {
    let error = TcpListener::bind(address).err()?;
    let what_to_do = match error.kind() {
        io::ErrorKind::AddrInUse => "stop what uses it, or set another port",
        io::ErrorKind::PermissionDenied => "set a port from 1024 on, or grant CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "set an address of this machine",
        _ => "set another port",
    };
    let place = match address.ip().is_unspecified() {
        true => format!("port {}", address.port()),
        false => address.to_string(),
    };
    let why = format!("{place} cannot be listened on: {error}");
    Some(Problem::error(name, why, what_to_do))
}
