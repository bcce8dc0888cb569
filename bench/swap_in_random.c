/* SPDX-License-Identifier: MIT */
/*
 * swap-in-random: a random touch of swapped memory, with 1 and with 8 threads.
 *
 * The arena is filled with bytes that do not compress and pushed out whole;
 * then an eighth of its pages is read in random order, each page once. Nothing
 * is pushed out meanwhile, on either side. The peer is the kernel's swap file
 * in the same directory, in a memory cgroup.
 *
 * A peer's round in which the pages did not come from the disk is invalid. A
 * page that does not hold what it held fails the trial.
 */
#include <stdlib.h>

#include "bench.h"

static int measure(struct trial *trial, const struct arena *arena,
		   const uint32_t *order)
{
	struct touching touching = {
		.arena = arena,
		.order = order,
		.nr = arena->len / PAGE / 8,
		.threads = trial->contest->threads,
	};

	warm_frames(arena->len / 2);
	return touch_pages(trial, &touching);
}

static int ours_trial(struct trial *trial)
{
	uint32_t *order = shuffled(trial->contest->bytes / PAGE);
	struct ours ours;

	if (!order)
		return fail(trial, TRIAL_FAILED, "no memory");
	if (ours_open_out(trial, &ours) || measure(trial, &ours.arena, order))
		return -1;
	ours_close(&ours);
	free(order);
	return 0;
}

static int their_trial(struct trial *trial)
{
	size_t touches = trial->contest->bytes / PAGE / 8;
	uint32_t *order = shuffled(trial->contest->bytes / PAGE);
	struct peer_counts before;
	struct arena arena;

	if (!order)
		return fail(trial, TRIAL_FAILED, "no memory");
	if (peer_swap_open_out(trial, &arena))
		return -1;
	peer_swap_counts(&before);
	if (measure(trial, &arena, order))
		return -1;
	/* Some are found where the kernel read ahead. */
	return peer_swap_check_in(trial, &before, touches / 10 * 9,
				  touches / 2);
}

int case_swap_in_random(const struct options *options)
{
	static const unsigned threads[] = { 1, 8 };
	int status = 0;

	for (int i = 0; i < 2; i++) {
		struct contest contest = {
			.options = options,
			.name = "swap-in-random",
			.param = "",
			.peer = "kernel-swapfile",
			.threads = threads[i],
			.metrics = BIT(P50_US) | BIT(P99_US) | BIT(P999_US) |
				   BIT(PER_S) | CPU,
			.bytes = case_bytes(options, 512 * MIB),
			.swaps = true,
			.ours = ours_trial,
			.theirs = their_trial,
		};

		status |= contest_run(&contest);
	}
	return status;
}
