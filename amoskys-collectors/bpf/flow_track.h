/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Counts a packet in its flow, as `src/flow` does: what is written of one is written of the other. All of this runs with
 * the flow's lock held, so nothing here calls a helper.
 */
#pragma once

#include "flow_packet.h"

#define SUBFLOW_GAP_NS 1000000000ull
#define BULK_PACKETS 4
#define BULK_PAUSE_NS 1000000000ull

INLINE u64 elapsed(u64 earlier, u64 later)
{
	return later > earlier ? later - earlier : 0;
}

INLINE void add_length(struct lengths *lengths, u32 length, bool first)
{
	lengths->sum += length;
	lengths->squares += (u64)length * length;
	if (first || length < lengths->min)
		lengths->min = length;
	if (length > lengths->max)
		lengths->max = length;
}

INLINE void add_period(struct periods *periods, u64 period, bool first)
{
	periods->sum += period;
	if (first || period < periods->min)
		periods->min = period;
	if (period > periods->max)
		periods->max = period;
	/* The square has 128 bits; there is no such product here. */
	u64 low = period & 0xffffffff, high = period >> 32;
	u64 cross = low * high;
	u64 square = low * low, above = high * high + (cross >> 31);
	u64 shifted = cross << 33;
	square += shifted;
	above += square < shifted;
	periods->squares_low += square;
	periods->squares_high += above + (periods->squares_low < square);
}

INLINE void raise(struct flow *flow, u8 state)
{
	if (state > flow->tcp_state)
		flow->tcp_state = state;
}

/* Goes on with the connection; says if the packet ends it. */
INLINE u32 advance(struct flow *flow, u32 from, const struct packet *packet, u64 now)
{
	u8 flags = packet->flags;
	u8 opening = flags & (FLAG_SYN | FLAG_ACK);
	if (opening == FLAG_SYN) {
		if (!flow->syn) {
			flow->syn = now;
			flow->syn_seq = packet->seq;
			flow->opener = from;
			raise(flow, flow->syn_ack ? TCP_SYN_RECEIVED : TCP_SYN_SENT);
		}
	} else if (opening == (FLAG_SYN | FLAG_ACK)) {
		if (!flow->syn_ack) {
			flow->syn_ack = now;
			flow->opener = 1 - from;
			raise(flow, TCP_SYN_RECEIVED);
		}
	} else if (opening == FLAG_ACK && !(flags & FLAG_RST) && from == flow->opener) {
		if (flow->tcp_state == TCP_SYN_SENT || flow->tcp_state == TCP_SYN_RECEIVED) {
			flow->ack = now;
			flow->tcp_state = TCP_ESTABLISHED;
		}
	}
	if (flags & FLAG_RST) {
		if (flow->tcp_state == TCP_CLOSED)
			return END_FINISHED;
		if (flow->tcp_state == TCP_SYN_SENT && from != flow->opener)
			flow->tcp_state = TCP_REFUSED;
		else if (flow->tcp_state != TCP_REFUSED)
			flow->tcp_state = TCP_RESET;
		return END_RESET;
	}
	if (flags & FLAG_FIN) {
		flow->finished |= 1 << from;
		raise(flow, flow->finished == 3 ? TCP_CLOSED : TCP_CLOSING);
	}
	return flow->finished == 3 ? END_FINISHED : END_NONE;
}

INLINE void follow(struct flow_side *side, u32 seq, u32 after, u32 payload)
{
	s32 ahead = seq - side->next_seq;
	if (ahead > 0)
		side->out_of_order += payload > 0;
	else if (ahead < 0)
		/* One byte just before the next is how a keep-alive probe looks. */
		side->retransmitted += payload > 1 || (payload == 1 && ahead < -1);
	if ((s32)(after - side->next_seq) > 0)
		side->next_seq = after;
}

INLINE u32 count_tcp(struct flow *flow, struct flow_side *side, u32 from, const struct packet *packet, u64 now)
{
	u8 flags = packet->flags;
	UNROLL
	for (int bit = 0; bit < 8; bit++)
		side->flags[bit] += flags >> bit & 1;
	u32 control = ((flags & FLAG_SYN) != 0) + (flags & FLAG_FIN);
	u32 after = packet->seq + packet->payload_length + control;
	if (!side->seen) {
		side->seen = 1;
		side->window = packet->window;
		side->next_seq = after;
	} else {
		if (packet->window == 0 && !(flags & (FLAG_RST | FLAG_SYN | FLAG_FIN)))
			side->zero_windows++;
		/* A reset's sequence number need not continue anything. */
		if (packet->payload_length + control > 0 && !(flags & FLAG_RST))
			follow(side, packet->seq, after, packet->payload_length);
	}
	/* Nothing changes in the middle of a connection. */
	if (flow->tcp_state == TCP_ESTABLISHED && !(flags & (FLAG_SYN | FLAG_FIN | FLAG_RST)))
		return END_NONE;
	return advance(flow, from, packet, now);
}

INLINE void count_bulk(struct flow *flow, struct flow_side *side, u32 from, u32 payload, u64 now)
{
	u64 pause = elapsed(flow->run_last, now);
	if (flow->run_from != from || flow->run_packets == 0 || pause > BULK_PAUSE_NS) {
		flow->run_first = now;
		flow->run_last = now;
		flow->run_bytes = payload;
		flow->run_packets = 1;
		flow->run_from = from;
		return;
	}
	if (now > flow->run_last)
		flow->run_last = now;
	flow->run_packets++;
	flow->run_bytes += payload;
	if (flow->run_packets > BULK_PACKETS) {
		side->bulk_packets++;
		side->bulk_bytes += payload;
		side->bulk_ns += pause;
	} else if (flow->run_packets == BULK_PACKETS) {
		side->bulk_count++;
		side->bulk_packets += BULK_PACKETS;
		side->bulk_bytes += flow->run_bytes;
		side->bulk_ns += elapsed(flow->run_first, flow->run_last);
	}
}

