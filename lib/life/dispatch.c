/* SPDX-License-Identifier: MIT */
/*
 * Dispatch mode: there are no threads of ours; ovc_host_dispatch() takes their steps,
 * when the descriptor that the VMM polls says that there is something to do.
 *
 * The thread that dispatches owns the rings, and takes the steps; the one that created
 * the host does until then. Another that dispatches takes both over. Who owns them takes
 * the same steps where a call of its own has to wait; anyone else waits for it.
 */
#include "life/dispatch.h"

#include "core/control.h"
#include "core/events.h"
#include "life/host.h"
#include "share/share.h"

static bool step_faulter(struct ovc_host *host)
{
	struct ovc_ring *ring = host->fault_ring[0];
	bool did = false;

	if (atomic_exchange(&host->stepping, true))
		return false;
	if (ovc_ring_is_mine(ring)) {
		did = ovc_faulter_step(host->faulters[0]);
		atomic_store(&host->late, ovc_ring_behind(ring));
	}
	atomic_store(&host->stepping, false);
	return did;
}

/* Nobody is in a step of either kind when it changes hands. */
void ovc_dispatch_take_over(struct ovc_host *host)
{
	if (ovc_ring_is_mine(host->write_ring))
		return;
	while (atomic_exchange(&host->stepping, true))
		ovc_nap(0);
	ovc_ring_own(host->fault_ring[0]);
	atomic_store(&host->stepping, false);
	ovc_control_lock(host);
	ovc_ring_own(host->write_ring);
	ovc_control_unlock(host);
}

static void take_steps(struct ovc_host *host)
{
	struct ovc_ring *ring = host->write_ring;

	step_faulter(host);
	/* Reclaim, in a callback too, if we do not hold its lock ourselves. */
	if (ovc_ring_is_mine(ring) && !pthread_mutex_trylock(&host->control)) {
		if (ovc_ring_is_mine(ring))
			ovc_reclaim_step(host->reclaim);
		pthread_mutex_unlock(&host->control);
	}
}

int ovc_dispatch_create(struct ovc_host *host)
{
	/* Reclaim says how long it can wait; a timer keeps that promise. */
	int timer = host->timer = ovc_timer_create();
	int fds[] = { host->uffd,
		      host->laid_uffd,
		      host->fault_wake,
		      host->reclaim_wake,
		      ovc_ring_lasting_fd(host->fault_ring[0]),
		      ovc_ring_lasting_fd(host->write_ring),
		      host->share_wake,
		      timer };

	if (timer < 0)
		return timer;
	host->take_steps = take_steps;
	ovc_dispatch_take_over(host);
	host->epoll = ovc_poll_create(fds, sizeof(fds) / sizeof(fds[0]));
	return host->epoll < 0 ? host->epoll : 0;
}

/* Looks for equal pages when it is time to. Returns the shorter time to wait. */
static int share_too(struct ovc_host *host, int wait)
{
	uint64_t now = ovc_now_ns();
	int more;

	if (ovc_notify_clear(host->share_wake) || now >= host->share_at) {
		more = ovc_share_step(host->share);
		host->share_at = more < 0 ? UINT64_MAX :
					    now + (uint64_t)more * 1000000;
	}
	if (host->share_at == UINT64_MAX)
		return wait;
	more = (int)((host->share_at - now) / 1000000);
	return wait < 0 || more < wait ? more : wait;
}

void ovc_host_step(struct ovc_host *host)
{
	bool late;
	int wait = 0;

	ovc_dispatch_take_over(host);
	ovc_notify_clear(host->fault_wake);
	ovc_notify_clear(host->reclaim_wake);
	ovc_notify_clear(host->timer);
	atomic_store(&host->kicked, false);
	while (step_faulter(host))
		;
	late = atomic_load(&host->late);
	ovc_control_lock(host);
	/* Another may have taken over already: it goes on. */
	if (ovc_ring_is_mine(host->write_ring))
		wait = ovc_reclaim_step(host->reclaim);
	ovc_control_unlock(host);
	ovc_events_log(host);
	wait = share_too(host, wait);
	ovc_timer_set(host->timer, late && (wait < 0 || wait > 1) ? 1 : wait);
}
