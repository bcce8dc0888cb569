/* SPDX-License-Identifier: MIT */
/*
 * Balloon first, swap where it fails (lib/policy/balloon.c): rule by rule, then with
 * a simulated guest whose driver is good, slow, stuck, lying or dead.
 */
#include <criterion/criterion.h>
#include "policy/balloon.h"

#define MIB    (1ull << 20)
#define SECOND 1000000000ull
#define MEMORY (4096 * MIB)
#define STEP   (256 * MIB) /* 1/16 of it */
#define BAND   (MEMORY * 25 / 10000)

static struct ovc_policy_options options;
static struct ovc_policy_balloon balloon;
static struct ovc_policy_vm vm;
static struct ovc_policy_vm_decision d;
static uint64_t now, entitlement;
static enum ovc_policy_state state;

/* A VM that holds 3 GiB and may hold 2. */
static void prepare(void)
{
	cr_assert_eq(ovc_policy_options_fill(NULL, &options), 0);
	balloon = (struct ovc_policy_balloon){ 0 };
	vm = (struct ovc_policy_vm){
		.flags = OVC_POLICY_VM_BALLOON | OVC_POLICY_VM_ESTIMATED,
		.memory = MEMORY,
		.resident = 3072 * MIB,
		.balloon_reached = OVC_POLICY_UNKNOWN,
		.guest_free = OVC_POLICY_UNKNOWN,
		.guest_available = OVC_POLICY_UNKNOWN,
		.guest_total = OVC_POLICY_UNKNOWN,
	};
	entitlement = 2048 * MIB;
	state = OVC_POLICY_SOFT;
	now = SECOND;
}

TestSuite(balloon, .init = prepare);

static void decide(void)
{
	d = (struct ovc_policy_vm_decision){ .entitlement = entitlement };
	ovc_policy_balloon_decide(&balloon, &vm, &options, now, state, &d);
}

static void expect(uint64_t target, uint64_t swap, enum ovc_policy_why why)
{
	decide();
	cr_assert_eq(d.balloon, target, "target %llu MiB",
		     (unsigned long long)(d.balloon / MIB));
	cr_assert_eq(d.swap, swap, "swap %llu MiB",
		     (unsigned long long)(d.swap / MIB));
	cr_assert_eq(d.why, why, "%s", ovc_policy_why_name(d.why));
}

/* ---- rule by rule -------------------------------------------------------- */

Test(balloon, a_vm_within_its_entitlement_is_left_alone)
{
	vm.resident = entitlement;
	for (int s = OVC_POLICY_HIGH; s <= OVC_POLICY_LOW; s++) {
		state = s;
		expect(0, 0, OVC_POLICY_WITHIN);
	}
}

Test(balloon, while_there_is_room_nothing_is_taken)
{
	state = OVC_POLICY_HIGH;
	expect(0, 0, OVC_POLICY_ROOM);
	state = OVC_POLICY_CLEAR;
	expect(0, 0, OVC_POLICY_ROOM);
}

Test(balloon, in_the_soft_state_the_target_goes_up_a_step)
{
	expect(STEP, 0, OVC_POLICY_BALLOON);
	vm.balloon_target = STEP;
	expect(STEP, 0, OVC_POLICY_BALLOON);
	vm.ballooned = STEP;
	vm.resident -= STEP;
	expect(2 * STEP, 0, OVC_POLICY_BALLOON);
}

Test(balloon, the_last_step_ends_at_the_entitlement)
{
	vm.resident = entitlement + 20 * MIB;
	expect(20 * MIB, 0, OVC_POLICY_BALLOON);
}

Test(balloon, within_the_dead_band_nothing_changes)
{
	vm.balloon_target = vm.ballooned = STEP;
	vm.resident = entitlement + BAND;
	expect(STEP, 0, OVC_POLICY_NEAR);
	vm.resident = entitlement - BAND;
	expect(STEP, 0, OVC_POLICY_WITHIN);
}

