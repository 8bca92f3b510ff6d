/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * From bytes to headers, for the flow meter: Ethernet, VLAN tags, IP, and the first bytes of TCP, UDP and ICMP. What it
 * says of a packet is what `src/packet` says of it.
 */
#pragma once

#include "flow_fragments.h"

/* Of the kernel's stable interface (include/uapi/linux/bpf.h). */
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol;
	u32 vlan_present, vlan_tci, vlan_proto;
	u32 priority, ingress_ifindex, ifindex;
};

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

#define SWAP16(value) __builtin_bswap16(value)
#define SWAP32(value) __builtin_bswap32(value)

#define ICMP 1
#define TCP 6
#define UDP 17
#define DCCP 33
#define ICMPV6 58
#define SCTP 132
#define UDP_LITE 136

#define MAX_TAGS 4
#define MAX_EXTENSIONS 8

#define FLAG_FIN 1
#define FLAG_SYN 2
#define FLAG_RST 4
#define FLAG_ACK 16

/* Where the bytes are: a packet of the stack, or one that the driver has just received. */
struct source {
	void *context;
	u32 length;
	bool is_xdp;
};

struct packet {
	struct flow_key key;
	/* On the wire, link header included. */
	u32 frame_bytes;
	/* As the headers state them: from the IP header on, of IP and transport headers, and after these. */
	u32 length, header_length, payload_length;
	/* Where the payload begins, and how much of it is there. */
	u32 payload_at, payload_here;
	/* Where the TCP options begin, and how many. */
	u32 options_at, options_length;
	u32 seq;
	u32 interface;
	u16 vlan, inner_vlan;
	/* The outermost tag, if it is not in the packet any more. */
	u16 taken_vlan;
	u16 window;
	u8 flags, ttl;
	/* From the key's high end to the low one. */
	bool descending;
	/* A fragment; one after the first, without transport header. */
	bool fragment, later;
	u32 fragment_id;
	bool has_tcp;
	bool has_macs;
	u8 macs[12];
	/* Where the extension headers are followed: the protocol of the next, its place, and the bytes before it. */
	struct {
		u32 protocol, next, ip_bytes;
	} walk;
};

/*
 * Reads and writes of memory that the verifier does not follow: it looks once at what comes next, and not once for each
 * way to the value.
 */
#define FORGET(place) (*(volatile typeof(place) *)&(place))

/* Copies `size` bytes, at least one; whether they are there. */
INLINE bool load(const struct source *from, u32 at, void *to, u32 size)
{
	long failed = from->is_xdp ? xdp_load_bytes(from->context, at, to, size) :
				     skb_load_bytes(from->context, at, to, size);
	return failed == 0;
}

INLINE void push_vlan(struct packet *packet, u16 tag)
{
	if (packet->vlan == NO_VLAN)
		packet->vlan = tag & 0xfff;
	else if (packet->inner_vlan == NO_VLAN)
		packet->inner_vlan = tag & 0xfff;
}

/* Finds the IP header behind that of the link. FOUND if there is one, `at`, of the version that the link says (or 0). */
INLINE u32 find_ip(const struct source *from, bool bare, struct packet *packet, u32 *at, u32 *version)
{
	*at = 0;
	*version = 0;
	if (bare)
		return FOUND;
	struct {
		u8 macs[12];
		u16 type;
	} __attribute__((packed)) link;
	if (!load(from, 0, &link, 14))
		return SKIP_TRUNCATED;
	__builtin_memcpy(packet->macs, link.macs, 12);
	packet->has_macs = 1;
	u16 type = SWAP16(link.type);
	*at = 14;
	for (int n = 0; n <= MAX_TAGS; n++) {
		switch (type) {
		case 0x0800:
			*version = 4;
			return FOUND;
		case 0x86dd:
			*version = 6;
			return FOUND;
		case 0x8100:
		case 0x88a8:
		case 0x9100:
		case 0x9200:
		case 0x9300: {
			u16 tag[2];
			if (!load(from, *at, tag, 4))
				return SKIP_TRUNCATED;
			push_vlan(packet, SWAP16(tag[0]));
			type = SWAP16(tag[1]);
			*at += 4;
			break;
		}
		/* ARP; MPLS, PPPoE and the rarer tags, which user space looks through. */
		case 0x0806:
		case 0x8847:
		case 0x8848:
		case 0x8864:
		case 0x880b:
		case 0x8926:
		case 0x893f:
		case 0x88e7:
		case 0x8909:
			return UNKNOWN;
		default:
			return type <= 1500 ? UNKNOWN : SKIP_NON_IP;
		}
	}
	return UNKNOWN;
}

