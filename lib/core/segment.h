/* SPDX-License-Identifier: MIT */
/* What the queue of staged pages consists of: see staging.c, whose fields these are. */
#ifndef OVC_SEGMENT_H
#define OVC_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define OVC_SEGMENT    256	  /* places that are handed out together */
#define OVC_NO_PLACE   UINT64_MAX /* there is no room */
#define OVC_STAGED_MAX ((uint64_t)1 << 19) /* places: 2 GiB staged */

struct ovc_region;
struct ovc_vm;

/* One staged page. */
struct ovc_entry {
	struct ovc_region *region; /* NULL: done */
	_Atomic uint64_t slot;	   /* good copy in swap, or OVC_NO_SLOT */
	uint64_t wslot;		   /* being written to */
	uint64_t idx : 40;
	uint64_t frame : 1;   /* the window has a frame here */
	uint64_t busy : 1;    /* a write, or a drop, is under way */
	uint64_t settled : 1; /* the frame is of no more use */
};

/* Places of one VM, in order: [next, head) waits, [tail, next) is being settled. */
struct ovc_segment {
	struct ovc_vm *vm; /* NULL: free */
	struct ovc_segment *older, *newer;
	uint16_t tail, next, head; /* tail <= next <= head <= OVC_SEGMENT */
};

struct ovc_staging {
	uint64_t cap; /* places */
	unsigned nr, nr_free,
		lowest; /* segments; no free one is before `lowest` */
	struct ovc_segment *segments, *oldest, *newest;
	uint64_t high; /* places ever used, at most cap */
	struct ovc_entry *entries;
	char *window; /* anonymous frames */
	bool window_registered;
	_Atomic uint64_t leftover; /* frames whose page was put back */
};

static inline uint64_t ovc_segment_first(const struct ovc_staging *s,
					 const struct ovc_segment *seg)
{
	return (uint64_t)(seg - s->segments) * OVC_SEGMENT;
}

/* Bytes of memory that the entries take. */
static inline size_t ovc_staging_metadata(const struct ovc_staging *s)
{
	return s->high * sizeof(struct ovc_entry);
}

#endif
