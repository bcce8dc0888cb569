/* SPDX-License-Identifier: MIT */
/*
 * Shared pages that guests have mapped: when a mapping is worth it, what became of it
 * since, and how it ends. What the kernel is asked to do is in memory/laid.c.
 */
#ifndef OVC_LAY_H
#define OVC_LAY_H

#include "core/internal.h"

/* Maps nr pages of the store where the guest's pages are DROPPING, if that is worth
 * a mapping and there is one to be had. `want`: the guest is known to read them.
 * Needs control. */
bool ovc_lay_run(struct ovc_region *r, uint64_t idx, uint64_t nr, uint64_t page,
		 bool want);

/* SHARED pages of a range are no more mapped: STORED, or RESIDENT where the guest had
 * written. A page that somebody has in hand stays. Needs control. */
void ovc_lay_unmap(struct ovc_region *r, uint64_t idx, uint64_t nr);

/* A memfd's pages that are laid and nearly all private get ordinary memory. Needs
 * control. */
void ovc_lay_fold(struct ovc_region *r, uint64_t idx, uint64_t nr);

/* At a region's end: puts ordinary memory where the next run of pages is laid, of which
 * nothing is STORED or SHARED any more. False: there was none. *error is set to the first
 * error where that could not be done. Needs control. */
bool ovc_lay_end(struct ovc_region *r, bool throw_away, int *error);

#endif
