/* SPDX-License-Identifier: MIT */
/*
 * Shared pages, mapped and not: what each call does to them, and what is left when
 * their region, their VM, or all VMs of their domain go.
 */
#include <fcntl.h>
#include <stdatomic.h>

#include "sharing.h"

TestSuite(share_calls, .timeout = 60 * PATIENCE);

#define KINDS 32       /* contents that many pages have */
#define MANY  (NR / 2) /* or only two of each guest */
#define FROM  (NR / 4)
#define SOME  (NR / 2) /* pages from there on */

#define share_params                                      \
	cr_make_param_array(struct share_way, share_ways, \
			    sizeof(share_ways) / sizeof(share_ways[0]))

/* Two guests with equal bytes, all shared. */
static void open_shared(struct shared_world *g, const struct share_way *s,
			uint64_t kinds, unsigned seed)
{
	shared_open(g, share_plan(s));
	fill_common(g->w.mem, 0, NR, kinds, seed);
	fill_common(g->mem, 0, NR, kinds, seed);
	share_now(&g->w);
	wait_for(host_stats(&g->w).shared_bytes == 2 * NR * PAGE);
}

/* The VMs go, and with them all that was shared. */
static void close_empty(struct shared_world *g, uint32_t flags)
{
	struct ovc_host_stats h;

	ovc_vm_destroy(&g->other, flags);
	ovc_vm_destroy(&g->w.vm, flags);
	h = host_stats(&g->w);
	cr_assert_eq(h.shared_bytes, 0);
	cr_assert_eq(h.mapped_bytes, 0);
	cr_assert_eq(h.store_bytes, 0, "%llu pages are left",
		     (unsigned long long)(h.store_bytes / PAGE));
	cr_assert_eq(h.used, h.metadata + h.buffers, "%lld pages are left",
		     (long long)(h.used - h.metadata - h.buffers) / PAGE);
	shared_close(g, flags);
}

/* Pages that are present and no file's. */
static uint64_t private_pages(const char *mem, uint64_t nr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t *entry = malloc(nr * sizeof(*entry)), n = 0;

	cr_assert_eq(pread(fd, entry, nr * sizeof(*entry),
			   (off_t)((uintptr_t)mem / PAGE * sizeof(*entry))),
		     (ssize_t)(nr * sizeof(*entry)));
	for (uint64_t i = 0; i < nr; i++)
		n += entry[i] >> 63 && !(entry[i] >> 61 & 1);
	close(fd);
	free(entry);
	return n;
}

/* ---- calls on ranges ------------------------------------------------------------ */

