/* SPDX-License-Identifier: MIT */
/*
 * Equal pages are kept once: which are, who may share with whom, what reading and
 * writing them costs, and when nothing is shared.
 */
#include <stdatomic.h>

#include "sharing.h"

TestSuite(share, .timeout = 60 * PATIENCE);

#define KINDS 32       /* contents that many pages have */
#define MANY  (NR / 2) /* contents that two pages of a guest have */
#define FEW   16       /* pages */

#define share_params                                      \
	cr_make_param_array(struct share_way, share_ways, \
			    sizeof(share_ways) / sizeof(share_ways[0]))

/* ---- found ------------------------------------------------------------------ */

ParameterizedTestParameters(share, equal_pages_of_a_vm_are_kept_once)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share, equal_pages_of_a_vm_are_kept_once)
{
	struct plan plan = share_plan(s);
	uint64_t used, stored;
	struct world w;

	plan.domain = NULL; /* a domain of its own */
	world_open(&w, plan);
	fill_common(w.mem, 0, NR, KINDS, 1);
	/* That some are pushed out once begins the tracking. */
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, PAGE), 0);
	used = host_stats(&w).used;
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes >= (NR - 1) * PAGE);
	stored = host_stats(&w).store_bytes;
	/* What two pairs find at the same time may be stored twice. */
	cr_assert_geq(stored, KINDS * PAGE);
	cr_assert_leq(stored, 4 * KINDS * PAGE, "%s: %llu pages",
		      share_way_name(s), (unsigned long long)(stored / PAGE));
	cr_assert_geq(host_stats(&w).merged_bytes, (NR - 1) * PAGE);
	cr_assert_eq(vm_stats(&w).charged_bytes, stored);
	/* The tables of sharing are small beside what it saves. */
	wait_for(host_stats(&w).used + NR * PAGE / 2 < used);
	cr_assert_eq(read_common(w.vm, w.mem, 0, NR, KINDS, 1), -1);
	cr_assert_eq(check_common(w.mem, 0, NR, KINDS, 1), -1, "%s",
		     share_way_name(s));
	world_close(&w, 0);
}

ParameterizedTestParameters(share, equal_pages_of_two_vms_of_a_domain_are_too)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share,
		  equal_pages_of_two_vms_of_a_domain_are_too)
{
	struct shared_world g;
	struct ovc_vm_stats v;

	shared_open(&g, share_plan(s));
	/* No two of a guest are equal. */
	fill_common(g.w.mem, 0, NR, 0, 2);
	fill_common(g.mem, 0, NR, 0, 2);
	share_now(&g.w);
	/* Where hints crowd, a few pages do not find each other. */
	wait_for(host_stats(&g.w).shared_bytes >= 2 * (NR - FEW) * PAGE);
	v = vm_stats(&g.w);
	cr_assert_eq(v.resident + v.staged + v.shared_bytes, NR * PAGE);
	cr_assert_geq(host_stats(&g.w).store_bytes, (NR - FEW) * PAGE);
	cr_assert_leq(host_stats(&g.w).store_bytes, (NR + 64) * PAGE);
	/* Each pays half. */
	v = vm_stats(&g.w);
	cr_assert_geq(v.charged_bytes, (NR / 2 - FEW) * PAGE);
	cr_assert_leq(v.charged_bytes, (NR / 2 + 33) * PAGE);
	cr_assert_eq(v.swapped, 0);
	cr_assert_eq(v.zero, 0);
	cr_assert_eq(check_common(g.w.mem, 0, NR, 0, 2), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, 0, 2), -1, "%s",
		     share_way_name(s));
	shared_close(&g, 0);
}

/* ---- who may not --------------------------------------------------------------- */

/* Which domains two guests name. */
struct apart {
	struct share_way way;
	bool one, other;
};

ParameterizedTestParameters(share, vms_of_different_domains_never_share)
{
	static struct apart apart[] = {
		{ { { ANON, 0 }, true }, false, false },
		{ { { ANON, 0 }, true }, true, true },
		{ { { ANON, 0 }, true }, true, false },
		{ { { MEMFD, 0 }, true }, false, false },
		{ { { MEMFD, 0 }, false }, true, true },
	};

	return cr_make_param_array(struct apart, apart,
				   sizeof(apart) / sizeof(apart[0]));
}

