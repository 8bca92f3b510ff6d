//! What does the sensor in the kernel cost?
//!
//! Programs that do nothing but system calls (`dd`), and that compile, with the sensor and without, in turns; the figure is
//! the median of the ratios of neighbours. bpftrace counts the same system calls that the sensor's events need, in the same
//! turns. Then its memory, what an event costs and how many come through in a second, and what metering in the kernel
//! costs a packet.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench compare_ebpf -- [--quick] [--count N] [--flows N]
//!     [--only memory|dd|compile|rate|link]
//! ```

#[cfg(target_os = "linux")]
#[path = "compare_ebpf/linux.rs"]
mod linux;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(target_os = "linux")]
    return linux::compare();
    #[cfg(not(target_os = "linux"))]
    {
        amoskys_benches::rounds::print_skip("ebpf");
        Ok(())
    }
}
