/* SPDX-License-Identifier: MIT */
/*
 * The budget, seen from outside: a child in a memory cgroup of its own lets many
 * threads write far more than its budget, while the parent samples what the
 * kernel counts (cgroup.h). Anonymous and shmem pages may never be more than the
 * budget by 2 % or 8 MiB, beyond what the program had before it touched guest memory.
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "cgroup.h"

TestSuite(budget, .timeout = 100 * PATIENCE);

#define WRITERS 4

/* ---- the child ------------------------------------------------------------- */

struct storm {
	struct way way;
	size_t budget, len, limit;
	bool shared; /* all of it is shared before the storm */
};

struct writer {
	char *mem;
	uint64_t first, pages;
	unsigned seed;
	bool good;
};

/* Writes all of its part, in order, then random pages, then verifies. */
static void *write_much(void *arg)
{
	struct writer *t = arg;
	uint64_t x = t->seed * 0x9e3779b97f4a7c15ull + 1;

	fill_pages(t->mem, t->first, t->pages, 1);
	for (uint64_t i = 0; i < t->pages / 2; i++) {
		uint64_t idx;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		idx = t->first + x % t->pages;
		make_page(t->mem + idx * PAGE, idx, 1);
	}
	t->good = check_pages(t->mem, t->first, t->pages, 1) == -1;
	return NULL;
}

static bool write_in_threads(char *mem, size_t len)
{
	struct writer t[WRITERS];
	pthread_t threads[WRITERS];
	uint64_t pages = len / PAGE / WRITERS;
	bool good = true;

	for (unsigned i = 0; i < WRITERS; i++) {
		t[i] = (struct writer){ mem, i * pages, pages, i, false };
		if (pthread_create(&threads[i], NULL, write_much, &t[i]))
			return false;
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		good &= t[i].good;
	}
	return good;
}

#define DIFFERENT (16 * MIB / PAGE)

/* Fills the memory with pages that repeat, until most of them are kept once, and
 * most are mapped: from then on each write takes a frame without a fault of ours. */
static bool share_all(struct ovc_host *h, char *mem, size_t len)
{
	struct ovc_host_stats s = { .size = sizeof(s) };

	for (uint64_t i = 0; i < len / PAGE; i++)
		make_page(mem + i * PAGE, i % DIFFERENT, 9);
	for (int i = 0; i < 2000 * PATIENCE; i++) {
		ovc_host_stats(h, &s);
		if (s.shared_bytes > len / 4 * 3 && s.mapped_bytes > len / 2)
			return true;
		/* What was swapped while it was filled comes back. */
		for (uint64_t k = 0; k < len / PAGE; k += i % 50 ? len : 1)
			(void)((volatile char *)mem)[k * PAGE];
		usleep(5000);
	}
	fprintf(stderr, "storm: %llu shared, %llu mapped\n",
		(unsigned long long)s.shared_bytes,
		(unsigned long long)s.mapped_bytes);
	return false;
}

/* Assertions are the parent's: here is no Criterion. */
static int be_the_child(const void *arg)
{
	const struct storm *s = arg;
	struct ovc_host_options host = { .size = sizeof(host),
					 .budget = s->budget,
					 .without = s->way.without,
					 .share = s->shared ? OVC_SHARE_ALWAYS :
							      OVC_SHARE_NEVER,
					 .share_cpu = 100 };
	struct ovc_vm_options options = { .size = sizeof(options),
					  .swap = swap_dir() };
	struct ovc_region_options region = { .size = sizeof(region),
					     .len = s->len };
	struct ovc_host *h;
	struct ovc_vm *vm;
	bool good;

	region.addr = map_memory(s->way.kind, s->len, &region.memfd);
	region.flags = region.memfd ? OVC_REGION_UNSHARED_MEMFD : 0;
	if (ovc_host_create(&host, &h) || ovc_vm_create(h, &options, &vm) ||
	    ovc_vm_add_region(vm, &region)) {
		fprintf(stderr, "storm: %s\n", ovc_error());
		return 3;
	}
	if (s->shared && !share_all(h, region.addr, s->len))
		return 6;
	good = write_in_threads(region.addr, s->len);
	ovc_vm_destroy(&vm, OVC_THROW_AWAY);
	ovc_host_destroy(&h);
	return good ? 0 : 4;
}

static struct storm storms[] = {
	/* tracked from the first page on */
	{ { ANON, 0 }, 48 << 20, 144 << 20, 0, false },
	{ { MEMFD, 0 }, 48 << 20, 144 << 20, 0, false },
	/* all of it shared, and then written */
	{ { ANON, 0 }, 64 << 20, 192 << 20, 0, true },
	{ { MEMFD, 0 }, 64 << 20, 192 << 20, 0, true },
	/* tracking begins in the middle */
	{ { ANON, 0 }, 320 << 20, 480 << 20, 0, false },
	{ { MEMFD, 0 }, 320 << 20, 480 << 20, 0, false },
	/* the fallbacks that hold frames in another way */
	{ { ANON, OVC_FEATURE_MOVE }, 48 << 20, 144 << 20, 0, false },
	{ { ANON, OVC_FEATURE_IO_URING }, 48 << 20, 144 << 20, 0, false },
	{ { MEMFD, OVC_FEATURE_IO_URING }, 48 << 20, 144 << 20, 0, false },
};

