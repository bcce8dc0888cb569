/* SPDX-License-Identifier: MIT */
/*
 * Positions of the staging ring, and places of pages that are held back, are used again by
 * other VMs. A thread that is preempted between two steps of a discard, or of a region's
 * removal, must not take another VM's slot there when it goes on. Nor must a fault that is
 * served late make a page lost of a region that has gone.
 *
 * The library stops such a thread where the test wants it (sys/fail.h), and other threads
 * do what they could do meanwhile. Each VM has a swap file of its own: a slot that is
 * taken from the other is one that is freed twice, or used by two.
 */
#include <semaphore.h>

#include "core/control.h"
#include "core/internal.h"
#include "core/map.h"
#include "in/range.h"
#include "out/reclaim.h"
#include "out/staging.h"
#include "support.h"
#include "sys/fail.h"

TestSuite(positions, .timeout = 60);

#define SEED_A 1
#define SEED_B 2

/* ---- a thread that is stopped --------------------------------------------- */

static struct {
	enum ovc_preempt at;
	sem_t stopped, go_on;
	_Atomic uint64_t pos;
	pthread_t thread;
} victim;

static _Thread_local bool is_victim;
static atomic_bool any_thread; /* is the victim: the next that comes there */

static void stop_here(enum ovc_preempt at, uint64_t pos)
{
	if (at != victim.at ||
	    (!is_victim && !atomic_exchange(&any_thread, false)))
		return;
	is_victim = false;
	atomic_store(&victim.pos, pos);
	sem_post(&victim.stopped);
	sem_wait(&victim.go_on);
}

