/* SPDX-License-Identifier: MIT */
/*
 * The host's states (lib/policy/pressure.c): every threshold, both ways, and what
 * else can raise them; the settings (lib/policy/options.c) and words (names.c).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "policy/pressure.h"

#define BUDGET 10000000ull /* 1,000 bytes are one hundredth of a percent */
#define SECOND 1000000000ull

static struct ovc_pressure pressure;
static struct ovc_policy_options options;
static struct ovc_policy_snapshot snapshot;

static void prepare(void)
{
	pressure = (struct ovc_pressure){ 0 };
	struct ovc_policy_options round =
		(struct ovc_policy_options){ .size = sizeof(round),
					     .clear = 600,
					     .soft = 400,
					     .hard = 200,
					     .low = 100,
					     .hysteresis = 100 };

	cr_assert_eq(ovc_policy_options_fill(&round, &options), 0);
	snapshot = (struct ovc_policy_snapshot){
		.size = sizeof(snapshot),
		.now = SECOND,
		.budget = BUDGET,
		.used = BUDGET / 2,
		.mem_available = OVC_POLICY_UNKNOWN,
		.mem_total = OVC_POLICY_UNKNOWN,
		.psi_some = OVC_POLICY_UNKNOWN_RATE,
		.psi_full = OVC_POLICY_UNKNOWN_RATE,
	};
}

TestSuite(pressure, .init = prepare);

static enum ovc_policy_state update(void)
{
	ovc_pressure_update(&pressure, &snapshot, &options);
	return pressure.state;
}

/* With so many hundredths of a percent of the budget free. */
static enum ovc_policy_state with_free(unsigned share)
{
	snapshot.used = BUDGET - share * 1000ull;
	return update();
}

/* ---- thresholds and hysteresis ------------------------------------------- */

Test(pressure, each_state_is_entered_below_its_threshold)
{
	cr_assert_eq(with_free(10000), OVC_POLICY_HIGH);
	cr_assert_eq(with_free(600), OVC_POLICY_HIGH);
	cr_assert_eq(with_free(599), OVC_POLICY_CLEAR);
	cr_assert_eq(with_free(400), OVC_POLICY_CLEAR);
	cr_assert_eq(with_free(399), OVC_POLICY_SOFT);
	cr_assert_eq(with_free(200), OVC_POLICY_SOFT);
	cr_assert_eq(with_free(199), OVC_POLICY_HARD);
	cr_assert_eq(with_free(100), OVC_POLICY_HARD);
	cr_assert_eq(with_free(99), OVC_POLICY_LOW);
	cr_assert_eq(pressure.cause, OVC_POLICY_BY_BUDGET);
}

Test(pressure, each_state_is_left_a_percent_above_its_threshold)
{
	cr_assert_eq(with_free(0), OVC_POLICY_LOW);
	cr_assert_eq(with_free(199), OVC_POLICY_LOW);
	cr_assert_eq(with_free(200), OVC_POLICY_HARD);
	cr_assert_eq(with_free(299), OVC_POLICY_HARD);
	cr_assert_eq(with_free(300), OVC_POLICY_SOFT);
	cr_assert_eq(with_free(499), OVC_POLICY_SOFT);
	cr_assert_eq(with_free(500), OVC_POLICY_CLEAR);
	cr_assert_eq(with_free(699), OVC_POLICY_CLEAR);
	cr_assert_eq(with_free(700), OVC_POLICY_HIGH);
}

Test(pressure, going_to_and_fro_at_a_threshold_changes_the_state_once)
{
	int changes = 0;
	enum ovc_policy_state before = with_free(450);

	for (int i = 0; i < 100; i++) {
		enum ovc_policy_state state = with_free(i % 2 ? 390 : 480);

		changes += state != before;
		before = state;
	}
	cr_assert_eq(changes, 1);
}

Test(pressure, a_jump_passes_the_states_between)
{
	cr_assert_eq(with_free(50), OVC_POLICY_LOW);
	cr_assert_eq(with_free(5000), OVC_POLICY_HIGH);
	cr_assert_eq(with_free(50), OVC_POLICY_LOW);
	cr_assert_eq(with_free(450), OVC_POLICY_SOFT);
}

