/* SPDX-License-Identifier: MIT */
/*
 * The cache of hints (lib/policy/hints.c), alone and against naive models: one of a
 * single bucket, of which all rules can be told apart, and one of many, of which it
 * counts what is lost and what is found that never was there.
 */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "policy/hints.h"

#define WAYS  OVC_HINT_WAYS
#define STORE OVC_HINT_STORE

static struct ovc_hints hints;
static uint64_t where[WAYS];

static void make(uint64_t pages)
{
	size_t bytes = (ovc_hints_bytes(pages) + 63) / 64 * 64;
	void *mem = aligned_alloc(64, bytes);

	cr_assert_not_null(mem);
	memset(mem, 0, bytes);
	ovc_hints_init(&hints, mem, pages);
}

static void done(void)
{
	free(hints.entry);
}

static uint64_t rnd(void)
{
	static uint64_t x = 42;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 2685821657736338717ull;
}

static unsigned find(uint64_t hash)
{
	return ovc_hints_find(&hints, hash, where);
}

/* How often `at` is among what is found. */
static unsigned times(uint64_t hash, uint64_t at)
{
	unsigned nr = find(hash), n = 0;

	for (unsigned i = 0; i < nr; i++)
		n += where[i] == at;
	return n;
}

/* ---- one by one ---------------------------------------------------------- */

Test(hints, a_new_cache_knows_nothing)
{
	make(1000);
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(find(rnd()), 0);
	done();
}

Test(hints, an_entry_of_zeros_never_matches)
{
	static const uint64_t hashes[] = { 0, 1ull << 24, 1ull << 32,
					   1ull << 63, ~0ull << 24 };

	make(1000);
	for (unsigned i = 0; i < sizeof(hashes) / sizeof(*hashes); i++)
		cr_assert_eq(find(hashes[i]), 0);
	done();
}

Test(hints, a_hash_of_zero_can_be_noted)
{
	make(1000);
	ovc_hints_note(&hints, 0, 1);
	cr_assert_eq(find(0), 1);
	cr_assert_eq(where[0], 1);
	done();
}

#define BUCKET (WAYS * sizeof(uint64_t))

Test(hints, a_cache_takes_12_bytes_a_page_and_whole_buckets)
{
	cr_assert_eq(ovc_hints_bytes(0), BUCKET);
	cr_assert_eq(ovc_hints_bytes(1), BUCKET);
	for (uint64_t pages = 2; pages < 10000; pages++) {
		cr_assert_eq(ovc_hints_bytes(pages) % BUCKET, 0);
		cr_assert_geq(ovc_hints_bytes(pages), pages * 12 - 11);
		cr_assert_lt(ovc_hints_bytes(pages), pages * 12 + BUCKET);
	}
	cr_assert_eq(ovc_hints_bytes(1ull << 28), 12ull << 28);
}

Test(hints, a_cache_for_no_page_and_for_one_hold_a_bucket)
{
	for (uint64_t pages = 0; pages < 2; pages++) {
		make(pages);
		cr_assert_eq(hints.buckets, 1);
		for (uint64_t i = 1; i <= WAYS; i++)
			ovc_hints_note(&hints, i << 40 | i, i);
		for (uint64_t i = 1; i <= WAYS; i++)
			cr_assert_eq(times(i << 40 | i, i), 1);
		done();
	}
}

Test(hints, the_first_and_the_last_bucket_are_those_of_the_smallest_and_largest)
{
	make(12345);
	ovc_hints_note(&hints, 5, 6);
	ovc_hints_note(&hints, ~0ull, 7);
	cr_assert_neq(hints.entry[0], 0);
	cr_assert_neq(hints.entry[(hints.buckets - 1) * WAYS], 0);
	done();
}

Test(hints, what_is_noted_is_found_with_all_bits_of_where)
{
	make(1000);
	ovc_hints_note(&hints, 0x123456789abcdef, STORE - 1);
	ovc_hints_note(&hints, 0x23456789abcdef0, STORE | (STORE - 1));
	cr_assert_eq(find(0x123456789abcdef), 1);
	cr_assert_eq(where[0], STORE - 1);
	cr_assert_eq(find(0x23456789abcdef0), 1);
	cr_assert_eq(where[0], STORE | (STORE - 1));
	done();
}

