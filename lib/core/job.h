/* SPDX-License-Identifier: MIT */
/*
 * Jobs: what a caller wants done that takes writes, and that the one thread which owns
 * reclaim's ring does for it.
 */
#ifndef OVC_JOB_H
#define OVC_JOB_H

#include <semaphore.h>

#include "core/internal.h"

enum ovc_job_state { OVC_JOB_NEW, OVC_JOB_WAITING, OVC_JOB_DONE };

enum ovc_job_came {
	OVC_CAME_TO_END,  /* there is nothing more to do */
	OVC_CAME_NEARER,  /* go on at once */
	OVC_CAME_NOWHERE, /* something must happen first: a write be done, say */
};

struct ovc_job {
	/* Takes one step, of a few ms at most; with control, by the owner of
	 * reclaim's ring. */
	enum ovc_job_came (*step)(struct ovc_reclaim *rc, struct ovc_job *job);
	uint64_t patience; /* ns without progress; 0: OVC_PATIENCE_NS */

	/* with control */
	enum ovc_job_state state;
	struct ovc_job *next;
	uint64_t moved; /* when it last came nearer to its end */

	sem_t done;
};

/*
 * Has a job done that has nothing but its step and its patience, and waits for that. 0;
 * -ETIMEDOUT where it came no nearer to its end for so long: nobody works at it any more
 * then. Needs no lock.
 */
int ovc_job_run(struct ovc_host *host, struct ovc_job *job);

/* Takes a step of each job that waits. Returns in how many milliseconds to take the
 * next, -1: no job waits. Needs control; the owner of reclaim's ring only. */
int ovc_jobs_step(struct ovc_reclaim *rc);

#endif
