//! The ring of memory shared with the kernel. This file holds unsafe code: system calls, and reading
//! memory that the kernel writes.
//!
//! The ring is a row of blocks. A block belongs either to the kernel or to us, as its status word says; whoever has
//! it hands it over by writing the word. In a block, packets follow one another, each with a header that gives the
//! distance to the next one.
#![expect(unsafe_code, reason = "system calls and memory shared with the kernel")]

use std::ffi::CString;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use amoskys_core::Timestamp;
use libc::{c_int, c_void, socklen_t};

use super::live::{LiveConfig, LiveError};
use super::{LinkType, Packet};

const BLOCK_BYTES: usize = 256 << 10;
/// Packets begin at multiples of it (`V3_ALIGNMENT` in the kernel).
const PACKET_ALIGNMENT: usize = 8;
/// How long the kernel may keep packets before it hands over a block that is not full, in milliseconds.
const BLOCK_TIMEOUT_MS: u32 = 50;

/// A packet socket with its ring.
#[derive(Debug)]
pub(super) struct Ring {
    memory: Mapping,
    socket: OwnedFd,
    interface: u32,
    link: LinkType,
    /// Whether packets are also seen as they are sent, as on the loopback interface.
    skip_outgoing: bool,
    /// The block that is ours, or will be next.
    block: usize,
    /// Packets of it that are left, and where the next one begins.
    left: u32,
    offset: usize,
    /// Whether the block is ours.
    held: bool,
}

/// The packets that are left of a block.
pub(super) struct RingPackets<'a> {
    ring: &'a mut Ring,
}

impl<'a> Iterator for RingPackets<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        while self.ring.left > 0 {
            let Some(Slot { head, start }) = self.ring.next_slot() else {
                continue;
            };
            // SAFETY: the bytes lie in the block, which is ours. Only `next_block` hands it over, which is not called
            // here, and cannot be called elsewhere as long as the ring is borrowed for `'a`.
            return Some(unsafe { self.ring.packet(&head, start) });
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.ring.left as usize))
    }
}

/// Where a packet of the current block is.
struct Slot {
    head: libc::tpacket3_hdr,
    /// Where its bytes begin in the block.
    start: usize,
}

