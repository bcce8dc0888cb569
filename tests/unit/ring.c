/* SPDX-License-Identifier: MIT */
/*
 * The ring and its stand-in: io_uring that is refused when the ring is in use,
 * and threads that are refused.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sys/fail.h"
#include "sys/ring.h"

#define DEPTH 12 /* no power of two */
#define LEN   512

static char bytes[DEPTH][LEN];
static struct iovec iov[DEPTH];
static struct ovc_ring *ring;
static int file;

static void open_ring(bool io_uring)
{
	struct ovc_ring_options o = { .depth = DEPTH, .io_uring = io_uring };

	file = memfd_create("ring", MFD_CLOEXEC);
	cr_assert(file >= 0);
	cr_assert_eq(ovc_ring_create(&o, &ring), 0);
	if (ovc_ring_is_uring(ring) != io_uring)
		cr_skip_test("no io_uring here");
	cr_assert_not(ovc_ring_fell_back(ring));
}

/* A write of the n-th block. */
static void queue(unsigned n, unsigned disk)
{
	struct ovc_ring_io io = { .write = true,
				  .fd = file,
				  .iov = &iov[n],
				  .nr_iov = 1,
				  .disk = disk,
				  .offset = n * LEN,
				  .user = n };

	memset(bytes[n], (int)n + 1, LEN);
	iov[n] = (struct iovec){ bytes[n], LEN };
	cr_assert(ovc_ring_queue(ring, &io));
}

/* The descriptor alone tells when, and each is told of once. */
static void expect(unsigned nr, int fd)
{
	struct ovc_ring_done done[DEPTH];
	bool seen[DEPTH] = { false };
	char back[LEN];

	for (unsigned got = 0; got < nr;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		unsigned n;

		cr_assert_eq(poll(&p, 1, 5000), 1, "%u of %u came", got, nr);
		n = ovc_ring_reap(ring, done, 5);
		for (unsigned i = 0; i < n; i++) {
			cr_assert_eq(done[i].result, LEN);
			cr_assert_not(seen[done[i].user]);
			seen[done[i].user] = true;
		}
		got += n;
	}
	cr_assert_eq(ovc_ring_reap(ring, done, DEPTH), 0);
	for (unsigned n = 0; n < nr; n++) {
		cr_assert_eq(pread(file, back, LEN, n * LEN), LEN);
		cr_assert_eq(memcmp(back, bytes[n], LEN), 0);
	}
}

Test(ring, what_io_uring_has_not_taken_the_stand_in_does, .timeout = 20)
{
	int fd;

	open_ring(true);
	fd = ovc_ring_lasting_fd(ring);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned n = 0; n < DEPTH; n++)
			queue(n, n);
		cr_assert_eq(ovc_ring_submit(ring), 0);
		expect(DEPTH, fd);
	}
	/* Some that it has, some that it has not, and some later. */
	for (unsigned n = 0; n < 4; n++)
		queue(n, n);
	cr_assert_eq(ovc_ring_submit(ring), 0);
	for (unsigned n = 4; n < 8; n++)
		queue(n, n);
	ovc_sys_fail_nth(2, EPERM);
	cr_assert_eq(ovc_ring_submit(ring), 0);
	cr_assert_str_eq(ovc_sys_fail_what(), "io_uring_enter refused");
	cr_assert(ovc_ring_fell_back(ring));
	cr_assert_not(ovc_ring_is_uring(ring));
	cr_assert_not(ovc_ring_behind(ring));
	for (unsigned n = 8; n < DEPTH; n++)
		queue(n, n);
	cr_assert_eq(ovc_ring_submit(ring), 0);
	cr_assert_eq(ovc_ring_lasting_fd(ring), fd);
	expect(DEPTH, fd);
	ovc_ring_destroy(&ring);
	cr_assert_null(ring);
}

Test(ring, a_call_that_may_pass_again_is_no_refusal, .timeout = 20)
{
	open_ring(true);
	for (unsigned n = 0; n < DEPTH; n++)
		queue(n, 0);
	ovc_sys_fail_nth(1, EAGAIN);
	cr_assert_eq(ovc_ring_submit(ring), -EAGAIN);
	cr_assert(ovc_ring_behind(ring));
	cr_assert_eq(ovc_ring_submit(ring), 0);
	cr_assert_not(ovc_ring_behind(ring));
	expect(DEPTH, ovc_ring_fd(ring));
	cr_assert(ovc_ring_is_uring(ring));
	ovc_ring_destroy(&ring);
}

Test(ring, a_disk_whose_thread_is_refused_uses_the_first, .timeout = 20)
{
	open_ring(false);
	for (unsigned n = 0; n < DEPTH; n++)
		queue(n, 3);
	ovc_sys_fail_nth(1, EAGAIN);
	cr_assert_eq(ovc_ring_submit(ring), 0);
	cr_assert_str_eq(ovc_sys_fail_what(), "pthread_create");
	expect(DEPTH, ovc_ring_fd(ring));
	ovc_ring_destroy(&ring);
}
