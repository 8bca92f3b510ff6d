// SPDX-License-Identifier: MIT OR GPL-2.0
/* All system calls: their sequence thread by thread, or how often each was made by the second. */
#include "filter.h"

char LICENSE[] SECTION("license") = "Dual MIT/GPL";

struct {
	MAP_UINT(type, MAP_RINGBUF);
	MAP_UINT(max_entries, 4 << 20);
} CALL_RING SECTION(".maps");

/* Which calls are in the set, by number. */
struct {
	MAP_UINT(type, MAP_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u8);
	MAP_UINT(max_entries, HISTOGRAM_CALLS);
} CALL_SET SECTION(".maps");

/* What a thread has called, as the record that will be sent. Only the thread itself writes to it. */
struct thread_calls {
	struct header header;
	struct sequence sequence;
	/* Settings for which `why` is right. */
	u32 generation;
	u32 why;
};

struct thread_counts {
	struct header header;
	struct histogram histogram;
	u32 generation;
	u32 why;
};

#ifdef BEFORE_5_11
/* There is no storage by task yet: tables by the number of the thread, made in advance, and what a new entry is like. */
#define THREADS 8192
#define TABLE_OF_THREADS(name, empty, what)   \
	struct {                              \
		MAP_UINT(type, MAP_HASH);     \
		MAP_TYPE(key, u32);           \
		MAP_TYPE(value, what);        \
		MAP_UINT(max_entries, THREADS); \
	} name SECTION(".maps");              \
	struct {                              \
		MAP_UINT(type, MAP_ARRAY);    \
		MAP_TYPE(key, u32);           \
		MAP_TYPE(value, what);        \
		MAP_UINT(max_entries, 1);     \
	} empty SECTION(".maps");

TABLE_OF_THREADS(THREAD_CALLS, NO_CALLS, struct thread_calls)
TABLE_OF_THREADS(THREAD_COUNTS, NO_COUNTS, struct thread_counts)

INLINE void *find_or_add(void *table, void *empty, struct task_struct *task, bool add)
{
	u32 zero = 0;
	u32 thread = FIELD(task->pid);
	void *found = map_lookup(table, &thread);
	if (found || !add)
		return found;
	void *none = map_lookup(empty, &zero);
	if (!none || map_update(table, &thread, none, UPDATE_NOEXIST))
		return 0;
	return map_lookup(table, &thread);
}

INLINE struct thread_calls *calls_of(struct task_struct *task, bool add)
{
	return find_or_add(&THREAD_CALLS, &NO_CALLS, task, add);
}

INLINE struct thread_counts *counts_of(struct task_struct *task, bool add)
{
	return find_or_add(&THREAD_COUNTS, &NO_COUNTS, task, add);
}

INLINE struct task_struct *this_task(void)
{
	return (void *)current_task();
}

/* The number may be used again. */
INLINE void forget(struct task_struct *task)
{
	u32 thread = FIELD(task->pid);
	map_delete(&THREAD_CALLS, &thread);
	map_delete(&THREAD_COUNTS, &thread);
}
#else
struct {
	MAP_UINT(type, MAP_TASK_STORAGE);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
	MAP_TYPE(key, int);
	MAP_TYPE(value, struct thread_calls);
} THREAD_CALLS SECTION(".maps");

struct {
	MAP_UINT(type, MAP_TASK_STORAGE);
	MAP_UINT(map_flags, MAP_NO_PREALLOC);
	MAP_TYPE(key, int);
	MAP_TYPE(value, struct thread_counts);
} THREAD_COUNTS SECTION(".maps");

INLINE struct thread_calls *calls_of(struct task_struct *task, bool add)
{
	return task_storage(&THREAD_CALLS, task, 0, add ? STORAGE_CREATE : 0);
}

INLINE struct thread_counts *counts_of(struct task_struct *task, bool add)
{
	return task_storage(&THREAD_COUNTS, task, 0, add ? STORAGE_CREATE : 0);
}

INLINE struct task_struct *this_task(void)
{
	return current_task_btf();
}

INLINE void forget(struct task_struct *task)
{
}
#endif

#define SECOND 1000000000ull

/* Counts `number` calls at once. */
INLINE void settle(u32 kind, u32 number, u32 why)
{
	struct counts *counts = map_lookup(&COUNTS, &kind);
	if (!counts)
		return;
	__sync_fetch_and_add(&counts->seen, number);
	if (why < DROPS)
		count_drops(counts, why, number);
	else
		__sync_fetch_and_add(&counts->delivered, number);
}