ParameterizedTestParameters(share_calls, discarded_pages_read_zero)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share_calls, discarded_pages_read_zero)
{
	struct shared_world g;

	open_shared(&g, s, MANY, 1);
	cr_assert_eq(ovc_vm_discard(g.w.vm, g.w.mem + FROM * PAGE, SOME * PAGE),
		     0);
	cr_assert_eq(vm_stats(&g.w).shared_bytes, (NR - SOME) * PAGE);
	cr_assert_eq(vm_stats(&g.w).zero, SOME * PAGE);
	for (uint64_t i = 0; i < NR; i++)
		cr_assert(i - FROM < SOME ?
				  is_zero(g.w.mem + i * PAGE) :
				  is_page(g.w.mem + i * PAGE, i % MANY, 1),
			  "%s: page %u", share_way_name(s), (unsigned)i);
	cr_assert_eq(read_common(g.other, g.mem, 0, NR, MANY, 1), -1);
	/* What nobody has any more is swept, but for a few. */
	cr_assert_eq(ovc_vm_discard(g.other, g.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_discard(g.w.vm, g.w.mem, NR * PAGE), 0);
	cr_assert_eq(host_stats(&g.w).shared_bytes, 0);
	wait_for(host_stats(&g.w).store_bytes <= 256 * PAGE);
	cr_assert(is_zero(g.mem + (NR - 1) * PAGE));
	close_empty(&g, 0);
}

ParameterizedTestParameters(share_calls,
			    what_is_written_while_pinned_is_private)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share_calls,
		  what_is_written_while_pinned_is_private)
{
	uint64_t merged;
	struct shared_world g;

	open_shared(&g, s, KINDS, 2);
	cr_assert_eq(ovc_vm_pin(g.w.vm, g.w.mem + FROM * PAGE, SOME * PAGE), 0,
		     "%s", ovc_error());
	cr_assert_eq(present_pages(g.w.mem + FROM * PAGE, SOME * PAGE), SOME);
	/* A device that writes past the page tables must not write the store. */
	if (s->mapped)
		cr_assert_eq(private_pages(g.w.mem + FROM * PAGE, SOME), SOME,
			     "%s", share_way_name(s));
	cr_assert_eq(vm_stats(&g.w).pinned, SOME * PAGE);
	cr_assert_eq(vm_stats(&g.w).shared_bytes, (NR - SOME) * PAGE);
	cr_assert_eq(check_common(g.w.mem, FROM, SOME, KINDS, 2), -1);
	/* They are equal still, and stay where they are. */
	merged = vm_stats(&g.w).merged_bytes;
	wait_for_passes(&g.w);
	cr_assert_eq(vm_stats(&g.w).merged_bytes, merged);
	fill_common(g.w.mem, FROM, SOME, 0, 3);
	wait_for_passes(&g.w);
	cr_assert_eq(check_common(g.w.mem, FROM, SOME, 0, 3), -1);
	cr_assert_eq(read_common(g.other, g.mem, 0, NR, KINDS, 2), -1);
	cr_assert_eq(ovc_vm_unpin(g.w.vm, g.w.mem + FROM * PAGE, SOME * PAGE),
		     0);
	cr_assert_eq(check_common(g.w.mem, FROM, SOME, 0, 3), -1);
	cr_assert_eq(check_common(g.w.mem, 0, FROM, KINDS, 2), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 2), -1);
	close_empty(&g, 0);
}

ParameterizedTestParameters(share_calls, a_read_leaves_them_shared)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share_calls, a_read_leaves_them_shared)
{
	struct ovc_vm_stats before, after;
	struct shared_world g;

	open_shared(&g, s, KINDS, 4);
	cr_assert_eq(ovc_host_set_share(g.w.host, OVC_SHARE_NEVER, 0), 0);
	wait_for(vm_stats(&g.w).shared_bytes == NR * PAGE);
	before = vm_stats(&g.w);
	cr_assert_eq(read_common(g.w.vm, g.w.mem, 0, NR, KINDS, 4), -1);
	after = vm_stats(&g.w);
	cr_assert_eq(after.shared_bytes, before.shared_bytes);
	cr_assert_eq(after.mapped_bytes, before.mapped_bytes);
	cr_assert_eq(after.faults, before.faults);
	cr_assert_eq(after.resident, 0);
	/* Nobody has noticed yet what the guest writes now: read sees it. */
	fill_common(g.w.mem, FROM, SOME, 0, 5);
	cr_assert_eq(read_common(g.w.vm, g.w.mem, FROM, SOME, 0, 5), -1, "%s",
		     share_way_name(s));
	cr_assert_eq(read_common(g.other, g.mem, 0, NR, KINDS, 4), -1);
	close_empty(&g, 0);
}

