/* SPDX-License-Identifier: MIT */
/*
 * Entitlements (lib/policy/entitle.c): by hand, as properties of random claims, and
 * against the paper's own way, which takes page after page from the VM whose
 * adjusted shares per page are lowest.
 */
#include <criterion/criterion.h>
#include <math.h>
#include "policy/entitle.h"
#include "policy/policy.h"

#define PAGE  4096ull
#define MIB   (1ull << 20)
#define MOST  40 /* claims at a time */
#define ROUND 5000

static struct ovc_claim claims[MOST];
static size_t nr;

static uint64_t rnd(void)
{
	static uint64_t x = 42;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 2685821657736338717ull >> 8;
}

static void want(size_t i, uint32_t shares, uint64_t bytes, uint64_t active)
{
	claims[i] = (struct ovc_claim){
		.shares = shares,
		.max = bytes,
		.want = bytes,
		.active = active,
	};
	if (nr <= i)
		nr = i + 1;
}

static uint64_t sum(void)
{
	uint64_t all = 0;

	for (size_t i = 0; i < nr; i++)
		all += claims[i].entitlement;
	return all;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t mins(void)
{
	uint64_t all = 0;

	for (size_t i = 0; i < nr; i++)
		all += least(claims[i].min, claims[i].max);
	return all;
}

#define gets(i, bytes)                                                        \
	cr_assert_lt(llabs((long long)(claims[i].entitlement - (bytes))),     \
		     2 * (long long)PAGE, "claim %d gets %llu KiB", (int)(i), \
		     (unsigned long long)claims[i].entitlement >> 10)

/* ---- by hand ------------------------------------------------------------- */

Test(entitle, nobody_gets_nothing)
{
	ovc_entitle(claims, 0, MIB, 0.75);
}

Test(entitle, where_all_fits_each_gets_what_it_wants)
{
	want(0, 1, 100 * MIB, 0);
	want(1, 1000, 200 * MIB, 200 * MIB);
	ovc_entitle(claims, nr, 300 * MIB, 0.75);
	cr_assert_eq(claims[0].entitlement, 100 * MIB);
	cr_assert_eq(claims[1].entitlement, 200 * MIB);
	cr_assert_eq(claims[0].bound, OVC_POLICY_BY_LIMIT);
}

/* Section 5.4 of the paper has two VMs of 256 MB with equal shares, one idle and one
 * busy, on a host that is overcommitted. */
Test(entitle, without_a_tax_equal_shares_get_equal_parts)
{
	want(0, 1000, 256 * MIB, 0);
	want(1, 1000, 256 * MIB, 256 * MIB);
	ovc_entitle(claims, nr, 360 * MIB, 0);
	gets(0, 180 * MIB);
	gets(1, 180 * MIB);
	cr_assert_eq(claims[0].bound, OVC_POLICY_BY_SHARES);
}

/* k is 4: a busy page costs 1, an idle one 4; 72 x 4 = 288 x 1. */
Test(entitle, with_a_tax_of_75_percent_an_idle_page_costs_four_times_as_much)
{
	want(0, 1000, 512 * MIB, 0);
	want(1, 1000, 512 * MIB, 512 * MIB);
	ovc_entitle(claims, nr, 360 * MIB, 0.75);
	gets(0, 72 * MIB);
	gets(1, 288 * MIB);
}

Test(entitle, what_the_busy_vm_cannot_have_stays_with_the_idle_one)
{
	want(0, 1000, 256 * MIB, 0);
	want(1, 1000, 256 * MIB, 256 * MIB);
	ovc_entitle(claims, nr, 360 * MIB, 0.75);
	gets(0, 104 * MIB);
	gets(1, 256 * MIB);
	cr_assert_eq(claims[1].bound, OVC_POLICY_BY_LIMIT);
}

/* Money for 200: 100 active, and idle for 100 / 4 more. */
Test(entitle, active_pages_are_paid_for_first)
{
	want(0, 1000, 400 * MIB, 100 * MIB);
	want(1, 1000, 400 * MIB, 400 * MIB);
	ovc_entitle(claims, nr, 325 * MIB, 0.75);
	gets(0, 125 * MIB);
	gets(1, 200 * MIB);
}

Test(entitle, shares_of_two_to_one_get_two_to_one)
{
	want(0, 2000, 900 * MIB, 0);
	want(1, 1000, 900 * MIB, 0);
	ovc_entitle(claims, nr, 600 * MIB, 0.75);
	gets(0, 400 * MIB);
	gets(1, 200 * MIB);
}

Test(entitle, a_minimum_is_kept_and_the_rest_divided)
{
	want(0, 1000, 400 * MIB, 0);
	want(1, 1000, 400 * MIB, 400 * MIB);
	claims[0].min = 200 * MIB;
	ovc_entitle(claims, nr, 360 * MIB, 0.75);
	cr_assert_eq(claims[0].entitlement, 200 * MIB);
	cr_assert_eq(claims[0].bound, OVC_POLICY_BY_MIN);
	gets(1, 160 * MIB);
}

Test(entitle, what_one_does_not_want_others_get)
{
	want(0, 1000, 400 * MIB, 0);
	want(1, 1000, 400 * MIB, 0);
	want(2, 1000, 400 * MIB, 0);
	claims[0].want = 60 * MIB;
	ovc_entitle(claims, nr, 360 * MIB, 0.75);
	cr_assert_eq(claims[0].entitlement, 60 * MIB);
	cr_assert_eq(claims[0].bound, OVC_POLICY_BY_WANT);
	gets(1, 150 * MIB);
	gets(2, 150 * MIB);
}

Test(entitle, minimums_that_do_not_fit_are_cut_alike)
{
	want(0, 1, 400 * MIB, 0);
	want(1, 1000, 400 * MIB, 0);
	want(2, 1000, 400 * MIB, 0);
	claims[0].min = 300 * MIB;
	claims[1].min = 100 * MIB;
	ovc_entitle(claims, nr, 200 * MIB, 0.75);
	cr_assert_eq(claims[0].entitlement, 150 * MIB);
	cr_assert_eq(claims[1].entitlement, 50 * MIB);
	cr_assert_eq(claims[2].entitlement, 0);
	cr_assert_eq(claims[0].bound, OVC_POLICY_BY_PART);
}

Test(entitle, a_limit_below_the_minimum_counts)
{
	want(0, 1000, 400 * MIB, 0);
	claims[0].min = 300 * MIB;
	claims[0].max = 100 * MIB;
	ovc_entitle(claims, nr, 1000 * MIB, 0.75);
	cr_assert_eq(claims[0].entitlement, 100 * MIB);
}

Test(entitle, rho_is_shares_a_page_and_four_times_less_for_idle_ones)
{
	cr_assert_float_eq(ovc_rho(1000, 250 * PAGE, 250 * PAGE, 0.75), 4,
			   1e-9);
	cr_assert_float_eq(ovc_rho(1000, 250 * PAGE, 0, 0.75), 1, 1e-9);
	cr_assert_float_eq(ovc_rho(1000, 250 * PAGE, 0, 0), 4, 1e-9);
	/* 1000 / (250 * (0.5 + 4 * 0.5)) */
	cr_assert_float_eq(ovc_rho(1000, 250 * PAGE, 125 * PAGE, 0.75), 1.6,
			   1e-9);
	cr_assert_float_eq(ovc_rho(1000, 0, 0, 0), 1000, 1e-9);
}

/* ---- properties ---------------------------------------------------------- */

static double random_tax(void)
{
	static const double tax[] = { 0, 0.1, 0.5, 0.75, 0.9, 0.99 };

	return tax[rnd() % 6];
}

static void random_claims(void)
{
	nr = 1 + rnd() % MOST;
	for (size_t i = 0; i < nr; i++) {
		uint64_t memory = (1 + rnd() % 4096) * MIB + rnd() % MIB;

		want(i, 1 + rnd() % (rnd() % 4 ? 2000 : 1000000), memory,
		     rnd() % (memory + 1));
		if (rnd() % 3 == 0)
			claims[i].min = rnd() % (memory + 1);
		if (rnd() % 3 == 0)
			claims[i].max = rnd() % (memory + 1);
		if (rnd() % 2 == 0)
			claims[i].want = rnd() % (memory + 1);
	}
}

static uint64_t random_capacity(void)
{
	return rnd() % (nr * 3000 * MIB + 1);
}

Test(entitle, the_sum_never_exceeds_the_capacity)
{
	for (int round = 0; round < ROUND; round++) {
		uint64_t capacity;

		random_claims();
		capacity = random_capacity();
		ovc_entitle(claims, nr, capacity, random_tax());
		cr_assert_leq(sum(), capacity);
	}
}

Test(entitle, minimums_that_fit_are_kept_and_maximums_never_exceeded)
{
	for (int round = 0; round < ROUND; round++) {
		uint64_t capacity;

		random_claims();
		capacity = random_capacity();
		ovc_entitle(claims, nr, capacity, random_tax());
		for (size_t i = 0; i < nr; i++) {
			struct ovc_claim *c = &claims[i];

			cr_assert_leq(c->entitlement, c->max);
			if (mins() <= capacity)
				cr_assert_geq(c->entitlement,
					      least(c->min, c->max));
		}
	}
}

/* Less than a page for each VM is left over while one wants more. */
Test(entitle, nothing_is_left_over_that_somebody_wants)
{
	for (int round = 0; round < ROUND; round++) {
		uint64_t capacity;
		bool wanting = false;

		random_claims();
		capacity = random_capacity();
		ovc_entitle(claims, nr, capacity, random_tax());
		if (mins() > capacity)
			continue;
		for (size_t i = 0; i < nr; i++)
			wanting |= claims[i].entitlement <
				   least(claims[i].want, claims[i].max);
		if (wanting)
			cr_assert_leq(capacity - sum(), 2 * nr * PAGE);
	}
}

Test(entitle, without_a_tax_those_that_shares_decide_on_are_proportional)
{
	for (int round = 0; round < ROUND; round++) {
		double share = 0;

		random_claims();
		ovc_entitle(claims, nr, random_capacity(), 0);
		for (size_t i = 0; i < nr; i++) {
			struct ovc_claim *c = &claims[i];
			double bytes = (double)c->entitlement;

			if (c->bound != OVC_POLICY_BY_SHARES)
				continue;
			if (share == 0)
				share = bytes / c->shares;
			/* A page more or less, of the first and of this. */
			cr_assert_float_eq(bytes, share * c->shares,
					   PAGE * (1.0 + c->shares));
		}
	}
}

Test(entitle, an_idle_vm_pays_before_an_active_one_with_equal_shares)
{
	for (int round = 0; round < ROUND; round++) {
		double tax = 0.01 + (double)(rnd() % 98) / 100;
		uint64_t memory = (64 + rnd() % 1000) * MIB;
		uint64_t busy = rnd() % memory, idle = rnd() % (busy + 1);
		uint64_t capacity;

		random_claims();
		if (nr < 3)
			continue;
		want(0, 1000, memory, idle);
		want(1, 1000, memory, busy);
		capacity = random_capacity();
		ovc_entitle(claims, nr, capacity, tax);
		cr_assert_leq(claims[0].entitlement, claims[1].entitlement);
	}
}

Test(entitle, with_more_capacity_nobody_gets_less)
{
	for (int round = 0; round < ROUND; round++) {
		uint64_t before[MOST] = { 0 }, capacity;
		double tax = random_tax();

		random_claims();
		capacity = random_capacity() / 8;
		for (int step = 0; step < 8; step++) {
			ovc_entitle(claims, nr, capacity, tax);
			for (size_t i = 0; i < nr; i++) {
				cr_assert_geq(claims[i].entitlement, before[i]);
				before[i] = claims[i].entitlement;
			}
			capacity += rnd() % 2 ? rnd() % (16 * PAGE) :
						random_capacity() / 8;
		}
	}
}

/* ---- the paper's way ----------------------------------------------------- */

/* Takes a page from the VM with the lowest ratio, until the sum fits. */
static void take_pages(uint64_t pages[], uint64_t capacity, double tax)
{
	uint64_t all = 0;

	for (size_t i = 0; i < nr; i++)
		all += pages[i] = claims[i].max / PAGE;
	while (all > capacity / PAGE) {
		double lowest = INFINITY;
		size_t who = 0;

		for (size_t i = 0; i < nr; i++) {
			double rho = ovc_rho(claims[i].shares, pages[i] * PAGE,
					     claims[i].active, tax);

			if (rho >= lowest || pages[i] * PAGE <= claims[i].min)
				continue;
			lowest = rho;
			who = i;
		}
		if (isinf(lowest))
			return;
		pages[who]--;
		all--;
	}
}

Test(entitle, it_is_where_taking_page_after_page_ends, .timeout = 60)
{
	for (int round = 0; round < 300; round++) {
		uint64_t pages[MOST], capacity, max = 0;
		double tax = random_tax();

		nr = 2 + rnd() % 6;
		for (size_t i = 0; i < nr; i++) {
			uint64_t memory = (10 + rnd() % 500) * PAGE;

			want(i, 100 + rnd() % 1000, memory, rnd() % memory);
			claims[i].min = rnd() % 3 ? 0 : rnd() % memory;
			max += memory;
		}
		capacity = mins() + rnd() % (max - mins() + 1);
		ovc_entitle(claims, nr, capacity, tax);
		take_pages(pages, capacity, tax);
		for (size_t i = 0; i < nr; i++) {
			double ours = (double)claims[i].entitlement / PAGE;

			cr_assert_float_eq(ours, (double)pages[i], nr + 1.0,
					   "%g pages, and %lu one by one", ours,
					   (unsigned long)pages[i]);
		}
	}
}
