/* SPDX-License-Identifier: MIT */
/*
 * The slot allocator (lib/store/slots.c), alone and against a naive model.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "store/slots.h"

static struct ovc_slots slots;

static void make(uint64_t nr)
{
	void *mem = calloc(1, ovc_slots_bytes(nr) + 8);

	cr_assert_not_null(mem);
	ovc_slots_init(&slots, mem, nr);
}

static void done(void)
{
	cr_assert(ovc_slots_is_valid(&slots));
	free(slots.map);
}

static uint64_t rnd(void)
{
	static uint64_t x = 42;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 2685821657736338717ull >> 16;
}

/* Takes everything in runs of `want`; how many runs that were. */
static uint64_t take_all(uint32_t want)
{
	uint64_t first, runs = 0;

	while (ovc_slots_alloc(&slots, want, &first))
		runs++;
	return runs;
}

Test(slots, a_run_that_is_taken_by_number_is_not_given_out)
{
	uint64_t first;

	make(1000);
	ovc_slots_take(&slots, 256, 256);
	cr_assert_eq(ovc_slots_used(&slots), 256);
	cr_assert(ovc_slots_is_valid(&slots));
	for (uint64_t left = 1000 - 256, got; left; left -= got) {
		got = ovc_slots_alloc(&slots, 64, &first);
		cr_assert_gt(got, 0);
		cr_assert(first + got <= 256 || first >= 512);
	}
	cr_assert_eq(ovc_slots_alloc(&slots, 1, &first), 0);
	ovc_slots_free(&slots, 256, 256);
	cr_assert(ovc_slots_is_valid(&slots));
	cr_assert_eq(ovc_slots_alloc(&slots, 1, &first), 1);
}

Test(slots, a_run_that_is_taken_already_aborts, .signal = SIGABRT)
{
	make(1000);
	ovc_slots_take(&slots, 10, 10);
	ovc_slots_take(&slots, 19, 2);
}

Test(slots, a_new_file_is_empty_and_valid)
{
	static const uint64_t sizes[] = { 1,	 63,	     64,    65,
					  255,	 256,	     257,   16384,
					  16385, 64 * 16384, 100000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		make(sizes[i]);
		cr_assert_eq(ovc_slots_used(&slots), 0);
		done();
	}
}

Test(slots, a_file_of_no_slots_gives_none)
{
	uint64_t first;

	make(0);
	cr_assert_eq(ovc_slots_alloc(&slots, 1, &first), 0);
	done();
}

Test(slots, wanting_nothing_gives_nothing)
{
	uint64_t first;

	make(10);
	cr_assert_eq(ovc_slots_alloc(&slots, 0, &first), 0);
	cr_assert_eq(ovc_slots_used(&slots), 0);
	done();
}

Test(slots, every_slot_can_be_taken_one_by_one)
{
	static const uint64_t sizes[] = { 1, 64, 257, 16385, 70001 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		make(sizes[i]);
		cr_assert_eq(take_all(1), sizes[i]);
		cr_assert_eq(ovc_slots_used(&slots), sizes[i]);
		done();
	}
}

Test(slots, an_empty_file_gives_runs_of_full_length_in_order)
{
	uint64_t first;

	make(10000);
	for (uint64_t i = 0; i < 100; i++) {
		cr_assert_eq(ovc_slots_alloc(&slots, 100, &first), 100);
		cr_assert_eq(first, i * 100);
	}
	cr_assert_eq(ovc_slots_alloc(&slots, 100, &first), 0);
	done();
}

Test(slots, a_run_may_be_longer_than_a_piece)
{
	uint64_t first;

	make(5000);
	cr_assert_eq(ovc_slots_alloc(&slots, 3000, &first), 3000);
	cr_assert_eq(ovc_slots_alloc(&slots, 3000, &first), 2000);
	done();
}

Test(slots, the_rest_at_the_end_is_passed_over_for_a_full_run_at_the_start)
{
	uint64_t first;

	make(1000);
	cr_assert_eq(ovc_slots_alloc(&slots, 950, &first), 950);
	ovc_slots_free(&slots, 100, 200);
	cr_assert_eq(ovc_slots_alloc(&slots, 128, &first), 128);
	cr_assert_eq(first, 100);
	done();
}

Test(slots, without_a_full_run_the_longest_is_taken)
{
	uint64_t first;

	make(100000);
	take_all(256);
	for (uint64_t i = 0; i < 100000; i += 1000)
		ovc_slots_free(&slots, i, 3);
	ovc_slots_free(&slots, 77100, 40);
	cr_assert_eq(ovc_slots_alloc(&slots, 64, &first), 40);
	cr_assert_eq(first, 77100);
	done();
}

Test(slots, one_free_slot_is_found_in_a_huge_full_file)
{
	const uint64_t nr = 1 << 24, hole = nr - 12345;
	uint64_t first;

	make(nr);
	take_all(1 << 20);
	ovc_slots_free(&slots, hole, 1);
	cr_assert_eq(ovc_slots_alloc(&slots, 64, &first), 1);
	cr_assert_eq(first, hole);
	cr_assert_eq(ovc_slots_alloc(&slots, 64, &first), 0);
	done();
}

