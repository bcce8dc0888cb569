/* SPDX-License-Identifier: MIT */
/*
 * Sharing where something is missing: mappings, features of the kernel, threads of
 * the library's own.
 */
#include <poll.h>
#include <stdatomic.h>

#include "sharing.h"

TestSuite(share_ways, .timeout = 60 * PATIENCE);

#define KINDS 32 /* contents that many pages have */

/* ---- few mappings ----------------------------------------------------------------- */

/* The process's mappings within a range. */
static unsigned mappings_of(const char *mem, size_t len)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long from, to;
	unsigned nr = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		nr += sscanf(line, "%lx-%lx ", &from, &to) == 2 &&
		      from < (unsigned long)mem + len &&
		      to > (unsigned long)mem;
	fclose(f);
	return nr;
}

ParameterizedTestParameters(share_ways, what_cannot_be_mapped_is_shared_still)
{
	return cr_make_param_array(struct share_way, share_ways, 2);
}

/* Runs of four, which are worth a mapping each, between pages of their own. */
ParameterizedTest(struct share_way *s, share_ways,
		  what_cannot_be_mapped_is_shared_still)
{
	struct plan plan = share_plan(s);
	struct ovc_host_stats h;
	struct world w;

	plan.share_mappings = 8;
	world_open(&w, plan);
	for (uint64_t i = 0; i < NR; i++)
		make_page(w.mem + i * PAGE, i % 8 < 4 ? i % 8 : i, 1);
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes >= NR / 2 * PAGE);
	h = host_stats(&w);
	cr_assert_eq(h.share_mappings_limit, 8);
	cr_assert_gt(h.share_unmapped, 0);
	cr_assert_leq(h.mapped_bytes, 64 * PAGE, "%s: %llu", share_way_name(s),
		      (unsigned long long)(h.mapped_bytes / PAGE));
	cr_assert_leq(mappings_of(w.mem, w.len), 1 + 2 * 8);
	for (uint64_t i = 0; i < NR; i++)
		cr_assert(is_page(w.mem + i * PAGE, i % 8 < 4 ? i % 8 : i, 1),
			  "%s: page %u", share_way_name(s), (unsigned)i);
	/* What was read is no more shared, as it would come and go. */
	wait_for_passes(&w);
	cr_assert_leq(mappings_of(w.mem, w.len), 1 + 2 * 8);
	for (uint64_t i = 0; i < NR; i++)
		cr_assert(is_page(w.mem + i * PAGE, i % 8 < 4 ? i % 8 : i, 1));
	world_close(&w, 0);
}

/* ---- missing features --------------------------------------------------------------- */

static struct share_way poor[] = {
	{ { ANON, OVC_FEATURE_PAGEMAP_SCAN }, true },
	{ { MEMFD, OVC_FEATURE_PAGEMAP_SCAN }, true },
	{ { ANON, OVC_FEATURE_WP_ASYNC }, true },
	{ { MEMFD, OVC_FEATURE_WP_ASYNC }, true },
	{ { ANON, OVC_FEATURE_MOVE }, true },
	{ { ANON, OVC_FEATURE_BATCH_ADVISE }, true },
	{ { MEMFD, OVC_FEATURE_BATCH_ADVISE }, true },
	{ { ANON, OVC_FEATURE_POISON | OVC_FEATURE_IO_URING }, true },
	{ { ANON, OVC_FEATURE_MINOR }, false },
	{ { ANON,
	    OVC_FEATURE_MOVE | OVC_FEATURE_PAGEMAP_SCAN | OVC_FEATURE_MINOR },
	  false },
	{ { MEMFD, OVC_FEATURE_MOVE | OVC_FEATURE_PAGEMAP_SCAN |
			   OVC_FEATURE_WP_ASYNC | OVC_FEATURE_IO_URING },
	  true },
};

ParameterizedTestParameters(share_ways, sharing_does_without_features)
{
	return cr_make_param_array(struct share_way, poor,
				   sizeof(poor) / sizeof(poor[0]));
}

