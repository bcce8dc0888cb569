/* SPDX-License-Identifier: MIT */
/*
 * A caller that needs pages of swap does not read them itself: pread() waits for as long as
 * the disk does, and nothing but the disk's answer gets a thread out of it. It asks a
 * fault thread, whose reads are under way while it does other things, and waits for as
 * long as it likes.
 *
 *  state      whose         goes on to
 *  ---------  ------------  ------------------------------------------------------
 *  FREE       anyone's      BUSY
 *  BUSY       the caller's  READY; FREE
 *  READY      anyone's      TAKEN by a fault thread; BUSY, when the caller takes it back
 *  TAKEN      the thread's  ANSWERED; FORSAKEN, when the caller goes
 *  FORSAKEN   the thread's  FREE, when the disk answers
 *  ANSWERED   the thread's until it posts; then the caller's, who makes it FREE
 *
 * So each post is waited for, and none is left over for the next who uses the place. What
 * is copied goes to the caller's buffer only between TAKEN and the post, while it waits.
 *
 * Failures: without a free place, or where the thread has no buffers left, the caller
 * tries again. A region whose reads are under way has a grave (grave.c).
 */
#include "in/ask.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "core/budget.h"
#include "core/control.h"

enum { FREE, BUSY, READY, TAKEN, FORSAKEN, ANSWERED };

void ovc_asks_init(struct ovc_host *host)
{
	for (unsigned i = 0; i < OVC_MAX_ASKS; i++)
		sem_init(&host->asks[i].answered, 0, 0);
}

static bool become(struct ovc_ask *ask, int from, int to)
{
	return atomic_load(&ask->state) == from &&
	       atomic_compare_exchange_strong(&ask->state, &from, to);
}

/* ---- the caller ------------------------------------------------------------ */

static struct ovc_ask *post(struct ovc_host *host, const struct ovc_asked *what)
{
	for (unsigned i = 0; i < OVC_MAX_ASKS; i++) {
		struct ovc_ask *ask = &host->asks[i];

		if (!become(ask, FREE, BUSY))
			continue;
		ask->what = *what;
		atomic_fetch_add(&host->asks_ready, 1);
		atomic_store(&ask->state, READY);
		ovc_wake_faulters(host);
		return ask;
	}
	return NULL;
}

/* Waits a second, or until it is answered; in dispatch mode we may be who answers. */
static bool wait_a_while(struct ovc_host *host, struct ovc_ask *ask,
			 unsigned round)
{
	struct timespec until;

	if (host->take_steps) {
		ovc_host_pause(host, round);
		return !sem_trywait(&ask->answered);
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	return !sem_timedwait(&ask->answered, &until);
}

/* True: it has been answered meanwhile. */
static bool take_back(struct ovc_host *host, struct ovc_ask *ask, int *error)
{
	if (become(ask, READY, BUSY)) {
		atomic_fetch_sub(&host->asks_ready, 1);
		atomic_store(&ask->state, FREE);
		*error = -ETIMEDOUT;
		return false;
	}
	*error = -EINPROGRESS;
	if (become(ask, TAKEN, FORSAKEN))
		return false;
	while (sem_wait(&ask->answered))
		; /* a signal */
	return true;
}

int ovc_ask_read(const struct ovc_asked *what, uint64_t ns)
{
	struct ovc_host *host = what->region->vm->host;
	struct ovc_ask *ask = post(host, what);
	uint64_t since = ovc_now_ns();
	int error;

	if (!ask)
		return -EAGAIN;
	for (unsigned round = 0; !wait_a_while(host, ask, round); round++) {
		if (ovc_now_ns() - since <= ns)
			continue;
		if (!take_back(host, ask, &error))
			return error;
		break;
	}
	error = ask->error;
	atomic_store(&ask->state, FREE);
	return error;
}

/* ---- the fault thread ------------------------------------------------------- */

struct ovc_ask *ovc_ask_take(struct ovc_host *host)
{
	if (!atomic_load(&host->asks_ready))
		return NULL;
	for (unsigned i = 0; i < OVC_MAX_ASKS; i++) {
		if (!become(&host->asks[i], READY, TAKEN))
			continue;
		atomic_fetch_sub(&host->asks_ready, 1);
		return &host->asks[i];
	}
	return NULL;
}

bool ovc_ask_answer(struct ovc_ask *ask, int error, const char *bytes)
{
	if (!become(ask, TAKEN, ANSWERED)) {
		atomic_store(&ask->state, FREE);
		return false;
	}
	if (ask->what.to && !error)
		memcpy(ask->what.to, bytes, ask->what.nr * OVC_PAGE);
	ask->error = error;
	sem_post(&ask->answered);
	return true;
}
