/* SPDX-License-Identifier: MIT */
/*
 * Guests write what they have in common: no fault tells of it, the kernel copies at its
 * own speed. Guests that together have three times the budget hold mostly equal pages,
 * mapped from the store; then threads write one word of each page, as fast as they can.
 * All bytes must be right afterwards, and the budget be kept all the time, by what the
 * kernel counts (cgroup.h).
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "cgroup.h"

TestSuite(share_storm, .timeout = 90 * PATIENCE);

#define GUESTS	3
#define WRITERS 2    /* for each guest */
#define KINDS	1024 /* contents */
#define PIECE	1024 /* pages that are filled at once */

struct storm {
	struct way way;
	size_t budget, len; /* of each guest */
};

struct guest {
	struct ovc_vm *vm;
	char *mem;
	uint64_t pages;
	unsigned n;
};

static uint64_t kind(uint64_t idx)
{
	return idx % KINDS;
}

/* The word of a page that a storm writes, and what it writes there. */
static uint64_t *word_of(char *mem, uint64_t idx)
{
	return (void *)(mem + idx * PAGE + idx % (PAGE / 8) * 8);
}

static uint64_t tag_of(const struct guest *g, uint64_t idx)
{
	return ((uint64_t)g->n << 40 | idx) + 1;
}

/* ---- what the guests do ---------------------------------------------------------- */

static void *read_all(void *arg)
{
	const struct guest *g = arg;

	for (uint64_t i = 0; i < g->pages; i++)
		if (!is_page(g->mem + i * PAGE, kind(i), 1))
			return (void *)(g->mem + i * PAGE);
	return NULL;
}

struct writer {
	const struct guest *g;
	unsigned n;
};

/* Not in order, so that no page tells that the next one will be written. */
static void *write_all(void *arg)
{
	const struct writer *t = arg;
	uint64_t nr = t->g->pages;

	for (uint64_t k = t->n; k < nr; k += WRITERS) {
		uint64_t i = k * 7919 % nr;

		*(volatile uint64_t *)word_of(t->g->mem, i) = tag_of(t->g, i);
	}
	return NULL;
}

/* All words are there, and each page is as it was but for its word; which is put
 * right again. */
static void *verify_all(void *arg)
{
	_Alignas(4096) char want[PAGE];
	struct guest *g = arg;

	for (uint64_t i = 0; i < g->pages; i++) {
		uint64_t at = i % (PAGE / 8), was;

		make_page(want, kind(i), 1);
		was = ((uint64_t *)(void *)want)[at];
		((uint64_t *)(void *)want)[at] = tag_of(g, i);
		if (memcmp(want, g->mem + i * PAGE, PAGE))
			return g->mem + i * PAGE;
		*(volatile uint64_t *)word_of(g->mem, i) = was;
	}
	return NULL;
}

/* One thread for each guest. False if one found a wrong page. */
static bool each_guest(struct guest *g, void *(*fn)(void *))
{
	pthread_t thread[GUESTS];
	bool good = true;
	void *wrong;

	for (unsigned i = 0; i < GUESTS; i++)
		if (pthread_create(&thread[i], NULL, fn, &g[i]))
			return false;
	for (unsigned i = 0; i < GUESTS; i++) {
		pthread_join(thread[i], &wrong);
		if (wrong)
			fprintf(stderr, "storm: guest %u: a wrong page at %p\n",
				i, wrong);
		good &= !wrong;
	}
	return good;
}

static bool storm(struct guest *g)
{
	struct writer t[GUESTS * WRITERS];
	pthread_t thread[GUESTS * WRITERS];

	for (unsigned i = 0; i < GUESTS * WRITERS; i++) {
		t[i] = (struct writer){ &g[i / WRITERS], i % WRITERS };
		if (pthread_create(&thread[i], NULL, write_all, &t[i]))
			return false;
	}
	for (unsigned i = 0; i < GUESTS * WRITERS; i++)
		pthread_join(thread[i], NULL);
	return true;
}

/* ---- the child ---------------------------------------------------------------------- */

/* A piece of each guest, and then the next, so that little has to go to swap before it
 * is found equal. */