Test(hints, noting_again_makes_no_second_entry)
{
	make(1);
	for (int i = 0; i < 100; i++) {
		ovc_hints_note(&hints, 77, 5);
		ovc_hints_note(&hints, 77, STORE | 5);
	}
	cr_assert_eq(find(77), 2);
	done();
}

Test(hints, places_in_the_store_come_first)
{
	make(1);
	ovc_hints_note(&hints, 77, 1);
	ovc_hints_note(&hints, 77, STORE | 9);
	ovc_hints_note(&hints, 77, 2);
	ovc_hints_note(&hints, 77, STORE | 3);
	cr_assert_eq(find(77), 4);
	cr_assert(where[0] & where[1] & STORE);
	cr_assert_not((where[2] | where[3]) & STORE);
	done();
}

Test(hints, tags_are_24_bits_of_the_hash)
{
	make(1); /* all hashes have the same bucket */
	ovc_hints_note(&hints, 0xabcdef, 5);
	for (unsigned bit = 0; bit < 64; bit++)
		cr_assert_eq(find(0xabcdef ^ 1ull << bit), bit >= 24);
	done();
}

/* ---- moving -------------------------------------------------------------- */

Test(hints, what_moved_is_where_it_moved_to)
{
	make(1);
	ovc_hints_note(&hints, 77, 5);
	ovc_hints_note(&hints, 77, 6);
	ovc_hints_move(&hints, 77, 5, STORE | 8);
	cr_assert_eq(find(77), 2);
	cr_assert_eq(where[0], STORE | 8);
	cr_assert_eq(where[1], 6);
	done();
}

Test(hints, moving_what_is_not_known_notes_where_it_is)
{
	make(1);
	ovc_hints_move(&hints, 77, 5, STORE | 8);
	cr_assert_eq(find(77), 1);
	cr_assert_eq(where[0], STORE | 8);
	done();
}

Test(hints, moving_leaves_other_hashes_alone)
{
	make(1);
	ovc_hints_note(&hints, 77, 5);
	ovc_hints_note(&hints, 78, 5);
	ovc_hints_move(&hints, 77, 5, 6);
	cr_assert_eq(times(78, 5), 1);
	cr_assert_eq(times(77, 6), 1);
	done();
}

/* Many equal pages become one: each moves to the same place. */
Test(hints, moving_to_a_place_that_is_known_makes_no_second_entry)
{
	make(1);
	ovc_hints_note(&hints, 77, STORE | 8);
	for (uint64_t i = 1; i < 20; i++)
		ovc_hints_move(&hints, 77, i, STORE | 8);
	cr_assert_eq(find(77), 1, "%u entries", find(77));
	ovc_hints_note(&hints, 77, 5);
	ovc_hints_move(&hints, 77, 5, STORE | 8);
	cr_assert_eq(times(77, STORE | 8), 1);
	cr_assert_eq(times(77, 5), 0);
	done();
}

/* ---- a full bucket ------------------------------------------------------- */

Test(hints, a_full_bucket_forgets_a_page_of_a_guest_for_another)
{
	unsigned known = 0;

	make(1);
	for (uint64_t i = 1; i <= WAYS; i++)
		ovc_hints_note(&hints, i, i);
	ovc_hints_note(&hints, 1000, 1000);
	cr_assert_eq(times(1000, 1000), 1);
	for (uint64_t i = 1; i <= WAYS; i++)
		known += times(i, i);
	cr_assert_eq(known, WAYS - 1);
	done();
}

Test(hints, a_guest_s_page_displaces_none_of_the_store)
{
	make(1);
	for (uint64_t i = 1; i <= WAYS; i++)
		ovc_hints_note(&hints, i, STORE | i);
	for (uint64_t i = 100; i < 200; i++) {
		ovc_hints_note(&hints, i, i);
		cr_assert_eq(find(i), 0);
	}
	for (uint64_t i = 1; i <= WAYS; i++)
		cr_assert_eq(times(i, STORE | i), 1);
	done();
}

