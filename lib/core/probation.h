/* SPDX-License-Identifier: MIT */
/* Pages that came in cold, oldest first: see probation.c. */
#ifndef OVC_PROBATION_H
#define OVC_PROBATION_H

#include "core/internal.h"

int ovc_probation_create(struct ovc_probation **pp);
void ovc_probation_destroy(struct ovc_probation **pp);

/* The fault thread whose queue it is. */
void ovc_probation_push(struct ovc_probation *p, struct ovc_region *r,
			uint64_t idx);

/* Pages in all of the host's queues; the next of one of them, by turns: false, there is
 * none. Its region is NULL where that was forgotten. With control. */
uint64_t ovc_probation_waiting(const struct ovc_host *host);
bool ovc_probation_pop(struct ovc_host *host, unsigned *turn,
		       struct ovc_region **r, uint64_t *idx);

/* Forgets the pages of a region, of which none comes any more. With control. */
void ovc_probation_forget(const struct ovc_host *host,
			  const struct ovc_region *region);

#endif
