/* SPDX-License-Identifier: MIT */
/*
 * Nobody but its owner submits to a ring. The kernel tells of an I/O that is done in the
 * context of the thread which submitted it, when that thread next leaves the kernel; a
 * caller who submitted a write, and then sits in vfork() or waits for a page itself,
 * would keep that write, and all who wait for it, from ending. So a caller says what it
 * wants, and waits.
 *
 *  state    linked  who moves it on
 *  -------  ------  ------------------------------------------------------------
 *  NEW      no      the caller, who links it (control)
 *  WAITING  yes     the owner of reclaim's ring, a step at a time (control); or
 *                   the caller, who has lost patience and takes it back (control)
 *  DONE     no      the caller, who was told by the semaphore
 *
 * A job lives on its caller's stack: who unlinks it touches it no more, but for the post.
 *
 * In dispatch mode the owner is the thread that dispatches. A caller that is the owner,
 * there or in a callback, takes the steps itself.
 *
 * Failures: a job that came no nearer to its end for as long as it has patience is taken back; what
 * it did until then stays done.
 */
#include "core/job.h"

#include <errno.h>
#include <time.h>

#include "core/budget.h"
#include "core/control.h"
#include "out/reclaim.h"

static void unlink_job(struct ovc_reclaim *rc, struct ovc_job *job)
{
	struct ovc_job **at = &rc->jobs;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
}

/* Behind all others. */
static void link_job(struct ovc_reclaim *rc, struct ovc_job *job)
{
	struct ovc_job **at = &rc->jobs;

	while (*at)
		at = &(*at)->next;
	*at = job;
	job->next = NULL;
	job->moved = ovc_now_ns();
	job->state = OVC_JOB_WAITING;
}

int ovc_jobs_step(struct ovc_reclaim *rc)
{
	int wait = -1;

	for (struct ovc_job *job = rc->jobs, *next; job; job = next) {
		next = job->next;
		switch (job->step(rc, job)) {
		case OVC_CAME_TO_END:
			unlink_job(rc, job);
			job->state = OVC_JOB_DONE;
			sem_post(&job->done);
			break;
		case OVC_CAME_NEARER:
			job->moved = ovc_now_ns();
			wait = 0;
			break;
		case OVC_CAME_NOWHERE:
			wait = wait ? 1 : 0;
			break;
		}
	}
	return wait;
}

/* Waits a second, or until it is done. */
static bool wait_for(struct ovc_job *job)
{
	struct timespec until;
	int error;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	do {
		error = sem_timedwait(&job->done, &until) ? errno : 0;
	} while (error == EINTR);
	return !error;
}

/* Takes a job back that comes no nearer to its end. */
static bool give_up(struct ovc_host *host, struct ovc_job *job)
{
	bool late;

	ovc_control_lock(host);
	late = job->state == OVC_JOB_WAITING &&
	       ovc_now_ns() - job->moved > job->patience;
	if (late)
		unlink_job(host->reclaim, job);
	ovc_control_unlock(host);
	return late;
}

int ovc_job_run(struct ovc_host *host, struct ovc_job *job)
{
	struct ovc_ring *ring = host->write_ring;
	bool late = false;

	if (!job->patience)
		job->patience = OVC_PATIENCE_NS;
	sem_init(&job->done, 0, 0);
	ovc_control_lock(host);
	link_job(host->reclaim, job);
	ovc_control_unlock(host);
	ovc_kick_always(host);
	for (unsigned round = 0; !late; round++) {
		if (ovc_ring_is_mine(ring)) {
			ovc_host_pause(host, round);
			if (!sem_trywait(&job->done))
				break;
			late = !(round % 1024) && give_up(host, job);
		} else {
			if (wait_for(job))
				break;
			late = give_up(host, job);
		}
	}
	sem_destroy(&job->done);
	return late ? -ETIMEDOUT : 0;
}
