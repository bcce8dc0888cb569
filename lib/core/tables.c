/* SPDX-License-Identifier: MIT */
/* The sparse tables of a region, and the memory that they take: see tables.h. */
#include "core/tables.h"

/* Notes that the tables of 512 pages take memory from now on. */
static void note(struct ovc_region *r, _Atomic uint64_t *groups, uint64_t idx,
		 uint64_t bytes)
{
	_Atomic uint64_t *word = &groups[idx / 512 / 64];
	uint64_t bit = (uint64_t)1 << (idx / 512 % 64);

	if (atomic_load_explicit(word, memory_order_relaxed) & bit)
		return;
	if (!(atomic_fetch_or(word, bit) & bit))
		atomic_fetch_add(&r->vm->host->tables, bytes);
}

void ovc_region_touch(struct ovc_region *r, uint64_t idx)
{
	note(r, r->touched, idx, OVC_PAGE);
}

void ovc_region_mark(struct ovc_region *r, uint64_t idx)
{
	note(r, r->marked, idx, OVC_MARKS);
}
