/* SPDX-License-Identifier: MIT */
/*
 * A share of the CPU that the process gets.
 *
 * A process that is idle gets little CPU since it wants little; one that is throttled by
 * its cgroup, or beside others on a busy machine, since it does not get more. Only the
 * second is a reason to work less. They are told apart by the worker itself: where he
 * waited for a CPU no tenth of the time that he ran, there is enough for all.
 *
 * Otherwise the process gets what it used, or, where it wanted little, what the worker got
 * of the time that he wanted: the larger of the two, at most one CPU. Work then takes its
 * share of that. It is never less than a fiftieth of a CPU, so that a sleep ends.
 */
#include "policy/pace.h"

#define LEAST 0.02

static double part(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : 0;
}

/* CPUs that the process gets, at most one. */
static double capacity(const struct ovc_pace *p)
{
	double used = part(p->process, p->wall);
	double got = part(p->ran, p->ran + p->waited);
	double most = used > got ? used : got;

	if (p->waited <= p->ran / 10)
		return 1;
	if (most < LEAST)
		return LEAST;
	return most < 1 ? most : 1;
}

uint64_t ovc_pace_sleep(const struct ovc_pace *p, uint64_t work,
			unsigned percent)
{
	double period = (double)work * 100 / percent / capacity(p);

	return period > (double)work ? (uint64_t)period - work : 0;
}
