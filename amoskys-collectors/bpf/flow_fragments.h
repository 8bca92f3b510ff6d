/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Ports of IP fragments: only the first one of a packet has them. As `src/flow/fragments.rs` does it.
 */
#pragma once

#include "flow_records.h"

/* What the fragments of one packet have in common. */
struct whole {
	u64 source[2], destination[2];
	u32 id;
	u8 protocol, version;
	u16 padding;
};

/* What the first one said. */
struct first_fragment {
	u64 time;
	u16 ports[2];
	u32 padding;
};

/* Those unused for longest are forgotten, as by hosts. */
struct {
	MAP_UINT(type, MAP_LRU_HASH);
	MAP_TYPE(key, struct whole);
	MAP_TYPE(value, struct first_fragment);
	MAP_UINT(max_entries, 4096);
} FRAGMENTS SECTION(".maps");

/* Hosts give a packet up after 30 s, or 60. */
#define FRAGMENT_NS 30000000000ull

/* Remembers the ports of a first fragment, or gives a later one those of its first. */
INLINE void follow_fragment(const u64 source[2], const u64 destination[2], u32 id, u8 protocol, u8 version, bool later,
			    u16 ports[2])
{
	struct whole whole = {
		.source = { source[0], source[1] },
		.destination = { destination[0], destination[1] },
		.id = id,
		.protocol = protocol,
		.version = version,
	};
	u64 now = boot_ns();
	if (!later) {
		struct first_fragment first = { .time = now, .ports = { ports[0], ports[1] } };
		if (ports[0] || ports[1])
			map_update(&FRAGMENTS, &whole, &first, UPDATE_ANY);
		return;
	}
	struct first_fragment *first = map_lookup(&FRAGMENTS, &whole);
	if (first && now - first->time <= FRAGMENT_NS) {
		ports[0] = first->ports[0];
		ports[1] = first->ports[1];
	}
}
