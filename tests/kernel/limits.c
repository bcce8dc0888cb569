/* SPDX-License-Identifier: MIT */
/*
 * How much of everything a host takes: 1,000 VMs, 512 regions a VM, 1 TiB a
 * region, 64 fault threads; and what one more is told.
 */
#include <sys/mman.h>
#include <sys/resource.h>

#include "support.h"

TestSuite(limits, .timeout = 60 * PATIENCE);

Test(limits, a_host_takes_1000_vms_and_no_more)
{
	struct ovc_vm *vms[1000], *vm = NULL;
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	vms[0] = w.vm;
	for (int i = 1; i < 1000; i++)
		cr_assert_eq(ovc_vm_create(w.host, NULL, &vms[i]), 0, "%d: %s",
			     i, ovc_error());
	expect_error("vm", ovc_vm_create(w.host, NULL, &vm), -ENOSPC, "1000");
	cr_assert_null(vm);
	cr_assert_eq(host_stats(&w).vms, 1000);
	ovc_vm_destroy(&vms[500], 0);
	cr_assert_eq(ovc_vm_create(w.host, NULL, &vms[500]), 0);
	world_close(&w, 0);
}

/* A region of a memfd takes a descriptor of ours beside the test's own. */
static void allow_descriptors(rlim_t nr)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= nr)
		return;
	limit.rlim_cur = nr;
	if (limit.rlim_max < nr)
		limit.rlim_max = nr;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		cr_skip_test("no %llu descriptors to be had",
			     (unsigned long long)nr);
}

ParameterizedTestParameters(limits, a_vm_takes_512_regions_and_no_more)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, limits, a_vm_takes_512_regions_and_no_more)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 16 * PAGE };
	struct ovc_donation d = { .size = sizeof(d) };
	uint32_t pfns[512];
	char *at[512];
	struct world w;

	allow_descriptors(2048);
	world_open(&w, (struct plan){ .way = *way, .len = 16 * PAGE });
	at[0] = w.mem;
	for (int i = 1; i < 512; i++) {
		o.addr = at[i] = map_memory(way->kind, o.len, &o.memfd);
		o.gpa = (unsigned)i * o.len;
		cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%d: %s", i,
			     ovc_error());
	}
	o.addr = map_memory(way->kind, o.len, &o.memfd);
	o.gpa = OVC_GPA_NONE;
	expect_error("add", ovc_vm_add_region(w.vm, &o), -ENOSPC, "512");
	cr_assert_eq(vm_stats(&w).regions, 512);
	for (int i = 0; i < 512; i++) {
		fill_pages(at[i], 0, 16, (unsigned)i);
		cr_assert_eq(ovc_vm_reclaim(w.vm, at[i], o.len), 0);
	}
	for (int i = 0; i < 512; i++)
		cr_assert_eq(check_pages(at[i], 0, 16, (unsigned)i), -1);
	/* Each is found by its frames, whatever came and went. */
	for (int i = 511; i > 0; i -= 2)
		cr_assert_eq(ovc_vm_remove_region(w.vm, at[i], 0), 0);
	for (unsigned i = 0; i < 512; i++)
		pfns[i] = i ? i * 16 + 3 : (uint32_t)(WORLD_GPA / PAGE) + 3;
	cr_assert_eq(ovc_vm_balloon_inflate(w.vm, pfns, 512, &d), 0);
	cr_assert_eq(d.given, 256);
	cr_assert_eq(d.outside, 256);
	for (int i = 0; i < 512; i++)
		cr_assert_eq(is_zero(at[i] + 3 * PAGE), !(i % 2), "%d", i);
	world_close(&w, 0);
}

static void use_far_apart(enum kind kind, size_t len)
{
	uint64_t nr = len / PAGE, part = nr / 8;
	struct world w;

	world_open(&w, (struct plan){ .way = { kind, 0 },
				      .len = len,
				      .swap_size = 16 * MIB });
	for (uint64_t at = 0; at < nr; at += part) {
		fill_pages(w.mem, at, 8, 1);
		fill_pages(w.mem, at + part - 8, 8, 1);
	}
	for (uint64_t at = 0; at < nr; at += part) {
		char *page = w.mem + at * PAGE;

		cr_assert_eq(ovc_vm_reclaim(w.vm, page, 8 * PAGE), 0, "%s",
			     ovc_error());
		page += (part - 8) * PAGE;
		cr_assert_eq(ovc_vm_reclaim(w.vm, page, 8 * PAGE), 0);
	}
	cr_assert_eq(vm_stats(&w).swapped, 128 * PAGE);
	cr_assert_leq(host_stats(&w).metadata, 8 * MIB);
	for (uint64_t at = 0; at < nr; at += part) {
		cr_assert_eq(check_pages(w.mem, at, 8, 1), -1);
		cr_assert_eq(check_pages(w.mem, at + part - 8, 8, 1), -1);
	}
	world_close(&w, 0);
}

Test(limits, an_anonymous_region_of_one_tebibyte_works)
{
	use_far_apart(ANON, (size_t)1 << 40);
}

/* Smaller: to adopt a memfd costs time for its holes, too (mincore). */
Test(limits, a_memfd_region_of_16_gibibytes_works)
{
	use_far_apart(MEMFD, (size_t)1 << 34);
}

Test(limits, a_memfd_region_of_one_tebibyte_is_accepted)
{
	struct world w;

	world_open(&w, (struct plan){ .way = { MEMFD, 0 },
				      .len = (size_t)1 << 40,
				      .budget = (uint64_t)2 << 40,
				      .swap_size = 16 * MIB });
	fill_pages(w.mem, w.len / PAGE - 1, 1, 1);
	cr_assert_eq(check_pages(w.mem, w.len / PAGE - 1, 1, 1), -1);
	world_close(&w, 0);
}

Test(limits, sixty_four_fault_threads_are_started)
{
	struct ovc_host_options o = { .size = sizeof(o),
				      .budget = 256 * MIB,
				      .fault_threads = 64 };
	struct ovc_host_stats s = { .size = sizeof(s) };
	struct ovc_host *host;

	need_userfaultfd();
	cr_assert_eq(ovc_host_create(&o, &host), 0, "%s", ovc_error());
	cr_assert_eq(ovc_host_stats(host, &s), 0);
	cr_assert_eq(s.fault_threads, 64);
	ovc_host_destroy(&host);
}
