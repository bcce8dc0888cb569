/* SPDX-License-Identifier: MIT */
/*
 * share-slowdown: a guest's work while equal pages are looked for, beside the
 * same work while they are not.
 *
 * workers.c's threads write nearly every page between two looks at it; nothing is
 * equal. Counted after as long a warm-up, in which looking has begun, with its default
 * of CPU time. The peer is the library itself, told not to look, on the same kind of
 * memory.
 */
#include "bench.h"

/* The peer is the side that does not look. */
static int trial_run(struct trial *trial)
{
	bool looks = trial->side != SIDE_PEER;
	struct trial as = *trial;
	struct ovc_host_stats stats = { .size = sizeof(stats) };
	struct guests guests;

	as.side = kind_of_memory(trial);
	if (guests_open(&as, &guests, 1, KSM_DEFAULT))
		return -1;
	guests_fill(&guests);
	if ((looks && guests_share(trial, &guests, 0)) ||
	    workers_run(trial, &guests.arena[0],
			1000 * trial->options->seconds))
		return -1;
	if (ovc_host_stats(guests.host, &stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	if (looks && !stats.scanned_bytes)
		return fail(trial, TRIAL_FAILED, "nothing was looked at");
	guests_close(&guests);
	return 0;
}

int case_share_slowdown(const struct options *options)
{
	struct contest contest = {
		.options = options,
		.name = "share-slowdown",
		.param = "",
		.peer = "not-scanning",
		.threads = WORKERS,
		.metrics = BIT(PER_S),
		.bytes = case_bytes(options, 512 * MIB),
		.ours = trial_run,
		.theirs = trial_run,
	};

	return contest_run_kinds(&contest);
}
