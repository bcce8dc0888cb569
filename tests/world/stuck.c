/* SPDX-License-Identifier: MIT */
/*
 * Guests that wait in vain, and budgets that are passed, each for a cause of its own: the
 * VMM is told each second, with that cause, until it ends.
 */
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "world.h"

TestSuite(stuck, .timeout = 120);

struct guest {
	struct world *w;
	pthread_t thread;
	char *mem;
	size_t len;
	unsigned rounds;
	bool locks; /* mlock() first, which touches all */
	atomic_bool done, stop;
	_Atomic uint64_t pages;
};

static void *run(void *arg)
{
	struct guest *g = arg;

	if (g->locks)
		lock_memory(g->mem, g->len);
	for (unsigned i = 0; i < g->rounds && !g->stop; i++)
		for (size_t at = 0; at < g->len && !g->stop; at += PAGE) {
			make_page(g->mem + at, at / PAGE, i);
			g->pages++;
		}
	g->done = true;
	return NULL;
}

static void start_with(struct guest *g, struct world *w, unsigned rounds,
		       bool locks)
{
	*g = (struct guest){ .w = w,
			     .mem = w->mem,
			     .len = w->len,
			     .rounds = rounds,
			     .locks = locks };
	cr_assert_eq(pthread_create(&g->thread, NULL, run, g), 0);
}

static void start(struct guest *g, struct world *w, unsigned rounds)
{
	start_with(g, w, rounds, false);
}

/* Waits for so many events of a type; fills in the last. */
static struct seen_event await(struct world *w, int type, unsigned least)
{
	struct seen_event last = { 0 };

	for (unsigned i = 0; i < 6000; i++) {
		if (world_count_events(w, type) >= least)
			break;
		usleep(5000);
	}
	cr_assert_geq(world_count_events(w, type), least,
		      "event %d is not told, or not again", type);
	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->nr_events; i++)
		if (w->events[i].type == type)
			last = w->events[i];
	pthread_mutex_unlock(&w->lock);
	return last;
}

static void expect(const struct seen_event *e, const struct world *w,
		   uint32_t cause, int error, const char *word)
{
	cr_assert_eq(e->cause, cause, "%u: %s", e->cause, e->text);
	cr_assert_eq(e->error, error, "%d: %s", e->error, e->text);
	cr_assert_eq(e->vm, w->vm);
	cr_assert(strstr(e->text, word), "\"%s\" does not say %s", e->text,
		  word);
}

/* More budget: the guest gets to its end. */
static void let_go(struct world *w, struct guest *g)
{
	cr_assert_not(g->done, "it did not wait");
	cr_assert_eq(ovc_host_set_budget(w->host, 256 * MIB), 0);
	pthread_join(g->thread, NULL);
	cr_assert_eq(check_pages(g->mem, 0, g->len / PAGE, g->rounds - 1), -1);
}

#define SHORT .budget = 32 * MIB, .len = 64 * MIB

Test(stuck, a_guest_without_swap)
{
	struct seen_event e;
	struct guest g;
	struct world w;

	world_open(&w, (struct plan){ SHORT, .no_swap = true });
	start(&g, &w, 1);
	e = await(&w, OVC_EVENT_STUCK, 3);
	expect(&e, &w, OVC_CAUSE_NO_SWAP, ENOMEM, "without swap");
	let_go(&w, &g);
	world_close(&w, OVC_THROW_AWAY);
}

/* Of its own limit: swap_size. */
Test(stuck, a_full_swap)
{
	struct seen_event e;
	struct guest g;
	struct world w;

	world_open(&w, (struct plan){ SHORT, .swap_size = 8 * MIB });
	start(&g, &w, 1);
	e = await(&w, OVC_EVENT_STUCK, 3);
	expect(&e, &w, OVC_CAUSE_SWAP_FULL, ENOSPC, "could not be written");
	let_go(&w, &g);
	world_close(&w, OVC_THROW_AWAY);
}

/* Beside another VM it lives on an equal share. That one goes, and it has all. */
Test(stuck, a_full_swap_takes_nothing_from_others_and_all_when_they_are_gone)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 24 * MIB };
	struct ovc_vm_options none = { .size = sizeof(none) };
	struct ovc_vm *other;
	struct guest g;
	struct world w;

	world_open(&w, (struct plan){ .budget = 64 * MIB,
				      .len = 63 * MIB,
				      .swap_size = 4 * MIB });
	cr_assert_eq(ovc_vm_create(w.host, &none, &other), 0);
	o.addr = map_memory(ANON, o.len, &(int){ 0 });
	cr_assert_eq(ovc_vm_add_region(other, &o), 0, "%s", ovc_error());
	fill_pages(o.addr, 0, o.len / PAGE, 7);
	start(&g, &w, 1);
	await(&w, OVC_EVENT_STUCK, 2);
	cr_assert_not(g.done, "it did not wait");
	cr_assert_eq(check_pages(o.addr, 0, o.len / PAGE, 7), -1);
	ovc_vm_destroy(&other, OVC_THROW_AWAY);
	pthread_join(g.thread, NULL);
	cr_assert_eq(check_pages(g.mem, 0, g.len / PAGE, 0), -1);
	world_close(&w, OVC_THROW_AWAY);
}

