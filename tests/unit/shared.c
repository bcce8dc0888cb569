/* SPDX-License-Identifier: MIT */
/*
 * The sharing store (lib/store/shared.c) on a real memfd, alone and against a naive
 * model: an array of pages, each with a domain, a hash, a count and its first bytes.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/shared.h"
#include "sys/fail.h"

#define PAGE ((size_t)4096)
#define MAX  2000 /* pages of the largest store here */

static struct ovc_shared *store;
static char bytes[64][4096];

static void make(uint64_t pages)
{
	cr_assert_eq(ovc_shared_create(pages, &store), 0);
}

static void done(void)
{
	ovc_shared_destroy(&store);
	cr_assert_null(store);
}

static uint64_t rnd(void)
{
	static uint64_t x = 42;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 2685821657736338717ull >> 16;
}

/* What a sweep says that it freed. */
static uint64_t freed[8];

static void note_freed(void *arg, uint32_t domain, uint64_t nr)
{
	cr_assert_eq(arg, freed);
	cr_assert(domain && domain < 8);
	freed[domain] += nr;
}

static uint64_t sweep(void)
{
	uint64_t all = 0;

	memset(freed, 0, sizeof(freed));
	ovc_shared_sweep(store, note_freed, freed);
	for (unsigned i = 0; i < 8; i++)
		all += freed[i];
	return all;
}