ParameterizedTestParameters(share_calls, overwritten_pages_have_the_new_bytes)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share_calls,
		  overwritten_pages_have_the_new_bytes)
{
	struct shared_world g;

	open_shared(&g, s, KINDS, 6);
	cr_assert_eq(ovc_vm_overwrite(g.w.vm, g.w.mem + FROM * PAGE,
				      SOME * PAGE),
		     0);
	/* What is not in memory reads as zero until it is written. */
	for (uint64_t i = FROM; i < FROM + SOME; i++)
		cr_assert(is_zero(g.w.mem + i * PAGE) ||
				  (s->mapped &&
				   is_page(g.w.mem + i * PAGE, i % KINDS, 6)),
			  "%s: page %u", share_way_name(s), (unsigned)i);
	fill_common(g.w.mem, FROM, SOME, 0, 7);
	wait_for(vm_stats(&g.w).shared_bytes == (NR - SOME) * PAGE);
	cr_assert_eq(check_common(g.w.mem, FROM, SOME, 0, 7), -1);
	cr_assert_eq(check_common(g.w.mem, 0, FROM, KINDS, 6), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 6), -1);
	close_empty(&g, 0);
}

ParameterizedTestParameters(share_calls, what_is_reclaimed_comes_back_right)
{
	return share_params;
}

/* Shared ones stay where they are, private ones go to swap. */
ParameterizedTest(struct share_way *s, share_calls,
		  what_is_reclaimed_comes_back_right)
{
	struct shared_world g;

	open_shared(&g, s, KINDS, 8);
	cr_assert_eq(ovc_vm_reclaim(g.w.vm, g.w.mem, NR * PAGE), 0);
	cr_assert_eq(vm_stats(&g.w).shared_bytes, NR * PAGE);
	cr_assert_eq(vm_stats(&g.w).swap_out_bytes, 0);
	fill_common(g.w.mem, FROM, SOME, 0, 9);
	wait_for(vm_stats(&g.w).shared_bytes == (NR - SOME) * PAGE);
	cr_assert_eq(ovc_vm_reclaim(g.w.vm, g.w.mem, NR * PAGE), 0, "%s",
		     ovc_error());
	cr_assert_geq(vm_stats(&g.w).swapped, (SOME - 32) * PAGE, "%s",
		      share_way_name(s));
	cr_assert_eq(vm_stats(&g.w).shared_bytes, (NR - SOME) * PAGE);
	cr_assert_eq(read_common(g.w.vm, g.w.mem, FROM, SOME, 0, 9), -1);
	cr_assert_eq(check_common(g.w.mem, FROM, SOME, 0, 9), -1);
	/* Back, and pushed out once more, clean or not. */
	fill_common(g.w.mem, FROM, 16, 0, 10);
	cr_assert_eq(ovc_vm_reclaim(g.w.vm, g.w.mem, NR * PAGE), 0);
	cr_assert_eq(check_common(g.w.mem, FROM, 16, 0, 10), -1);
	cr_assert_eq(check_common(g.w.mem, FROM + 16, SOME - 16, 0, 9), -1);
	cr_assert_eq(check_common(g.w.mem, 0, FROM, KINDS, 8), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 8), -1);
	close_empty(&g, 0);
}

ParameterizedTestParameters(share_calls, a_prefetch_brings_in_what_is_private)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share_calls,
		  a_prefetch_brings_in_what_is_private)
{
	struct shared_world g;
	uint64_t in;

	open_shared(&g, s, KINDS, 11);
	fill_common(g.w.mem, FROM, SOME, 0, 18);
	wait_for(vm_stats(&g.w).shared_bytes == (NR - SOME) * PAGE);
	cr_assert_eq(ovc_host_set_share(g.w.host, OVC_SHARE_NEVER, 0), 0);
	cr_assert_eq(ovc_vm_reclaim(g.w.vm, g.w.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_prefetch(g.w.vm, g.w.mem, NR * PAGE), 0);
	wait_for(vm_stats(&g.w).swapped == 0);
	in = vm_stats(&g.w).swap_in_bytes;
	cr_assert_eq(check_common(g.w.mem, FROM, SOME, 0, 18), -1, "%s",
		     share_way_name(s));
	cr_assert_eq(vm_stats(&g.w).swap_in_bytes, in);
	cr_assert_eq(check_common(g.w.mem, 0, FROM, KINDS, 11), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 11), -1);
	close_empty(&g, 0);
}