/* Which is tried again each second, and fails each time. */
Test(stuck, a_full_disk)
{
	const char *dir = own_tmpfs(8 * MIB);
	struct seen_event e;
	struct guest g;
	struct world w;

	world_open(&w, (struct plan){ SHORT, .swap = dir,
				      .vm_flags = OVC_VM_SPARSE_SWAP });
	start(&g, &w, 1);
	e = await(&w, OVC_EVENT_STUCK, 3);
	expect(&e, &w, OVC_CAUSE_SWAP_FULL, ENOSPC, "could not be written");
	let_go(&w, &g);
	world_close(&w, OVC_THROW_AWAY);
}

/* A disk that does not answer: its file system is frozen. */
Test(stuck, a_disk_that_does_not_answer)
{
	const char *dir = machine_mount("ext4", 200, "-q");
	unsigned told;
	uint64_t pages;
	struct seen_event e;
	struct guest g;
	struct world w;

	world_open(&w, (struct plan){ SHORT, .swap = dir });
	start(&g, &w, 1000000);
	for (unsigned i = 0; i < 2000 && g.pages < w.len / PAGE; i++)
		usleep(5000);
	machine_freeze(dir, 60);
	e = await(&w, OVC_EVENT_STUCK, 3);
	expect(&e, &w, OVC_CAUSE_SWAP_SILENT, ETIMEDOUT,
	       "has not answered for");
	machine_thaw(dir);
	/* It goes on, and so it is not told any more. */
	pages = g.pages;
	for (unsigned i = 0; i < 4000 && g.pages < pages + 1000; i++)
		usleep(5000);
	cr_assert_geq(g.pages, pages + 1000);
	told = world_count_events(&w, OVC_EVENT_STUCK);
	sleep(2);
	cr_assert_leq(world_count_events(&w, OVC_EVENT_STUCK), told + 1);
	g.stop = true;
	pthread_join(g.thread, NULL);
	world_close(&w, OVC_THROW_AWAY);
}

Test(stuck, pinned_memory)
{
	struct seen_event e;
	struct guest g;
	struct world w;

	world_open(&w, (struct plan){ SHORT, .no_swap = true });
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, 20 * MIB), 0, "%s", ovc_error());
	start(&g, &w, 1);
	e = await(&w, OVC_EVENT_STUCK, 2);
	expect(&e, &w, OVC_CAUSE_PINNED, ENOMEM, "20 MiB of guest pinned");
	cr_assert(strstr(e.text, "without swap"), "%s", e.text);
	let_go(&w, &g);
	world_close(&w, OVC_THROW_AWAY);
}

/* QEMU's mem-lock=on, after its memory was added. */
Test(stuck, locked_memory)
{
	struct seen_event e;
	struct guest g;
	struct world w;

	need_root();
	world_open(&w, (struct plan){ SHORT });
	start_with(&g, &w, 1, true);
	e = await(&w, OVC_EVENT_STUCK, 3);
	expect(&e, &w, OVC_CAUSE_UNTAKEN + OVC_UNTAKEN_LOCKED,
	       (int)vm_stats(&w).refused_with, "it is locked");
	cr_assert_neq(e.error, 0);
	let_go(&w, &g);
	unlock_memory(w.mem, w.len);
	world_close(&w, OVC_THROW_AWAY);
}

/* The host has room: it is the VM's own affair. */
Test(stuck, a_vm_at_its_own_limit)
{
	struct seen_event e;
	struct guest g;
	struct world w;

	world_open(&w, (struct plan){ .budget = 128 * MIB,
				      .len = 64 * MIB,
				      .limit = 16 * MIB,
				      .no_swap = true });
	start(&g, &w, 1);
	e = await(&w, OVC_EVENT_STUCK, 2);
	expect(&e, &w, OVC_CAUSE_NO_SWAP, ENOMEM, "at its limit");
	cr_assert_eq(ovc_vm_set_limit(w.vm, 0), 0);
	let_go(&w, &g);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_OVER_BUDGET), 0);
	world_close(&w, OVC_THROW_AWAY);
}

/* Memory that was there before: nobody waits, and it cannot go. */
Test(stuck, a_budget_that_is_passed)
{
	struct ovc_region_options r = { .size = sizeof(r), .len = 64 * MIB };
	unsigned told;
	struct seen_event e;
	struct world w;

	world_open(&w, (struct plan){ .budget = 32 * MIB,
				      .len = MIB,
				      .no_swap = true });
	r.addr = map_memory(ANON, r.len, &r.memfd);
	fill_pages(r.addr, 0, r.len / PAGE, 1);
	cr_assert_eq(ovc_vm_add_region(w.vm, &r), 0, "%s", ovc_error());
	e = await(&w, OVC_EVENT_OVER_BUDGET, 3);
	expect(&e, &w, OVC_CAUSE_NO_SWAP, ENOMEM, "than the budget allows");
	cr_assert_geq(e.len, 32 * MIB);
	cr_assert_leq(e.len, 40 * MIB);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_STUCK), 0);
	cr_assert_eq(ovc_host_set_budget(w.host, 256 * MIB), 0);
	told = world_count_events(&w, OVC_EVENT_OVER_BUDGET);
	sleep(2);
	cr_assert_leq(world_count_events(&w, OVC_EVENT_OVER_BUDGET), told + 1);
	world_close(&w, OVC_THROW_AWAY);
}

Test(stuck, a_guest_that_gets_on_is_not)
{
	struct guest g;
	struct world w;

	world_open(&w, (struct plan){ SHORT });
	start(&g, &w, 1000000);
	sleep(4);
	g.stop = true;
	pthread_join(g.thread, NULL);
	cr_assert_gt(vm_stats(&w).swap_out_bytes, 0);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_STUCK), 0);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_OVER_BUDGET), 0);
	world_close(&w, OVC_THROW_AWAY);
}