/* Memory that the store's file takes, pages. */
static uint64_t frames(void)
{
	struct stat st;

	cr_assert_eq(fstat(ovc_shared_fd(store), &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE;
}

static uint64_t take(uint32_t want, uint32_t domain, uint64_t nr)
{
	uint64_t first;

	cr_assert_eq(ovc_shared_take(store, want, domain, &first), nr);
	return first;
}

/* Writes a page that is all `c`. */
static void fill(uint64_t page, char c)
{
	struct iovec iov = { bytes[0], PAGE };

	memset(bytes[0], c, PAGE);
	cr_assert_eq(ovc_shared_write(store, page, &iov, 1), 0);
}

static bool reads(uint64_t page, char c)
{
	const char *view = ovc_shared_view(store, page);

	for (size_t i = 0; i < PAGE; i++)
		if (view[i] != c)
			return false;
	return true;
}

/* ---- one by one ---------------------------------------------------------- */

Test(shared, a_new_store_takes_no_memory)
{
	make((uint64_t)1 << 28);
	cr_assert_eq(frames(), 0);
	cr_assert_eq(ovc_shared_dead(store), 0);
	cr_assert_leq(ovc_shared_metadata(store), 4096);
	done();
}

Test(shared, no_page_has_the_number_0)
{
	make(100);
	for (unsigned i = 0; i < 99; i++)
		cr_assert_geq(take(1, 1, 1), 1);
	take(1, 1, 0);
	done();
}

Test(shared, runs_are_contiguous_and_from_the_low_end)
{
	make(1000);
	cr_assert_eq(take(64, 1, 64), 1);
	cr_assert_eq(take(1, 1, 1), 65);
	ovc_shared_ref(store, 65);
	cr_assert_eq(take(100, 1, 100), 66);
	for (uint64_t i = 66; i < 166; i++)
		ovc_shared_ref(store, i);
	ovc_shared_give_back(store, 1, 64);
	cr_assert_eq(sweep(), 64);
	cr_assert_eq(take(64, 1, 64), 1);
	done();
}

Test(shared, a_full_store_gives_what_it_has_and_then_nothing)
{
	make(100);
	take(64, 1, 64);
	take(64, 1, 35);
	take(64, 1, 0);
	done();
}

Test(shared, a_run_is_written_from_pieces_of_any_alignment)
{
	struct iovec iov[] = { { bytes[0] + 1, 2 * PAGE - 7 },
			       { bytes[9] + 123, PAGE },
			       { bytes[20], 7 } };
	uint64_t first;

	for (unsigned i = 0; i < 64; i++)
		memset(bytes[i], 'a' + i % 26, PAGE);
	make(100);
	first = take(3, 1, 3);
	cr_assert_eq(ovc_shared_write(store, first, iov, 3), 0);
	cr_assert_eq(memcmp(ovc_shared_view(store, first), bytes[0] + 1,
			    2 * PAGE - 7),
		     0);
	cr_assert_eq(memcmp(ovc_shared_view(store, first) + 2 * PAGE - 7,
			    bytes[9] + 123, PAGE),
		     0);
	cr_assert_eq(ovc_shared_view(store, first)[3 * PAGE - 1], bytes[20][0]);
	cr_assert_eq(frames(), 3);
	done();
}

Test(shared, a_page_is_known_by_its_domain_and_its_hash_while_it_is_referred_to)
{
	uint64_t page;

	make(100);
	page = take(1, 3, 1);
	ovc_shared_set_hash(store, page, 77);
	cr_assert_not(ovc_shared_is(store, page, 3, 77));
	ovc_shared_ref(store, page);
	cr_assert(ovc_shared_is(store, page, 3, 77));
	cr_assert_not(ovc_shared_is(store, page, 2, 77));
	cr_assert_not(ovc_shared_is(store, page, 0, 77));
	cr_assert_not(ovc_shared_is(store, page, 3, 78));
	cr_assert_not(ovc_shared_is(store, page + 1, 3, 77));
	ovc_shared_unref(store, page);
	cr_assert_not(ovc_shared_is(store, page, 3, 77));
	done();
}

/* A hint may be of a page that never was. */
Test(shared, what_was_never_taken_is_no_page)
{
	make(100);
	cr_assert_not(ovc_shared_is(store, 0, 0, 0));
	cr_assert_not(ovc_shared_is(store, 0, 1, 0));
	cr_assert_not(ovc_shared_is(store, 99, 0, 0));
	take(5, 1, 5);
	cr_assert_not(ovc_shared_is(store, 0, 0, 0));
	cr_assert_not(ovc_shared_is(store, 6, 0, 0));
	cr_assert_not(ovc_shared_is(store, ((uint64_t)1 << 39) - 1, 1, 0));
	done();
}

Test(shared, references_are_counted)
{
	uint64_t page;

	make(100);
	page = take(1, 1, 1);
	for (uint32_t i = 0; i < 1000; i++) {
		cr_assert_eq(ovc_shared_refs(store, page), i);
		ovc_shared_ref(store, page);
	}
	for (uint32_t i = 1000; i > 0; i--) {
		cr_assert_eq(ovc_shared_dead(store), 0);
		cr_assert_eq(ovc_shared_refs(store, page), i);
		ovc_shared_unref(store, page);
	}
	cr_assert_eq(ovc_shared_dead(store), 1);
	done();
}

Test(shared, a_page_without_references_lives_until_the_sweep)
{
	uint64_t page;

	make(100);
	page = take(1, 5, 1);
	fill(page, 'x');
	ovc_shared_ref(store, page);
	cr_assert_eq(sweep(), 0);
	ovc_shared_unref(store, page);
	cr_assert(reads(page, 'x'));
	cr_assert_eq(frames(), 1);
	cr_assert_eq(sweep(), 1);
	cr_assert_eq(freed[5], 1);
	cr_assert_eq(frames(), 0);
	cr_assert_eq(ovc_shared_dead(store), 0);
	cr_assert_eq(sweep(), 0);
	done();
}

/* Who finds the page by a hint may add a reference after the last one went. */
Test(shared, a_page_that_is_referred_to_again_outlives_the_sweep)
{
	uint64_t page;

	make(100);
	page = take(1, 1, 1);
	fill(page, 'x');
	ovc_shared_ref(store, page);
	ovc_shared_unref(store, page);
	ovc_shared_ref(store, page);
	cr_assert_eq(sweep(), 0);
	cr_assert(reads(page, 'x'));
	cr_assert_eq(ovc_shared_dead(store), 0,
		     "every sweep goes over all pages from now on");
	ovc_shared_unref(store, page);
	cr_assert_eq(sweep(), 1);
	cr_assert_eq(ovc_shared_dead(store), 0);
	done();
}

Test(shared, what_is_given_back_is_freed_with_the_next_sweep)
{
	uint64_t first, used;

	make(100);
	used = ovc_shared_used(store);
	first = take(10, 2, 10);
	cr_assert_eq(ovc_shared_used(store), used + 10);
	fill(first + 3, 'x');
	ovc_shared_ref(store, first + 5);
	ovc_shared_give_back(store, first, 5);
	ovc_shared_give_back(store, first + 6, 4);
	cr_assert_eq(sweep(), 9);
	cr_assert_eq(freed[2], 9);
	cr_assert_eq(ovc_shared_used(store), used + 1);
	cr_assert_eq(frames(), 0);
	cr_assert_eq(ovc_shared_refs(store, first + 5), 1);
	done();
}

Test(shared, a_freed_page_reads_as_zero_and_so_it_does_when_taken_again)
{
	uint64_t page, again;

	make(100);
	page = take(1, 1, 1);
	fill(page, 'x');
	ovc_shared_ref(store, page);
	ovc_shared_unref(store, page);
	cr_assert_eq(sweep(), 1);
	again = take(1, 2, 1);
	cr_assert_eq(again, page);
	cr_assert(reads(page, 0));
	done();
}

Test(shared, a_sweep_tells_domains_apart)
{
	uint64_t first[3];

	make(100);
	for (uint32_t d = 0; d < 3; d++)
		first[d] = take(d + 2, d + 1, d + 2);
	for (uint32_t d = 0; d < 3; d++)
		ovc_shared_give_back(store, first[d], d + 2);
	cr_assert_eq(sweep(), 9);
	for (uint32_t d = 0; d < 3; d++)
		cr_assert_eq(freed[d + 1], d + 2);
	done();
}

Test(shared, metadata_is_what_was_ever_in_use)
{
	uint64_t first, was;

	make((uint64_t)1 << 20);
	first = take(5000, 1, 5000);
	was = ovc_shared_metadata(store);
	cr_assert_geq(was, 5000 * 16);
	cr_assert_leq(was, 5000 * 32);
	ovc_shared_give_back(store, first, 5000);
	cr_assert_eq(sweep(), 5000);
	cr_assert_eq(ovc_shared_metadata(store), was);
	done();
}

struct seen {
	unsigned nr;
	uint64_t page[8], hash[8];
};

static void see(void *arg, uint64_t page, uint64_t hash)
{
	struct seen *s = arg;

	s->page[s->nr] = page;
	s->hash[s->nr++] = hash;
}

Test(shared, each_page_of_a_domain_is_shown_and_no_other)
{
	struct seen s = { 0 };
	uint64_t a, b;

	make(100);
	a = take(2, 1, 2);
	b = take(3, 2, 3);
	for (uint64_t i = 0; i < 5; i++)
		ovc_shared_set_hash(store, a + i, 100 + i);
	ovc_shared_each(store, 2, see, &s);
	cr_assert_eq(s.nr, 3);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(s.page[i], b + i);
		cr_assert_eq(s.hash[i], 102 + i);
	}
	done();
}

Test(shared, destroying_what_is_not_there_does_nothing)
{
	store = NULL;
	ovc_shared_destroy(&store);
}

/* ---- misuse -------------------------------------------------------------- */

Test(shared, dropping_a_reference_that_is_not_there_aborts, .signal = SIGABRT)
{
	make(100);
	ovc_shared_unref(store, take(1, 1, 1));
}

Test(shared, dropping_one_reference_twice_aborts, .signal = SIGABRT)
{
	uint64_t page;

	make(100);
	page = take(1, 1, 1);
	ovc_shared_ref(store, page);
	ovc_shared_unref(store, page);
	ovc_shared_unref(store, page);
}

Test(shared, giving_back_what_is_referred_to_aborts, .signal = SIGABRT)
{
	uint64_t first;

	make(100);
	first = take(3, 1, 3);
	ovc_shared_ref(store, first + 2);
	ovc_shared_give_back(store, first, 3);
}

/* ---- failures ------------------------------------------------------------ */

#ifdef OVC_FAULT_INJECTION
Test(shared, a_store_that_cannot_be_made_leaves_nothing)
{
	for (unsigned long n = 1;; n++) {
		int error;

		store = NULL;
		ovc_sys_fail_nth(n, ENOMEM);
		error = ovc_shared_create(100, &store);
		if (!ovc_sys_fail_what()) {
			cr_assert_eq(error, 0);
			cr_assert_gt(n, 1);
			break;
		}
		cr_assert_eq(error, -ENOMEM);
		cr_assert_null(store);
	}
	done();
}

Test(shared, a_page_that_cannot_be_punched_out_is_tried_again)
{
	uint64_t page;

	make(100);
	page = take(1, 1, 1);
	fill(page, 'x');
	ovc_shared_ref(store, page);
	ovc_shared_unref(store, page);
	ovc_sys_fail_nth(1, ENOMEM);
	cr_assert_eq(sweep(), 0);
	cr_assert_eq(take(1, 1, 1), page + 1);
	ovc_shared_ref(store, page + 1);
	cr_assert_eq(ovc_shared_dead(store), 1);
	cr_assert_eq(sweep(), 1);
	cr_assert_eq(frames(), 0);
	cr_assert_eq(take(1, 1, 1), page);
	done();
}

Test(shared, a_write_that_fails_says_so)
{
	struct iovec iov = { bytes[0], PAGE };

	make(100);
	ovc_sys_fail_nth(1, ENOSPC);
	cr_assert_eq(ovc_shared_write(store, take(1, 1, 1), &iov, 1), -ENOSPC);
	done();
}
#endif

/* ---- references from many threads ---------------------------------------- */

#define THREADS 3
#define ROUNDS	20000

static uint64_t common[8];

static void *drop(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < 8 * ROUNDS; i++)
		ovc_shared_unref(store, common[(i + seed) % 8]);
	return NULL;
}

