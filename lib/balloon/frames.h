/* SPDX-License-Identifier: MIT */
/*
 * Which frames of a region are in its guest's balloon: a bit for each page, and one for
 * each 2 MiB that says whether a huge page was looked for there. The bits come with
 * the first donation and stay until the region goes. [any] thread but for make and
 * free; no lock, so that a fault can clear a bit.
 */
#ifndef OVC_FRAMES_H
#define OVC_FRAMES_H

#include "core/internal.h"

/* Makes the bits where there are none yet. Needs vm->pinning. 0 or -ENOMEM. */
int ovc_frames_make(struct ovc_region *r);
void ovc_frames_free(struct ovc_region *r);

/* Puts a page into the balloon, takes it out. False where it was there, or not
 * there, already. put needs the bits to have been made. */
bool ovc_frames_put(struct ovc_region *r, uint64_t idx);
bool ovc_frames_take(struct ovc_region *r, uint64_t idx);

/* All of them: the guest forgot its balloon. */
void ovc_frames_forget(struct ovc_region *r);

static inline bool ovc_frames_has(const struct ovc_region *r, uint64_t idx)
{
	_Atomic uint64_t *bits = atomic_load(&r->frames);

	return bits && atomic_load(&bits[idx / 64]) >> (idx % 64) & 1;
}

/* The guest touched a page of its balloon without telling: it has it again. The caller
 * owns the page, in a transient state, or nobody tracks it yet. */
static inline void ovc_frames_touched(struct ovc_region *r, uint64_t idx)
{
	if (ovc_frames_has(r, idx) && ovc_frames_take(r, idx))
		atomic_fetch_add(&r->vm->balloon.touched, 1);
}

/* Pages from idx to the end of its 2 MiB, as the hardware counts them. */
static inline uint64_t ovc_frames_to_huge_end(const struct ovc_region *r,
					      uint64_t idx)
{
	return 512 - ((uintptr_t)r->base / OVC_PAGE + idx) % 512;
}

/* Notes that a huge page was looked for where idx is. False if that was noted before;
 * ovc_frames_unlook() takes it back, for there may be one again. */
bool ovc_frames_look(struct ovc_region *r, uint64_t idx);
void ovc_frames_unlook(struct ovc_region *r, uint64_t idx);

#endif
