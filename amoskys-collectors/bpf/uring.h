/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What is asked for in rings of io_uring, which no tracepoint of a system call sees. */
#pragma once

#include "network.h"

/* Operations: part of the kernel's stable interface (include/uapi/linux/io_uring.h). */
enum operation {
	OP_SENDMSG = 9,
	OP_ACCEPT = 13,
	OP_CONNECT = 16,
	OP_OPENAT = 18,
	OP_SEND = 26,
	OP_OPENAT2 = 28,
	OP_RENAMEAT = 35,
	OP_UNLINKAT = 36,
	OP_SYMLINKAT = 38,
	OP_LINKAT = 39,
	OP_SOCKET = 45,
	OP_BIND = 56,
	OP_LISTEN = 57,
};

INLINE u32 append_name(u32 at, struct filename *name)
{
	return append(TEXT + at, FIELD(name->name), 0);
}

INLINE void on_request(struct io_kiocb *request)
{
	u32 operation = FIELD(request->opcode);
	void *command = __builtin_preserve_access_index(&request->file);
	struct looked_at call;
	u32 kind = operation == OP_OPENAT || operation == OP_OPENAT2 ? KIND_OPEN :
		   operation == OP_RENAMEAT			    ? KIND_RENAME :
		   operation == OP_UNLINKAT			    ? KIND_UNLINK :
								      KIND_IO_URING;
	bool notable = kind != KIND_IO_URING || operation == OP_SENDMSG || operation == OP_ACCEPT ||
		       operation == OP_CONNECT || operation == OP_SEND || operation == OP_SYMLINKAT ||
		       operation == OP_LINKAT || operation == OP_SOCKET || operation == OP_BIND || operation == OP_LISTEN;
	call.counts = admit(kind, &call.settings);
	if (!call.counts)
		return;
	if (!notable) {
		count_drop(call.counts, DROP_HARMLESS);
		return;
	}
	call.task = (void *)current_task();
	call.result = 0;
	if (kind == KIND_IO_URING) {
		struct once once = { .kind = KIND_IO_URING, .port = operation };
		if (!is_first(&once, call.task)) {
			count_drop(call.counts, DROP_REPEATED);
			return;
		}
	}
	if (!describe(&call, kind, 0))
		return;
	struct activity *body = call.body;
	u32 at = 0;
	body->via = 1;
	body->arguments[1] = operation;
	if (kind == KIND_OPEN) {
		struct io_open *open = command;
		body->arguments[0] = FIELD(open->how.flags);
		at = body->lengths[0] = append_name(0, FIELD(open->filename));
	} else if (kind == KIND_UNLINK) {
		struct io_unlink *unlink = command;
		at = body->lengths[0] = append_name(0, FIELD(unlink->filename));
	} else if (kind == KIND_RENAME) {
		struct io_rename *rename = command;
		at = body->lengths[0] = append_name(0, FIELD(rename->oldpath));
		body->lengths[1] = append_name(at, FIELD(rename->newpath));
	}
	if (kind != KIND_IO_URING) {
		u32 more = body->lengths[1];
		/* What is relative cannot be resolved here, so it is told. */
		bool relative = call.scratch->draft.rest[TEXT] != '/';
		if (!relative && !is_watched(TEXT, at) && !has_dots(TEXT) &&
		    !(more && is_watched(TEXT + at, more))) {
			give_up(call.scratch, call.counts, DROP_PATH);
			return;
		}
		at += more;
	}
	report(&call, at);
	return;
}

SECTION("tp_btf/io_uring_submit_req") int on_uring(u64 *arguments)
{
	on_request((void *)arguments[0]);
	return 0;
}

/* So it was called before 6.3, and before 6.0, when all operations were in the request, that came behind the ring. */
SECTION("tp_btf/io_uring_submit_sqe") int on_uring_sqe(u64 *arguments)
{
	struct io_kiocb *request = (void *)arguments[0];
	u64 second = arguments[1];
	/* Both are read before one is chosen: the verifier takes no other place in the arguments than a fixed one. */
	opaque(request);
	opaque(second);
	on_request(HAS_FIELD(request->open) ? (void *)second : request);
	return 0;
}
