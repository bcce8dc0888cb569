/* SPDX-License-Identifier: MIT */
/*
 * Calls on ranges: what is refused, and what each does to pages wherever they
 * are: with the guest, staged, in swap, nowhere.
 */
#include "support.h"

TestSuite(range, .timeout = 60 * PATIENCE);

#define NR 512

/* ---- refused ------------------------------------------------------------------ */

typedef int range_call(struct ovc_vm *vm, void *addr, size_t len);

static int switch_off(struct ovc_vm *vm, void *addr, size_t len)
{
	return ovc_vm_set_sharing(vm, addr, len, 0);
}

static const struct {
	const char *name;
	range_call *call;
} calls[] = {
	{ "discard", ovc_vm_discard },	 { "reclaim", ovc_vm_reclaim },
	{ "prefetch", ovc_vm_prefetch }, { "pin", ovc_vm_pin },
	{ "unpin", ovc_vm_unpin },	 { "overwrite", ovc_vm_overwrite },
	{ "set_sharing", switch_off },
};

#define NR_CALLS (sizeof(calls) / sizeof(calls[0]))

static void refuse_all(const char *name, range_call *call, struct world *w,
		       char *foreign)
{
	expect_error(name, call(NULL, w->mem, PAGE), -EINVAL, "vm");
	expect_error(name, call(w->vm, w->mem + 1, PAGE), -EINVAL, "addr");
	expect_error(name, call(w->vm, w->mem, 0), -EINVAL, "len");
	expect_error(name, call(w->vm, w->mem, PAGE - 1), -EINVAL, "len");
	expect_error(name, call(w->vm, NULL, PAGE), -EINVAL, "addr");
	expect_error(name, call(w->vm, w->mem - PAGE, PAGE), -EINVAL, "addr");
	expect_error(name, call(w->vm, w->mem + w->len, PAGE), -EINVAL, "addr");
	expect_error(name, call(w->vm, w->mem, w->len + PAGE), -EINVAL, "len");
	expect_error(name, call(w->vm, w->mem + PAGE, w->len), -EINVAL, "len");
	expect_error(name, call(w->vm, w->mem, SIZE_MAX - PAGE + 1), -EINVAL,
		     "len");
	expect_error(name, call(w->vm, foreign, PAGE), -EINVAL, "addr");
	cr_assert(strstr(ovc_error(), name), "%s", ovc_error());
}

/* Fields that a call would change, and no time or rate. */
static void same_state(struct ovc_vm_stats a, struct ovc_vm_stats b)
{
	cr_assert_eq(a.resident, b.resident);
	cr_assert_eq(a.staged, b.staged);
	cr_assert_eq(a.swapped, b.swapped);
	cr_assert_eq(a.pinned, b.pinned);
	cr_assert_eq(a.swap_used, b.swap_used);
	cr_assert_eq(a.swap_in_bytes, b.swap_in_bytes);
	cr_assert_eq(a.swap_out_bytes, b.swap_out_bytes);
	cr_assert_eq(a.tracked, b.tracked);
}

ParameterizedTestParameters(range, a_bad_range_is_refused_and_changes_nothing)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, range,
		  a_bad_range_is_refused_and_changes_nothing)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 4 * PAGE };
	struct ovc_vm_stats before;
	struct ovc_vm *other;
	char buf[16];
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	cr_assert_eq(ovc_vm_create(w.host, NULL, &other), 0);
	o.addr = map_memory(ANON, o.len, &o.memfd);
	cr_assert_eq(ovc_vm_add_region(other, &o), 0);
	fill_pages(w.mem, 0, NR, 1);
	for (int tracked = 0; tracked < 2; tracked++) {
		if (tracked)
			cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR / 2 * PAGE),
				     0);
		before = vm_stats(&w);
		for (size_t i = 0; i < NR_CALLS; i++)
			refuse_all(calls[i].name, calls[i].call, &w, o.addr);
		expect_error("read", ovc_vm_read(w.vm, w.mem, NULL, 1), -EINVAL,
			     "buf");
		expect_error("read", ovc_vm_read(NULL, w.mem, buf, 1), -EINVAL,
			     "vm");
		expect_error("read", ovc_vm_read(w.vm, o.addr, buf, 1), -EINVAL,
			     "addr");
		expect_error("read",
			     ovc_vm_read(w.vm, w.mem + w.len - 1, buf, 2),
			     -EINVAL, "len");
		expect_error("unpin", ovc_vm_unpin(w.vm, w.mem, PAGE), -EINVAL,
			     "pinned");
		for (int on = -1; on <= 2; on += 3)
			expect_error("set_sharing",
				     ovc_vm_set_sharing(w.vm, w.mem, PAGE, on),
				     -EINVAL, "set_sharing");
		same_state(before, vm_stats(&w));
	}
	cr_assert_eq(check_pages(w.mem, 0, NR, 1), -1);
	world_close(&w, 0);
}