/* Sends the calls of a thread. The reader looks every few milliseconds, and is woken only when the ring fills. */
INLINE void send_calls(struct thread_calls *calls, struct task_struct *task)
{
	u32 number = calls->sequence.count;
	name_task(&calls->header, KIND_SEQUENCE, task);
	calls->header.text_bytes = 0;
	long failed = ringbuf_output(&CALL_RING, calls, sizeof(struct header) + sizeof(struct sequence),
				     RINGBUF_NO_WAKEUP);
	settle(KIND_SEQUENCE, number, failed ? DROP_RING_FULL : DROPS);
	calls->sequence.first += number;
	calls->sequence.count = 0;
}

INLINE void send_counts(struct thread_counts *counts, struct task_struct *task)
{
	name_task(&counts->header, KIND_HISTOGRAM, task);
	counts->header.text_bytes = 0;
	long failed = ringbuf_output(&CALL_RING, counts, sizeof(struct header) + sizeof(struct histogram),
				     RINGBUF_NO_WAKEUP);
	settle(KIND_HISTOGRAM, counts->histogram.total, failed ? DROP_RING_FULL : DROPS);
	/* What cannot be read, as nothing can at address 0, is filled with zeros: there is no other helper for that. */
	read_kernel(counts->histogram.counts, sizeof(counts->histogram.counts), 0);
	counts->histogram.total = 0;
	counts->histogram.others = 0;
}

INLINE bool is_chosen(struct settings *settings, u32 call)
{
	u8 *listed = map_lookup(&CALL_SET, &call);
	return (listed && *listed) == (settings->call_mode == LIST_ONLY);
}

INLINE void record_call(struct settings *settings, struct task_struct *task, u32 call)
{
	struct thread_calls *calls = calls_of(task, 1);
	if (!calls) {
		settle(KIND_SEQUENCE, 1, DROP_NO_MEMORY);
		return;
	}
	u32 at = calls->sequence.count;
	if (at == 0) {
		/* The uid and the group may have changed, as may the settings. */
		calls->why = excluded(settings, current_pid_tgid() >> 32);
		calls->sequence.first_time = boot_ns();
	}
	if (calls->why != DROPS) {
		settle(KIND_SEQUENCE, 1, calls->why);
		return;
	}
	if (settings->call_mode) {
		if (!is_chosen(settings, call)) {
			settle(KIND_SEQUENCE, 1, DROP_CALL);
			return;
		}
	}
	calls->sequence.calls[at & (SEQUENCE_CALLS - 1)] = call;
	calls->sequence.count = at + 1;
	if (at + 1 >= SEQUENCE_CALLS)
		send_calls(calls, task);
}

INLINE void count_call(struct settings *settings, struct task_struct *task, u32 call)
{
	struct thread_counts *counts = counts_of(task, 1);
	if (!counts) {
		settle(KIND_HISTOGRAM, 1, DROP_NO_MEMORY);
		return;
	}
	struct histogram *histogram = &counts->histogram;
	u32 total = histogram->total;
	/* The time is asked for at the first call and then at every 16th: reading the clock costs more than counting. */
	if ((total & 15) == 0) {
		u64 now = boot_ns();
		if (total && now - histogram->from >= SECOND) {
			send_counts(counts, task);
			total = 0;
		}
		if (!total)
			histogram->from = now;
		if (!total || counts->generation != settings->generation) {
			counts->generation = settings->generation;
			counts->why = excluded(settings, current_pid_tgid() >> 32);
		}
	}
	if (counts->why != DROPS) {
		settle(KIND_HISTOGRAM, 1, counts->why);
		return;
	}
	if (settings->call_mode) {
		if (!is_chosen(settings, call)) {
			settle(KIND_HISTOGRAM, 1, DROP_CALL);
			return;
		}
	}
	if (call < HISTOGRAM_CALLS) {
		u64 slot = call;
		opaque(slot);
		histogram->counts[slot & (HISTOGRAM_CALLS - 1)]++;
	} else {
		histogram->others++;
	}
	histogram->total = total + 1;
}

SECTION("tp_btf/sys_enter") int on_call(u64 *arguments)
{
	u32 zero = 0;
	struct settings *settings = map_lookup(&SETTINGS, &zero);
	if (!settings)
		return 0;
	struct task_struct *task = this_task();
	u32 call = arguments[1];
	if (settings->streams == 2)
		record_call(settings, task, call);
	else if (settings->streams == 1)
		count_call(settings, task, call);
	return 0;
}

INLINE void flush(struct task_struct *task)
{
	struct thread_calls *calls = calls_of(task, 0);
	if (calls && calls->sequence.count)
		send_calls(calls, task);
	struct thread_counts *counts = counts_of(task, 0);
	if (counts && counts->histogram.total)
		send_counts(counts, task);
}

/* What a thread has called is sent when it ends. */
SECTION("tp_btf/sched_process_exit") int on_thread_exit(u64 *arguments)
{
	struct task_struct *task = this_task();
	flush(task);
	forget(task);
	return 0;
}

/* What all threads have called is sent when the recording has been stopped. */
SECTION("iter/task") int flush_calls(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	if (task)
		flush(task);
	return 0;
}
