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
	/* It ends before the end of the IP header. */
	SKIP_TRUNCATED = 1,
	/* The IP header contradicts itself. */
	SKIP_BAD_IP = 2,
	/* The table was full. */
	SKIP_NO_ROOM = 3,
	/* Its flow was being removed by another processor. */
	SKIP_BUSY = 4,
	/* It was to be metered in user space, and the ring had no room for it. */
	SKIP_NO_RING = 5,
	/* None of these: its headers were found. */
	FOUND = 6,
	/* Nor these, but what it is has to be seen in user space. */
	UNKNOWN = 7,
};

/* Per processor: seen = metered + handed + the sum of skipped. */
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
	/* Packets handed over, to be metered in user space. */
	u64 handed;
	/* Metered packets whose payload was to be read there, and the ring had no room. */
	u64 unread;
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
	/* Client hellos and requests are read; over UDP too. */
	u32 read_payloads, read_quic;
	/* Payload bytes of each side that are looked at in any case. */
	u32 entropy_bytes;
	/* What is in tunnels is metered. */
	u32 tunnels;
	u32 follow_fragments;
	/* How much of a packet is handed over, at most SNAP_BYTES. */
	u32 snap_bytes;
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
	/* From the key's high end to the low one. */
	u32 descending;
	u32 ending;
	u64 first, last;
	/* When it was last told of. */
	u64 reported;
	/* It ends then, for the reason `ending`. */
	u64 end_at;
	u64 active_since;
	struct periods gaps, active, idle;
	u64 syn, syn_ack, ack;
	u64 run_first, run_last, run_bytes;
	u32 run_packets, run_from;
	u32 pauses;
	u32 breaks;
	u32 syn_seq;
	u32 interface;
	u8 tcp_state;
	/* Side that opened the connection; 2 if that was not seen. */
	u8 opener;
	/* Bit per side: it sent FIN. */
	u8 finished;
	u8 dirty;
	u16 vlan, inner_vlan;
	/* Bit per side: it has its first bytes; its payload need not be read any more. */
	u8 collected, read;
	/* Packets of each side that were shown. */
	u8 shown[2];
	u32 sampled;
	/* Bit n: sample n went backward. */
	u32 sample_directions;
	u32 sample_gaps[FLOW_SAMPLES];
	u16 sample_lengths[FLOW_SAMPLES];
	u8 source_mac[6], destination_mac[6];
	u32 has_macs;
	/* Payload bytes of each side that were shown, as far as that many can be told. */
	u16 shown_bytes[2];
	struct flow_side sides[2];
};

#define NO_VLAN 0xffff

/* What a record of the ring is: a flow, or a packet. */
enum phase {
	PHASE_START = 0,
	PHASE_UPDATE = 1,
	PHASE_END = 2,
	/* To be metered in user space. */
	PACKET_HANDED = 3,
	/* Metered here; its payload is to be read. */
	PACKET_SHOWN = 4,
};

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

#define SNAP_BYTES 9216

/* A packet, in the ring without what is not filled of it. */
struct flow_packet {
	u32 phase;
	/* Bytes that are here. */
	u32 captured;
	u64 time;
	/* Of its flow, if that is metered here. */
	u64 number;
	u32 frame_bytes;
	u32 interface;
	/* Sequence number of the SYN with which this side opened the connection, if `opened`. */
	u32 syn_seq;
	/* The tag that was taken off, or NO_VLAN. */
	u16 taken_vlan;
	u8 from, opened;
	u8 bytes[SNAP_BYTES];
};

#define PACKET_HEAD 40

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

_Static_assert(sizeof(struct flow_counts) == 128, "flow_counts");
_Static_assert(sizeof(struct flow_settings) == 104, "flow_settings");
_Static_assert(sizeof(struct flow_key) == 40, "flow_key");
_Static_assert(sizeof(struct flow_side) == 264, "flow_side");
_Static_assert(sizeof(struct flow) == 936, "flow");
_Static_assert(sizeof(struct flow_report) == 992, "flow_report");
_Static_assert(offset_of(struct flow_packet, bytes) == PACKET_HEAD, "flow_packet");
_Static_assert(sizeof(struct flow_census) == 160, "flow_census");