/* Starts it, and waits until it is stopped: false, it never was. */
static bool start_victim(enum ovc_preempt at, void *(*fn)(void *), void *arg)
{
	struct timespec until;

	victim.at = at;
	sem_init(&victim.stopped, 0, 0);
	sem_init(&victim.go_on, 0, 0);
	ovc_sys_preempt_set(stop_here);
	cr_assert_eq(pthread_create(&victim.thread, NULL, fn, arg), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	return !sem_timedwait(&victim.stopped, &until);
}

static void finish_victim(void)
{
	sem_post(&victim.go_on);
	pthread_join(victim.thread, NULL);
	ovc_sys_preempt_set(NULL);
}

/* ---- two VMs -------------------------------------------------------------- */

struct two {
	struct world a;
	struct ovc_vm *b;
	char *mem; /* B's */
	struct ovc_region *ra, *rb;
};

static void open_two(struct two *t, enum kind kind, size_t len)
{
	struct ovc_vm_options vo = { .size = sizeof(vo),
				     .name = "B",
				     .swap = swap_dir() };
	struct ovc_region_options ro = { .size = sizeof(ro),
					 .len = len,
					 .gpa = (uint64_t)1 << 40 };

	world_open(&t->a, (struct plan){ .way = { .kind = kind },
					 .len = len,
					 .budget = 512 * MIB });
	if (!(host_stats(&t->a).features & OVC_FEATURE_WP_ASYNC)) {
		world_close(&t->a, 0);
		cr_skip_test("the kernel does not tell which pages are clean");
	}
	cr_assert_eq(ovc_vm_create(t->a.host, &vo, &t->b), 0, "%s",
		     ovc_error());
	t->mem = map_memory(kind, len, &ro.memfd);
	ro.addr = t->mem;
	cr_assert_eq(ovc_vm_add_region(t->b, &ro), 0, "%s", ovc_error());
	fill_pages(t->a.mem, 0, len / PAGE, SEED_A);
	fill_pages(t->mem, 0, len / PAGE, SEED_B);
	cr_assert_eq(ovc_vm_reclaim(t->a.vm, t->a.mem, len), 0);
	cr_assert_eq(ovc_vm_reclaim(t->b, t->mem, len), 0);
	t->ra = t->a.vm->regions[0];
	t->rb = t->b->regions[0];
}

static void close_two(struct two *t)
{
	ovc_vm_destroy(&t->b, OVC_THROW_AWAY);
	world_close(&t->a, OVC_THROW_AWAY);
}

static uint64_t word(const struct ovc_region *r, uint64_t idx)
{
	return atomic_load(&r->words[idx]);
}

/* With control: what can be settled is; a ring that is empty begins again. */
static void settle_all(struct ovc_host *host)
{
	for (unsigned i = 0; i < 100 && host->staging.oldest; i++) {
		ovc_settle(host->reclaim, 1000);
		/* Nothing is written: what is staged is clean. */
		ovc_settle_tails(host->reclaim);
		ovc_staging_collect(host);
		usleep(1000);
	}
}

/* With control: stages a page that came in clean. Returns its position. */
static uint64_t stage_clean(struct ovc_region *r, uint64_t idx)
{
	uint64_t w;

	/* Its guest goes on a moment before its fault is finished. */
	for (unsigned i = 0; ovc_word_transient(word(r, idx)); i++)
		ovc_nap(i);
	w = word(r, idx);
	cr_assert_eq(ovc_word_state(w), OVC_CLEAN, "%s",
		     ovc_state_name(ovc_word_state(w)));
	cr_assert_eq(ovc_stage_pages(r, &idx, 1), 1);
	w = word(r, idx);
	cr_assert_eq(ovc_word_state(w), OVC_STAGED);
	return ovc_word_value(w);
}

/* ---- discard ---------------------------------------------------------------- */

static void *discard_first(void *arg)
{
	struct two *t = arg;

	is_victim = true;
	cr_expect_eq(ovc_range_discard(t->ra, 0, 1), 0);
	return NULL;
}

ParameterizedTestParameters(
	positions, a_discard_that_is_late_leaves_the_next_page_its_slot)
{
	static enum kind kinds[] = { ANON, MEMFD };

	return cr_make_param_array(enum kind, kinds, 2);
}

ParameterizedTest(enum kind *kind, positions,
		  a_discard_that_is_late_leaves_the_next_page_its_slot)
{
	struct ovc_host *host;
	uint64_t pos, next, slot, used;
	struct two t;

	open_two(&t, *kind, MIB);
	host = t.a.host;
	cr_expect(is_page(t.a.mem, 0, SEED_A));
	cr_expect(is_page(t.mem, 0, SEED_B));
	ovc_control_lock(host);
	settle_all(host);
	pos = stage_clean(t.ra, 0);
	if (!start_victim(OVC_PREEMPT_DISCARD, discard_first, &t))
		cr_assert_fail("the discard was not stopped");
	cr_expect_eq(atomic_load(&victim.pos), pos);
	settle_all(host);
	used = ovc_swap_used(t.a.vm->swap);
	next = stage_clean(t.rb, 0);
	cr_expect_neq(next, pos, "the position is B's while A is at it");
	slot = atomic_load(&host->staging.entries[next].slot);
	cr_assert_neq(slot, OVC_NO_SLOT);
	finish_victim();
	cr_expect_eq(atomic_load(&host->staging.entries[next].slot), slot,
		     "B's slot was taken");
	cr_expect_eq(ovc_swap_used(t.a.vm->swap), used - 1);
	cr_expect_eq(ovc_word_state(word(t.ra, 0)), OVC_DOOMED);
	settle_all(host);
	cr_expect_eq(ovc_word_state(word(t.ra, 0)), OVC_EMPTY);
	cr_expect_null(host->staging.oldest);
	ovc_control_unlock(host);
	cr_expect_eq(check_pages(t.mem, 0, MIB / PAGE, SEED_B), -1);
	cr_expect(is_zero(t.a.mem));
	cr_expect_eq(check_pages(t.a.mem, 1, MIB / PAGE - 1, SEED_A), -1);
	close_two(&t);
}

/* Whether reclaim ends the page then, or a touch puts it back. */
Test(positions, the_slot_of_a_discarded_page_is_free_at_once)
{
	for (unsigned touched = 0; touched < 2; touched++) {
		struct ovc_host *host;
		uint64_t used;
		struct two t;

		open_two(&t, ANON, MIB);
		host = t.a.host;
		cr_expect(is_page(t.a.mem, 0, SEED_A));
		ovc_control_lock(host);
		settle_all(host);
		used = ovc_swap_used(t.a.vm->swap);
		stage_clean(t.ra, 0);
		cr_expect_eq(ovc_range_discard(t.ra, 0, 1), 0);
		cr_expect_eq(ovc_swap_used(t.a.vm->swap), used - 1);
		if (touched)
			cr_expect(is_zero(t.a.mem));
		else
			ovc_settle(host->reclaim, 1000);
		cr_expect_eq(ovc_swap_used(t.a.vm->swap), used - 1);
		ovc_control_unlock(host);
		close_two(&t);
	}
}

/* ---- pages that are held back ------------------------------------------------- */

#define LEN (64 * MIB)

static unsigned count_held(const struct two *t)
{
	const struct ovc_host *host = t->a.host;
	unsigned n = 0;

	for (unsigned i = 0; i < host->nr_faulters * OVC_HOLDS; i++)
		n += atomic_load(&host->holds[i].region) == t->ra;
	return n;
}

static void *remove_region(void *arg)
{
	struct two *t = arg;

	is_victim = true;
	cr_expect_eq(ovc_vm_remove_region(t->a.vm, t->a.mem, OVC_THROW_AWAY),
		     0);
	return NULL;
}

Test(positions, a_removal_that_is_late_leaves_what_is_held_back_its_slot)
{
	struct ovc_hold *hold;
	struct two t;
	uint64_t at;

	open_two(&t, ANON, LEN);
	/* Until some are held, and no fault thread is about to put them back. */
	at = LEN / PAGE / 4;
	cr_expect_eq(check_pages(t.a.mem, 0, at, SEED_A), -1);
	do {
		cr_expect(is_page(t.a.mem + at * PAGE, at, SEED_A));
		usleep(1000);
		ovc_host_quiesce(t.a.host);
	} while (!count_held(&t) && ++at < LEN / PAGE);
	cr_assert_gt(count_held(&t), 0);
	if (!start_victim(OVC_PREEMPT_DISCARD, remove_region, &t))
		cr_assert_fail("the removal was not stopped");
	hold = &t.a.host->holds[victim.pos - t.a.host->staging.cap];
	/* More windows than there are places, for all fault threads. */
	for (at = 0; at < LEN / PAGE; at++) {
		cr_assert(is_page(t.mem + at * PAGE, at, SEED_B));
		if (atomic_load(&hold->region) == t.rb &&
		    atomic_load(&hold->slot) != OVC_NO_SLOT)
			break;
	}
	cr_expect_eq(at, LEN / PAGE, "the place was used again at page %llu",
		     (unsigned long long)at);
	cr_expect_eq(atomic_load(&hold->region), t.ra);
	finish_victim();
	if (at < LEN / PAGE)
		cr_expect_neq(atomic_load(&hold->slot), OVC_NO_SLOT,
			      "B's slot was taken");
	else
		cr_expect_null(atomic_load(&hold->region));
	cr_expect_eq(check_pages(t.mem, 0, LEN / PAGE, SEED_B), -1);
	cr_expect_eq(vm_stats(&t.a).swap_used, 0);
	close_two(&t);
}

/* ---- a fault that is late --------------------------------------------------------- */

static void *read_first(void *arg)
{
	struct world *w = arg;

	cr_expect(is_page(w->mem, 0, SEED_A));
	return NULL;
}

/* Another brought its page in since its message was read. */
ParameterizedTestParameters(positions, a_fault_that_is_late_costs_no_slot)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, positions,
		  a_fault_that_is_late_costs_no_slot)
{
	struct ovc_region *r;
	struct world w;

	world_open(&w, (struct plan){ .way = *way, .len = MIB });
	if (!(host_stats(&w).features & OVC_FEATURE_WP_ASYNC)) {
		world_close(&w, 0);
		cr_skip_test("the kernel does not tell which pages are clean");
	}
	if (host_stats(&w).fault_threads < 2) {
		world_close(&w, 0);
		cr_skip_test("one CPU: no other fault thread brings it in");
	}
	r = w.vm->regions[0];
	fill_pages(w.mem, 0, MIB / PAGE, SEED_A);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	atomic_store(&any_thread, true);
	if (!start_victim(OVC_PREEMPT_FAULT, read_first, &w))
		cr_assert_fail("the fault was not stopped");
	cr_assert_eq(ovc_range_bring_in(r, 0, 1, false, 0), 0);
	cr_assert_eq(ovc_word_state(word(r, 0)), OVC_CLEAN);
	finish_victim();
	ovc_host_quiesce(w.host);
	cr_expect_eq(ovc_word_state(word(r, 0)), OVC_CLEAN, "%s",
		     ovc_state_name(ovc_word_state(word(r, 0))));
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_expect_eq(vm_stats(&w).swap_out_bytes, w.len);
	world_close(&w, 0);
}