Test(balloon, in_the_hard_state_what_is_beyond_a_step_is_swapped)
{
	state = OVC_POLICY_HARD;
	expect(STEP, 1024 * MIB - STEP, OVC_POLICY_PRESSURE);
}

Test(balloon, in_the_hard_state_the_dead_band_is_taken_too)
{
	vm.flags &= ~OVC_POLICY_VM_BALLOON;
	vm.resident = entitlement + MIB;
	state = OVC_POLICY_HARD;
	expect(0, MIB, OVC_POLICY_NO_DRIVER);
}

Test(balloon, in_the_low_state_half_is_swapped_at_least)
{
	state = OVC_POLICY_LOW;
	expect(STEP, 1024 * MIB - STEP, OVC_POLICY_PRESSURE);
	vm.resident = entitlement + 200 * MIB;
	vm.balloon_target = STEP;
	expect(100 * MIB, 100 * MIB, OVC_POLICY_PRESSURE);
}

Test(balloon, what_is_swapped_the_balloon_is_not_asked_for)
{
	for (int s = OVC_POLICY_SOFT; s <= OVC_POLICY_LOW; s++) {
		prepare();
		state = s;
		for (int i = 0; i < 50; i++) {
			vm.resident = entitlement + 40 * MIB * (i % 9);
			vm.ballooned = 20 * MIB * (i % 5);
			decide();
			vm.balloon_target = d.balloon;
			cr_assert_leq(d.balloon + d.swap,
				      vm.ballooned + vm.resident - entitlement);
			now += SECOND;
		}
	}
}

Test(balloon, without_a_driver_it_is_swapped_at_once)
{
	vm.flags &= ~OVC_POLICY_VM_BALLOON;
	expect(0, 1024 * MIB, OVC_POLICY_NO_DRIVER);
}

Test(balloon, a_vm_that_cannot_be_swapped_is_not_told_to)
{
	vm.flags = OVC_POLICY_VM_NO_SWAP;
	expect(0, 0, OVC_POLICY_NO_SWAP);
}

Test(balloon, the_target_goes_down_a_step_at_a_time_in_any_state)
{
	for (int s = OVC_POLICY_HIGH; s <= OVC_POLICY_LOW; s++) {
		state = s;
		vm.ballooned = vm.balloon_target = 1024 * MIB;
		vm.resident = 1024 * MIB;
		expect(1024 * MIB - STEP, 0, OVC_POLICY_DEFLATE);
	}
}

Test(balloon, a_balloon_that_is_not_needed_is_emptied_to_the_last_page)
{
	vm.resident = 1024 * MIB;
	vm.ballooned = vm.balloon_target = MIB;
	expect(0, 0, OVC_POLICY_DEFLATE);
}

Test(balloon, it_never_holds_more_than_its_cap)
{
	uint64_t cap = MEMORY * 65 / 100 / 4096 * 4096;

	vm.ballooned = vm.balloon_target = cap - MIB;
	vm.resident = MEMORY - cap;
	entitlement = 100 * MIB;
	decide();
	cr_assert_leq(d.balloon, cap);
	cr_assert_geq(d.swap, vm.resident - entitlement - 2 * MIB);
	cr_assert_eq(d.why, OVC_POLICY_CAP);
}

Test(balloon, a_target_above_its_cap_is_taken_back)
{
	vm.ballooned = vm.balloon_target = MEMORY * 8 / 10;
	vm.resident = entitlement;
	decide();
	cr_assert_eq(d.balloon, MEMORY * 65 / 100 / 4096 * 4096);
}

/* Even where the host cannot keep it. */
Test(balloon, it_leaves_the_guest_its_guarantee)
{
	vm.min = 3000 * MIB;
	vm.resident = MEMORY - 1000 * MIB;
	vm.ballooned = vm.balloon_target = 1000 * MIB;
	entitlement = 2500 * MIB;
	expect(MEMORY - vm.min, 500 * MIB, OVC_POLICY_CAP);
}

