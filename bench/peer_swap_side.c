/* SPDX-License-Identifier: MIT */
/*
 * The kernel's swap as the peer: the part of the trial, in the child process.
 *
 * Join the cgroup, page out, make sure that the pages are gone, touch, make
 * sure that the touches came from the disk.
 *
 * After MADV_PAGEOUT the pages stay in the swap cache until someone reclaims
 * them, and a touch then costs a microsecond and measures nothing; a second
 * MADV_PAGEOUT does not see pages that are unmapped already. What frees them is
 * reclaim of the cgroup: memory.force_empty (v1) or memory.reclaim (v2). Only
 * mincore(), which knows the swap cache, tells that they are gone.
 *
 * A trial that did not use the disk as it should is invalid. The process's end
 * gives everything back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

#define SETTLE_SECONDS 10

static int cgroup_put(const char *file, const char *word)
{
	char path[sizeof(peer_cgroup.path) + 32];
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s/%s", peer_cgroup.path, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, word, strlen(word)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int peer_swap_enter(struct trial *trial, uint64_t limit)
{
	const char *none = peer_cgroup.v2 ? "max" : "-1";
	const char *file = peer_cgroup.v2 ? "memory.max" :
					    "memory.limit_in_bytes";
	char text[32];
	int err;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
	err = cgroup_put(file, limit ? text : none);
	if (!err)
		err = cgroup_put("cgroup.procs", "0");
	if (err)
		return fail(trial, TRIAL_UNAVAILABLE, "%s: %s",
			    peer_cgroup.path, strerror(-err));
	return 0;
}

uint64_t peer_swap_usage(void)
{
	char path[sizeof(peer_cgroup.path) + 32];
	long number;

	snprintf(path, sizeof(path), "%s/%s", peer_cgroup.path,
		 peer_cgroup.v2 ? "memory.current" : "memory.usage_in_bytes");
	number = setting_number(path);
	return number > 0 ? (uint64_t)number : 0;
}

/* v1 gives up where it found nothing to free, as while it all is being written. */
int peer_swap_limit(struct trial *trial, uint64_t limit)
{
	uint64_t until = now_ns() + SETTLE_SECONDS * 1000000000ull;
	char text[32];
	int err;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
	do {
		err = cgroup_put(peer_cgroup.v2 ? "memory.max" :
						  "memory.limit_in_bytes",
				 text);
	} while ((err == -EBUSY || err == -EINTR) && now_ns() < until);
	if (err)
		return fail(trial, TRIAL_INVALID, "%s: a limit of %s: %s",
			    peer_cgroup.path, text, strerror(-err));
	return 0;
}

int peer_swap_page_out(struct trial *trial, const struct arena *arena)
{
	if (madvise(arena->addr, arena->len, MADV_PAGEOUT))
		return fail(trial, TRIAL_UNAVAILABLE, "MADV_PAGEOUT: %s",
			    strerror(errno));
	return 0;
}

/* Asks for all of the cgroup; that less is reclaimed is no failure here. */
static void reclaim_cgroup(size_t bytes)
{
	char text[32];

	if (!peer_cgroup.v2) {
		cgroup_put("memory.force_empty", "0");
		return;
	}
	snprintf(text, sizeof(text), "%zu", bytes);
	if (cgroup_put("memory.reclaim", text) != -ENOENT)
		return;
	/* Before Linux 5.19. */
	cgroup_put("memory.high", "0");
	cgroup_put("memory.high", "max");
}

static size_t pages_here(const struct arena *arena, unsigned char *vec)
{
	size_t here = 0;

	if (mincore(arena->addr, arena->len, vec))
		return arena->len / PAGE;
	for (size_t i = 0; i < arena->len / PAGE; i++)
		here += vec[i] & 1;
	return here;
}

/* One page in a thousand may stay, as with ours. */
int peer_swap_settle(struct trial *trial, const struct arena *arena)
{
	uint64_t until = now_ns() + SETTLE_SECONDS * 1000000000ull;
	size_t pages = arena->len / PAGE, here;
	unsigned char *vec = malloc(pages);

	if (!vec)
		return fail(trial, TRIAL_FAILED, "no memory");
	do {
		reclaim_cgroup(arena->len);
		here = pages_here(arena, vec);
		if (here <= pages / 1000)
			break;
		usleep(10000); /* under writeback */
	} while (now_ns() < until);
	free(vec);
	if (here > pages / 1000)
		return fail(trial, TRIAL_INVALID,
			    "%zu of %zu pages stayed in memory", here, pages);
	return 0;
}

int peer_swap_open_filled(struct trial *trial, struct arena *arena)
{
	if (arena_map(arena, trial->contest->bytes, false))
		return fail(trial, TRIAL_FAILED, "no memory");
	if (peer_swap_enter(trial, 0))
		return -1;
	arena_fill(arena);
	return 0;
}

int peer_swap_open_out(struct trial *trial, struct arena *arena)
{
	if (peer_swap_open_filled(trial, arena) ||
	    peer_swap_page_out(trial, arena))
		return -1;
	return peer_swap_settle(trial, arena);
}

void peer_swap_counts(struct peer_counts *counts)
{
	FILE *file = fopen("/proc/vmstat", "re");
	unsigned long long number;
	struct rusage usage;
	char name[64];

	*counts = (struct peer_counts){ 0 };
	while (file && fscanf(file, "%63s %llu", name, &number) == 2) {
		if (!strcmp(name, "pswpin"))
			counts->in = number;
		else if (!strcmp(name, "pswpout"))
			counts->out = number;
	}
	if (file)
		fclose(file);
	getrusage(RUSAGE_SELF, &usage);
	counts->major_faults = (uint64_t)usage.ru_majflt;
}

int peer_swap_check_in(struct trial *trial, const struct peer_counts *before,
		       uint64_t pages, uint64_t faults)
{
	struct peer_counts now;

	peer_swap_counts(&now);
	now.in -= before->in;
	now.major_faults -= before->major_faults;
	if (now.in < pages || now.major_faults < faults)
		return fail(trial, TRIAL_INVALID,
			    "%llu pages came from the disk in %llu faults, "
			    "not at least %llu in %llu",
			    (unsigned long long)now.in,
			    (unsigned long long)now.major_faults,
			    (unsigned long long)pages,
			    (unsigned long long)faults);
	return 0;
}
