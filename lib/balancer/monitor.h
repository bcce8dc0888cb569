/* SPDX-License-Identifier: MIT */
/*
 * Watches memory while nothing is tracked, and begins to track when the budget or a
 * VM's limit may soon be reached. Run by reclaim, under host->control.
 */
#ifndef OVC_MONITOR_H
#define OVC_MONITOR_H

#include "core/internal.h"

struct ovc_monitor {
	uint64_t next;		/* when to look again */
	uint64_t latest;	/* by how many ns a look came late, at most */
	uint64_t registered_at; /* when to see whether regions still are */
};

/* Looks, if it is time to. Returns for how many milliseconds all is well, -1 for as
 * long as nobody changes the budget or adds memory. */
int ovc_monitor_step(struct ovc_monitor *m, struct ovc_host *host,
		     uint64_t now);

/* Sees, once a second, whether the kernel has the regions registered still. Returns for
 * how many milliseconds to leave it, -1: nothing is tracked. Needs control. */
int ovc_monitor_registered(struct ovc_monitor *m, struct ovc_host *host,
			   uint64_t now);

#endif
