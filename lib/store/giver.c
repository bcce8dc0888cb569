/* SPDX-License-Identifier: MIT */
/*
 * Gives the space of free slots back.
 *
 * A ring of runs: those from `tail` were given and wait to be collected, the one at
 * `next` is being given, those behind it up to `head` are offered. A run that follows
 * the one offered last is joined to it, up to 4 MiB, which thin volumes prefer; not
 * more, for who needs the slots cannot have the run in hand.
 *
 * Failures: where a file system or device gives nothing back it says so at the first
 * run, and is not asked again; any other failure leaves the space where it is until it is
 * used and freed again. On stop the run in hand is waited for.
 */
#include "store/giver.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "core/meta.h"
#include "sys/thread.h"

#define RUNS	 256 /* a power of two */
#define RUN_MOST 1024

struct run {
	uint64_t first, nr;
};

struct ovc_giver {
	const struct ovc_file *file;
	pthread_t thread;
	pthread_mutex_t lock; /* of all below; never held while giving */
	pthread_cond_t more, given;
	bool stop, useless;
	bool giving; /* the run at `next` */
	unsigned head, next, tail;
	struct run runs[RUNS];
};

static void give(struct ovc_giver *g)
{
	struct run run = g->runs[g->next % RUNS];
	int error;

	g->giving = true;
	pthread_mutex_unlock(&g->lock);
	error = ovc_file_punch(g->file, run.first << 12, run.nr << 12);
	pthread_mutex_lock(&g->lock);
	g->giving = false;
	g->useless |= error == -EOPNOTSUPP || error == -ENOTTY;
	g->next++;
	pthread_cond_signal(&g->given);
}

static void *work(void *arg)
{
	struct ovc_giver *g = arg;

	pthread_mutex_lock(&g->lock);
	while (!g->stop) {
		if (g->next == g->head)
			pthread_cond_wait(&g->more, &g->lock);
		else
			give(g);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

int ovc_giver_create(const struct ovc_file *file, struct ovc_giver **giverp)
{
	struct ovc_giver *g = ovc_meta_zalloc(sizeof(*g));
	pthread_condattr_t attr;
	int error;

	if (!g)
		return -ENOMEM;
	g->file = file;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->more, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->given, &attr);
	pthread_condattr_destroy(&attr);
	error = ovc_thread_start(&g->thread, "ovc-giver", work, g);
	if (error) {
		pthread_cond_destroy(&g->given);
		pthread_cond_destroy(&g->more);
		pthread_mutex_destroy(&g->lock);
		ovc_meta_free(g);
		return error;
	}
	*giverp = g;
	return 0;
}

void ovc_giver_destroy(struct ovc_giver **giverp)
{
	struct ovc_giver *g = *giverp;

	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->stop = true;
	pthread_cond_signal(&g->more);
	pthread_mutex_unlock(&g->lock);
	pthread_join(g->thread, NULL);
	pthread_cond_destroy(&g->given);
	pthread_cond_destroy(&g->more);
	pthread_mutex_destroy(&g->lock);
	ovc_meta_free(g);
	*giverp = NULL;
}

/* Does it follow the run offered last, which nobody has begun? */
static bool join(struct ovc_giver *g, uint64_t first, uint64_t nr)
{
	struct run *last = &g->runs[(g->head - 1) % RUNS];

	if (g->head - g->next <= (unsigned)g->giving ||
	    last->nr + nr > RUN_MOST || last->first + last->nr != first)
		return false;
	last->nr += nr;
	return true;
}

bool ovc_giver_offer(struct ovc_giver *g, uint64_t first, uint64_t nr)
{
	bool taken;

	pthread_mutex_lock(&g->lock);
	taken = !g->useless && join(g, first, nr);
	if (!taken && !g->useless && g->head - g->tail < RUNS) {
		g->runs[g->head++ % RUNS] = (struct run){ first, nr };
		pthread_cond_signal(&g->more);
		taken = true;
	}
	pthread_mutex_unlock(&g->lock);
	return taken;
}

static void copy_out(const struct run *run, uint64_t *first, uint64_t *nr)
{
	*first = run->first;
	*nr = run->nr;
}

bool ovc_giver_collect(struct ovc_giver *g, uint64_t *first, uint64_t *nr)
{
	bool is_one;

	pthread_mutex_lock(&g->lock);
	is_one = g->tail != g->next;
	if (is_one)
		copy_out(&g->runs[g->tail++ % RUNS], first, nr);
	pthread_mutex_unlock(&g->lock);
	return is_one;
}

void ovc_giver_wait(struct ovc_giver *g, unsigned ms)
{
	uint64_t end = ovc_now_ns() + ms * 1000000ull;
	const struct timespec until = { .tv_sec = (time_t)(end / 1000000000),
					.tv_nsec = (long)(end % 1000000000) };
	int error = 0;

	pthread_mutex_lock(&g->lock);
	while (!error && g->tail == g->next && g->next != g->head)
		error = pthread_cond_timedwait(&g->given, &g->lock, &until);
	pthread_mutex_unlock(&g->lock);
}

bool ovc_giver_recall(struct ovc_giver *g, uint64_t *first, uint64_t *nr)
{
	bool is_one;

	pthread_mutex_lock(&g->lock);
	is_one = g->head - g->next > (unsigned)g->giving;
	if (is_one)
		copy_out(&g->runs[--g->head % RUNS], first, nr);
	pthread_mutex_unlock(&g->lock);
	return is_one;
}
