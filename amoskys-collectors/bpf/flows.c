// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A flow meter in the kernel: counts packets in flows where they pass, hands over flows that begin and that a packet ends,
 * and, at each sweep, those that fell silent or lasted long. Packets that it cannot finish go to user space as they are.
 */
#include "flow_payload.h"

char LICENSE[] SECTION("license") = "Dual MIT/GPL";

/* The kernel knows it by its name. */
struct bpf_spin_lock {
	u32 value;
};

enum slot_state {
	/* Without a flow: just put into the table. */
	SLOT_VACANT = 0,
	SLOT_LIVE = 1,
	/* The flow has ended; which side opened its connection is remembered. */
	SLOT_DORMANT = 2,
	/* About to be removed: nothing may be counted here. */
	SLOT_CONDEMNED = 3,
};

struct slot {
	struct bpf_spin_lock lock;
	u32 state;
	struct flow flow;
};

/*
 * Both directions of a flow may be counted at once, by two processors: hence the lock. Made in advance: without, the
 * allocator would run dry in a burst of new flows. Not a least-recently-used one: that forgets without a word.
 */
struct {
	MAP_UINT(type, MAP_HASH);
	MAP_TYPE(key, struct flow_key);
	MAP_TYPE(value, struct slot);
	MAP_UINT(max_entries, 65536);
} FLOWS SECTION(".maps");

struct {
	MAP_UINT(type, MAP_RINGBUF);
	MAP_UINT(max_entries, 8 << 20);
} FLOW_RING SECTION(".maps");

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct flow_settings);
	MAP_UINT(max_entries, 1);
} FLOW_SETTINGS SECTION(".maps");

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct flow_counts);
	MAP_UINT(max_entries, 1);
} FLOW_COUNTS SECTION(".maps");

/* The number of the next flow. */
struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
	MAP_UINT(max_entries, 1);
} FLOW_NUMBER SECTION(".maps");

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct flow_census);
	MAP_UINT(max_entries, 1);
} FLOW_CENSUS SECTION(".maps");

/* What is too large for the stack: a flow that a packet ends, one that it begins, one that a sweep tells of; and zeros. */
enum { DRAFT_ENDED = 0, DRAFT_BEGUN = 1, DRAFT_SWEPT = 2, DRAFTS = 3 };

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct flow_report);
	MAP_UINT(max_entries, DRAFTS);
} DRAFT SECTION(".maps");

/* As large as a slot, but without its lock, which may not be copied from. */
struct blank {
	u64 head;
	struct flow flow;
};

_Static_assert(sizeof(struct blank) == sizeof(struct slot), "blank");

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct blank);
	MAP_UINT(max_entries, 1);
} BLANK SECTION(".maps");

/* A packet on its way to the ring. */
struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct flow_packet);
	MAP_UINT(max_entries, 1);
} PACKET SECTION(".maps");

/*
 * What is found in a packet. Not on the stack: the verifier would follow each value there, and with all their
 * combinations it does not come to an end.
 */
struct desk {
	struct packet packet;
	u8 payload[FIRST_BYTES];
	u8 options[OPTION_BYTES];
	u32 payload_bytes;
	/* What it does: ends a flow, begins one, finds one that is being removed, is shown, goes on with a connection. */
	u32 end;
	bool is_new, busy, shows, remembers;
};

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct desk);
	MAP_UINT(max_entries, 1);
} DESK SECTION(".maps");

#define HOUR_NS 3600000000000ull

/* A sweep may be interrupted by packets on its own processor. */
INLINE void add(u64 *counter, u64 number)
{
	__sync_fetch_and_add(counter, number);
}

/* In words: one call for so many bytes is not to be had here. */
INLINE void copy_flow(struct flow *to, const struct flow *from)
{
	__builtin_memcpy(to, from, sizeof(*to));
}

INLINE void clear_flow(struct flow *flow)
{
	__builtin_memset(flow, 0, sizeof(*flow));
}