/* Others drop while we sweep: a page goes when the last reference has gone, once. */
Test(shared, references_are_dropped_without_a_lock, .timeout = 60)
{
	pthread_t thread[THREADS];
	uint64_t gone = 0, first;

	make(100);
	first = take(8, 1, 8);
	for (unsigned i = 0; i < 8; i++) {
		common[i] = first + i;
		for (unsigned n = 0; n < THREADS * ROUNDS; n++)
			ovc_shared_ref(store, common[i]);
	}
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, drop, (void *)i);
	while (gone < 8)
		gone += sweep();
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	gone += sweep();
	cr_assert_eq(gone, 8);
	cr_assert_eq(ovc_shared_dead(store), 0);
	done();
}

/* ---- against a naive model ----------------------------------------------- */

struct naive {
	uint32_t domain, refs; /* domain 0: free */
	uint64_t hash;
	char first; /* its first byte */
};

static struct naive naive[MAX];
static uint64_t nr_naive;

static uint64_t naive_count(bool (*fits)(const struct naive *n))
{
	uint64_t n = 0;

	for (uint64_t i = 1; i < nr_naive; i++)
		n += fits(&naive[i]);
	return n;
}

static bool is_taken(const struct naive *n)
{
	return n->domain;
}

static bool is_dead(const struct naive *n)
{
	return n->domain && !n->refs;
}

