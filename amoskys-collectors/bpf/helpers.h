/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The helpers of the kernel that the programs call, by their numbers, which are part of the kernel's stable interface
 * (include/uapi/linux/bpf.h), and what is needed to write maps and relocatable reads. Nothing else is included
 * anywhere, so that the objects depend on the compiler alone.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;
typedef _Bool bool;

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
/*
 * A function of its own, which the verifier looks at once and not once for each way to it. It takes and returns nothing
 * but numbers, since kernels before 5.12 know no more of such functions; pointers come as numbers.
 */
#define FUNCTION __attribute__((noinline))
#define UNROLL _Pragma("unroll")
#define offset_of(type, member) __builtin_offsetof(type, member)
/* Keeps the compiler from undoing a bound that the verifier must see. */
#define opaque(value) asm volatile("" : "+r"(value))

/* Maps, in the form that describes them by BTF. */
#define MAP_UINT(name, value) int(*name)[value]
#define MAP_TYPE(name, value) typeof(value) *name

enum map_type {
	MAP_HASH = 1,
	MAP_ARRAY = 2,
	MAP_PERCPU_ARRAY = 6,
	MAP_LRU_HASH = 9,
	MAP_LPM_TRIE = 11,
	MAP_RINGBUF = 27,
	MAP_TASK_STORAGE = 29,
};

/* For tries and storage, which know no other way. Hash tables are made in advance: kernels before 6.1 warn otherwise. */
#define MAP_NO_PREALLOC 1
#define UPDATE_ANY 0
#define UPDATE_NOEXIST 1
#define RINGBUF_NO_WAKEUP 1
#define RINGBUF_FORCE_WAKEUP 2
#define STORAGE_CREATE 1

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static u64 (*current_pid_tgid)(void) = (void *)14;
static u64 (*current_uid_gid)(void) = (void *)15;
static long (*current_comm)(void *to, u32 size) = (void *)16;
static u32 (*current_cpu)(void) = (void *)8;
static long (*skb_load_bytes)(const void *skb, u32 at, void *to, u32 size) = (void *)26;
static u64 (*current_task)(void) = (void *)35;
static u64 (*current_cgroup_id)(void) = (void *)80;
static long (*send_signal)(u32 signal) = (void *)109;
static long (*read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*read_user_text)(void *to, u32 size, const void *from) = (void *)114;
static long (*read_kernel_text)(void *to, u32 size, const void *from) = (void *)115;
static long (*spin_lock)(void *lock) = (void *)93;
static long (*spin_unlock)(void *lock) = (void *)94;
static u64 (*boot_ns)(void) = (void *)125;
static long (*seq_write)(void *seq, const void *data, u32 size) = (void *)127;
static long (*ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static void *(*ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*ringbuf_submit)(void *data, u64 flags) = (void *)132;
static u64 (*ringbuf_query)(void *ring, u64 what) = (void *)134;
static void *(*task_storage)(void *map, void *task, void *value, u64 flags) = (void *)156;
static long (*task_storage_delete)(void *map, void *task) = (void *)157;
static void *(*current_task_btf)(void) = (void *)158;
static long (*for_each)(void *map, void *each, void *context, u64 flags) = (void *)164;
static long (*task_registers)(void *task) = (void *)175;
static u64 (*xdp_length)(const void *xdp) = (void *)188;
static long (*xdp_load_bytes)(const void *xdp, u32 at, void *to, u32 size) = (void *)189;

/* A field of a kernel structure, wherever this kernel has it. */
#define READ(to, from) \
	read_kernel(&(to), sizeof(to), (const void *)__builtin_preserve_access_index(&(from)))
#define FIELD(from)                                                                          \
	({                                                                                    \
		typeof(from) value_; /* zeros if it cannot be read */                          \
		read_kernel(&value_, sizeof(value_), (const void *)__builtin_preserve_access_index(&(from))); \
		value_;                                                                       \
	})
/* 1 if this kernel has the field. */
#define HAS_FIELD(field) __builtin_preserve_field_info(field, 2)
/* Whether this kernel has the helper, one of `enum bpf_func_id`. What is not reached without it may call it. */
#define HAS_HELPER(name) __builtin_preserve_enum_value(*(enum bpf_func_id *)BPF_FUNC_##name, 0)
/* How large this kernel has the structure. */
#define TYPE_SIZE(type) __builtin_preserve_type_info(*(type *)0, 1)
/* Where it is, in bytes from the start of its structure. */
#define FIELD_OFFSET(field) __builtin_preserve_field_info(field, 0)
