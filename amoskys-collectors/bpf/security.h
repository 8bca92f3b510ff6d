/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * System calls that matter to security. They are looked at when they return: the result is known, the path of an opened
 * file is that of the file and not what was asked for, and one tracepoint instead of two is paid for.
 */
#pragma once

#include "process.h"

#define EPERM 1
#define EACCES 13
#define EBADF 9
#define EINPROGRESS 115
#define ENOTSOCK 88
#define EROFS 30

/* A call that has returned: what it was, and the record it is to become. */
struct looked_at {
	struct counts *counts;
	struct settings *settings;
	struct scratch *scratch;
	struct activity *body;
	struct task_struct *task;
	struct pt_regs *registers;
	s64 result;
};

INLINE bool is_telling(struct settings *settings, s64 result)
{
	return result >= 0 || !settings->only_denied || result == -EPERM || result == -EACCES || result == -EROFS;
}

/* Begins with a call. False if it is left out, which has been counted. */
INLINE bool look(struct looked_at *call, struct call_exit *exit, u32 kind)
{
	call->counts = admit(kind, &call->settings);
	if (!call->counts)
		return 0;
	call->result = exit->result;
	call->task = (void *)current_task();
	call->registers = call_registers(call->task);
	return 1;
}

INLINE bool look_at_success(struct looked_at *call, struct call_exit *exit, u32 kind)
{
	if (!look(call, exit, kind))
		return 0;
	if (is_telling(call->settings, call->result))
		return 1;
	count_drop(call->counts, DROP_FAILED);
	return 0;
}

