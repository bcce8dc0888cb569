/* SPDX-License-Identifier: MIT */
/*
 * How regions end while there is not memory for all: other guests go on, the budget is
 * kept, and nothing reads as zero that was not.
 */
#include "world.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define OURS (192 * MIB) /* of the VM that goes */
#define OTHERS \
	(288 * MIB) /* more than there is: it needs reclaim all the time */
#define BUDGET (224 * MIB)
#define STALL  300 /* ms; before, it was half a second and more */

struct other {
	char *mem;
	struct ovc_vm *vm;
	atomic_bool stop;
	_Atomic uint64_t touched, worst;
	bool wrong;
	pthread_t thread;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Looks at all it has and writes it, again and again; how long did the slowest page take? */
static void *run_other(void *arg)
{
	struct other *o = arg;

	for (uint64_t i = 0; !o->stop; i = (i + 1) % (OTHERS / PAGE)) {
		uint64_t t = now_ms();

		o->wrong |= !is_page(o->mem + i * PAGE, i, 2);
		make_page(o->mem + i * PAGE, i, 2);
		t = now_ms() - t;
		if (t > o->worst)
			o->worst = t;
		o->touched++;
	}
	return NULL;
}

static void start_other(struct world *w, struct other *o)
{
	struct ovc_vm_options v = { .size = sizeof(v), .swap = swap_dir() };
	struct ovc_region_options r = { .size = sizeof(r),
					.len = OTHERS,
					.gpa = (uint64_t)1 << 40 };

	o->mem = mmap(NULL, OTHERS, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r.addr = o->mem;
	cr_assert_eq(ovc_vm_create(w->host, &v, &o->vm), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_add_region(o->vm, &r), 0, "%s", ovc_error());
	fill_pages(o->mem, 0, OTHERS / PAGE, 2);
	cr_assert_eq(pthread_create(&o->thread, NULL, run_other, o), 0);
}

static void stop_other(struct other *o)
{
	o->stop = true;
	pthread_join(o->thread, NULL);
	cr_assert(!o->wrong);
}

static void open_both(struct world *w, struct other *o, struct way way)
{
	world_open(w,
		   (struct plan){ .way = way, .budget = BUDGET, .len = OURS });
	fill_pages(w->mem, 0, OURS / PAGE, 1);
	start_other(w, o);
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, OURS), 0);
	cr_assert_geq(vm_stats(w).swapped, OURS - 8 * MIB);
}

TestSuite(removal, .timeout = 120);

ParameterizedTestParameters(removal, others_go_on_while_a_region_comes_back)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, removal,
		  others_go_on_while_a_region_comes_back)
{
	struct other o = { 0 };
	struct world w;
	uint64_t before;

	open_both(&w, &o, *way);
	before = o.touched;
	o.worst = 0;
	cr_assert_eq(ovc_vm_remove_region(w.vm, w.mem, 0), 0, "%s",
		     ovc_error());
	cr_expect_leq(o.worst, STALL * PATIENCE, "a page took %lu ms",
		      (unsigned long)o.worst);
	cr_expect_gt(o.touched, before);
	cr_assert_leq(host_stats(&w).used, BUDGET);
	stop_other(&o);
	cr_assert_eq(check_pages(w.mem, 0, OURS / PAGE, 1), -1);
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(removal, others_go_on_while_a_region_is_thrown_away)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, removal,
		  others_go_on_while_a_region_is_thrown_away)
{
	struct other o = { 0 };
	struct world w;

	open_both(&w, &o, *way);
	o.worst = 0;
	cr_assert_eq(ovc_vm_remove_region(w.vm, w.mem, OVC_THROW_AWAY), 0);
	cr_expect_leq(o.worst, STALL * PATIENCE, "a page took %lu ms",
		      (unsigned long)o.worst);
	stop_other(&o);
	world_close(&w, OVC_THROW_AWAY);
}

/* More than the budget is never in memory for it. */
Test(removal, a_region_that_does_not_fit_is_refused_and_stays)
{
	struct world w;

	world_open(&w, (struct plan){ .budget = 24 * MIB, .len = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	expect_error("remove", ovc_vm_remove_region(w.vm, w.mem, 0), -ENOMEM,
		     "THROW_AWAY");
	cr_assert_eq(vm_stats(&w).regions, 1);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 1), -1);
	cr_assert_eq(ovc_host_set_budget(w.host, 80 * MIB), 0);
	cr_assert_eq(ovc_vm_remove_region(w.vm, w.mem, 0), 0, "%s",
		     ovc_error());
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 1), -1);
	world_close(&w, 0);
}

Test(removal, the_limit_of_a_vm_holds_while_its_region_comes_back)
{
	struct world w;

	world_open(&w, (struct plan){ .len = 32 * MIB, .limit = 8 * MIB });
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	expect_error("remove", ovc_vm_remove_region(w.vm, w.mem, 0), -ENOMEM,
		     "limit");
	cr_assert_eq(ovc_vm_set_limit(w.vm, 0), 0);
	cr_assert_eq(ovc_vm_remove_region(w.vm, w.mem, 0), 0);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 1), -1);
	world_close(&w, 0);
}

/* What the host's end had no room for is poisoned; never is it zeros. */
static void check_end(const struct world *w, uint64_t budget)
{
	uint64_t right = 0, lost = 0;

	for (uint64_t i = 0; i < w->len / PAGE; i++) {
		if (touch_signal(w->mem + i * PAGE, NULL, NULL))
			lost++;
		else if (is_page(w->mem + i * PAGE, i, 1))
			right++;
	}
	cr_assert_eq(right + lost, w->len / PAGE, "%lu right, %lu lost",
		     (unsigned long)right, (unsigned long)lost);
	cr_assert_leq(right * PAGE, budget);
	cr_assert_geq(right * PAGE, budget / 3);
}

ParameterizedTestParameters(removal, the_end_of_a_host_keeps_the_budget)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, removal, the_end_of_a_host_keeps_the_budget)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 24 * MIB,
				      .len = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	ovc_host_destroy(&w.host);
	check_end(&w, 24 * MIB);
	munmap(w.mem, w.len);
}

ParameterizedTestParameters(removal, the_end_of_a_vm_keeps_the_budget)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, removal, the_end_of_a_vm_keeps_the_budget)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 24 * MIB,
				      .len = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	ovc_vm_destroy(&w.vm, 0);
	check_end(&w, 24 * MIB);
	ovc_host_destroy(&w.host);
	munmap(w.mem, w.len);
}
