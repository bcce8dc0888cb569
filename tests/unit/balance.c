/* SPDX-License-Identifier: MIT */
/*
 * The library's own policy as a whole (lib/policy/balance.c) and admission
 * (admit.c): snapshots by hand, snapshots at random, and a simulated host whose
 * guests' drivers are good, slow, stuck, lying and dead at the same time.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "policy/policy.h"

#define PAGE   4096ull
#define MIB    (1ull << 20)
#define SECOND 1000000000ull
#define MOST   32

static const struct ovc_policy *policy;
static void *state;
static struct ovc_policy_options options;
static struct ovc_policy_vm vms[MOST];
static struct ovc_policy_vm_decision ds[MOST];
static struct ovc_policy_snapshot snapshot;
static struct ovc_policy_decision decision;

static uint64_t rnd(void)
{
	static uint64_t x = 42;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 2685821657736338717ull >> 8;
}

static void restart(void)
{
	free(state);
	state = calloc(1, policy->state_bytes(MOST));
	cr_assert_eq(policy->start(state, MOST, &options), 0);
}

static void prepare(void)
{
	policy = ovc_policy_builtin();
	options = (struct ovc_policy_options){ .size = sizeof(options),
					       .clear = 600,
					       .soft = 400,
					       .hard = 200,
					       .low = 100,
					       .hysteresis = 100 };
	restart();
	snapshot = (struct ovc_policy_snapshot){
		.size = sizeof(snapshot),
		.now = SECOND,
		.budget = 1024 * MIB,
		.mem_available = OVC_POLICY_UNKNOWN,
		.mem_total = OVC_POLICY_UNKNOWN,
		.psi_some = OVC_POLICY_UNKNOWN_RATE,
		.psi_full = OVC_POLICY_UNKNOWN_RATE,
		.vms = vms,
	};
	decision = (struct ovc_policy_decision){
		.size = sizeof(decision),
		.vms = ds,
	};
}

static void finish(void)
{
	free(state);
	state = NULL;
}

TestSuite(balance, .init = prepare, .fini = finish);

/* Another VM, that holds so much of its memory, all of it active. */
static struct ovc_policy_vm *add(uint64_t memory, uint64_t resident)
{
	size_t i = snapshot.nr_vms++;

	vms[i] = (struct ovc_policy_vm){
		.id = 100 + i,
		.index = (uint32_t)i,
		.flags = OVC_POLICY_VM_BALLOON | OVC_POLICY_VM_ESTIMATED,
		.memory = memory,
		.resident = resident,
		.active = resident,
		.balloon_reached = OVC_POLICY_UNKNOWN,
		.guest_free = OVC_POLICY_UNKNOWN,
		.guest_available = OVC_POLICY_UNKNOWN,
		.guest_total = OVC_POLICY_UNKNOWN,
	};
	snapshot.used += resident;
	return &vms[i];
}

static void decide(void)
{
	cr_assert_eq(policy->decide(state, &snapshot, &decision), 0);
}

#define about(a, b)                                                      \
	cr_assert_lt(llabs((long long)((a) - (b))), 4 * (long long)PAGE, \
		     "%llu KiB", (unsigned long long)(a) >> 10)

/* ---- by hand ------------------------------------------------------------- */

Test(balance, a_host_without_vms_has_a_state)
{
	decide();
	cr_assert_eq(decision.state, OVC_POLICY_HIGH);
	cr_assert_eq(decision.share_factor, 1);
	cr_assert_str_eq(policy->name, "balance");
}

Test(balance, while_memory_is_plentiful_nobody_gives_any)
{
	add(512 * MIB, 400 * MIB);
	add(512 * MIB, 100 * MIB);
	decide();
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(ds[i].balloon, 0);
		cr_assert_eq(ds[i].swap, 0);
		cr_assert_eq(ds[i].why, OVC_POLICY_WITHIN);
	}
}

