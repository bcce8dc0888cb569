/* SPDX-License-Identifier: MIT */
/*
 * idle-overhead: what a registered region costs while there is no pressure.
 *
 * First touches: every page of an untouched arena is written once, in order.
 * Random accesses: 8 bytes at random places of touched memory are read and
 * written. The peer is plain anonymous memory, mapped in the same way.
 *
 * Fails where the library began to track faults, which it must not do here.
 */
#include "bench.h"

#define ACCESSES 32000000u

enum { FIRST_TOUCH, RANDOM };

static void touch_all(const struct arena *arena)
{
	for (size_t at = 0; at < arena->len; at += PAGE)
		*(volatile char *)(arena->addr + at) = 1;
}

static void access_randomly(const struct arena *arena)
{
	volatile uint64_t *words = arena_page(arena, 0);
	size_t nr = arena->len / sizeof(*words);
	uint64_t state = 88172645463325252u;

	for (unsigned i = 0; i < ACCESSES; i++) {
		/* As xorshift(&state) % nr, without the division. */
		uint64_t at = ((xorshift(&state) >> 32) * nr) >> 32;

		words[at] = words[at] + 1;
	}
}

static void measure(struct trial *trial, const struct arena *arena)
{
	double *value = trial->out->value;
	bool random = trial->contest->number == RANDOM;
	double nr = random ? ACCESSES : (double)(arena->len / PAGE);
	uint64_t begin;
	double cpu;

	if (random)
		touch_all(arena);
	cpu = cpu_seconds();
	begin = now_ns();
	if (random)
		access_randomly(arena);
	else
		touch_all(arena);
	value[PER_S] = nr / ((double)(now_ns() - begin) * 1e-9);
	value[CPU_SECONDS] = cpu_seconds() - cpu;
	value[CPU_US_PER_PAGE] = value[CPU_SECONDS] * 1e6 / nr;
}

static int ours_trial(struct trial *trial)
{
	struct ovc_host_stats stats;
	struct ours ours;

	if (ours_open(trial, &ours, ample_budget(trial->contest->bytes), false))
		return -1;
	warm_frames(trial->contest->bytes);
	measure(trial, &ours.arena);
	if (ours_host_stats(trial, &ours, &stats))
		return -1;
	if (stats.tracked)
		return fail(trial, TRIAL_FAILED, "tracked without pressure");
	ours_close(&ours);
	return 0;
}

static int their_trial(struct trial *trial)
{
	struct arena arena;

	if (arena_map(&arena, trial->contest->bytes, false))
		return fail(trial, TRIAL_FAILED, "no memory");
	warm_frames(arena.len);
	measure(trial, &arena);
	arena_unmap(&arena);
	return 0;
}

int case_idle_overhead(const struct options *options)
{
	static const char *const param[] = { "op=first-touch", "op=random" };
	int status = 0;

	for (int op = FIRST_TOUCH; op <= RANDOM; op++) {
		struct contest contest = {
			.options = options,
			.name = "idle-overhead",
			.param = param[op],
			.peer = "plain-anon",
			.threads = 1,
			.metrics = BIT(PER_S) | CPU,
			.bytes = case_bytes(options, 512 * MIB),
			.number = op,
			.ours = ours_trial,
			.theirs = their_trial,
		};

		status |= contest_run(&contest);
	}
	return status;
}
