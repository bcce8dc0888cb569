/* SPDX-License-Identifier: MIT */
/*
 * overcommit: a Zipf workload on memory of 1.0 to 3.0 times the budget.
 *
 * Two threads pick pages from a Zipf distribution (exponent 0.99), whose ranks
 * are scattered over all memory by a permutation, and read, modify and write
 * four words of the page. Operations are counted and timed after a warm-up of
 * at least two seconds. The budget is half of --size; it is the host's budget
 * for ours and the memory cgroup's limit, with a swap file, for the peer. Where
 * all of the memory is hot the kernel may find nothing to reclaim and kill the
 * peer; each time it does, the peer's limit grows by 2 MiB for the next try.
 *
 * The first word of each page is never written: one that changed fails the
 * trial. On stop the threads end with the trial's process.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define THREADS	     2
#define THETA	     0.99
#define WARM_SECONDS 2u

/* Gray et al., "Quickly generating billion-record synthetic databases",
 * SIGMOD 1994, section 3.2. */
struct zipf {
	double nr;
	double zeta;
	double alpha;
	double eta;
	double second; /* up to here it is rank 1 */
};

enum phase { WARMING, MEASURING, ENDING };

struct workload {
	const struct arena *arena;
	uint32_t *order;
	struct zipf zipf;
	int phase; /* enum phase, atomic */
};

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

	nap_ms(1000 * (seconds > WARM_SECONDS ? seconds : WARM_SECONDS));
	*cpu = cpu_seconds();
	begin = now_ns();
	set_phase(load, MEASURING);
	nap_ms(1000 * seconds);
	set_phase(load, ENDING);
	*wall = (double)(now_ns() - begin) * 1e-9;
	*cpu = cpu_seconds() - *cpu;
}

static int report(struct trial *trial, struct worker *workers, double wall,
		  double cpu)
{
	double *value = trial->out->value;
	struct hist *all = &workers[0].hist;
	uint64_t wrong = workers[0].wrong;

	for (int i = 1; i < THREADS; i++) {
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

static int run_load(struct trial *trial, struct workload *load)
{
	static struct worker workers[THREADS];
	double wall, cpu;

	for (int i = 0; i < THREADS; i++) {
		workers[i].load = load;
		workers[i].state = arena_word((size_t)i + 1);
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			return fail(trial, TRIAL_FAILED, "no threads");
	}
	time_phases(trial, load, &wall, &cpu);
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	return report(trial, workers, wall, cpu);
}

/* What is not guest memory is touched here, before the peer is limited. */
static int prepare(struct trial *trial, struct workload *load)
{
	size_t pages = trial->contest->bytes / PAGE;

	*load = (struct workload){ .order = shuffled(pages) };
	if (!load->order)
		return fail(trial, TRIAL_FAILED, "no memory");
	zipf_init(&load->zipf, pages);
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
	if (run_load(trial, &load))
		return -1;
	ours_close(&ours);
	free(load.order);
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
	return run_load(trial, &load);
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