/// Memory of the ring, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is not tied to the thread that made it, and `Mapping` is its only owner.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping; no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl Ring {
    /// One of several rings that share the packets of an interface: it has none before [`begin`](Self::begin).
    pub(super) fn open_shared(
        name: &str,
        config: &LiveConfig,
        group: &mut Option<u16>,
    ) -> Result<Self, LiveError> {
        let nothing = LiveConfig {
            snap_bytes: 0,
            ..config.clone()
        };
        let ring = Self::open(name, &nothing)?;
        let joined = join_fanout(&ring.socket, *group)
            .map_err(|source| LiveError::open(name, "PACKET_FANOUT", source))?;
        *group = Some(joined);
        Ok(ring)
    }

    /// Lets packets come, once all rings that share them are there: a ring that is alone gets all of them, and those
    /// that its group has so far get them too.
    pub(super) fn begin(&self, snap_bytes: u32) -> io::Result<()> {
        limit_snap(&self.socket, snap_bytes)
    }

    pub(super) fn open(name: &str, config: &LiveConfig) -> Result<Self, LiveError> {
        let failed = |step| move |source| LiveError::open(name, step, source);
        let interface = index_of(name)?;
        // Protocol 0: nothing arrives before the ring is ready and the socket is bound.
        let control = socket(libc::SOCK_RAW).map_err(failed("socket"))?;
        let hardware = hardware_type(&control, name).map_err(failed("SIOCGIFHWADDR"))?;
        let (link, kind) = match hardware {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => (LinkType::ETHERNET, libc::SOCK_RAW),
            // Other links give what they carry, without their own header.
            _ => (LinkType::RAW, libc::SOCK_DGRAM),
        };
        let socket = if kind == libc::SOCK_RAW {
            control
        } else {
            socket(kind).map_err(failed("socket"))?
        };
        let version: c_int = libc::tpacket_versions::TPACKET_V3 as c_int;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &version)
            .map_err(failed("PACKET_VERSION"))?;
        limit_snap(&socket, config.snap_bytes).map_err(failed("SO_ATTACH_FILTER"))?;
        let blocks = config.ring_bytes.div_ceil(BLOCK_BYTES);
        let memory = map(&socket, blocks).map_err(failed("PACKET_RX_RING"))?;
        bind(&socket, interface).map_err(failed("bind"))?;
        if config.promiscuous && hardware != libc::ARPHRD_LOOPBACK {
            join_promiscuous(&socket, interface).map_err(failed("PACKET_ADD_MEMBERSHIP"))?;
        }
        Ok(Self {
            memory,
            socket,
            interface,
            link,
            skip_outgoing: hardware == libc::ARPHRD_LOOPBACK,
            block: 0,
            left: 0,
            offset: 0,
            held: false,
        })
    }

    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        if self.left > 0 || self.is_ours() {
            return Ok(true);
        }
        let mut poll = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN | libc::POLLERR,
            revents: 0,
        };
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: one valid pollfd, and the count says so.
        let ready = unsafe { libc::poll(&raw mut poll, 1, timeout) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(false)
            } else {
                Err(error)
            };
        }
        if poll.revents & libc::POLLERR != 0 {
            let mut error: c_int = 0;
            option(&self.socket, libc::SOL_SOCKET, libc::SO_ERROR, &mut error)?;
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
        }
        Ok(self.is_ours())
    }

    pub(super) fn next_packet(&mut self) -> Option<Packet<'_>> {
        while self.left > 0 || self.next_block() {
            let Some(Slot { head, start }) = self.next_slot() else {
                continue;
            };
            // SAFETY: the bytes lie in the block, which is ours: the kernel does not write it until `next_block` hands it
            // over, and that takes `&mut self`, so no packet is borrowed then.
            return Some(unsafe { self.packet(&head, start) });
        }
        None
    }

    /// The packets that are left of a block, of the next one if none are. The block stays ours until they are not borrowed
    /// any more. `None` if the kernel has handed over no more.
    pub(super) fn next_packets(&mut self) -> Option<RingPackets<'_>> {
        (self.left > 0 || self.next_block()).then_some(RingPackets { ring: self })
    }

    /// Where the next packet of the block is; none if it is not wanted.
    fn next_slot(&mut self) -> Option<Slot> {
        let Some((header, outgoing)) = self.packet_header() else {
            // The kernel does not write such a block. Giving it back loses its packets rather than our memory.
            self.left = 0;
            return None;
        };
        let start = self.offset + usize::from(header.tp_mac);
        self.left -= 1;
        self.offset += header.tp_next_offset as usize;
        let inside = start + header.tp_snaplen as usize <= BLOCK_BYTES;
        let wanted = inside && !(outgoing && self.skip_outgoing);
        wanted.then_some(Slot { head: header, start })
    }

    /// The packet behind a header.
    ///
    /// # Safety
    ///
    /// Its bytes must lie in the current block, which must be ours for as long as `'a`.
    unsafe fn packet<'a>(&self, header: &libc::tpacket3_hdr, start: usize) -> Packet<'a> {
        // SAFETY: as the caller says.
        let data = unsafe {
            let first = self.memory.base.as_ptr().add(self.block * BLOCK_BYTES + start);
            std::slice::from_raw_parts(first, header.tp_snaplen as usize)
        };
        let nanos = i64::from(header.tp_sec) * 1_000_000_000 + i64::from(header.tp_nsec);
        let tagged = header.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        Packet {
            time: Timestamp::from_nanos(nanos),
            interface: self.interface,
            link: self.link,
            stripped_vlan: tagged.then_some((header.hv1.tp_vlan_tci & 0x0fff) as u16),
            wire_len: header.tp_len,
            data,
        }
    }

    pub(super) fn take_drops(&mut self) -> io::Result<u64> {
        let mut stats = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        // Reading the counters resets them.
        option(
            &self.socket,
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            &mut stats,
        )?;
        Ok(u64::from(stats.tp_drops))
    }

    /// Gives a used-up block back and takes the next one, if it is ours.
    fn next_block(&mut self) -> bool {
        if self.held {
            // Our reads of the block come before the kernel may write it.
            self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.held = false;
            self.block = (self.block + 1) % (self.memory.bytes / BLOCK_BYTES);
        }
        if !self.is_ours() {
            return false;
        }
        // SAFETY: the block begins with this header, the kernel has written it, and the block is ours.
        let header = unsafe {
            let block = self.memory.base.as_ptr().add(self.block * BLOCK_BYTES);
            block.cast::<libc::tpacket_block_desc>().read().hdr.bh1
        };
        self.held = true;
        self.left = header.num_pkts;
        self.offset = header.offset_to_first_pkt as usize;
        true
    }

    fn is_ours(&self) -> bool {
        // The kernel's writes of the block come before it says that the block is ours.
        self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// The status word of the current block.
    fn status(&self) -> &AtomicU32 {
        let offset =
            offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status);
        // SAFETY: the word lies in the mapping, is aligned, and kernel and we change it only as a whole.
        unsafe {
            AtomicU32::from_ptr(
                self.memory
                    .base
                    .as_ptr()
                    .add(self.block * BLOCK_BYTES + offset)
                    .cast(),
            )
        }
    }

    /// The header of the next packet, and whether it was sent rather than received. `None` if it is not inside the
    /// block.
    fn packet_header(&self) -> Option<(libc::tpacket3_hdr, bool)> {
        // The header is followed by the link-layer address, which says the direction.
        let whole = libc::TPACKET3_HDRLEN;
        if !self.offset.is_multiple_of(PACKET_ALIGNMENT) || self.offset + whole > BLOCK_BYTES {
            return None;
        }
        // SAFETY: header and address lie in the block, which is ours, and are aligned to 8 bytes, as much as any of
        // their fields needs.
        unsafe {
            let at = self
                .memory
                .base
                .as_ptr()
                .add(self.block * BLOCK_BYTES + self.offset);
            let address = at
                .add(whole - size_of::<libc::sockaddr_ll>())
                .cast::<libc::sockaddr_ll>();
            let outgoing = ptr::addr_of!((*address).sll_pkttype).read() == libc::PACKET_OUTGOING;
            Some((at.cast::<libc::tpacket3_hdr>().read(), outgoing))
        }
    }
}