INLINE void count_side(struct flow_side *side, const struct packet *packet, u64 now)
{
	bool first = side->packets == 0;
	if (first) {
		side->first = now;
		side->last = now;
	} else {
		add_period(&side->gaps, elapsed(side->last, now), side->packets == 1);
		if (now > side->last)
			side->last = now;
	}
	side->packets++;
	side->frame_bytes += packet->frame_bytes;
	add_length(&side->lengths, packet->length, first);
	add_length(&side->payload, packet->payload_length, first);
	side->data_packets += packet->payload_length > 0;
	side->fragments += packet->fragment;
	if (first || packet->header_length < side->header_min)
		side->header_min = packet->header_length;
	if (first || packet->ttl < side->ttl_min)
		side->ttl_min = packet->ttl;
	if (packet->ttl > side->ttl_max)
		side->ttl_max = packet->ttl;
}

INLINE u32 packets_of(const struct flow *flow)
{
	return flow->sides[0].packets + flow->sides[1].packets;
}

/* Whether a packet opens a new connection in place of this one. */
INLINE bool replaces(const struct flow *flow, const struct packet *packet)
{
	if (!packet->has_tcp || (packet->flags & (FLAG_SYN | FLAG_ACK | FLAG_RST | FLAG_FIN)) != FLAG_SYN)
		return 0;
	/* A SYN with the number of the first one was sent again, unless that connection is over. */
	bool other = !flow->syn || flow->syn_seq != packet->seq;
	return flow->finished == 3 || (other && (flow->ending || flow->tcp_state >= TCP_ESTABLISHED));
}

/* Whether the flow is over, so that the packet belongs to a new one, and why. */
INLINE u32 cut(const struct flow *flow, const struct packet *packet, const struct flow_settings *settings, u64 now)
{
	u32 why = END_NONE;
	if (packets_of(flow) >= 0xfffffffe)
		return END_ACTIVE;
	if (settings->never_expire)
		return END_NONE;
	if (flow->ending && now > flow->end_at)
		return flow->ending;
	if (elapsed(flow->last, now) > settings->idle)
		why = END_IDLE;
	else if (elapsed(flow->first, now) > settings->active)
		why = END_ACTIVE;
	else if (replaces(flow, packet))
		why = END_REPLACED;
	return why && flow->ending ? flow->ending : why;
}

/* The connection was opened and not closed, and the flow only fell silent or lasted long: its direction is remembered. */
INLINE bool is_remembered(const struct flow *flow, u32 why)
{
	return (why == END_IDLE || why == END_ACTIVE) && flow->tcp_state == TCP_ESTABLISHED;
}

/* Adds a packet to the counters of its flow. */
INLINE void count_packet(struct flow *flow, const struct packet *packet, const struct flow_settings *settings,
			 const u8 *payload, u32 payload_bytes, const u8 *options, u64 now)
{
	bool first = packets_of(flow) == 0;
	u32 from = packet->descending != flow->descending;
	u64 gap = elapsed(flow->last, now);
	if (!first) {
		add_period(&flow->gaps, gap, packets_of(flow) == 1);
		flow->breaks += gap > SUBFLOW_GAP_NS;
		if (gap > settings->activity) {
			add_period(&flow->active, elapsed(flow->active_since, flow->last), flow->pauses == 0);
			add_period(&flow->idle, gap, flow->pauses == 0);
			flow->pauses++;
			flow->active_since = now;
		}
		if (now > flow->last)
			flow->last = now;
		flow->dirty = 1;
	}
	u32 n = flow->sampled;
	if (n < settings->sequence_length && n < FLOW_SAMPLES) {
		u64 micros = gap / 1000;
		flow->sample_gaps[n] = micros < 0xffffffff ? micros : 0xffffffff;
		flow->sample_lengths[n] = packet->length < 0xffff ? packet->length : 0xffff;
		flow->sample_directions |= from << n;
		flow->sampled = n + 1;
	}
	struct flow_side *side = &flow->sides[from & 1];
	count_side(side, packet, now);
	u32 room = FIRST_BYTES - side->first_length;
	if (payload_bytes && side->first_length < FIRST_BYTES) {
		for (u32 at = 0; at < FIRST_BYTES; at++) {
			if (at >= payload_bytes || at >= room)
				break;
			side->first_bytes[side->first_length & (FIRST_BYTES - 1)] = payload[at];
			side->first_length++;
		}
		if (side->first_length >= FIRST_BYTES)
			flow->collected |= 1 << from;
	}
	if (packet->payload_length > 0)
		count_bulk(flow, side, from, packet->payload_length, now);
	if (!packet->has_tcp)
		return;
	if (packet->flags & FLAG_SYN) {
		side->options_length = packet->options_length;
		__builtin_memcpy(side->options, options, OPTION_BYTES);
	}
	u32 end = count_tcp(flow, side, from, packet, now);
	if (end && !flow->ending && !settings->never_expire) {
		flow->ending = end;
		flow->end_at = now + settings->linger;
	}
}
