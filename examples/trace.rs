//! What happens on this machine, as it happens: prints the events of the sensor in the kernel, and a line with rates and
//! losses below them. Linux only.

#[cfg(target_os = "linux")]
#[path = "trace/linux.rs"]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("trace: the sensor needs Linux");
}
