/* SPDX-License-Identifier: MIT */
/*
 * Balloon and swap of one VM: see balloon.h.
 *
 * The decision looks at the VM once (struct look), lets the wait for a
 * step go on or end, sets the target, and swaps what the balloon is not trusted
 * with. All figures are levels and not amounts ("hold so much"), so that a decision
 * that was only half done is made again and never counted twice.
 */
#include "policy/balloon.h"

#define PAGE 4096u

/* The VM as this decision sees it; bytes. */
struct look {
	const struct ovc_policy_vm *vm;
	uint64_t over;	  /* that it holds beyond its entitlement */
	uint64_t under;	  /* that it could hold more */
	uint64_t balloon; /* what the balloon holds */
	uint64_t target;  /* that was asked last */
	uint64_t band, step;
	uint64_t most;	  /* that the balloon may hold */
	uint64_t room;	  /* that it may still take */
	bool guest_needs; /* it is the guest that keeps it from more */
};

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t part_of(uint64_t bytes, uint32_t share)
{
	return (uint64_t)((double)bytes * share / OVC_POLICY_ALL);
}

static bool exceeds(uint64_t figure, uint64_t total)
{
	return figure != OVC_POLICY_UNKNOWN && total != OVC_POLICY_UNKNOWN &&
	       figure > total;
}

uint32_t ovc_policy_balloon_check(const struct ovc_policy_vm *vm)
{
	uint32_t bad = 0;

	if (exceeds(vm->guest_free, vm->guest_total) ||
	    exceeds(vm->guest_available, vm->guest_total) ||
	    exceeds(vm->guest_available, vm->memory) ||
	    exceeds(vm->guest_total, vm->memory))
		bad |= OVC_POLICY_BAD_GUEST;
	if (vm->ballooned > vm->memory ||
	    exceeds(vm->balloon_reached, vm->memory))
		bad |= OVC_POLICY_BAD_BALLOON;
	return bad;
}

/* ---- What there is to see ------------------------------------------------ */

/* Bounds the balloon by what the guest has available. */
static void heed_guest(struct look *l, const struct ovc_policy_options *o)
{
	uint64_t available = l->vm->guest_available, all = l->vm->guest_total;
	uint64_t floor, most;

	if (available == OVC_POLICY_UNKNOWN)
		return;
	if (all == OVC_POLICY_UNKNOWN)
		all = l->vm->memory;
	floor = part_of(all, o->guest_floor);
	/* Between the floor and a band above it the balloon stays. */
	if (available < floor)
		most = less(l->balloon, floor - available);
	else
		most = l->balloon + less(available, floor + l->band);
	if (most >= l->most)
		return;
	l->most = most;
	l->guest_needs = true;
}

static struct look look_at(const struct ovc_policy_vm *vm,
			   const struct ovc_policy_options *o,
			   const struct ovc_policy_vm_decision *d)
{
	struct look l = {
		.vm = vm,
		.over = less(vm->resident, d->entitlement),
		.under = less(d->entitlement, vm->resident),
		.balloon = vm->ballooned,
		.target = vm->balloon_target,
		.band = part_of(vm->memory, o->dead_band),
		.step = part_of(vm->memory, o->balloon_step),
		.most = least(part_of(vm->memory, o->balloon_cap),
			      less(vm->memory, vm->min)),
	};

	if (!(vm->flags & OVC_POLICY_VM_BALLOON) ||
	    d->flags & OVC_POLICY_BAD_BALLOON)
		l.most = l.balloon = l.target = 0;
	else if (!(d->flags & OVC_POLICY_BAD_GUEST))
		heed_guest(&l, o);
	l.room = less(l.most, l.balloon);
	return l;
}

static bool has_driver(const struct look *l,
		       const struct ovc_policy_vm_decision *d)
{
	return l->vm->flags & OVC_POLICY_VM_BALLOON &&
	       !(d->flags & OVC_POLICY_BAD_BALLOON);
}

/* ---- Waiting for a step -------------------------------------------------- */

static void wait_from(struct ovc_policy_balloon *b, const struct look *l,
		      uint64_t now, uint64_t from)
{
	b->waiting = true;
	b->since = now;
	b->from = from;
	b->kept = l->vm->resident + l->vm->swapped;
	b->held = l->balloon;
	b->step = least(l->step, least(l->over, l->room));
}

static void give_up(struct ovc_policy_balloon *b, const struct look *l,
		    uint64_t now)
{
	uint64_t said = l->vm->balloon_reached;

	b->waiting = false;
	b->failed = true;
	b->since = now;
	b->due = 0; /* all of it is */
	b->lied = said != OVC_POLICY_UNKNOWN && said + l->band >= l->target &&
		  l->target;
}

/* What the balloon brought since the wait began. */
static uint64_t brought(const struct ovc_policy_balloon *b,
			const struct look *l)
{
	bool grows = l->vm->flags & OVC_POLICY_VM_GROWING ||
		     l->vm->faults_waiting;
	uint64_t gone = less(b->kept, l->vm->resident + l->vm->swapped);
	uint64_t taken = grows ? less(l->balloon, b->held) : 0;

	return gone > taken ? gone : taken;
}

/* A step's time is over and the VM is not where it should be. */
static void run_out(struct ovc_policy_balloon *b, const struct look *l,
		    uint64_t now)
{
	if (2 * brought(b, l) < b->step) {
		give_up(b, l, now);
		return;
	}
	b->due = less(b->from, b->step);
	wait_from(b, l, now, least(b->due, l->vm->resident));
}