/* Whether the ring took it. The reader looks every now and then, and is woken when there is much. */
INLINE bool hand_over(struct flow_report *report, struct flow_counts *counts, const struct flow_settings *settings)
{
	u64 flags = RINGBUF_NO_WAKEUP;
	if (ringbuf_query(&FLOW_RING, 0) >= settings->wake_bytes)
		flags = RINGBUF_FORCE_WAKEUP;
	if (!ringbuf_output(&FLOW_RING, report, sizeof(*report), flags))
		return 1;
	if (report->phase == PHASE_END) {
		add(&counts->lost_records, 1);
		add(&counts->lost_packets, packets_of(&report->flow));
	} else {
		add(&counts->unsent, 1);
	}
	return 0;
}

/* Room that packets leave in the ring for records of flows: an eighth; and those that are counted anyway for others. */
enum { LEAVES_HANDED = 8, LEAVES_SHOWN = 4 };

/* Whether the ring took the packet, as far as it is to be handed over. What the record says of its flow is filled in. */
INLINE bool hand_packet(const struct source *from, const struct packet *packet, struct flow_packet *record,
			const struct flow_settings *settings, u64 now)
{
	u32 size = from->length < settings->snap_bytes ? from->length : settings->snap_bytes;
	opaque(size);
	if (size == 0 || size > SNAP_BYTES)
		return 0;
	u64 used = ringbuf_query(&FLOW_RING, 0), all = ringbuf_query(&FLOW_RING, 1);
	u64 leaves = all / (record->phase == PACKET_HANDED ? LEAVES_HANDED : LEAVES_SHOWN);
	if (used + size + leaves > all || !load(from, 0, record->bytes, size))
		return 0;
	record->captured = size;
	record->time = now;
	record->frame_bytes = packet->frame_bytes;
	record->interface = packet->interface;
	record->taken_vlan = packet->taken_vlan;
	u64 flags = used >= settings->wake_bytes ? RINGBUF_FORCE_WAKEUP : RINGBUF_NO_WAKEUP;
	return !ringbuf_output(&FLOW_RING, record, PACKET_HEAD + size, flags);
}

/* Begins a flow with this packet; goes on with the connection that was here if that is to be remembered. */
INLINE void begin(struct slot *slot, const struct packet *packet, u64 *number, bool remembers, u64 now)
{
	struct flow *flow = &slot->flow;
	u32 descending = remembers ? flow->descending : packet->descending;
	u8 opener = remembers ? flow->opener : 2;
	u8 state = remembers ? flow->tcp_state : TCP_MIDSTREAM;
	if (slot->state != SLOT_VACANT)
		clear_flow(flow);
	flow->descending = descending;
	flow->opener = opener;
	flow->tcp_state = state;
	flow->number = __sync_fetch_and_add(number, 1);
	flow->first = now;
	flow->last = now;
	flow->active_since = now;
	flow->reported = now;
	flow->interface = packet->interface;
	flow->vlan = packet->vlan;
	flow->inner_vlan = packet->inner_vlan;
	flow->has_macs = packet->has_macs;
	bool backward = packet->descending != descending;
	/* In the packet the destination comes first. */
	__builtin_memcpy(backward ? flow->source_mac : flow->destination_mac, packet->macs, 6);
	__builtin_memcpy(backward ? flow->destination_mac : flow->source_mac, packet->macs + 6, 6);
	slot->state = SLOT_LIVE;
}

/*
 * Reads a word of each part of a flow that a packet changes, so that the processor fetches them all at once. It would
 * come to them one after another, and fetches nothing beyond the lock before that is taken.
 */
INLINE void bring_near(struct flow *flow, u32 from)
{
	struct flow_side *side = &flow->sides[from & 1];
	FORGET(flow->gaps.max);
	FORGET(flow->run_first);
	FORGET(flow->sampled);
	FORGET(flow->sample_gaps[15]);
	FORGET(side->last);
	FORGET(side->payload.max);
	FORGET(side->packets);
	FORGET(side->first_length);
}

INLINE struct desk *clean_desk(void)
{
	u32 zero = 0;
	struct desk *desk = map_lookup(&DESK, &zero);
	if (!desk)
		return 0;
	__builtin_memset(desk, 0, sizeof(*desk));
	desk->packet.vlan = NO_VLAN;
	desk->packet.inner_vlan = NO_VLAN;
	desk->packet.taken_vlan = NO_VLAN;
	return desk;
}

