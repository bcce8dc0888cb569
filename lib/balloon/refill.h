/* SPDX-License-Identifier: MIT */
/* Pages that the guest took back from its balloon, and will touch soon. */
#ifndef OVC_REFILL_H
#define OVC_REFILL_H

#include "core/internal.h"

/* Gives nr pages zeros as far as they are EMPTY and the budget has room: no more than
 * that would wait. Returns how many. [any] thread; waits for nobody. */
uint64_t ovc_refill(struct ovc_region *r, uint64_t idx, uint64_t nr);

#endif
