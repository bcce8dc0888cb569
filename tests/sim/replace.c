/* SPDX-License-Identifier: MIT */
/*
 * ovc-sim: compares page replacement policies on traces.
 *
 *	ovc-sim [--pages N] [--warm N] [--measure N] [--seed N] [--trace NAME]
 *		[--check]
 *
 * Each trace first touches all pages in order, as a guest that fills its
 * memory; then come `warm` accesses a page that are not counted, and `measure`
 * that are. One line a policy: the share of accesses that found the page mapped
 * or staged (hit), put backs and stagings an access, and the cost.
 *
 * The first five policies see every access, as the kernel sees accessed bits;
 * we cannot have them. The others see faults only: of absent pages (60 us, what
 * a swap-in costs) and of staged pages (5 us, a put back); staging a page costs
 * 1 us. Staged pages take up cache. Their decisions are those of the library,
 * lib/policy/clock.c; `struct parts` says which of them are left out.
 *
 * The same arguments give the same output. With --check the exit status is 1 if
 * what we chose costs more than Linux's two lists where the cache is half of
 * the pages or less.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "policy/clock.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static uint32_t nr_pages = 65536;      /* --pages */
static uint32_t warm_per_page = 24;    /* --warm */
static uint32_t measure_per_page = 48; /* --measure */
static const char *only_trace;	       /* --trace */
static bool check;		       /* --check */
static int status;

static void *zalloc(size_t nr, size_t size)
{
	void *p = calloc(nr, size);

	if (!p) {
		fprintf(stderr, "ovc-sim: out of memory\n");
		exit(1);
	}
	return p;
}

/* ---- Random numbers (xorshift64*) ------------------------------------- */

static uint64_t rng = 88172645463325252ull;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 2685821657736338717ull;
}

static double rnd_unit(void)
{
	return (double)(rnd() >> 11) / 9007199254740992.0;
}

static uint32_t *scatter; /* rank to page */
static double *zipf_cdf;  /* of ranks, exponent 0.99 */

static void make_distributions(void)
{
	double sum = 0;

	scatter = zalloc(nr_pages, sizeof(*scatter));
	zipf_cdf = zalloc(nr_pages, sizeof(*zipf_cdf));
	for (uint32_t i = 0; i < nr_pages; i++) {
		uint32_t j = rnd() % (i + 1);

		scatter[i] = scatter[j];
		scatter[j] = i;
		sum += 1 / pow(i + 1, 0.99);
		zipf_cdf[i] = sum;
	}
	for (uint32_t i = 0; i < nr_pages; i++)
		zipf_cdf[i] /= sum;
}

