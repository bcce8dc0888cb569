/* SPDX-License-Identifier: MIT */
/*
 * Sequential and strided access detection (lib/policy/stream.c).
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include "policy/stream.h"

static struct ovc_streams streams;
static int64_t stride;

static unsigned hit(uint64_t idx)
{
	return ovc_stream_hit(&streams, 1, 1, idx, &stride);
}

static uint64_t rnd(void)
{
	static uint64_t x = 42;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 2685821657736338717ull >> 16;
}

/* Three faults of a walk; the first window. */
static unsigned begin(uint64_t idx, int64_t by)
{
	cr_assert_eq(hit(idx), 0);
	cr_assert_eq(hit(idx + by), 0);
	cr_assert_eq(stride, 0);
	return hit(idx + 2 * by);
}

Test(stream, the_third_fault_of_a_sequential_walk_reads_4_ahead)
{
	cr_assert_eq(begin(1000, 1), 4);
	cr_assert_eq(stride, 1);
}

Test(stream, faults_at_window_starts_continue_and_windows_double_to_128)
{
	static const unsigned windows[] = { 8, 16, 32, 64, 128, 128, 128 };
	uint64_t idx = 1002;
	unsigned ahead = begin(1000, 1);

	for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
		idx += ahead + 1;
		ahead = hit(idx);
		cr_assert_eq(ahead, windows[i]);
		cr_assert_eq(stride, 1);
	}
}

Test(stream, a_marker_in_the_middle_of_the_window_continues)
{
	uint64_t idx = 1002;
	unsigned ahead = begin(1000, 1);

	for (int i = 0; i < 20; i++) {
		uint64_t end = idx + ahead;

		idx += ahead / 2;
		ahead = hit(idx);
		cr_assert_gt(idx + ahead, end);
	}
	cr_assert_eq(ahead, 128);
}

Test(stream, any_place_in_the_window_continues)
{
	for (uint64_t d = 1; d <= 9; d++) {
		uint64_t at = d * 100000;

		cr_assert_eq(begin(at, 1), 4);
		cr_assert_eq(hit(at + 2 + 5), 8);
		cr_assert_eq(hit(at + 7 + d), 16, "distance %d", (int)d);
	}
}

Test(stream, present_pages_between_do_not_end_a_sequential_walk)
{
	cr_assert_eq(hit(100), 0);
	cr_assert_eq(hit(102), 0);
	cr_assert_eq(hit(103), 4);
	cr_assert_eq(stride, 1);
	cr_assert_eq(hit(103 + 4 + 3), 8);
}

Test(stream, a_page_of_the_window_that_comes_late_changes_nothing)
{
	cr_assert_eq(begin(1000, 1), 4);
	cr_assert_eq(hit(1007), 8);
	cr_assert_eq(hit(1005), 0);
	cr_assert_eq(hit(1007), 0);
	cr_assert_eq(hit(1016), 16);
}

Test(stream, backwards_is_a_walk_too)
{
	cr_assert_eq(begin(1000, -1), 4);
	cr_assert_eq(stride, -1);
	cr_assert_eq(hit(998 - 5), 8);
	cr_assert_eq(stride, -1);
}

Test(stream, strides_are_found_and_their_windows_stop_at_16)
{
	static const int64_t strides[] = { 2,  -2,  3,	  5,	16,   17,
					   64, 100, -100, 1024, -1024 };
	uint64_t base = 1 << 20;

	for (size_t i = 0; i < sizeof(strides) / sizeof(*strides); i++) {
		int64_t by = strides[i];
		uint64_t idx = base + 2 * by;
		unsigned ahead = begin(base, by);

		cr_assert_eq(ahead, 4, "stride %d", (int)by);
		for (int j = 0; j < 4; j++) {
			cr_assert_eq(stride, by);
			idx += (ahead + 1) * by;
			ahead = hit(idx);
		}
		cr_assert_eq(ahead, 16, "stride %d", (int)by);
		base += 1 << 20;
	}
}