Test(hints, a_page_of_the_store_displaces_guests_first)
{
	make(1);
	for (uint64_t i = 1; i <= WAYS; i++)
		ovc_hints_note(&hints, i, i % 2 ? i : STORE | i);
	for (uint64_t i = 100; i < 100 + WAYS / 2; i++)
		ovc_hints_note(&hints, i, STORE | i);
	for (uint64_t i = 1; i <= WAYS; i++)
		cr_assert_eq(find(i), !(i % 2));
	ovc_hints_note(&hints, 500, STORE | 500);
	cr_assert_eq(times(500, STORE | 500), 1);
	done();
}

Test(hints, no_place_of_a_full_bucket_is_safe)
{
	bool gone[WAYS + 1] = { false };

	make(1);
	for (uint64_t tag = 0; tag < WAYS; tag++) {
		memset(hints.entry, 0, ovc_hints_bytes(1));
		for (uint64_t i = 1; i <= WAYS; i++)
			ovc_hints_note(&hints, i << 8, i);
		ovc_hints_note(&hints, tag + 0x1000, 99);
		for (uint64_t i = 1; i <= WAYS; i++)
			gone[i] |= !times(i << 8, i);
	}
	for (unsigned i = 1; i <= WAYS; i++)
		cr_assert(gone[i], "entry %u stays whatever comes", i);
	done();
}

/* ---- a single bucket against a naive one --------------------------------- */

struct pair {
	uint64_t hash, where;
};

static struct pair naive[WAYS];
static unsigned nr_naive;

static bool is_known(struct pair p)
{
	return times(p.hash, p.where);
}

static int naive_at(uint64_t hash, uint64_t at)
{
	for (unsigned i = 0; i < nr_naive; i++)
		if (naive[i].hash == hash && naive[i].where == at)
			return (int)i;
	return -1;
}

static unsigned naive_of_store(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < nr_naive; i++)
		n += !!(naive[i].where & STORE);
	return n;
}

/* Which entry made room is for the cache to choose, among those that may. */
static void naive_displace(struct pair p)
{
	bool store = p.where & STORE;
	unsigned of_store = naive_of_store();
	int victim = -1;

	if (!store && of_store == WAYS) {
		cr_assert_not(is_known(p));
		return;
	}
	for (unsigned i = 0; i < nr_naive; i++) {
		if (is_known(naive[i]))
			continue;
		cr_assert_eq(victim, -1, "two entries went for one");
		victim = (int)i;
	}
	cr_assert_neq(victim, -1);
	if (of_store < WAYS)
		cr_assert_not(naive[victim].where & STORE);
	naive[victim] = p;
}

static void naive_note(struct pair p)
{
	if (naive_at(p.hash, p.where) >= 0)
		return;
	if (nr_naive < WAYS)
		naive[nr_naive++] = p;
	else
		naive_displace(p);
}

static void naive_move(struct pair p, uint64_t to)
{
	int from = naive_at(p.hash, p.where), at = naive_at(p.hash, to);

	if (from < 0)
		naive_note((struct pair){ p.hash, to });
	else if (at >= 0)
		naive[from] = naive[--nr_naive];
	else
		naive[from].where = to;
}

static void check_naive(uint64_t hashes)
{
	unsigned sum = 0;

	for (uint64_t hash = 0; hash < hashes; hash++) {
		unsigned nr = find(hash);

		for (unsigned i = 0; i < nr; i++)
			cr_assert_geq(naive_at(hash, where[i]), 0);
		for (unsigned i = 1; i < nr; i++)
			cr_assert_not(where[i] & STORE &&
				      !(where[i - 1] & STORE));
		sum += nr;
	}
	cr_assert_eq(sum, nr_naive);
}