static void naive_take(void)
{
	uint32_t want = 1 + rnd() % (rnd() % 4 ? 8 : 100), domain;
	uint64_t first, got, i;

	domain = 1 + rnd() % 4;
	got = ovc_shared_take(store, want, domain, &first);
	cr_assert_leq(got, want);
	cr_assert_eq(!got, naive_count(is_taken) == nr_naive - 1);
	for (i = 0; i < got; i++) {
		struct naive *n = &naive[first + i];

		cr_assert(first + i >= 1 && first + i < nr_naive);
		cr_assert_not(n->domain);
		cr_assert(reads(first + i, 0), "page %lu is not empty",
			  (unsigned long)(first + i));
		*n = (struct naive){ .domain = domain, .hash = rnd() % 4 };
		n->first = (char)(1 + rnd() % 100);
		ovc_shared_set_hash(store, first + i, n->hash);
		fill(first + i, n->first);
	}
	/* All get a reference, or a part is given back, with control held. */
	for (i = 0; i < got && rnd() % 8; i++) {
		ovc_shared_ref(store, first + i);
		naive[first + i].refs++;
	}
	if (i < got)
		ovc_shared_give_back(store, first + i, got - i);
}

static void naive_ref(uint64_t i)
{
	if (!naive[i].domain || !naive[i].refs || naive[i].refs > 3)
		return;
	ovc_shared_ref(store, i);
	naive[i].refs++;
}

static void naive_unref(uint64_t i)
{
	for (; i < nr_naive && naive[i].refs; i++) {
		ovc_shared_unref(store, i);
		naive[i].refs--;
		if (rnd() % 8 == 0)
			return;
	}
}

static void naive_sweep(void)
{
	uint64_t want[8] = { 0 };

	for (uint64_t i = 1; i < nr_naive; i++)
		if (is_dead(&naive[i])) {
			want[naive[i].domain]++;
			memset(&naive[i], 0, sizeof(naive[i]));
		}
	sweep();
	cr_assert_eq(memcmp(want, freed, sizeof(want)), 0);
	cr_assert_eq(frames(), naive_count(is_taken));
}

static void naive_check(uint64_t base)
{
	cr_assert_eq(ovc_shared_used(store), base + naive_count(is_taken));
	cr_assert_eq(ovc_shared_dead(store), naive_count(is_dead));
	for (int k = 0; k < 8; k++) {
		uint64_t i = 1 + rnd() % (nr_naive - 1), hash = rnd() % 4;
		uint32_t domain = 1 + rnd() % 4;
		const struct naive *n = &naive[i];

		cr_assert_eq(ovc_shared_is(store, i, domain, hash),
			     n->refs && n->domain == domain && n->hash == hash);
		cr_assert_eq(ovc_shared_refs(store, i), n->refs);
		if (n->domain)
			cr_assert(reads(i, n->first));
	}
}

Test(shared, random_operations_agree_with_a_naive_model, .timeout = 120)
{
	for (int round = 0; round < 12; round++) {
		uint64_t base;

		nr_naive = 2 + rnd() % (round % 2 ? 40 : MAX - 2);
		memset(naive, 0, sizeof(naive));
		make(nr_naive);
		base = ovc_shared_used(store);
		for (int i = 0; i < 1500; i++) {
			/* Drifts between nearly full and nearly empty. */
			unsigned bias = i / 300 % 2 ? 60 : 10;
			unsigned op = rnd() % 100;
			uint64_t page = 1 + rnd() % (nr_naive - 1);

			if (op < bias)
				naive_unref(page);
			else if (op < 70)
				naive_ref(page);
			else if (op < 95)
				naive_take();
			else
				naive_sweep();
			naive_check(base);
		}
		done();
	}
}
