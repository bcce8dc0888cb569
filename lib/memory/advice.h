/* SPDX-License-Identifier: MIT */
/*
 * What the VMM advised of its guest's memory: whether it is in core dumps and in children,
 * whether it is of huge pages. A region remembers it from when it was added, so that
 * memory which is mapped anew becomes what it was.
 */
#ifndef OVC_ADVICE_H
#define OVC_ADVICE_H

#include "core/internal.h"

/* Begins with what the region's mappings are; r->map_flags says it where they are all
 * alike. -ENOMEM, or what reading /proc gave. */
int ovc_advice_read(struct ovc_region *r);
void ovc_advice_free(struct ovc_region *r);

/* The OVC_MAP_* traits of a page. [any] */
unsigned ovc_advice_of(struct ovc_region *r, uint64_t idx);

/* How many of nr pages have the traits of the first. [any] */
uint64_t ovc_advice_alike(struct ovc_region *r, uint64_t idx, uint64_t nr);

/* Nr pages, mapped anew, get what was advised of these traits. [any] */
void ovc_advice_apply(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      unsigned traits);

/* Notes other advice: `clear` goes and `set` comes. -ENOMEM: as before. [any] */
int ovc_advice_note(struct ovc_region *r, uint64_t idx, uint64_t nr,
		    unsigned set, unsigned clear);

/* The region goes: children may get again what they might before. */
void ovc_advice_end(struct ovc_region *r);

#endif
