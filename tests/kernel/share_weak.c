/* SPDX-License-Identifier: MIT */
/*
 * The library with a hash of three bits (see lib/meson.build): most pages whose hash is
 * equal differ. They must never be taken for equal, whatever is merged beside them.
 */
#include "sharing.h"

TestSuite(share_weak, .timeout = 60 * PATIENCE);

#define KINDS 64 /* contents; of eight hashes */

ParameterizedTestParameters(share_weak, an_equal_hash_proves_nothing)
{
	return cr_make_param_array(struct share_way, share_ways, SHARE_WAYS);
}

ParameterizedTest(struct share_way *s, share_weak, an_equal_hash_proves_nothing)
{
	struct shared_world g;

	shared_open(&g, share_plan(s));
	/* No two are equal, or zero. */
	fill_common(g.w.mem, 0, NR, 0, 1);
	fill_common(g.mem, 0, NR, 0, 2);
	share_now(&g.w);
	wait_for(host_stats(&g.w).collisions >= NR);
	wait_for_passes(&g.w);
	cr_assert_eq(host_stats(&g.w).merged_bytes, 0);
	cr_assert_eq(host_stats(&g.w).share_zero_bytes, 0);
	cr_assert_eq(host_stats(&g.w).store_bytes, 0);
	cr_assert_eq(check_common(g.w.mem, 0, NR, 0, 1), -1, "%s",
		     share_way_name(s));
	cr_assert_eq(check_common(g.mem, 0, NR, 0, 2), -1);
	shared_close(&g, 0);
}

ParameterizedTestParameters(share_weak, equal_pages_among_collisions_stay_right)
{
	return cr_make_param_array(struct share_way, share_ways, SHARE_WAYS);
}

ParameterizedTest(struct share_way *s, share_weak,
		  equal_pages_among_collisions_stay_right)
{
	struct shared_world g;

	shared_open(&g, share_plan(s));
	fill_common(g.w.mem, 0, NR, KINDS, 3);
	fill_common(g.mem, 0, NR, KINDS, 3);
	share_now(&g.w);
	wait_for(host_stats(&g.w).collisions >= NR / 8);
	wait_for_passes(&g.w);
	cr_assert_eq(read_common(g.w.vm, g.w.mem, 0, NR, KINDS, 3), -1);
	cr_assert_eq(read_common(g.other, g.mem, 0, NR, KINDS, 3), -1);
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 3), -1, "%s",
		     share_way_name(s));
	/* Written while they are compared with others. */
	for (unsigned round = 4; round < 8; round++) {
		fill_common(g.mem, 0, NR, KINDS, round);
		cr_assert_eq(check_common(g.mem, 0, NR, KINDS, round), -1);
	}
	wait_for_passes(&g.w);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 7), -1);
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 3), -1);
	shared_close(&g, 0);
}
