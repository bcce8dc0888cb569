/* SPDX-License-Identifier: MIT */
/*
 * The one file that speaks to io_uring. Where that is refused, sys/standin.c
 * does the I/Os. Nobody above can tell, but by ovc_ring_is_uring().
 *
 * A ring is not created with DEFER_TASKRUN: completions must make its descriptor
 * readable while the owner sleeps in poll(), which Linux 6.1 does not do then.
 *
 * Failures: io_uring may be refused at creation, or later. A filter (seccomp)
 * that a VMM puts on when its guests are set up refuses io_uring_enter. Then the
 * ring falls back, for good. What the kernel has not taken out of the queue goes
 * to the stand-in. What it has taken it ends. It says so in shared memory, which
 * is read without a system call. As always it does that when the thread that
 * submitted leaves the kernel next, from poll() or whatever. So both are reaped
 * until the kernel has none left. Files and buffers that were registered stay so
 * until the ring is closed, for io_uring_register may be refused, too.
 *
 * There is an epoll of both, from the beginning: in dispatch mode it is put into a
 * set once, and under a filter a thread may get no descriptor. To poll it costs about
 * 0.1 us more, so that threads poll io_uring's own descriptor until they fall back. An
 * eventfd that io_uring posts to would cost a read() each time.
 *
 * On destroy everything in flight is waited for.
 */
#include "sys/ring.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/meta.h"
#include "core/page.h"
#include "sys/fail.h"
#include "sys/pages.h"
#include "sys/standin.h"
#include "sys/thread.h"

#define WORKERS 64 /* of the kernel's, that may sleep in a file system */

struct ovc_ring {
	struct io_uring uring;
	bool has_uring;
	_Atomic bool fell_back; /* and it is not used any more */
	struct ovc_standin *standin;
	int both; /* an epoll of the two, where there is an io_uring */
	/* What is in the queue of io_uring, by the same index. */
	struct ovc_ring_io *queued;
	unsigned depth;
	unsigned in_flight;
	unsigned in_uring;	 /* of those */
	bool writes;		 /* are among what is queued */
	_Atomic uintptr_t owner; /* pthread_self(), or 0: nobody yet */
	struct iovec buffers;
	_Atomic bool has_buffers; /* they can be registered */
	_Atomic bool use_buffers; /* they are */
	bool has_files;
	/* What a file index shall be, and what it is: fd + 1, or 0; and in the
	 * upper half a count, since another file may get the number again. */
	_Atomic uint64_t *wanted;
	uint64_t *known;
	unsigned files;
};

/* ---- io_uring -------------------------------------------------------- */

static bool register_buffers(struct ovc_ring *ring)
{
	return !ovc_sys_fail("register_buffers") &&
	       !io_uring_register_buffers(&ring->uring, &ring->buffers, 1);
}

/* Are they allowed (locked memory has a limit)? They are not needed yet. */
static void try_buffers(struct ovc_ring *ring)
{
	ring->has_buffers = register_buffers(ring);
	if (!ring->has_buffers)
		return;
	io_uring_unregister_buffers(&ring->uring);
	ovc_pages_dontneed(ring->buffers.iov_base, ring->buffers.iov_len);
}

void ovc_ring_use_buffers(struct ovc_ring *ring)
{
	if (!ring->has_buffers || ring->use_buffers || !ovc_ring_is_uring(ring))
		return;
	ring->has_buffers = register_buffers(ring);
	atomic_store(&ring->use_buffers, ring->has_buffers);
}

/* An I/O that waits for its file system, a frozen one say, holds a worker of the
 * kernel's. Without a free worker nobody's I/O begins. The kernel's own limit is
 * four for each CPU; it is never lowered. A limit of 0 asks for what it is. */
