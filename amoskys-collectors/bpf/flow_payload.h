/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which packets user space is to see. Some flows are metered there as a whole, by their key: so it is for each of their
 * packets, and none is counted twice. Of the others it reads the first payloads of each side.
 */
#pragma once

#include "flow_track.h"

/* Packets in which the beginning of a stream is looked for, of each side (`MAX_PACKETS` of src/flow/payloads.rs). */
#define SHOWN_PACKETS 8
/* So much of a stream is put together (`CAPACITY` of src/flow/gather.rs). */
#define STREAM_BYTES 8192

INLINE bool is_port(const struct packet *packet, u16 port)
{
	return packet->key.low_port == SWAP16(port) || packet->key.high_port == SWAP16(port);
}

/* Flows of messages that are read one by one, and what carries other packets. */
INLINE bool is_handed(const struct packet *packet, const struct flow_settings *settings)
{
	switch (packet->key.protocol) {
	case ICMP:
	case ICMPV6:
		return 1;
	case 4:
	case 41:
	case 47:
		return settings->tunnels;
	case UDP:
		/* VXLAN, Geneve, GTP-U, Teredo. */
		if (settings->tunnels && (is_port(packet, 4789) || is_port(packet, 8472) || is_port(packet, 6081) ||
					  is_port(packet, 2152) || is_port(packet, 3544)))
			return 1;
		break;
	case TCP:
		break;
	default:
		return 0;
	}
	/* DNS, multicast DNS, link-local name resolution. */
	return is_port(packet, 53) || is_port(packet, 5353) || is_port(packet, 5355);
}

INLINE bool is_capital(u8 byte)
{
	return byte >= 'A' && byte <= 'Z';
}

/* Whether a stream may begin so, as far as its first bytes are here: a client hello, or a request. */
INLINE bool may_begin(const u8 *bytes, u32 count)
{
	if (bytes[0] == 0x16)
		return (count < 2 || bytes[1] == 3) && (count < 6 || bytes[5] == 1);
	if (count < 3 || !is_capital(bytes[0]) || !is_capital(bytes[1]) || !is_capital(bytes[2]))
		return 0;
	bool goes_on = 1, begins = 1;
	UNROLL
	for (u32 at = 3; at < FIRST_BYTES; at++) {
		bool is_over = goes_on && !is_capital(bytes[at]);
		begins = is_over ? bytes[at] == ' ' || at >= count : begins;
		goes_on &= !is_over;
	}
	return begins;
}

/* Whether a datagram may begin with an Initial packet of QUIC. */
INLINE bool may_be_initial(const u8 *bytes, u32 count)
{
	u32 version = (u32)bytes[1] << 24 | bytes[2] << 16 | bytes[3] << 8 | bytes[4];
	return count >= 5 && (bytes[0] & 0xc0) == 0xc0 &&
	       (version == 1 || version == 0x6b3343cf || (version >= 0xff00001d && version <= 0xff000020));
}

/* A hello that is in one record and in this packet as a whole: no more is needed of its side. */
INLINE bool is_whole_hello(const u8 *bytes, u32 count, u32 here)
{
	if (count < 9 || bytes[0] != 0x16)
		return 0;
	u32 record = (u32)bytes[3] << 8 | bytes[4];
	u32 message = (u32)bytes[6] << 16 | bytes[7] << 8 | bytes[8];
	return record >= message + 4 && here >= message + 9;
}

/*
 * Whether the reader has to look at the beginning of this side in this packet: never less often than it would if it saw
 * all packets. `bytes` may be missing.
 */
INLINE bool is_to_read(struct flow *flow, const struct packet *packet, const struct flow_settings *settings,
		       const u8 *bytes, u32 count, u32 from)
{
	if (!settings->read_payloads || flow->read >> from & 1 || packet->later)
		return 0;
	bool first = flow->shown[from & 1] == 0;
	bool begins = 1;
	if (packet->has_tcp) {
		u32 offset = 0;
		if (flow->syn && flow->opener == from)
			offset = packet->seq + ((packet->flags & FLAG_SYN) != 0) - flow->syn_seq - 1;
		if (first && count)
			begins = offset ? offset < STREAM_BYTES : may_begin(bytes, count);
	} else if (packet->key.protocol == UDP && settings->read_quic) {
		if (first && count)
			begins = may_be_initial(bytes, count);
	} else {
		begins = 0;
	}
	if (!begins) {
		flow->read |= 1 << from;
		return 0;
	}
	flow->shown[from & 1]++;
	if (flow->shown[from & 1] >= SHOWN_PACKETS ||
	    (first && packet->has_tcp && is_whole_hello(bytes, count, packet->payload_here)))
		flow->read |= 1 << from;
	return 1;
}

/* Whether user space is to see the payload of a packet that was counted. With the flow's lock held. */
INLINE bool is_shown(struct flow *flow, const struct packet *packet, const struct flow_settings *settings,
		     const u8 *bytes, u32 count)
{
	if (packet->payload_here == 0)
		return 0;
	u32 from = (packet->descending != flow->descending) & 1;
	bool shows = is_to_read(flow, packet, settings, bytes, count, from);
	u32 shown = flow->shown_bytes[from];
	if (shown < settings->entropy_bytes) {
		shows = 1;
		u32 end = packet->payload_at + packet->payload_here;
		if (end > settings->snap_bytes)
			end = settings->snap_bytes;
		if (end > packet->payload_at)
			shown += end - packet->payload_at;
		flow->shown_bytes[from] = shown < 0xffff ? shown : 0xffff;
	}
	return shows;
}
