/* SPDX-License-Identifier: MIT */
/*
 * fault-zero: a fault on a page that was never there, while faults are tracked.
 *
 * One thread touches absent pages in random order, so that nothing can be
 * guessed, and each page once: reads, and writes. The library tracks because a
 * little of the region was pushed out before. The peer is the smallest
 * userfaultfd loop on private anonymous memory. It answers reads with the
 * kernel's zero page; for writes it does as many touches with a copy of a
 * zeroed page as with the zero page, and the better of the two counts.
 *
 * Fails where a page is not zero, or where the library did not track.
 */
#include <stdlib.h>

#include "bench.h"

#define TOUCHES 16384u

/* The pages after the first MiB, in random order. */
static uint32_t *absent_pages(struct trial *trial)
{
	size_t nr = (trial->contest->bytes - AWAY) / PAGE;

	return shuffled_runs(AWAY / PAGE, nr, 1);
}

static size_t touches(const struct trial *trial)
{
	size_t half = (trial->contest->bytes - AWAY) / PAGE / 2;

	return half < TOUCHES ? half : TOUCHES;
}

static int measure(struct trial *trial, const struct arena *arena,
		   const uint32_t *order)
{
	struct touching touching = {
		.arena = arena,
		.order = order,
		.nr = touches(trial),
		.threads = 1,
		.write = trial->contest->number != 0,
		.zero = true,
	};

	warm_frames(2 * TOUCHES * PAGE);
	return touch_pages(trial, &touching);
}

static int ours_trial(struct trial *trial)
{
	uint32_t *order = absent_pages(trial);
	struct ovc_host_stats stats;
	struct ours ours;

	if (!order)
		return fail(trial, TRIAL_FAILED, "no memory");
	if (ours_open_tracked(trial, &ours) ||
	    measure(trial, &ours.arena, order) ||
	    ours_host_stats(trial, &ours, &stats))
		return -1;
	if (!stats.tracked)
		return fail(trial, TRIAL_FAILED, "did not track faults");
	ours_close(&ours);
	free(order);
	return 0;
}

/* Measures again with the other answer and keeps the better median's. */
static int try_copy(struct trial *trial, const struct arena *arena,
		    const uint32_t *order)
{
	struct outcome zero_page = *trial->out;

	peer_uffd_copy(true);
	if (measure(trial, arena, order))
		return -1;
	if (zero_page.value[P50_US] < trial->out->value[P50_US])
		*trial->out = zero_page;
	return 0;
}

static int their_trial(struct trial *trial)
{
	uint32_t *order = absent_pages(trial);
	struct arena arena;

	if (!order || arena_map(&arena, trial->contest->bytes, false))
		return fail(trial, TRIAL_FAILED, "no memory");
	if (peer_uffd_start(trial, &arena) || measure(trial, &arena, order))
		return -1;
	if (trial->contest->number == 0)
		return 0;
	return try_copy(trial, &arena, order + touches(trial));
}

int case_fault_zero(const struct options *options)
{
	static const char *const param[] = { "touch=read", "touch=write" };
	int status = 0;

	for (int write = 0; write <= 1; write++) {
		struct contest contest = {
			.options = options,
			.name = "fault-zero",
			.param = param[write],
			.peer = "userfaultfd-loop",
			.threads = 1,
			.metrics = BIT(P50_US) | BIT(P99_US),
			.bytes = case_bytes(options, 512 * MIB),
			.number = write,
			.ours = ours_trial,
			.theirs = their_trial,
		};

		status |= contest_run(&contest);
	}
	return status;
}
