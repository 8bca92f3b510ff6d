//! Loads a program and attaches it where it belongs.

use std::io;
use std::os::fd::OwnedFd;

use aya::Btf;
use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, Lsm, Program, TracePoint};

use super::hooks::Place;
use super::perf;
use super::tracefs::Tracefs;

/// Attaches it until it is unloaded or, if that is `Some`, the result is dropped. Else says what the kernel said.
pub(super) fn attach(
    program: &mut Program,
    place: Place,
    btf: &Btf,
    tracefs: &io::Result<Tracefs>,
) -> Result<Option<OwnedFd>, String> {
    match place {
        Place::Tracepoint(name) => {
            let program: &mut BtfTracePoint = program.try_into().map_err(chain)?;
            program.load(name, btf).map_err(chain)?;
            program.attach().map_err(chain)?;
        }
        Place::Call(name) => {
            let tracefs = tracefs.as_ref().map_err(|error| format!("no tracefs: {error}"))?;
            let id = tracefs
                .id("syscalls", &format!("sys_exit_{name}"))
                .map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => "the kernel has no such call".to_owned(),
                    _ => error.to_string(),
                })?;
            let program: &mut TracePoint = program.try_into().map_err(chain)?;
            program.load().map_err(chain)?;
            let program = program.fd().map_err(chain)?;
            let attached = perf::attach(id, program).map_err(|error| error.to_string())?;
            return Ok(Some(attached));
        }
        Place::Entry(name) => {
            let program: &mut FEntry = program.try_into().map_err(chain)?;
            program.load(name, btf).map_err(chain)?;
            program.attach().map_err(chain)?;
        }
        Place::Exit(name) => {
            let program: &mut FExit = program.try_into().map_err(chain)?;
            program.load(name, btf).map_err(chain)?;
            program.attach().map_err(chain)?;
        }
        Place::Kprobe(name) => {
            let program: &mut KProbe = program.try_into().map_err(chain)?;
            program.load().map_err(chain)?;
            program.attach(name, 0).map_err(chain)?;
        }
        Place::Lsm(name) => {
            are_asked()?;
            let program: &mut Lsm = program.try_into().map_err(chain)?;
            program.load(name, btf).map_err(chain)?;
            program.attach().map_err(chain)?;
        }
    }
    Ok(None)
}

/// Detaches it. What was never loaded cannot be unloaded, and stays as it is.
pub(super) fn detach(program: &mut Program) {
    let _ = match program {
        Program::BtfTracePoint(program) => program.unload(),
        Program::TracePoint(program) => program.unload(),
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        Program::Lsm(program) => program.unload(),
        _ => Ok(()),
    };
}

/// The kernel takes programs for its security modules, and never asks them, where they are not among these.
fn are_asked() -> Result<(), String> {
    match std::fs::read_to_string("/sys/kernel/security/lsm") {
        Ok(modules) if modules.trim().split(',').any(|module| module == "bpf") => Ok(()),
        Ok(_) => Err("programs are not among the kernel's security modules (lsm=...,bpf)".to_owned()),
        Err(_) => Err("no securityfs, which tells whether programs are asked".to_owned()),
    }
}

/// The whole chain of causes on one line. Of a long one, which has the verifier's protocol in it, the beginning and the last
/// words.
fn chain(error: impl std::error::Error) -> String {
    const BEGINNING: usize = 120;
    const END: usize = 200;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    // The kernel's ENOTSUPP, which has no name outside: so it says that a processor has no hooks of this kind.
    let text = text
        .replace('\n', " ")
        .replace("Unknown error 524", "not supported by this kernel");
    let length = text.chars().count();
    if length <= BEGINNING + END {
        return text;
    }
    let beginning: String = text.chars().take(BEGINNING).collect();
    let end: String = text.chars().skip(length - END).collect();
    format!("{beginning} ... {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_protocol_the_end_is_told() {
        let long = format!("refused\n{}cannot do that", "0: R1=ctx\n".repeat(1000));
        let told = chain(std::io::Error::other(long));
        assert!(
            told.starts_with("refused 0: ") && told.ends_with("cannot do that"),
            "{told}"
        );
        assert!(told.len() < 400);
    }
}
