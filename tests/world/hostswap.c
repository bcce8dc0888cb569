/* SPDX-License-Identifier: MIT */
/*
 * A host with swap of its own takes guests' pages, and says to nobody that it did. Each
 * test runs twice: as administrators see their page tables, and as others do, to whom the
 * kernel does not show what a swap entry is.
 */
#include "sharing.h"
#include "world.h"

#include <sys/mman.h>

#define PAGES ((uint64_t)4096)

TestSuite(hostswap, .timeout = 120);

struct eyes {
	enum kind kind;
	bool hidden;
};

static struct eyes all_eyes[] = { { ANON, false },
				  { ANON, true },
				  { MEMFD, false },
				  { MEMFD, true } };

static struct way way_of(const struct eyes *e)
{
	return (struct way){ e->kind, 0 };
}

static void begin(const struct eyes *e)
{
	machine_swap_on(256);
	if (e->hidden)
		hide_from_us();
}

static void page_out(char *mem, size_t len)
{
	size_t out = machine_page_out(mem, len);

	cr_assert_gt(out, len / PAGE / 2, "the host swapped %zu pages of %zu",
		     out, len / PAGE);
}

static uint64_t wrong_reads(struct ovc_vm *vm, const char *mem, uint64_t nr,
			    unsigned seed)
{
	_Alignas(4096) char page[PAGE];
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < nr; i++) {
		cr_assert_eq(ovc_vm_read(vm, mem + i * PAGE, page, PAGE), 0,
			     "%s", ovc_error());
		wrong += !is_page(page, i, seed);
	}
	return wrong;
}

/* Pages that came back from our swap, were only read since, and are protected. */
static void open_clean(struct world *w, const struct eyes *e)
{
	begin(e);
	world_open(w, (struct plan){ .way = way_of(e),
				     .len = PAGES * PAGE,
				     .budget = 256 * MIB });
	fill_pages(w->mem, 0, PAGES, 1);
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, w->len), 0);
	cr_assert_eq(check_pages(w->mem, 0, PAGES, 1), -1);
}

#define EACH_EYES(name)                                               \
	ParameterizedTestParameters(hostswap, name)                   \
	{                                                             \
		return cr_make_param_array(struct eyes, all_eyes, 4); \
	}                                                             \
	ParameterizedTest(struct eyes *e, hostswap, name)

EACH_EYES(pages_that_the_host_swapped_are_read_right)
{
	struct world w;

	open_clean(&w, e);
	page_out(w.mem, w.len);
	cr_assert_eq(wrong_reads(w.vm, w.mem, PAGES, 1), 0);
	cr_assert_eq(check_pages(w.mem, 0, PAGES, 1), -1);
	/* They are as good as before to everybody else, too. */
	page_out(w.mem, w.len);
	cr_assert_eq(wrong_reads(w.vm, w.mem, PAGES, 1), 0);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(check_pages(w.mem, 0, PAGES, 1), -1);
	cr_assert_eq(vm_stats(&w).read_errors, 0);
	world_close(&w, OVC_THROW_AWAY);
}

EACH_EYES(what_was_written_after_a_read_is_written_to_swap)
{
	struct world w;

	/* A look at a page that is away may unprotect it: its slot is not good then. */
	open_clean(&w, e);
	page_out(w.mem, w.len);
	cr_assert_eq(wrong_reads(w.vm, w.mem, PAGES, 1), 0);
	fill_pages(w.mem, 0, PAGES, 2);
	page_out(w.mem, w.len);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(check_pages(w.mem, 0, PAGES, 2), -1);
	world_close(&w, OVC_THROW_AWAY);
}

EACH_EYES(clean_pages_that_the_host_swapped_are_not_written_again)
{
	struct ovc_vm_stats before, after;
	struct world w;

	open_clean(&w, e);
	page_out(w.mem, w.len);
	before = vm_stats(&w);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	after = vm_stats(&w);
	/* But for a few that read-ahead had held back. */
	cr_assert_leq(after.swap_out_bytes - before.swap_out_bytes, 64 * PAGE);
	cr_assert_geq(after.clean_bytes - before.clean_bytes,
		      (PAGES - 64) * PAGE);
	cr_assert_eq(check_pages(w.mem, 0, PAGES, 1), -1);
	/* Nor do those that were written count as clean. */
	fill_pages(w.mem, 0, PAGES, 2);
	page_out(w.mem, w.len);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(check_pages(w.mem, 0, PAGES, 2), -1);
	world_close(&w, OVC_THROW_AWAY);
}