INLINE void meter(const struct source *from, struct desk *desk)
{
	struct packet *packet = &desk->packet;
	u32 zero = 0, ended_key = DRAFT_ENDED, begun_key = DRAFT_BEGUN;
	struct flow_counts *counts = map_lookup(&FLOW_COUNTS, &zero);
	struct flow_settings *settings = map_lookup(&FLOW_SETTINGS, &zero);
	u64 *number = map_lookup(&FLOW_NUMBER, &zero);
	struct flow_report *ended = map_lookup(&DRAFT, &ended_key), *begun = map_lookup(&DRAFT, &begun_key);
	struct flow_packet *record = map_lookup(&PACKET, &zero);
	if (!counts || !settings || !number || !ended || !begun || !record)
		return;
	/* Nothing else that counts packets runs on this processor meanwhile. */
	counts->seen++;
	u32 why = decode(from, settings, packet);
	u64 now = boot_ns();
	if (why == UNKNOWN || (why == FOUND && is_handed(packet, settings))) {
		record->phase = PACKET_HANDED;
		if (hand_packet(from, packet, record, settings, now))
			counts->handed++;
		else
			counts->skipped[SKIP_NO_RING]++;
		return;
	}
	if (why != FOUND) {
		counts->skipped[why & 7]++;
		return;
	}
	struct slot *slot = 0;
	for (int attempt = 0; attempt < 4; attempt++) {
		slot = map_lookup(&FLOWS, &packet->key);
		if (!slot) {
			void *blank = map_lookup(&BLANK, &zero);
			if (!blank)
				return;
			/* Another processor may have been faster. */
			map_update(&FLOWS, &packet->key, blank, UPDATE_NOEXIST);
			slot = map_lookup(&FLOWS, &packet->key);
			if (!slot) {
				counts->skipped[SKIP_NO_ROOM]++;
				return;
			}
		}
		if (*(volatile u32 *)&slot->state != SLOT_CONDEMNED)
			break;
	}
	/* What has to be read of the packet is read before the lock is taken. */
	u32 side = packet->descending != slot->flow.descending;
	bring_near(&slot->flow, side);
	bool is_read = !settings->read_payloads || slot->flow.read >> side & 1;
	bool is_known = is_read && slot->flow.collected >> side & 1 && slot->state == SLOT_LIVE &&
			!cut(&slot->flow, packet, settings, now);
	FORGET(desk->payload_bytes) = is_known ? 0 : packet->payload_here;
	u32 payload_bytes = FORGET(desk->payload_bytes);
	if (payload_bytes > FIRST_BYTES)
		payload_bytes = FIRST_BYTES;
	opaque(payload_bytes);
	if (payload_bytes > 0 && payload_bytes <= FIRST_BYTES)
		load(from, packet->payload_at, desk->payload, payload_bytes);
	FORGET(desk->payload_bytes) = payload_bytes;
	if (packet->has_tcp && packet->flags & FLAG_SYN) {
		u32 size = packet->options_length;
		opaque(size);
		if (size > 0 && size <= OPTION_BYTES)
			load(from, packet->options_at, desk->options, size);
	}
	FORGET(desk->end) = END_NONE;
	spin_lock(&slot->lock);
	struct flow *flow = &slot->flow;
	if (slot->state == SLOT_CONDEMNED) {
		desk->busy = 1;
	} else {
		if (slot->state == SLOT_LIVE) {
			FORGET(desk->end) = cut(flow, packet, settings, now);
			if (FORGET(desk->end)) {
				copy_flow(&ended->flow, flow);
				desk->remembers = is_remembered(flow, FORGET(desk->end));
			}
		} else if (slot->state == SLOT_DORMANT) {
			desk->remembers = 1;
		}
		if (slot->state != SLOT_LIVE || FORGET(desk->end)) {
			bool opens = packet->has_tcp && (packet->flags & (FLAG_SYN | FLAG_ACK)) == FLAG_SYN;
			begin(slot, packet, number, FORGET(desk->remembers) && !opens, now);
			desk->is_new = 1;
		}
		count_packet(flow, packet, settings, desk->payload, FORGET(desk->payload_bytes), desk->options, now);
		FORGET(desk->shows) = is_shown(flow, packet, settings, desk->payload, FORGET(desk->payload_bytes));
		if (FORGET(desk->shows)) {
			record->number = flow->number;
			record->from = packet->descending != flow->descending;
			record->opened = flow->syn && flow->opener == record->from;
			record->syn_seq = flow->syn_seq;
		}
		if (FORGET(desk->is_new) && settings->start_records)
			copy_flow(&begun->flow, flow);
	}
	spin_unlock(&slot->lock);
	if (FORGET(desk->busy)) {
		counts->skipped[SKIP_BUSY]++;
		return;
	}
	counts->metered++;
	u32 end = FORGET(desk->end);
	if (end) {
		ended->phase = PHASE_END;
		ended->end = end;
		ended->time = now;
		ended->key = packet->key;
		hand_over(ended, counts, settings);
	}
	/* Before the flow is told of: what is read belongs to its first record. */
	if (FORGET(desk->shows)) {
		record->phase = PACKET_SHOWN;
		if (!hand_packet(from, packet, record, settings, now))
			counts->unread++;
	}
	if (FORGET(desk->is_new)) {
		counts->flows++;
		if (settings->start_records) {
			begun->phase = PHASE_START;
			begun->end = END_NONE;
			begun->time = now;
			begun->key = packet->key;
			hand_over(begun, counts, settings);
		}
	}
}