/* ---- discard -------------------------------------------------------------------- */

ParameterizedTestParameters(range, discarded_pages_read_zero_wherever_they_were)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

/* A third with the guest, a third in swap, a third was never there. */
ParameterizedTest(struct way *way, range,
		  discarded_pages_read_zero_wherever_they_were)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, 2 * NR - 256, 2);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(check_pages(w.mem, 0, 32, 2), -1); /* clean, some */
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem + 16 * PAGE, w.len - 16 * PAGE),
		     0, "%s", ovc_error());
	cr_assert_eq(vm_stats(&w).swap_used + vm_stats(&w).resident > 64 * PAGE,
		     0, "%s", way_name(*way));
	for (uint64_t i = 16; i < w.len / PAGE; i++)
		cr_assert(is_zero(w.mem + i * PAGE), "%s: page %u",
			  way_name(*way), (unsigned)i);
	cr_assert_eq(check_pages(w.mem, 0, 16, 2), -1);
	fill_pages(w.mem, 0, NR, 3);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(check_pages(w.mem, 0, NR, 3), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(range, a_discard_of_untracked_memory_reads_zero)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, range,
		  a_discard_of_untracked_memory_reads_zero)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, NR, 4);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem + PAGE, (NR - 2) * PAGE), 0);
	cr_assert_eq(vm_stats(&w).tracked, 0);
	cr_assert_eq(vm_stats(&w).resident, 2 * PAGE);
	cr_assert(is_page(w.mem, 0, 4));
	cr_assert(is_zero(w.mem + PAGE));
	cr_assert(is_page(w.mem + (NR - 1) * PAGE, NR - 1, 4));
	world_close(&w, 0);
}

ParameterizedTestParameters(range, a_discard_of_staged_pages_reads_zero)
{
	static struct way ways[] = { { ANON, 0 },
				     { MEMFD, 0 },
				     { ANON, OVC_FEATURE_MOVE } };

	return cr_make_param_array(struct way, ways, 3);
}

/* Under pressure some pages are always staged; which, nobody knows. */
ParameterizedTest(struct way *way, range, a_discard_of_staged_pages_reads_zero)
{
	bool staged = false;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 16 * MIB,
				      .len = 32 * MIB });
	for (unsigned i = 0; i < 20 && !staged; i++) {
		fill_pages(w.mem, 0, w.len / PAGE, i);
		staged = vm_stats(&w).staged;
	}
	cr_assert(staged);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem, w.len), 0);
	for (uint64_t i = 0; i < w.len / PAGE; i++)
		cr_assert(is_zero(w.mem + i * PAGE), "%s: page %u",
			  way_name(*way), (unsigned)i);
	world_close(&w, 0);
}

/* ---- pin ------------------------------------------------------------------------ */

ParameterizedTestParameters(range, pinned_pages_stay_and_pins_count)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