/* 5 percent of 1,000 MiB stay free: 950; the idle one pays four times as much. */
Test(balance, the_idle_vm_s_balloon_pays_for_the_busy_vm)
{
	struct ovc_policy_vm *idle = add(1000 * MIB, 600 * MIB);
	struct ovc_policy_vm *busy = add(1000 * MIB, 380 * MIB);

	snapshot.budget = 1000 * MIB;
	idle->active = 0;
	busy->flags |= OVC_POLICY_VM_GROWING;
	busy->active = 1000 * MIB;
	decide();
	cr_assert_eq(decision.capacity, 950 * MIB);
	about(ds[0].entitlement, 190 * MIB);
	about(ds[1].entitlement, 760 * MIB);
	cr_assert_float_eq(ds[0].active, 0, 1e-9);
	cr_assert_float_eq(ds[1].active, 1, 1e-9);
	cr_assert_float_eq(ds[1].rho / ds[0].rho, 4 * 600 / 380.0, 1e-6);
	cr_assert_eq(decision.state, OVC_POLICY_SOFT);
	cr_assert_gt(ds[0].balloon, 0);
	cr_assert_eq(ds[1].balloon, 0);
	cr_assert_eq(ds[1].swap, 0);
}

Test(balance, without_an_estimate_nobody_is_taxed)
{
	struct ovc_policy_vm *a = add(1000 * MIB, 500 * MIB);
	struct ovc_policy_vm *b = add(1000 * MIB, 500 * MIB);

	snapshot.budget = 1000 * MIB;
	a->flags &= ~OVC_POLICY_VM_ESTIMATED;
	b->flags &= ~OVC_POLICY_VM_ESTIMATED;
	a->active = 0;
	decide();
	about(ds[0].entitlement, 475 * MIB);
	about(ds[1].entitlement, 475 * MIB);
}

Test(balance, what_a_vm_has_no_use_for_goes_to_others)
{
	struct ovc_policy_vm *small = add(800 * MIB, 50 * MIB);

	add(1000 * MIB, 900 * MIB);
	decide();
	cr_assert_eq(ds[0].entitlement, 100 * MIB); /* and a sixteenth */
	cr_assert_eq(ds[0].bound, OVC_POLICY_BY_WANT);
	cr_assert_gt(ds[1].entitlement, 800 * MIB);
	small->flags |= OVC_POLICY_VM_GROWING;
	small->active = 800 * MIB;
	decide();
	cr_assert_gt(ds[0].entitlement, 400 * MIB);
}

Test(balance, what_was_taken_from_a_vm_counts_as_wanted)
{
	struct ovc_policy_vm *vm = add(900 * MIB, 100 * MIB);

	vm->ballooned = 100 * MIB;
	vm->swapped = 100 * MIB;
	decide();
	cr_assert_eq(ds[0].entitlement, 300 * MIB + 900 * MIB / 16);
	vm->faults_waiting = 1;
	decide();
	cr_assert_eq(ds[0].entitlement, 900 * MIB);
	vm->faults_waiting = 0;
	vm->swap_in = 1;
	decide();
	cr_assert_eq(ds[0].entitlement, 900 * MIB);
}

Test(balance, a_guarantee_goes_before_what_should_stay_free)
{
	add(1000 * MIB, 600 * MIB)->min = 600 * MIB;
	add(1000 * MIB, 400 * MIB)->min = 400 * MIB;
	snapshot.budget = 1000 * MIB;
	decide();
	cr_assert_eq(decision.capacity, 1000 * MIB);
	cr_assert_eq(ds[0].entitlement, 600 * MIB);
	cr_assert_eq(ds[1].entitlement, 400 * MIB);
	cr_assert_eq(ds[0].swap + ds[1].swap, 0);
	cr_assert_eq(decision.state, OVC_POLICY_LOW);
	/* Nobody holds too much: nobody waits. */
	cr_assert_eq(ds[0].throttle + ds[1].throttle, 0);
	snapshot.overhead = 100 * MIB;
	decide();
	cr_assert_eq(ds[0].entitlement, 540 * MIB);
	cr_assert_eq(ds[0].bound, OVC_POLICY_BY_PART);
}

