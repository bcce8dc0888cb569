/* SPDX-License-Identifier: MIT */
/*
 * The replacement decisions (lib/policy/clock.c). How good they are together is
 * the simulator's business (tests/sim).
 */
#include <criterion/criterion.h>
#include "policy/clock.h"

#define TURNOVER 400
#define SOON	 149 /* under 3/8 of it */
#define LATE	 150

/* A salt for which the page is, and one for which it is not, the odd one. */
#define ODD  0
#define EVEN 1

static uint32_t refault(uint32_t heat, uint32_t age)
{
	return ovc_clock_refault(ovc_clock_evict(heat, 1000), 1000 + age,
				 TURNOVER, EVEN);
}

Test(clock, a_page_of_which_nothing_is_known_is_on_probation_and_staged)
{
	uint32_t heat = 0;

	cr_assert(ovc_clock_on_probation(heat));
	cr_assert(ovc_clock_examine(&heat));
	cr_assert_eq(heat, 0);
}

Test(clock, a_page_put_back_is_hot_and_survives_three_visits)
{
	uint32_t heat = ovc_clock_put_back(0);

	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_HOT);
	cr_assert_not(ovc_clock_on_probation(heat));
	for (int i = 0; i < 3; i++)
		cr_assert_not(ovc_clock_examine(&heat));
	cr_assert(ovc_clock_examine(&heat));
	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_HOT);
}

Test(clock, a_first_early_refault_makes_warm_with_one_visit)
{
	uint32_t heat = refault(0, SOON);

	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_WARM);
	cr_assert_eq(ovc_clock_freq(heat), 1);
}

Test(clock, a_second_early_refault_makes_hot_with_three_visits)
{
	uint32_t heat = refault(refault(0, SOON), SOON);

	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_HOT);
	cr_assert_eq(ovc_clock_freq(heat), 3);
	cr_assert_eq(refault(heat, SOON), heat);
}

Test(clock, late_refaults_make_cold_and_leave_on_probation)
{
	uint32_t heat = refault(0, LATE);

	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_COLD);
	cr_assert(ovc_clock_on_probation(heat));
	cr_assert_eq(refault(heat, LATE), heat);
}

Test(clock, a_cold_page_needs_two_early_refaults_to_leave_probation)
{
	uint32_t heat = refault(refault(0, LATE), SOON);

	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_MILD);
	cr_assert(ovc_clock_on_probation(heat));
	heat = refault(heat, SOON);
	cr_assert_not(ovc_clock_on_probation(heat));
}

Test(clock, a_hot_page_cools_by_a_step_a_late_refault)
{
	uint32_t heat = refault(ovc_clock_put_back(0), LATE);

	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_WARM);
	heat = refault(heat, LATE);
	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_MILD);
	heat = refault(heat, LATE);
	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_COLD);
}

Test(clock, the_history_survives_eviction_and_the_visits_do_not)
{
	uint32_t heat = ovc_clock_put_back(0);

	heat = ovc_clock_evict(heat, 0);
	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_HOT);
	cr_assert_eq(heat >> 2, 0);
}

Test(clock, time_may_wrap_between_eviction_and_refault)
{
	uint32_t heat = ovc_clock_evict(0, OVC_CLOCK_TIME_MASK - 5);

	heat = ovc_clock_refault(heat, OVC_CLOCK_TIME_MASK + 10, TURNOVER,
				 EVEN);
	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_WARM);
}

Test(clock, the_odd_page_is_on_probation_and_keeps_its_history)
{
	uint32_t heat = ovc_clock_evict(ovc_clock_put_back(0), 1000);

	heat = ovc_clock_refault(heat, 1001, TURNOVER, ODD);
	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_HOT);
	cr_assert(ovc_clock_on_probation(heat));
}

Test(clock, one_in_four_is_the_odd_one)
{
	uint32_t heat = ovc_clock_evict(ovc_clock_put_back(0), 1000);
	unsigned odd = 0;

	for (uint32_t salt = 0; salt < 10000; salt++)
		odd += ovc_clock_on_probation(
			ovc_clock_refault(heat, 1001, TURNOVER, salt));
	cr_assert_geq(odd, 2400);
	cr_assert_leq(odd, 2600);
}

Test(clock, read_ahead_pages_are_on_probation_and_keep_their_history)
{
	uint32_t heat = ovc_clock_evict(ovc_clock_put_back(0), 4095);

	heat = ovc_clock_read_ahead(heat);
	cr_assert_eq(ovc_clock_history(heat), OVC_CLOCK_HOT);
	cr_assert(ovc_clock_on_probation(heat));
}

Test(clock, a_heat_never_takes_more_than_its_14_bits)
{
	for (uint32_t heat = 0; heat <= OVC_CLOCK_HEAT_MASK; heat++) {
		uint32_t h = heat;

		ovc_clock_examine(&h);
		h |= ovc_clock_evict(heat, UINT32_MAX);
		h |= ovc_clock_refault(heat, 7, TURNOVER, heat);
		h |= ovc_clock_put_back(heat) | ovc_clock_read_ahead(heat);
		cr_assert_eq(h & ~OVC_CLOCK_HEAT_MASK, 0);
	}
}

Test(clock, a_turnover_is_256_to_511_units)
{
	for (uint64_t pages = 256; pages < 1ull << 40; pages += pages / 3) {
		uint64_t units = pages >> ovc_clock_shift(pages);

		cr_assert_geq(units, 256);
		cr_assert_leq(units, 511);
	}
	cr_assert_eq(ovc_clock_shift(0), 0);
}

Test(clock, the_ring_is_larger_while_little_is_known)
{
	cr_assert_eq(ovc_clock_ring_target(10000, 0), 2001);
	cr_assert_eq(ovc_clock_ring_target(10000, 19999), 2001);
	cr_assert_eq(ovc_clock_ring_target(10000, 20000), 1001);
	cr_assert_eq(ovc_clock_ring_target(10000, 80000), 501);
	cr_assert_eq(ovc_clock_ring_target(0, 0), 1);
}

Test(clock, one_percent_may_be_on_probation)
{
	cr_assert_eq(ovc_clock_probation_limit(10000), 100);
}
