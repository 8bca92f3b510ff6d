/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The life of processes: created, program replaced, credentials changed, ended, and there at the start. */
#pragma once

#include "path.h"

INLINE void describe_credentials(struct credentials *to, struct cred *cred)
{
	to->uid = FIELD(cred->uid.val);
	to->euid = FIELD(cred->euid.val);
	to->suid = FIELD(cred->suid.val);
	to->fsuid = FIELD(cred->fsuid.val);
	to->gid = FIELD(cred->gid.val);
	to->egid = FIELD(cred->egid.val);
	to->sgid = FIELD(cred->sgid.val);
	to->fsgid = FIELD(cred->fsgid.val);
	READ(to->effective, cred->cap_effective);
	READ(to->permitted, cred->cap_permitted);
	READ(to->inheritable, cred->cap_inheritable);
	READ(to->bounding, cred->cap_bset);
	READ(to->ambient, cred->cap_ambient);
}

INLINE u32 process_namespace(struct task_struct *task, u32 *inner_pid)
{
	struct pid *pid = FIELD(task->thread_pid);
	u32 level = FIELD(pid->level) & 31;
	/* The array grows with the level, so its element has to be found by hand. */
	u64 size = __builtin_preserve_field_info(pid->numbers[0], 1);
	struct upid *number = (void *)pid + FIELD_OFFSET(pid->numbers[0]) + level * size;
	*inner_pid = FIELD(number->nr);
	struct pid_namespace *ns = FIELD(number->ns);
	return FIELD(ns->ns.inum);
}

INLINE void describe_process(struct process *to, struct task_struct *task)
{
	struct task_struct *parent = FIELD(task->real_parent);
	struct task_struct *parent_leader = FIELD(parent->group_leader);
	struct cred *cred = FIELD(task->cred);
	struct user_namespace *user = FIELD(cred->user_ns);
	struct nsproxy *spaces = FIELD(task->nsproxy);
	struct mnt_namespace *mount = FIELD(spaces->mnt_ns);
	struct net *net = FIELD(spaces->net_ns);
	struct uts_namespace *uts = FIELD(spaces->uts_ns);
	struct ipc_namespace *ipc = FIELD(spaces->ipc_ns);
	struct cgroup_namespace *cgroup = FIELD(spaces->cgroup_ns);

	to->parent_pid = FIELD(parent->tgid);
	to->parent_start = FIELD(parent_leader->start_boottime);
	describe_credentials(&to->credentials, cred);
	to->mount_ns = FIELD(mount->ns.inum);
	to->net_ns = FIELD(net->ns.inum);
	to->uts_ns = FIELD(uts->ns.inum);
	to->ipc_ns = FIELD(ipc->ns.inum);
	to->cgroup_ns = FIELD(cgroup->ns.inum);
	to->user_ns = FIELD(user->ns.inum);
	to->pid_ns = process_namespace(task, &to->inner_pid);
}

INLINE void describe_executable(struct process *to, struct file *file)
{
	struct inode *inode = FIELD(file->f_inode);
	struct super_block *device = FIELD(inode->i_sb);
	to->inode = FIELD(inode->i_ino);
	to->device = FIELD(device->s_dev);
	to->mode = FIELD(inode->i_mode);
	to->links = FIELD(inode->i_nlink);
}

INLINE struct cgroup *cgroup_of(struct task_struct *task)
{
	struct css_set *set = FIELD(task->cgroups);
	struct cgroup *unified = FIELD(set->dfl_cgrp);
	/* Where the unified hierarchy is not used, the hierarchy that counts processes tells containers apart. */
	u32 pids = __builtin_preserve_enum_value(*(enum cgroup_subsys_id *)pids_cgrp_id, 1);
	struct cgroup_subsys_state **states = __builtin_preserve_access_index(&set->subsys[0]);
	struct cgroup_subsys_state *state = 0;
	read_kernel(&state, sizeof(state), states + (pids & 15));
	struct cgroup *by_pids = FIELD(state->cgroup);
	/* In the unified one processes need not be counted group by group: then this is a group further out. */
	return by_pids && FIELD(by_pids->root) != FIELD(unified->root) ? by_pids : unified;
}

/* Appends the names of a process's cgroup and of the one around it. Where the text ends. */
FUNCTION u32 append_cgroup_of(u32 at, u64 address)
{
	struct task_struct *task = (void *)address;
	struct scratch *scratch = own_scratch();
	if (!scratch)
		return 0;
	struct process *to = (void *)scratch->draft.rest;
	struct cgroup *inner = cgroup_of(task);
	struct kernfs_node *node = FIELD(inner->kn);
	u32 length = to->lengths[5] = append(at, FIELD(node->name), 0);
	at += length;
	struct cgroup_subsys_state *outer = FIELD(inner->self.parent);
	struct cgroup *around = FIELD(outer->cgroup);
	node = FIELD(around->kn);
	length = to->lengths[6] = append(at, FIELD(node->name), 0);
	return at + length;
}

INLINE u32 append_cgroup(u32 at, struct task_struct *task)
{
	/* Read, the address is a number to the verifier. All threads of a process are in the same group. */
	return append_cgroup_of(at, (u64)FIELD(task->group_leader));
}

/* Arguments end here; the last may be cut. */
#define ARGUMENT_BYTES 1024

INLINE void empty_process(struct process *to)
{
	__builtin_memset(to, 0, sizeof(*to));
}

