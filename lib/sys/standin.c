/* SPDX-License-Identifier: MIT */
/*
 * What stands in for io_uring: lanes, each a thread that takes its queue from
 * the front and does each I/O with preadv or pwritev. An eventfd says when
 * something is done.
 *
 * A disk that does not answer holds the thread that asked it. So each disk has a
 * lane, and the others go on. Disks whose numbers differ by a multiple of LANES
 * share one. A lane's thread starts with the first I/O of its disk, and stays.
 * An I/O is in one list at a time:
 *
 *	list		whose		left by
 *	free		the owner's	ovc_standin_queue()
 *	queued		the owner's	ovc_standin_submit()
 *	lane->todo	locked		the lane's thread
 *	(none)		the lane's	the end of the system call
 *	done		locked		ovc_standin_reap()
 *
 * Failures: an I/O that fails is done, with its errno. A lane whose thread is
 * refused leaves its I/Os to lane 0, and asks for the thread again after a
 * while. Lane 0's starts at creation where there is no io_uring. Where io_uring
 * is refused later, threads may be, too. Then the thread that submits does the
 * I/O, and waits for it.
 *
 * On stop each lane ends its queue and then its thread.
 */
#include "sys/standin.h"

#include <errno.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/meta.h"
#include "sys/fail.h"
#include "sys/thread.h"

#define LANES 16
#define AGAIN 1000000000ull /* ns after which a refused thread is asked for */

struct slot {
	struct slot *next;
	struct ovc_ring_io io;
	int result;
};

struct list {
	struct slot *first, **end; /* end: NULL while nothing was pushed */
};

struct lane {
	struct ovc_standin *standin;
	pthread_t thread;
	pthread_cond_t more;
	struct list todo;
	bool runs;
	uint64_t again; /* when its thread may be asked for */
};

struct ovc_standin {
	pthread_mutex_t lock;
	int event;
	bool stop;
	struct list free, queued, done;
	struct slot *slots;
	struct lane lanes[LANES];
};

static void push(struct list *list, struct slot *slot)
{
	slot->next = NULL;
	if (!list->first)
		list->end = &list->first;
	*list->end = slot;
	list->end = &slot->next;
}

static struct slot *pop(struct list *list)
{
	struct slot *slot = list->first;

	if (slot)
		list->first = slot->next;
	return slot;
}

/* ---- the I/O, and a lane's thread ---------------------------------------- */

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

static void *serve(void *arg)
{
	struct lane *lane = arg;
	struct ovc_standin *s = lane->standin;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct slot *slot = pop(&lane->todo);

		if (slot) {
			pthread_mutex_unlock(&s->lock);
			slot->result = do_io(&slot->io);
			pthread_mutex_lock(&s->lock);
			push(&s->done, slot);
			ovc_notify_post(s->event);
		} else if (s->stop) {
			break;
		} else {
			pthread_cond_wait(&lane->more, &s->lock);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int start_lane(struct lane *lane)
{
	char name[16] = "ovc-io/00";
	unsigned n = (unsigned)(lane - lane->standin->lanes);
	int error;

	name[7] = (char)('0' + n / 10);
	name[8] = (char)('0' + n % 10);
	error = ovc_thread_start(&lane->thread, name, serve, lane);
	lane->runs = !error;
	return error;
}

/* Does the lane's thread run, or can it be started now? */
static bool lane_runs(struct lane *lane)
{
	uint64_t now;

	if (lane->runs)
		return true;
	now = ovc_now_ns();
	if (now < lane->again)
		return false;
	lane->again = now + AGAIN;
	return !start_lane(lane);
}

static struct lane *lane_of(struct ovc_standin *s, const struct ovc_ring_io *io)
{
	struct lane *lane = &s->lanes[io->disk % LANES];

	if (lane_runs(lane))
		return lane;
	return lane_runs(&s->lanes[0]) ? &s->lanes[0] : NULL;
}

/* ---- from the owner of the ring -------------------------------------------- */

void ovc_standin_queue(struct ovc_standin *s, const struct ovc_ring_io *io)
{
	struct slot *slot = pop(&s->free);

	slot->io = *io;
	push(&s->queued, slot);
}

/* Without a lane. A write behind RLIMIT_FSIZE sends a signal to this thread. */
static void do_here(struct ovc_standin *s, struct slot *slot)
{
	struct ovc_held_signal held;

	if (slot->io.write)
		ovc_signal_hold(&held, SIGXFSZ);
	slot->result = do_io(&slot->io);
	if (slot->io.write)
		ovc_signal_release(&held);
	pthread_mutex_lock(&s->lock);
	push(&s->done, slot);
	pthread_mutex_unlock(&s->lock);
	ovc_notify_post(s->event);
}

void ovc_standin_submit(struct ovc_standin *s)
{
	struct slot *slot;

	while ((slot = pop(&s->queued))) {
		struct lane *lane = lane_of(s, &slot->io);

		if (!lane) {
			do_here(s, slot);
			continue;
		}
		pthread_mutex_lock(&s->lock);
		push(&lane->todo, slot);
		pthread_cond_signal(&lane->more);
		pthread_mutex_unlock(&s->lock);
	}
}

unsigned ovc_standin_reap(struct ovc_standin *s, struct ovc_ring_done *done,
			  unsigned max)
{
	struct slot *slot;
	unsigned nr = 0;

	ovc_notify_clear(s->event);
	pthread_mutex_lock(&s->lock);
	for (; nr < max && (slot = pop(&s->done)); nr++) {
		done[nr].user = slot->io.user;
		done[nr].result = slot->result;
		push(&s->free, slot);
	}
	/* What does not fit into `done` must keep the descriptor readable. */
	if (s->done.first)
		ovc_notify_post(s->event);
	pthread_mutex_unlock(&s->lock);
	return nr;
}

int ovc_standin_fd(const struct ovc_standin *s)
{
	return s->event;
}

/* ---- life ------------------------------------------------------------------ */

int ovc_standin_create(unsigned depth, struct ovc_standin **standinp)
{
	struct ovc_standin *s = ovc_meta_zalloc(sizeof(*s));
	int error = 0;

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	for (unsigned i = 0; i < LANES; i++) {
		s->lanes[i].standin = s;
		pthread_cond_init(&s->lanes[i].more, NULL);
	}
	s->slots = ovc_meta_zalloc(depth * sizeof(*s->slots));
	s->event = ovc_notify_create();
	if (s->event < 0)
		error = s->event;
	else if (!s->slots)
		error = -ENOMEM;
	for (unsigned i = 0; !error && i < depth; i++)
		push(&s->free, &s->slots[i]);
	if (error)
		ovc_standin_destroy(&s);
	else
		*standinp = s;
	return error;
}

int ovc_standin_start(struct ovc_standin *s)
{
	int error = ovc_sys_fail("worker");

	return error ? error : start_lane(&s->lanes[0]);
}

void ovc_standin_destroy(struct ovc_standin **standinp)
{
	struct ovc_standin *s = *standinp;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	for (unsigned i = 0; i < LANES; i++)
		pthread_cond_signal(&s->lanes[i].more);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < LANES; i++) {
		if (s->lanes[i].runs)
			pthread_join(s->lanes[i].thread, NULL);
		pthread_cond_destroy(&s->lanes[i].more);
	}
	pthread_mutex_destroy(&s->lock);
	ovc_fd_close(s->event);
	ovc_meta_free(s->slots);
	ovc_meta_free(s);
	*standinp = NULL;
}
