/* SPDX-License-Identifier: MIT */
/* Shared pages that guests have written since they were mapped: the kernel made them a
 * copy of their own ("broke COW"). */
#ifndef OVC_BROKEN_H
#define OVC_BROKEN_H

#include "core/internal.h"

/* SHARED pages that guests have written get to be RESIDENT, and are charged. Returns
 * how many. Needs control: between the look and the word nobody may stage the page
 * and share it again. */
uint64_t ovc_broken_find(struct ovc_region *r, uint64_t idx, uint64_t nr);

/* A page that was mapped from the store is the guest's own now, and charged. */
void ovc_broken(struct ovc_region *r, uint64_t page);

#endif