ParameterizedTest(struct apart *a, share, vms_of_different_domains_never_share)
{
	struct plan plan = share_plan(&a->way);
	struct ovc_host_stats s;
	struct ovc_vm *other;
	struct world w;
	char *mem;
	int memfd;

	plan.domain = a->one ? "one" : NULL;
	world_open(&w, plan);
	other = add_guest(w.host, &plan, a->other ? "other" : NULL, w.len, &mem,
			  &memfd);
	fill_common(w.mem, 0, NR, 0, 3);
	fill_common(mem, 0, NR, 0, 3);
	share_now(&w);
	wait_for_passes(&w);
	s = host_stats(&w);
	cr_assert_geq(s.hashed_bytes, 2 * NR * PAGE); /* it was looked for */
	cr_assert_eq(s.shared_bytes, 0);
	cr_assert_eq(s.store_bytes, 0);
	cr_assert_eq(s.merged_bytes, 0);
	/* Within each, they do; and each has its own copy. */
	cr_assert_eq(ovc_host_set_share(w.host, OVC_SHARE_NEVER, 0), 0);
	fill_common(w.mem, 0, NR, 1, 4);
	fill_common(mem, 0, NR, 1, 4);
	share_now(&w);
	wait_for(host_stats(&w).shared_bytes == 2 * NR * PAGE);
	cr_assert_geq(host_stats(&w).store_bytes, 2 * PAGE);
	ovc_vm_destroy(&other, 0);
	cr_assert_eq(check_common(mem, 0, NR, 1, 4), -1);
	cr_assert_eq(check_common(w.mem, 0, NR, 1, 4), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(share, a_vm_that_shares_nothing_is_left_alone)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share,
		  a_vm_that_shares_nothing_is_left_alone)
{
	struct plan plan = share_plan(s);
	struct shared_world g;

	plan.vm_flags = OVC_VM_NO_SHARE;
	world_open(&g.w, plan);
	plan.vm_flags = 0;
	g.other =
		add_guest(g.w.host, &plan, "all", NR * PAGE, &g.mem, &g.memfd);
	fill_common(g.w.mem, 0, NR, KINDS, 5);
	fill_common(g.mem, 0, NR, KINDS, 5);
	share_now(&g.w);
	wait_for(host_stats(&g.w).shared_bytes == NR * PAGE);
	wait_for_passes(&g.w);
	cr_assert_eq(vm_stats(&g.w).shared_bytes, 0);
	cr_assert_eq(vm_stats(&g.w).merged_bytes, 0);
	cr_assert_eq(vm_stats(&g.w).tracked, 0);
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 5), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 5), -1);
	shared_close(&g, 0);
}

ParameterizedTestParameters(share, a_range_is_switched_off_and_on)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share, a_range_is_switched_off_and_on)
{
	uint64_t first = NR / 4, nr = NR / 2;
	struct world w;

	world_open(&w, share_plan(s));
	cr_assert_eq(ovc_vm_set_sharing(w.vm, w.mem + first * PAGE, nr * PAGE,
					0),
		     0);
	fill_common(w.mem, 0, NR, KINDS, 6);
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes == (NR - nr) * PAGE);
	wait_for_passes(&w);
	cr_assert_eq(vm_stats(&w).shared_bytes, (NR - nr) * PAGE);
	cr_assert_eq(vm_stats(&w).resident, nr * PAGE);
	/* Off once more changes nothing of what is shared. */
	cr_assert_eq(ovc_vm_set_sharing(w.vm, w.mem, NR * PAGE, 0), 0);
	wait_for_passes(&w);
	cr_assert_eq(vm_stats(&w).shared_bytes, (NR - nr) * PAGE);
	cr_assert_eq(ovc_vm_set_sharing(w.vm, w.mem, NR * PAGE, 1), 0);
	wait_for(vm_stats(&w).shared_bytes == NR * PAGE);
	cr_assert_eq(check_common(w.mem, 0, NR, KINDS, 6), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(share, a_pause_keeps_what_is_shared)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share, a_pause_keeps_what_is_shared)
{
	struct ovc_host_stats before, after;
	struct world w;

	world_open(&w, share_plan(s));
	fill_common(w.mem, 0, NR / 2, KINDS, 7);
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes == NR / 2 * PAGE);
	cr_assert_eq(ovc_host_set_share(w.host, OVC_SHARE_NEVER, 0), 0);
	usleep(20000); /* the step that was under way */
	fill_common(w.mem, NR / 2, NR / 2, KINDS, 7);
	before = host_stats(&w);
	usleep(200000);
	after = host_stats(&w);
	cr_assert_eq(after.scanned_bytes, before.scanned_bytes);
	cr_assert_eq(after.share_cpu_ns, before.share_cpu_ns);
	cr_assert_eq(after.shared_bytes, NR / 2 * PAGE);
	cr_assert_eq(read_common(w.vm, w.mem, 0, NR, KINDS, 7), -1);
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes == NR * PAGE);
	cr_assert_eq(check_common(w.mem, 0, NR, KINDS, 7), -1);
	world_close(&w, 0);
}

/* ---- zeros --------------------------------------------------------------------- */