struct reader {
	struct shared_world *g;
	atomic_bool stop;
	long bad;
};

static void *read_on(void *arg)
{
	struct reader *t = arg;

	t->bad = -1;
	while (!t->stop && t->bad < 0)
		t->bad = read_common(t->g->w.vm, t->g->w.mem, 0, NR, KINDS, 19);
	return NULL;
}

ParameterizedTestParameters(share_calls, reads_do_not_hold_sharing_up)
{
	return share_params;
}

/* A page that is read at the wrong moment is not merged, and must not be in the way of
 * others: where little is staged at once, all would wait for it. */
ParameterizedTest(struct share_way *s, share_calls,
		  reads_do_not_hold_sharing_up)
{
	struct plan plan = share_plan(s);
	struct reader t = { 0 };
	struct shared_world g;
	pthread_t thread;

	plan.budget = 20 * MIB;
	shared_open(&g, plan);
	t.g = &g;
	fill_common(g.w.mem, 0, NR, KINDS, 19);
	fill_common(g.mem, 0, NR, KINDS, 19);
	cr_assert_eq(pthread_create(&thread, NULL, read_on, &t), 0);
	share_now(&g.w);
	wait_for(vm_stats(&g.w).shared_bytes >= NR / 2 * PAGE);
	usleep(100000);
	t.stop = true;
	pthread_join(thread, NULL);
	cr_assert_eq(t.bad, -1, "%s: page %ld", share_way_name(s), t.bad);
	if (s->mapped)
		wait_for(host_stats(&g.w).shared_bytes == 2 * NR * PAGE);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 19), -1);
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 19), -1);
	close_empty(&g, 0);
}

/* ---- the end of a region, of a VM ------------------------------------------------- */

/* Nothing of the store is mapped there, and a memfd has what the guest has. */
static void check_ordinary(const char *mem, int memfd, unsigned seed)
{
	unsigned long from, to;
	char line[512], page[PAGE];
	FILE *f = fopen("/proc/self/maps", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 &&
		    from < (unsigned long)mem + NR * PAGE &&
		    to > (unsigned long)mem)
			cr_assert(!strstr(line, "overcommit"), "%s", line);
	fclose(f);
	for (uint64_t i = 0; memfd && i < NR; i++) {
		cr_assert_eq(pread(memfd, page, PAGE, (off_t)(i * PAGE)),
			     (ssize_t)PAGE);
		cr_assert(is_page(page, i % KINDS, seed), "page %u",
			  (unsigned)i);
	}
}

ParameterizedTestParameters(share_calls, a_removed_region_is_ordinary_memory)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share_calls,
		  a_removed_region_is_ordinary_memory)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = NR * PAGE };
	struct plan plan = share_plan(s);
	struct shared_world g;

	open_shared(&g, s, KINDS, 12);
	/* Some of it is private, known and not known. */
	fill_common(g.w.mem, 0, 64, 0, 13);
	wait_for(vm_stats(&g.w).shared_bytes <= (NR - 64) * PAGE);
	fill_common(g.w.mem, 0, 128, KINDS, 12);
	cr_assert_eq(ovc_vm_remove_region(g.w.vm, g.w.mem, 0), 0);
	cr_assert_eq(vm_stats(&g.w).shared_bytes, 0);
	cr_assert_eq(vm_stats(&g.w).charged_bytes, 0);
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 12), -1, "%s",
		     share_way_name(s));
	check_ordinary(g.w.mem, g.w.memfd, 12);
	cr_assert_eq(host_stats(&g.w).shared_bytes, NR * PAGE);
	/* It comes back, and is shared again. */
	o.addr = g.w.mem;
	o.memfd = g.w.memfd;
	o.flags = plan.region_flags;
	cr_assert_eq(ovc_vm_add_region(g.w.vm, &o), 0, "%s", ovc_error());
	wait_for(vm_stats(&g.w).shared_bytes == NR * PAGE);
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 12), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 12), -1);
	close_empty(&g, 0);
}

