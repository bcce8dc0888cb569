/* SPDX-License-Identifier: MIT */
/*
 * The way out and back in: what is written, what is not, and that nothing
 * happens at all while memory is plentiful.
 */
#include <sys/mman.h>

#include "support.h"

TestSuite(reclaim, .timeout = 60 * PATIENCE);

#define NR 512 /* pages of most tests */

static bool keeps_clean(const struct world *w)
{
	return host_stats(w).features & OVC_FEATURE_WP_ASYNC;
}

static void push_out(struct world *w, uint64_t nr)
{
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, nr * PAGE), 0, "%s",
		     ovc_error());
}

/* ---- plenty ---------------------------------------------------------------- */

ParameterizedTestParameters(reclaim, nothing_is_tracked_while_memory_is_plenty)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, reclaim,
		  nothing_is_tracked_while_memory_is_plenty)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way, .len = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	usleep(300000); /* longer than the monitor ever sleeps */
	cr_assert_eq(host_stats(&w).tracked, 0);
	cr_assert_eq(vm_stats(&w).tracked, 0);
	cr_assert_eq(host_stats(&w).faults, 0);
	cr_assert_eq(host_stats(&w).swap_out_bytes, 0);
	cr_assert_eq(vm_stats(&w).resident, w.len);
	cr_assert_not(smaps_flag(w.mem, " um"));
	world_close(&w, 0);
}

Test(reclaim, huge_pages_survive_until_there_is_pressure)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 32 * MIB };
	struct world w;
	char *mem, *at;
	size_t huge;
	int fd;

	world_open(&w, (struct plan){ 0 });
	mem = map_memory(ANON, 34 * MIB, &fd);
	at = (char *)(((uintptr_t)mem + 2 * MIB - 1) & ~(2 * MIB - 1));
	madvise(at, 32 * MIB, MADV_HUGEPAGE);
	o.addr = at;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	fill_pages(at, 0, o.len / PAGE, 2);
	huge = smaps_bytes(at, "AnonHugePages:");
	if (!huge)
		cr_skip_test("no transparent huge pages here");
	usleep(300000);
	cr_assert_geq(smaps_bytes(at, "AnonHugePages:"), huge);
	cr_assert_eq(ovc_host_set_budget(w.host, 16 * MIB), 0);
	for (int i = 0; i < 2000 * PATIENCE && vm_stats(&w).resident > 16 * MIB;
	     i++)
		usleep(5000);
	cr_assert_leq(vm_stats(&w).resident, 16 * MIB);
	cr_assert_eq(check_pages(at, 0, o.len / PAGE, 2), -1);
	world_close(&w, OVC_THROW_AWAY);
}

/* ---- out and in -------------------------------------------------------------- */

ParameterizedTestParameters(reclaim, what_went_out_comes_back_byte_for_byte)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

ParameterizedTest(struct way *way, reclaim,
		  what_went_out_comes_back_byte_for_byte)
{
	struct world w;
	struct ovc_vm_stats s;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, NR, 3);
	push_out(&w, NR);
	s = vm_stats(&w);
	cr_assert_eq(s.resident, 0, "%s", way_name(*way));
	cr_assert_eq(s.staged, 0);
	cr_assert_eq(s.swapped, NR * PAGE);
	cr_assert_eq(s.swap_used, NR * PAGE);
	cr_assert_eq(s.swap_out_bytes, NR * PAGE);
	cr_assert_eq(s.zero, w.len - NR * PAGE);
	cr_assert_eq(present_pages(w.mem, w.len), 0);
	cr_assert_eq(check_pages(w.mem, 0, NR, 3), -1, "%s", way_name(*way));
	s = vm_stats(&w);
	/* Pages that were read ahead and held back count as put back. */
	cr_assert_geq(s.swap_in_bytes + s.put_back_bytes, NR * PAGE);
	cr_assert_eq(s.swapped, 0);
	for (uint64_t i = NR; i < w.len / PAGE; i++)
		cr_assert(is_zero(w.mem + i * PAGE));
	world_close(&w, 0);
}

ParameterizedTestParameters(reclaim, a_storm_over_the_budget_loses_no_byte)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