ParameterizedTestParameters(share, pages_of_zeros_are_given_back)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share, pages_of_zeros_are_given_back)
{
	struct world w;

	world_open(&w, share_plan(s));
	memset(w.mem, 0, NR * PAGE);
	fill_pages(w.mem, 100, 8, 8); /* no two equal */
	share_now(&w);
	wait_for(host_stats(&w).share_zero_bytes >= (NR - 8) * PAGE);
	wait_for(vm_stats(&w).resident == 8 * PAGE);
	cr_assert_eq(vm_stats(&w).shared_bytes, 0);
	cr_assert_eq(vm_stats(&w).zero, (NR - 8) * PAGE);
	cr_assert_eq(host_stats(&w).store_bytes, 0);
	cr_assert_eq(vm_stats(&w).swap_out_bytes, 0);
	for (uint64_t i = 0; i < NR; i++)
		cr_assert(i - 100 < 8 ? is_page(w.mem + i * PAGE, i, 8) :
					is_zero(w.mem + i * PAGE),
			  "%s: page %u", share_way_name(s), (unsigned)i);
	world_close(&w, 0);
}

ParameterizedTestParameters(share, pages_of_zeros_stay_where_that_is_wanted)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share,
		  pages_of_zeros_stay_where_that_is_wanted)
{
	struct plan plan = share_plan(s);
	struct world w;

	plan.vm_flags = OVC_VM_NO_ZERO_SHARE;
	world_open(&w, plan);
	memset(w.mem, 0, NR / 2 * PAGE);
	fill_common(w.mem, NR / 2, NR / 2, KINDS, 9);
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes == NR / 2 * PAGE);
	wait_for_passes(&w);
	cr_assert_eq(host_stats(&w).share_zero_bytes, 0);
	cr_assert_eq(vm_stats(&w).shared_bytes, NR / 2 * PAGE);
	cr_assert_eq(vm_stats(&w).resident, NR / 2 * PAGE);
	for (uint64_t i = 0; i < NR / 2; i++)
		cr_assert(is_zero(w.mem + i * PAGE));
	cr_assert_eq(check_common(w.mem, NR / 2, NR / 2, KINDS, 9), -1);
	world_close(&w, 0);
}

/* ---- reading and writing -------------------------------------------------------- */

/* Reads until that costs no fault any more: what is read is worth a mapping. */
static bool reads_without_faults(const struct world *w)
{
	uint64_t faults;

	if (vm_stats(w).mapped_bytes != NR * PAGE)
		wait_for_passes(w);
	faults = host_stats(w).faults;
	cr_assert_eq(check_common(w->mem, 0, NR, KINDS, 10), -1);
	return host_stats(w).faults == faults &&
	       vm_stats(w).shared_bytes == NR * PAGE;
}

ParameterizedTestParameters(share, mapped_pages_are_read_without_faults)
{
	return cr_make_param_array(struct share_way, share_ways, 2);
}

ParameterizedTest(struct share_way *s, share,
		  mapped_pages_are_read_without_faults)
{
	struct world w;

	world_open(&w, share_plan(s));
	fill_common(w.mem, 0, NR, KINDS, 10);
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes == NR * PAGE);
	cr_assert_gt(vm_stats(&w).mapped_bytes, NR / 2 * PAGE, "%s",
		     share_way_name(s));
	cr_assert_gt(host_stats(&w).share_mappings, 0);
	wait_for(reads_without_faults(&w));
	cr_assert_eq(vm_stats(&w).mapped_bytes, NR * PAGE);
	cr_assert_eq(host_stats(&w).mapped_bytes, NR * PAGE);
	/* A child of fork() gets none of it. */
	cr_assert(smaps_flag(w.mem + NR / 2 * PAGE, "dc"));
	world_close(&w, 0);
}

ParameterizedTestParameters(share, a_write_makes_a_private_copy)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share, a_write_makes_a_private_copy)
{
	uint64_t used, from = NR / 4, nr = NR / 4;
	struct shared_world g;
	struct ovc_vm_stats a, b;

	shared_open(&g, share_plan(s));
	fill_common(g.w.mem, 0, NR, MANY, 11);
	fill_common(g.mem, 0, NR, MANY, 11);
	share_now(&g.w);
	wait_for(host_stats(&g.w).shared_bytes == 2 * NR * PAGE);
	used = host_stats(&g.w).used;
	a = vm_stats(&g.w);
	fill_common(g.w.mem, from, nr, 0, 12);
	/* Nobody has what was written, so that it stays private. */
	wait_for(vm_stats(&g.w).shared_bytes == (NR - nr) * PAGE);
	wait_for(host_stats(&g.w).used >= used + nr * PAGE);
	cr_assert_leq(host_stats(&g.w).used, used + (nr + 512) * PAGE);
	b = vm_stats(&g.w);
	cr_assert_eq(b.broken_bytes - a.broken_bytes, nr * PAGE);
	cr_assert_eq(b.resident, nr * PAGE);
	cr_assert_eq(host_stats(&g.w).broken_bytes, b.broken_bytes);
	cr_assert_eq(read_common(g.other, g.mem, 0, NR, MANY, 11), -1);
	cr_assert_eq(check_common(g.w.mem, from, nr, 0, 12), -1);
	cr_assert_eq(check_common(g.w.mem, 0, from, MANY, 11), -1);
	cr_assert_eq(check_common(g.w.mem, from + nr, NR - from - nr, MANY, 11),
		     -1);
	cr_assert_eq(check_common(g.mem, 0, NR, MANY, 11), -1, "%s",
		     share_way_name(s));
	shared_close(&g, 0);
}

