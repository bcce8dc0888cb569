/* SPDX-License-Identifier: MIT */
/*
 * UFFDIO_MOVE as Linux 6.18 has it: where a page changes while it is moved, it moves it at
 * a second try, and then says EEXIST of it.
 *
 * ioctl() is wrapped: each n-th move that went well is said to have failed so, with none
 * of its pages moved; or it fails so indeed. And the real thing: threads write pages for the first time while
 * they are moved, which on such a kernel gives some of these within seconds.
 */
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "support.h"

TestSuite(move, .timeout = 60 * PATIENCE);

#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif

#define NR 2048 /* pages */

static atomic_uint every, moves, lies;
static atomic_bool refuse;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	void *arg;

	va_start(list, request);
	arg = va_arg(list, void *);
	va_end(list);
	if (!refuse || request != UFFDIO_MOVE) {
		int result = __real_ioctl(fd, request, arg);

		if (result || request != UFFDIO_MOVE || !every ||
		    atomic_fetch_add(&moves, 1) % every)
			return result;
	}
	((struct uffdio_move *)arg)->move = -EEXIST;
	atomic_fetch_add(&lies, 1);
	errno = EEXIST;
	return -1;
}

static void open_moving(struct world *w)
{
	world_open(w, (struct plan){ .len = NR * PAGE });
	if (!(host_stats(w).features & OVC_FEATURE_MOVE)) {
		world_close(w, 0);
		cr_skip_test("the kernel moves no pages");
	}
}

static void push_out(struct world *w)
{
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, w->len), 0, "%s",
		     ovc_error());
}

Test(move, what_moved_unsaid_is_staged)
{
	struct world w;

	for (unsigned n = 1; n <= 3; n++) {
		open_moving(&w);
		fill_pages(w.mem, 0, NR, n);
		atomic_store(&every, n);
		push_out(&w);
		atomic_store(&every, 0);
		cr_expect_gt(atomic_load(&lies), 0);
		cr_expect_eq(vm_stats(&w).resident, 0);
		cr_expect_eq(vm_stats(&w).swapped, w.len);
		cr_expect_eq(check_pages(w.mem, 0, NR, n), -1);
		world_close(&w, 0);
	}
}

/* Then the place in the window was taken, and the page stays. */
Test(move, what_did_not_move_stays)
{
	struct world w;

	open_moving(&w);
	fill_pages(w.mem, 0, NR, 7);
	push_out(&w);
	cr_expect_eq(check_pages(w.mem, 0, NR, 7), -1);
	atomic_store(&refuse, true);
	ovc_vm_reclaim(w.vm, w.mem, w.len);
	atomic_store(&refuse, false);
	cr_expect_gt(atomic_load(&lies), 0);
	cr_expect_eq(vm_stats(&w).resident, w.len);
	cr_expect_eq(check_pages(w.mem, 0, NR, 7), -1);
	world_close(&w, 0);
}

struct writer {
	struct world *w;
	atomic_uint seed;
};

/* Pages of zeros get bytes while they are moved. */
static void *write_all(void *arg)
{
	struct writer *me = arg;
	unsigned seed;

	while ((seed = atomic_load(&me->seed)) != UINT32_MAX) {
		if (!seed)
			continue;
		fill_pages(me->w->mem, 0, NR, seed);
		atomic_store(&me->seed, 0);
	}
	return NULL;
}

Test(move, pages_that_are_written_meanwhile_are_not_lost)
{
	struct world w;
	struct writer me = { .w = &w };
	pthread_t thread;
	long bad = -1;

	open_moving(&w);
	push_out(&w); /* tracks */
	cr_assert_eq(pthread_create(&thread, NULL, write_all, &me), 0);
	for (unsigned seed = 1; seed <= 100 && bad == -1; seed++) {
		cr_assert_eq(ovc_vm_discard(w.vm, w.mem, w.len), 0);
		for (unsigned i = 0; i < NR; i++)
			(void)((volatile char *)w.mem)[i * PAGE];
		atomic_store(&me.seed, seed);
		while (atomic_load(&me.seed) == seed)
			push_out(&w);
		bad = check_pages(w.mem, 0, NR, seed);
	}
	cr_expect_eq(bad, -1, "page %ld", bad);
	atomic_store(&me.seed, UINT32_MAX);
	pthread_join(thread, NULL);
	world_close(&w, 0);
}
