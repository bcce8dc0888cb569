/* SPDX-License-Identifier: MIT */
/* Where tracking begins, and what is there before it does: see track.c. */
#ifndef OVC_TRACK_H
#define OVC_TRACK_H

#include "core/internal.h"

/* Begins to track: registers with userfaultfd, adopts what is resident. Needs
 * control. */
int ovc_region_track(struct ovc_region *region);

/*
 * Has the kernel the region registered still? Where it has, a page that the guest has
 * is refused a zero page since it is there. False only where that is certain. Needs
 * control.
 */
bool ovc_region_is_registered(struct ovc_region *region);

/* Bytes of a VM that are resident, tracked or not. Needs control. */
uint64_t ovc_vm_resident(const struct ovc_vm *vm);

/* Bytes resident of a region that is not tracked. */
uint64_t ovc_region_untracked_resident(const struct ovc_region *region);

#endif
