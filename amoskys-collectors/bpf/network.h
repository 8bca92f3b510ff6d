/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Peers: who is connected to, accepted, listened for and sent to, and which names are asked for. */
#pragma once

#include "security.h"

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10

struct address {
	u16 family;
	u16 port;
	u8 bytes[16];
};

INLINE u16 swapped(u16 value)
{
	return value << 8 | value >> 8;
}

/* An address as a process gives it. */
INLINE void read_given(struct address *to, const void *given)
{
	__builtin_memset(to, 0, sizeof(*to));
	u16 family = 0, port = 0;
	if (read_user(&family, sizeof(family), given))
		return;
	if (family == AF_INET) {
		read_user(to->bytes, 4, given + 4);
		to->family = 4;
	} else if (family == AF_INET6) {
		read_user(to->bytes, 16, given + 8);
		to->family = 6;
	} else {
		to->family = family == AF_UNIX ? 1 : 0;
		return;
	}
	read_user(&port, sizeof(port), given + 2);
	to->port = swapped(port);
}

INLINE struct sock *sock_of(struct task_struct *task, s64 number)
{
	struct file *file = file_of(task, number);
	struct socket *socket = FIELD(file->private_data);
	return FIELD(socket->sk);
}

/* Both ends of a socket, as the kernel has them. */
INLINE void read_ends(struct activity *body, struct sock *sock)
{
	u16 family = FIELD(sock->__sk_common.skc_family);
	body->protocol = FIELD(sock->sk_protocol);
	if (family == AF_INET) {
		body->family = 4;
		read_kernel(body->remote, 4, __builtin_preserve_access_index(&sock->__sk_common.skc_daddr));
		read_kernel(body->local, 4, __builtin_preserve_access_index(&sock->__sk_common.skc_rcv_saddr));
	} else if (family == AF_INET6) {
		body->family = 6;
		read_kernel(body->remote, 16, __builtin_preserve_access_index(&sock->__sk_common.skc_v6_daddr));
		read_kernel(body->local, 16, __builtin_preserve_access_index(&sock->__sk_common.skc_v6_rcv_saddr));
	} else {
		body->family = family == AF_UNIX ? 1 : 0;
		return;
	}
	body->remote_port = swapped(FIELD(sock->__sk_common.skc_dport));
	body->local_port = FIELD(sock->__sk_common.skc_num);
}

INLINE bool is_port_wanted(struct settings *settings, u16 remote, u16 local)
{
	if (!settings->port_mode)
		return 1;
	bool listed = map_lookup(&PORTS, &remote) || map_lookup(&PORTS, &local);
	return listed == (settings->port_mode == LIST_ONLY);
}

/*
 * A call about a socket, and an address given with it or 0. `is_remote`: the address is the peer's. Peers that the
 * process has spoken to before in this way are left out.
 */
INLINE void on_socket(struct looked_at *call, u32 kind, s64 number, u64 given, bool is_remote)
{
	if (call->result == -ENOTSOCK || call->result == -EBADF) {
		count_drop(call->counts, DROP_FAILED);
		return;
	}
	if (call->result != -EINPROGRESS && !is_telling(call->settings, call->result)) {
		count_drop(call->counts, DROP_FAILED);
		return;
	}
	struct address address;
	__builtin_memset(&address, 0, sizeof(address));
	if (given)
		read_given(&address, (void *)given);
	if (!describe(call, kind, 0))
		return;
	struct activity *body = call->body;
	read_ends(body, sock_of(call->task, (s32)number));
	if (address.family) {
		body->family = address.family;
		__builtin_memcpy(is_remote ? body->remote : body->local, address.bytes, 16);
		if (is_remote)
			body->remote_port = address.port;
		else if (address.port)
			body->local_port = address.port;
	}
	u32 length = 0;
	if (body->family == 1 && given) {
		length = append(TEXT, (void *)given + 2, 1);
		body->lengths[0] = length;
	}
	if (!is_port_wanted(call->settings, body->remote_port, body->local_port)) {
		give_up(call->scratch, call->counts, DROP_PORT);
		return;
	}
	struct once once = { .kind = kind, .port = is_remote ? body->remote_port : body->local_port };
	__builtin_memcpy(once.address, is_remote ? body->remote : body->local, 16);
	if (body->family == 1 || body->family == 0) {
		/* Paths are too long for a key; the first bytes tell most apart. */
		read_kernel(once.address, 16, call->scratch->draft.rest + TEXT);
		if (!length)
			__builtin_memset(once.address, 0, 16);
	}
	/* An accepted connection comes from a port of its own each time: the peer is its address. */
	if (kind == KIND_ACCEPT)
		once.port = body->local_port;
	if (!is_first(&once, call->task)) {
		give_up(call->scratch, call->counts, DROP_REPEATED);
		return;
	}
	report(call, length);
}

