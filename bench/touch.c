/* SPDX-License-Identifier: MIT */
/*
 * Threads that touch pages, each page once, and time each touch where it
 * happens, in the thread that touches.
 *
 * A touch reads the page's first word or, to write, stores to the second. The
 * first word is compared afterwards with what the page must hold; a page that
 * holds something else makes the trial a failure, whatever its speed.
 *
 * The threads are not bound to CPUs. They start together behind a barrier.
 * Failures are -errno of creating threads or of memory.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "bench.h"

struct toucher {
	pthread_t thread;
	pthread_barrier_t *start;
	const struct touching *what;
	size_t from;
	size_t to;
	uint64_t wrong;
	struct hist hist;
};

struct touched {
	struct hist hist;
	double wall;	/* seconds, first touch to last */
	double cpu;	/* seconds of the process meanwhile */
	uint64_t wrong; /* pages that did not hold what they should */
};

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void nap_ms(unsigned ms)
{
	struct timespec left = {
		.tv_sec = ms / 1000,
		.tv_nsec = (long)(ms % 1000) * 1000000,
	};

	while (nanosleep(&left, &left))
		;
}

static double seconds(struct timeval tv)
{
	return (double)tv.tv_sec + (double)tv.tv_usec * 1e-6;
}

double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/* Exact below HIST_SUB; above, eight bits after the leading one. */
static size_t hist_bucket(uint64_t ns)
{
	unsigned shift;
	size_t bucket;

	if (ns < HIST_SUB)
		return ns;
	shift = 63 - (unsigned)__builtin_clzll(ns) - 8;
	bucket = (size_t)shift * HIST_SUB + (size_t)(ns >> shift);
	return bucket < HIST_BUCKETS ? bucket : HIST_BUCKETS - 1;
}

static double hist_middle(size_t bucket)
{
	size_t shift = bucket / HIST_SUB;

	if (shift < 2)
		return (double)bucket;
	shift--;
	return ((double)(bucket - shift * HIST_SUB) + 0.5) *
	       (double)((uint64_t)1 << shift);
}

void hist_add(struct hist *hist, uint64_t ns)
{
	hist->nr++;
	hist->count[hist_bucket(ns)]++;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	into->nr += from->nr;
	for (size_t i = 0; i < HIST_BUCKETS; i++)
		into->count[i] += from->count[i];
}

double hist_us(const struct hist *hist, double quantile)
{
	uint64_t before = (uint64_t)((double)hist->nr * quantile);
	uint64_t seen = 0;

	for (size_t i = 0; i < HIST_BUCKETS; i++) {
		seen += hist->count[i];
		if (seen > before)
			return hist_middle(i) / 1000;
	}
	return 0;
}

static void touch_one(struct toucher *me, size_t idx)
{
	volatile uint64_t *word = arena_page(me->what->arena, idx);
	uint64_t want = me->what->zero ? 0 : arena_word(idx);
	uint64_t begin = now_ns();

	if (me->what->write)
		word[1] = 1;
	else
		(void)word[0];
	hist_add(&me->hist, now_ns() - begin);
	me->wrong += word[0] != want;
}

static void *touch_thread(void *arg)
{
	struct toucher *me = arg;
	const uint32_t *order = me->what->order;

	pthread_barrier_wait(me->start);
	for (size_t i = me->from; i < me->to; i++)
		touch_one(me, order ? order[i] : me->what->first + i);
	return NULL;
}

/* A thread that cannot be created leaves the others at the barrier: the trial's
 * process is about to end, and they with it. */
static int start_threads(struct toucher *toucher, pthread_barrier_t *start,
			 const struct touching *what)
{
	for (unsigned i = 0; i < what->threads; i++) {
		struct toucher *t = &toucher[i];
		int err;

		t->start = start;
		t->what = what;
		t->from = what->nr * i / what->threads;
		t->to = what->nr * (i + 1) / what->threads;
		err = pthread_create(&t->thread, NULL, touch_thread, t);
		if (err)
			return -err;
	}
	return 0;
}

static int touch(const struct touching *what, struct touched *touched)
{
	struct toucher *toucher = calloc(what->threads, sizeof(*toucher));
	pthread_barrier_t start;
	uint64_t begin;
	double cpu;
	int err;

	if (!toucher)
		return -ENOMEM;
	memset(touched, 0, sizeof(*touched));
	pthread_barrier_init(&start, NULL, what->threads + 1);
	err = start_threads(toucher, &start, what);
	if (err)
		return err;
	cpu = cpu_seconds();
	begin = now_ns();
	pthread_barrier_wait(&start);
	for (unsigned i = 0; i < what->threads; i++)
		pthread_join(toucher[i].thread, NULL);
	touched->wall = (double)(now_ns() - begin) * 1e-9;
	touched->cpu = cpu_seconds() - cpu;
	for (unsigned i = 0; i < what->threads; i++) {
		hist_merge(&touched->hist, &toucher[i].hist);
		touched->wrong += toucher[i].wrong;
	}
	pthread_barrier_destroy(&start);
	free(toucher);
	return 0;
}

static int report(struct trial *trial, const struct touching *what,
		  const struct touched *touched)
{
	double *value = trial->out->value;
	double nr = (double)what->nr;

	if (touched->wrong)
		return fail(trial, TRIAL_FAILED,
			    "%llu of %zu pages held wrong bytes",
			    (unsigned long long)touched->wrong, what->nr);
	value[P50_US] = hist_us(&touched->hist, 0.5);
	value[P99_US] = hist_us(&touched->hist, 0.99);
	value[P999_US] = hist_us(&touched->hist, 0.999);
	value[PER_S] = nr / touched->wall;
	value[GB_PER_S] = nr * (double)PAGE / touched->wall * 1e-9;
	value[CPU_US_PER_PAGE] = touched->cpu * 1e6 / nr;
	value[CPU_SECONDS] = touched->cpu;
	return 0;
}

int touch_pages(struct trial *trial, const struct touching *what)
{
	static struct touched touched;
	int err = touch(what, &touched);

	if (err)
		return fail(trial, TRIAL_FAILED, "%s", strerror(-err));
	return report(trial, what, &touched);
}

void report_bytes(struct trial *trial, size_t bytes, uint64_t begin, double cpu)
{
	double *value = trial->out->value;
	double wall = (double)(now_ns() - begin) * 1e-9;

	value[GB_PER_S] = (double)bytes / wall * 1e-9;
	value[CPU_SECONDS] = cpu_seconds() - cpu;
	value[CPU_US_PER_PAGE] =
		value[CPU_SECONDS] * 1e6 / (double)(bytes / PAGE);
}
