/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Filters, counters, and the way of a record to the ring: what all programs of the event object share. */
#pragma once

#include "filter.h"

#define TEXT_BYTES 4096
#define PATH_BYTES 512

struct watched_key {
	u32 bits;
	u8 text[256];
};

/* A record under way: the header, a body, and text behind that. Too large for the stack of a program. */
struct draft {
	struct header header;
	/* More than is ever sent, so that what is written at the last allowed place stays inside. */
	u8 rest[TEXT_BYTES + 2 * PATH_BYTES];
};

struct scratch {
	u32 busy;
	u32 padding;
	/* A path is found from its end; what is read at the last allowed place stays inside. */
	u8 path[2 * PATH_BYTES];
	struct watched_key watched;
	struct draft draft;
};

struct {
	MAP_UINT(type, MAP_RINGBUF);
	MAP_UINT(max_entries, 4 << 20);
} EVENTS SECTION(".maps");

/* One for programs that run for a process, one for those that may interrupt them. */
struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct scratch);
	MAP_UINT(max_entries, 2);
} SCRATCH SECTION(".maps");

struct {
	MAP_UINT(type, MAP_HASH);
	MAP_TYPE(key, u16);
	MAP_TYPE(value, u8);
	MAP_UINT(max_entries, 1024);
} PORTS SECTION(".maps");

struct {
	MAP_UINT(type, MAP_LPM_TRIE);
	MAP_TYPE(key, struct watched_key);
	MAP_TYPE(value, u8);
	MAP_UINT(max_entries, 1024);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
} WATCHED SECTION(".maps");

/* Counts something that a process did. Its counters if it is to become a record, else 0, the reason being counted. */
INLINE struct counts *admit_process(u32 kind, struct settings **settings, u32 pid)
{
	u32 zero = 0;
	struct counts *counts = map_lookup(&COUNTS, &kind);
	struct settings *s = map_lookup(&SETTINGS, &zero);
	if (!counts || !s)
		return 0;
	*settings = s;
	__sync_fetch_and_add(&counts->seen, 1);
	u32 why = s->kinds >> kind & 1 ? excluded(s, pid) : DROP_KIND;
	if (why != DROPS) {
		count_drop(counts, why);
		return 0;
	}
	return counts;
}

/* The same of the current process. */
INLINE struct counts *admit(u32 kind, struct settings **settings)
{
	return admit_process(kind, settings, current_pid_tgid() >> 32);
}

/* A place for a record. It must be given back with `send` or `give_up`. */
INLINE struct scratch *take(struct counts *counts, u32 which)
{
	struct scratch *scratch = map_lookup(&SCRATCH, &which);
	if (!scratch)
		return 0;
	if (scratch->busy) {
		count_drop(counts, DROP_BUSY);
		return 0;
	}
	scratch->busy = 1;
	return scratch;
}

INLINE void give_up(struct scratch *scratch, struct counts *counts, u32 why)
{
	scratch->busy = 0;
	count_drop(counts, why);
}

/* That of programs that run for a process. Who has taken it finds it again. */
INLINE struct scratch *own_scratch(void)
{
	u32 zero = 0;
	return map_lookup(&SCRATCH, &zero);
}

/*
 * Appends a text to the draft, without its final 0, and says how long it is: at most PATH_BYTES - 1. `at` counts from the
 * end of the header, so that the body comes before all text.
 */
FUNCTION u32 append_text(u32 at, u64 from, u32 is_user)
{
	struct scratch *scratch = own_scratch();
	if (!scratch)
		return 0;
	u8 *to = scratch->draft.rest + (at & (TEXT_BYTES - 1));
	long read = is_user ? read_user_text(to, PATH_BYTES, (void *)from) :
			      read_kernel_text(to, PATH_BYTES, (void *)from);
	return read > 0 ? (read - 1) & (PATH_BYTES - 1) : 0;
}

INLINE u32 append(u32 at, const void *from, bool is_user)
{
	return append_text(at, (u64)from, is_user);
}

/* Sends the draft: a body of `body` bytes and text behind it, up to `end`. */
INLINE void send_record(struct scratch *scratch, struct counts *counts, u32 body, u32 end)
{
	struct draft *draft = &scratch->draft;
	opaque(end);
	if (end > TEXT_BYTES)
		end = TEXT_BYTES;
	draft->header.text_bytes = end - body;
	if (ringbuf_output(&EVENTS, draft, sizeof(struct header) + end, 0))
		count_drop(counts, DROP_RING_FULL);
	else
		__sync_fetch_and_add(&counts->delivered, 1);
	scratch->busy = 0;
}

/* Sends the draft, and kills whom it is about if that is wanted. */
INLINE void send(struct scratch *scratch, struct counts *counts, struct settings *settings, u32 body, u32 end)
{
	u32 kind = scratch->draft.header.kind;
	send_record(scratch, counts, body, end);
	if (settings->kill_kinds >> (kind & 63) & 1)
		send_signal(9);
}
