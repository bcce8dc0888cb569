/* SPDX-License-Identifier: MIT */
/*
 * The watchdog looks once a second. Each thread counts what it begins; a count
 * that stays the same for WATCH_SECONDS is a hang, for no single operation here
 * takes a tenth of that.
 */
#include "watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 128

struct watched {
	_Atomic int used;
	char who[24];
	int tid;
	const char *_Atomic what;
	const void *_Atomic addr;
	_Atomic unsigned long count;
	_Atomic unsigned same; /* seconds without progress */
	unsigned long seen;    /* the watchdog's own */
};

static struct watched table[MOST];
static atomic_bool stop;
static pthread_t thread;

static void print_wchan(int tid)
{
	char path[64], line[128] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", tid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	fclose(f);
	fprintf(stderr, " in the kernel's %s", line);
}

static void print_all(void)
{
	for (unsigned i = 0; i < MOST; i++) {
		struct watched *w = &table[i];

		if (atomic_load(&w->used) != 2)
			continue;
		fprintf(stderr, "stress:  %-12s %2u s: %s at %p (#%lu)", w->who,
			atomic_load(&w->same), atomic_load(&w->what),
			atomic_load(&w->addr), atomic_load(&w->count));
		print_wchan(w->tid);
		fprintf(stderr, "\n");
	}
}

static void look(struct watched *w)
{
	unsigned long count = atomic_load(&w->count);

	if (count != w->seen)
		atomic_store(&w->same, 0);
	w->seen = count;
	if (atomic_fetch_add(&w->same, 1) < WATCH_SECONDS)
		return;
	fprintf(stderr, "stress: HANG: %s made no progress for %d s\n", w->who,
		WATCH_SECONDS);
	print_all();
	abort();
}

static void *run(void *arg)
{
	while (!atomic_load(&stop)) {
		for (unsigned i = 0; i < MOST; i++)
			if (atomic_load(&table[i].used) == 2)
				look(&table[i]);
		for (unsigned i = 0; i < 20 && !atomic_load(&stop); i++)
			usleep(50000);
	}
	return arg;
}

void watch_start(void)
{
	atomic_store(&stop, false);
	if (pthread_create(&thread, NULL, run, NULL))
		abort();
}

void watch_stop(void)
{
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
}

struct watched *watch_join(const char *who, unsigned n)
{
	for (unsigned i = 0; i < MOST; i++) {
		struct watched *w = &table[i];
		int is = 0;

		if (!atomic_compare_exchange_strong(&w->used, &is, 1))
			continue;
		snprintf(w->who, sizeof(w->who), "%s/%u", who, n);
		w->tid = (int)syscall(SYS_gettid);
		atomic_store(&w->same, 0);
		atomic_store(&w->what, "begin");
		atomic_store(&w->used, 2);
		return w;
	}
	abort();
}

void watch_leave(struct watched *w)
{
	atomic_store(&w->used, 0);
}

void watch(struct watched *w, const char *what, const void *addr)
{
	atomic_store_explicit(&w->what, what, memory_order_relaxed);
	atomic_store_explicit(&w->addr, addr, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->count, 1, memory_order_relaxed);
}
