/* SPDX-License-Identifier: MIT */
/*
 * How long a page that must come in waits for memory: as long as some is freed, though
 * others were faster to take it, and no longer than is said when none is.
 */
#include "core/budget.h"
#include "core/internal.h"
#include "in/range.h"
#include "support.h"

TestSuite(waits, .timeout = 60 * PATIENCE);

#define SECOND 1000000000ull
#define SEED   1

static struct world w;
static uint64_t taken; /* pages of the budget, by nobody */

/* A page in swap, and a budget in which there is no room for it. */
static struct ovc_region *open_full(void)
{
	world_open(&w, (struct plan){ .len = MIB });
	fill_pages(w.mem, 0, MIB / PAGE, SEED);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	taken = atomic_load(&w.host->allowed) - atomic_load(&w.host->used);
	ovc_charge_force(w.vm, taken);
	return w.vm->regions[0];
}

static void close_full(void)
{
	cr_expect_eq(check_pages(w.mem, 0, MIB / PAGE, SEED), -1);
	world_close(&w, 0);
}

/* For two seconds and a half others take all that is freed. */
static void *free_late(void *arg)
{
	for (unsigned i = 0; i < 10; i++) {
		usleep(250000);
		OVC_COUNT(w.vm, freed, 1);
	}
	ovc_uncharge(w.host, taken);
	return arg;
}

Test(waits, a_page_waits_as_long_as_memory_is_freed)
{
	struct ovc_region *r = open_full();
	pthread_t thread;

	pthread_create(&thread, NULL, free_late, NULL);
	cr_expect_eq(ovc_range_bring_in(r, 0, 1, false, SECOND), 0);
	pthread_join(thread, NULL);
	close_full();
}

Test(waits, a_page_does_not_wait_for_memory_that_nobody_frees)
{
	struct ovc_region *r = open_full();
	uint64_t since = ovc_now_ns();

	cr_expect_eq(ovc_range_bring_in(r, 0, 1, false, SECOND), -ENOMEM);
	cr_expect_geq(ovc_now_ns() - since, SECOND);
	cr_expect_lt(ovc_now_ns() - since, 5 * SECOND * PATIENCE);
	ovc_uncharge(w.host, taken);
	close_full();
}