/* ---- a region that goes --------------------------------------------------------- */

static void *touch_first(void *arg)
{
	struct world *w = arg;

	cr_expect(is_zero(w->mem));
	return NULL;
}

static void *remove_it(void *arg)
{
	struct world *w = arg;

	cr_expect_eq(ovc_vm_remove_region(w->vm, w->mem, 0), 0, "%s",
		     ovc_error());
	return NULL;
}

/* Its message was read, its region has been unregistered since. */
ParameterizedTestParameters(positions, a_fault_that_is_late_loses_no_page)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, positions,
		  a_fault_that_is_late_loses_no_page)
{
	pthread_t remover;
	struct world w;

	world_open(&w, (struct plan){ .way = *way, .len = MIB });
	fill_pages(w.mem, 1, MIB / PAGE - 1, SEED_A);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	atomic_store(&any_thread, true);
	if (!start_victim(OVC_PREEMPT_FAULT, touch_first, &w))
		cr_assert_fail("the fault was not stopped");
	cr_assert_eq(pthread_create(&remover, NULL, remove_it, &w), 0);
	while (w.vm->nr_regions && !atomic_load(&w.vm->regions[0]->gone))
		usleep(1000);
	usleep(50000);
	finish_victim();
	pthread_join(remover, NULL);
	cr_expect_eq(world_count_events(&w, OVC_EVENT_POISONED), 0);
	cr_expect_eq(vm_stats(&w).poisoned, 0);
	cr_expect(is_zero(w.mem));
	cr_expect_eq(check_pages(w.mem, 1, MIB / PAGE - 1, SEED_A), -1);
	world_close(&w, 0);
}