ParameterizedTestParameters(budget, a_budget_is_kept_in_the_middle_of_a_storm)
{
	return cr_make_param_array(struct storm, storms,
				   sizeof(storms) / sizeof(storms[0]));
}

ParameterizedTest(struct storm *s, budget,
		  a_budget_is_kept_in_the_middle_of_a_storm)
{
	skip_sanitized();
	need_userfaultfd();
	check_budget(way_name(s->way), s->budget, watch_child(be_the_child, s));
}

/* ---- limits of one VM ------------------------------------------------------ */

struct limited {
	struct world *w;
	atomic_bool stop;
	uint64_t most;
};

static void *watch_limit(void *arg)
{
	struct limited *l = arg;

	while (!l->stop) {
		uint64_t resident = vm_stats(l->w).resident;

		l->most = resident > l->most ? resident : l->most;
		usleep(500);
	}
	return NULL;
}

ParameterizedTestParameters(budget, the_limit_of_a_vm_is_kept)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, budget, the_limit_of_a_vm_is_kept)
{
	struct limited l = { 0 };
	pthread_t thread;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .limit = 16 * MIB,
				      .len = 64 * MIB });
	cr_assert(vm_stats(&w).tracked);
	l.w = &w;
	cr_assert_eq(pthread_create(&thread, NULL, watch_limit, &l), 0);
	cr_assert(write_in_threads(w.mem, w.len));
	l.stop = true;
	pthread_join(thread, NULL);
	cr_assert_gt(l.most, 8 * MIB);
	/* What several threads bring in at once is counted when it is in. */
	cr_assert_leq(l.most, 17 * MIB, "%s: %zu KiB", way_name(*way),
		      (size_t)l.most >> 10);
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(budget, a_limit_set_later_is_reached)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, budget, a_limit_set_later_is_reached)
{
	struct world w;
	uint64_t resident = 0;

	world_open(&w, (struct plan){ .way = *way, .len = 32 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 2);
	cr_assert_eq(ovc_vm_set_limit(w.vm, 4 * MIB), 0);
	for (int i = 0; i < 2000 * PATIENCE; i++) {
		resident = vm_stats(&w).resident;
		if (resident <= 4 * MIB)
			break;
		usleep(5000);
	}
	cr_assert_leq(resident, 4 * MIB);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 2), -1);
	cr_assert_eq(ovc_vm_set_limit(w.vm, 0), 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(budget, a_budget_that_shrinks_is_reached)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, budget, a_budget_that_shrinks_is_reached)
{
	struct world w;
	uint64_t used = 0;

	world_open(&w, (struct plan){ .way = *way, .len = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 3);
	cr_assert_eq(host_stats(&w).tracked, 0);
	cr_assert_eq(ovc_host_set_budget(w.host, 24 * MIB), 0);
	for (int i = 0; i < 2000 * PATIENCE; i++) {
		used = host_stats(&w).used;
		if (used <= 24 * MIB)
			break;
		usleep(5000);
	}
	cr_assert_leq(used, 24 * MIB);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 3), -1);
	world_close(&w, OVC_THROW_AWAY);
}

/* A thread that looked a moment later would be too late for a fast guest. */
Test(budget, a_region_over_a_small_budget_is_tracked_when_it_is_added)
{
	struct world w;

	for (unsigned i = 0; i < 20; i++) {
		world_open(&w, (struct plan){ .len = 40 * MIB,
					      .budget = 16 * MIB });
		cr_assert(vm_stats(&w).tracked);
		world_close(&w, OVC_THROW_AWAY);
		world_open(&w,
			   (struct plan){ .len = 40 * MIB, .limit = 16 * MIB });
		cr_assert(vm_stats(&w).tracked);
		world_close(&w, OVC_THROW_AWAY);
	}
}

ParameterizedTestParameters(budget, guests_that_fit_to_the_byte_are_left_alone)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, budget,
		  guests_that_fit_to_the_byte_are_left_alone)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .len = 64 * MIB,
				      .budget = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 3);
	usleep(300000); /* several looks of who watches */
	cr_assert_eq(host_stats(&w).tracked, 0);
	cr_assert_eq(host_stats(&w).faults, 0);
	/* One page more than the budget ends that. */
	cr_assert_eq(ovc_host_set_budget(w.host, 64 * MIB - PAGE), 0);
	for (int i = 0; i < 2000 * PATIENCE && !host_stats(&w).tracked; i++)
		usleep(1000);
	cr_assert_neq(host_stats(&w).tracked, 0);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 3), -1);
	world_close(&w, OVC_THROW_AWAY);
}