CALL(connect)
{
	struct looked_at call;
	if (look(&call, exit, KIND_CONNECT))
		on_socket(&call, KIND_CONNECT, A(0), A(1), 1);
	return 0;
}

CALL(bind)
{
	struct looked_at call;
	if (look(&call, exit, KIND_BIND))
		on_socket(&call, KIND_BIND, A(0), A(1), 0);
	return 0;
}

CALL(listen)
{
	struct looked_at call;
	if (look(&call, exit, KIND_LISTEN))
		on_socket(&call, KIND_LISTEN, A(0), 0, 0);
	return 0;
}

CALL(accept)
{
	struct looked_at call;
	if (look(&call, exit, KIND_ACCEPT))
		on_socket(&call, KIND_ACCEPT, call.result, 0, 1);
	return 0;
}

CALL(accept4)
{
	struct looked_at call;
	if (look(&call, exit, KIND_ACCEPT))
		on_socket(&call, KIND_ACCEPT, call.result, 0, 1);
	return 0;
}

#define DNS_PORT 53
#define DNS_BYTES 256
#define IPPROTO_TCP 6

/* A message to port 53, as a question for a name: told each time. */
INLINE void on_question(struct call_exit *exit, s64 number, struct address *to, u64 payload, u64 size)
{
	struct looked_at call;
	if (!look_at_success(&call, exit, KIND_DNS) || !describe(&call, KIND_DNS, 0))
		return;
	struct activity *body = call.body;
	read_ends(body, sock_of(call.task, (s32)number));
	if (to->family) {
		__builtin_memcpy(body->remote, to->bytes, 16);
		body->remote_port = to->port;
	}
	if (body->protocol == IPPROTO_TCP) {
		/* Preceded by its length. */
		payload += 2;
		size -= 2;
	}
	if (size > DNS_BYTES)
		size = DNS_BYTES;
	opaque(size);
	size &= 2 * DNS_BYTES - 1;
	if (size <= DNS_BYTES && !read_user(call.scratch->draft.rest + TEXT, size, (void *)payload))
		body->lengths[0] = size;
	report(&call, body->lengths[0]);
}

/* A message that is sent: to whom, and what is asked if it goes to a name server. */
INLINE void on_message(struct call_exit *exit, s64 number, u64 given, u64 payload, u64 size)
{
	struct looked_at call;
	struct address to;
	__builtin_memset(&to, 0, sizeof(to));
	if (given)
		read_given(&to, (void *)given);
	u16 port = to.port;
	if (!given) {
		struct sock *sock = sock_of((void *)current_task(), (s32)number);
		u16 family = FIELD(sock->__sk_common.skc_family);
		if (family == AF_INET || family == AF_INET6)
			port = swapped(FIELD(sock->__sk_common.skc_dport));
	}
	if (port == DNS_PORT && size > 12)
		on_question(exit, number, &to, payload, size);
	if (!look(&call, exit, KIND_SEND))
		return;
	/* What goes to where the socket is connected was told by the connection. */
	if (!given)
		count_drop(call.counts, DROP_REPEATED);
	else
		on_socket(&call, KIND_SEND, number, given, 1);
}

struct vector {
	u64 base, size;
};

struct message {
	u64 name;
	u64 name_size;
	u64 vectors;
	u64 vector_count;
	u64 control, control_size, flags;
};

/* `which` messages of sendmsg(2) or sendmmsg(2). */
INLINE void on_vectors(struct call_exit *exit, s64 number, u64 at)
{
	struct message message = {};
	struct vector vector = {};
	read_user(&message, sizeof(message), (void *)at);
	read_user(&vector, sizeof(vector), (void *)message.vectors);
	on_message(exit, number, message.name, vector.base, vector.size);
}

CALL(sendto)
{
	struct pt_regs *regs = call_registers((void *)current_task());
	on_message(exit, FIELD(ARGUMENT_0(regs)), FIELD(ARGUMENT_4(regs)), FIELD(ARGUMENT_1(regs)),
		   FIELD(ARGUMENT_2(regs)));
	return 0;
}

CALL(sendmsg)
{
	struct pt_regs *regs = call_registers((void *)current_task());
	on_vectors(exit, FIELD(ARGUMENT_0(regs)), FIELD(ARGUMENT_1(regs)));
	return 0;
}

/* The first two: a resolver asks for both kinds of addresses at once. */
CALL(sendmmsg)
{
	struct pt_regs *regs = call_registers((void *)current_task());
	u64 first = FIELD(ARGUMENT_1(regs));
	on_vectors(exit, FIELD(ARGUMENT_0(regs)), first);
	if (exit->result > 1)
		on_vectors(exit, FIELD(ARGUMENT_0(regs)), first + sizeof(struct message) + 8);
	return 0;
}