fn index_of(name: &str) -> Result<u32, LiveError> {
    let missing = || LiveError::NoInterface {
        name: name.to_owned(),
    };
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: a valid C string, which outlives the call.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(missing()),
        index => Ok(index),
    }
}

fn socket(kind: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn hardware_type(socket: &OwnedFd, name: &str) -> io::Result<u16> {
    // SAFETY: all zeros is a valid value of this C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // `index_of` found the name, so it fits with its final zero.
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(name.bytes().take(libc::IFNAMSIZ - 1))
    {
        *to = from.cast_signed() as libc::c_char;
    }
    // SAFETY: the request is valid and outlives the call, which writes the address into it.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) })?;
    // SAFETY: the call has written this member.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

/// Lets the kernel copy no more than `bytes` of each packet: a filter of one instruction.
fn limit_snap(socket: &OwnedFd, bytes: u32) -> io::Result<()> {
    let mut program = [libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: bytes,
    }];
    let filter = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

fn map(socket: &OwnedFd, blocks: usize) -> io::Result<Mapping> {
    // Frames of version 3 have any size; the kernel only checks that these figures agree.
    let frame_bytes = 2048;
    let request = libc::tpacket_req3 {
        tp_block_size: BLOCK_BYTES as u32,
        tp_block_nr: blocks as u32,
        tp_frame_size: frame_bytes,
        tp_frame_nr: (BLOCK_BYTES * blocks) as u32 / frame_bytes,
        tp_retire_blk_tov: BLOCK_TIMEOUT_MS,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    set_option(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
    let bytes = BLOCK_BYTES * blocks;
    // SAFETY: a new mapping at a place the system chooses; the result is checked.
    let base = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(
            ptr::null_mut(),
            bytes,
            protection,
            libc::MAP_SHARED,
            socket.as_raw_fd(),
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    Ok(Mapping { base, bytes })
}

fn bind(socket: &OwnedFd, interface: u32) -> io::Result<()> {
    // SAFETY: all zeros is a valid value of this C structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface as c_int;
    // SAFETY: the address is valid, outlives the call, and has the length stated.
    check(unsafe {
        let length = size_of::<libc::sockaddr_ll>() as socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
    })
}

fn join_promiscuous(socket: &OwnedFd, interface: u32) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: interface as c_int,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

/// Shares the packets of the interface with the sockets of a group, by addresses and ports, the same in both
/// directions; without a group, begins one. Gives its number.
fn join_fanout(socket: &OwnedFd, group: Option<u16>) -> io::Result<u16> {
    let mode = match group {
        Some(_) => libc::PACKET_FANOUT_HASH,
        None => libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_UNIQUEID,
    };
    let mut value = u32::from(group.unwrap_or_default()) | mode << 16;
    set_option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &value)?;
    option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &mut value)?;
    Ok(value as u16)
}

fn set_option<T>(socket: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is valid, outlives the call, and has the length stated. Callers pass the C structure the
    // option asks for.
    check(unsafe {
        let value = ptr::from_ref(value).cast::<c_void>();
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value,
            size_of::<T>() as socklen_t,
        )
    })
}

fn option<T: Copy>(socket: &OwnedFd, level: c_int, option: c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: the value is valid for writes of the length stated. Callers pass plain numbers or C structures of
    // them, for which any bytes are a value.
    check(unsafe {
        let value = ptr::from_mut(value).cast::<c_void>();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length)
    })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
