/* SPDX-License-Identifier: MIT */
/*
 * tax: what a busy VM does beside an idle one, with the idle memory tax and without.
 *
 * Two VMs with equal shares have three quarters of the budget each. The busy one does
 * the work of zipf.c on all of its memory, with two threads; the idle one was filled
 * and is left alone. With a tax of 75 %, the default, the idle VM is entitled to about
 * a quarter of the budget and the busy one to all that it has; the peer is the library
 * with OVC_POLICY_NO_TAX, where each is entitled to half.
 *
 * Neither has a balloon: what is taken is taken by swap, and the threads bring in what
 * was taken from them. Working sets are sampled in periods of half a second, and not
 * 30 s, and decisions taken each 50 ms, and not 250, so that both have settled after
 * the warm-up of 8 seconds. What sampling costs is more than usual, on both sides.
 *
 * Fails where a page's first word changed; invalid where the policy did not come to
 * entitle the VMs to what it should.
 */
#include "bench.h"

#define THREADS	  2
#define WARM_MS	  8000u
#define SAMPLE_NS 500000000u
#define DECIDE_MS 50u

/* Percent of its memory: with the tax the busy VM is entitled to more, without to
 * less, which is two thirds. */
#define BETWEEN 72u

static int open_pair(struct trial *trial, struct ours *idle, struct ours *busy)
{
	struct ovc_policy_options policy = {
		.size = sizeof(policy),
		.idle_tax = trial->side == SIDE_PEER ? OVC_POLICY_NO_TAX : 0,
		.sample_period = SAMPLE_NS,
	};
	struct ovc_host_options options = {
		.size = sizeof(options),
		.budget = trial->contest->budget,
		.share = OVC_SHARE_NEVER,
		.policy_options = &policy,
		.policy_period = DECIDE_MS,
	};
	size_t len = trial->contest->bytes;
	struct trial as = *trial;

	as.side = kind_of_memory(trial);
	if (ours_open_with(&as, idle, &options, len,
			   ours_swap_path(trial->options, 0)) ||
	    ours_join(&as, busy, idle->host, len,
		      ours_swap_path(trial->options, 1)))
		return -1;
	return 0;
}

static int check_entitled(struct trial *trial, const struct ours *busy)
{
	struct ovc_vm_stats stats = { .size = sizeof(stats) };
	uint64_t percent;

	if (ovc_vm_stats(busy->vm, &stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	percent = stats.entitlement * 100 / stats.configured;
	if ((percent > BETWEEN) == (trial->side == SIDE_PEER))
		return fail(trial, TRIAL_INVALID,
			    "the busy VM is entitled to %llu %% of its memory",
			    (unsigned long long)percent);
	return 0;
}

static int trial_run(struct trial *trial)
{
	struct workload load;
	struct ours idle, busy;
	int error;

	if (zipf_open(trial, &load, trial->contest->bytes / PAGE))
		return -1;
	warm_frames(trial->contest->budget + trial->contest->budget / 4);
	if (open_pair(trial, &idle, &busy))
		return -1;
	arena_fill(&busy.arena);
	arena_fill(&idle.arena);
	load.arena = &busy.arena;
	load.threads = THREADS;
	load.warm_ms = WARM_MS;
	error = zipf_run(trial, &load) || check_entitled(trial, &busy) ? -1 : 0;
	ours_close(&busy);
	ours_close(&idle);
	zipf_close(&load);
	return error;
}

int case_tax(const struct options *options)
{
	size_t budget = case_bytes(options, 512 * MIB) / 2;
	struct contest contest = {
		.options = options,
		.name = "tax",
		.param = "sample=0.5s",
		.peer = "no-tax",
		.threads = THREADS,
		.metrics = BIT(PER_S) | BIT(P99_US) | CPU,
		.bytes = budget / 4 * 3 & -PAGE,
		.budget = budget,
		.warms_up = true,
		.ours = trial_run,
		.theirs = trial_run,
	};

	return contest_run_kinds(&contest);
}