ParameterizedTest(struct way *way, range, pinned_pages_stay_and_pins_count)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, NR, 5);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, 64 * PAGE), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, 32 * PAGE), 0);
	cr_assert_eq(vm_stats(&w).pinned, 64 * PAGE);
	cr_assert_eq(present_pages(w.mem, 64 * PAGE), 64);
	cr_assert_eq(check_pages(w.mem, 0, 64, 5), -1);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem, 64 * PAGE), 0);
	cr_assert_eq(vm_stats(&w).pinned, 32 * PAGE);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(present_pages(w.mem, 32 * PAGE), 32, "%s", way_name(*way));
	cr_assert_eq(present_pages(w.mem + 32 * PAGE, 32 * PAGE), 0);
	expect_error("unpin", ovc_vm_unpin(w.vm, w.mem, 33 * PAGE), -EINVAL,
		     "pinned");
	cr_assert_eq(vm_stats(&w).pinned, 32 * PAGE);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem, 32 * PAGE), 0);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(present_pages(w.mem, NR * PAGE), 0);
	cr_assert_eq(check_pages(w.mem, 0, NR, 5), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(range, a_pin_over_the_budget_or_limit_is_enomem)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, range,
		  a_pin_over_the_budget_or_limit_is_enomem)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 16 * MIB,
				      .len = 24 * MIB });
	expect_error("pin", ovc_vm_pin(w.vm, w.mem, 15 * MIB), -ENOMEM,
		     "budget");
	cr_assert_eq(vm_stats(&w).pinned, 0);
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, 4 * MIB), 0, "%s", ovc_error());
	expect_error("pin", ovc_vm_pin(w.vm, w.mem, 15 * MIB), -ENOMEM,
		     "budget");
	cr_assert_eq(vm_stats(&w).pinned, 4 * MIB);
	cr_assert_eq(ovc_vm_set_limit(w.vm, 8 * MIB), 0);
	expect_error("pin", ovc_vm_pin(w.vm, w.mem + 4 * MIB, 5 * MIB), -ENOMEM,
		     "limit");
	cr_assert_eq(vm_stats(&w).pinned, 4 * MIB);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem, 4 * MIB), 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(range, a_page_takes_1000_pins_and_no_more)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, range, a_page_takes_1000_pins_and_no_more)
{
	char *page;
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	page = w.mem + 8 * PAGE;
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(ovc_vm_pin(w.vm, page, PAGE), 0, "pin %d", i);
	expect_error("pin", ovc_vm_pin(w.vm, w.mem, 16 * PAGE), -EOVERFLOW,
		     "pins");
	cr_assert_eq(vm_stats(&w).pinned, PAGE);
	expect_error("discard", ovc_vm_discard(w.vm, w.mem, 16 * PAGE), -EBUSY,
		     "pinned");
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(ovc_vm_unpin(w.vm, page, PAGE), 0, "unpin %d", i);
	expect_error("unpin", ovc_vm_unpin(w.vm, page, PAGE), -EINVAL,
		     "pinned");
	world_close(&w, 0);
}

ParameterizedTestParameters(range, a_discard_of_a_pinned_page_is_ebusy)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, range, a_discard_of_a_pinned_page_is_ebusy)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, NR, 6);
	for (int tracked = 0; tracked < 2; tracked++) {
		cr_assert_eq(ovc_vm_pin(w.vm, w.mem + 9 * PAGE, PAGE), 0);
		expect_error("discard", ovc_vm_discard(w.vm, w.mem, NR * PAGE),
			     -EBUSY, "pinned");
		cr_assert_eq(check_pages(w.mem, 0, NR, 6), -1);
		cr_assert_eq(ovc_vm_unpin(w.vm, w.mem + 9 * PAGE, PAGE), 0);
		cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	}
	world_close(&w, 0);
}

ParameterizedTestParameters(range,
			    what_a_device_writes_to_a_pinned_page_is_kept)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, range,
		  what_a_device_writes_to_a_pinned_page_is_kept)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, NR, 7);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(check_pages(w.mem, 0, NR, 7), -1); /* clean now */
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	/* Pinned pages count as written: none may be dropped unwritten. */
	cr_assert_eq(vm_stats(&w).clean_bytes, 0);
	cr_assert_eq(vm_stats(&w).swap_out_bytes, 2 * NR * PAGE);
	cr_assert_eq(check_pages(w.mem, 0, NR, 7), -1);
	world_close(&w, 0);
}

/* ---- overwrite, read, prefetch --------------------------------------------------- */

ParameterizedTestParameters(range, overwrite_spares_the_read)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

