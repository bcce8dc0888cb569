/* SPDX-License-Identifier: MIT */
/*
 * share-slowdown: a guest's work while equal pages are looked for, beside the
 * same work while they are not.
 *
 * Two threads read, modify and write words at random places of all memory, so
 * that nearly every page is written between two looks at it; nothing is equal.
 * Counted and timed after as long a warm-up, in which looking has begun, with
 * its default of CPU time. The peer is the library itself, told not to look, on
 * the same kind of memory.
 *
 * The threads write to words of their own and add 1 each time: fails where the
 * sum of all memory did not grow by the number of operations. On stop the
 * threads end with the trial's process.
 */
#include <pthread.h>

#include "bench.h"

#define THREADS 2

enum phase { WARMING, MEASURING, ENDING };

struct worker {
	pthread_t thread;
	const struct arena *arena;
	const int *phase; /* enum phase, atomic */
	size_t parity;	  /* of its words */
	uint64_t state;
	uint64_t all;	   /* operations */
	uint64_t measured; /* of these */
} __attribute__((aligned(128)));

static void *work(void *arg)
{
	struct worker *me = arg;
	volatile uint64_t *words = arena_page(me->arena, 0);
	size_t pairs = me->arena->len / sizeof(*words) / 2;
	int phase;

	while ((phase = __atomic_load_n(me->phase, __ATOMIC_RELAXED)) !=
	       ENDING) {
		/* As xorshift() % pairs, without the division. */
		uint64_t at = ((xorshift(&me->state) >> 32) * pairs) >> 32;

		at = 2 * at + me->parity;
		words[at] = words[at] + 1;
		me->all++;
		me->measured += phase == MEASURING;
	}
	return NULL;
}

static uint64_t sum(const struct arena *arena)
{
	const uint64_t *words = arena_page(arena, 0);
	uint64_t total = 0;

	for (size_t i = 0; i < arena->len / sizeof(*words); i++)
		total += words[i];
	return total;
}

static double time_phases(struct trial *trial, int *phase)
{
	unsigned ms = 1000 * trial->options->seconds;
	uint64_t begin;

	nap_ms(ms);
	begin = now_ns();
	__atomic_store_n(phase, (int)MEASURING, __ATOMIC_RELAXED);
	nap_ms(ms);
	__atomic_store_n(phase, (int)ENDING, __ATOMIC_RELAXED);
	return (double)(now_ns() - begin) * 1e-9;
}

static int run_workers(struct trial *trial, const struct arena *arena)
{
	static struct worker workers[THREADS];
	static int phase = WARMING;
	uint64_t before = sum(arena), all = 0, measured = 0;
	double wall;

	for (size_t i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.arena = arena,
			.phase = &phase,
			.parity = i,
			.state = arena_word(i + 1),
		};
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			return fail(trial, TRIAL_FAILED, "no threads");
	}
	wall = time_phases(trial, &phase);
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		all += workers[i].all;
		measured += workers[i].measured;
	}
	if (sum(arena) - before != all)
		return fail(trial, TRIAL_FAILED, "writes were lost");
	trial->out->value[PER_S] = (double)measured / wall;
	return 0;
}

/* The peer is the side that does not look. */
static int trial_run(struct trial *trial)
{
	bool looks = trial->side != SIDE_PEER;
	struct trial as = *trial;
	struct ovc_host_stats stats = { .size = sizeof(stats) };
	struct guests guests;

	as.side = (enum side)trial->contest->number;
	if (guests_open(&as, &guests, 1, KSM_DEFAULT))
		return -1;
	guests_fill(&guests);
	if ((looks && guests_share(trial, &guests, 0)) ||
	    run_workers(trial, &guests.arena[0]))
		return -1;
	if (ovc_host_stats(guests.host, &stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	if (looks && !stats.scanned_bytes)
		return fail(trial, TRIAL_FAILED, "nothing was looked at");
	guests_close(&guests);
	return 0;
}

/* A contest for each kind of memory, so that the peer has the same. */
int case_share_slowdown(const struct options *options)
{
	int status = 0;

	for (enum side side = SIDE_ANON; side <= SIDE_MEMFD; side++) {
		struct options one = *options;
		struct contest contest = {
			.options = &one,
			.name = "share-slowdown",
			.param = "",
			.peer = "not-scanning",
			.threads = THREADS,
			.metrics = BIT(PER_S),
			.bytes = case_bytes(options, 512 * MIB),
			.number = side,
			.ours = trial_run,
			.theirs = trial_run,
		};

		if (!options->side[side])
			continue;
		one.side[SIDE_ANON] = side == SIDE_ANON;
		one.side[SIDE_MEMFD] = side == SIDE_MEMFD;
		status |= contest_run(&contest);
	}
	return status;
}
