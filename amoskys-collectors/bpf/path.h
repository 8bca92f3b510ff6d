/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Paths: from directory entries up to the root, as text, and whether one is watched. */
#pragma once

#include "common.h"

/* Directories deeper than this are cut off at the front. */
#define PATH_DEPTH 24

/*
 * Writes the path of a file or directory, seen from the root of its mount namespace, into the first half of
 * `scratch->path`, at its end. Where it begins.
 */
INLINE u32 find_path(struct scratch *scratch, struct path *path)
{
	u64 at = PATH_BYTES;
	u64 any = 0;
	struct dentry *dentry = FIELD(path->dentry);
	struct vfsmount *inner = FIELD(path->mnt);
	struct mount *mount = (void *)inner - FIELD_OFFSET(((struct mount *)0)->mnt);

#pragma clang loop unroll(disable)
	for (int depth = 0; depth < PATH_DEPTH; depth++) {
		struct dentry *root = FIELD(mount->mnt.mnt_root);
		struct dentry *parent = FIELD(dentry->d_parent);
		/* All that the verifier is to know of these, so that it need not follow every way through the loop. */
		opaque(at);
		at &= 2 * PATH_BYTES - 1;
		if (dentry == root) {
			struct mount *around = FIELD(mount->mnt_parent);
			if (around == mount)
				break;
			dentry = FIELD(mount->mnt_mountpoint);
			mount = around;
			continue;
		}
		opaque(any);
		if (dentry == parent && any)
			break;
		u64 length = FIELD(dentry->d_name.len) & 0xff;
		const unsigned char *name = FIELD(dentry->d_name.name);
		at -= length + 1;
		opaque(at);
		/* Below 0. */
		if (at >= PATH_BYTES) {
			at += length + 1;
			break;
		}
		read_kernel(&scratch->path[at + 1], length, name);
		scratch->path[at] = '/';
		any = 1;
		/* What was never in a directory, a memfd for example, has a name but no place. */
		if (dentry == parent)
			break;
		dentry = parent;
	}
	if (!any) {
		at = PATH_BYTES - 1;
		scratch->path[at] = '/';
	}
	return at;
}

/* Copies the path that begins at `from` to the draft. Its length. */
INLINE u32 append_found(struct scratch *scratch, u32 to, u32 from)
{
	u64 length = PATH_BYTES - from;
	opaque(length);
	if (length > PATH_BYTES)
		return 0;
	read_kernel(scratch->draft.rest + (to & (TEXT_BYTES - 1)), length, &scratch->path[from & (PATH_BYTES - 1)]);
	return length;
}

/* Appends the path of a `struct path`. Its length. */
FUNCTION u32 append_path_at(u32 to, u64 path)
{
	struct scratch *scratch = own_scratch();
	if (!scratch)
		return 0;
	return append_found(scratch, to, find_path(scratch, (void *)path));
}

INLINE u32 append_path(u32 to, struct path *path)
{
	return append_path_at(to, (u64)path);
}

INLINE struct file *file_of(struct task_struct *task, s64 number)
{
	struct files_struct *files = FIELD(task->files);
	struct fdtable *table = FIELD(files->fdt);
	if (number < 0 || number >= FIELD(table->max_fds))
		return 0;
	struct file **all = FIELD(table->fd);
	struct file *file = 0;
	read_kernel(&file, sizeof(file), all + number);
	return file;
}

/* Appends the path of an open file. Its length. */
FUNCTION u32 append_file(u32 to, u32 number)
{
	struct file *file = file_of((void *)current_task(), (s32)number);
	return append_path(to, __builtin_preserve_access_index(&file->f_path));
}

/*
 * Appends a path given to a system call, relative to `directory`, an open directory or -100 for the working directory.
 * What is relative begins with the path of that directory. Its length.
 */
FUNCTION u32 append_given(u32 to, u32 directory, u64 given)
{
	struct scratch *scratch = own_scratch();
	if (!scratch)
		return 0;
	u8 first = 0;
	u32 base = 0;
	read_user(&first, 1, (void *)given);
	if (first != '/') {
		if ((s32)directory == -100) {
			struct task_struct *task = (void *)current_task();
			struct fs_struct *fs = FIELD(task->fs);
			base = append_path(to, __builtin_preserve_access_index(&fs->pwd));
		} else {
			base = append_file(to, directory);
		}
		scratch->draft.rest[(to + base) & (TEXT_BYTES - 1)] = '/';
		base += 1;
	}
	return base + append(to + base, (void *)given, 1);
}

/* Whether the path in the draft begins with one that is watched. */
FUNCTION u32 is_watched(u32 at, u32 length)
{
	struct scratch *scratch = own_scratch();
	if (!scratch)
		return 0;
	struct watched_key *key = &scratch->watched;
	if (length > sizeof(key->text))
		length = sizeof(key->text);
	key->bits = length * 8;
	read_kernel(key->text, sizeof(key->text), scratch->draft.rest + (at & (TEXT_BYTES - 1)));
	return map_lookup(&WATCHED, key) != 0;
}

/* Whether the path in the draft has two dots in succession, so that only user space can say where it leads. */
FUNCTION u32 has_dots(u32 at)
{
	struct scratch *scratch = own_scratch();
	if (!scratch)
		return 0;
	u64 found = 0, before = 0;
	u8 *text = scratch->draft.rest + (at & (TEXT_BYTES - 1));
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 256; i++) {
		u64 now = text[i];
		found |= (((now ^ '.') | (before ^ '.')) - 1) >> 63;
		before = now;
	}
	return found;
}
