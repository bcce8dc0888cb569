/* SPDX-License-Identifier: MIT */
/*
 * Entitlements: see entitle.h for the formula.
 *
 * What a VM gets for its money never falls as the money rises, nor does the sum,
 * so that the money a share is found by halving an interval. 64 halvings are as
 * fine as a double. The lower end is kept, at which the sum fits; sums are of
 * whole bytes, so that no rounding can make them exceed the capacity.
 *
 * The interval depends on the claims alone and not on the capacity: with more
 * capacity the same steps end higher or equal, hence no VM ever gets less because
 * there is more.
 */
#include <stdbool.h>
#include "policy/entitle.h"
#include "policy/policy.h"

#define PAGE	 4096u
#define HALVINGS 64

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t floor_of(const struct ovc_claim *c)
{
	return least(c->min, c->max);
}

static uint64_t ceiling_of(const struct ovc_claim *c)
{
	uint64_t want = least(c->want, c->max);

	return want > floor_of(c) ? want : floor_of(c);
}

/* What so many bytes cost, an active one being 1. */
static double cost_of(uint64_t bytes, uint64_t active, double tax)
{
	uint64_t busy = least(bytes, active);

	return (double)busy + (double)(bytes - busy) / (1 - tax);
}

double ovc_rho(uint32_t shares, uint64_t bytes, uint64_t active, double tax)
{
	if (bytes < PAGE)
		bytes = PAGE;
	return shares * (double)PAGE / cost_of(bytes, active, tax);
}

/* What a claim gets where a share is worth so much. */
static uint64_t buys(const struct ovc_claim *c, double worth, double tax)
{
	double money = worth * c->shares, bytes = money;
	double active = (double)c->active;
	uint64_t pages;

	if (money > active)
		bytes = active + (money - active) * (1 - tax);
	if (bytes >= (double)ceiling_of(c))
		return ceiling_of(c);
	pages = (uint64_t)bytes / PAGE * PAGE;
	return pages > floor_of(c) ? pages : floor_of(c);
}

static uint64_t sum_at(const struct ovc_claim *claims, size_t nr, double worth,
		       double tax)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < nr; i++)
		sum += buys(&claims[i], worth, tax);
	return sum;
}

/* The most that a share can be worth to somebody. */
static double most_worth(const struct ovc_claim *claims, size_t nr, double tax)
{
	double most = 0;

	for (size_t i = 0; i < nr; i++) {
		const struct ovc_claim *c = &claims[i];
		double worth =
			cost_of(ceiling_of(c), c->active, tax) / c->shares;

		if (worth > most)
			most = worth;
	}
	return most * 2;
}

static double find_worth(const struct ovc_claim *claims, size_t nr,
			 uint64_t capacity, double tax)
{
	double low = 0, high = most_worth(claims, nr, tax);

	if (sum_at(claims, nr, high, tax) <= capacity)
		return high;
	for (int i = 0; i < HALVINGS; i++) {
		double middle = low + (high - low) / 2;

		if (sum_at(claims, nr, middle, tax) <= capacity)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static uint32_t bound_of(const struct ovc_claim *c)
{
	if (c->entitlement >= c->max)
		return OVC_POLICY_BY_LIMIT;
	if (c->entitlement <= c->min)
		return OVC_POLICY_BY_MIN;
	return c->entitlement >= c->want ? OVC_POLICY_BY_WANT :
					   OVC_POLICY_BY_SHARES;
}

static void give_parts(struct ovc_claim *claims, size_t nr, uint64_t capacity,
		       uint64_t sum)
{
	for (size_t i = 0; i < nr; i++) {
		unsigned __int128 part = floor_of(&claims[i]);

		claims[i].entitlement = (uint64_t)(part * capacity / sum);
		claims[i].bound = OVC_POLICY_BY_PART;
	}
}

void ovc_entitle(struct ovc_claim *claims, size_t nr, uint64_t capacity,
		 double tax)
{
	uint64_t floors = 0;
	double worth;

	for (size_t i = 0; i < nr; i++)
		floors += floor_of(&claims[i]);
	if (floors > capacity) {
		give_parts(claims, nr, capacity, floors);
		return;
	}
	worth = find_worth(claims, nr, capacity, tax);
	for (size_t i = 0; i < nr; i++) {
		claims[i].entitlement = buys(&claims[i], worth, tax);
		claims[i].bound = bound_of(&claims[i]);
	}
}