/* The transport header behind `at`, of which `here` bytes are there; later fragments have none. */
INLINE void read_transport(const struct source *from, struct packet *packet, u32 at, u32 here, u32 ip_bytes, u16 ports[2])
{
	/* As many as a TCP header has without options. */
	struct {
		u16 ports[2];
		u32 seq, ack;
		u8 offset, flags;
		u16 window, checksum, urgent;
	} head = {};
	u32 skip = 0;
	u32 size = here < 20 ? here : 20;
	opaque(size);
	if (packet->later)
		size = 0;
	if (size > 0 && size <= 20)
		load(from, at, &head, size);
	if (!packet->later) {
		switch (packet->key.protocol) {
		case TCP:
			skip = 20;
			if (size >= 14 && head.offset >> 4 >= 5) {
				skip = (head.offset >> 4) * 4;
				packet->has_tcp = 1;
				packet->flags = head.flags;
				packet->seq = SWAP32(head.seq);
				packet->window = SWAP16(head.window);
				packet->options_at = at + 20;
				u32 end = skip < here ? skip : here;
				packet->options_length = end > 20 ? end - 20 : 0;
			}
			break;
		case UDP:
		case UDP_LITE:
		case ICMP:
		case ICMPV6:
			skip = 8;
			break;
		case SCTP:
		case DCCP:
			skip = 12;
			break;
		}
		if (skip && packet->key.protocol != ICMP && packet->key.protocol != ICMPV6 && size >= 4) {
			ports[0] = head.ports[0];
			ports[1] = head.ports[1];
		}
	}
	u32 header_length = ip_bytes + skip;
	packet->header_length = header_length < packet->length ? header_length : packet->length;
	packet->payload_length = packet->length - packet->header_length;
	packet->payload_at = at + skip;
	packet->payload_here = here > skip ? here - skip : 0;
}

INLINE bool is_above(const u64 a[2], const u64 b[2], u16 a_port, u16 b_port)
{
	if (a[0] != b[0])
		return a[0] > b[0];
	if (a[1] != b[1])
		return a[1] > b[1];
	return a_port > b_port;
}

/* Any order will do, if it is the same for both directions. */
INLINE void set_key(struct packet *packet, const u64 from[2], const u64 to[2], const u16 ports[2])
{
	struct flow_key *key = &packet->key;
	bool descending = is_above(from, to, ports[0], ports[1]);
	packet->descending = descending;
	key->low[0] = descending ? to[0] : from[0];
	key->low[1] = descending ? to[1] : from[1];
	key->high[0] = descending ? from[0] : to[0];
	key->high[1] = descending ? from[1] : to[1];
	key->low_port = descending ? ports[1] : ports[0];
	key->high_port = descending ? ports[0] : ports[1];
}

INLINE u32 read_v4(const struct source *from, const struct flow_settings *settings, struct packet *packet, u32 at)
{
	struct {
		u8 version, service;
		u16 length, id, fragment;
		u8 ttl, protocol;
		u16 checksum;
		u32 source, destination;
	} head;
	if (!load(from, at, &head, 20))
		return SKIP_TRUNCATED;
	if (head.version >> 4 != 4)
		return SKIP_BAD_IP;
	u32 ip_bytes = (head.version & 0xf) * 4;
	u32 rest = from->length - at;
	/* 0 means a segment larger than the field can say. */
	packet->length = head.length ? SWAP16(head.length) : rest;
	if (ip_bytes < 20 || packet->length < ip_bytes)
		return SKIP_BAD_IP;
	u16 fragment = SWAP16(head.fragment);
	packet->fragment = (fragment & 0x3fff) != 0;
	packet->later = (fragment & 0x1fff) != 0;
	packet->fragment_id = SWAP16(head.id);
	packet->ttl = head.ttl;
	packet->key.protocol = head.protocol;
	packet->key.version = 4;
	u32 end = rest < packet->length ? rest : packet->length;
	u32 here = end > ip_bytes ? end - ip_bytes : 0;
	u16 ports[2] = {};
	read_transport(from, packet, at + ip_bytes, here, ip_bytes, ports);
	u64 source[2] = { head.source, 0 }, destination[2] = { head.destination, 0 };
	if (packet->fragment && settings->follow_fragments)
		follow_fragment(source, destination, packet->fragment_id, packet->key.protocol, 4, packet->later, ports);
	set_key(packet, source, destination, ports);
	return FOUND;
}

