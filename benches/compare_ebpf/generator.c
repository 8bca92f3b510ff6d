// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Makes what is to be seen, as cheaply as it can be made, and says what that took:
 *
 *   generator protect COUNT RATE    asks COUNT times for memory that is writable and executable, RATE times a second (0: as
 *                                   fast as it can)
 *   generator flood NAME COUNT [FLOWS]  sends COUNT datagrams of FLOWS flows, 1024 if it is not said, from the interface
 *                                   NAME; a multiple of 1024, up to 262144
 *
 * prints: nanoseconds by the clock, nanoseconds of processor time, how many.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

static long long now(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long protect(long count, long rate)
{
	void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return -1;
	long long start = now(CLOCK_MONOTONIC);
	for (long done = 0; done < count; done++) {
		/* In small bursts, with a sleep after each. */
		if (rate && done % 1000 == 0) {
			long long due = start + done * 1000000000LL / rate, wait = due - now(CLOCK_MONOTONIC);
			if (wait > 0) {
				struct timespec sleep = { wait / 1000000000, wait % 1000000000 };
				nanosleep(&sleep, 0);
			}
		}
		if (mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
			return -1;
	}
	return count;
}

#define FLOWS 1024
#define AT_ONCE 64
#define FRAME 128

static long flood(const char *name, long count, long flows)
{
	static unsigned char frames[FLOWS][FRAME];
	static struct iovec parts[FLOWS];
	static struct mmsghdr messages[FLOWS];
	int link = socket(AF_PACKET, SOCK_RAW, 0);
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_ifindex = if_nametoindex(name),
		.sll_halen = 6,
		.sll_addr = { 2, 0, 0, 0, 0, 1 },
	};
	if (link < 0 || !address.sll_ifindex)
		return -1;
	for (int n = 0; n < FLOWS; n++) {
		unsigned char head[42] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, FRAME - 14, 0, 1, 0, 0, 64,
					   17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, 0x40 + n / 256, n % 256, 0, 9, 0,
					   FRAME - 34, 0, 0 };
		memcpy(frames[n], head, sizeof(head));
		parts[n] = (struct iovec){ frames[n], FRAME };
		messages[n].msg_hdr = (struct msghdr){
			.msg_name = &address, .msg_namelen = sizeof(address), .msg_iov = &parts[n], .msg_iovlen = 1
		};
	}
	long done = 0;
	while (done < count) {
		/* Each row of flows is one host's. */
		for (int n = 0; flows > FLOWS && n < AT_ONCE; n++)
			frames[done % FLOWS + n][29] = done / FLOWS % (flows / FLOWS);
		int sent = sendmmsg(link, &messages[done % FLOWS], AT_ONCE, 0);
		if (sent < 0)
			return -1;
		done += sent;
		/* A row begins at a multiple of its length. */
		while (done % AT_ONCE && done < count) {
			if (sendmmsg(link, &messages[done % FLOWS], 1, 0) != 1)
				return -1;
			done++;
		}
	}
	return done;
}

int main(int count, char **arguments)
{
	if (count != 4 && count != 5)
		return 2;
	long flows = count == 5 ? atol(arguments[4]) : FLOWS;
	long long wall = now(CLOCK_MONOTONIC), processor = now(CLOCK_PROCESS_CPUTIME_ID);
	long done = strcmp(arguments[1], "flood") ? protect(atol(arguments[2]), atol(arguments[3])) :
						    flood(arguments[2], atol(arguments[3]), flows);
	if (done < 0) {
		perror(arguments[1]);
		return 1;
	}
	printf("%lld %lld %ld\n", now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - processor, done);
	return 0;
}
