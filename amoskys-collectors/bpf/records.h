/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the programs hand to user space, and what they are told. docs/ebpf.md draws it.
 *
 * All records have fixed parts of fixed sizes, without padding that is not written down, in the processor's byte order.
 * `src/ebpf/record.rs` reads them. Any change of a size or a meaning changes LAYOUT_VERSION.
 */
#pragma once

#include "helpers.h"

#define LAYOUT_VERSION 1

/* What happened. Bit numbers of `settings.kinds`, and indexes of the counters. */
enum kind {
	KIND_EXEC = 1,
	KIND_FORK = 2,
	KIND_EXIT = 3,
	KIND_CREDENTIALS = 4,
	KIND_OPEN = 5,
	KIND_CREATE = 6,
	KIND_UNLINK = 7,
	KIND_RENAME = 8,
	KIND_CHMOD = 9,
	KIND_CHOWN = 10,
	KIND_LINK = 11,
	KIND_CONNECT = 12,
	KIND_ACCEPT = 13,
	KIND_BIND = 14,
	KIND_LISTEN = 15,
	KIND_SEND = 16,
	KIND_DNS = 17,
	KIND_PTRACE = 18,
	KIND_MEMORY_READ = 19,
	KIND_MEMORY_WRITE = 20,
	KIND_MEMFD = 21,
	KIND_WX_MAP = 22,
	KIND_WX_PROTECT = 23,
	KIND_CAPABILITY = 24,
	KIND_MOUNT = 25,
	KIND_UNMOUNT = 26,
	KIND_UNSHARE = 27,
	KIND_SETNS = 28,
	KIND_MODULE_LOAD = 29,
	KIND_MODULE_UNLOAD = 30,
	KIND_BPF = 31,
	KIND_SIGNAL = 32,
	KIND_IO_URING = 33,
	KIND_DENIED = 34,
	KIND_SEQUENCE = 40,
	KIND_HISTOGRAM = 41,
	KINDS = 48,
};

/* Why something seen did not become a record. The first are filters, the rest losses. */
enum drop {
	DROP_SELF = 0,
	DROP_KIND = 1,
	DROP_UID = 2,
	DROP_CGROUP = 3,
	DROP_PATH = 4,
	DROP_PORT = 5,
	/* This process has spoken to this peer, or used this capability, before. */
	DROP_REPEATED = 6,
	/* Of no interest by its arguments: a mapping that is not both writable and executable. */
	DROP_HARMLESS = 7,
	DROP_CALL = 8,
	/* The call failed, for a reason that says nothing. */
	DROP_FAILED = 9,
	DROP_RING_FULL = 10,
	/* Another record was under way on this processor. */
	DROP_BUSY = 11,
	/* No memory for the calls of one more thread. */
	DROP_NO_MEMORY = 12,
	DROPS = 13,
};

/*
 * Per processor and kind: seen = delivered + the sum of dropped. System calls are counted when it is decided what becomes
 * of them: up to 63 of a thread's may wait in its buffer.
 */
struct counts {
	u64 seen;
	u64 delivered;
	/* Room for more reasons. */
	u64 dropped[16];
};

enum list_mode { LIST_OFF = 0, LIST_ONLY = 1, LIST_EXCEPT = 2 };

/* Written by user space, at any time. */
struct settings {
	/* Bit 1 << kind. */
	u64 kinds;
	/* Kinds for which the process is killed. */
	u64 kill_kinds;
	/* The reader: its process id, in the first pid namespace. */
	u32 own_pid;
	u32 uid_mode;
	u32 cgroup_mode;
	u32 port_mode;
	u32 path_mode;
	u32 call_mode;
	/* Of system calls: 0 nothing, 1 histograms, 2 sequences. */
	u32 streams;
	/* 1: a call that failed is of interest only if it was denied. */
	u32 only_denied;
	/* Another number each time the settings, or the lists, change. */
	u32 generation;
	u32 padding;
};

/* The first 64 bytes of every record: who did it. */
struct header {
	u16 kind;
	/* Bytes of text at the end. */
	u16 text_bytes;
	u32 cpu;
	/* Nanoseconds since boot, suspend included. */
	u64 time;
	u32 pid;
	u32 tid;
	/* When the process started, as `time`. */
	u64 start;
	/* Effective. */
	u32 uid;
	u32 gid;
	/* Id in the unified hierarchy. */
	u64 cgroup;
	u8 command[16];
};

/* All kinds but those that have a body of their own. */
struct activity {
	s64 result;
	u64 arguments[4];
	u32 target_pid;
	u32 target_uid;
	u64 target_start;
	/* Addresses as they are on the wire; of IPv4 the first four bytes. */
	u8 remote[16];
	u8 local[16];
	/* 4, 6, 1 (Unix, its path is the first text) or 0. */
	u16 family;
	u16 remote_port;
	u16 local_port;
	u16 protocol;
	/* 0 a system call, 1 io_uring, 2 another hook. */
	u16 via;
	/* Lengths of up to three texts. */
	u16 lengths[3];
};

struct credentials {
	u32 uid, euid, suid, fsuid;
	u32 gid, egid, sgid, fsgid;
	u64 effective, permitted, inheritable, bounding, ambient;
};

/* KIND_EXEC, KIND_FORK, KIND_CREDENTIALS, and the list of processes at the start. */
struct process {
	u32 parent_pid;
	/* The system call, for KIND_CREDENTIALS. */
	u32 call;
	u64 parent_start;
	s64 result;
	struct credentials credentials;
	u32 mount_ns, pid_ns, net_ns, uts_ns, ipc_ns, cgroup_ns, user_ns;
	/* Process id in its own namespace. */
	u32 inner_pid;
	u64 inode;
	u32 device;
	/* Type and permissions of the executable. */
	u16 mode;
	/* Links of the executable: 0 if it has been deleted, or never was in a directory. */
	u16 links;
	/* Of: the path as given, interpreter, arguments (each ended by 0), working directory, executable, and the names
	 * of the innermost cgroup and of the one around it. */
	u16 lengths[8];
};

/* KIND_EXIT. */
struct exit {
	/* As wait(2) has it. */
	u32 status;
	u32 padding;
	u64 user_ns, system_ns;
	u64 minor_faults, major_faults;
	/* KiB. */
	u64 max_rss;
};

#define SEQUENCE_CALLS 64

/* KIND_SEQUENCE: a run of calls of one thread. `time` is that of the last. */
struct sequence {
	/* Number of the first in the thread's stream, from 0. */
	u64 first;
	u64 first_time;
	u32 count;
	u32 padding;
	u16 calls[SEQUENCE_CALLS];
};

#define HISTOGRAM_CALLS 512

/* KIND_HISTOGRAM: how often a thread made which calls since `from`. */
struct histogram {
	u64 from;
	/* All of them. */
	u32 total;
	/* Those whose numbers have no place. */
	u32 others;
	u32 counts[HISTOGRAM_CALLS];
};

_Static_assert(sizeof(struct header) == 64, "header");
_Static_assert(sizeof(struct activity) == 104, "activity");
_Static_assert(sizeof(struct credentials) == 72, "credentials");
_Static_assert(sizeof(struct process) == 160, "process");
_Static_assert(sizeof(struct exit) == 48, "exit");
_Static_assert(sizeof(struct sequence) == 152, "sequence");
_Static_assert(sizeof(struct histogram) == 2064, "histogram");
_Static_assert(sizeof(struct settings) == 56, "settings");
_Static_assert(sizeof(struct counts) == 144, "counts");