ParameterizedTestParameters(share_calls, a_vm_that_goes_leaves_its_bytes)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share_calls,
		  a_vm_that_goes_leaves_its_bytes)
{
	struct shared_world g;

	open_shared(&g, s, KINDS, 14);
	ovc_vm_destroy(&g.other, 0);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 14), -1, "%s",
		     share_way_name(s));
	check_ordinary(g.mem, g.memfd, 14);
	cr_assert_eq(host_stats(&g.w).shared_bytes, NR * PAGE);
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 14), -1);
	close_empty(&g, 0);
}

ParameterizedTestParameters(share_calls, a_vm_thrown_away_leaves_the_others)
{
	return share_params;
}

ParameterizedTest(struct share_way *s, share_calls,
		  a_vm_thrown_away_leaves_the_others)
{
	struct shared_world g;

	open_shared(&g, s, MANY, 15);
	ovc_vm_destroy(&g.other, OVC_THROW_AWAY);
	cr_assert_eq(host_stats(&g.w).shared_bytes, NR * PAGE);
	/* Whatever it holds now: it can be read and written. */
	for (uint64_t i = 0; i < NR; i++)
		cr_assert_eq(touch_signal(g.mem + i * PAGE, NULL, NULL), 0);
	fill_common(g.mem, 0, NR, 0, 16);
	cr_assert_eq(check_common(g.w.mem, 0, NR, MANY, 15), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, 0, 16), -1);
	close_empty(&g, OVC_THROW_AWAY);
}

struct toucher {
	char *mem;
	atomic_bool stop;
	long bad;
};

static void *touch_on(void *arg)
{
	struct toucher *t = arg;

	t->bad = -1;
	for (unsigned n = 0; !t->stop && t->bad < 0; n++) {
		uint64_t i = n * 7919 % NR;

		if (n % 4)
			t->bad = check_common(t->mem, i, 1, KINDS, 17);
		else
			fill_common(t->mem, i, 1, KINDS, 17);
	}
	return NULL;
}

ParameterizedTestParameters(share_calls, regions_come_and_go_amid_sharing)
{
	return share_params;
}

/* Whatever merge is doing, and whatever the guest. */
ParameterizedTest(struct share_way *s, share_calls,
		  regions_come_and_go_amid_sharing)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = NR * PAGE };
	struct plan plan = share_plan(s);
	struct shared_world g;
	struct toucher t = { 0 };
	pthread_t thread;

	shared_open(&g, plan);
	fill_common(g.w.mem, 0, NR, KINDS, 17);
	fill_common(g.mem, 0, NR, KINDS, 17);
	share_now(&g.w);
	t.mem = o.addr = g.mem;
	o.memfd = g.memfd;
	o.flags = plan.region_flags;
	cr_assert_eq(pthread_create(&thread, NULL, touch_on, &t), 0);
	for (unsigned i = 0; i < 60; i++) {
		usleep(500 * (i % 8));
		cr_assert_eq(ovc_vm_remove_region(g.other, g.mem, 0), 0, "%s",
			     ovc_error());
		cr_assert_eq(ovc_vm_add_region(g.other, &o), 0, "%s",
			     ovc_error());
	}
	t.stop = true;
	pthread_join(thread, NULL);
	cr_assert_eq(t.bad, -1, "%s: page %ld", share_way_name(s), t.bad);
	cr_assert_gt(host_stats(&g.w).merged_bytes, 0);
	cr_assert_eq(check_common(g.w.mem, 0, NR, KINDS, 17), -1);
	cr_assert_eq(check_common(g.mem, 0, NR, KINDS, 17), -1);
	close_empty(&g, 0);
}