Test(slots, the_last_slot_of_the_file_is_found)
{
	uint64_t first;

	make(1025);
	take_all(1025);
	ovc_slots_free(&slots, 1024, 1);
	cr_assert_eq(ovc_slots_alloc(&slots, 2, &first), 1);
	cr_assert_eq(first, 1024);
	done();
}

/*
 * Three quarters full of single live slots, with one long run in a hundred: the
 * mean run must be several times what taking the next free slots would give.
 */
Test(slots, among_scattered_live_slots_runs_stay_long)
{
	const uint64_t nr = 1 << 20;
	uint64_t first, got, sum = 0;
	const int calls = 2000;

	make(nr);
	take_all(256);
	for (uint64_t i = 0; i < nr; i += 256) {
		if (rnd() % 100 == 0) {
			ovc_slots_free(&slots, i, 64);
			continue;
		}
		for (uint64_t j = 0; j < 256; j++)
			if (rnd() % 4 == 0)
				ovc_slots_free(&slots, i + j, 1);
	}
	for (int i = 0; i < calls; i++) {
		got = ovc_slots_alloc(&slots, 64, &first);
		cr_assert_gt(got, 0);
		sum += got;
	}
	/* Next fit would give 1.33. */
	cr_assert_geq(sum, 4 * calls, "mean run %g", (double)sum / calls);
	done();
}

Test(slots, an_emptied_file_gives_full_runs_again)
{
	uint64_t first;

	make(4096);
	take_all(1);
	for (uint64_t i = 0; i < 4096; i += 2)
		ovc_slots_free(&slots, i, 1);
	cr_assert_eq(ovc_slots_alloc(&slots, 64, &first), 1);
	ovc_slots_free(&slots, first, 1);
	for (uint64_t i = 1; i < 4096; i += 2)
		ovc_slots_free(&slots, i, 1);
	cr_assert_eq(ovc_slots_alloc(&slots, 64, &first), 64);
	done();
}

Test(slots, a_file_that_recovers_gives_longer_runs_again)
{
	const uint64_t nr = 1 << 16;
	uint64_t first, got = 0;

	make(nr);
	take_all(1);
	for (uint64_t i = 0; i < nr; i += 2)
		ovc_slots_free(&slots, i, 1);
	cr_assert_eq(ovc_slots_alloc(&slots, 64, &first), 1);
	/* All but one slot in 1,024 become free. */
	for (uint64_t i = 0; i < nr; i++)
		if (i % 1024 && (slots.map[i / 64] >> i % 64 & 1))
			ovc_slots_free(&slots, i, 1);
	for (int i = 0; i < 2000 && got < 64; i++) {
		got = ovc_slots_alloc(&slots, 64, &first);
		ovc_slots_free(&slots, first, got);
	}
	cr_assert_eq(got, 64);
	done();
}

Test(slots, a_piece_is_free_when_all_of_its_slots_are)
{
	uint64_t first, at;

	make(1000);
	cr_assert_eq(ovc_slots_alloc(&slots, 1000, &at), 1000);
	ovc_slots_free(&slots, 256, 255);
	cr_assert_not(ovc_slots_free_piece(&slots, 300, 256, &first));
	ovc_slots_free(&slots, 511, 1);
	cr_assert(ovc_slots_free_piece(&slots, 300, 256, &first));
	cr_assert_eq(first, 256);
	cr_assert_not(ovc_slots_free_piece(&slots, 255, 256, &first));
	cr_assert_not(ovc_slots_free_piece(&slots, 512, 256, &first));
	done();
}

Test(slots, a_piece_at_the_end_counts_as_far_as_it_goes)
{
	uint64_t first, at;

	make(1000);
	cr_assert_eq(ovc_slots_alloc(&slots, 1000, &at), 1000);
	ovc_slots_free(&slots, 768, 232);
	cr_assert(ovc_slots_free_piece(&slots, 999, 256, &first));
	cr_assert_eq(first, 768);
	done();
}

static void grow_from_to(uint64_t from, uint64_t to)
{
	void *mem = calloc(1, ovc_slots_bytes(to)), *old;
	uint64_t first, more = to - from;

	make(from);
	take_all(100);
	old = slots.map;
	cr_assert_eq(ovc_slots_grow(&slots, mem, to), 0);
	free(old);
	cr_assert(ovc_slots_is_valid(&slots));
	cr_assert_eq(ovc_slots_used(&slots), from);
	cr_assert_eq(ovc_slots_alloc(&slots, more, &first), more);
	cr_assert_eq(first, from);
	cr_assert_eq(ovc_slots_used(&slots), to);
	done();
}

Test(slots, a_grown_file_keeps_what_is_taken_and_gives_the_new_slots)
{
	grow_from_to(1, 2);
	grow_from_to(64, 256);
	grow_from_to(100, 100000);
	grow_from_to(256, 300);
	grow_from_to(300, 512);
	grow_from_to(16384, 16385);
	grow_from_to(16383, 1 << 21);
}

