//! What the standard library does not offer for UDP sockets: the size of the receive buffer, and how many datagrams
//! the kernel dropped because it was full.
#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "system calls"))]

use std::io;
use std::net::UdpSocket;

/// Asks for a receive buffer of so many bytes. The kernel gives what it allows, which is no error.
#[cfg(target_os = "linux")]
pub(super) fn set_receive_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // The kernel doubles it, for what it keeps beside the payload.
    let bytes = libc::c_int::try_from(bytes / 2).unwrap_or(libc::c_int::MAX);
    let set = |option| {
        // SAFETY: the option is a plain number, which is valid, outlives the call, and has the length stated.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    // The first goes beyond the system's limit, and needs CAP_NET_ADMIN.
    set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF))
}

/// How many datagrams the kernel has dropped at this socket since it was opened (Linux 4.12 or later).
#[cfg(target_os = "linux")]
pub(super) fn kernel_drops(socket: &UdpSocket) -> io::Result<u32> {
    use std::os::fd::AsRawFd;
    const SO_MEMINFO: libc::c_int = 55;
    const SK_MEMINFO_DROPS: usize = 8;
    let mut figures = [0_u32; SK_MEMINFO_DROPS + 1];
    let mut length = size_of_val(&figures) as libc::socklen_t;
    // SAFETY: the figures are valid for writes of the length stated, and any bytes are a value of them.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            figures.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(figures[SK_MEMINFO_DROPS])
}

/// The system's default is used.
#[cfg(not(target_os = "linux"))]
pub(super) fn set_receive_buffer(_: &UdpSocket, _: usize) -> io::Result<()> {
    Ok(())
}

/// Not known on this system.
#[cfg(not(target_os = "linux"))]
pub(super) fn kernel_drops(_: &UdpSocket) -> io::Result<u32> {
    Ok(0)
}