SECTION("tp_btf/sched_process_exec") int on_exec(u64 *arguments)
{
	struct task_struct *task = (void *)arguments[0];
	struct linux_binprm *program = (void *)arguments[2];
	struct settings *settings;
	struct counts *counts = admit(KIND_EXEC, &settings);
	if (!counts)
		return 0;
	struct scratch *scratch = take(counts, 0);
	if (!scratch)
		return 0;
	struct process *body = (void *)scratch->draft.rest;
	name_task(&scratch->draft.header, KIND_EXEC, task);
	empty_process(body);
	describe_process(body, task);
	struct mm_struct *memory = FIELD(task->mm);
	struct file *file = FIELD(memory->exe_file);
	describe_executable(body, file);

	u32 at = sizeof(*body);
	at += body->lengths[0] = append(at, FIELD(program->filename), 0);
	at += body->lengths[1] = append(at, FIELD(program->interp), 0);

	u64 from = FIELD(memory->arg_start);
	u64 size = FIELD(memory->arg_end) - from;
	if (size > ARGUMENT_BYTES - 1)
		size = ARGUMENT_BYTES - 1;
	opaque(size);
	size &= ARGUMENT_BYTES - 1;
	opaque(at);
	if (!read_user(scratch->draft.rest + (at & (TEXT_BYTES / 2 - 1)), size, (void *)from)) {
		body->lengths[2] = size;
		at += size;
	}

	struct fs_struct *fs = FIELD(task->fs);
	at += body->lengths[3] = append_path(at, __builtin_preserve_access_index(&fs->pwd));
	at += body->lengths[4] = append_path(at, __builtin_preserve_access_index(&file->f_path));
	send(scratch, counts, settings, sizeof(*body), append_cgroup(at, task));
	return 0;
}

SECTION("tp_btf/sched_process_fork") int on_fork(u64 *arguments)
{
	struct task_struct *task = (void *)arguments[1];
	struct settings *settings;
	if (FIELD(task->pid) != FIELD(task->tgid))
		return 0;
	/* It is about the child, also if the sensor itself is the parent. */
	struct counts *counts = admit_process(KIND_FORK, &settings, FIELD(task->tgid));
	if (!counts)
		return 0;
	struct scratch *scratch = take(counts, 0);
	if (!scratch)
		return 0;
	struct process *body = (void *)scratch->draft.rest;
	name_task(&scratch->draft.header, KIND_FORK, task);
	empty_process(body);
	describe_process(body, task);
	send(scratch, counts, settings, sizeof(*body), append_cgroup(sizeof(*body), task));
	return 0;
}

SECTION("tp_btf/sched_process_exit") int on_exit(u64 *arguments)
{
	struct task_struct *task = (void *)arguments[0];
	struct signal_struct *group = FIELD(task->signal);
	struct settings *settings;
	/* A process ends with its last thread. */
	if (FIELD(group->live.counter) > 0)
		return 0;
	struct counts *counts = admit(KIND_EXIT, &settings);
	if (!counts)
		return 0;
	struct scratch *scratch = take(counts, 0);
	if (!scratch)
		return 0;
	struct exit *body = (void *)scratch->draft.rest;
	struct task_struct *leader = FIELD(task->group_leader);
	name_task(&scratch->draft.header, KIND_EXIT, task);
	int group_code = FIELD(group->group_exit_code);
	body->status = group_code ? group_code : FIELD(leader->exit_code);
	body->padding = 0;
	body->user_ns = FIELD(group->utime) + FIELD(task->utime);
	body->system_ns = FIELD(group->stime) + FIELD(task->stime);
	body->minor_faults = FIELD(group->min_flt) + FIELD(task->min_flt);
	body->major_faults = FIELD(group->maj_flt) + FIELD(task->maj_flt);
	if (leader != task) {
		body->user_ns += FIELD(leader->utime);
		body->system_ns += FIELD(leader->stime);
		body->minor_faults += FIELD(leader->min_flt);
		body->major_faults += FIELD(leader->maj_flt);
	}
	/* Counted in pages. */
	body->max_rss = FIELD(group->maxrss);
	send(scratch, counts, settings, sizeof(*body), sizeof(*body));
	return 0;
}

/* A process that is there already, for the list made at the start. */
struct present {
	/* Whoever reads the list. */
	u32 reader_pid;
	u32 padding;
	u64 start;
	u32 pid, uid, gid, reserved;
	u8 command[16];
	struct process process;
	u8 cgroup[2][128];
};

struct {
	MAP_UINT(type, MAP_PERCPU_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct present);
	MAP_UINT(max_entries, 1);
} PRESENT SECTION(".maps");

#define PF_KTHREAD 0x00200000

SECTION("iter/task") int list_processes(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	u32 zero = 0;
	struct present *present = map_lookup(&PRESENT, &zero);
	if (!task || !present)
		return 0;
	if (FIELD(task->pid) != FIELD(task->tgid) || FIELD(task->flags) & PF_KTHREAD)
		return 0;
	struct header header;
	name_task(&header, 0, task);
	__builtin_memset(&present->process, 0, sizeof(present->process));
	present->reader_pid = current_pid_tgid() >> 32;
	present->padding = 0;
	present->start = header.start;
	present->pid = header.pid;
	present->uid = header.uid;
	present->gid = header.gid;
	present->reserved = 0;
	__builtin_memcpy(present->command, header.command, sizeof(header.command));
	describe_process(&present->process, task);
	struct cgroup *inner = cgroup_of(task);
	struct kernfs_node *node = FIELD(inner->kn);
	present->cgroup[0][0] = 0;
	read_kernel_text(present->cgroup[0], 128, FIELD(node->name));
	struct cgroup_subsys_state *outer = FIELD(inner->self.parent);
	struct cgroup *around = FIELD(outer->cgroup);
	node = FIELD(around->kn);
	present->cgroup[1][0] = 0;
	read_kernel_text(present->cgroup[1], 128, FIELD(node->name));
	seq_write(context->meta->seq, present, sizeof(*present));
	return 0;
}
