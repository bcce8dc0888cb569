/* SPDX-License-Identifier: MIT */
/*
 * share-scan: looking for equal pages where there are none and nobody writes.
 *
 * Memory looked at in a second of CPU time: not of time, since ours takes less
 * of the CPU when it finds little. The first pass ends, for ours, when every
 * page was hashed once; the later ones are ten whole passes after that. KSM
 * computes checksums in its first pass, looks pages up in its trees in those
 * after it, and skips from the fourth on, as it is by default, what it did not
 * merge; skip=off is the same without skipping.
 *
 * Invalid where ten passes do not end within a minute.
 */
#include "bench.h"

#define LATER	10
#define WAIT_NS 60000000000u

enum { FIRST, LATER_DEFAULT, LATER_ALL };

struct progress {
	uint64_t passes;
	bool all; /* was looked at, once */
};

static int look(struct trial *trial, struct guests *guests,
		struct progress *progress)
{
	struct ovc_host_stats stats = { .size = sizeof(stats) };
	size_t len = guests->arena[0].len;

	if (guests->side == SIDE_PEER) {
		progress->passes = peer_ksm_passes();
		progress->all = progress->passes > 0;
		return 0;
	}
	if (ovc_host_stats(guests->host, &stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	progress->passes = stats.share_passes;
	progress->all = stats.hashed_bytes >= len - len / 1000;
	return 0;
}

static int wait_for(struct trial *trial, struct guests *guests, bool all,
		    uint64_t passes)
{
	uint64_t end = now_ns() + WAIT_NS;
	struct progress progress = { 0 };

	do {
		if (look(trial, guests, &progress))
			return -1;
		if (progress.passes >= passes && progress.all >= all)
			return 0;
		nap_ms(1);
	} while (now_ns() < end);
	return fail(trial, TRIAL_INVALID, "%llu passes in a minute",
		    (unsigned long long)progress.passes);
}

static void report(struct trial *trial, const struct guests *guests,
		   unsigned passes, double cpu)
{
	double len = (double)guests->arena[0].len * passes;

	trial->out->value[GB_PER_S] = len / (guests_cpu(guests) - cpu) * 1e-9;
}

static int measure_first(struct trial *trial, struct guests *guests)
{
	double cpu = guests_cpu(guests);

	if (guests_share(trial, guests, 100) ||
	    wait_for(trial, guests, true, 0))
		return -1;
	report(trial, guests, 1, cpu);
	return 0;
}

static int measure_later(struct trial *trial, struct guests *guests)
{
	struct progress before = { 0 };
	double cpu;

	/* From the end of a pass to the end of another. */
	if (look(trial, guests, &before) ||
	    wait_for(trial, guests, true, before.passes + 1))
		return -1;
	cpu = guests_cpu(guests);
	if (look(trial, guests, &before) ||
	    wait_for(trial, guests, true, before.passes + LATER))
		return -1;
	report(trial, guests, LATER, cpu);
	return 0;
}

static int trial_run(struct trial *trial)
{
	int what = (int)trial->contest->number;
	struct guests guests;

	if (guests_open(trial, &guests, 1,
			what == LATER_ALL ? KSM_FASTEST_ALL : KSM_FASTEST))
		return -1;
	guests_fill(&guests);
	if (measure_first(trial, &guests) ||
	    (what != FIRST && measure_later(trial, &guests)) ||
	    guests_check(trial, &guests, 0))
		return -1;
	guests_close(&guests);
	return 0;
}

int case_share_scan(const struct options *options)
{
	static const char *const param[] = { "first", "later",
					     "later,skip=off" };
	int status = 0;

	for (int what = FIRST; what <= LATER_ALL; what++) {
		struct contest contest = {
			.options = options,
			.name = "share-scan",
			.param = param[what],
			.peer = "ksm",
			.threads = 1,
			.metrics = BIT(GB_PER_S),
			.bytes = case_bytes(options, 512 * MIB),
			.number = what,
			.ksm = true,
			.ours = trial_run,
			.theirs = trial_run,
		};

		status |= contest_run(&contest);
	}
	return status;
}
