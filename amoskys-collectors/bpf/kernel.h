/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The structures of the kernel that are read, with only the fields that are. The loader finds where the running kernel
 * has them (CO-RE), so the order and the offsets here mean nothing.
 */
#pragma once

#include "helpers.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	u32 len;
	const unsigned char *name;
};

struct super_block {
	u32 s_dev;
};

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
	struct super_block *i_sb;
	unsigned int i_nlink;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode, f_flags;
	void *private_data;
	struct inode *f_inode;
	struct path f_path;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path pwd;
};

struct filename {
	const char *name;
};

struct ns_common {
	unsigned int inum;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct pid_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct user_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
	struct cgroup_namespace *cgroup_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

/*
 * Two words of 32 bits or, since 6.3, one of 64: eight bytes either way, but not of the same name. So it is read as a
 * whole, by `READ`.
 */
typedef struct {
	u64 bits;
} kernel_cap_t;

struct cred {
	kuid_t uid, suid, euid, fsuid;
	kgid_t gid, sgid, egid, fsgid;
	kernel_cap_t cap_inheritable, cap_permitted, cap_effective, cap_bset, cap_ambient;
	struct user_namespace *user_ns;
};

struct kernfs_node {
	const char *name;
	u64 id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

enum cgroup_subsys_id { pids_cgrp_id = 1 };

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct mm_struct {
	unsigned long arg_start, arg_end;
	struct file *exe_file;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	u64 utime, stime;
	unsigned long min_flt, maj_flt, maxrss;
};

struct thread_info {
	unsigned long flags;
	u32 status;
};

struct task_struct {
	struct thread_info thread_info;
	void *stack;
	int pid, tgid, exit_code;
	u64 start_boottime;
	struct task_struct *group_leader, *real_parent;
	struct pid *thread_pid;
	struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct mm_struct *mm;
	struct css_set *cgroups;
	u64 utime, stime;
	unsigned long min_flt, maj_flt;
	unsigned int flags;
};

struct linux_binprm {
	const char *filename, *interp;
	struct file *file;
};

struct in6_address {
	u8 bytes[16];
};

struct sock_common {
	u32 skc_daddr, skc_rcv_saddr;
	u16 skc_dport, skc_num, skc_family;
	struct in6_address skc_v6_daddr, skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_type, sk_protocol;
};

struct socket {
	struct sock *sk;
};

struct kernel_siginfo {
	int si_code;
};

struct open_how {
	u64 flags;
};

struct io_open {
	struct filename *filename;
	struct open_how how;
};

struct io_kiocb {
	/* Where each operation has its own; it was a union of all of them before 6.0. */
	struct file *file;
	u8 opcode;
	struct io_open open;
};

struct io_unlink {
	struct filename *filename;
};

struct io_rename {
	struct filename *oldpath, *newpath;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

/* Helpers that not all kernels have. */
enum bpf_func_id { BPF_FUNC_task_pt_regs = 175 };

#include "processor.h"

#pragma clang attribute pop

/* The registers that the current system call was made with. */
INLINE struct pt_regs *call_registers(struct task_struct *task)
{
	/* Since 5.15 the kernel says where they are. */
	if (HAS_HELPER(task_pt_regs))
		return (void *)task_registers(current_task_btf());
	void *stack = FIELD(task->stack);
	return stack + STACK_BYTES - TYPE_SIZE(struct pt_regs);
}

/* Of a system call's tracepoint: the fields are the same for all calls and kernels. */
struct call_exit {
	u64 common;
	s32 number;
	u32 padding;
	s64 result;
};