static uint32_t zipf_rank(void)
{
	double u = rnd_unit();
	uint32_t lo = 0, hi = nr_pages - 1;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (zipf_cdf[mid] < u)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* ---- Traces ----------------------------------------------------------- */

static uint32_t *trace;
static size_t trace_warm, trace_len; /* counted from trace_warm on */
static uint32_t scan_at;

/* Of n accesses since the fill, the page of the i-th. */
static uint32_t zipf(size_t i, uint32_t cache)
{
	(void)i;
	(void)cache;
	return scatter[zipf_rank()];
}

/* Half of the time a scan over all memory takes a fifth of the accesses. */
static uint32_t zipf_scan(size_t i, uint32_t cache)
{
	if (i / (5 * (size_t)nr_pages) % 2 && rnd() % 5 == 0)
		return scan_at++ % nr_pages;
	return zipf(i, cache);
}

static uint32_t loop(size_t i, uint32_t cache)
{
	return i % (cache + cache / 10);
}

/* Each 8 accesses a page, every seventh of the popularity is another's. */
static uint32_t shift(size_t i, uint32_t cache)
{
	uint32_t phase = i / (8 * (size_t)nr_pages);

	(void)cache;
	return scatter[(zipf_rank() + phase * (nr_pages / 7)) % nr_pages];
}

static uint32_t uniform(size_t i, uint32_t cache)
{
	(void)i;
	(void)cache;
	return rnd() % nr_pages;
}

/* 70 % of the accesses to 30 % of the pages. */
static uint32_t hot_cold(size_t i, uint32_t cache)
{
	uint32_t hot = nr_pages / 10 * 3;

	(void)i;
	(void)cache;
	if (rnd() % 10 < 7)
		return scatter[rnd() % hot];
	return scatter[hot + rnd() % (nr_pages - hot)];
}

static const struct {
	const char *name;
	uint32_t (*next)(size_t i, uint32_t cache);
} traces[] = {
	{ "zipf", zipf },	{ "zipf+scan", zipf_scan },
	{ "loop", loop },	{ "shift", shift },
	{ "uniform", uniform }, { "hot-cold", hot_cold },
};

static void make_trace(unsigned t, uint32_t cache)
{
	scan_at = 0;
	for (size_t i = 0; i < nr_pages; i++)
		trace[i] = i;
	for (size_t i = nr_pages; i < trace_len; i++)
		trace[i] = traces[t].next(i - nr_pages, cache);
}

/* ---- What all policies have ------------------------------------------- */

struct counts {
	uint64_t misses, put_backs, stagings;
};
static struct counts counts;

static inline void count_from_here(size_t i)
{
	if (i == trace_warm)
		counts = (struct counts){ 0 };
}

/* A page's place in one of two lists (0: in none), most recent first. */
static uint32_t *next_page, *prev_page, *evicted_at;
static uint8_t *where, *accessed, *referenced;

struct list {
	uint32_t head, tail, nr;
};
#define NONE UINT32_MAX
static struct list lists[3];

static void list_push(int l, uint32_t p)
{
	struct list *list = &lists[l];

	where[p] = l;
	prev_page[p] = NONE;
	next_page[p] = list->head;
	if (list->nr++)
		prev_page[list->head] = p;
	else
		list->tail = p;
	list->head = p;
}

static void list_del(uint32_t p)
{
	struct list *list = &lists[where[p]];

	if (prev_page[p] != NONE)
		next_page[prev_page[p]] = next_page[p];
	else
		list->head = next_page[p];
	if (next_page[p] != NONE)
		prev_page[next_page[p]] = prev_page[p];
	else
		list->tail = prev_page[p];
	list->nr--;
	where[p] = 0;
}

static uint32_t list_pop(int l)
{
	uint32_t p = lists[l].tail;

	list_del(p);
	return p;
}

static void reset(void)
{
	memset(where, 0, nr_pages);
	memset(accessed, 0, nr_pages);
	memset(referenced, 0, nr_pages);
	memset(evicted_at, 0, nr_pages * sizeof(*evicted_at));
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		lists[i] = (struct list){ NONE, NONE, 0 };
	counts = (struct counts){ 0 };
}

/* ---- Policies that see every access ------------------------------------ */

static int descending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* The pages that will be used most, kept throughout: what LFU strives for. */
static void static_best(uint32_t cache)
{
	uint32_t *uses = zalloc(nr_pages, sizeof(*uses));

	for (size_t i = trace_warm; i < trace_len; i++)
		uses[trace[i]]++;
	qsort(uses, nr_pages, sizeof(*uses), descending);
	for (uint32_t i = cache; i < nr_pages; i++)
		counts.misses += uses[i];
	free(uses);
}

static void lru(uint32_t cache)
{
	for (size_t i = 0; i < trace_len; i++) {
		uint32_t p = trace[i];

		count_from_here(i);
		if (where[p]) {
			list_del(p);
		} else {
			counts.misses++;
			if (lists[1].nr == cache)
				list_pop(1);
		}
		list_push(1, p);
	}
}

static void clock_accessed(uint32_t cache)
{
	for (size_t i = 0; i < trace_len; i++) {
		uint32_t p = trace[i], victim;

		count_from_here(i);
		if (where[p]) {
			accessed[p] = 1;
			continue;
		}
		counts.misses++;
		while (lists[1].nr == cache) {
			victim = list_pop(1);
			if (accessed[victim])
				list_push(1, victim);
			accessed[victim] = 0;
		}
		list_push(1, p);
	}
}

/* Inactive pages are activated when found accessed twice; see mm/vmscan.c. */
static uint32_t two_list_evict(void)
{
	for (;;) {
		uint32_t p;

		if (lists[1].nr > lists[2].nr) {
			p = list_pop(1);
			accessed[p] = referenced[p] = 0;
			list_push(2, p);
			continue;
		}
		p = list_pop(2);
		if (!accessed[p])
			return p;
		accessed[p] = 0;
		list_push(referenced[p] ? 1 : 2, p);
		referenced[p] ^= 1;
	}
}

/* Linux: 1 is the active list, 2 the inactive; refault distance activates. */
static void two_list(uint32_t cache)
{
	uint32_t now = 0;

	for (size_t i = 0; i < trace_len; i++) {
		uint32_t p = trace[i], age = now - evicted_at[p];

		count_from_here(i);
		accessed[p] = 1;
		if (where[p])
			continue;
		counts.misses++;
		if (lists[1].nr + lists[2].nr == cache) {
			uint32_t victim = two_list_evict();

			referenced[victim] = 0;
			evicted_at[victim] = ++now;
		}
		list_push(evicted_at[p] && age <= lists[1].nr ? 1 : 2, p);
	}
}

/* S3-FIFO (Yang et al., SOSP 2023): 1 is the small queue, 2 the main one. */
static void s3_fifo_evict(uint32_t small, uint32_t *now)
{
	uint32_t p;

	if (lists[1].nr > small || !lists[2].nr) {
		p = list_pop(1);
		if (accessed[p] > 1) {
			accessed[p] = 0;
			list_push(2, p);
		} else {
			evicted_at[p] = ++*now;
		}
		return;
	}
	p = list_pop(2);
	if (accessed[p]) {
		accessed[p]--;
		list_push(2, p);
	}
}

static void s3_fifo(uint32_t cache)
{
	uint32_t now = 0, small = cache / 10;

	for (size_t i = 0; i < trace_len; i++) {
		uint32_t p = trace[i];
		bool ghost;

		count_from_here(i);
		if (where[p]) {
			accessed[p] += accessed[p] < 3;
			continue;
		}
		counts.misses++;
		while (lists[1].nr + lists[2].nr >= cache)
			s3_fifo_evict(small, &now);
		ghost = evicted_at[p] && now - evicted_at[p] < cache - small;
		evicted_at[p] = 0;
		accessed[p] = 0;
		list_push(ghost ? 2 : 1, p);
	}
}

/* ---- Policies that see faults ------------------------------------------ */

struct parts {
	unsigned ring_percent; /* 0: as ovc_clock_ring_target() says */
	bool probation;	       /* else the hand alone looks for pages */
	enum { NO_AGE, AGE, HISTORY } refault; /* what a refault goes by */
	bool no_odd;			       /* without the odd one out */
};

enum state { ABSENT, MAPPED, STAGED };

/* A queue of pages; entries go stale in place. */
struct queue {
	uint32_t *page;
	uint32_t mask, head, tail;
};

static struct {
	struct parts parts;
	uint32_t *heat, *ring_entry;
	struct queue ring, probation;
	uint32_t cache, used, staged, hand;
	uint32_t probation_limit, evictions, turnover;
	unsigned shift;
} f;

static void queue_init(struct queue *q)
{
	uint32_t size = 1;

	while (size < 4 * nr_pages)
		size *= 2;
	*q = (struct queue){ zalloc(size, sizeof(*q->page)), size - 1, 0, 0 };
}

static uint32_t queue_push(struct queue *q, uint32_t p)
{
	q->page[q->tail & q->mask] = p;
	return q->tail++;
}

static void examine(uint32_t p)
{
	if (where[p] != MAPPED || !ovc_clock_examine(&f.heat[p]))
		return;
	where[p] = STAGED;
	f.ring_entry[p] = queue_push(&f.ring, p);
	f.staged++;
	counts.stagings++;
}

/* Too many on probation: the oldest go; otherwise the hand visits a chunk. */
static void stage_some(void)
{
	struct queue *q = &f.probation;

	if (f.parts.probation && q->tail - q->head > f.probation_limit) {
		for (int i = 0; i < 64 && q->tail - q->head > f.probation_limit;
		     i++) {
			uint32_t p = q->page[q->head++ & q->mask];

			/* Entries of pages that have got warm are stale. */
			if (ovc_clock_on_probation(f.heat[p]))
				examine(p);
		}
		return;
	}
	for (unsigned i = 0; i < OVC_CLOCK_CHUNK; i++) {
		examine(f.hand);
		f.hand = (f.hand + 1) % nr_pages;
	}
}

static void settle_oldest(void)
{
	for (;;) {
		uint32_t entry = f.ring.head++;
		uint32_t p = f.ring.page[entry & f.ring.mask];

		if (where[p] != STAGED || f.ring_entry[p] != entry)
			continue; /* was put back */
		where[p] = ABSENT;
		f.heat[p] = ovc_clock_evict(f.heat[p], f.evictions >> f.shift);
		f.evictions++;
		referenced[p] = 1; /* was evicted once */
		f.staged--;
		f.used--;
		return;
	}
}

/* For comparison: one look at the age of the refault, nothing remembered. */
static uint32_t refault_by_age(uint32_t heat, uint32_t now)
{
	uint32_t age = (now - (heat >> 2)) & OVC_CLOCK_TIME_MASK;

	return age < f.turnover / 4 ? 2 << 2 : age < f.turnover ? 1 << 2 : 0;
}

static uint32_t refault(uint32_t p)
{
	uint32_t now = f.evictions >> f.shift;
	uint32_t salt = p + f.evictions;

	if (!referenced[p] || f.parts.refault == NO_AGE)
		return 0;
	if (f.parts.refault == AGE)
		return refault_by_age(f.heat[p], now);
	while (f.parts.no_odd && salt * 2654435761u >> 30 == 0)
		salt++;
	return ovc_clock_refault(f.heat[p], now, f.turnover, salt);
}

static uint32_t ring_target(void)
{
	if (!f.parts.ring_percent)
		return ovc_clock_ring_target(f.cache, f.evictions);
	return f.cache * f.parts.ring_percent / 100 + 1;
}

static void miss(uint32_t p)
{
	counts.misses++;
	if (f.used == f.cache) {
		while (f.staged < ring_target())
			stage_some();
		settle_oldest();
	}
	f.heat[p] = refault(p);
	where[p] = MAPPED;
	f.used++;
	if (f.parts.probation && ovc_clock_on_probation(f.heat[p]))
		queue_push(&f.probation, p);
}

static void put_back(uint32_t p)
{
	counts.put_backs++;
	f.heat[p] = ovc_clock_put_back(f.heat[p]);
	where[p] = MAPPED;
	f.staged--;
}

static void faults_only(const struct parts *parts, uint32_t cache)
{
	memset(&f, 0, sizeof(f));
	f.parts = *parts;
	f.heat = zalloc(nr_pages, sizeof(*f.heat));
	f.ring_entry = zalloc(nr_pages, sizeof(*f.ring_entry));
	queue_init(&f.ring);
	queue_init(&f.probation);
	f.cache = cache;
	f.probation_limit = ovc_clock_probation_limit(cache);
	f.shift = ovc_clock_shift(cache);
	f.turnover = cache >> f.shift;
	for (size_t i = 0; i < trace_len; i++) {
		count_from_here(i);
		if (where[trace[i]] == ABSENT)
			miss(trace[i]);
		else if (where[trace[i]] == STAGED)
			put_back(trace[i]);
	}
	free(f.heat);
	free(f.ring_entry);
	free(f.ring.page);
	free(f.probation.page);
}

/* ---- The program ------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(uint32_t cache); /* NULL: faults_only() with parts */
	struct parts parts;
} policies[] = {
	{ "static best", static_best, { 0 } },
	{ "LRU", lru, { 0 } },
	{ "CLOCK", clock_accessed, { 0 } },
	{ "two lists (Linux)", two_list, { 0 } },
	{ "S3-FIFO", s3_fifo, { 0 } },
	{ "hand, ring 5%", NULL, { 5, false, NO_AGE, true } },
	{ "hand, age, ring 5%", NULL, { 5, false, AGE, true } },
	{ "probation, age, ring 5%", NULL, { 5, true, AGE, true } },
	{ "hand, history, ring 5%", NULL, { 5, false, HISTORY, false } },
	{ "chosen", NULL, { 0, true, HISTORY, false } },
	{ "chosen without odd one out", NULL, { 0, true, HISTORY, true } },
	{ "chosen, ring 2%", NULL, { 2, true, HISTORY, false } },
	{ "chosen, ring 5%", NULL, { 5, true, HISTORY, false } },
	{ "chosen, ring 10%", NULL, { 10, true, HISTORY, false } },
	{ "chosen, ring 20%", NULL, { 20, true, HISTORY, false } },
};

