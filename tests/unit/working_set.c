/* SPDX-License-Identifier: MIT */
/*
 * Working sets by sampling (lib/policy/working_set.c): by hand, and with random
 * samples of a VM whose working set is known.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include "policy/working_set.h"

#define MEMORY 262144 /* pages: 1 GiB */
#define POINT  10000  /* ppm */
#define TRIALS 1000

static struct ovc_working_set ws;

static uint64_t rnd(void)
{
	static uint64_t x = 42;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 2685821657736338717ull >> 8;
}

static void sample(uint32_t sampled, uint32_t touched)
{
	ovc_working_set_begin(&ws, sampled, MEMORY, MEMORY);
	ovc_working_set_touched(&ws, touched);
}

static void period(uint32_t sampled, uint32_t touched)
{
	sample(sampled, touched);
	ovc_working_set_end(&ws);
}

#define is(percent)                                                            \
	cr_assert_eq(ovc_working_set_estimate(&ws), (percent)*POINT, "%u ppm", \
		     ovc_working_set_estimate(&ws))

/* ---- by hand ------------------------------------------------------------- */

Test(working_set, before_anything_is_known_all_counts_as_active)
{
	is(100);
	sample(100, 3);
	is(100);
	cr_assert_not(ovc_working_set_grows(&ws));
}

Test(working_set, the_first_period_is_taken_as_it_is)
{
	period(100, 30);
	is(30);
}

Test(working_set, growth_shows_within_the_period)
{
	period(100, 20);
	sample(100, 40);
	is(40);
	cr_assert(ovc_working_set_grows(&ws));
	ovc_working_set_touched(&ws, 40);
	is(80);
}

Test(working_set, growth_stays_when_the_period_is_over)
{
	period(100, 20);
	period(100, 80);
	is(80);
	sample(100, 0);
	is(80);
	cr_assert_not(ovc_working_set_grows(&ws));
}

/* 80 to 20: the slow average forgets 60 percent of the way a period. */
Test(working_set, shrinking_is_believed_slowly)
{
	for (int i = 0; i < 20; i++)
		period(100, 80);
	sample(100, 20);
	is(80);
	ovc_working_set_end(&ws);
	is(44);
	period(100, 20);
	cr_assert_eq(ovc_working_set_estimate(&ws), 296000);
	period(100, 20);
	cr_assert_eq(ovc_working_set_estimate(&ws), 238400);
}

/* Two pages of ten more than the average is not growth but chance. */
Test(working_set, a_few_points_more_are_no_growth)
{
	period(100, 50);
	sample(100, 60);
	cr_assert_not(ovc_working_set_grows(&ws));
	ovc_working_set_touched(&ws, 1);
	cr_assert(ovc_working_set_grows(&ws));
}

Test(working_set, samples_of_what_is_resident_speak_for_that_alone)
{
	ovc_working_set_begin(&ws, 100, MEMORY / 4, MEMORY);
	ovc_working_set_touched(&ws, 40);
	ovc_working_set_end(&ws);
	is(10);
}

Test(working_set, refaults_push_it_up_at_once)
{
	period(100, 20);
	ovc_working_set_begin(&ws, 100, MEMORY / 2, MEMORY);
	ovc_working_set_touched(&ws, 40);
	is(20);
	ovc_working_set_refault(&ws, MEMORY / 4);
	is(45);
	cr_assert(ovc_working_set_grows(&ws));
	ovc_working_set_end(&ws);
	is(45);
}

Test(working_set, it_is_never_more_than_all)
{
	period(100, 100);
	sample(100, 500);
	ovc_working_set_refault(&ws, 10 * MEMORY);
	is(100);
	ovc_working_set_end(&ws);
	is(100);
}

Test(working_set, a_period_without_samples_changes_nothing_but_by_refaults)
{
	period(100, 30);
	period(0, 0);
	is(30);
	ovc_working_set_begin(&ws, 0, MEMORY, MEMORY);
	ovc_working_set_refault(&ws, MEMORY / 2);
	ovc_working_set_end(&ws);
	is(50);
}

Test(working_set, refaults_alone_do_not_make_it_known)
{
	ovc_working_set_begin(&ws, 0, MEMORY, MEMORY);
	ovc_working_set_refault(&ws, 1);
	ovc_working_set_end(&ws);
	is(100);
}

/* ---- at random ----------------------------------------------------------- */

/* A period of a VM of which so many percent are active. */
static void watch(uint32_t percent)
{
	uint32_t touched = 0;

	for (int i = 0; i < 100; i++)
		touched += rnd() % 100 < percent;
	period(100, touched);
}

/* How many of the trials end more than 10 points off. */
static int misses(uint32_t before, uint32_t percent, int periods)
{
	int nr = 0;

	for (int trial = 0; trial < TRIALS; trial++) {
		ws = (struct ovc_working_set){ 0 };
		for (int i = 0; i < 10; i++)
			watch(before);
		for (int i = 0; i < periods; i++)
			watch(percent);
		nr += abs((int)ovc_working_set_estimate(&ws) -
			  (int)percent * POINT) > 10 * POINT;
	}
	return nr;
}

Test(working_set, a_steady_one_is_right_within_10_points)
{
	for (uint32_t percent = 5; percent <= 95; percent += 15)
		cr_assert_leq(misses(percent, percent, 5), TRIALS / 20);
}

Test(working_set, growth_is_right_within_10_points_after_one_period)
{
	cr_assert_leq(misses(10, 90, 1), TRIALS / 20);
	cr_assert_leq(misses(20, 80, 1), TRIALS / 20);
	cr_assert_leq(misses(5, 50, 1), TRIALS / 20);
	cr_assert_leq(misses(0, 100, 1), 0);
}

Test(working_set, shrinking_is_right_within_10_points_after_three_periods)
{
	cr_assert_leq(misses(90, 10, 3), TRIALS / 20);
	cr_assert_leq(misses(80, 20, 3), TRIALS / 20);
	cr_assert_leq(misses(50, 5, 3), TRIALS / 20);
	cr_assert_leq(misses(100, 0, 3), 0);
}