#define ARGUMENT(call, number)                              \
	({                                                   \
		struct pt_regs *registers_ = (call)->registers; \
		FIELD(ARGUMENT_##number(registers_));        \
	})
/* Where text begins. */
#define TEXT sizeof(struct activity)

/* Takes a place for the record and fills in who did it. */
INLINE bool describe(struct looked_at *call, u32 kind, u32 which)
{
	struct scratch *scratch = take(call->counts, which);
	if (!scratch)
		return 0;
	call->scratch = scratch;
	call->body = (void *)scratch->draft.rest;
	name_task(&scratch->draft.header, kind, call->task);
	__builtin_memset(call->body, 0, sizeof(*call->body));
	call->body->result = call->result;
	return 1;
}

/* Sends the record, whose text has so many bytes. */
INLINE void report(struct looked_at *call, u32 text)
{
	send(call->scratch, call->counts, call->settings, sizeof(*call->body), TEXT + text);
}

/* Files. */

/* A call about one path, given relative to `directory`; `second` is another one or 0. */
INLINE void on_path(struct looked_at *call, u32 kind, s64 directory, u64 given, s64 second_directory, u64 second,
		    u64 flags, u64 number, u64 amount)
{
	if (!describe(call, kind, 0))
		return;
	struct scratch *scratch = call->scratch;
	struct activity *body = call->body;
	u32 at = body->lengths[0] = append_given(TEXT, directory, given);
	bool wanted = is_watched(TEXT, at) || has_dots(TEXT);
	if (second) {
		u32 more = append_given(TEXT + at, second_directory, second);
		body->lengths[1] = more;
		wanted = wanted || is_watched(TEXT + at, more) || has_dots(TEXT + at);
		at += more;
	}
	if (!wanted) {
		give_up(scratch, call->counts, DROP_PATH);
		return;
	}
	body->arguments[0] = flags;
	body->arguments[1] = number;
	body->arguments[2] = amount;
	report(call, at);
}

/* A call about an open file. */
INLINE void on_file(struct looked_at *call, u32 kind, s64 number, u64 flags, u64 mode, u64 amount)
{
	if (!describe(call, kind, 0))
		return;
	u32 length = append_file(TEXT, number);
	if (!is_watched(TEXT, length)) {
		give_up(call->scratch, call->counts, DROP_PATH);
		return;
	}
	call->body->lengths[0] = length;
	call->body->arguments[0] = flags;
	call->body->arguments[1] = mode;
	call->body->arguments[2] = amount;
	report(call, length);
}

#define O_CREAT 0100
/* Of a file's mode: this opening made it. */
#define FMODE_CREATED (1 << 20)

INLINE void on_open(struct call_exit *exit, struct looked_at *call, s64 directory, u64 given, u64 flags, u64 mode)
{
	if (call->result < 0) {
		on_path(call, KIND_OPEN, directory, given, 0, 0, flags, mode, 0);
		return;
	}
	u32 kind = KIND_OPEN;
	if (flags & O_CREAT) {
		struct file *file = file_of(call->task, call->result);
		if (FIELD(file->f_mode) & FMODE_CREATED) {
			/* What was counted as an opening is a creation. */
			__sync_fetch_and_add(&call->counts->seen, -1);
			call->counts = admit(KIND_CREATE, &call->settings);
			if (!call->counts)
				return;
			kind = KIND_CREATE;
		}
	}
	on_file(call, kind, call->result, flags, mode, 0);
}

#define CALL(name) SECTION("tracepoint/syscalls/sys_exit_" #name) int call_##name(struct call_exit *exit)

/* Calls that only old tables have. */
#ifdef __TARGET_x86_64
CALL(open)
{
	struct looked_at call;
	if (look_at_success(&call, exit, KIND_OPEN))
		on_open(exit, &call, -100, ARGUMENT(&call, 0), ARGUMENT(&call, 1), ARGUMENT(&call, 2));
	return 0;
}

CALL(creat)
{
	struct looked_at call;
	if (look_at_success(&call, exit, KIND_OPEN))
		on_open(exit, &call, -100, ARGUMENT(&call, 0), O_CREAT | 01001, ARGUMENT(&call, 1));
	return 0;
}
#endif

CALL(openat)
{
	struct looked_at call;
	if (look_at_success(&call, exit, KIND_OPEN))
		on_open(exit, &call, ARGUMENT(&call, 0), ARGUMENT(&call, 1), ARGUMENT(&call, 2), ARGUMENT(&call, 3));
	return 0;
}

CALL(openat2)
{
	struct looked_at call;
	u64 how[2] = {};
	if (!look_at_success(&call, exit, KIND_OPEN))
		return 0;
	read_user(how, sizeof(how), (void *)ARGUMENT(&call, 2));
	on_open(exit, &call, ARGUMENT(&call, 0), ARGUMENT(&call, 1), how[0], how[1]);
	return 0;
}

/* The path is that of the file; who may not gives none. */
CALL(open_by_handle_at)
{
	struct looked_at call;
	if (!look_at_success(&call, exit, KIND_OPEN))
		return 0;
	if (call.result < 0)
		count_drop(call.counts, DROP_PATH);
	else
		on_file(&call, KIND_OPEN, call.result, ARGUMENT(&call, 2), 0, 0);
	return 0;
}

#define PATH_CALL(name, kind, directory, given, directory2, second, flags, number, amount)                            \
	CALL(name)                                                                                                   \
	{                                                                                                            \
		struct looked_at call;                                                                               \
		if (look_at_success(&call, exit, kind))                                                              \
			on_path(&call, kind, directory, given, directory2, second, flags, number, amount);           \
		return 0;                                                                                            \
	}

#define A(number) ARGUMENT(&call, number)
#define AT_REMOVEDIR 0x200
#define OWNER(uid, gid) ((u64)(u32)(uid) << 32 | (u32)(gid))
/* Written and cut, as by an opening that is not made. */
#define CUTTING 01001

PATH_CALL(truncate, KIND_OPEN, -100, A(0), 0, 0, CUTTING, 0, 0)
PATH_CALL(mknodat, KIND_CREATE, A(0), A(1), 0, 0, 0, A(2), 0)
PATH_CALL(unlinkat, KIND_UNLINK, A(0), A(1), 0, 0, A(2), 0, 0)
PATH_CALL(renameat, KIND_RENAME, A(0), A(1), A(2), A(3), 0, 0, 0)
PATH_CALL(renameat2, KIND_RENAME, A(0), A(1), A(2), A(3), A(4), 0, 0)
PATH_CALL(fchmodat, KIND_CHMOD, A(0), A(1), 0, 0, 0, A(2) & 07777, 0)
PATH_CALL(fchmodat2, KIND_CHMOD, A(0), A(1), 0, 0, A(3), A(2) & 07777, 0)
PATH_CALL(fchownat, KIND_CHOWN, A(0), A(1), 0, 0, A(4), 0, OWNER(A(2), A(3)))
/* The new name first, then what it leads to. */
PATH_CALL(linkat, KIND_LINK, A(2), A(3), A(0), A(1), A(4), 0, 0)
PATH_CALL(symlinkat, KIND_LINK, A(1), A(2), -100, A(0), 0, 1, 0)

#ifdef __TARGET_x86_64
PATH_CALL(mknod, KIND_CREATE, -100, A(0), 0, 0, 0, A(1), 0)
PATH_CALL(unlink, KIND_UNLINK, -100, A(0), 0, 0, 0, 0, 0)
PATH_CALL(rmdir, KIND_UNLINK, -100, A(0), 0, 0, AT_REMOVEDIR, 0, 0)
PATH_CALL(rename, KIND_RENAME, -100, A(0), -100, A(1), 0, 0, 0)
PATH_CALL(chmod, KIND_CHMOD, -100, A(0), 0, 0, 0, A(1) & 07777, 0)
PATH_CALL(chown, KIND_CHOWN, -100, A(0), 0, 0, 0, 0, OWNER(A(1), A(2)))
PATH_CALL(lchown, KIND_CHOWN, -100, A(0), 0, 0, 0x100, 0, OWNER(A(1), A(2)))
PATH_CALL(link, KIND_LINK, -100, A(1), -100, A(0), 0, 0, 0)
PATH_CALL(symlink, KIND_LINK, -100, A(1), -100, A(0), 0, 1, 0)
#endif

CALL(fchmod)
{
	struct looked_at call;
	if (look_at_success(&call, exit, KIND_CHMOD))
		on_file(&call, KIND_CHMOD, A(0), 0, A(1) & 07777, 0);
	return 0;
}

CALL(fchown)
{
	struct looked_at call;
	if (look_at_success(&call, exit, KIND_CHOWN))
		on_file(&call, KIND_CHOWN, A(0), 0, 0, OWNER(A(1), A(2)));
	return 0;
}

/* Other processes, memory, and the kernel. */

/* A call that is reported as it is. */
#define PLAIN_CALL(name, kind, flags, number, amount, target)          \
	CALL(name)                                                     \
	{                                                              \
		struct looked_at call;                                 \
		if (!look_at_success(&call, exit, kind))               \
			return 0;                                      \
		u64 arguments[3] = { flags, number, amount };          \
		u32 target_pid = target;                               \
		if (!describe(&call, kind, 0))                         \
			return 0;                                      \
		call.body->arguments[0] = arguments[0];                \
		call.body->arguments[1] = arguments[1];                \
		call.body->arguments[2] = arguments[2];                \
		call.body->target_pid = target_pid;                    \
		report(&call, 0);                                      \
		return 0;                                              \
	}

PLAIN_CALL(process_vm_readv, KIND_MEMORY_READ, A(5), 0, call.result, A(0))
PLAIN_CALL(process_vm_writev, KIND_MEMORY_WRITE, A(5), 0, call.result, A(0))
PLAIN_CALL(unshare, KIND_UNSHARE, A(0), 0, 0, 0)
PLAIN_CALL(setns, KIND_SETNS, A(1), 0, 0, 0)

#define PTRACE_TRACEME 0
#define PTRACE_ATTACH 16
#define PTRACE_SEIZE 0x4206

CALL(ptrace)
{
	struct looked_at call;
	if (!look_at_success(&call, exit, KIND_PTRACE))
		return 0;
	u64 request = A(0), target = A(1), address = A(2);
	/* Debuggers do the reading and stepping by the thousand; what counts is that memory or registers are written. */
	bool notable = request == PTRACE_TRACEME || request == PTRACE_ATTACH || request == PTRACE_SEIZE ||
		       (request >= 4 && request <= 6) || request == 13 || request == 15 || request == 0x4205;
	if (!notable) {
		count_drop(call.counts, DROP_HARMLESS);
		return 0;
	}
	if (!describe(&call, KIND_PTRACE, 0))
		return 0;
	call.body->arguments[1] = request;
	call.body->arguments[2] = address;
	call.body->target_pid = request == PTRACE_TRACEME ? 0 : target;
	report(&call, 0);
	return 0;
}

#define PROT_WRITE_EXECUTE 6

INLINE void on_protection(struct call_exit *exit, u32 kind, bool is_map)
{
	struct looked_at call;
	if (!look(&call, exit, kind))
		return;
	u64 protection = A(2);
	if ((protection & PROT_WRITE_EXECUTE) != PROT_WRITE_EXECUTE) {
		count_drop(call.counts, DROP_HARMLESS);
		return;
	}
	if (!is_telling(call.settings, call.result)) {
		count_drop(call.counts, DROP_FAILED);
		return;
	}
	u64 address = is_map ? call.result : A(0);
	u64 length = A(1);
	if (!describe(&call, kind, 0))
		return;
	call.body->arguments[0] = protection;
	call.body->arguments[1] = length;
	call.body->arguments[2] = address;
	report(&call, 0);
}

CALL(mmap)
{
	on_protection(exit, KIND_WX_MAP, 1);
	return 0;
}

CALL(mprotect)
{
	on_protection(exit, KIND_WX_PROTECT, 0);
	return 0;
}

CALL(pkey_mprotect)
{
	on_protection(exit, KIND_WX_PROTECT, 0);
	return 0;
}

/* Text number `which` of the record: what a pointer of the call leads to. */
#define TEXT_CALL(name, kind, flags, number, which, given)                                       \
	CALL(name)                                                                               \
	{                                                                                        \
		struct looked_at call;                                                           \
		if (!look_at_success(&call, exit, kind))                                         \
			return 0;                                                                \
		u64 arguments[2] = { flags, number };                                            \
		if (!describe(&call, kind, 0))                                                   \
			return 0;                                                                \
		call.body->arguments[0] = arguments[0];                                          \
		call.body->arguments[1] = arguments[1];                                          \
		call.body->lengths[which] = append(TEXT, (void *)(given), 1);            \
		report(&call, call.body->lengths[which]);                                        \
		return 0;                                                                        \
	}

TEXT_CALL(memfd_create, KIND_MEMFD, A(1), 0, 2, A(0))
TEXT_CALL(umount, KIND_UNMOUNT, A(1), 0, 0, A(0))
TEXT_CALL(delete_module, KIND_MODULE_UNLOAD, A(1), 0, 2, A(0))
TEXT_CALL(init_module, KIND_MODULE_LOAD, 0, A(1), 2, A(2))

CALL(finit_module)
{
	struct looked_at call;
	if (!look(&call, exit, KIND_MODULE_LOAD))
		return 0;
	s64 number = A(0);
	u64 flags = A(2);
	if (!describe(&call, KIND_MODULE_LOAD, 0))
		return 0;
	call.body->arguments[0] = flags;
	call.body->lengths[0] = append_file(TEXT, number);
	report(&call, call.body->lengths[0]);
	return 0;
}

CALL(mount)
{
	struct looked_at call;
	if (!look_at_success(&call, exit, KIND_MOUNT))
		return 0;
	u64 device = A(0), directory = A(1), type = A(2), flags = A(3);
	if (!describe(&call, KIND_MOUNT, 0))
		return 0;
	struct activity *body = call.body;
	body->arguments[0] = flags;
	u32 at = body->lengths[0] = append_given(TEXT, -100, directory);
	body->lengths[1] = append(TEXT + at, (void *)device, 1);
	at += body->lengths[1];
	body->lengths[2] = append(TEXT + at, (void *)type, 1);
	report(&call, at + body->lengths[2]);
	return 0;
}

CALL(move_mount)
{
	struct looked_at call;
	if (!look_at_success(&call, exit, KIND_MOUNT))
		return 0;
	u64 directory = A(2), given = A(3), flags = A(4);
	if (!describe(&call, KIND_MOUNT, 0))
		return 0;
	call.body->arguments[0] = flags;
	call.body->lengths[0] = append_given(TEXT, directory, given);
	report(&call, call.body->lengths[0]);
	return 0;
}

#define BPF_PROG_LOAD 5

CALL(bpf)
{
	struct looked_at call;
	if (!look_at_success(&call, exit, KIND_BPF))
		return 0;
	u64 attributes = A(1);
	u32 type = 0;
	if ((u32)A(0) != BPF_PROG_LOAD) {
		count_drop(call.counts, DROP_HARMLESS);
		return 0;
	}
	if (!describe(&call, KIND_BPF, 0))
		return 0;
	read_user(&type, sizeof(type), (void *)attributes);
	call.body->arguments[1] = type;
	/* The program's name has 16 bytes, at byte 48 of the attributes. */
	u32 length = append(TEXT, (void *)attributes + 48, 1) & 15;
	call.body->lengths[2] = length;
	report(&call, length);
	return 0;
}

/* Users, groups and capabilities: the record is that of a process. */

INLINE void on_credentials(struct call_exit *exit)
{
	struct looked_at call;
	if (!look_at_success(&call, exit, KIND_CREDENTIALS))
		return;
	struct scratch *scratch = take(call.counts, 0);
	if (!scratch)
		return;
	struct process *body = (void *)scratch->draft.rest;
	name_task(&scratch->draft.header, KIND_CREDENTIALS, call.task);
	empty_process(body);
	describe_process(body, call.task);
	body->call = exit->number;
	body->result = exit->result;
	send(scratch, call.counts, call.settings, sizeof(*body), append_cgroup(sizeof(*body), call.task));
}

#define CREDENTIALS_CALL(name)        \
	CALL(name)                    \
	{                             \
		on_credentials(exit); \
		return 0;             \
	}

CREDENTIALS_CALL(setuid)
CREDENTIALS_CALL(setgid)
CREDENTIALS_CALL(setreuid)
CREDENTIALS_CALL(setregid)
CREDENTIALS_CALL(setresuid)
CREDENTIALS_CALL(setresgid)
CREDENTIALS_CALL(setfsuid)
CREDENTIALS_CALL(setfsgid)
CREDENTIALS_CALL(setgroups)
CREDENTIALS_CALL(capset)

/* Signals and capabilities have tracepoints of their own. */

SECTION("tp_btf/signal_generate") int on_signal(u64 *arguments)
{
	struct kernel_siginfo *info = (void *)arguments[1];
	struct task_struct *target = (void *)arguments[2];
	struct looked_at call;
	/* 0 and 1 stand for signals of the kernel itself; the code of one that a process sends is not above 0. */
	if ((u64)info <= 1 || FIELD(info->si_code) > 0)
		return 0;
	call.counts = admit(KIND_SIGNAL, &call.settings);
	if (!call.counts)
		return 0;
	call.task = (void *)current_task();
	call.result = 0;
	struct cred *target_cred = FIELD(target->cred);
	u32 target_uid = FIELD(target_cred->euid.val);
	if (target_uid == current_euid()) {
		count_drop(call.counts, DROP_HARMLESS);
		return 0;
	}
	if (!describe(&call, KIND_SIGNAL, 1))
		return 0;
	struct task_struct *leader = FIELD(target->group_leader);
	call.body->arguments[1] = (u32)arguments[0];
	call.body->target_pid = FIELD(target->tgid);
	call.body->target_uid = target_uid;
	call.body->target_start = FIELD(leader->start_boottime);
	call.body->via = 2;
	report(&call, 0);
	return 0;
}

/* What a process has done before, so that it is told once. */
struct once {
	u64 start;
	u32 pid;
	u16 kind;
	u16 port;
	u8 address[16];
};

struct {
	MAP_UINT(type, MAP_LRU_HASH);
	MAP_TYPE(key, struct once);
	MAP_TYPE(value, u8);
	MAP_UINT(max_entries, 16384);
} ONCE SECTION(".maps");

INLINE bool is_first(struct once *once, struct task_struct *task)
{
	u8 one = 1;
	struct task_struct *leader = FIELD(task->group_leader);
	once->start = FIELD(leader->start_boottime);
	once->pid = FIELD(task->tgid);
	if (map_lookup(&ONCE, once))
		return 0;
	map_update(&ONCE, once, &one, UPDATE_ANY);
	return 1;
}

/* Whether the current process has a capability was asked, and this was the answer: 0 or an error. */
INLINE void on_capability_asked(u32 capability, s32 result)
{
	struct looked_at call;
	call.counts = admit(KIND_CAPABILITY, &call.settings);
	if (!call.counts)
		return;
	call.task = (void *)current_task();
	struct once once = { .kind = KIND_CAPABILITY, .port = capability << 1 | (result != 0) };
	if (!is_first(&once, call.task)) {
		count_drop(call.counts, DROP_REPEATED);
		return;
	}
	call.result = result;
	if (!describe(&call, KIND_CAPABILITY, 1))
		return;
	call.body->arguments[1] = capability;
	call.body->via = 2;
	report(&call, 0);
}

SECTION("tp_btf/cap_capable") int on_capability(u64 *arguments)
{
	on_capability_asked(arguments[3], arguments[4]);
	return 0;
}