/* Headers between that of IP and that of the transport. */
INLINE bool is_extension(u32 protocol)
{
	return protocol == 0 || protocol == 43 || protocol == 60 || protocol == 135 || protocol == 139 || protocol == 140 ||
	       protocol == 44 || protocol == 51;
}

INLINE u32 read_v6(const struct source *from, const struct flow_settings *settings, struct packet *packet, u32 at)
{
	struct {
		u8 version, rest[3];
		u16 length;
		u8 next, hops;
		u64 source[2], destination[2];
	} head;
	if (!load(from, at, &head, 40))
		return SKIP_TRUNCATED;
	if (head.version >> 4 != 6)
		return SKIP_BAD_IP;
	u32 rest = from->length - at;
	packet->length = 40 + SWAP16(head.length);
	if (packet->length == 40 && rest > 40 + 0xffff)
		packet->length = rest;
	packet->ttl = head.hops;
	packet->key.version = 6;
	u32 end = at + (rest < packet->length ? rest : packet->length);
	FORGET(packet->walk.protocol) = head.next;
	FORGET(packet->walk.next) = at + 40;
	FORGET(packet->walk.ip_bytes) = 40;
	for (int n = 0; n <= MAX_EXTENSIONS && !FORGET(packet->later); n++) {
		u32 protocol = FORGET(packet->walk.protocol), next = FORGET(packet->walk.next);
		if (!is_extension(protocol))
			break;
		/* User space follows more of them. */
		if (n == MAX_EXTENSIONS)
			return UNKNOWN;
		u8 extension[4] = {};
		/* One that was cut leaves the protocol at its own number. */
		if (next + 2 > end || !load(from, next, extension, next + 4 <= end ? 4 : 2))
			break;
		u32 length = (extension[1] + 1) * 8;
		if (protocol == 51)
			length = (extension[1] + 2) * 4;
		if (protocol == 44) {
			if (next + 4 > end)
				break;
			length = 8;
			packet->fragment = 1;
			packet->later = (extension[2] | (extension[3] & 0xf8)) != 0;
			packet->fragment_id = 0;
			if (next + 8 <= end && load(from, next + 4, &packet->fragment_id, 4))
				packet->fragment_id = SWAP32(packet->fragment_id);
		}
		FORGET(packet->walk.protocol) = extension[0];
		FORGET(packet->walk.next) = next + length;
		FORGET(packet->walk.ip_bytes) += length;
	}
	u32 protocol = FORGET(packet->walk.protocol), next = FORGET(packet->walk.next);
	u32 ip_bytes = FORGET(packet->walk.ip_bytes);
	packet->key.protocol = protocol;
	u16 ports[2] = {};
	read_transport(from, packet, next, end > next ? end - next : 0, ip_bytes, ports);
	if (packet->fragment && settings->follow_fragments)
		follow_fragment(head.source, head.destination, packet->fragment_id, protocol, 6, packet->later, ports);
	set_key(packet, head.source, head.destination, ports);
	return FOUND;
}

/* Finds the outermost IP header and what follows it. FOUND, or why not. */
INLINE u32 decode(const struct source *from, const struct flow_settings *settings, struct packet *packet)
{
	u32 at, version;
	packet->frame_bytes = from->length;
	u32 why = find_ip(from, settings->bare, packet, &at, &version);
	if (why != FOUND)
		return why;
	if (!version) {
		u8 first;
		if (!load(from, at, &first, 1))
			return SKIP_TRUNCATED;
		version = first >> 4;
	}
	if (version == 4)
		return read_v4(from, settings, packet, at);
	if (version == 6)
		return read_v6(from, settings, packet, at);
	return SKIP_BAD_IP;
}