static void raise_workers(struct ovc_ring *ring)
{
	unsigned most[2] = { 0, 0 };
	unsigned want = ring->depth < WORKERS ? ring->depth : WORKERS;

	if (ovc_sys_fail("register_iowq_max_workers") ||
	    io_uring_register_iowq_max_workers(&ring->uring, most))
		return;
	most[0] = most[0] > want ? most[0] : want;
	most[1] = 0;
	io_uring_register_iowq_max_workers(&ring->uring, most);
}

/* What the ring cannot do without. */
static int uring_equip(struct ovc_ring *ring)
{
	int fds[] = { ring->uring.ring_fd, ovc_standin_fd(ring->standin) };

	ring->queued = ovc_meta_zalloc(ring->uring.sq.ring_entries *
				       sizeof(*ring->queued));
	if (!ring->queued)
		return -ENOMEM;
	ring->both = ovc_poll_create(fds, 2);
	return ring->both < 0 ? ring->both : 0;
}

static int uring_start(struct ovc_ring *ring, const struct ovc_ring_options *o)
{
	int error = ovc_sys_fail("io_uring_setup");

	if (!error)
		error = io_uring_queue_init(ring->depth, &ring->uring, 0);
	if (error)
		return error;
	error = uring_equip(ring);
	if (error) {
		io_uring_queue_exit(&ring->uring);
		return error;
	}
	ring->has_uring = true;
	io_uring_ring_dontfork(&ring->uring);
	raise_workers(ring);
	ring->buffers = (struct iovec){ o->buffers, o->buffers_len };
	if (o->fixed_buffers && o->buffers)
		try_buffers(ring);
	if (o->fixed_files && o->files && !ovc_sys_fail("register_files"))
		ring->has_files =
			!io_uring_register_files_sparse(&ring->uring, o->files);
	return 0;
}

static void ring_free(struct ovc_ring *ring)
{
	ovc_standin_destroy(&ring->standin);
	ovc_fd_close(ring->both);
	ovc_meta_free(ring->queued);
	ovc_meta_free((void *)(uintptr_t)ring->wanted);
	ovc_meta_free(ring->known);
	ovc_meta_free(ring);
}

/* Whatever io_uring wants and does not get (locked memory, say), the stand-in can
 * do without; but not descriptors. */
static int start(struct ovc_ring *ring, const struct ovc_ring_options *o)
{
	int error = ovc_standin_create(ring->depth, &ring->standin);

	if (error)
		return error;
	error = o->io_uring ? uring_start(ring, o) : -ENOSYS;
	if (error && error != -EMFILE)
		error = ovc_standin_start(ring->standin);
	return error;
}

int ovc_ring_create(const struct ovc_ring_options *o, struct ovc_ring **ringp)
{
	struct ovc_ring *ring = ovc_meta_zalloc(sizeof(*ring));
	int error;

	if (!ring)
		return -ENOMEM;
	ring->both = -1;
	ring->depth = o->depth;
	ring->files = o->files;
	ring->wanted = ovc_meta_zalloc((o->files + 1) * sizeof(*ring->wanted));
	ring->known = ovc_meta_zalloc((o->files + 1) * sizeof(*ring->known));
	if (!ring->wanted || !ring->known)
		error = -ENOMEM;
	else
		error = start(ring, o);
	if (error) {
		ring_free(ring);
		return error;
	}
	*ringp = ring;
	return 0;
}

void ovc_ring_destroy(struct ovc_ring **ringp)
{
	struct ovc_ring *ring = *ringp;
	struct ovc_ring_done done[16];

	if (!ring)
		return;
	while (ring->in_flight) {
		ovc_ring_wait(ring, 100);
		ovc_ring_reap(ring, done, 16);
	}
	if (ring->has_uring)
		io_uring_queue_exit(&ring->uring);
	ring_free(ring);
	*ringp = NULL;
}

bool ovc_ring_is_uring(const struct ovc_ring *ring)
{
	return ring->has_uring && !ovc_ring_fell_back(ring);
}

bool ovc_ring_fell_back(const struct ovc_ring *ring)
{
	return atomic_load_explicit(&ring->fell_back, memory_order_relaxed);
}