Test(slots, a_file_of_no_slots_can_grow)
{
	void *mem = calloc(1, ovc_slots_bytes(100)), *old;

	make(0);
	old = slots.map;
	cr_assert_eq(ovc_slots_grow(&slots, mem, 100), 0);
	free(old);
	cr_assert_eq(take_all(1), 100);
	done();
}

Test(slots, a_file_does_not_shrink)
{
	make(100);
	cr_assert_eq(ovc_slots_grow(&slots, NULL, 99), -EINVAL);
	cr_assert_eq(slots.nr, 100);
	done();
}

Test(slots, freeing_twice_aborts, .signal = SIGABRT)
{
	uint64_t first;

	make(100);
	ovc_slots_alloc(&slots, 10, &first);
	ovc_slots_free(&slots, first, 10);
	ovc_slots_free(&slots, first + 9, 1);
}

Test(slots, freeing_a_run_of_which_one_slot_is_free_aborts, .signal = SIGABRT)
{
	uint64_t first;

	make(100);
	ovc_slots_alloc(&slots, 100, &first);
	ovc_slots_free(&slots, 70, 1);
	ovc_slots_free(&slots, 0, 100);
}

Test(slots, freeing_beyond_the_end_aborts, .signal = SIGABRT)
{
	uint64_t first;

	make(100);
	ovc_slots_alloc(&slots, 100, &first);
	ovc_slots_free(&slots, 99, 2);
}

Test(slots, a_wrong_count_is_not_valid)
{
	uint64_t first;

	make(100);
	ovc_slots_alloc(&slots, 10, &first);
	slots.used--;
	cr_assert_not(ovc_slots_is_valid(&slots));
	slots.used++;
	slots.map[0] ^= 1 << 3;
	cr_assert_not(ovc_slots_is_valid(&slots));
	slots.map[0] ^= 1 << 3;
	done();
}

Test(slots, beginning_with_2_pow_28_slots_touches_little_memory)
{
	cr_assert_leq(ovc_slots_bytes(1ull << 28), 36ull << 20);
	make(1ull << 28);
	cr_assert_eq(ovc_slots_used(&slots), 0);
	free(slots.map);
}

/* A byte a slot. */
struct model {
	uint8_t *taken;
	uint64_t nr, used;
};

static void model_flip(struct model *m, uint64_t first, uint64_t nr, int to)
{
	for (uint64_t i = first; i < first + nr; i++) {
		cr_assert_lt(i, m->nr);
		cr_assert_neq(m->taken[i], to, "slot %lu", (unsigned long)i);
		m->taken[i] = to;
	}
	m->used += to ? nr : -nr;
}

static void model_alloc(struct model *m)
{
	uint32_t want = 1 + rnd() % (rnd() % 4 ? 64 : 600);
	uint64_t first, got = ovc_slots_alloc(&slots, want, &first);

	cr_assert_leq(got, want);
	cr_assert_eq(got == 0, m->used == m->nr);
	if (got)
		model_flip(m, first, got, 1);
}

static void model_free(struct model *m)
{
	uint64_t first = rnd() % m->nr, nr = 0;
	uint64_t max = 1 + rnd() % (rnd() % 2 ? 3 : 300);

	while (nr < max && first + nr < m->nr && m->taken[first + nr])
		nr++;
	if (!nr)
		return;
	model_flip(m, first, nr, 0);
	ovc_slots_free(&slots, first, nr);
}

static void model_piece(const struct model *m)
{
	uint64_t slot = rnd() % m->nr, size = 1ull << rnd() % 10, first;
	bool is_free = ovc_slots_free_piece(&slots, slot, size, &first);

	cr_assert_eq(first, slot / size * size);
	for (uint64_t i = first; i < first + size && i < m->nr; i++)
		if (m->taken[i]) {
			cr_assert_not(is_free);
			return;
		}
	cr_assert(is_free);
}

static void model_grow(struct model *m)
{
	uint64_t nr = m->nr + rnd() % 700;
	void *mem = calloc(1, ovc_slots_bytes(nr)), *old = slots.map;

	cr_assert_eq(ovc_slots_grow(&slots, mem, nr), 0);
	free(old);
	m->taken = realloc(m->taken, nr);
	memset(m->taken + m->nr, 0, nr - m->nr);
	m->nr = nr;
}

Test(slots, random_operations_agree_with_a_naive_model)
{
	for (int round = 0; round < 20; round++) {
		struct model m = { .nr = 1 + rnd() % 5000 };

		m.taken = calloc(1, m.nr);
		make(m.nr);
		for (int i = 0; i < 5000; i++) {
			/* Drifts between nearly full and nearly empty. */
			unsigned bias = i / 500 % 2 ? 30 : 5;
			unsigned op = rnd() % 40;

			if (op < bias)
				model_free(&m);
			else if (op < 38)
				model_alloc(&m);
			else
				model_piece(&m);
			if (rnd() % 1000 == 0)
				model_grow(&m);
			cr_assert_eq(ovc_slots_used(&slots), m.used);
			if (i % 100 == 0)
				cr_assert(ovc_slots_is_valid(&slots));
		}
		done();
		free(m.taken);
	}
}