static double cost(void)
{
	double us = counts.misses * 60. + counts.put_backs * 5. +
		    counts.stagings * 1.;

	return us / (trace_len - trace_warm);
}

static void report(const char *name)
{
	double n = trace_len - trace_warm;

	printf("  %-28s%8.2f%10.3f%9.3f%9.3f\n", name,
	       100 - 100 * counts.misses / n, 100 * counts.put_backs / n,
	       100 * counts.stagings / n, cost());
}

static void run_all(unsigned t, double ratio)
{
	uint32_t cache = nr_pages / ratio;
	double peer = 0;

	make_trace(t, cache);
	printf("%s, %u pages, cache 1/%.1f\n", traces[t].name, nr_pages, ratio);
	printf("  %-28s%8s%10s%9s%9s\n", "", "hit %", "put back%", "stage%",
	       "us");
	for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
		reset();
		if (policies[i].run)
			policies[i].run(cache);
		else
			faults_only(&policies[i].parts, cache);
		report(policies[i].name);
		if (policies[i].run == two_list)
			peer = cost();
		if (check && ratio >= 2 && cost() > peer &&
		    !strcmp(policies[i].name, "chosen")) {
			printf("  which is more than two lists cost\n");
			status = 1;
		}
	}
	fflush(stdout);
}

