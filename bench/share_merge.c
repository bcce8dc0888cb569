/* SPDX-License-Identifier: MIT */
/*
 * share-merge: two guests whose pages are equal, in the same order; and
 * share-scattered: the second one's in random order.
 *
 * Timed from the moment that sharing is let loose until all pages are shared
 * but one in a hundred; both sides may take a whole CPU. Pages a second are
 * frames saved, CPU time is for each of them. The peer, KSM, looks at 100,000
 * pages at a time and does not sleep.
 *
 * Pages in random order that are mapped one by one from where they are kept
 * take as many mappings as there are pages: so that case is run with the limit
 * of mappings, vm.max_map_count, as it was found, and with a raised one, which
 * is put back. KSM knows no such limit.
 *
 * Fails where a byte of a guest is not what it was; unavailable where the limit
 * cannot be raised.
 */
#include <string.h>

#include "bench.h"

#define MAP_COUNT     "/proc/sys/vm/max_map_count"
#define MAP_COUNT_MAX 1000000

enum { IN_ORDER, SCATTERED, SCATTERED_RAISED };

static int report(struct trial *trial, struct guests *guests, uint64_t begin,
		  double cpu)
{
	double *value = trial->out->value;
	uint64_t saved;
	double wall;

	cpu = guests_cpu(guests) - cpu;
	wall = (double)(now_ns() - begin) * 1e-9;
	if (guests_saved(trial, guests, &saved))
		return -1;
	value[PER_S] = (double)(saved / PAGE) / wall;
	value[CPU_US_PER_PAGE] = cpu * 1e6 / (double)(saved / PAGE);
	return 0;
}

static int measure(struct trial *trial, struct guests *guests)
{
	size_t len = guests->arena[0].len;
	double cpu = guests_cpu(guests);
	uint64_t begin = now_ns();

	if (guests_share(trial, guests, 100) ||
	    guests_wait(trial, guests, len - len / 100))
		return -1;
	return report(trial, guests, begin, cpu);
}

static int trial_run(struct trial *trial)
{
	struct guests guests;

	if (trial->contest->number == SCATTERED_RAISED &&
	    setting_number(MAP_COUNT) < MAP_COUNT_MAX)
		return fail(trial, TRIAL_UNAVAILABLE,
			    "vm.max_map_count cannot be raised");
	if (guests_open(trial, &guests, 2, KSM_FASTEST))
		return -1;
	if (trial->contest->number != IN_ORDER) {
		guests.id[1] = shuffled(guests.arena[1].len / PAGE);
		if (!guests.id[1])
			return fail(trial, TRIAL_FAILED, "no memory");
	}
	guests_fill(&guests);
	if (measure(trial, &guests) || guests_check(trial, &guests, 0) ||
	    guests_check(trial, &guests, 1))
		return -1;
	guests_close(&guests);
	return 0;
}

static int run(const struct options *options, const char *name,
	       const char *param, int how, size_t bytes)
{
	struct contest contest = {
		.options = options,
		.name = name,
		.param = param,
		.peer = "ksm",
		.threads = 1,
		.metrics = BIT(PER_S) | BIT(CPU_US_PER_PAGE),
		.bytes = case_bytes(options, bytes),
		.number = how,
		.ksm = true,
		.ours = trial_run,
		.theirs = trial_run,
	};

	return contest_run(&contest);
}

int case_share_merge(const struct options *options)
{
	return run(options, "share-merge", "", IN_ORDER, GIB);
}

int case_share_scattered(const struct options *options)
{
	int status = run(options, "share-scattered", "map_count=found",
			 SCATTERED, 512 * MIB);

	if (setting_number(MAP_COUNT) < MAP_COUNT_MAX &&
	    setting_save(MAP_COUNT) == 0)
		setting_write(MAP_COUNT, "1000000");
	status |= run(options, "share-scattered", "map_count=raised",
		      SCATTERED_RAISED, 512 * MIB);
	settings_restore();
	return status;
}