static uint64_t all_of(const struct world *w)
{
	struct ovc_vm_stats s = vm_stats(w);

	return s.resident + s.staged + s.swapped;
}

/* Tracking begins when half of the guest's pages are away. */
EACH_EYES(pages_that_are_away_when_tracking_begins_are_counted)
{
	struct world w;

	begin(e);
	world_open(&w, (struct plan){ .way = way_of(e),
				      .len = PAGES * PAGE,
				      .budget = 1024 * MIB });
	cr_assert_not(vm_stats(&w).tracked);
	fill_pages(w.mem, 0, PAGES, 1);
	page_out(w.mem, w.len / 2);
	cr_assert_eq(vm_stats(&w).resident, PAGES * PAGE);
	cr_assert_eq(ovc_host_set_budget(w.host, 14 * MIB), 0, "%s",
		     ovc_error());
	wait_for(vm_stats(&w).tracked);
	wait_for(all_of(&w) == PAGES * PAGE);
	cr_assert_eq(wrong_reads(w.vm, w.mem, PAGES, 1), 0);
	cr_assert_eq(check_pages(w.mem, 0, PAGES, 1), -1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(check_pages(w.mem, 0, PAGES, 1), -1);
	world_close(&w, OVC_THROW_AWAY);
}

/* Staging moves swap entries; what is touched then is put back. */
EACH_EYES(staged_pages_that_are_away_come_back)
{
	struct world w;

	begin(e);
	world_open(&w, (struct plan){ .way = way_of(e),
				      .len = PAGES * PAGE,
				      .budget = 24 * MIB });
	for (unsigned round = 1; round < 4; round++) {
		fill_pages(w.mem, 0, PAGES, round);
		madvise(w.mem, w.len, MADV_PAGEOUT);
		cr_assert_eq(check_pages(w.mem, 0, PAGES, round), -1);
	}
	cr_assert_eq(world_count_events(&w, OVC_EVENT_POISONED), 0);
	cr_assert_leq(host_stats(&w).used, 24 * MIB);
	world_close(&w, 0);
}

/* ---- sharing ------------------------------------------------------------- */

static struct eyes anon_eyes[] = { { ANON, false }, { ANON, true } };

ParameterizedTestParameters(hostswap, shared_and_private_pages_are_told_apart)
{
	return cr_make_param_array(struct eyes, anon_eyes, 2);
}

/* Copies that the guest made of shared pages, and shared pages, both away. */
ParameterizedTest(struct eyes *e, hostswap,
		  shared_and_private_pages_are_told_apart)
{
	struct shared_world s;
	struct plan plan;

	begin(e);
	plan = share_plan(&share_ways[0]);
	plan.budget = 512 * MIB;
	shared_open(&s, plan);
	fill_common(s.w.mem, 0, NR, 0, 1);
	fill_common(s.mem, 0, NR, 0, 1);
	share_now(&s.w);
	wait_for(vm_stats(&s.w).shared_bytes >= NR / 2 * PAGE);
	cr_assert_eq(ovc_host_set_share(s.w.host, OVC_SHARE_NEVER, 0), 0);
	for (uint64_t i = 0; i < NR; i += 2)
		make_page(s.w.mem + i * PAGE, i, 2);
	madvise(s.w.mem, s.w.len, MADV_PAGEOUT);
	madvise(s.mem, s.w.len, MADV_PAGEOUT);
	for (uint64_t i = 0; i < NR; i++) {
		_Alignas(4096) char page[PAGE];

		cr_assert_eq(
			ovc_vm_read(s.w.vm, s.w.mem + i * PAGE, page, PAGE), 0);
		cr_assert(is_page(page, i, i % 2 ? 1 : 2), "page %u",
			  (unsigned)i);
	}
	/* All go to swap, and come back. */
	madvise(s.w.mem, s.w.len, MADV_PAGEOUT);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(ovc_vm_reclaim(s.w.vm, s.w.mem, s.w.len), 0);
	cr_assert_eq(ovc_host_set_budget(s.w.host, 16 * MIB), 0);
	for (uint64_t i = 0; i < NR; i++)
		cr_assert(is_page(s.w.mem + i * PAGE, i, i % 2 ? 1 : 2),
			  "page %u", (unsigned)i);
	cr_assert_eq(check_common(s.mem, 0, NR, 0, 1), -1);
	shared_close(&s, 0);
}
