/* SPDX-License-Identifier: MIT */
/*
 * What a VMM advised of its guest's memory: so it stays, whatever is mapped there
 * meanwhile, and so it is when the region is gone.
 */
#include "sharing.h"
#include "world.h"

#include <sys/mman.h>

#define PART (NR / 4)

TestSuite(advice, .timeout = 120);

/* What each quarter of a region is advised; the first one: nothing. */
static const struct {
	int advice[2];
	const char *flag[2];
} parts[4] = {
	/* map_memory() advised against huge pages */
	{ { -1, -1 }, { " nh", NULL } },
	{ { MADV_DONTDUMP, -1 }, { " nh", " dd" } },
	{ { MADV_HUGEPAGE, MADV_DONTDUMP }, { " hg", " dd" } },
	{ { MADV_HUGEPAGE, MADV_DONTFORK }, { " hg", " dc" } },
};

static const char *const flags[] = { " dd", " nh", " hg", " dc" };

static bool wants(unsigned part, const char *flag)
{
	return (parts[part].flag[0] && !strcmp(parts[part].flag[0], flag)) ||
	       (parts[part].flag[1] && !strcmp(parts[part].flag[1], flag));
}

/* Each page's mapping has these of the flags that it should have, and no others. */
static void expect_flags(const char *mem, unsigned nr_flags, const char *when)
{
	for (uint64_t i = 0; i < NR; i += 16)
		for (unsigned k = 0; k < nr_flags; k++)
			cr_assert_eq(smaps_flag(mem + i * PAGE, flags[k]),
				     wants((unsigned)(i / PART), flags[k]),
				     "%s: page %u, flag%s", when, (unsigned)i,
				     flags[k]);
}

/* The second guest's region, added anew with what `how` gave its memory. */
static void add_again(struct shared_world *g, const struct share_way *s,
		      void (*before)(struct shared_world *g),
		      void (*after)(struct shared_world *g))
{
	struct plan plan = share_plan(s);
	struct ovc_region_options o = { .size = sizeof(o),
					.addr = g->mem,
					.len = NR * PAGE,
					.memfd = g->memfd,
					.flags = plan.region_flags };

	cr_assert_eq(ovc_vm_remove_region(g->other, g->mem, 0), 0);
	if (before)
		before(g);
	cr_assert_eq(ovc_vm_add_region(g->other, &o), 0, "%s", ovc_error());
	if (after)
		after(g);
}

static void by_madvise(struct shared_world *g)
{
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < 2 && parts[i].advice[k] >= 0; k++)
			cr_assert_eq(madvise(g->mem + i * PART * PAGE,
					     PART * PAGE, parts[i].advice[k]),
				     0);
}

static void by_call(struct shared_world *g)
{
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < 2 && parts[i].advice[k] >= 0; k++)
			cr_assert_eq(ovc_vm_advise(
					     g->other, g->mem + i * PART * PAGE,
					     PART * PAGE, parts[i].advice[k]),
				     0, "%s", ovc_error());
}

/* Shared, mapped from the store, written (which folds runs of a memfd), shared again,
 * swapped, and removed. */
static void live(struct shared_world *g, const char *how)
{
	fill_common(g->w.mem, 0, NR, 16, 3);
	fill_common(g->mem, 0, NR, 16, 3);
	share_now(&g->w);
	wait_for(host_stats(&g->w).shared_bytes == 2 * NR * PAGE);
	expect_flags(g->mem, 1, "shared");
	fill_common(g->mem, 0, NR, 0, 4);
	wait_for_passes(&g->w);
	expect_flags(g->mem, 1, "written");
	cr_assert_eq(ovc_vm_reclaim(g->other, g->mem, NR * PAGE), 0);
	cr_assert_eq(check_common(g->mem, 0, NR, 0, 4), -1);
	cr_assert_eq(ovc_vm_remove_region(g->other, g->mem, 0), 0);
	cr_assert_eq(check_common(g->mem, 0, NR, 0, 4), -1);
	expect_flags(g->mem, 4, how);
}

static struct share_way *ways(void)
{
	return share_ways;
}

ParameterizedTestParameters(advice, what_was_advised_before_stays_so)
{
	return cr_make_param_array(struct share_way, ways(), SHARE_WAYS);
}

ParameterizedTest(struct share_way *s, advice, what_was_advised_before_stays_so)
{
	struct shared_world g;

	shared_open(&g, share_plan(s));
	add_again(&g, s, by_madvise, NULL);
	live(&g, share_way_name(s));
	shared_close(&g, 0);
}

ParameterizedTestParameters(advice, what_is_advised_later_stays_so)
{
	return cr_make_param_array(struct share_way, ways(), SHARE_WAYS);
}