ParameterizedTest(struct share_way *s, share_ways,
		  sharing_does_without_features)
{
	struct shared_world g;

	shared_open(&g, share_plan(s));
	fill_common(g.w.mem, 0, NR, KINDS, 2);
	fill_common(g.mem, 0, NR / 2, KINDS, 2);
	memset(g.mem + NR / 2 * PAGE, 0, NR / 2 * PAGE);
	share_now(&g.w);
	wait_for(host_stats(&g.w).shared_bytes == NR * 3 / 2 * PAGE);
	wait_for(host_stats(&g.w).share_zero_bytes == NR / 2 * PAGE);
	cr_assert_eq(host_stats(&g.w).mapped_bytes != 0, s->mapped, "%s",
		     share_way_name(s));
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 2), -1, "%s",
		     share_way_name(s));
	fill_common(g.w.mem, NR / 4, NR / 4, 0, 3);
	wait_for(vm_stats(&g.w).shared_bytes <= NR * 3 / 4 * PAGE);
	cr_assert_eq(check_common(g.w.mem, NR / 4, NR / 4, 0, 3), -1, "%s",
		     share_way_name(s));
	cr_assert_eq(ovc_vm_reclaim(g.w.vm, g.w.mem, NR * PAGE), 0);
	cr_assert_eq(check_common(g.w.mem, NR / 4, NR / 4, 0, 3), -1);
	cr_assert_eq(check_common(g.w.mem, 0, NR / 4, KINDS, 2), -1);
	cr_assert_eq(check_common(g.mem, 0, NR / 2, KINDS, 2), -1);
	for (uint64_t i = NR / 2; i < NR; i++)
		cr_assert(is_zero(g.mem + i * PAGE));
	/* Removed, it has all its bytes. */
	ovc_vm_destroy(&g.other, 0);
	cr_assert_eq(check_common(g.mem, 0, NR / 2, KINDS, 2), -1);
	cr_assert_eq(check_common(g.w.mem, NR / 2, NR / 2, KINDS, 2), -1);
	shared_close(&g, 0);
}

/* ---- dispatch ------------------------------------------------------------------------ */

struct guest {
	struct world *w;
	atomic_bool done;
	long bad;
};

static void *fill_and_read(void *arg)
{
	struct guest *g = arg;

	fill_common(g->w->mem, 0, NR, KINDS, 4);
	share_now(g->w);
	wait_for(vm_stats(g->w).shared_bytes == NR * PAGE);
	g->bad = check_common(g->w->mem, 0, NR, KINDS, 4);
	fill_common(g->w->mem, 0, NR / 2, 0, 5);
	wait_for(vm_stats(g->w).shared_bytes <= NR / 2 * PAGE);
	if (g->bad < 0)
		g->bad = check_common(g->w->mem, 0, NR / 2, 0, 5);
	g->done = true;
	return NULL;
}

ParameterizedTestParameters(share_ways,
			    sharing_goes_on_while_the_vmm_dispatches)
{
	return cr_make_param_array(struct share_way, share_ways, SHARE_WAYS);
}

ParameterizedTest(struct share_way *s, share_ways,
		  sharing_goes_on_while_the_vmm_dispatches)
{
	struct plan plan = share_plan(s);
	struct guest g = { 0 };
	struct pollfd p = { .events = POLLIN };
	pthread_t thread;
	struct world w;

	plan.host_flags = OVC_HOST_DISPATCH;
	world_open(&w, plan);
	g.w = &w;
	p.fd = ovc_host_fd(w.host);
	cr_assert_eq(pthread_create(&thread, NULL, fill_and_read, &g), 0);
	while (!g.done)
		if (poll(&p, 1, 100) > 0)
			cr_assert_eq(ovc_host_dispatch(w.host), 0);
	pthread_join(thread, NULL);
	cr_assert_eq(g.bad, -1, "%s: page %ld", share_way_name(s), g.bad);
	ovc_vm_destroy(&w.vm, 0);
	cr_assert_eq(check_common(w.mem, 0, NR / 2, 0, 5), -1);
	cr_assert_eq(check_common(w.mem, NR / 2, NR / 2, KINDS, 4), -1);
	world_close(&w, 0);
}