Test(balance, what_is_pinned_stays)
{
	add(1000 * MIB, 700 * MIB)->pinned = 700 * MIB;
	add(1000 * MIB, 300 * MIB);
	snapshot.budget = 1000 * MIB;
	decide();
	cr_assert_eq(ds[0].entitlement, 700 * MIB);
	cr_assert_eq(ds[0].swap, 0);
}

Test(balance, in_the_low_state_only_the_greediest_waits)
{
	add(1000 * MIB, 250 * MIB)->swap_in = MIB;
	add(1000 * MIB, 700 * MIB);
	add(1000 * MIB, 400 * MIB);
	snapshot.budget = 1000 * MIB;
	decide();
	cr_assert_gt(ds[0].entitlement, 250 * MIB);
	cr_assert_lt(ds[2].entitlement, 400 * MIB);
	cr_assert_eq(decision.state, OVC_POLICY_LOW);
	cr_assert_eq(ds[0].throttle, 0);
	cr_assert_eq(ds[1].throttle, 1);
	cr_assert_eq(ds[2].throttle, 0);
	snapshot.used = 970 * MIB;
	decide();
	cr_assert_eq(decision.state, OVC_POLICY_SOFT);
	cr_assert_eq(ds[1].throttle, 0);
}

/* A VM that waited alone would wait for nobody. */
Test(balance, nobody_waits_where_nobody_else_goes_short)
{
	add(1000 * MIB, 250 * MIB);
	add(1000 * MIB, 750 * MIB)->swap_in = MIB;
	snapshot.budget = 1000 * MIB;
	decide();
	cr_assert_eq(decision.state, OVC_POLICY_LOW);
	cr_assert_gt(ds[0].entitlement, 250 * MIB);
	cr_assert_lt(ds[1].entitlement, 750 * MIB);
	cr_assert_eq(ds[1].throttle, 0);
	vms[0].faults_waiting = 1;
	decide();
	cr_assert_eq(ds[1].throttle, 1);
}

/* Of 4,000 MiB others have 3,400; we hold 500 and 100 are available. */
Test(balance, a_machine_without_memory_makes_vms_give_while_the_budget_has_room)
{
	add(1000 * MIB, 500 * MIB);
	snapshot.mem_total = 4000 * MIB;
	snapshot.mem_available = 100 * MIB;
	decide();
	cr_assert_eq(decision.state, OVC_POLICY_SOFT);
	cr_assert_eq(decision.cause, OVC_POLICY_BY_AVAILABLE);
	cr_assert_eq(decision.capacity, 400 * MIB);
	cr_assert_eq(ds[0].entitlement, 400 * MIB);
	cr_assert_gt(ds[0].balloon, 0);
	cr_assert_gt(decision.share_factor, 1);
}

Test(balance, stalls_make_vms_give_a_little_at_a_time)
{
	add(1000 * MIB, 640 * MIB);
	snapshot.psi_some = 5000;
	decide();
	cr_assert_eq(decision.cause, OVC_POLICY_BY_PSI_SOME);
	about(ds[0].entitlement, 630 * MIB);
	about(ds[0].balloon, 10 * MIB);
	snapshot.psi_full = 5000;
	decide();
	cr_assert_eq(decision.state, OVC_POLICY_HARD);
	cr_assert_eq(decision.cause, OVC_POLICY_BY_PSI_FULL);
}

/* ---- what is remembered --------------------------------------------------- */

Test(balance, order_does_not_matter_and_a_new_vm_in_an_old_place_is_new)
{
	struct ovc_policy_vm other;

	add(1000 * MIB, 600 * MIB);
	add(1000 * MIB, 370 * MIB);
	snapshot.budget = 1000 * MIB;
	snapshot.used = 970 * MIB;
	vms[1].min = 370 * MIB;
	decide();
	vms[0].balloon_target = ds[0].balloon;
	snapshot.now += 10 * SECOND;
	decide();
	cr_assert(ds[0].flags & OVC_POLICY_GAVE_UP);
	other = vms[0];
	vms[0] = vms[1];
	vms[1] = other;
	decide();
	cr_assert_not(ds[0].flags & OVC_POLICY_GAVE_UP);
	cr_assert(ds[1].flags & OVC_POLICY_GAVE_UP);
	vms[1].id = 4711;
	decide();
	cr_assert_not(ds[1].flags & OVC_POLICY_GAVE_UP);
}

