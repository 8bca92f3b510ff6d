//! What does the sensor in the kernel cost a program that does nothing but system calls?
//!
//! `dd` copies byte by byte, two calls each, with the sensor and without, in turns; the figure is the median of the
//! ratios of neighbours. bpftrace counts the same system calls that the sensor's events need, in the same turns.
//!
//! ```text
//! cargo bench -p amoskys-benches --bench compare_ebpf -- [--quick] [--count N]
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