Test(balloon, a_little_more_is_not_worth_a_change)
{
	vm.ballooned = 400 * MIB;
	vm.balloon_target = 500 * MIB;
	vm.resident = entitlement + 105 * MIB;
	expect(500 * MIB, 0, OVC_POLICY_BALLOON);
	vm.resident = entitlement + 115 * MIB;
	expect(515 * MIB, 0, OVC_POLICY_BALLOON);
	/* But what was asked too much is taken back. */
	vm.resident = entitlement + 95 * MIB;
	expect(495 * MIB, 0, OVC_POLICY_BALLOON);
}

/* ---- what the guest says ------------------------------------------------- */

#define FLOOR (MEMORY / 20)

Test(balloon, a_guest_is_not_driven_below_what_it_needs)
{
	vm.guest_total = MEMORY;
	vm.guest_available = FLOOR + BAND + 100 * MIB;
	decide();
	cr_assert_eq(d.balloon, 100 * MIB);
	cr_assert_eq(d.swap, 924 * MIB);
	cr_assert_eq(d.why, OVC_POLICY_GUEST_NEEDS);
}

Test(balloon, a_guest_in_need_gets_memory_back_even_if_it_holds_too_much)
{
	vm.guest_total = MEMORY;
	vm.guest_available = FLOOR - 100 * MIB;
	vm.ballooned = vm.balloon_target = 500 * MIB;
	expect(400 * MIB, 1024 * MIB, OVC_POLICY_GUEST_NEEDS);
	state = OVC_POLICY_HIGH;
	expect(400 * MIB, 0, OVC_POLICY_ROOM);
}

Test(balloon, between_the_floor_and_a_band_above_the_balloon_stays)
{
	vm.guest_total = MEMORY;
	vm.ballooned = vm.balloon_target = 500 * MIB;
	for (uint64_t a = FLOOR + 1; a < FLOOR + BAND; a += MIB) {
		vm.guest_available = a;
		decide();
		cr_assert_eq(d.balloon, 500 * MIB);
	}
}

Test(balloon, statistics_that_contradict_themselves_are_ignored_and_flagged)
{
	vm.guest_total = 1024 * MIB;
	vm.guest_available = 1025 * MIB;
	expect(STEP, 0, OVC_POLICY_BALLOON);
	cr_assert_eq(d.flags, OVC_POLICY_BAD_GUEST);
	vm.guest_available = 0;
	vm.guest_free = 1025 * MIB;
	expect(STEP, 0, OVC_POLICY_BALLOON);
	cr_assert_eq(d.flags, OVC_POLICY_BAD_GUEST);
	vm.guest_free = 0;
	vm.guest_total = MEMORY + 1;
	expect(STEP, 0, OVC_POLICY_BALLOON);
	cr_assert_eq(d.flags, OVC_POLICY_BAD_GUEST);
	vm.guest_total = OVC_POLICY_UNKNOWN;
	vm.guest_available = MEMORY + 1;
	expect(STEP, 0, OVC_POLICY_BALLOON);
	cr_assert_eq(d.flags, OVC_POLICY_BAD_GUEST);
}

Test(balloon, a_balloon_larger_than_memory_is_none)
{
	vm.ballooned = MEMORY + 1;
	expect(0, 1024 * MIB, OVC_POLICY_NO_DRIVER);
	cr_assert_eq(d.flags, OVC_POLICY_BAD_BALLOON);
	vm.ballooned = 0;
	vm.balloon_reached = MEMORY + 1;
	expect(0, 1024 * MIB, OVC_POLICY_NO_DRIVER);
	cr_assert_eq(d.flags, OVC_POLICY_BAD_BALLOON);
}

Test(balloon, what_the_guest_does_not_say_is_no_contradiction)
{
	decide();
	cr_assert_eq(d.flags, 0);
	vm.guest_total = 4000 * MIB;
	vm.guest_available = 4000 * MIB;
	vm.guest_free = 4000 * MIB;
	decide();
	cr_assert_eq(d.flags, 0);
}

