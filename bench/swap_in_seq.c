/* SPDX-License-Identifier: MIT */
/*
 * swap-in-seq: reading swapped memory in order, from one end to the other.
 *
 * The arena is filled with bytes that do not compress and pushed out whole;
 * then one thread reads a word of each page. The peer is the kernel's swap file
 * in the same directory, in a memory cgroup, with the machine's page-cluster.
 *
 * A peer's round in which the pages did not come from the disk is invalid. A
 * page that does not hold what it held fails the trial.
 */
#include "bench.h"

static int measure(struct trial *trial, const struct arena *arena)
{
	struct touching touching = {
		.arena = arena,
		.nr = arena->len / PAGE,
		.threads = 1,
	};

	warm_frames(arena->len);
	return touch_pages(trial, &touching);
}

static int ours_trial(struct trial *trial)
{
	struct ours ours;

	if (ours_open_out(trial, &ours) || measure(trial, &ours.arena))
		return -1;
	ours_close(&ours);
	return 0;
}

static int their_trial(struct trial *trial)
{
	size_t pages = trial->contest->bytes / PAGE;
	struct peer_counts before;
	struct arena arena;

	if (peer_swap_open_out(trial, &arena))
		return -1;
	peer_swap_counts(&before);
	if (measure(trial, &arena))
		return -1;
	return peer_swap_check_in(trial, &before, pages / 10 * 9, 1);
}

int case_swap_in_seq(const struct options *options)
{
	struct contest contest = {
		.options = options,
		.name = "swap-in-seq",
		.param = "",
		.peer = "kernel-swapfile",
		.threads = 1,
		.metrics = BIT(GB_PER_S) | CPU,
		.bytes = case_bytes(options, 512 * MIB),
		.swaps = true,
		.ours = ours_trial,
		.theirs = their_trial,
	};

	return contest_run(&contest);
}
