/* SPDX-License-Identifier: MIT */
/*
 * A page of the guest's is lost by itself, as by an error of the machine's memory. The test
 * poisons it through the userfaultfd that it gave to the library: the next touch is a
 * SIGBUS. That is the guest's, and nobody else's.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define NR  ((uint64_t)512)
#define BAD ((uint64_t)200)

#ifndef UFFDIO_POISON
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

TestSuite(poison, .timeout = 60);

static int uffd;

static void open_poisoned(struct world *w, struct plan plan)
{
	struct uffdio_poison arg = { .range.len = PAGE };

	uffd = plan.userfaultfd = open_userfaultfd();
	plan.len = NR * PAGE;
	world_open(w, plan);
	/* From here on it is tracked. */
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, w->len), 0);
	cr_assert(vm_stats(w).tracked);
	fill_pages(w->mem, 0, NR, 1);
	cr_assert_eq(madvise(w->mem + BAD * PAGE, PAGE, MADV_DONTNEED), 0);
	arg.range.start = (uintptr_t)(w->mem + BAD * PAGE);
	if (ioctl(uffd, UFFDIO_POISON, &arg))
		cr_skip_test("this kernel has no poison: %s", strerror(errno));
}

static void check_others(const struct world *w)
{
	cr_assert_eq(check_pages(w->mem, 0, BAD, 1), -1);
	cr_assert_eq(check_pages(w->mem, BAD + 1, NR - BAD - 1, 1), -1);
	cr_assert_eq(touch_signal(w->mem + BAD * PAGE, NULL, NULL), SIGBUS);
}

Test(poison, who_reads_a_lost_page_gets_an_error)
{
	char page[PAGE];
	struct world w;

	open_poisoned(&w, (struct plan){ 0 });
	for (uint64_t i = 0; i < NR; i++)
		cr_assert_eq(ovc_vm_read(w.vm, w.mem + i * PAGE, page, PAGE),
			     i == BAD ? -EIO : 0);
	check_others(&w);
	world_close(&w, OVC_THROW_AWAY);
}

static struct way anon_ways[] = { { ANON, 0 }, { ANON, OVC_FEATURE_MOVE } };

ParameterizedTestParameters(poison, reclaim_survives_a_lost_page)
{
	return cr_make_param_array(struct way, anon_ways, 2);
}

/* By mremap the poison moves to where the library looks at pages. */
ParameterizedTest(struct way *way, poison, reclaim_survives_a_lost_page)
{
	struct seen_event e;
	struct world w;

	open_poisoned(&w, (struct plan){ .way = *way });
	for (unsigned i = 0; i < 3; i++)
		ovc_vm_reclaim(w.vm, w.mem, w.len); /* but for one page */
	cr_assert_geq(vm_stats(&w).swapped, (NR - 2) * PAGE);
	check_others(&w);
	if (way->without) {
		cr_assert(world_event(&w, OVC_EVENT_POISONED, &e));
		cr_assert_eq((char *)e.addr, w.mem + BAD * PAGE);
	}
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(poison, sharing_survives_a_lost_page)
{
	return cr_make_param_array(struct way, anon_ways, 2);
}

ParameterizedTest(struct way *way, poison, sharing_survives_a_lost_page)
{
	struct world w;

	open_poisoned(&w, (struct plan){ .way = *way });
	/* Equal ones around it, so that there is something to find. */
	for (uint64_t i = BAD + 1; i < NR; i++)
		make_page(w.mem + i * PAGE, i % 8, 2);
	cr_assert_eq(ovc_host_set_share(w.host, OVC_SHARE_ALWAYS, 100), 0);
	for (unsigned i = 0; i < 2000 && !vm_stats(&w).shared_bytes; i++)
		usleep(5000);
	cr_assert_gt(vm_stats(&w).shared_bytes, 0);
	ovc_vm_reclaim(w.vm, w.mem, w.len);
	cr_assert_eq(check_pages(w.mem, 0, BAD, 1), -1);
	for (uint64_t i = BAD + 1; i < NR; i++)
		cr_assert(is_page(w.mem + i * PAGE, i % 8, 2));
	cr_assert_eq(touch_signal(w.mem + BAD * PAGE, NULL, NULL), SIGBUS);
	world_close(&w, OVC_THROW_AWAY);
}
