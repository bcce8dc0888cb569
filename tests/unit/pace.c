/* SPDX-License-Identifier: MIT */
/* A share of the CPU that the process gets (lib/policy/pace.c). */
#include <criterion/criterion.h>
#include "policy/pace.h"

#define MS 1000000u

static uint64_t sleep_of(struct ovc_pace p, unsigned percent)
{
	return ovc_pace_sleep(&p, 2 * MS, percent) / MS;
}

Test(pace, an_idle_process_gives_its_percent_of_a_cpu)
{
	struct ovc_pace idle = { .wall = 40 * MS,
				 .process = 2 * MS,
				 .ran = 2 * MS };

	cr_assert_eq(sleep_of(idle, 5), 38);
	cr_assert_eq(sleep_of(idle, 50), 2);
	cr_assert_eq(sleep_of(idle, 100), 0);
	idle.waited = idle.ran / 10; /* as good as nothing */
	cr_assert_eq(sleep_of(idle, 5), 38);
}

Test(pace, a_throttled_process_gives_its_percent_of_what_it_gets)
{
	struct ovc_pace half = { .wall = 100 * MS,
				 .process = 50 * MS,
				 .ran = 2 * MS,
				 .waited = 40 * MS };

	cr_assert_eq(sleep_of(half, 5), 78);
	cr_assert_eq(sleep_of(half, 100), 2); /* the other half */
}

Test(pace, on_a_busy_machine_an_idle_process_gives_of_what_it_could_get)
{
	struct ovc_pace busy = { .wall = 40 * MS,
				 .process = 2 * MS,
				 .ran = 2 * MS,
				 .waited = 6 * MS };

	cr_assert_eq(sleep_of(busy, 5), 158);
}

Test(pace, a_process_of_many_cpus_gives_of_one)
{
	struct ovc_pace many = { .wall = 40 * MS,
				 .process = 160 * MS,
				 .ran = 2 * MS,
				 .waited = 2 * MS };

	cr_assert_eq(sleep_of(many, 5), 38);
}

Test(pace, a_sleep_ends_whatever_was_seen)
{
	struct ovc_pace none = { .wall = UINT64_MAX, .waited = UINT64_MAX };
	struct ovc_pace zero = { 0 };

	cr_assert_eq(sleep_of(none, 5), 1998);
	cr_assert_eq(sleep_of(zero, 5), 38);
}
