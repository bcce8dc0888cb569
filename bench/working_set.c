/* SPDX-License-Identifier: MIT */
/*
 * working-set: how far estimates of what a VM uses are off, and what sampling costs.
 *
 * `active=N`: a thread writes, again and again, to one word of each of N % of the pages,
 * which are here and there in memory. The error is the difference between that and the
 * library's estimate (ovc_vm_stats.active), in points of the VM's memory: `up`, after
 * nothing was used and one period has passed since the thread began; `down`, after all
 * was used and three whole periods have passed since it went over to N %. Periods are
 * a quarter of a second, and not 30 s: each page in use is written to many times in one.
 * Pages watched at a time are 100, the default: by chance alone, one figure in twenty is
 * off by 8 points or more. There is no peer.
 *
 * `slowdown`: workers.c's threads touch every page that is watched at once. Periods are
 * a second, so that it costs thirty times what it does by default; the peer is the
 * library with a period that begins once and does not end.
 *
 * Working sets are sampled while little of the budget is free; it is a sixteenth here,
 * so that nothing is reclaimed. A little is pushed out to begin tracking.
 *
 * Fails where writes are lost. The threads end with the trial's process.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "bench.h"

#define PERIOD_MS 250u
#define DECIDE_MS 10u
#define NAP_MS	  2u /* between two rounds over the active pages */

#define SLOWDOWN_MS 1000u
#define NEVER_MS    3600000u

static int open_watched(struct trial *trial, struct ours *ours,
			unsigned period_ms)
{
	size_t len = trial->contest->bytes;
	struct ovc_policy_options policy = {
		.size = sizeof(policy),
		.sample_period = period_ms * (uint64_t)1000000,
	};
	struct ovc_host_options options = {
		.size = sizeof(options),
		.budget = len + len / 15 + 8 * MIB,
		.share = OVC_SHARE_NEVER,
		.policy_options = &policy,
		.policy_period = DECIDE_MS,
	};

	if (ours_open_with(trial, ours, &options, len,
			   ours_swap_path(trial->options, 0)))
		return -1;
	arena_fill(&ours->arena);
	if (ours_reclaim(trial, ours, 0, AWAY))
		return -1;
	for (size_t i = 0; i < AWAY / PAGE; i++)
		*(volatile uint64_t *)arena_page(&ours->arena, i);
	return 0;
}

/* ---- Estimates --------------------------------------------------------------- */

#define STOP SIZE_MAX

struct user {
	const struct arena *arena;
	uint32_t *order;
	size_t active; /* pages, atomic; STOP */
};

static void *use_pages(void *arg)
{
	struct user *user = arg;

	for (;;) {
		size_t nr = __atomic_load_n(&user->active, __ATOMIC_RELAXED);

		if (nr == STOP)
			return NULL;
		for (size_t i = 0; i < nr; i++) {
			volatile uint64_t *page =
				arena_page(user->arena, user->order[i]);

			page[1] = page[1] + 1;
		}
		nap_ms(NAP_MS);
	}
}

/* Goes over to so many pages, for so many periods and what they may be longer. */
static void use(struct user *user, double part, unsigned periods)
{
	double pages = (double)(user->arena->len / PAGE);

	__atomic_store_n(&user->active, (size_t)(pages * part),
			 __ATOMIC_RELAXED);
	nap_ms(periods * (PERIOD_MS + 2 * DECIDE_MS));
}

static int error_of(struct trial *trial, const struct ours *ours, double part,
		    enum metric metric)
{
	struct ovc_vm_stats stats = { .size = sizeof(stats) };
	double shown;

	if (ovc_vm_stats(ours->vm, &stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	shown = (double)stats.active / (double)stats.configured;
	trial->out->value[metric] = fabs(shown - part) * 100;
	return 0;
}

/* A change comes at any time of a period: after n + 1 of them n were whole. */
static int compare(struct trial *trial, const struct ours *ours,
		   struct user *user)
{
	double part = trial->contest->number / 100;

	use(user, 1, 3);
	use(user, part, 4);
	if (error_of(trial, ours, part, DOWN_POINTS))
		return -1;
	use(user, 0, 6);
	use(user, part, 1);
	return error_of(trial, ours, part, UP_POINTS);
}

static int error_trial(struct trial *trial)
{
	struct ours ours;
	struct user user = { .arena = &ours.arena };
	pthread_t thread;
	int error;

	if (open_watched(trial, &ours, PERIOD_MS))
		return -1;
	user.order = shuffled(ours.arena.len / PAGE);
	if (!user.order || pthread_create(&thread, NULL, use_pages, &user))
		return fail(trial, TRIAL_FAILED, "no memory, or no thread");
	error = compare(trial, &ours, &user);
	__atomic_store_n(&user.active, STOP, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ours_close(&ours);
	free(user.order);
	return error;
}

static int run_errors(const struct options *options)
{
	static const struct {
		const char *param;
		double percent;
	} levels[] = {
		{ "active=10", 10 },
		{ "active=30", 30 },
		{ "active=60", 60 },
		{ "active=90", 90 },
	};
	int status = 0;

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		struct contest contest = {
			.options = options,
			.name = "working-set",
			.param = levels[i].param,
			.threads = 1,
			.metrics = BIT(UP_POINTS) | BIT(DOWN_POINTS),
			.bytes = case_bytes(options, 256 * MIB),
			.number = levels[i].percent,
			.warms_up = true,
			.ours = error_trial,
		};

		status |= contest_run(&contest);
	}
	return status;
}

/* ---- Slowdown ------------------------------------------------------------------ */

/* The peer is the side that does not sample. */
static int slowdown_trial(struct trial *trial)
{
	bool samples = trial->side != SIDE_PEER;
	struct trial as = *trial;
	struct ovc_vm_stats stats = { .size = sizeof(stats) };
	struct ours ours;

	as.side = kind_of_memory(trial);
	if (open_watched(&as, &ours, samples ? SLOWDOWN_MS : NEVER_MS) ||
	    workers_run(trial, &ours.arena, SLOWDOWN_MS))
		return -1;
	if (ovc_vm_stats(ours.vm, &stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	if (samples && stats.put_back_bytes < 100 * PAGE)
		return fail(trial, TRIAL_FAILED, "nothing was sampled");
	ours_close(&ours);
	return 0;
}

static int run_slowdown(const struct options *options)
{
	struct contest contest = {
		.options = options,
		.name = "working-set",
		.param = "slowdown,sample=1s",
		.peer = "not-sampling",
		.threads = WORKERS,
		.metrics = BIT(PER_S),
		.bytes = case_bytes(options, 256 * MIB),
		.ours = slowdown_trial,
		.theirs = slowdown_trial,
	};

	return contest_run_kinds(&contest);
}

int case_working_set(const struct options *options)
{
	int status = run_errors(options);

	return status | run_slowdown(options);
}