/* Both directions of an interface: the same program at its entry and its exit. */
SECTION("classifier") int meter_packet(struct __sk_buff *skb)
{
	struct source from = { .context = skb, .length = skb->len, .is_xdp = 0 };
	struct desk *desk = clean_desk();
	if (!desk)
		return -1;
	desk->packet.interface = skb->ifindex;
	/* The outermost tag has been taken off. */
	if (skb->vlan_present) {
		desk->packet.taken_vlan = skb->vlan_tci & 0xfff;
		push_vlan(&desk->packet, skb->vlan_tci);
	}
	meter(&from, desk);
	/* Whatever comes next decides. */
	return -1;
}

/* Packets may lie in several pieces, as large ones do. */
SECTION("xdp.frags") int meter_received(struct xdp_md *xdp)
{
	struct source from = { .context = xdp, .is_xdp = 1 };
	from.length = xdp_length(xdp);
	struct desk *desk = clean_desk();
	if (!desk)
		return 2;
	desk->packet.interface = xdp->ingress_ifindex;
	meter(&from, desk);
	/* XDP_PASS */
	return 2;
}

INLINE u32 age_class(u64 seconds)
{
	u32 class = 0;
	UNROLL
	for (int n = 0; n < 15; n++)
		class += seconds >> n != 0;
	return class & 15;
}

/* Why a flow ends without a packet. */
INLINE u32 expired(const struct flow *flow, const struct flow_settings *settings, u64 now, bool *evicted)
{
	u32 why = END_NONE;
	if (settings->finish)
		why = END_SOURCE;
	else if (settings->evict_before && flow->last < settings->evict_before)
		why = END_EVICTED;
	if (!settings->never_expire) {
		if (flow->ending && (why || now > flow->end_at))
			return flow->ending;
		if (!why && elapsed(flow->last, now) > settings->idle)
			why = END_IDLE;
		if (!why && elapsed(flow->first, now) > settings->active)
			why = END_ACTIVE;
		if (why && flow->ending)
			return flow->ending;
	}
	*evicted = why == END_EVICTED;
	return why;
}

/* What a sweep looks for. */
struct sweep {
	u64 now;
	u64 idle, active, update;
	u64 evict_before;
	u32 finish, never_expire;
};

/*
 * Whether something may be due, without the lock: most flows are left alone. What changes at this moment is found by the
 * next sweep.
 */
