/* SPDX-License-Identifier: MIT */
/*
 * The latency histogram.
 *
 * A counter that reaches 2^31 has all counters halved, by the one thread that
 * saw it there: proportions stay, the past weighs less. The 2^31 additions that
 * other threads would have to make meanwhile are out of reach. All accesses are
 * relaxed: counters say nothing about other memory, and a quantile of numbers
 * that are moving is an estimate anyway. Nothing fails.
 */
#include <stdbool.h>
#include "core/stat.h"

#define SUB_BITS  3
#define SUB	  (1u << SUB_BITS)
#define HALVE_AT  (1u << 31)
#define MAX_VALUE ((1ull << (OVC_HIST_BUCKETS / SUB + SUB_BITS - 1)) - 1)

/* 0..7 are their own buckets; then 8 to each power of two. */
static unsigned bucket(uint64_t ns)
{
	unsigned exponent;

	if (ns < SUB)
		return ns;
	if (ns > MAX_VALUE)
		ns = MAX_VALUE;
	exponent = 63 - __builtin_clzll(ns) - SUB_BITS;
	return (exponent << SUB_BITS) + (ns >> exponent);
}

static uint64_t middle(unsigned b)
{
	unsigned exponent;

	if (b < SUB)
		return b;
	exponent = (b >> SUB_BITS) - 1;
	return ((uint64_t)(SUB + b % SUB) << exponent) + (1ull << exponent) / 2;
}

static uint32_t count_of(const struct ovc_hist *h, unsigned b)
{
	return atomic_load_explicit(&h->count[b], memory_order_relaxed);
}

static void halve(struct ovc_hist *h)
{
	for (unsigned b = 0; b < OVC_HIST_BUCKETS; b++)
		atomic_fetch_sub_explicit(&h->count[b], count_of(h, b) / 2,
					  memory_order_relaxed);
}

void ovc_hist_add(struct ovc_hist *h, uint64_t ns)
{
	uint32_t before = atomic_fetch_add_explicit(&h->count[bucket(ns)], 1,
						    memory_order_relaxed);

	if (before == HALVE_AT)
		halve(h);
}

uint64_t ovc_hist_quantile(const struct ovc_hist *h, double q)
{
	uint64_t total = 0, upto = 0;
	unsigned last = 0;
	double rank;

	for (unsigned b = 0; b < OVC_HIST_BUCKETS; b++)
		total += count_of(h, b);
	rank = q * (double)total;
	for (unsigned b = 0; b < OVC_HIST_BUCKETS; b++) {
		uint32_t n = count_of(h, b);

		if (!n)
			continue;
		upto += n;
		last = b;
		if ((double)upto >= rank)
			break;
	}
	return middle(last);
}
