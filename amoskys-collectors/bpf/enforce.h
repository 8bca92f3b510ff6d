/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Connections that are refused by policy. Attached only if a policy is set. */
#pragma once

#include "network.h"

/* `struct bpf_sock_addr` of include/uapi/linux/bpf.h, as far as it is used. */
struct connecting {
	u32 user_family;
	u32 user_ip4;
	u32 user_ip6[4];
	u32 user_port;
};

struct denied_key {
	/* 32 and those of the address that count. */
	u32 bits;
	u16 port;
	u16 family;
	u8 address[16];
};

struct {
	MAP_UINT(type, MAP_LPM_TRIE);
	MAP_TYPE(key, struct denied_key);
	MAP_TYPE(value, u8);
	MAP_UINT(max_entries, 1024);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
} DENIED SECTION(".maps");

/* 1 lets it pass. */
INLINE int judge(struct denied_key *key, u16 port)
{
	struct looked_at call;
	key->bits = 32 + 128;
	key->port = port;
	if (!map_lookup(&DENIED, key)) {
		key->port = 0;
		if (!map_lookup(&DENIED, key))
			return 1;
	}
	call.counts = admit(KIND_DENIED, &call.settings);
	if (!call.counts)
		return 0;
	call.task = (void *)current_task();
	call.result = -EPERM;
	if (!describe(&call, KIND_DENIED, 0))
		return 0;
	__builtin_memcpy(call.body->remote, key->address, 16);
	call.body->remote_port = port;
	call.body->family = key->family;
	call.body->via = 2;
	/* Killing is for tracepoints: this hook may not. */
	send_record(call.scratch, call.counts, sizeof(struct activity), TEXT);
	return 0;
}

SECTION("cgroup/connect4") int on_connect4(struct connecting *context)
{
	struct denied_key key = { .family = 4 };
	u32 address = context->user_ip4;
	__builtin_memcpy(key.address, &address, 4);
	return judge(&key, swapped(context->user_port));
}

SECTION("cgroup/connect6") int on_connect6(struct connecting *context)
{
	struct denied_key key = { .family = 6 };
	u32 address[4] = { context->user_ip6[0], context->user_ip6[1], context->user_ip6[2], context->user_ip6[3] };
	__builtin_memcpy(key.address, address, 16);
	return judge(&key, swapped(context->user_port));
}
