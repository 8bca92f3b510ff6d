// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * One program for each kind of hook that few kernels have. They do nothing and are never attached: loading them says
 * whether the kernel would take a program there.
 */
#include "helpers.h"

char LICENSE[] SECTION("license") = "Dual MIT/GPL";

SECTION("lsm/file_open") int probe_lsm(u64 *arguments)
{
	return 0;
}

SECTION("fentry/commit_creds") int probe_fentry(u64 *arguments)
{
	return 0;
}