ParameterizedTest(struct way *way, reclaim,
		  a_storm_over_the_budget_loses_no_byte)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 16 * MIB,
				      .len = 40 * MIB });
	for (unsigned round = 0; round < 2; round++) {
		fill_pages(w.mem, 0, w.len / PAGE, round);
		cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, round), -1,
			     "%s", way_name(*way));
	}
	cr_assert_eq(host_stats(&w).tracked, 1);
	cr_assert_gt(host_stats(&w).swap_out_bytes, 16 * MIB);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_MEMORY_FAILED), 0);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_POISONED), 0);
	world_close(&w, OVC_THROW_AWAY);
}

/* ---- what is not written ------------------------------------------------------ */

ParameterizedTestParameters(reclaim, zero_pages_are_never_written)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, reclaim, zero_pages_are_never_written)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	memset(w.mem, 1, NR * PAGE);
	memset(w.mem, 0, NR * PAGE);
	push_out(&w, NR);
	cr_assert_eq(vm_stats(&w).swap_out_bytes, 0);
	cr_assert_eq(vm_stats(&w).swap_used, 0);
	cr_assert_eq(vm_stats(&w).zero_bytes, NR * PAGE);
	cr_assert_eq(vm_stats(&w).zero, w.len);
	cr_assert_eq(present_pages(w.mem, w.len), 0);
	for (uint64_t i = 0; i < NR; i++)
		cr_assert(is_zero(w.mem + i * PAGE));
	world_close(&w, 0);
}

ParameterizedTestParameters(reclaim, without_swap_zero_pages_alone_go)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, reclaim, without_swap_zero_pages_alone_go)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way, .no_swap = true });
	fill_pages(w.mem, 0, NR, 4);
	memset(w.mem, 0, NR / 2 * PAGE);
	ovc_vm_reclaim(w.vm, w.mem, NR * PAGE);
	cr_assert_eq(vm_stats(&w).resident, NR / 2 * PAGE);
	cr_assert_eq(vm_stats(&w).zero_bytes, NR / 2 * PAGE);
	cr_assert_eq(check_pages(w.mem, NR / 2, NR / 2, 4), -1);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_WRITE_FAILED), 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(reclaim, clean_pages_are_not_rewritten)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, reclaim, clean_pages_are_not_rewritten)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	if (!keeps_clean(&w))
		cr_skip_test("this kernel does not tell clean pages");
	fill_pages(w.mem, 0, NR, 5);
	push_out(&w, NR);
	for (unsigned round = 1; round <= 3; round++) {
		cr_assert_eq(check_pages(w.mem, 0, NR, 5), -1);
		push_out(&w, NR);
		cr_assert_eq(vm_stats(&w).swap_out_bytes, NR * PAGE);
		cr_assert_gt(vm_stats(&w).clean_bytes, round * NR / 2 * PAGE);
		cr_assert_eq(vm_stats(&w).swap_used, NR * PAGE);
	}
	cr_assert_eq(check_pages(w.mem, 0, NR, 5), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(reclaim, a_clean_page_that_is_written_is_rewritten)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, reclaim,
		  a_clean_page_that_is_written_is_rewritten)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	if (!keeps_clean(&w))
		cr_skip_test("this kernel does not tell clean pages");
	fill_pages(w.mem, 0, NR, 6);
	push_out(&w, NR);
	cr_assert_eq(check_pages(w.mem, 0, NR, 6), -1);
	/* One byte is enough. */
	for (uint64_t i = 0; i < NR; i += 4)
		w.mem[i * PAGE + 17] ^= 0x55;
	push_out(&w, NR);
	cr_assert_eq(vm_stats(&w).swap_out_bytes, (NR + NR / 4) * PAGE);
	/* What read-ahead fetched meanwhile goes a second time. */
	cr_assert_geq(vm_stats(&w).clean_bytes, (NR - NR / 4) * PAGE);
	for (uint64_t i = 0; i < NR; i += 4)
		w.mem[i * PAGE + 17] ^= 0x55;
	cr_assert_eq(check_pages(w.mem, 0, NR, 6), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(reclaim, a_page_made_zero_gives_up_its_slot)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, reclaim, a_page_made_zero_gives_up_its_slot)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, NR, 7);
	push_out(&w, NR);
	cr_assert_eq(check_pages(w.mem, 0, NR, 7), -1);
	memset(w.mem, 0, NR * PAGE);
	push_out(&w, NR);
	cr_assert_eq(vm_stats(&w).swap_used, 0);
	cr_assert_eq(vm_stats(&w).swapped, 0);
	cr_assert(is_zero(w.mem) && is_zero(w.mem + (NR - 1) * PAGE));
	world_close(&w, 0);
}
