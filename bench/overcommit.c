/* SPDX-License-Identifier: MIT */
/*
 * overcommit: a Zipf workload on memory of 1.0 to 3.0 times the budget.
 *
 * Two threads do the work of zipf.c. Operations are counted and timed after a
 * warm-up of at least two seconds. The budget is half of --size; it is the
 * host's budget for ours and the memory cgroup's limit, with a swap file, for
 * the peer. Where all of the memory is hot the kernel may find nothing to
 * reclaim and kill the peer; each time it does, the peer's limit grows by 2 MiB
 * for the next try.
 */
#include "bench.h"

#define THREADS	     2
#define WARM_SECONDS 2u

/* What is not guest memory is touched here, before the peer is limited. */
static int prepare(struct trial *trial, struct workload *load)
{
	unsigned seconds = trial->options->seconds;

	if (zipf_open(trial, load, trial->contest->bytes / PAGE))
		return -1;
	load->threads = THREADS;
	load->warm_ms =
		1000 * (seconds > WARM_SECONDS ? seconds : WARM_SECONDS);
	warm_frames(trial->contest->budget + trial->contest->budget / 4);
	return 0;
}

static int ours_trial(struct trial *trial)
{
	struct workload load;
	struct ours ours;

	if (prepare(trial, &load) ||
	    ours_open(trial, &ours, trial->contest->budget, true))
		return -1;
	load.arena = &ours.arena;
	arena_fill(&ours.arena);
	if (zipf_run(trial, &load))
		return -1;
	ours_close(&ours);
	zipf_close(&load);
	return 0;
}

static int their_trial(struct trial *trial)
{
	struct workload load;
	struct arena arena;

	if (prepare(trial, &load))
		return -1;
	if (arena_map(&arena, trial->contest->bytes, false))
		return fail(trial, TRIAL_FAILED, "no memory");
	if (peer_swap_enter(trial,
			    trial->contest->budget + trial->kills * 2 * MIB))
		return -1;
	load.arena = &arena;
	arena_fill(&arena);
	return zipf_run(trial, &load);
}

int case_overcommit(const struct options *options)
{
	static const struct {
		const char *param;
		double times;
	} levels[] = {
		{ "budget=1.0x", 1.0 },
		{ "budget=1.5x", 1.5 },
		{ "budget=2.0x", 2.0 },
		{ "budget=3.0x", 3.0 },
	};
	size_t budget = case_bytes(options, 512 * MIB) / 2;
	int status = 0;

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		double bytes = (double)budget * levels[i].times;
		struct contest contest = {
			.options = options,
			.name = "overcommit",
			.param = levels[i].param,
			.peer = "kernel-swapfile",
			.threads = THREADS,
			.metrics = BIT(PER_S) | BIT(P99_US) | CPU,
			.bytes = (size_t)bytes & -PAGE,
			.budget = budget,
			.swaps = true,
			.warms_up = true,
			.ours = ours_trial,
			.theirs = their_trial,
		};

		status |= contest_run(&contest);
	}
	return status;
}
