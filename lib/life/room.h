/* SPDX-License-Identifier: MIT */
/*
 * Whether what somebody wants in memory can be there at all, whatever is reclaimed for it.
 */
#ifndef OVC_ROOM_H
#define OVC_ROOM_H

#include "core/internal.h"

/* Pages of a region that take memory when they come back. */
uint64_t ovc_room_absent(const struct ovc_region *r);

/*
 * How many pages are missing, of the budget less `spare` or of the VM's limit, for `nr` more pages of the VM to be in memory that cannot be taken: beside what is pinned,
 * what has no swap to go to, what others are guaranteed. `leaving` (or NULL) is a region
 * of the VM that stays in memory, too. Needs control.
 */
uint64_t ovc_room_missing(const struct ovc_vm *vm,
			  const struct ovc_region *leaving, uint64_t nr,
			  uint64_t spare);

#endif