#define impossible(what)                                                  \
	do {                                                              \
		struct ovc_policy_snapshot was = snapshot;                \
		struct ovc_policy_vm vm = vms[1];                         \
		uint64_t before = ds[0].entitlement;                      \
		what;                                                     \
		cr_assert_eq(policy->decide(state, &snapshot, &decision), \
			     -EINVAL, "%s", #what);                       \
		cr_assert_eq(ds[0].entitlement, before);                  \
		snapshot = was;                                           \
		vms[1] = vm;                                              \
	} while (0)

Test(balance, an_impossible_snapshot_is_refused)
{
	add(1000 * MIB, 500 * MIB);
	add(1000 * MIB, 500 * MIB);
	decide();
	impossible(snapshot.size--);
	impossible(snapshot.budget = 0);
	impossible(snapshot.budget = UINT64_MAX);
	impossible(snapshot.used = UINT64_MAX);
	impossible(snapshot.nr_vms = MOST + 1);
	impossible(vms[1].index = MOST);
	impossible(vms[1].shares = 1000001);
	impossible(vms[1].memory = UINT64_MAX);
	impossible(vms[1].min = UINT64_MAX);
	impossible(vms[1].resident = UINT64_MAX);
	impossible(vms[1].swapped = UINT64_MAX);
	impossible(vms[1].pinned = UINT64_MAX);
	decision.size--;
	cr_assert_eq(policy->decide(state, &snapshot, &decision), -EINVAL);
	decision.size++;
	decide();
}

Test(balance, a_policy_does_not_start_with_wrong_settings)
{
	options.soft = 700;
	cr_assert_eq(policy->start(state, MOST, &options), -EINVAL);
	cr_assert_eq(policy->start(state, MOST, NULL), 0);
}

/* ---- at random ------------------------------------------------------------ */

static uint64_t maybe(uint64_t most)
{
	switch (rnd() % 8) {
	case 0:
		return OVC_POLICY_UNKNOWN;
	case 1:
		return UINT64_MAX - rnd() % 100;
	case 2:
		return 0;
	default:
		return rnd() % (most + most / 8 + 1);
	}
}

static void random_vm(void)
{
	uint64_t memory = rnd() % (2048 * MIB);
	struct ovc_policy_vm *vm = add(memory, rnd() % (memory + 1));

	vm->flags = rnd() % 16;
	vm->shares = rnd() % 3 ? 1 + rnd() % 1000000 : 0;
	vm->min = rnd() % 2 ? 0 : rnd() % (memory + 1);
	vm->limit = rnd() % 2 ? 0 : rnd() % (memory + 1);
	vm->pinned = rnd() % 4 ? 0 : rnd() % (vm->resident + 1);
	vm->active = rnd() % 16 ? rnd() % (memory + 1) : UINT64_MAX;
	vm->swapped = rnd() % (memory + 1);
	vm->swap_in = rnd() % 2;
	vm->faults_waiting = rnd() % 4 == 0;
	vm->ballooned = rnd() % 8 ? rnd() % (memory + 1) : maybe(memory);
	vm->balloon_target = maybe(memory);
	vm->balloon_reached = maybe(memory);
	vm->guest_free = maybe(memory);
	vm->guest_available = maybe(memory);
	vm->guest_total = maybe(memory);
}

static void random_snapshot(void)
{
	snapshot.nr_vms = 0;
	snapshot.used = 0;
	for (size_t n = rnd() % (MOST + 1); n; n--)
		random_vm();
	snapshot.now += rnd() % (8 * SECOND);
	snapshot.overhead = rnd() % (100 * MIB);
	snapshot.shared = rnd() % (100 * MIB);
	snapshot.used += snapshot.overhead + snapshot.shared;
	snapshot.budget = 1 + snapshot.used / 2 + rnd() % (snapshot.used + 1);
	snapshot.mem_total = maybe(4 * snapshot.budget);
	snapshot.mem_available = maybe(2 * snapshot.budget);
	snapshot.psi_some = rnd() % 2 ? OVC_POLICY_UNKNOWN_RATE : rnd() % 10001;
	snapshot.psi_full = rnd() % 2 ? OVC_POLICY_UNKNOWN_RATE : rnd() % 10001;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What must hold of every decision. */
static void check_vm(const struct ovc_policy_vm *vm,
		     const struct ovc_policy_vm_decision *d, bool mins_fit)
{
	uint64_t max = vm->limit ? least(vm->limit, vm->memory) : vm->memory;
	uint64_t min = least(vm->min, max);

	cr_assert_leq(d->entitlement, max);
	if (mins_fit)
		cr_assert_geq(d->entitlement, min);
	cr_assert_leq(d->balloon, vm->memory / 100 * 65 + PAGE);
	if (d->balloon)
		cr_assert_leq(d->balloon,
			      vm->memory - least(vm->min, vm->memory));
	if (d->swap)
		cr_assert_geq(vm->resident - d->swap, d->entitlement);
	if (!(vm->flags & OVC_POLICY_VM_BALLOON))
		cr_assert_eq(d->balloon, 0);
	if (vm->flags & OVC_POLICY_VM_NO_SWAP)
		cr_assert_eq(d->swap, 0);
	cr_assert_not_null(ovc_policy_why_name(d->why));
	cr_assert_not_null(ovc_policy_bound_name(d->bound));
	cr_assert(d->active >= 0 && d->active <= 1 && d->rho > 0);
}

static void check(void)
{
	uint64_t room = snapshot.budget > snapshot.overhead ?
				snapshot.budget - snapshot.overhead :
				0;
	uint64_t sum = 0, mins = 0;
	unsigned throttled = 0;

	for (size_t i = 0; i < snapshot.nr_vms; i++) {
		uint64_t max = vms[i].limit ? vms[i].limit : vms[i].memory;

		sum += ds[i].entitlement;
		mins += least(vms[i].min > vms[i].pinned ? vms[i].min :
							   vms[i].pinned,
			      least(max, vms[i].memory));
		throttled += ds[i].throttle;
	}
	cr_assert_leq(sum, room);
	cr_assert_leq(sum, decision.capacity);
	cr_assert_leq(throttled, decision.state == OVC_POLICY_LOW);
	for (size_t i = 0; i < snapshot.nr_vms; i++)
		check_vm(&vms[i], &ds[i], mins <= room);
}

Test(balance, whatever_the_snapshot_the_rules_are_kept, .timeout = 60)
{
	for (int round = 0; round < 20000; round++) {
		if (round % 50 == 0)
			restart();
		random_snapshot();
		decide();
		check();
	}
}

Test(balance, the_same_again_is_decided_the_same)
{
	struct ovc_policy_vm_decision before[MOST];

	for (int round = 0; round < 2000; round++) {
		restart();
		random_snapshot();
		decide();
		memcpy(before, ds, sizeof(before));
		decide();
		for (size_t i = 0; i < snapshot.nr_vms; i++) {
			cr_assert_eq(ds[i].entitlement, before[i].entitlement);
			cr_assert_eq(ds[i].balloon, before[i].balloon);
			cr_assert_eq(ds[i].swap, before[i].swap);
		}
	}
}

/* ---- a simulated host ------------------------------------------------------ */

enum driver { GOOD, SLOW, STUCK, LYING, DEAD, NR_DRIVERS };

#define GUESTS	  10
#define GUEST	  (1024 * MIB)
#define SWAP_RATE (100 * MIB) /* a second, of each */

/* What a guest would touch if it could; the rest of its memory is free. */
static uint64_t needs[GUESTS];

static void inflate(struct ovc_policy_vm *vm, enum driver driver, uint64_t to)
{
	uint64_t rate = driver == SLOW ? 10 * MIB : 200 * MIB, bytes;

	if (driver == STUCK)
		to = least(to, 50 * MIB);
	if (driver >= LYING)
		return;
	if (to > vm->ballooned) {
		bytes = least(least(to - vm->ballooned, rate), vm->resident);
		vm->ballooned += bytes;
		vm->resident -= bytes;
	} else {
		vm->ballooned -= least(vm->ballooned - to, rate);
	}
}

/* It touches what it needs and does not have: first what was never there. */
static void touch(struct ovc_policy_vm *vm, uint64_t need, bool waits)
{
	uint64_t has = vm->resident + vm->swapped;
	uint64_t room = vm->memory - vm->ballooned;
	uint64_t wants = least(need, room);

	vm->flags &= ~OVC_POLICY_VM_GROWING;
	if (wants <= has || waits)
		return;
	vm->flags |= OVC_POLICY_VM_GROWING;
	vm->resident += least(wants - has, 20 * MIB);
}

static void guest_tick(size_t i)
{
	struct ovc_policy_vm *vm = &vms[i];
	enum driver driver = i % NR_DRIVERS;
	uint64_t bytes = least(ds[i].swap, SWAP_RATE);

	vm->balloon_target = ds[i].balloon;
	vm->resident -= bytes;
	vm->swapped += bytes;
	inflate(vm, driver, ds[i].balloon);
	touch(vm, needs[i], ds[i].throttle);
	vm->balloon_reached = driver == LYING ? ds[i].balloon : vm->ballooned;
	vm->active = vm->resident / 2;
	vm->guest_total = vm->memory;
	vm->guest_available =
		vm->memory - least(needs[i] / 2 + vm->ballooned, vm->memory);
}

static void host_tick(void)
{
	decide();
	check();
	snapshot.used = snapshot.overhead;
	snapshot.now += SECOND;
	for (size_t i = 0; i < snapshot.nr_vms; i++) {
		guest_tick(i);
		snapshot.used += vms[i].resident;
		if (vms[i].min)
			cr_assert_geq(vms[i].resident, vms[i].min);
	}
}

static void run(int seconds)
{
	for (int i = 0; i < seconds; i++)
		host_tick();
}

/* Targets that change their direction, in so many seconds. */
static unsigned turns(int seconds)
{
	uint64_t before[GUESTS];
	int way[GUESTS] = { 0 };
	unsigned nr = 0;

	for (int s = 0; s < seconds; s++) {
		for (size_t i = 0; i < GUESTS; i++)
			before[i] = ds[i].balloon;
		host_tick();
		for (size_t i = 0; i < GUESTS; i++) {
			int to = (ds[i].balloon > before[i]) -
				 (ds[i].balloon < before[i]);

			nr += to && way[i] && to != way[i];
			way[i] = to ? to : way[i];
		}
	}
	return nr;
}

/* Ten guests of 1 GiB that need 800 MiB each, on 10 GiB: all fits. */
static void ten_guests(void)
{
	snapshot.budget = GUESTS * GUEST;
	snapshot.overhead = 64 * MIB;
	snapshot.used = snapshot.overhead;
	for (size_t i = 0; i < GUESTS; i++) {
		struct ovc_policy_vm *vm = add(GUEST, 800 * MIB);

		needs[i] = 800 * MIB;
		if (i % 3 == 0)
			vm->min = 300 * MIB;
		if (i == 7)
			vm->flags &= ~OVC_POLICY_VM_BALLOON;
	}
}

static void fits(void)
{
	cr_assert_leq(snapshot.used, snapshot.budget / 100 * 98);
	cr_assert_leq(decision.state, OVC_POLICY_SOFT);
}

Test(balance, a_host_that_has_room_takes_nothing)
{
	ten_guests();
	run(100);
	for (size_t i = 0; i < GUESTS; i++)
		cr_assert_eq(vms[i].ballooned + vms[i].swapped, 0);
	cr_assert_eq(decision.state, OVC_POLICY_HIGH);
}

Test(balance, a_budget_that_is_halved_is_kept_by_balloons_and_swap)
{
	ten_guests();
	run(10);
	snapshot.budget /= 2;
	run(60);
	fits();
	run(300);
	fits();
	cr_assert_gt(vms[GOOD].ballooned, 100 * MIB);
	cr_assert_eq(vms[DEAD].ballooned, 0);
	cr_assert_gt(vms[DEAD].swapped, 100 * MIB);
	cr_assert_gt(vms[LYING].swapped, 100 * MIB);
}

Test(balance, nothing_oscillates_once_it_has_converged)
{
	ten_guests();
	snapshot.budget /= 2;
	run(120);
	cr_assert_leq(turns(300), 2);
	fits();
}

Test(balance, a_budget_that_is_restored_empties_the_balloons)
{
	ten_guests();
	snapshot.budget /= 2;
	run(120);
	snapshot.budget *= 2;
	run(120);
	for (size_t i = 0; i < GUESTS; i++)
		cr_assert_eq(vms[i].ballooned, 0, "guest %zu", i);
	cr_assert_eq(decision.state, OVC_POLICY_HIGH);
}

Test(balance, a_guest_that_grows_is_made_room_for_by_those_that_do_not)
{
	ten_guests();
	for (size_t i = 0; i < GUESTS; i++) {
		vms[i].resident = 400 * MIB;
		needs[i] = 400 * MIB;
	}
	snapshot.budget = 64 * MIB + 10 * 440 * MIB;
	run(30);
	needs[GOOD + 5] = GUEST;
	vms[GOOD + 5].shares = 4000;
	run(200);
	fits();
	cr_assert_gt(vms[GOOD + 5].resident, 700 * MIB);
}

Test(balance, the_guests_available_memory_stays_above_its_floor)
{
	ten_guests();
	snapshot.budget /= 3;
	for (int s = 0; s < 200; s++) {
		host_tick();
		for (size_t i = 0; i < GUESTS; i++)
			cr_assert_geq(vms[i].guest_available,
				      vms[i].guest_total / 20);
	}
}

/* ---- admission ------------------------------------------------------------- */

Test(balance, a_guarantee_that_fits_is_admitted)
{
	uint64_t needed, available;

	add(1000 * MIB, 0)->min = 300 * MIB;
	add(1000 * MIB, 0)->min = 200 * MIB;
	snapshot.budget = 1000 * MIB;
	snapshot.overhead = 100 * MIB;
	cr_assert_eq(ovc_policy_admit(&snapshot, 1, 400 * MIB, &needed,
				      &available),
		     0);
	cr_assert_eq(needed, 900 * MIB);
	cr_assert_eq(available, 900 * MIB);
}

Test(balance, one_that_does_not_is_refused_with_the_figures)
{
	uint64_t needed, available;

	add(1000 * MIB, 0)->min = 300 * MIB;
	snapshot.budget = 1000 * MIB;
	snapshot.overhead = 100 * MIB;
	cr_assert_eq(ovc_policy_admit(&snapshot, 1, 600 * MIB + 1, &needed,
				      &available),
		     -ENOMEM);
	cr_assert_eq(needed, 900 * MIB + 1);
	cr_assert_eq(available, 900 * MIB);
	cr_assert_eq(ovc_policy_admit(&snapshot, 1, 600 * MIB + 1, NULL, NULL),
		     -ENOMEM);
}

Test(balance, a_vm_that_grows_does_not_count_twice)
{
	uint64_t needed;

	add(1000 * MIB, 0)->min = 600 * MIB;
	snapshot.budget = 1000 * MIB;
	cr_assert_eq(ovc_policy_admit(&snapshot, vms[0].id, 900 * MIB, &needed,
				      NULL),
		     0);
	cr_assert_eq(needed, 900 * MIB);
}

Test(balance, guarantees_that_overflow_do_not_fit)
{
	add(1000 * MIB, 0)->min = 600 * MIB;
	cr_assert_eq(ovc_policy_admit(&snapshot, 1, UINT64_MAX, NULL, NULL),
		     -ENOMEM);
	snapshot.overhead = UINT64_MAX;
	cr_assert_eq(ovc_policy_admit(&snapshot, 1, 0, NULL, NULL), -ENOMEM);
}