/* ---- drivers ------------------------------------------------------------- */

Test(balloon, a_driver_has_its_time_and_then_the_step_is_swapped)
{
	for (; now < 6 * SECOND; now += SECOND / 2) {
		expect(STEP, 0, OVC_POLICY_BALLOON);
		vm.balloon_target = d.balloon;
	}
	/* Half of the step and a bit: too late, but not a failure. */
	vm.resident -= 150 * MIB;
	vm.ballooned += 150 * MIB;
	decide();
	cr_assert_eq(d.swap, STEP - 150 * MIB);
	cr_assert_eq(d.why, OVC_POLICY_DRIVER_LATE);
	/* It stays due until it is done, and is then due no more. */
	vm.resident -= 50 * MIB;
	vm.swapped += 50 * MIB;
	decide();
	cr_assert_eq(d.swap, STEP - 200 * MIB);
	vm.resident -= STEP - 200 * MIB;
	vm.swapped += STEP - 200 * MIB;
	decide();
	cr_assert_eq(d.swap, 0);
	cr_assert_eq(d.why, OVC_POLICY_BALLOON);
}

Test(balloon, a_driver_that_brings_little_has_failed_for_a_while)
{
	decide();
	vm.balloon_target = d.balloon;
	now += 5 * SECOND;
	vm.resident -= 100 * MIB;
	vm.ballooned = 100 * MIB;
	expect(100 * MIB, 924 * MIB, OVC_POLICY_DRIVER_LATE);
	cr_assert(d.flags & OVC_POLICY_GAVE_UP);
	now += 29 * SECOND;
	expect(100 * MIB, 924 * MIB, OVC_POLICY_DRIVER_LATE);
	now += SECOND;
	decide();
	cr_assert_eq(d.swap, 0);
	cr_assert_not(d.flags & OVC_POLICY_GAVE_UP);
}

/* Swapping makes the VM smaller, too, and is none of the driver's merit. */
Test(balloon, what_was_swapped_is_not_taken_for_the_driver_s)
{
	decide();
	vm.balloon_target = d.balloon;
	now += 5 * SECOND;
	vm.resident -= 200 * MIB;
	vm.swapped += 200 * MIB;
	decide();
	cr_assert(d.flags & OVC_POLICY_GAVE_UP);
}

/* It takes 200 MiB while the guest touches as much that was never there. */
Test(balloon, the_driver_of_a_vm_that_grows_is_judged_by_its_balloon)
{
	vm.flags |= OVC_POLICY_VM_GROWING;
	decide();
	vm.balloon_target = d.balloon;
	now += 5 * SECOND;
	vm.ballooned = 200 * MIB;
	decide();
	cr_assert_not(d.flags & OVC_POLICY_GAVE_UP);
	cr_assert_eq(d.swap, STEP);
	cr_assert_eq(d.why, OVC_POLICY_DRIVER_LATE);
}

/* Free pages of the guest's that were never touched bring nothing. */
Test(balloon, a_full_balloon_of_a_vm_that_does_not_grow_proves_nothing)
{
	decide();
	vm.balloon_target = d.balloon;
	now += 5 * SECOND;
	vm.ballooned = STEP;
	decide();
	cr_assert(d.flags & OVC_POLICY_GAVE_UP);
}

/* ---- a simulated guest ---------------------------------------------------- */

enum driver { GOOD, SLOW, STUCK, LYING, DEAD };

