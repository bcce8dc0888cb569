/* SPDX-License-Identifier: MIT */
/* host->control, and how a caller waits. */
#ifndef OVC_CONTROL_H
#define OVC_CONTROL_H

#include "core/internal.h"

/* Takes host->control from a caller, ahead of the reclaim thread's next step. */
void ovc_control_lock(struct ovc_host *host);
void ovc_control_unlock(struct ovc_host *host);

/* A caller that must wait for another thread does this between two looks; in
 * dispatch mode it does the other thread's work. */
void ovc_host_pause(struct ovc_host *host, unsigned round);

/* How long a caller waits for memory, or for a disk, without coming nearer to its end. */
#define OVC_PATIENCE_NS 30000000000ull

/* To be asked between two looks: have we waited for so long? *since is 0 at first. */
bool ovc_waited_for(uint64_t *since, unsigned round, uint64_t ns);

#endif
