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
#include <sys/mman.h>

#include "support.h"
#include "sys/fail.h"

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

/* A host one of whose calls of madvise() fails while it is made, or NULL. */
static struct ovc_host *host_unadvised(unsigned long n, bool *more)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = 16 * MIB };
	struct ovc_host *host = NULL;
	const char *what;

	ovc_sys_fail_nth(n, EIO);
	ovc_host_create(&o, &host);
	what = ovc_sys_fail_what();
	*more = what != NULL;
	if (!what || strcmp(what, "madvise"))
		ovc_host_destroy(&host);
	ovc_sys_fail_nth(0, 0);
	return host;
}

/* What the trial of a move left in the window must not be in the way for good. */
static void check_window_is_empty(struct ovc_host *host)
{
	struct world w = { .host = host, .len = 256 * PAGE };
	struct ovc_vm_options v = { .size = sizeof(v), .swap = swap_dir() };
	struct ovc_region_options o = { .size = sizeof(o), .len = w.len };

	w.mem = map_memory(ANON, w.len, &w.memfd);
	o.addr = w.mem;
	cr_assert_eq(ovc_vm_create(host, &v, &w.vm), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	fill_pages(w.mem, 0, 256, 3);
	push_out(&w);
	cr_expect_eq(vm_stats(&w).resident, 0);
	cr_expect_eq(check_pages(w.mem, 0, 256, 3), -1);
	ovc_vm_destroy(&w.vm, 0);
	munmap(w.mem, w.len);
}

Test(move, a_window_that_could_not_be_emptied_keeps_no_page_back)
{
	unsigned seen = 0;
	bool more = true;

	need_userfaultfd();
	for (unsigned long n = 1; more; n++) {
		struct ovc_host *host = host_unadvised(n, &more);

		if (!host)
			continue;
		seen++;
		check_window_is_empty(host);
		ovc_host_destroy(&host);
	}
	if (!seen)
		cr_skip_test("the kernel moves no pages");
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