Test(pressure, more_used_than_the_budget_is_low)
{
	snapshot.used = 2 * BUDGET;
	cr_assert_eq(update(), OVC_POLICY_LOW);
}

Test(pressure, thresholds_are_what_they_are_set_to)
{
	options.clear = 4000;
	options.soft = 3000;
	options.hard = 2000;
	options.low = 1000;
	options.hysteresis = 10;
	cr_assert_eq(with_free(3999), OVC_POLICY_CLEAR);
	cr_assert_eq(with_free(2999), OVC_POLICY_SOFT);
	cr_assert_eq(with_free(1999), OVC_POLICY_HARD);
	cr_assert_eq(with_free(999), OVC_POLICY_LOW);
	cr_assert_eq(with_free(1010), OVC_POLICY_HARD);
}

/* ---- what else raises the state ------------------------------------------ */

Test(pressure, the_machine_s_memory_raises_it_by_the_same_thresholds)
{
	static const enum ovc_policy_state state[] = {
		OVC_POLICY_HIGH, OVC_POLICY_CLEAR, OVC_POLICY_SOFT,
		OVC_POLICY_HARD, OVC_POLICY_LOW,
	};
	static const uint64_t available[] = { 600, 599, 399, 199, 99 };

	snapshot.mem_total = 10000;
	for (int i = 0; i < 5; i++) {
		snapshot.mem_available = available[i];
		cr_assert_eq(update(), state[i]);
		if (i)
			cr_assert_eq(pressure.cause, OVC_POLICY_BY_AVAILABLE);
	}
	snapshot.mem_available = 199;
	cr_assert_eq(update(), OVC_POLICY_LOW);
	snapshot.mem_available = 200;
	cr_assert_eq(update(), OVC_POLICY_HARD);
}

Test(pressure, the_worse_of_budget_and_machine_counts)
{
	snapshot.mem_total = 10000;
	snapshot.mem_available = 450;
	cr_assert_eq(with_free(150), OVC_POLICY_HARD);
	cr_assert_eq(pressure.cause, OVC_POLICY_BY_BUDGET);
	snapshot.mem_available = 50;
	cr_assert_eq(with_free(150), OVC_POLICY_LOW);
	cr_assert_eq(pressure.cause, OVC_POLICY_BY_AVAILABLE);
}

Test(pressure, stalls_of_some_tasks_make_it_soft_until_they_are_half)
{
	snapshot.psi_some = 999;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	snapshot.psi_some = 1000;
	cr_assert_eq(update(), OVC_POLICY_SOFT);
	cr_assert_eq(pressure.cause, OVC_POLICY_BY_PSI_SOME);
	snapshot.psi_some = 500;
	cr_assert_eq(update(), OVC_POLICY_SOFT);
	snapshot.psi_some = 499;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
}

Test(pressure, stalls_of_all_tasks_make_it_hard_until_they_are_half)
{
	snapshot.psi_full = 499;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	snapshot.psi_full = 500;
	cr_assert_eq(update(), OVC_POLICY_HARD);
	cr_assert_eq(pressure.cause, OVC_POLICY_BY_PSI_FULL);
	snapshot.psi_full = 250;
	cr_assert_eq(update(), OVC_POLICY_HARD);
	snapshot.psi_full = 249;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
}

Test(pressure, stalls_that_never_counted_do_not_keep_a_state)
{
	snapshot.psi_some = 800;
	cr_assert_eq(with_free(300), OVC_POLICY_SOFT);
	cr_assert_eq(with_free(5000), OVC_POLICY_HIGH);
}

Test(pressure, stalls_of_the_own_cgroup_count_whatever_the_machine_has)
{
	snapshot.mem_total = 4 * BUDGET;
	snapshot.mem_available = 3 * BUDGET;
	snapshot.cgroup_psi_some = 999;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	snapshot.cgroup_psi_some = 1000;
	cr_assert_eq(update(), OVC_POLICY_SOFT);
	snapshot.cgroup_psi_full = 500;
	cr_assert_eq(update(), OVC_POLICY_HARD);
	snapshot.cgroup_psi_some = snapshot.cgroup_psi_full =
		OVC_POLICY_UNKNOWN_RATE;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
}

