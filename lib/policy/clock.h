/* SPDX-License-Identifier: MIT */
/*
 * Which pages to take: the decisions of the replacement algorithm. Pure.
 *
 * The library sees no accessed bits. It learns of a touch only when the page
 * is absent (a refault) or staged (a put back). Between those it remembers 14
 * bits a page, the page's *heat*, which belongs into the page word:
 *
 *	resident:  history in bits 0..1, frequency in bits 2..3
 *	absent:    history in bits 0..1, time of eviction in bits 2..13
 *
 * A zero heat is that of a resident page of which nothing is known.
 *
 *   - Frequency is how many visits of the clock hand the page survives. With
 *     frequency 0 it is on probation: first to go, oldest first (S3-FIFO's
 *     small queue), without waiting for the hand.
 *   - History is what the page's refaults said so far: each that comes soon
 *     after the eviction is a step up, each that comes late a step down. Only
 *     the warm and the hot are spared probation. It is what makes up for the
 *     missing accessed bits; docs/replacement.md has the figures.
 *
 * Time is the host's count of evicted pages, shifted right by
 * ovc_clock_shift(); it wraps at 12 bits, after 8 to 16 turnovers of the cache.
 */
#ifndef OVC_POLICY_CLOCK_H
#define OVC_POLICY_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define OVC_CLOCK_HEAT_BITS 14
#define OVC_CLOCK_HEAT_MASK ((1u << OVC_CLOCK_HEAT_BITS) - 1)
#define OVC_CLOCK_TIME_BITS 12
#define OVC_CLOCK_TIME_MASK ((1u << OVC_CLOCK_TIME_BITS) - 1)
#define OVC_CLOCK_FREQ_MAX  3u

/*
 * Shares of the resident pages, and the age that counts as soon: the best
 * compromise of those tried with ovc-sim (tests/sim), Zipf 0.99 weighing most.
 * S3-FIFO's ten percent of probation is for a cache that sees accesses; here
 * staging does most of that work.
 */
#define OVC_CLOCK_RING_PERCENT	    5u /* staged */
#define OVC_CLOCK_PROBATION_PERCENT 1u
#define OVC_CLOCK_SOON_NUM	    3u /* soon: 3/8 of a turnover */
#define OVC_CLOCK_SOON_DEN	    8u
#define OVC_CLOCK_CHUNK		    64u /* pages a visit of the hand */

/* Coldest to hottest: COLD, MILD, WARM, HOT. Nothing known counts as mild. */
enum ovc_clock_history {
	OVC_CLOCK_MILD = 0,
	OVC_CLOCK_COLD = 1,
	OVC_CLOCK_WARM = 2,
	OVC_CLOCK_HOT = 3,
};

/*
 * How far to shift the count of evicted pages to have the time, for a cache
 * (budget) of so many pages. One turnover is then pages >> shift units, 256 to
 * 511 (less for caches under 256 pages).
 */
unsigned ovc_clock_shift(uint64_t pages);

/*
 * How many pages should be staged, of a cache of so many, after so many
 * evictions: four times the share while nothing is known of the pages (two
 * turnovers), twice the share for six more.
 */
uint64_t ovc_clock_ring_target(uint64_t pages, uint64_t evictions);

/* How many pages may be on probation. */
uint64_t ovc_clock_probation_limit(uint64_t pages);

/*
 * The hand, or the probation queue, came to a resident page. True: stage it.
 * False: it keeps its place and *heat has a visit less.
 */
bool ovc_clock_examine(uint32_t *heat);

/* A resident page's heat after it was touched while staged. */
uint32_t ovc_clock_put_back(uint32_t heat);

/* A staged page's heat once it is settled, and so absent. */
uint32_t ovc_clock_evict(uint32_t heat, uint32_t now);

/*
 * An absent page's heat once a touch brought it in. `turnover` is the cache's
 * size in units of time, at least 1; `salt` any number that differs from call
 * to call (the page index plus the count of evictions does).
 */
uint32_t ovc_clock_refault(uint32_t heat, uint32_t now, uint32_t turnover,
			   uint32_t salt);

/* An absent page's heat once it was brought in without being asked for. */
uint32_t ovc_clock_read_ahead(uint32_t heat);

/* Whether a page that came in with this heat goes to the probation queue. */
bool ovc_clock_on_probation(uint32_t heat);

/* The parts of a heat, for tests and reports. */
unsigned ovc_clock_history(uint32_t heat);
unsigned ovc_clock_freq(uint32_t heat);

#endif
