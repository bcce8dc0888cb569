/* SPDX-License-Identifier: MIT */
/*
 * Threads that pick pages from a Zipf distribution (exponent 0.99), whose ranks
 * are scattered over all memory by a permutation, and read, modify and write
 * four words of the page. Operations are counted and timed after a warm-up.
 *
 * The first word of each page is never written: one that changed fails the
 * trial. On stop the threads end with the trial's process.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "bench.h"

#define MOST_THREADS 8
#define THETA	     0.99

enum phase { WARMING, MEASURING, ENDING }; /* of a workload; atomic */

struct worker {
	pthread_t thread;
	struct workload *load;
	uint64_t state;
	uint64_t wrong;
	struct hist hist;
};

static double zeta(size_t nr)
{
	double sum = 0;

	for (size_t i = 1; i <= nr; i++)
		sum += pow((double)i, -THETA);
	return sum;
}

/* Gray et al., "Quickly generating billion-record synthetic databases",
 * SIGMOD 1994, section 3.2. */
static void zipf_init(struct zipf *zipf, size_t nr)
{
	zipf->nr = (double)nr;
	zipf->zeta = zeta(nr);
	zipf->alpha = 1 / (1 - THETA);
	zipf->eta =
		(1 - pow(2 / zipf->nr, 1 - THETA)) / (1 - zeta(2) / zipf->zeta);
	zipf->second = 1 + pow(0.5, THETA);
}

/* A rank from 0; `random` has all its 64 bits. */
static size_t zipf_rank(const struct zipf *zipf, uint64_t random)
{
	double u = (double)(random >> 11) * 0x1p-53;
	double rank;

	if (u * zipf->zeta < 1)
		return 0;
	if (u * zipf->zeta < zipf->second)
		return 1;
	rank = zipf->nr * pow(zipf->eta * u - zipf->eta + 1, zipf->alpha);
	return rank < zipf->nr ? (size_t)rank : (size_t)zipf->nr - 1;
}

/* One operation: 1 where the page is not the one that it should be. */
static uint64_t operate(const struct arena *arena, size_t idx, uint64_t random)
{
	volatile uint64_t *word = arena_page(arena, idx);
	uint64_t wrong = word[0] != arena_word(idx);

	for (int i = 0; i < 4; i++) {
		size_t at = 1 + (random >> (i * 9)) % (PAGE / 8 - 1);

		word[at] = word[at] + random;
	}
	return wrong;
}

static void *work(void *arg)
{
	struct worker *me = arg;
	struct workload *load = me->load;
	int phase;

	while ((phase = __atomic_load_n(&load->phase, __ATOMIC_RELAXED)) !=
	       ENDING) {
		uint64_t random = xorshift(&me->state);
		size_t idx = load->order[zipf_rank(&load->zipf, random)];
		uint64_t begin;

		random = xorshift(&me->state);
		begin = now_ns();
		me->wrong += operate(load->arena, idx, random);
		if (phase == MEASURING)
			hist_add(&me->hist, now_ns() - begin);
	}
	return NULL;
}

static void set_phase(struct workload *load, enum phase phase)
{
	__atomic_store_n(&load->phase, (int)phase, __ATOMIC_RELAXED);
}

static void time_phases(struct trial *trial, struct workload *load,
			double *wall, double *cpu)
{
	unsigned seconds = trial->options->seconds;
	uint64_t begin;

	nap_ms(load->warm_ms);
	*cpu = cpu_seconds();
	begin = now_ns();
	set_phase(load, MEASURING);
	nap_ms(1000 * seconds);
	set_phase(load, ENDING);
	*wall = (double)(now_ns() - begin) * 1e-9;
	*cpu = cpu_seconds() - *cpu;
}

static int report(struct trial *trial, struct worker *workers, unsigned threads,
		  double wall, double cpu)
{
	double *value = trial->out->value;
	struct hist *all = &workers[0].hist;
	uint64_t wrong = workers[0].wrong;

	for (unsigned i = 1; i < threads; i++) {
		hist_merge(all, &workers[i].hist);
		wrong += workers[i].wrong;
	}
	if (wrong)
		return fail(trial, TRIAL_FAILED, "%llu pages held wrong bytes",
			    (unsigned long long)wrong);
	value[PER_S] = (double)all->nr / wall;
	value[P99_US] = hist_us(all, 0.99);
	value[CPU_SECONDS] = cpu;
	value[CPU_US_PER_PAGE] = cpu * 1e6 / (double)all->nr;
	return 0;
}

int zipf_run(struct trial *trial, struct workload *load)
{
	static struct worker workers[MOST_THREADS];
	double wall, cpu;

	for (unsigned i = 0; i < load->threads; i++) {
		workers[i].load = load;
		workers[i].state = arena_word(i + 1);
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			return fail(trial, TRIAL_FAILED, "no threads");
	}
	time_phases(trial, load, &wall, &cpu);
	for (unsigned i = 0; i < load->threads; i++)
		pthread_join(workers[i].thread, NULL);
	return report(trial, workers, load->threads, wall, cpu);
}

int zipf_open(struct trial *trial, struct workload *load, size_t pages)
{
	*load = (struct workload){ .order = shuffled(pages) };
	if (!load->order)
		return fail(trial, TRIAL_FAILED, "no memory");
	zipf_init(&load->zipf, pages);
	return 0;
}

void zipf_close(struct workload *load)
{
	free(load->order);
	load->order = NULL;
}
