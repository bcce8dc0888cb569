/* SPDX-License-Identifier: MIT */
/*
 * Features that are not there: turned off by the caller, or refused by the
 * kernel. That all work the same with each one off is shown by the tests that
 * run in all ways; here is what differs, and what is reported.
 */
#include <sys/syscall.h>

#include "support.h"

TestSuite(fallback, .timeout = 20 * PATIENCE);

#define NR 256

static void use(struct world *w, struct way way)
{
	for (unsigned round = 0; round < 3; round++) {
		fill_pages(w->mem, 0, NR, round);
		cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, NR * PAGE), 0,
			     "%s: %s", way_name(way), ovc_error());
		/* Read-ahead that was under way may bring some in again. */
		cr_assert_leq(vm_stats(w).resident, NR / 2 * PAGE);
		cr_assert_eq(check_pages(w->mem, 0, NR, round), -1, "%s",
			     way_name(way));
	}
}

ParameterizedTestParameters(fallback, what_is_turned_off_is_not_in_use)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

ParameterizedTest(struct way *way, fallback, what_is_turned_off_is_not_in_use)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	cr_assert_eq(host_stats(&w).features & way->without, 0, "%s: %#x",
		     way_name(*way), host_stats(&w).features);
	use(&w, *way);
	cr_assert_eq(host_stats(&w).features & way->without, 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(fallback,
			    without_wp_async_clean_pages_are_rewritten)
{
	static struct way ways[] = { { ANON, OVC_FEATURE_WP_ASYNC },
				     { MEMFD, OVC_FEATURE_WP_ASYNC },
				     { ANON, OVC_FEATURE_PAGEMAP_SCAN },
				     { MEMFD, OVC_FEATURE_PAGEMAP_SCAN } };

	return cr_make_param_array(struct way, ways, 4);
}

ParameterizedTest(struct way *way, fallback,
		  without_wp_async_clean_pages_are_rewritten)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, NR, 1);
	for (unsigned round = 1; round <= 2; round++) {
		cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
		cr_assert_eq(vm_stats(&w).swap_out_bytes, round * NR * PAGE);
		cr_assert_eq(check_pages(w.mem, 0, NR, 1), -1);
	}
	cr_assert_eq(vm_stats(&w).clean_bytes, 0);
	world_close(&w, 0);
}

/* A kernel's or a sandbox's refusals, made by seccomp. */
static const struct refusal {
	int nr, error;
	uint32_t feature; /* that goes with it */
} refusals[] = {
	{ SYS_io_uring_setup, EPERM, OVC_FEATURE_IO_URING },
	{ SYS_io_uring_setup, ENOSYS, OVC_FEATURE_IO_URING },
	{ SYS_io_uring_register, EINVAL,
	  OVC_FEATURE_FIXED_BUFS | OVC_FEATURE_FIXED_FILES },
	{ SYS_process_madvise, EINVAL, OVC_FEATURE_BATCH_ADVISE },
	{ SYS_process_madvise, ENOSYS, OVC_FEATURE_BATCH_ADVISE },
};

struct refused {
	enum kind kind;
	unsigned n;
};

ParameterizedTestParameters(fallback, what_the_kernel_refuses_is_done_without)
{
	static struct refused all[2 * sizeof(refusals) / sizeof(refusals[0])];
	size_t nr = 0;

	for (unsigned i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		all[nr++] = (struct refused){ ANON, i };
		all[nr++] = (struct refused){ MEMFD, i };
	}
	return cr_make_param_array(struct refused, all, nr);
}

ParameterizedTest(struct refused *r, fallback,
		  what_the_kernel_refuses_is_done_without)
{
	const struct refusal *f = &refusals[r->n];
	struct way way = { r->kind, 0 };
	struct world w;

	need_userfaultfd();
	if (!deny_syscall(f->nr, f->error))
		cr_skip_test("no seccomp here");
	world_open(&w, (struct plan){ .way = way });
	cr_assert_eq(host_stats(&w).features & f->feature, 0, "%s",
		     ovc_feature_name(f->feature));
	use(&w, way);
	world_close(&w, 0);
}