bool ovc_ring_has_buffers(const struct ovc_ring *ring)
{
	return ring->has_buffers;
}

bool ovc_ring_has_files(const struct ovc_ring *ring)
{
	return ring->has_files;
}

int ovc_ring_lasting_fd(const struct ovc_ring *ring)
{
	return ring->has_uring ? ring->both : ovc_standin_fd(ring->standin);
}

int ovc_ring_fd(const struct ovc_ring *ring)
{
	return ovc_ring_is_uring(ring) ? ring->uring.ring_fd :
					 ovc_ring_lasting_fd(ring);
}

static void update_file(struct ovc_ring *ring, unsigned index)
{
	uint64_t want = atomic_load(&ring->wanted[index]);
	int fd = (int)(uint32_t)want - 1;

	if (want == ring->known[index] || ovc_sys_fail("register_files_update"))
		return;
	if (io_uring_register_files_update(&ring->uring, index, &fd, 1) == 1)
		ring->known[index] = want;
}

void ovc_ring_set_file(struct ovc_ring *ring, unsigned index, int fd)
{
	uint64_t was;

	if (!ring->has_files || index >= ring->files)
		return;
	was = atomic_load(&ring->wanted[index]);
	atomic_store(&ring->wanted[index],
		     ((was >> 32) + 1) << 32 | (uint32_t)(fd + 1));
	update_file(ring, index);
}

/* The table's index of the I/O's file, if it is in there. */
static bool is_known(const struct ovc_ring *ring, const struct ovc_ring_io *io)
{
	return ring->has_files && io->file < ring->files &&
	       (uint32_t)ring->known[io->file] == (uint32_t)(io->fd + 1) &&
	       atomic_load(&ring->wanted[io->file]) == ring->known[io->file];
}

static void prepare(struct ovc_ring *ring, struct io_uring_sqe *sqe,
		    const struct ovc_ring_io *io)
{
	bool fixed_file = is_known(ring, io);
	int fd = fixed_file ? (int)io->file : io->fd;
	bool fixed = io->fixed && io->nr_iov == 1 &&
		     atomic_load(&ring->use_buffers);
	const struct iovec *v = io->iov;

	if (fixed && io->write)
		io_uring_prep_write_fixed(sqe, fd, v->iov_base,
					  (unsigned)v->iov_len, io->offset, 0);
	else if (fixed)
		io_uring_prep_read_fixed(sqe, fd, v->iov_base,
					 (unsigned)v->iov_len, io->offset, 0);
	else if (io->write)
		io_uring_prep_writev(sqe, fd, v, io->nr_iov, io->offset);
	else
		io_uring_prep_readv(sqe, fd, v, io->nr_iov, io->offset);
	if (fixed_file)
		sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = io->user;
	ring->writes |= io->write;
}

/* A write behind RLIMIT_FSIZE sends SIGXFSZ to who submits it, and in dispatch mode that
 * is a thread of the program's: it is a write that failed, no more. */
static int enter(struct ovc_ring *ring)
{
	struct ovc_held_signal held;
	int got;

	if (!ring->writes)
		return io_uring_submit(&ring->uring);
	ovc_signal_hold(&held, SIGXFSZ);
	got = io_uring_submit(&ring->uring);
	ovc_signal_release(&held);
	ring->writes = io_uring_sq_ready(&ring->uring);
	return got;
}

static bool uring_queue(struct ovc_ring *ring, const struct ovc_ring_io *io)
{
	struct io_uring_sq *sq = &ring->uring.sq;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	if (!sqe)
		return false;
	prepare(ring, sqe, io);
	ring->queued[(sq->sqe_tail - 1) & sq->ring_mask] = *io;
	ring->in_uring++;
	return true;
}

bool ovc_ring_queue(struct ovc_ring *ring, const struct ovc_ring_io *io)
{
	if (ring->in_flight == ring->depth)
		return false;
	if (!ovc_ring_is_uring(ring))
		ovc_standin_queue(ring->standin, io);
	else if (!uring_queue(ring, io))
		return false;
	ring->in_flight++;
	return true;
}