static void wait_on(struct ovc_policy_balloon *b, const struct look *l,
		    const struct ovc_policy_options *o, uint64_t now)
{
	if (b->failed &&
	    now - b->since < OVC_POLICY_BALLOON_RETRY * o->balloon_timeout)
		return;
	if (b->failed || !b->waiting) {
		b->failed = b->lied = false;
		wait_from(b, l, now, l->vm->resident);
	} else if (l->vm->resident + b->step <= b->from + PAGE) {
		b->due = 0;
		wait_from(b, l, now, l->vm->resident);
	} else if (now - b->since >= o->balloon_timeout) {
		run_out(b, l, now);
	}
}

/* ---- Target and swap ----------------------------------------------------- */

/* Where the balloon should go, were it not for what it may hold. */
static uint64_t heading(const struct ovc_policy_balloon *b,
			const struct look *l, enum ovc_policy_state state)
{
	/* A driver that is slow to let go, or holds what others asked for, is no
	 * reason to ask for more again. */
	if (l->under > l->band)
		return least(l->target,
			     less(l->balloon, least(l->under, l->step)));
	if (state < OVC_POLICY_SOFT || l->over <= l->band || b->failed)
		return l->target;
	return l->balloon + l->step;
}

static uint64_t next_target(const struct ovc_policy_balloon *b,
			    const struct look *l, enum ovc_policy_state state)
{
	uint64_t target = least(heading(b, l, state), l->most) / PAGE * PAGE;
	uint64_t change = less(target, l->target) + less(l->target, target);

	/* Small changes only where the one asked last is not allowed, or to
	 * empty a balloon for good. */
	if (change <= l->band && l->target <= l->most && target)
		return l->target;
	return target;
}

static uint64_t trusted(const struct ovc_policy_balloon *b,
			const struct look *l, enum ovc_policy_state state)
{
	if (b->failed)
		return 0;
	if (state <= OVC_POLICY_SOFT)
		return l->room;
	/* A half goes at once, whatever comes of the other. */
	if (state == OVC_POLICY_LOW)
		return least(least(l->room, l->step), l->over / 2);
	return least(l->room, l->step);
}

static enum ovc_policy_why why_swap(const struct ovc_policy_balloon *b,
				    const struct look *l,
				    const struct ovc_policy_vm_decision *d,
				    uint64_t overdue)
{
	if (!has_driver(l, d))
		return OVC_POLICY_NO_DRIVER;
	if (b->failed)
		return b->lied ? OVC_POLICY_DRIVER_LIES :
				 OVC_POLICY_DRIVER_LATE;
	if (overdue >= d->swap)
		return OVC_POLICY_DRIVER_LATE;
	if (l->room >= l->over)
		return OVC_POLICY_PRESSURE;
	return l->guest_needs ? OVC_POLICY_GUEST_NEEDS : OVC_POLICY_CAP;
}

static void take_by_force(const struct ovc_policy_balloon *b,
			  const struct look *l, enum ovc_policy_state state,
			  struct ovc_policy_vm_decision *d)
{
	uint64_t overdue = b->due ? less(l->vm->resident, b->due) : 0;

	overdue = least(overdue, l->over);
	d->swap = less(l->over, trusted(b, l, state));
	if (overdue > d->swap)
		d->swap = overdue;
	if (!d->swap)
		return;
	d->why = why_swap(b, l, d, overdue);
	if (l->vm->flags & OVC_POLICY_VM_NO_SWAP) {
		d->swap = 0;
		d->why = OVC_POLICY_NO_SWAP;
	}
}

static enum ovc_policy_why why_not(const struct look *l,
				   enum ovc_policy_state state,
				   const struct ovc_policy_vm_decision *d)
{
	if (!l->over)
		return d->balloon < l->target ? OVC_POLICY_DEFLATE :
						OVC_POLICY_WITHIN;
	if (state < OVC_POLICY_SOFT)
		return OVC_POLICY_ROOM;
	return l->over <= l->band ? OVC_POLICY_NEAR : OVC_POLICY_BALLOON;
}

void ovc_policy_balloon_decide(struct ovc_policy_balloon *b,
			       const struct ovc_policy_vm *vm,
			       const struct ovc_policy_options *o, uint64_t now,
			       enum ovc_policy_state state,
			       struct ovc_policy_vm_decision *d)
{
	struct look l;
	bool takes;

	d->flags |= ovc_policy_balloon_check(vm);
	l = look_at(vm, o, d);
	/* When memory is very short the dead band is not left to the VM. */
	takes = state >= OVC_POLICY_HARD ?
			l.over > 0 :
			state == OVC_POLICY_SOFT && l.over > l.band;
	if (takes && l.room > l.band) {
		wait_on(b, &l, o, now);
	} else if (!takes || !b->failed) {
		b->waiting = false;
		b->due = 0;
	}
	d->swap = 0;
	d->why = OVC_POLICY_WITHIN;
	if (takes)
		take_by_force(b, &l, state, d);
	/* Balloon and swap together never take more than there is too much. */
	l.most = least(l.most, l.balloon + less(l.over, d->swap));
	d->balloon = next_target(b, &l, state);
	if (!d->why)
		d->why = why_not(&l, state, d);
	d->flags |= b->failed ? OVC_POLICY_GAVE_UP : 0;
}
