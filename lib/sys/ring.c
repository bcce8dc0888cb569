/* SPDX-License-Identifier: MIT */
/*
 * The one file that speaks to io_uring, and what stands in for it.
 *
 * The stand-in is a thread that takes the queue from the front and does each I/O
 * with preadv or pwritev; an eventfd says when something is done. It has the same
 * interface and the same order of events, so that nobody above can tell.
 *
 * A ring is not created with DEFER_TASKRUN: completions must make its descriptor
 * readable while the owner sleeps in poll(), which Linux 6.1 does not do then.
 *
 * On destroy everything in flight is waited for.
 */
#include "sys/ring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "meta.h"
#include "page.h"
#include "sys/fail.h"
#include "sys/pages.h"
#include "sys/thread.h"

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	int event;
	bool stop;
	/* free-running; queued >= started >= taken >= done */
	unsigned queued, started, taken, done, reaped;
	struct ovc_ring_io *ios;
	int *results;
};

struct ovc_ring {
	struct io_uring uring;
	struct worker *worker; /* NULL: io_uring */
	unsigned depth;
	unsigned in_flight;
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

/* ---- the thread that stands in --------------------------------------- */

static int do_io(const struct ovc_ring_io *io)
{
	ssize_t got;

	if (ovc_sys_slow())
		usleep((useconds_t)ovc_sys_slow());
	do {
		errno = -ovc_sys_fail(io->write ? "pwritev" : "preadv");
		if (errno)
			got = -1;
		else if (io->write)
			got = pwritev(io->fd, io->iov, (int)io->nr_iov,
				      (off_t)io->offset);
		else
			got = preadv(io->fd, io->iov, (int)io->nr_iov,
				     (off_t)io->offset);
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : (int)got;
}

static void *work(void *arg)
{
	struct ovc_ring *ring = arg;
	struct worker *w = ring->worker;
	uint64_t one = 1;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		unsigned slot = w->taken % ring->depth;

		if (w->taken == w->started) {
			if (w->stop)
				break;
			pthread_cond_wait(&w->more, &w->lock);
			continue;
		}
		w->taken++;
		pthread_mutex_unlock(&w->lock);
		w->results[slot] = do_io(&w->ios[slot]);
		pthread_mutex_lock(&w->lock);
		w->done++;
		if (write(w->event, &one, sizeof(one)) < 0)
			continue; /* full: it is readable already */
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void worker_free(struct worker *w)
{
	close(w->event);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->more);
	ovc_meta_free(w->ios);
	ovc_meta_free(w->results);
	ovc_meta_free(w);
}

static int worker_start(struct ovc_ring *ring)
{
	struct worker *w = ovc_meta_zalloc(sizeof(*w));
	int error = ovc_sys_fail("worker");

	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	w->ios = ovc_meta_zalloc(ring->depth * sizeof(*w->ios));
	w->results = ovc_meta_zalloc(ring->depth * sizeof(*w->results));
	w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ring->worker = w;
	if (w->event < 0)
		error = -errno;
	else if (!w->ios || !w->results)
		error = -ENOMEM;
	else if (!error)
		error = ovc_thread_start(&w->thread, "ovc-io", work, ring);
	if (error) {
		worker_free(w);
		ring->worker = NULL;
	}
	return error;
}

static void worker_stop(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	worker_free(w);
}

static unsigned worker_reap(struct ovc_ring *ring, struct ovc_ring_done *done,
			    unsigned max)
{
	struct worker *w = ring->worker;
	uint64_t events;
	unsigned nr = 0;

	if (read(w->event, &events, sizeof(events)) < 0)
		events = 0;
	pthread_mutex_lock(&w->lock);
	for (; nr < max && w->reaped != w->done; w->reaped++, nr++) {
		unsigned slot = w->reaped % ring->depth;

		done[nr].user = w->ios[slot].user;
		done[nr].result = w->results[slot];
	}
	/* What does not fit into `done` must keep the descriptor readable. */
	events = w->reaped != w->done;
	pthread_mutex_unlock(&w->lock);
	if (events && write(w->event, &events, sizeof(events)) < 0)
		return nr;
	return nr;
}

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
	if (!ring->has_buffers || ring->use_buffers)
		return;
	ring->has_buffers = register_buffers(ring);
	atomic_store(&ring->use_buffers, ring->has_buffers);
}

static int uring_start(struct ovc_ring *ring, const struct ovc_ring_options *o)
{
	int error = ovc_sys_fail("io_uring_setup");

	if (!error)
		error = io_uring_queue_init(ring->depth, &ring->uring, 0);
	if (error)
		return error;
	io_uring_ring_dontfork(&ring->uring);
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
	ovc_meta_free((void *)(uintptr_t)ring->wanted);
	ovc_meta_free(ring->known);
	ovc_meta_free(ring);
}

/* Whatever io_uring wants and does not get (locked memory, say), the thread can do
 * without; but not descriptors. */
static int start(struct ovc_ring *ring, const struct ovc_ring_options *o)
{
	int error = o->io_uring ? uring_start(ring, o) : -ENOSYS;

	if (error && error != -EMFILE)
		error = worker_start(ring);
	return error;
}

int ovc_ring_create(const struct ovc_ring_options *o, struct ovc_ring **ringp)
{
	struct ovc_ring *ring = ovc_meta_zalloc(sizeof(*ring));
	int error;

	if (!ring)
		return -ENOMEM;
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
	if (ring->worker)
		worker_stop(ring->worker);
	else
		io_uring_queue_exit(&ring->uring);
	ring_free(ring);
	*ringp = NULL;
}

bool ovc_ring_is_uring(const struct ovc_ring *ring)
{
	return !ring->worker;
}

bool ovc_ring_has_buffers(const struct ovc_ring *ring)
{
	return ring->has_buffers;
}

bool ovc_ring_has_files(const struct ovc_ring *ring)
{
	return ring->has_files;
}

int ovc_ring_fd(const struct ovc_ring *ring)
{
	return ring->worker ? ring->worker->event : ring->uring.ring_fd;
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

bool ovc_ring_queue(struct ovc_ring *ring, const struct ovc_ring_io *io)
{
	struct io_uring_sqe *sqe;

	if (ring->in_flight == ring->depth)
		return false;
	if (ring->worker) {
		struct worker *w = ring->worker;

		w->ios[w->queued++ % ring->depth] = *io;
		ring->in_flight++;
		return true;
	}
	sqe = io_uring_get_sqe(&ring->uring);
	if (!sqe)
		return false;
	prepare(ring, sqe, io);
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

int ovc_ring_submit(struct ovc_ring *ring)
{
	int got;

	if (!atomic_load_explicit(&ring->owner, memory_order_relaxed))
		ovc_ring_own(ring);
	if (!ovc_ring_is_mine(ring))
		ovc_bug("a thread submits to another's ring", 0);
	if (ring->worker) {
		pthread_mutex_lock(&ring->worker->lock);
		ring->worker->started = ring->worker->queued;
		pthread_cond_signal(&ring->worker->more);
		pthread_mutex_unlock(&ring->worker->lock);
		return 0;
	}
	if (!io_uring_sq_ready(&ring->uring))
		return 0;
	got = ovc_sys_fail("io_uring_enter");
	if (!got)
		got = enter(ring);
	return got < 0 ? got : 0;
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
	return nr;
}

bool ovc_ring_behind(const struct ovc_ring *ring)
{
	return !ring->worker && io_uring_sq_ready(&ring->uring);
}

unsigned ovc_ring_reap(struct ovc_ring *ring, struct ovc_ring_done *done,
		       unsigned max)
{
	unsigned nr = 0;

	if (!ring->worker)
		nr = uring_reap(ring, done, max);
	else if (ring->in_flight)
		nr = worker_reap(ring, done, max);
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
	struct pollfd p = { .fd = ovc_ring_fd(ring), .events = POLLIN };

	ovc_ring_submit(ring);
	poll(&p, 1, ms);
}
