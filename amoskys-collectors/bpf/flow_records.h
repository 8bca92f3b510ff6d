/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the flow meter in the kernel hands to user space, and what it is told. docs/ebpf.md draws it;
 * `src/ebpf/flows/report.rs` reads it. Fixed sizes, no padding that is not written down, the processor's byte order, but
 * addresses and ports as they are on the wire. Times are nanoseconds since boot, suspend included; 0 is never.
 */
#pragma once

#include "helpers.h"

/* Why a packet is in no flow. Indexes of `flow_counts.skipped`. */
enum skip {
	/* Neither IP nor ARP. */
	SKIP_NON_IP = 0,
	SKIP_ARP = 1,
	/* IP, perhaps, behind a header that is not looked through here: MPLS, PPPoE, LLC, more than four VLAN tags. */
	SKIP_ENCAPSULATED = 2,
	/* It ends before the end of the IP header. */
	SKIP_TRUNCATED = 3,
	/* The IP header contradicts itself. */
	SKIP_BAD_IP = 4,
	/* The table was full. */
	SKIP_NO_ROOM = 5,
	/* Its flow was being removed by another processor. */
	SKIP_BUSY = 6,
	SKIPS = 7,
};

/* Per processor: seen = metered + the sum of skipped. */
struct flow_counts {
	u64 seen;
	u64 metered;
	u64 skipped[8];
	/* Flows begun. */
	u64 flows;
	/* Last records of flows that the ring had no room for, and the packets of those flows. */
	u64 lost_records;
	u64 lost_packets;
	/* Other records that it had no room for: later ones replace them. */
	u64 unsent;
};

/* Written by user space. */
struct flow_settings {
	u64 idle, active, linger;
	/* 0: never. */
	u64 update;
	u64 activity;
	/* A sweep ends flows without a packet since then. */
	u64 evict_before;
	/* Bytes in the ring at which the reader is woken. */
	u64 wake_bytes;
	u32 start_records;
	u32 never_expire;
	u32 sequence_length;
	/* 0: Ethernet; 1: packets begin with the IP header. */
	u32 bare;
	/* A sweep ends all flows. */
	u32 finish;
	u32 padding;
};

/* Protocol, version, and both ends without order. Of addresses of version 4 the first four bytes. */
struct flow_key {
	u64 low[2], high[2];
	u16 low_port, high_port;
	u8 protocol, version;
	u16 padding;
};

struct lengths {
	u64 sum, squares;
	u32 min, max;
};

struct periods {
	u64 sum, min, max;
	/* 128 bits. */
	u64 squares_low, squares_high;
};

#define FIRST_BYTES 16
#define OPTION_BYTES 40
#define FLOW_SAMPLES 20

struct flow_side {
	u64 first, last;
	u64 frame_bytes;
	struct lengths lengths, payload;
	struct periods gaps;
	u64 bulk_bytes, bulk_ns;
	u32 bulk_packets, bulk_count;
	u32 packets, data_packets, fragments;
	u32 retransmitted, out_of_order, zero_windows;
	/* Sequence number after the latest byte. */
	u32 next_seq;
	/* FIN, SYN, RST, PSH, ACK, URG, ECE, CWR. */
	u32 flags[8];
	u16 window, header_min;
	u8 ttl_min, ttl_max, first_length;
	/* Of the latest SYN. */
	u8 options_length;
	u8 first_bytes[FIRST_BYTES];
	u8 options[OPTION_BYTES];
	/* A TCP header was seen. */
	u32 seen;
};

struct flow {
	u64 number;
	u64 first, last;
	/* When it was last told of. */
	u64 reported;
	u64 active_since;
	/* It ends then, for the reason `ending`. */
	u64 end_at;
	struct periods gaps, active, idle;
	u64 syn, syn_ack, ack;
	u64 run_first, run_last, run_bytes;
	u32 run_packets, run_from;
	u32 pauses;
	u32 breaks;
	u32 syn_seq;
	u32 interface;
	/* From the key's high end to the low one. */
	u32 descending;
	u32 ending;
	u8 tcp_state;
	/* Side that opened the connection; 2 if that was not seen. */
	u8 opener;
	/* Bit per side: it sent FIN. */
	u8 finished;
	u8 dirty;
	u16 vlan, inner_vlan;
	/* Bit per side: it has its first bytes. */
	u32 collected;
	u32 sampled;
	/* Bit n: sample n went backward. */
	u32 sample_directions;
	u32 sample_gaps[FLOW_SAMPLES];
	u16 sample_lengths[FLOW_SAMPLES];
	u8 source_mac[6], destination_mac[6];
	u32 has_macs;
	u32 padding;
	struct flow_side sides[2];
};

#define NO_VLAN 0xffff

enum phase { PHASE_START = 0, PHASE_UPDATE = 1, PHASE_END = 2 };

/* As FlowEnd is ordered. */
enum flow_end {
	END_NONE = 0,
	END_IDLE = 1,
	END_ACTIVE = 2,
	END_FINISHED = 3,
	END_RESET = 4,
	END_EVICTED = 5,
	END_SOURCE = 6,
	END_REPLACED = 7,
};

enum tcp_state {
	TCP_MIDSTREAM = 0,
	TCP_SYN_SENT = 1,
	TCP_SYN_RECEIVED = 2,
	TCP_ESTABLISHED = 3,
	TCP_CLOSING = 4,
	TCP_CLOSED = 5,
	TCP_RESET = 6,
	TCP_REFUSED = 7,
};

/* A record of the ring. */
struct flow_report {
	u32 phase, end;
	u64 time;
	struct flow_key key;
	struct flow flow;
};

/* What a sweep found. */
struct flow_census {
	/* Flows that go on, and connections kept for their direction. */
	u64 live, dormant;
	/* How many of the live had no packet for so many seconds, by its logarithm. */
	u64 ages[16];
	/* Flows that were due, and wait because the ring is nearly full. */
	u64 waiting;
	/* Ended to make room. */
	u64 evicted;
};

_Static_assert(sizeof(struct flow_counts) == 112, "flow_counts");
_Static_assert(sizeof(struct flow_settings) == 80, "flow_settings");
_Static_assert(sizeof(struct flow_key) == 40, "flow_key");
_Static_assert(sizeof(struct flow_side) == 264, "flow_side");
_Static_assert(sizeof(struct flow) == 936, "flow");
_Static_assert(sizeof(struct flow_report) == 992, "flow_report");
_Static_assert(sizeof(struct flow_census) == 160, "flow_census");