static uint32_t number(const char *arg, uint32_t min, uint32_t max)
{
	char *end = NULL;
	unsigned long n = arg ? strtoul(arg, &end, 0) : 0;

	if (!arg || !*arg || *end || n < min || n > max) {
		fprintf(stderr, "ovc-sim: a number from %u to %u, please\n",
			min, max);
		exit(2);
	}
	return n;
}

static void parse(char **argv)
{
	for (; *argv; argv += 2) {
		if (!strcmp(*argv, "--check")) {
			check = true;
			argv--;
		} else if (!strcmp(*argv, "--pages")) {
			nr_pages = number(argv[1], 1024, 1 << 24);
		} else if (!strcmp(*argv, "--warm")) {
			warm_per_page = number(argv[1], 0, 1000);
		} else if (!strcmp(*argv, "--measure")) {
			measure_per_page = number(argv[1], 1, 1000);
		} else if (!strcmp(*argv, "--seed")) {
			rng ^= (uint64_t)number(argv[1], 0, UINT32_MAX) << 20;
		} else if (!strcmp(*argv, "--trace") && argv[1]) {
			only_trace = argv[1];
		} else {
			fprintf(stderr, "usage: ovc-sim [--pages N] [--warm N] "
					"[--measure N] [--seed N] [--trace "
					"NAME] [--check]\n");
			exit(2);
		}
	}
}

