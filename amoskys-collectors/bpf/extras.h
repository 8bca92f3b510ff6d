/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Hooks at functions of the kernel and of its security modules, which not all kernels take: fentry, fexit, kprobe, LSM.
 * They see what no tracepoint does, or not on this kernel; nothing else depends on them.
 */
#pragma once

#include "network.h"

/* Before 6.14 no tracepoint tells of capabilities. */
SECTION("fexit/cap_capable") int exit_capability(u64 *arguments)
{
	on_capability_asked(arguments[2], arguments[4]);
	return 0;
}

/* System calls of 32 bits, by such programs or with the instruction for it: the tracepoints of calls leave them out. */
INLINE bool is_compat(struct task_struct *task)
{
	return IS_COMPAT(task);
}

/* Calls that are told when they return, or, of programs, by what is executed. */
INLINE bool is_told_otherwise(struct task_struct *task, u64 number)
{
	if (is_compat(task))
		return number == CALL_COMPAT_EXECVE || number == CALL_COMPAT_EXECVEAT;
	switch (number) {
	case CALL_EXECVE:
	case CALL_EXECVEAT:
	case CALL_SETUID:
	case CALL_SETGID:
	case CALL_SETREUID:
	case CALL_SETREGID:
	case CALL_SETRESUID:
	case CALL_SETRESGID:
	case CALL_SETFSUID:
	case CALL_SETFSGID:
	case CALL_SETGROUPS:
	case CALL_CAPSET:
		return 1;
	}
	return 0;
}

/* Whether users, groups or capabilities are others. Keys and the like are none of our concern. */
INLINE bool differ(struct cred *one, struct cred *other)
{
	struct credentials before, after;
	__builtin_memset(&before, 0, sizeof(before));
	__builtin_memset(&after, 0, sizeof(after));
	describe_credentials(&before, one);
	describe_credentials(&after, other);
	return before.uid != after.uid || before.euid != after.euid || before.suid != after.suid ||
	       before.gid != after.gid || before.egid != after.egid || before.sgid != after.sgid ||
	       before.effective != after.effective || before.permitted != after.permitted ||
	       before.inheritable != after.inheritable || before.ambient != after.ambient;
}

/* Credentials are about to change, by any way through the kernel. */
INLINE void on_commit(struct cred *cred)
{
	struct looked_at call;
	struct task_struct *task = (void *)current_task();
	struct pt_regs *regs = call_registers(task);
	u64 number = FIELD(CALL_NUMBER(regs));
	if (FIELD(task->flags) & PF_KTHREAD || is_told_otherwise(task, number) || !differ(FIELD(task->cred), cred))
		return;
	call.counts = admit(KIND_CREDENTIALS, &call.settings);
	if (!call.counts)
		return;
	struct scratch *scratch = take(call.counts, 0);
	if (!scratch)
		return;
	struct process *body = (void *)scratch->draft.rest;
	name_task(&scratch->draft.header, KIND_CREDENTIALS, task);
	empty_process(body);
	describe_process(body, task);
	describe_credentials(&body->credentials, cred);
	scratch->draft.header.uid = body->credentials.euid;
	scratch->draft.header.gid = body->credentials.egid;
	body->call = number;
	send(scratch, call.counts, call.settings, sizeof(*body), append_cgroup(sizeof(*body), task));
}

SECTION("fentry/commit_creds") int enter_commit(u64 *arguments)
{
	on_commit((void *)arguments[0]);
	return 0;
}

SECTION("kprobe/commit_creds") int probe_commit(struct pt_regs *regs)
{
	on_commit((void *)FUNCTION_ARGUMENT_0(regs));
	return 0;
}

/* The address as a number, which is all that functions of their own take. The verifier knows it for a pointer. */
INLINE u64 as_number(const void *address)
{
	u64 number = 0;
	read_kernel(&number, sizeof(number), &address);
	return number;
}

/* A file is about to be opened by a call of 32 bits. */
INLINE void on_compat_open(struct file *file)
{
	struct looked_at call;
	call.task = (void *)current_task();
	if (!is_compat(call.task))
		return;
	u32 kind = FIELD(file->f_mode) & FMODE_CREATED ? KIND_CREATE : KIND_OPEN;
	call.counts = admit(kind, &call.settings);
	if (!call.counts)
		return;
	call.result = 0;
	if (!describe(&call, kind, 0))
		return;
	u32 length = append_path(TEXT, __builtin_preserve_access_index(&file->f_path));
	if (!is_watched(TEXT, length)) {
		give_up(call.scratch, call.counts, DROP_PATH);
		return;
	}
	call.body->via = 2;
	call.body->lengths[0] = length;
	call.body->arguments[0] = FIELD(file->f_flags);
	report(&call, length);
}

SECTION("lsm/file_open") int judge_open(u64 *arguments)
{
	on_compat_open((void *)as_number((void *)arguments[0]));
	return 0;
}

SECTION("fentry/security_file_open") int enter_open(u64 *arguments)
{
	on_compat_open((void *)as_number((void *)arguments[0]));
	return 0;
}