ParameterizedTest(struct share_way *s, advice, what_is_advised_later_stays_so)
{
	struct shared_world g;

	shared_open(&g, share_plan(s));
	add_again(&g, s, NULL, by_call);
	live(&g, share_way_name(s));
	shared_close(&g, 0);
}

/* While it lies in the store. */
ParameterizedTestParameters(advice, what_is_advised_amid_sharing_stays_so)
{
	return cr_make_param_array(struct share_way, ways(), SHARE_WAYS);
}

ParameterizedTest(struct share_way *s, advice,
		  what_is_advised_amid_sharing_stays_so)
{
	struct shared_world g;

	shared_open(&g, share_plan(s));
	add_again(&g, s, by_madvise, NULL);
	fill_common(g.w.mem, 0, NR, 16, 3);
	fill_common(g.mem, 0, NR, 16, 3);
	share_now(&g.w);
	wait_for(host_stats(&g.w).shared_bytes == 2 * NR * PAGE);
	cr_assert_eq(ovc_vm_advise(g.other, g.mem, NR * PAGE, MADV_DONTDUMP),
		     0);
	cr_assert_eq(ovc_vm_advise(g.other, g.mem + 8 * PAGE, 8 * PAGE,
				   MADV_DODUMP),
		     0);
	fill_common(g.mem, 0, NR, 0, 4);
	wait_for_passes(&g.w);
	for (int removed = 0; removed < 2; removed++) {
		for (uint64_t i = 0; i < NR; i += 4)
			cr_assert_eq(smaps_flag(g.mem + i * PAGE, " dd"),
				     i < 8 || i >= 16, "page %u, removed %d",
				     (unsigned)i, removed);
		if (!removed)
			cr_assert_eq(ovc_vm_remove_region(g.other, g.mem, 0),
				     0);
	}
	cr_assert(smaps_flag(g.mem + 3 * PART * PAGE, " dc"));
	cr_assert_not(smaps_flag(g.mem, " dc"));
	shared_close(&g, 0);
}

/* Where the kernel has no poison, a lost page gets a mapping of its own. */
static void lose_and_mend(enum kind kind)
{
	struct way way = { kind, OVC_FEATURE_POISON };
	struct ovc_vm_options v = { .size = sizeof(v), .name = "own" };
	struct world w;
	char path[160], *page;
	FILE *f;

	snprintf(path, sizeof(path), "%s/swap", own_dir());
	v.swap = path;
	world_open(&w, (struct plan){ .way = way, .swap = path, .len = MIB });
	cr_assert_eq(ovc_vm_advise(w.vm, w.mem, w.len, MADV_DONTDUMP), 0);
	cr_assert_eq(ovc_vm_advise(w.vm, w.mem, w.len, MADV_HUGEPAGE), 0);
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	f = fopen(path, "r+");
	cr_assert_not_null(f);
	for (size_t i = 0; i < 64 * PAGE; i++)
		putc(0x55, f);
	fclose(f);
	page = w.mem + 7 * PAGE;
	cr_assert_neq(touch_signal(page, NULL, NULL), 0);
	cr_assert_eq(ovc_vm_discard(w.vm, page, PAGE), 0);
	cr_assert(is_zero(page));
	cr_assert(smaps_flag(page, " dd"));
	cr_assert(smaps_flag(page, " hg"));
	world_close(&w, OVC_THROW_AWAY);
	unlink(path);
}

Test(advice, a_page_that_was_lost_and_discarded_is_as_it_was_advised)
{
	lose_and_mend(ANON);
	lose_and_mend(MEMFD);
}

Test(advice, other_advice_and_other_ranges_are_refused)
{
	struct world w;

	world_open(&w, (struct plan){ .len = MIB });
	expect_error("advise", ovc_vm_advise(NULL, w.mem, PAGE, MADV_DONTDUMP),
		     -EINVAL, "vm");
	expect_error("advise", ovc_vm_advise(w.vm, w.mem, PAGE, MADV_DONTNEED),
		     -EINVAL, "advice");
	expect_error("advise", ovc_vm_advise(w.vm, w.mem, PAGE, -1), -EINVAL,
		     "advice");
	expect_error("advise",
		     ovc_vm_advise(w.vm, w.mem + 1, PAGE, MADV_DONTDUMP),
		     -EINVAL, "");
	expect_error("advise",
		     ovc_vm_advise(w.vm, w.mem + MIB - PAGE, 2 * PAGE,
				   MADV_DONTDUMP),
		     -EINVAL, "region");
	cr_assert_not(smaps_flag(w.mem, " dd"));
	world_close(&w, 0);
}
