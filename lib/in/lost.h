/* SPDX-License-Identifier: MIT */
/* What the kernel does not let the guest have; see lost.c. [fault] */
#ifndef OVC_LOST_H
#define OVC_LOST_H

#include "core/internal.h"

#define OVC_TRIES    8
#define OVC_SHORT_NS 5000000ull /* that the kernel is given to find memory */

/* Does the kernel lack memory, which it may have later? */
bool ovc_is_short(int error);

/* Is it to be tried once more, at once? *tries counts, from 0. */
static inline bool ovc_try_again(int error, unsigned *tries)
{
	return error && !ovc_is_short(error) && ++*tries < OVC_TRIES;
}

/* The kernel has no memory for the VM's pages: who touches one waits until reclaim wakes
 * it. Says so, once a second at most. */
void ovc_starve(struct ovc_region *r, uint64_t idx, int error);

/* The page, which is FILLING and not counted any more, is lost: its touch is a SIGBUS. */
void ovc_lost(struct ovc_region *r, uint64_t idx, int error);

/* The same of one that the kernel would not let the guest have. Where the VMM took the
 * address away there is nothing to touch. */
void ovc_refused(struct ovc_region *r, uint64_t idx, int error);

#endif
