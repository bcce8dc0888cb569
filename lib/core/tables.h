/* SPDX-License-Identifier: MIT */
/* A region's words and marks are sparse tables, whose memory counts as it is touched. [any] */
#ifndef OVC_TABLES_H
#define OVC_TABLES_H

#include "core/internal.h"

#define OVC_MARKS (OVC_PAGE / 8) /* bytes of 512 pages' marks */

/* To be called before the word of a page changes from EMPTY, and before its marks are set:
 * counts the memory of the tables that this touches. */
void ovc_region_touch(struct ovc_region *region, uint64_t idx);
void ovc_region_mark(struct ovc_region *region, uint64_t idx);

/* False where the whole page of words that has this one was never touched: all
 * of it is EMPTY. */
static inline bool ovc_region_touched(const struct ovc_region *r, uint64_t idx)
{
	return atomic_load(&r->touched[idx / 512 / 64]) >> (idx / 512 % 64) & 1;
}

#endif
