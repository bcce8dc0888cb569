/* SPDX-License-Identifier: MIT */
/*
 * Two threads that read, modify and write words at random places of all memory, so
 * that nearly every page is written all the time. Counted after a warm-up.
 *
 * The threads write to words of their own and add 1 each time: fails where the sum of
 * all memory did not grow by the number of operations. On stop they end with the
 * trial's process.
 */
#include <pthread.h>

#include "bench.h"

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

static double time_phases(struct trial *trial, unsigned warm_ms, int *phase)
{
	uint64_t begin;

	nap_ms(warm_ms);
	begin = now_ns();
	__atomic_store_n(phase, (int)MEASURING, __ATOMIC_RELAXED);
	nap_ms(1000 * trial->options->seconds);
	__atomic_store_n(phase, (int)ENDING, __ATOMIC_RELAXED);
	return (double)(now_ns() - begin) * 1e-9;
}

int workers_run(struct trial *trial, const struct arena *arena,
		unsigned warm_ms)
{
	static struct worker workers[WORKERS];
	static int phase = WARMING;
	uint64_t before = sum(arena), all = 0, measured = 0;
	double wall;

	for (size_t i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){
			.arena = arena,
			.phase = &phase,
			.parity = i,
			.state = arena_word(i + 1),
		};
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			return fail(trial, TRIAL_FAILED, "no threads");
	}
	wall = time_phases(trial, warm_ms, &phase);
	for (size_t i = 0; i < WORKERS; i++) {
		pthread_join(workers[i].thread, NULL);
		all += workers[i].all;
		measured += workers[i].measured;
	}
	if (sum(arena) - before != all)
		return fail(trial, TRIAL_FAILED, "writes were lost");
	trial->out->value[PER_S] = (double)measured / wall;
	return 0;
}