Test(pressure, a_snapshot_without_a_cgroup_is_taken)
{
	snapshot.size = offsetof(struct ovc_policy_snapshot, cgroup_limit);
	snapshot.cgroup_psi_some = snapshot.cgroup_psi_full = 9000;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
}

Test(pressure, stalls_do_not_count_while_a_quarter_of_the_machine_is_available)
{
	snapshot.psi_some = snapshot.psi_full = 9000;
	snapshot.mem_total = 4 * BUDGET;
	snapshot.mem_available = BUDGET + 1;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	cr_assert_eq(pressure.ceiling, 0);
	snapshot.mem_available = BUDGET;
	cr_assert_eq(update(), OVC_POLICY_HARD);
	cr_assert_eq(pressure.cause, OVC_POLICY_BY_PSI_FULL);
	snapshot.mem_available = BUDGET + 1;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
}

Test(pressure, stalls_do_not_lower_what_the_budget_says)
{
	snapshot.psi_some = 5000;
	cr_assert_eq(with_free(50), OVC_POLICY_LOW);
	cr_assert_eq(pressure.cause, OVC_POLICY_BY_BUDGET);
}

Test(pressure, what_is_unknown_or_impossible_is_ignored)
{
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	snapshot.mem_available = 0;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	snapshot.mem_total = 0;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	snapshot.mem_available = OVC_POLICY_UNKNOWN;
	snapshot.mem_total = 10000;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	snapshot.mem_available = 20000;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
	snapshot.psi_some = snapshot.psi_full = 9000;
	options.psi_some = options.psi_full = UINT32_MAX;
	cr_assert_eq(update(), OVC_POLICY_HIGH);
}

/* ---- what VMs may hold ---------------------------------------------------- */

static uint64_t capacity(void)
{
	return ovc_pressure_capacity(&pressure, &snapshot, &options);
}

Test(pressure, five_percent_stay_free_and_overhead_is_nobody_s)
{
	cr_assert_eq(capacity(), BUDGET / 100 * 95);
	snapshot.overhead = 1000;
	snapshot.shared = 234;
	cr_assert_eq(capacity(), BUDGET / 100 * 95 - 1234);
	snapshot.overhead = 2 * BUDGET;
	cr_assert_eq(capacity(), 0);
}

/* Of 20 million others use 15; we have 1 and 4 are available. */
Test(pressure, the_machine_bounds_it_by_what_others_leave)
{
	snapshot.mem_total = 2 * BUDGET;
	snapshot.mem_available = 4000000;
	snapshot.used = 1000000;
	cr_assert_eq(capacity(), 5000000 - 1000000);
	/* What we give back becomes available: nothing changes. */
	snapshot.mem_available = 4500000;
	snapshot.used = 500000;
	cr_assert_eq(capacity(), 5000000 - 1000000);
}

Test(pressure, stalls_press_the_ceiling_down_and_it_comes_back_as_slowly)
{
	uint64_t before = snapshot.used;

	snapshot.psi_some = 2000;
	update();
	cr_assert_eq(capacity(), before - before / 64 - 1);
	for (int i = 0; i < 9; i++) {
		before = capacity();
		snapshot.now += 9 * SECOND;
		update();
		cr_assert_eq(capacity(), before);
		snapshot.now += SECOND;
		update();
		cr_assert_eq(capacity(), before - before / 64 - 1);
	}
	snapshot.psi_some = 0;
	for (int i = 0; i < 100; i++) {
		before = capacity();
		snapshot.now += 10 * SECOND;
		update();
		cr_assert_geq(capacity(), before);
		cr_assert_leq(capacity(), before + before / 64 + 1);
	}
	cr_assert_eq(capacity(), BUDGET / 100 * 95);
}

