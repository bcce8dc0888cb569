/* SPDX-License-Identifier: MIT */
/*
 * A child process in a memory cgroup of its own, and what the kernel counts for it.
 * No cgroup may outlive its test: it is removed by a process that only waits for the
 * test to end, however it ends.
 */
#ifndef KERNEL_CGROUP_H
#define KERNEL_CGROUP_H

#include "support.h"

struct usage {
	size_t base; /* bytes of anonymous and shmem pages before it began */
	size_t most; /* the most there ever were */
	unsigned samples;
	int status; /* of waitpid() */
};

/* Runs child(arg) in a child and a cgroup of its own, and watches what it uses. Its
 * result is the exit status. Skips the test where there is no such cgroup. */
struct usage watch_child(int (*child)(const void *arg), const void *arg);

/* Asserts that the child ended well, that the budget was used, and that it was kept but
 * for 2 % or 8 MiB. */
void check_budget(const char *what, size_t budget, struct usage u);

#endif