INLINE bool may_be_due(const struct slot *slot, u32 state, const struct sweep *sweep)
{
	const struct flow *flow = &slot->flow;
	u64 now = sweep->now, last = flow->last;
	if (state == SLOT_DORMANT)
		return sweep->finish || sweep->evict_before || elapsed(last, now) > HOUR_NS;
	if (state != SLOT_LIVE)
		return state == SLOT_CONDEMNED;
	if (sweep->finish || last < sweep->evict_before)
		return 1;
	if (!sweep->never_expire && ((flow->ending && now > flow->end_at) || elapsed(last, now) > sweep->idle ||
				     elapsed(flow->first, now) > sweep->active))
		return 1;
	return sweep->update && elapsed(flow->reported, now) >= sweep->update && flow->dirty;
}

INLINE void take_census(struct flow_census *census, u32 state, u64 last, u64 now)
{
	census->live += state == SLOT_LIVE || state == SLOT_VACANT;
	census->dormant += state == SLOT_DORMANT;
	u64 age = elapsed(last, now);
	if (state == SLOT_LIVE)
		census->ages[age < 1000000000 ? 0 : age_class(age / 1000000000) & 15]++;
}

static long sweep_one(void *map, struct flow_key *key, struct slot *slot, void *context)
{
	u32 zero = 0, draft = DRAFT_SWEPT;
	const struct sweep *sweep = context;
	struct flow_census *census = map_lookup(&FLOW_CENSUS, &zero);
	if (!census)
		return 1;
	u32 before = *(volatile u32 *)&slot->state;
	if (!may_be_due(slot, before, sweep)) {
		take_census(census, before, slot->flow.last, sweep->now);
		return 0;
	}
	struct flow_settings *settings = map_lookup(&FLOW_SETTINGS, &zero);
	struct flow_counts *counts = map_lookup(&FLOW_COUNTS, &zero);
	struct flow_report *report = map_lookup(&DRAFT, &draft);
	if (!settings || !counts || !report)
		return 1;
	/* What waits for the next sweep is not lost. */
	bool has_room = ringbuf_query(&FLOW_RING, 0) + 64 * sizeof(*report) < ringbuf_query(&FLOW_RING, 1);
	u64 now = boot_ns();
	u64 last = 0;
	u32 why = END_NONE, state;
	bool tells = 0, waits = 0, evicted = 0;
	spin_lock(&slot->lock);
	struct flow *flow = &slot->flow;
	if (slot->state == SLOT_LIVE) {
		why = expired(flow, settings, now, &evicted);
		bool update = !why && flow->dirty && !flow->ending && settings->update &&
			      elapsed(flow->reported, now) >= settings->update;
		waits = (why || update) && !has_room;
		tells = (why || update) && has_room;
		if (tells) {
			copy_flow(&report->flow, flow);
			flow->dirty = 0;
			flow->reported = now;
		}
		if (tells && why)
			slot->state = is_remembered(flow, why) && !settings->never_expire ? SLOT_DORMANT : SLOT_CONDEMNED;
	} else if (slot->state == SLOT_DORMANT) {
		if (settings->finish || settings->evict_before || elapsed(flow->last, now) > HOUR_NS)
			slot->state = SLOT_CONDEMNED;
	}
	state = slot->state;
	last = flow->last;
	spin_unlock(&slot->lock);
	if (tells)
		report->key = *key;
	if (state == SLOT_CONDEMNED)
		map_delete(&FLOWS, key);
	if (tells) {
		report->phase = why ? PHASE_END : PHASE_UPDATE;
		report->end = why;
		report->time = now;
		hand_over(report, counts, settings);
	}
	take_census(census, state, last, now);
	census->waiting += waits;
	census->evicted += tells && evicted;
	return 0;
}

/* Run by the reader. What is due is handed over, and the flows are counted. */
SECTION("classifier") int sweep_flows(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct flow_settings *settings = map_lookup(&FLOW_SETTINGS, &zero);
	if (!settings)
		return 0;
	struct sweep sweep = {
		.now = boot_ns(),
		.idle = settings->idle,
		.active = settings->active,
		.update = settings->update,
		.evict_before = settings->evict_before,
		.finish = settings->finish,
		.never_expire = settings->never_expire,
	};
	for_each(&FLOWS, sweep_one, &sweep, 0);
	return 0;
}
