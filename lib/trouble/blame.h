/* SPDX-License-Identifier: MIT */
/* Says who waits for memory in vain, that the budget is passed, and why: see blame.c. */
#ifndef OVC_BLAME_H
#define OVC_BLAME_H

#include <stdint.h>

struct ovc_reclaim;

/* What was seen in the step before, and what was told when. */
struct ovc_blame {
	uint64_t freed, held;	  /* pages */
	uint64_t quiet_since;	  /* since when nothing was freed while over */
	uint64_t told, over_told; /* when */
	uint64_t looked;	  /* when, for pages that cannot be tracked: */
	uint64_t untracked;
};

/* To be called at the end of each step of reclaim, once a second at least while somebody
 * waits or the budget is passed. Needs control. */
void ovc_blame_step(struct ovc_reclaim *rc, uint64_t now);

#endif