static void make_memory(void)
{
	trace_warm = (size_t)nr_pages * (1 + warm_per_page);
	trace_len = trace_warm + (size_t)nr_pages * measure_per_page;
	trace = zalloc(trace_len, sizeof(*trace));
	next_page = zalloc(nr_pages, sizeof(*next_page));
	prev_page = zalloc(nr_pages, sizeof(*prev_page));
	evicted_at = zalloc(nr_pages, sizeof(*evicted_at));
	where = zalloc(nr_pages, 1);
	accessed = zalloc(nr_pages, 1);
	referenced = zalloc(nr_pages, 1);
}

int main(int argc, char **argv)
{
	static const double ratios[] = { 1.5, 2, 3 };
	bool found = false;

	(void)argc;
	parse(argv + 1);
	make_memory();
	make_distributions();
	for (unsigned t = 0; t < ARRAY_SIZE(traces); t++) {
		if (only_trace && strcmp(only_trace, traces[t].name))
			continue;
		found = true;
		for (size_t i = 0; i < ARRAY_SIZE(ratios); i++)
			run_all(t, ratios[i]);
	}
	if (!found) {
		fprintf(stderr, "ovc-sim: traces are");
		for (unsigned t = 0; t < ARRAY_SIZE(traces); t++)
			fprintf(stderr, " %s", traces[t].name);
		fprintf(stderr, "\n");
		return 2;
	}
	return status;
}