static void fill(struct ovc_host *h, struct guest *g)
{
	struct ovc_host_stats s = { .size = sizeof(s) };
	uint64_t filled = 0;

	for (uint64_t at = 0; at < g->pages; at += PIECE) {
		for (unsigned n = 0; n < GUESTS; n++)
			for (uint64_t i = at; i < at + PIECE; i++)
				make_page(g[n].mem + i * PAGE, kind(i), 1);
		filled += (size_t)GUESTS * PIECE * PAGE;
		for (unsigned i = 0; i < 100; i++) {
			ovc_host_stats(h, &s);
			if (s.shared_bytes >= filled - filled / 8)
				break;
			usleep(2000);
		}
	}
}

/* Reads until nearly everything is mapped from the store: what is in swap must come in
 * to be found equal. */
static bool until_mapped(struct ovc_host *h, struct guest *g, size_t bytes)
{
	struct ovc_host_stats s = { .size = sizeof(s) };

	for (unsigned i = 0; i < 200; i++) {
		if (!each_guest(g, read_all))
			return false;
		ovc_host_stats(h, &s);
		if (s.mapped_bytes >= bytes - bytes / 8)
			return true;
		usleep(20000);
	}
	fprintf(stderr, "storm: only %llu of %zu MiB are mapped\n",
		(unsigned long long)s.mapped_bytes >> 20, bytes >> 20);
	return false;
}

static int add_guest(struct ovc_host *h, const struct storm *s, struct guest *g)
{
	struct ovc_vm_options v = { .size = sizeof(v),
				    .swap = swap_dir(),
				    .domain = "all" };
	struct ovc_region_options r = { .size = sizeof(r), .len = s->len };

	r.addr = g->mem = map_memory(s->way.kind, s->len, &r.memfd);
	r.flags = r.memfd ? OVC_REGION_UNSHARED_MEMFD : 0;
	g->pages = s->len / PAGE;
	return ovc_vm_create(h, &v, &g->vm) || ovc_vm_add_region(g->vm, &r);
}

/* What was written too fast to be seen is reclaimed when it was. */
static bool until_within_budget(struct ovc_host *h)
{
	struct ovc_host_stats s = { .size = sizeof(s) };

	for (unsigned i = 0; i < 2000 * PATIENCE; i++) {
		ovc_host_stats(h, &s);
		if (s.used <= s.budget)
			return true;
		usleep(5000);
	}
	fprintf(stderr, "storm: %llu MiB are used\n",
		(unsigned long long)s.used >> 20);
	return false;
}

/* Assertions are the parent's: here is no Criterion. */
static int be_the_child(const void *arg)
{
	const struct storm *s = arg;
	struct ovc_host_options host = { .size = sizeof(host),
					 .budget = s->budget,
					 .without = s->way.without,
					 .share = OVC_SHARE_ALWAYS,
					 .share_cpu = 100 };
	struct guest g[GUESTS] = { 0 };
	struct ovc_host *h;

	if (ovc_host_create(&host, &h))
		return 3;
	for (unsigned i = 0; i < GUESTS; i++) {
		g[i].n = i;
		if (add_guest(h, s, &g[i])) {
			fprintf(stderr, "storm: %s\n", ovc_error());
			return 3;
		}
	}
	fill(h, g);
	if (!until_mapped(h, g, GUESTS * s->len))
		return 5;
	if (!storm(g))
		return 6;
	if (!each_guest(g, verify_all))
		return 7;
	if (!each_guest(g, read_all))
		return 8;
	if (!until_within_budget(h))
		return 9;
	for (unsigned i = 0; i < GUESTS; i++)
		ovc_vm_destroy(&g[i].vm, OVC_THROW_AWAY);
	ovc_host_destroy(&h);
	return 0;
}

static struct storm storms[] = {
	{ { ANON, 0 }, 48 << 20, 48 << 20 },
	{ { MEMFD, 0 }, 48 << 20, 48 << 20 },
	{ { ANON, OVC_FEATURE_MOVE }, 48 << 20, 48 << 20 },
	{ { ANON, OVC_FEATURE_PAGEMAP_SCAN }, 48 << 20, 48 << 20 },
	{ { ANON, 0 }, 160 << 20, 96 << 20 },
};

ParameterizedTestParameters(share_storm,
			    all_bytes_survive_a_storm_that_unshares_all)
{
	return cr_make_param_array(struct storm, storms,
				   sizeof(storms) / sizeof(storms[0]));
}

ParameterizedTest(struct storm *s, share_storm,
		  all_bytes_survive_a_storm_that_unshares_all)
{
	skip_sanitized();
	need_userfaultfd();
	check_budget(way_name(s->way), s->budget, watch_child(be_the_child, s));
}
