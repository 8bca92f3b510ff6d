/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What is the processor's own: the registers of system calls and functions, how calls of 32 bits are told, and the numbers
 * of the calls that are told apart by them. Included where structures are relocatable.
 */
#pragma once

#if defined(__TARGET_x86_64)
struct pt_regs {
	unsigned long di, si, dx, r10, r8, r9, orig_ax;
};
#define ARGUMENT_0(regs) ((regs)->di)
#define ARGUMENT_1(regs) ((regs)->si)
#define ARGUMENT_2(regs) ((regs)->dx)
#define ARGUMENT_3(regs) ((regs)->r10)
#define ARGUMENT_4(regs) ((regs)->r8)
#define ARGUMENT_5(regs) ((regs)->r9)
#define CALL_NUMBER(regs) ((regs)->orig_ax)
/* Of a function of the kernel itself. */
#define FUNCTION_ARGUMENT_0(regs) ((regs)->di)
/* This system call is one of 32 bits: TS_COMPAT. */
#define IS_COMPAT(task) ((FIELD((task)->thread_info.status) & 2) != 0)

enum call_number {
	CALL_EXECVE = 59,
	CALL_SETUID = 105,
	CALL_SETGID = 106,
	CALL_SETREUID = 113,
	CALL_SETREGID = 114,
	CALL_SETGROUPS = 116,
	CALL_SETRESUID = 117,
	CALL_SETRESGID = 119,
	CALL_SETFSUID = 122,
	CALL_SETFSGID = 123,
	CALL_CAPSET = 126,
	CALL_EXECVEAT = 322,
	CALL_COMPAT_EXECVE = 11,
	CALL_COMPAT_EXECVEAT = 358,
};
#elif defined(__TARGET_aarch64)
struct pt_regs {
	unsigned long regs[31];
	unsigned long orig_x0;
	int syscallno;
};
/* Where the first was, the result is when the call returns. */
#define ARGUMENT_0(from) ((from)->orig_x0)
#define ARGUMENT_1(from) ((from)->regs[1])
#define ARGUMENT_2(from) ((from)->regs[2])
#define ARGUMENT_3(from) ((from)->regs[3])
#define ARGUMENT_4(from) ((from)->regs[4])
#define ARGUMENT_5(from) ((from)->regs[5])
#define CALL_NUMBER(from) ((from)->syscallno)
#define FUNCTION_ARGUMENT_0(from) ((from)->regs[0])
/* The program is one of 32 bits: TIF_32BIT. */
#define IS_COMPAT(task) ((FIELD((task)->thread_info.flags) >> 22 & 1) != 0)

enum call_number {
	CALL_CAPSET = 91,
	CALL_SETREGID = 143,
	CALL_SETGID = 144,
	CALL_SETREUID = 145,
	CALL_SETUID = 146,
	CALL_SETRESUID = 147,
	CALL_SETRESGID = 149,
	CALL_SETFSUID = 151,
	CALL_SETFSGID = 152,
	CALL_SETGROUPS = 159,
	CALL_EXECVE = 221,
	CALL_EXECVEAT = 281,
	CALL_COMPAT_EXECVE = 11,
	CALL_COMPAT_EXECVEAT = 387,
};
#else
#error "this processor is not described"
#endif

/*
 * What a thread has for its stack in the kernel, at whose end are the registers of its system call. Larger where pages have
 * 64 KiB, or with KASAN.
 */
#define STACK_BYTES 16384