Test(stream, a_stride_beyond_1024_is_none)
{
	for (uint64_t i = 0; i < 10; i++)
		cr_assert_eq(hit(1000 + i * 1025), 0);
}

Test(stream, two_steps_that_differ_are_no_walk)
{
	cr_assert_eq(hit(1000), 0);
	cr_assert_eq(hit(1100), 0);
	cr_assert_eq(hit(1190), 0);
	cr_assert_eq(hit(1300), 0);
}

Test(stream, a_page_that_faults_again_and_again_is_no_walk)
{
	for (int i = 0; i < 10; i++)
		cr_assert_eq(hit(7), 0);
}

Test(stream, a_walk_that_jumps_begins_anew)
{
	cr_assert_eq(begin(1000, 1), 4);
	cr_assert_eq(begin(500000, 1), 4);
}

Test(stream, three_walks_of_a_thread_are_kept_apart)
{
	static const uint64_t at[] = { 1000, 1500, 90000 };
	unsigned ahead[3] = { 0 };

	for (int i = 0; i < 8; i++)
		for (int w = 0; w < 3; w++) {
			ahead[w] = hit(at[w] + i);
			if (ahead[w])
				cr_assert_eq(stride, 1);
		}
	for (int w = 0; w < 3; w++)
		cr_assert_eq(ahead[w], 128);
}

Test(stream, a_walk_survives_random_faults_between)
{
	unsigned found = 0;

	for (uint64_t i = 0; i < 30; i++) {
		found += hit(1000 + i) != 0;
		hit((rnd() % 100 + 1) << 20);
	}
	cr_assert_geq(found, 25);
}

Test(stream, threads_and_regions_are_told_apart)
{
	for (uint64_t i = 0; i < 20; i++) {
		cr_assert_eq(ovc_stream_hit(&streams, i, 1, i, &stride), 0);
		cr_assert_eq(ovc_stream_hit(&streams, 1, 100 + i, i, &stride),
			     0);
	}
}

Test(stream, many_threads_walk_at_once)
{
	unsigned found = 0;

	for (uint64_t i = 0; i < 3; i++)
		for (uint32_t tid = 1; tid <= 16; tid++)
			found += ovc_stream_hit(&streams, tid, 1,
						tid * 100000 + i, &stride) == 4;
	cr_assert_eq(found, 16);
}

/* How many pages random faults over n pages read ahead, of so many faults. */
static unsigned read_at_random(uint64_t n, unsigned faults)
{
	unsigned pages = 0;

	for (unsigned i = 0; i < faults; i++)
		pages += ovc_stream_hit(&streams, i % 8, 1, rnd() % n, &stride);
	return pages;
}

Test(stream, random_faults_over_256_mib_read_next_to_nothing_ahead)
{
	unsigned pages = read_at_random(65536, 1000000);

	cr_assert_leq(pages, 1000, "%u pages for a million faults", pages);
}

Test(stream, random_faults_over_8_mib_read_little_ahead)
{
	unsigned pages = read_at_random(2048, 1000000);

	cr_assert_leq(pages, 50000, "%u pages for a million faults", pages);
}

static void *walk(void *arg)
{
	uint32_t tid = (uintptr_t)arg;
	int64_t by;

	for (uint64_t i = 0; i < 300000; i++) {
		unsigned n = ovc_stream_hit(&streams, tid, i % 3, i * (tid % 3),
					    &by);

		if (n > OVC_STREAM_MAX || llabs(by) > OVC_STREAM_MAX_STRIDE ||
		    !n != !by)
			return arg;
	}
	return NULL;
}

Test(stream, threads_that_race_get_answers_within_bounds)
{
	pthread_t thread[4];
	void *bad = NULL;

	for (uintptr_t i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, walk,
					    (void *)(i % 2 + 1)),
			     0);
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], &bad);
		cr_assert_null(bad);
	}
}