ParameterizedTest(struct way *way, range, overwrite_spares_the_read)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, 2 * NR, 8);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_overwrite(w.vm, w.mem, 2 * NR * PAGE), 0);
	cr_assert_eq(vm_stats(&w).swap_used, 0);
	cr_assert_eq(vm_stats(&w).swapped, 0);
	/* Until it is written: zeros, and what is in memory stays. */
	cr_assert(is_zero(w.mem + 10 * PAGE));
	cr_assert_eq(check_pages(w.mem, NR, NR, 8), -1, "%s", way_name(*way));
	fill_pages(w.mem, 0, NR, 9);
	cr_assert_eq(check_pages(w.mem, 0, NR, 9), -1);
	cr_assert_eq(vm_stats(&w).swap_in_bytes, 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(range, read_does_not_make_pages_resident)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

ParameterizedTest(struct way *way, range, read_does_not_make_pages_resident)
{
	struct ovc_vm_stats before;
	char *got = malloc(2 * NR * PAGE), *want = malloc(2 * NR * PAGE);
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	memset(want, 0, 2 * NR * PAGE);
	fill_pages(want, 0, NR + 64, 10);
	fill_pages(w.mem, 0, NR + 64, 10);
	cr_assert_eq(ovc_vm_read(w.vm, w.mem, got, 2 * NR * PAGE), 0);
	cr_assert_arr_eq(got, want, 2 * NR * PAGE); /* untracked */
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	before = vm_stats(&w);
	memset(got, 1, 2 * NR * PAGE);
	cr_assert_eq(ovc_vm_read(w.vm, w.mem, got, 2 * NR * PAGE), 0);
	cr_assert_arr_eq(got, want, 2 * NR * PAGE, "%s", way_name(*way));
	/* Any alignment. */
	cr_assert_eq(ovc_vm_read(w.vm, w.mem + 4095, got, 4099), 0);
	cr_assert_arr_eq(got, want + 4095, 4099);
	cr_assert_eq(ovc_vm_read(w.vm, w.mem + 7, got, 0), 0);
	cr_assert_eq(vm_stats(&w).resident, before.resident);
	cr_assert_eq(vm_stats(&w).swapped, before.swapped);
	cr_assert_eq(present_pages(w.mem, NR * PAGE), 0);
	world_close(&w, 0);
	free(got);
	free(want);
}

ParameterizedTestParameters(range, prefetch_makes_later_touches_free_of_reads)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

ParameterizedTest(struct way *way, range,
		  prefetch_makes_later_touches_free_of_reads)
{
	uint64_t in;
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	cr_assert_eq(ovc_vm_prefetch(w.vm, w.mem, w.len), 0); /* untracked */
	fill_pages(w.mem, 0, NR, 11);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_prefetch(w.vm, w.mem, NR * PAGE), 0);
	for (int i = 0; i < 2000 * PATIENCE && vm_stats(&w).swapped; i++)
		usleep(5000);
	cr_assert_eq(vm_stats(&w).swapped, 0, "%s", way_name(*way));
	in = vm_stats(&w).swap_in_bytes;
	cr_assert_eq(check_pages(w.mem, 0, NR, 11), -1);
	cr_assert_eq(vm_stats(&w).swap_in_bytes, in);
	world_close(&w, 0);
}

ParameterizedTestParameters(range, too_many_prefetches_are_eagain)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

/* In dispatch mode all of them wait. */
ParameterizedTest(struct way *way, range, too_many_prefetches_are_eagain)
{
	int error = 0, nr = 0;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .host_flags = OVC_HOST_DISPATCH });
	fill_pages(w.mem, 0, NR, 12);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	while (nr < 100000) {
		error = ovc_vm_prefetch(w.vm, w.mem, PAGE);
		if (error)
			break;
		nr++;
	}
	expect_error("prefetch", error, -EAGAIN, "prefetch");
	cr_assert_geq(nr, 1);
	for (int i = 0; i < 1000 && ovc_vm_prefetch(w.vm, w.mem, PAGE); i++) {
		cr_assert_eq(ovc_host_dispatch(w.host), 0);
		usleep(1000);
	}
	cr_assert_eq(ovc_vm_prefetch(w.vm, w.mem, PAGE), 0);
	world_close(&w, OVC_THROW_AWAY);
}