/* One word of a page is written: the rest of it must be what it was. */
ParameterizedTestParameters(share, one_written_byte_changes_one_byte)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share, one_written_byte_changes_one_byte)
{
	struct shared_world g;

	shared_open(&g, share_plan(s));
	fill_common(g.w.mem, 0, NR, KINDS, 13);
	fill_common(g.mem, 0, NR, KINDS, 13);
	share_now(&g.w);
	wait_for(host_stats(&g.w).shared_bytes == 2 * NR * PAGE);
	for (uint64_t i = 0; i < NR; i += 3)
		g.mem[i * PAGE + i % PAGE] ^= 1;
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 13), -1);
	wait_for_passes(&g.w);
	for (uint64_t i = 0; i < NR; i += 3) {
		cr_assert(!is_page(g.mem + i * PAGE, i % KINDS, 13));
		g.mem[i * PAGE + i % PAGE] ^= 1;
	}
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 13), -1, "%s",
		     share_way_name(s));
	/* They are equal again. What is touched, and cannot be mapped, would come and
	 * go; it stays private. */
	if (s->mapped)
		wait_for(host_stats(&g.w).shared_bytes == 2 * NR * PAGE);
	shared_close(&g, 0);
}

ParameterizedTestParameters(share, a_memfd_of_others_is_shared_and_not_mapped)
{
	return cr_make_param_array(struct share_way, &share_ways[2], 1);
}

ParameterizedTest(struct share_way *s, share,
		  a_memfd_of_others_is_shared_and_not_mapped)
{
	char page[PAGE];
	uint64_t faults;
	struct world w;

	world_open(&w, share_plan(s));
	fill_common(w.mem, 0, NR, KINDS, 14);
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes == NR * PAGE);
	cr_assert_eq(host_stats(&w).mapped_bytes, 0);
	cr_assert_leq(host_stats(&w).share_mappings, 1);
	cr_assert_eq(present_pages(w.mem, w.len), 0);
	faults = host_stats(&w).faults;
	cr_assert_eq(check_common(w.mem, 0, 16, KINDS, 14), -1);
	cr_assert_eq(vm_stats(&w).broken_bytes, 16 * PAGE);
	cr_assert_eq(host_stats(&w).faults, faults + 16);
	/* Another process that maps the memfd sees what the guest has. */
	cr_assert_eq(pread(w.memfd, page, PAGE, 3 * PAGE), (ssize_t)PAGE);
	cr_assert(is_page(page, 3, 14));
	world_close(&w, 0);
}

/* ---- written all the time --------------------------------------------------------- */

struct writer {
	char *mem;
	atomic_bool stop;
};

static void *write_on(void *arg)
{
	struct writer *t = arg;

	for (unsigned n = 0; !t->stop; n++)
		for (uint64_t i = 0; i < 64; i++)
			*(volatile unsigned *)(t->mem + i * PAGE) = n;
	return NULL;
}

ParameterizedTestParameters(share, pages_that_are_written_all_the_time_are_told)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share,
		  pages_that_are_written_all_the_time_are_told)
{
	struct writer t = { 0 };
	pthread_t thread;
	uint64_t before;
	struct world w;

	world_open(&w, share_plan(s));
	/* At the end: nothing is read ahead behind it. */
	t.mem = w.mem + (NR - 64) * PAGE;
	fill_common(w.mem, 0, NR - 64, KINDS, 15);
	cr_assert_eq(pthread_create(&thread, NULL, write_on, &t), 0);
	share_now(&w);
	wait_for(vm_stats(&w).shared_bytes >= (NR - 64) * PAGE);
	before = vm_stats(&w).volatile_bytes;
	wait_for(vm_stats(&w).volatile_bytes >= before + 640 * PAGE);
	cr_assert_leq(before, host_stats(&w).volatile_bytes);
	t.stop = true;
	pthread_join(thread, NULL);
	cr_assert_eq(check_common(w.mem, 0, NR - 64, KINDS, 15), -1);
	world_close(&w, 0);
}
