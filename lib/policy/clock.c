/* SPDX-License-Identifier: MIT */
/*
 * The replacement algorithm's decisions: see clock.h for the words.
 *
 * A page comes in on probation, is staged soon, and is evicted unless it is
 * touched while staged. When it refaults soon after, its history steps up; at
 * WARM it comes in with one visit of the hand to spare, at HOT with three. A
 * touch while staged is proof of heat and makes it HOT at once. Refaults that
 * come late step down again, so that the pages that stay are those whose
 * refaults are mostly early: an estimate of frequency in two bits.
 *
 * One in four refaults goes to probation whatever its history. In a loop that
 * is slightly larger than the cache every refault is early, all pages would be
 * equally hot, and each would be evicted just before its turn, as with LRU; the
 * odd one out keeps the others in. (Bimodal insertion: Qureshi et al., ISCA
 * 2007.)
 *
 * Nothing here fails. Time that wrapped makes an old page look young, at worst
 * a few percent of the pages that were gone for 8 turnovers and more.
 */
#include "policy/clock.h"

#define HISTORY_MASK 3u
#define SHIFT	     2

unsigned ovc_clock_history(uint32_t heat)
{
	return heat & HISTORY_MASK;
}

unsigned ovc_clock_freq(uint32_t heat)
{
	return heat >> SHIFT & OVC_CLOCK_FREQ_MAX;
}

static uint32_t resident(unsigned history, unsigned freq)
{
	return history | freq << SHIFT;
}

unsigned ovc_clock_shift(uint64_t pages)
{
	unsigned shift = 0;

	while (pages >> shift >= 512)
		shift++;
	return shift;
}

uint64_t ovc_clock_ring_target(uint64_t pages, uint64_t evictions)
{
	uint64_t turnovers = evictions / (pages ? pages : 1);
	unsigned percent = OVC_CLOCK_RING_PERCENT;

	if (turnovers < 2)
		percent *= 4;
	else if (turnovers < 8)
		percent *= 2;
	return pages * percent / 100 + 1;
}

uint64_t ovc_clock_probation_limit(uint64_t pages)
{
	return pages * OVC_CLOCK_PROBATION_PERCENT / 100;
}

bool ovc_clock_examine(uint32_t *heat)
{
	unsigned freq = ovc_clock_freq(*heat);

	if (!freq)
		return true;
	*heat = resident(ovc_clock_history(*heat), freq - 1);
	return false;
}

uint32_t ovc_clock_put_back(uint32_t heat)
{
	(void)heat; /* whatever was known, this is news */
	return resident(OVC_CLOCK_HOT, OVC_CLOCK_FREQ_MAX);
}

uint32_t ovc_clock_evict(uint32_t heat, uint32_t now)
{
	return ovc_clock_history(heat) | (now & OVC_CLOCK_TIME_MASK) << SHIFT;
}

static unsigned step(unsigned history, bool soon)
{
	static const uint8_t up[] = {
		[OVC_CLOCK_COLD] = OVC_CLOCK_MILD,
		[OVC_CLOCK_MILD] = OVC_CLOCK_WARM,
		[OVC_CLOCK_WARM] = OVC_CLOCK_HOT,
		[OVC_CLOCK_HOT] = OVC_CLOCK_HOT,
	};
	static const uint8_t down[] = {
		[OVC_CLOCK_COLD] = OVC_CLOCK_COLD,
		[OVC_CLOCK_MILD] = OVC_CLOCK_COLD,
		[OVC_CLOCK_WARM] = OVC_CLOCK_MILD,
		[OVC_CLOCK_HOT] = OVC_CLOCK_WARM,
	};

	return soon ? up[history] : down[history];
}

static bool is_soon(uint32_t heat, uint32_t now, uint32_t turnover)
{
	uint32_t evicted_at = heat >> SHIFT & OVC_CLOCK_TIME_MASK;
	uint32_t age = (now - evicted_at) & OVC_CLOCK_TIME_MASK;

	return (uint64_t)age * OVC_CLOCK_SOON_DEN <
	       (uint64_t)turnover * OVC_CLOCK_SOON_NUM;
}

/* True for a quarter of the salts; the top bits of a multiplicative hash. */
static bool odd_one_out(uint32_t salt)
{
	return salt * 2654435761u >> 30 == 0;
}

uint32_t ovc_clock_refault(uint32_t heat, uint32_t now, uint32_t turnover,
			   uint32_t salt)
{
	static const uint8_t visits[] = {
		[OVC_CLOCK_WARM] = 1,
		[OVC_CLOCK_HOT] = OVC_CLOCK_FREQ_MAX,
	};
	unsigned history =
		step(ovc_clock_history(heat), is_soon(heat, now, turnover));

	return resident(history, odd_one_out(salt) ? 0 : visits[history]);
}

uint32_t ovc_clock_read_ahead(uint32_t heat)
{
	return resident(ovc_clock_history(heat), 0);
}

bool ovc_clock_on_probation(uint32_t heat)
{
	return ovc_clock_freq(heat) == 0;
}
