/* SPDX-License-Identifier: MIT */
/*
 * The latency histogram (lib/core/stat.c).
 */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "core/stat.h"

static struct ovc_hist hist;

static void assert_within(uint64_t got, uint64_t want, double part)
{
	cr_assert_leq(fabs((double)got - (double)want), part * (double)want,
		      "%lu for %lu", (unsigned long)got, (unsigned long)want);
}

Test(hist, takes_no_more_than_1331_bytes)
{
	cr_assert_leq(sizeof(hist), 1331);
}

Test(hist, an_empty_one_answers_0)
{
	cr_assert_eq(ovc_hist_quantile(&hist, 0.5), 0);
}

Test(hist, times_below_8_ns_are_exact)
{
	for (uint64_t ns = 0; ns < 8; ns++) {
		memset(&hist, 0, sizeof(hist));
		ovc_hist_add(&hist, ns);
		cr_assert_eq(ovc_hist_quantile(&hist, 0.5), ns);
	}
}

Test(hist, any_single_time_is_off_by_an_eighth_at_most)
{
	for (uint64_t ns = 8; ns < 1ull << 42; ns += 1 + ns / 37) {
		memset(&hist, 0, sizeof(hist));
		ovc_hist_add(&hist, ns);
		assert_within(ovc_hist_quantile(&hist, 0.5), ns, 0.125);
	}
}

Test(hist, powers_of_two_and_their_neighbours_are_off_by_an_eighth_at_most)
{
	for (unsigned bit = 3; bit < 42; bit++)
		for (int d = -1; d <= 1; d++) {
			uint64_t ns = (1ull << bit) + d;

			memset(&hist, 0, sizeof(hist));
			ovc_hist_add(&hist, ns);
			assert_within(ovc_hist_quantile(&hist, 1), ns, 0.125);
		}
}

Test(hist, longer_times_count_as_the_longest)
{
	ovc_hist_add(&hist, UINT64_MAX);
	assert_within(ovc_hist_quantile(&hist, 0.5), 1ull << 42, 0.125);
}

Test(hist, quantiles_of_equally_spread_times_are_right)
{
	for (uint64_t ns = 1; ns <= 1000000; ns++)
		ovc_hist_add(&hist, ns);
	for (double q = 0.01; q < 1; q += 0.01)
		assert_within(ovc_hist_quantile(&hist, q), q * 1e6, 0.125);
	assert_within(ovc_hist_quantile(&hist, 0.999), 999000, 0.125);
}

Test(hist, the_ends_are_the_least_and_the_longest)
{
	ovc_hist_add(&hist, 100);
	for (int i = 0; i < 1000; i++)
		ovc_hist_add(&hist, 5000);
	ovc_hist_add(&hist, 1000000);
	assert_within(ovc_hist_quantile(&hist, 0), 100, 0.125);
	assert_within(ovc_hist_quantile(&hist, 0.5), 5000, 0.125);
	assert_within(ovc_hist_quantile(&hist, 1), 1000000, 0.125);
}

static uint64_t total(void)
{
	uint64_t sum = 0;

	for (int b = 0; b < OVC_HIST_BUCKETS; b++)
		sum += hist.count[b];
	return sum;
}

Test(hist, a_counter_that_gets_full_halves_all_and_keeps_the_quantiles)
{
	ovc_hist_add(&hist, 100);
	ovc_hist_add(&hist, 1000000);
	for (int b = 0; b < OVC_HIST_BUCKETS; b++)
		if (hist.count[b])
			hist.count[b] = 1u << 31;
	ovc_hist_add(&hist, 100);
	cr_assert_leq(total(), (1ull << 31) + 2);
	assert_within(ovc_hist_quantile(&hist, 0.25), 100, 0.125);
	assert_within(ovc_hist_quantile(&hist, 0.75), 1000000, 0.125);
}

static void *add_many(void *arg)
{
	for (int i = 0; i < 100000; i++)
		ovc_hist_add(&hist, (uintptr_t)arg);
	return NULL;
}

Test(hist, additions_of_several_threads_are_all_counted)
{
	pthread_t thread[4];

	for (uintptr_t i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, add_many,
					    (void *)(i / 2 * 1000)),
			     0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(total(), 400000);
}