Test(hints, a_bucket_agrees_with_a_naive_one, .timeout = 60)
{
	for (int round = 0; round < 2000; round++) {
		uint64_t hashes = 1 + rnd() % 12, places = 1 + rnd() % 6;
		unsigned bias = rnd() % 5;

		make(1);
		nr_naive = 0;
		for (int i = 0; i < 100; i++) {
			struct pair p = { rnd() % hashes, 1 + rnd() % places };
			uint64_t to = 1 + rnd() % places;

			p.where |= rnd() % 5 < bias ? STORE : 0;
			to |= rnd() % 5 < bias ? STORE : 0;
			if (rnd() % 3) {
				ovc_hints_note(&hints, p.hash, p.where);
				naive_note(p);
			} else if (to != p.where) {
				ovc_hints_move(&hints, p.hash, p.where, to);
				naive_move(p, to);
			}
			check_naive(hashes);
		}
		done();
	}
}

/* ---- many buckets -------------------------------------------------------- */

/* A hash of a number, and no two alike in the 24 bits and the bucket but by chance. */
static uint64_t hash_of(uint64_t i)
{
	i = (i + 1) * 0x9e3779b97f4a7c15;
	i = (i ^ i >> 32) * 0xd6e8feb86659fd93;
	return i ^ i >> 32;
}

/* Each page that the cache was made for is noted: two thirds of it are used. */
static void check_recall(uint64_t pages)
{
	uint64_t found = 0;

	make(pages);
	for (uint64_t i = 0; i < pages; i++)
		ovc_hints_note(&hints, hash_of(i), i + 1);
	for (uint64_t i = 0; i < pages; i++)
		found += times(hash_of(i), i + 1);
	cr_assert_geq(found * 100, pages * 95, "%lu of %lu are found",
		      (unsigned long)found, (unsigned long)pages);
	done();
}

Test(hints, of_a_cache_for_all_pages_19_in_20_are_found)
{
	check_recall(1000);
	check_recall(65536);
	check_recall(1000003);
}

Test(hints, pages_of_the_store_are_all_found_among_many_of_guests)
{
	const uint64_t pages = 100000;
	uint64_t found = 0;

	make(pages);
	for (uint64_t i = 0; i < pages; i++)
		ovc_hints_note(&hints, hash_of(i),
			       i % 4 ? i + 1 : STORE | (i + 1));
	for (uint64_t i = 0; i < pages; i += 4)
		found += times(hash_of(i), STORE | (i + 1));
	/* A bucket with more than eight of the store is one in 100,000. */
	cr_assert_geq(found, pages / 4 - 10);
	done();
}

/* A bucket has 5 1/3 entries, each of which is taken for another one time in 2^24:
 * 0.3 in a million looks. */
Test(hints, what_was_never_noted_is_found_as_rarely_as_24_bits_allow)
{
	const uint64_t pages = 1000000;
	uint64_t wrong = 0;

	make(pages);
	for (uint64_t i = 0; i < pages; i++)
		ovc_hints_note(&hints, hash_of(i), i + 1);
	for (uint64_t i = pages; i < 5 * pages; i++)
		wrong += find(hash_of(i));
	cr_assert_leq(wrong, 10);
	done();
}

/* What is found for a hash is a place where that hash was noted; another one's only
 * as rarely as the tags allow. */
Test(hints, after_many_changes_what_is_found_was_there_once)
{
	const uint64_t pages = 20000;
	uint64_t *at = calloc(pages, sizeof(*at)), wrong = 0, found = 0;

	make(pages);
	for (uint64_t k = 0; k < 10 * pages; k++) {
		uint64_t i = rnd() % pages;
		uint64_t to = (rnd() % 2 ? STORE : 0) |
			      (i * 16 + rnd() % 16 + 1);

		if (!at[i])
			ovc_hints_note(&hints, hash_of(i), to);
		else if (to != at[i])
			ovc_hints_move(&hints, hash_of(i), at[i], to);
		at[i] = to;
	}
	for (uint64_t i = 0; i < pages; i++) {
		unsigned nr = find(hash_of(i));

		for (unsigned n = 0; n < nr; n++)
			wrong += ((where[n] & ~STORE) - 1) / 16 != i;
		found += at[i] && times(hash_of(i), at[i]);
	}
	cr_assert_leq(wrong, 2);
	cr_assert_geq(found * 100, pages * 90);
	free(at);
	done();
}
