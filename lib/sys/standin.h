/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes of swap files without io_uring: threads with preadv and
 * pwritev, one for each disk. For sys/ring.c alone. One thread at a time queues,
 * submits and reaps.
 */
#ifndef OVC_SYS_STANDIN_H
#define OVC_SYS_STANDIN_H

#include "sys/ring.h"

struct ovc_standin;

/* For `depth` I/Os in flight. It has no thread yet. 0 or -errno. */
int ovc_standin_create(unsigned depth, struct ovc_standin **standinp);

/* Waits for what is in flight. */
void ovc_standin_destroy(struct ovc_standin **standinp);

/* Starts lane 0, which does what no other lane can. 0 or -errno. */
int ovc_standin_start(struct ovc_standin *s);

/* Polls readable when something is done. */
int ovc_standin_fd(const struct ovc_standin *s);

/* Queues an I/O: no more than `depth` that are not reaped. */
void ovc_standin_queue(struct ovc_standin *s, const struct ovc_ring_io *io);

/* Starts what is queued. */
void ovc_standin_submit(struct ovc_standin *s);

/* Collects up to `max` finished I/Os; never blocks. */
unsigned ovc_standin_reap(struct ovc_standin *s, struct ovc_ring_done *done,
			  unsigned max);

#endif
