/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Settings, filters and counters: what the programs of both objects have, each object for itself. */
#pragma once

#include "kernel.h"
#include "records.h"

struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct settings);
	MAP_UINT(max_entries, 1);
} SETTINGS SECTION(".maps");

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct counts);
	MAP_UINT(max_entries, KINDS);
} COUNTS SECTION(".maps");

struct {
	MAP_UINT(type, MAP_HASH);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u8);
	MAP_UINT(max_entries, 1024);
} UIDS SECTION(".maps");

struct {
	MAP_UINT(type, MAP_HASH);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, u8);
	MAP_UINT(max_entries, 1024);
} CGROUPS SECTION(".maps");

INLINE u64 in_list(void *list, const void *key, u32 mode)
{
	return (map_lookup(list, key) != 0) == (mode == LIST_ONLY);
}

INLINE void count_drops(struct counts *counts, u32 why, u32 number)
{
	u64 index = why;
	opaque(index);
	__sync_fetch_and_add(&counts->dropped[index & 15], number);
}

INLINE void count_drop(struct counts *counts, u32 why)
{
	count_drops(counts, why, 1);
}

INLINE u32 current_euid(void)
{
	struct task_struct *task = (void *)current_task();
	struct cred *cred = FIELD(task->cred);
	return FIELD(cred->euid.val);
}

/* Why what the current task does is left out, or DROPS if it is not. */
INLINE u32 excluded(struct settings *settings, u32 pid)
{
	if (pid == settings->own_pid)
		return DROP_SELF;
	if (settings->uid_mode) {
		u32 uid = current_euid();
		if (!in_list(&UIDS, &uid, settings->uid_mode))
			return DROP_UID;
	}
	if (settings->cgroup_mode) {
		u64 cgroup = current_cgroup_id();
		if (!in_list(&CGROUPS, &cgroup, settings->cgroup_mode))
			return DROP_CGROUP;
	}
	return DROPS;
}

/* Says who the record is about: `task` and its process. */
INLINE void name_task(struct header *header, u32 kind, struct task_struct *task)
{
	struct task_struct *leader = FIELD(task->group_leader);
	struct cred *cred = FIELD(task->cred);
	header->kind = kind;
	header->cpu = current_cpu();
	header->time = boot_ns();
	header->pid = FIELD(task->tgid);
	header->tid = FIELD(task->pid);
	header->start = FIELD(leader->start_boottime);
	header->uid = FIELD(cred->euid.val);
	header->gid = FIELD(cred->egid.val);
	header->cgroup = current_cgroup_id();
	read_kernel(header->command, sizeof(header->command), __builtin_preserve_access_index(&task->comm));
}