Test(pressure, sharing_is_harder_from_clear_on)
{
	cr_assert_eq(ovc_pressure_share_factor(OVC_POLICY_HIGH), 1);
	for (int s = OVC_POLICY_CLEAR; s <= OVC_POLICY_LOW; s++)
		cr_assert_gt(ovc_pressure_share_factor(s), 1);
}

/* ---- settings ------------------------------------------------------------- */

#define refused(field, value)                                             \
	do {                                                              \
		struct ovc_policy_options o = { .size = sizeof(o) }, out; \
		o.field = (value);                                        \
		cr_assert_eq(ovc_policy_options_fill(&o, &out), -EINVAL,  \
			     "%s = %s", #field, #value);                  \
	} while (0)

#define taken(field, value)                                               \
	do {                                                              \
		struct ovc_policy_options o = { .size = sizeof(o) }, out; \
		o.field = (value);                                        \
		cr_assert_eq(ovc_policy_options_fill(&o, &out), 0);       \
		cr_assert_eq(out.field, (value));                         \
	} while (0)

Test(pressure, zeros_are_the_documented_defaults)
{
	struct ovc_policy_options o = { .size = sizeof(o) }, out;

	cr_assert_eq(ovc_policy_options_fill(&o, &out), 0);
	cr_assert_eq(out.idle_tax, 7500);
	cr_assert_eq(out.clear, 300);
	cr_assert_eq(out.soft, 200);
	cr_assert_eq(out.hard, 100);
	cr_assert_eq(out.low, 50);
	cr_assert_eq(out.hysteresis, 50);
	cr_assert_eq(out.balloon_cap, 6500);
	cr_assert_eq(out.samples, 100);
	cr_assert_eq(out.sample_period, 30 * SECOND);
	cr_assert_eq(ovc_policy_options_fill(NULL, &o), 0);
	cr_assert_eq(memcmp(&out, &o, sizeof(out)), 0);
}

Test(pressure, thresholds_out_of_order_are_refused)
{
	refused(clear, 200);
	refused(soft, 300);
	refused(soft, 100);
	refused(hard, 200);
	refused(hard, 50);
	refused(low, 100);
	taken(clear, 201);
	taken(soft, 299);
	taken(soft, 101);
	taken(hard, 51);
	taken(low, 99);
}

Test(pressure, settings_out_of_range_are_refused)
{
	refused(size, sizeof(options) - 1);
	refused(clear, 10001);
	refused(hysteresis, 2001);
	refused(idle_tax, 9901);
	refused(psi_some, 10001);
	refused(psi_full, 10001);
	refused(balloon_cap, 9001);
	refused(balloon_step, 9);
	refused(dead_band, 1001);
	refused(guest_floor, 9001);
	refused(balloon_timeout, UINT64_MAX);
	refused(samples, 9);
	refused(samples, 100001);
	refused(reserved, 1);
	taken(idle_tax, 9900);
	taken(idle_tax, OVC_POLICY_NO_TAX);
	taken(psi_some, UINT32_MAX);
}

Test(pressure, every_decision_has_a_word)
{
	for (uint32_t i = 0; i <= OVC_POLICY_LOW; i++)
		cr_assert_not_null(ovc_policy_state_name(i));
	for (uint32_t i = 0; i <= OVC_POLICY_BY_PSI_FULL; i++)
		cr_assert_not_null(ovc_policy_cause_name(i));
	for (uint32_t i = 0; i <= OVC_POLICY_BY_PART; i++)
		cr_assert_not_null(ovc_policy_bound_name(i));
	for (uint32_t i = 0; i <= OVC_POLICY_NO_SWAP; i++)
		cr_assert_not_null(ovc_policy_why_name(i));
	cr_assert_null(ovc_policy_state_name(OVC_POLICY_LOW + 1));
	cr_assert_null(ovc_policy_cause_name(OVC_POLICY_BY_PSI_FULL + 1));
	cr_assert_null(ovc_policy_bound_name(OVC_POLICY_BY_PART + 1));
	cr_assert_null(ovc_policy_why_name(OVC_POLICY_NO_SWAP + 1));
	cr_assert_str_eq(ovc_policy_why_name(OVC_POLICY_DRIVER_LATE),
			 "driver-late");
}
