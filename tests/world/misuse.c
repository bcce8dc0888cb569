/* SPDX-License-Identifier: MIT */
/*
 * What a VMM should not do with memory that is a region, and does: unmap it, map something
 * else there, punch holes into its memfd. Guests that are left go on, and no call hangs.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define NR    ((uint64_t)1024)
#define FIRST ((uint64_t)256) /* of the pages that go */
#define GONE  ((uint64_t)512)

TestSuite(misuse, .timeout = 60);

#define BOTH_KINDS(name)                                               \
	ParameterizedTestParameters(misuse, name)                      \
	{                                                              \
		return cr_make_param_array(struct way, both_kinds, 2); \
	}                                                              \
	ParameterizedTest(struct way *way, misuse, name)

/* A third of the pages in swap, a third with the guest, the rest never touched. */
static void open_mixed(struct world *w, const struct way *way)
{
	world_open(w, (struct plan){ .way = *way, .len = NR * PAGE });
	for (uint64_t i = 0; i < NR; i++)
		if (i % 3)
			fill_pages(w->mem, i, 1, 1);
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, w->len), 0);
	for (uint64_t i = 0; i < NR; i++)
		if (i % 3 == 1)
			cr_assert(is_page(w->mem + i * PAGE, i, 1));
}

static bool is_gone(uint64_t i)
{
	return i >= FIRST && i < FIRST + GONE;
}

static void check_rest(const struct world *w)
{
	for (uint64_t i = 0; i < NR; i++)
		if (!is_gone(i))
			cr_assert(i % 3 ? is_page(w->mem + i * PAGE, i, 1) :
					  is_zero(w->mem + i * PAGE),
				  "page %u", (unsigned)i);
}

static void remove_with_hole(struct world *w, bool anew)
{
	uint64_t first = FIRST;
	char from[32];

	/* A mapping of somebody else's is found where a page had to come back. */
	while (anew && first % 3 != 2)
		first++;
	snprintf(from, sizeof(from), "%p", (void *)(w->mem + first * PAGE));
	expect_error("remove_region", ovc_vm_remove_region(w->vm, w->mem, 0),
		     -EFAULT, "unmapped");
	cr_assert(strstr(ovc_error(), from), "%s", ovc_error());
	expect_error("remove_region", ovc_vm_remove_region(w->vm, w->mem, 0),
		     -EINVAL, "no region");
	check_rest(w);
	cr_assert_eq(host_stats(w).swapped, 0);
}

BOTH_KINDS(a_region_with_a_hole_is_removed_and_said)
{
	struct world w;

	open_mixed(&w, way);
	munmap(w.mem + FIRST * PAGE, GONE * PAGE);
	remove_with_hole(&w, false);
	world_close(&w, 0);
}

BOTH_KINDS(a_region_that_was_mapped_anew_is_removed_and_said)
{
	struct world w;
	char *new;

	open_mixed(&w, way);
	new = mmap(w.mem + FIRST * PAGE, GONE * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	cr_assert_neq(new, MAP_FAILED);
	memset(new, 7, GONE * PAGE);
	remove_with_hole(&w, true);
	/* What is there now is not ours to touch. */
	for (uint64_t i = 0; i < GONE * PAGE; i++)
		cr_assert_eq(new[i], 7);
	world_close(&w, 0);
}

BOTH_KINDS(an_untracked_region_with_a_hole_is_removed_and_said)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 2048 * MIB,
				      .len = NR * PAGE });
	cr_assert_not(vm_stats(&w).tracked);
	munmap(w.mem + FIRST * PAGE, GONE * PAGE);
	expect_error("remove_region", ovc_vm_remove_region(w.vm, w.mem, 0),
		     -EFAULT, "unmapped");
	world_close(&w, 0);
}

/* None of these hangs, whatever it returns. */
BOTH_KINDS(calls_for_a_range_with_a_hole_return)
{
	struct world w;
	char buf[PAGE];

	open_mixed(&w, way);
	munmap(w.mem + FIRST * PAGE, GONE * PAGE);
	ovc_vm_reclaim(w.vm, w.mem, w.len);
	ovc_vm_discard(w.vm, w.mem + FIRST * PAGE, PAGE);
	ovc_vm_prefetch(w.vm, w.mem, w.len);
	for (uint64_t i = 0; i < NR; i++)
		ovc_vm_read(w.vm, w.mem + i * PAGE, buf, PAGE);
	cr_assert_neq(ovc_vm_pin(w.vm, w.mem + FIRST * PAGE, GONE * PAGE), 0);
	check_rest(&w);
	world_close(&w, 0);
}

/* ---- holes in the file ----------------------------------------------------- */

static void punch(const struct world *w, uint64_t idx, uint64_t nr)
{
	cr_assert_eq(fallocate(w->memfd,
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)(idx * PAGE), (off_t)(nr * PAGE)),
		     0);
}

/* Wherever the pages are: with the guest, staged, in swap. Those in swap keep their
 * bytes. */
Test(misuse, pages_that_were_punched_out_read_zero)
{
	uint64_t zero = 0;
	struct world w;

	world_open(&w, (struct plan){ .way = { MEMFD, 0 },
				      .budget = 24 * MIB,
				      .len = 32 * NR * PAGE / 4 });
	fill_pages(w.mem, 0, 8 * NR, 1);
	/* Then nothing needs to go, and what is staged stays so. */
	cr_assert_eq(ovc_host_set_budget(w.host, 512 * MIB), 0);
	cr_assert_gt(vm_stats(&w).staged, 0);
	punch(&w, 0, 8 * NR);
	for (uint64_t i = 0; i < 8 * NR; i++) {
		bool empty = is_zero(w.mem + i * PAGE);

		zero += empty;
		cr_assert(empty || is_page(w.mem + i * PAGE, i, 1));
	}
	cr_assert_gt(zero, 0);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_POISONED), 0);
	/* They are the guest's as ever. */
	fill_pages(w.mem, 0, 8 * NR, 2);
	cr_assert_eq(check_pages(w.mem, 0, 8 * NR, 2), -1);
	world_close(&w, 0);
}

/* ---- somebody else unregisters it ---------------------------------------------- */

/* Linux 6.1 and 6.12 let any userfaultfd of the process do that, later ones only the one
 * that it is registered with: so all that there are are tried. */
static unsigned unregister(char *mem, size_t len)
{
	unsigned done = 0;

	for (int fd = 3; fd < 256; fd++) {
		struct uffdio_range range = { (uintptr_t)mem, len };
		char link[64], to[64] = "";

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, to, sizeof(to) - 1) > 0 &&
		    strstr(to, "userfaultfd"))
			done += !ioctl(fd, UFFDIO_UNREGISTER, &range);
	}
	return done;
}

BOTH_KINDS(a_region_that_somebody_unregisters_is_told_and_registered_again)
{
	struct seen_event e = { 0 };
	unsigned round = 1;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 16 * MIB,
				      .len = 32 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 0);
	cr_assert_gt(unregister(w.mem, w.len), 0);
	while (!world_count_events(&w, OVC_EVENT_MEMORY_FAILED) && round < 2000)
		fill_pages(w.mem, 0, w.len / PAGE, round++);
	cr_assert(world_event(&w, OVC_EVENT_MEMORY_FAILED, &e));
	cr_assert_eq(e.error, ENOENT);
	cr_assert_eq(e.len, w.len);
	cr_assert(world_logged(&w, "unregistered"));
	fill_pages(w.mem, 0, w.len / PAGE, round);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, round), -1);
	cr_assert_gt(unregister(w.mem, w.len), 0, "it is not registered again");
	world_close(&w, OVC_THROW_AWAY);
}