/* A second of the guest's, and of the library's swapping. */
static void tick(enum driver driver)
{
	static const uint64_t rate[] = {
		[GOOD] = 512 * MIB,
		[SLOW] = 40 * MIB,
		[STUCK] = 10 * MIB,
	};
	uint64_t most = rate[driver % LYING], bytes;
	uint64_t stuck_at = driver == STUCK ? 300 * MIB : MEMORY;

	vm.balloon_target = d.balloon;
	bytes = d.swap < 200 * MIB ? d.swap : 200 * MIB;
	vm.resident -= bytes;
	vm.swapped += bytes;
	if (driver == LYING)
		vm.balloon_reached = d.balloon;
	now += SECOND;
	if (driver >= LYING)
		return;
	if (d.balloon > vm.ballooned) {
		bytes = d.balloon - vm.ballooned;
		bytes = bytes < most ? bytes : most;
		if (vm.ballooned + bytes > stuck_at)
			bytes = stuck_at - vm.ballooned;
		vm.ballooned += bytes;
		vm.resident -= bytes;
	} else {
		bytes = vm.ballooned - d.balloon;
		bytes = bytes < most ? bytes : most;
		vm.ballooned -= bytes;
		vm.resident += bytes; /* and it touches it at once */
	}
	vm.balloon_reached = vm.ballooned;
}

/* Runs for so many seconds; how often the target turned round. */
static int run(enum driver driver, int seconds)
{
	int turns = 0, way = 0;

	for (int i = 0; i < seconds; i++) {
		int to;

		decide();
		cr_assert_leq(d.swap, vm.resident - (d.swap ? entitlement : 0));
		cr_assert_leq(d.balloon, vm.ballooned + STEP);
		to = d.balloon > vm.balloon_target ? 1 :
		     d.balloon < vm.balloon_target ? -1 :
						     way;
		turns += way && to != way;
		way = to;
		tick(driver);
	}
	return turns;
}

static void converged(void)
{
	cr_assert_leq(vm.resident, entitlement + BAND, "%llu MiB held",
		      (unsigned long long)(vm.resident / MIB));
	cr_assert_geq(vm.resident + BAND, entitlement);
}

Test(balloon, a_good_driver_brings_all_of_it_and_nothing_is_swapped)
{
	cr_assert_eq(run(GOOD, 10), 0);
	converged();
	cr_assert_eq(vm.swapped, 0);
	cr_assert_eq(run(GOOD, 100), 0);
}

Test(balloon, a_slow_driver_brings_what_it_can_and_swap_the_rest)
{
	/* Down at the end, by what was swapped meanwhile. */
	cr_assert_leq(run(SLOW, 40), 1);
	converged();
	cr_assert_gt(vm.ballooned, 500 * MIB);
	cr_assert_gt(vm.swapped, 50 * MIB);
	cr_assert_eq(run(SLOW, 100), 0);
	converged();
}

Test(balloon, a_driver_that_gets_stuck_is_made_up_for_by_swap)
{
	run(STUCK, 60);
	converged();
	cr_assert_leq(vm.ballooned, 300 * MIB);
	cr_assert_leq(run(STUCK, 100), 1);
	converged();
}

Test(balloon, a_driver_that_lies_is_found_out_by_what_the_vm_holds)
{
	run(LYING, 6);
	decide();
	cr_assert_eq(d.why, OVC_POLICY_DRIVER_LIES);
	run(LYING, 6);
	converged();
	cr_assert_eq(vm.ballooned, 0);
}

Test(balloon, a_dead_driver_costs_its_time_and_then_all_is_swapped)
{
	run(DEAD, 5);
	cr_assert_eq(vm.swapped, 0);
	run(DEAD, 1);
	cr_assert_gt(vm.swapped, 0);
	run(DEAD, 6);
	converged();
}

Test(balloon, each_driver_follows_the_entitlement_down_and_up_again)
{
	for (int driver = GOOD; driver <= DEAD; driver++) {
		prepare();
		run(driver, 60);
		entitlement = 1024 * MIB;
		run(driver, 100);
		cr_assert_leq(vm.resident, entitlement + BAND);
		entitlement = 3072 * MIB;
		run(driver, driver == STUCK ? 300 : 100);
		cr_assert_leq(vm.ballooned, BAND, "driver %d keeps %llu MiB",
			      driver, (unsigned long long)(vm.ballooned / MIB));
		cr_assert_eq(d.balloon, 0);
	}
}
