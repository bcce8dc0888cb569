/* SPDX-License-Identifier: MIT */
/*
 * Working sets: see working_set.h.
 *
 * The gains are chosen so that both averages have forgotten nine tenths of a
 * larger working set after three periods; the fast one takes a larger figure at
 * once, since memory that is missing hurts more than memory that is idle. With
 * 100 samples the estimate of a steady working set is off by 8 points or less in
 * 19 of 20 periods.
 */
#include "policy/working_set.h"

#define SLOW_GAIN  60	  /* percent */
#define FAST_GAIN  80	  /* percent, downwards; upwards 100 */
#define GROWS_PAST 100000 /* ppm: twice the standard error of 100 samples */

void ovc_working_set_begin(struct ovc_working_set *ws, uint32_t sampled,
			   uint64_t resident, uint64_t memory)
{
	ws->sampled = sampled;
	ws->touched = 0;
	ws->refaults = 0;
	ws->memory = memory;
	ws->resident = resident < memory ? resident : memory;
}

void ovc_working_set_touched(struct ovc_working_set *ws, uint32_t nr)
{
	uint32_t left = ws->sampled - ws->touched;

	ws->touched += nr < left ? nr : left;
}

void ovc_working_set_refault(struct ovc_working_set *ws, uint64_t nr)
{
	ws->refaults += nr;
}

/* What the period has shown so far. */
static uint32_t running(const struct ovc_working_set *ws)
{
	double pages = (double)ws->refaults, ppm;

	if (!ws->memory)
		return 0;
	if (ws->sampled)
		pages += (double)ws->resident * ws->touched / ws->sampled;
	ppm = pages * OVC_WORKING_SET_ALL / (double)ws->memory + 0.5;
	return ppm < OVC_WORKING_SET_ALL ? (uint32_t)ppm : OVC_WORKING_SET_ALL;
}

static uint32_t approach(uint32_t from, uint32_t to, int percent)
{
	int64_t way = (int64_t)to - from;

	return (uint32_t)(from + way * percent / 100);
}

void ovc_working_set_end(struct ovc_working_set *ws)
{
	uint32_t shown = running(ws);

	if (ws->sampled && !ws->known)
		ws->slow = ws->fast = shown;
	else if (ws->sampled)
		ws->slow = approach(ws->slow, shown, SLOW_GAIN);
	if (shown > ws->fast)
		ws->fast = shown;
	else if (ws->sampled)
		ws->fast = approach(ws->fast, shown, FAST_GAIN);
	ws->known |= ws->sampled > 0;
	ws->sampled = ws->touched = 0;
	ws->refaults = 0;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

uint32_t ovc_working_set_estimate(const struct ovc_working_set *ws)
{
	if (!ws->known)
		return OVC_WORKING_SET_ALL;
	return larger(running(ws), larger(ws->slow, ws->fast));
}

bool ovc_working_set_grows(const struct ovc_working_set *ws)
{
	return ws->known &&
	       running(ws) > larger(ws->slow, ws->fast) + GROWS_PAST;
}
