// SPDX-License-Identifier: MIT OR GPL-2.0
/* Events of processes, and what they do that matters to security. */
#include "enforce.h"
#include "extras.h"
#include "uring.h"

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
