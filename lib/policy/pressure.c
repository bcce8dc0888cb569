/* SPDX-License-Identifier: MIT */
/*
 * The host's state, after ESX's: by the share of memory that is free.
 *
 * There are two such shares, of the budget and of the machine; the worse one
 * counts. The machine may have less than the budget says, for there are other
 * programs. Its stalls (PSI) can make the state soft or hard, too, but not low; while a
 * quarter of the machine is available they are of somebody at a limit of his own (a
 * cgroup), whom nothing would help that we give back. Those of our own memory cgroup
 * count always.
 *
 * A state is entered at one figure and left at another, a little better one: the
 * state is computed for both, and the one before is kept in between.
 *
 * What VMs may hold together leaves so much free that the soft state ends: of the
 * budget, and of the machine. For the machine that is what we use and what is
 * available, together, so that it does not change by what we give back. Stalls say
 * that memory is short and not by how much: while they last the ceiling sinks by
 * 1/64 each ten seconds, over which PSI is an average; afterwards it rises as
 * slowly.
 */
#include "policy/pressure.h"

#define STALL_STEP_NS 10000000000u
#define STALL_PARTS   64

struct verdict {
	enum ovc_policy_state state;
	enum ovc_policy_cause cause;
};

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t part_of(uint64_t bytes, uint32_t share)
{
	return (uint64_t)((double)bytes * share / OVC_POLICY_ALL);
}

static bool knows_machine(const struct ovc_policy_snapshot *s)
{
	return s->mem_available != OVC_POLICY_UNKNOWN &&
	       s->mem_total != OVC_POLICY_UNKNOWN &&
	       s->mem_available <= s->mem_total && s->mem_total &&
	       s->mem_total <= UINT64_MAX / 2;
}

/* A program made for an earlier version has a shorter snapshot. */
static bool knows_cgroup(const struct ovc_policy_snapshot *s)
{
	return s->size >= sizeof(*s);
}

/* Is so little available that stalls are for want of it? */
static bool may_stall(const struct ovc_policy_snapshot *s)
{
	return !knows_machine(s) || s->mem_available <= s->mem_total / 4;
}

static enum ovc_policy_state by_share(uint64_t free, uint64_t all,
				      const struct ovc_policy_options *o,
				      uint32_t more)
{
	double share = (double)free * OVC_POLICY_ALL / (double)all;

	if (share < o->low + more)
		return OVC_POLICY_LOW;
	if (share < o->hard + more)
		return OVC_POLICY_HARD;
	if (share < o->soft + more)
		return OVC_POLICY_SOFT;
	return share < o->clear + more ? OVC_POLICY_CLEAR : OVC_POLICY_HIGH;
}

static void raise(struct verdict *v, enum ovc_policy_state state,
		  enum ovc_policy_cause cause)
{
	if (state <= v->state)
		return;
	v->state = state;
	v->cause = cause;
}

/* Whether a stall counts, which did or did not count before. */
static bool stalls(uint32_t psi, uint32_t most, bool before)
{
	if (psi == OVC_POLICY_UNKNOWN_RATE || most == UINT32_MAX)
		return false;
	return before ? 2 * (uint64_t)psi >= most : psi >= most;
}

/* The state, where `more` must be free than what it takes to enter one. */
static struct verdict judge(const struct ovc_pressure *p,
			    const struct ovc_policy_snapshot *s,
			    const struct ovc_policy_options *o, uint32_t more)
{
	struct verdict v = {
		.state = by_share(less(s->budget, s->used), s->budget, o, more),
		.cause = OVC_POLICY_BY_BUDGET,
	};

	if (knows_machine(s))
		raise(&v, by_share(s->mem_available, s->mem_total, o, more),
		      OVC_POLICY_BY_AVAILABLE);
	if (p->full)
		raise(&v, OVC_POLICY_HARD, OVC_POLICY_BY_PSI_FULL);
	if (p->some)
		raise(&v, OVC_POLICY_SOFT, OVC_POLICY_BY_PSI_SOME);
	return v;
}

/* What VMs hold, all together. */
static uint64_t held(const struct ovc_policy_snapshot *s)
{
	return less(less(s->used, s->overhead), s->shared);
}

static void move_ceiling(struct ovc_pressure *p,
			 const struct ovc_policy_snapshot *s)
{
	bool stalled = p->some || p->full;
	uint64_t step;

	if (p->ceiling && s->now - p->since < STALL_STEP_NS)
		return;
	if (!p->ceiling && !stalled)
		return;
	if (!p->ceiling)
		p->ceiling = held(s);
	step = p->ceiling / STALL_PARTS + 1;
	p->ceiling = stalled ? less(p->ceiling, step) : p->ceiling + step;
	if (p->ceiling >= s->budget)
		p->ceiling = 0;
	else if (!p->ceiling)
		p->ceiling = 1;
	p->since = s->now;
}

void ovc_pressure_update(struct ovc_pressure *p,
			 const struct ovc_policy_snapshot *s,
			 const struct ovc_policy_options *o)
{
	bool count = may_stall(s);
	struct verdict enter, leave;
	bool some, full;

	some = count && stalls(s->psi_some, o->psi_some, p->some);
	full = count && stalls(s->psi_full, o->psi_full, p->full);
	if (knows_cgroup(s)) {
		some |= stalls(s->cgroup_psi_some, o->psi_some, p->some);
		full |= stalls(s->cgroup_psi_full, o->psi_full, p->full);
	}
	p->some = some;
	p->full = full;
	enter = judge(p, s, o, 0);
	leave = judge(p, s, o, o->hysteresis);
	if (enter.state < p->state && leave.state < p->state)
		p->state = leave.state;
	else if (enter.state > p->state)
		p->state = enter.state;
	p->cause = enter.state == p->state ? enter.cause : leave.cause;
	move_ceiling(p, s);
}

uint64_t ovc_pressure_capacity(const struct ovc_pressure *p,
			       const struct ovc_policy_snapshot *s,
			       const struct ovc_policy_options *o)
{
	uint32_t keep = o->soft + o->hysteresis;
	uint64_t most = less(s->budget, part_of(s->budget, keep)), machine;

	if (knows_machine(s)) {
		machine = less(s->used + s->mem_available,
			       part_of(s->mem_total, keep));
		most = machine < most ? machine : most;
	}
	most = less(less(most, s->overhead), s->shared);
	return p->ceiling && p->ceiling < most ? p->ceiling : most;
}

uint32_t ovc_pressure_share_factor(enum ovc_policy_state state)
{
	static const uint8_t factor[] = {
		[OVC_POLICY_HIGH] = 1, [OVC_POLICY_CLEAR] = 2,
		[OVC_POLICY_SOFT] = 4, [OVC_POLICY_HARD] = 4,
		[OVC_POLICY_LOW] = 4,
	};

	return factor[state];
}
