/* SPDX-License-Identifier: MIT */
/*
 * Pages that are pushed out while the swap has their bytes already: they take a
 * reference to that slot and are not written again; whoever comes back first, or goes
 * for good, leaves the slot to the others.
 */
#include <string.h>

#include "support.h"

#define HALF (4 * MIB)
#define NR   (HALF / PAGE)

static struct way ways[] = {
	{ ANON, 0 },
	{ MEMFD, 0 },
	{ ANON, OVC_FEATURE_IO_URING },
	{ ANON, OVC_FEATURE_WP_ASYNC },
};

/* Two halves with equal bytes, one behind the other pushed out. */
static void open_equal(struct world *w, struct way way, uint32_t vm_flags)
{
	world_open(w, (struct plan){ .way = way,
				     .len = 2 * HALF,
				     .vm_flags = vm_flags });
	cr_assert_eq(ovc_host_set_share(w->host, OVC_SHARE_UNDER_PRESSURE, 1),
		     0);
	fill_pages(w->mem, 0, NR, 5);
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, HALF), 0);
	cr_assert_geq(vm_stats(w).swapped, HALF - PAGE * 8);
	memset(w->mem + HALF, 1, PAGE); /* tracked by now */
	for (uint64_t i = 0; i < NR; i++)
		make_page(w->mem + HALF + i * PAGE, i, 5);
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem + HALF, HALF), 0);
}

static bool halves_are_right(const struct world *w)
{
	for (uint64_t i = 0; i < 2 * NR; i++)
		if (!is_page(w->mem + i * PAGE, i % NR, 5))
			return false;
	return true;
}

ParameterizedTestParameters(dedupe, equal_bytes_are_written_once)
{
	return cr_make_param_array(struct way, ways,
				   sizeof(ways) / sizeof(ways[0]));
}

ParameterizedTest(struct way *way, dedupe, equal_bytes_are_written_once)
{
	struct ovc_vm_stats s;
	char page[PAGE];
	struct world w;

	open_equal(&w, *way, 0);
	s = vm_stats(&w);
	/* As many as can be compared while the rest is written. */
	cr_assert_geq(s.spared_bytes, 128 * PAGE, "%s: %llu", way_name(*way),
		      (unsigned long long)s.spared_bytes);
	cr_assert_eq(host_stats(&w).spared_bytes, s.spared_bytes);
	cr_assert_leq(s.swap_out_bytes + s.spared_bytes, 2 * HALF);
	cr_assert_leq(s.swap_used + s.spared_bytes, 2 * HALF);
	for (uint64_t i = 0; i < 2 * NR; i += 7) {
		cr_assert_eq(ovc_vm_read(w.vm, w.mem + i * PAGE, page, PAGE),
			     0);
		cr_assert(is_page(page, i % NR, 5));
	}
	cr_assert(halves_are_right(&w));
	cr_assert_eq(world_count_events(&w, OVC_EVENT_POISONED), 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(dedupe, who_goes_leaves_the_slot_to_the_others)
{
	return cr_make_param_array(struct way, ways, 2);
}

ParameterizedTest(struct way *way, dedupe,
		  who_goes_leaves_the_slot_to_the_others)
{
	uint64_t used;
	struct world w;

	open_equal(&w, *way, 0);
	used = vm_stats(&w).swap_used;
	/* One half is given away, what is left is overwritten in parts. */
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem, HALF), 0);
	cr_assert_gt(vm_stats(&w).swap_used, used / 4);
	for (uint64_t i = 0; i < NR; i++) {
		cr_assert(is_zero(w.mem + i * PAGE));
		cr_assert(is_page(w.mem + HALF + i * PAGE, i, 5));
	}
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem, 2 * HALF), 0);
	cr_assert_eq(vm_stats(&w).swap_used, 0);
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(dedupe, who_comes_back_and_writes_changes_no_other)
{
	return cr_make_param_array(struct way, ways, 2);
}

ParameterizedTest(struct way *way, dedupe,
		  who_comes_back_and_writes_changes_no_other)
{
	struct world w;

	open_equal(&w, *way, 0);
	fill_pages(w.mem, 0, NR, 6);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, HALF), 0);
	cr_assert_eq(check_pages(w.mem, 0, NR, 6), -1);
	for (uint64_t i = 0; i < NR; i++)
		cr_assert(is_page(w.mem + HALF + i * PAGE, i, 5));
	world_close(&w, 0);
}

Test(dedupe, a_vm_that_shares_nothing_writes_everything)
{
	struct world w;

	open_equal(&w, ways[0], OVC_VM_NO_SHARE);
	cr_assert_eq(vm_stats(&w).spared_bytes, 0);
	cr_assert_geq(vm_stats(&w).swap_out_bytes, 2 * HALF - 16 * PAGE);
	cr_assert(halves_are_right(&w));
	world_close(&w, 0);
}