void ovc_ring_own(struct ovc_ring *ring)
{
	atomic_store(&ring->owner, (uintptr_t)pthread_self());
}

bool ovc_ring_is_mine(const struct ovc_ring *ring)
{
	return atomic_load_explicit(&ring->owner, memory_order_relaxed) ==
	       (uintptr_t)pthread_self();
}

/* Does the same call make sense again? */
static bool is_passing(int error)
{
	return error == -EAGAIN || error == -EBUSY || error == -EINTR ||
	       error == -ENOMEM;
}

static int uring_submit(struct ovc_ring *ring, bool *refused)
{
	int got;

	*refused = false;
	if (!io_uring_sq_ready(&ring->uring))
		return 0;
	got = ovc_sys_fail("io_uring_enter");
	if (got)
		return got;
	got = ovc_sys_fail("io_uring_enter refused") ? -EPERM : enter(ring);
	*refused = got < 0 && !is_passing(got);
	return got < 0 ? got : 0;
}

/* From now on without io_uring. What it has not taken is taken back, so that it
 * never does. */
static void fall_back(struct ovc_ring *ring)
{
	struct io_uring_sq *sq = &ring->uring.sq;
	unsigned head = io_uring_smp_load_acquire(sq->khead);

	for (unsigned at = head; at != sq->sqe_tail; at++) {
		ovc_standin_queue(ring->standin,
				  &ring->queued[at & sq->ring_mask]);
		ring->in_uring--;
	}
	sq->sqe_head = sq->sqe_tail = head;
	io_uring_smp_store_release(sq->ktail, head);
	atomic_store(&ring->fell_back, true);
}

int ovc_ring_submit(struct ovc_ring *ring)
{
	bool refused;
	int error;

	if (!atomic_load_explicit(&ring->owner, memory_order_relaxed))
		ovc_ring_own(ring);
	if (!ovc_ring_is_mine(ring))
		ovc_bug("a thread submits to another's ring", 0);
	if (ovc_ring_is_uring(ring)) {
		error = uring_submit(ring, &refused);
		if (!refused)
			return error;
		fall_back(ring);
	}
	ovc_standin_submit(ring->standin);
	return 0;
}

static unsigned uring_reap(struct ovc_ring *ring, struct ovc_ring_done *done,
			   unsigned max)
{
	struct io_uring_cqe *cqe;
	unsigned nr = 0;

	/* An EAGAIN of submit left work behind. */
	if (io_uring_sq_ready(&ring->uring))
		ovc_ring_submit(ring);
	while (nr < max && !io_uring_peek_cqe(&ring->uring, &cqe)) {
		done[nr].user = cqe->user_data;
		done[nr++].result = cqe->res;
		io_uring_cqe_seen(&ring->uring, cqe);
	}
	ring->in_uring -= nr;
	return nr;
}

bool ovc_ring_behind(const struct ovc_ring *ring)
{
	return ovc_ring_is_uring(ring) && io_uring_sq_ready(&ring->uring);
}

unsigned ovc_ring_reap(struct ovc_ring *ring, struct ovc_ring_done *done,
		       unsigned max)
{
	unsigned nr = 0;

	if (ring->in_uring)
		nr = uring_reap(ring, done, max);
	if (ring->in_flight - nr > ring->in_uring)
		nr += ovc_standin_reap(ring->standin, done + nr, max - nr);
	ring->in_flight -= nr;
	for (unsigned i = 0; i < nr; i++) {
		int error = ovc_sys_fail("io completion");

		if (error && done[i].result >= 0)
			done[i].result = error;
	}
	return nr;
}

void ovc_ring_wait(struct ovc_ring *ring, int ms)
{
	int fd;

	ovc_ring_submit(ring);
	fd = ovc_ring_fd(ring);
	ovc_poll_first(&fd, 1, ms);
}
