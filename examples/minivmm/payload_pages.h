/* SPDX-License-Identifier: MIT */
/*
 * The payload's page allocator. Each vCPU has a zone of its own, so that nothing
 * in it needs a lock. A frame is free, or a clean page of the page cache, or in the
 * balloon, and then on that list; or it is in use.
 *
 * A list's first frame is the one that was put at its front last.
 */
#ifndef PAYLOAD_PAGES_H
#define PAYLOAD_PAGES_H

#include <stdint.h>

#define NO_FRAME UINT32_MAX

enum list {
	LIST_FREE,
	LIST_CACHE,
	LIST_BALLOON,
	LISTS,
	LIST_USED = LISTS, /* no list: these are only counted */
};

#define FRAME_REFERENCED 1 /* used since it was last looked at */
#define FRAME_REPORTED	 2 /* free, and nothing is behind it for all we know */

/* Frames are numbered from 0 in each zone. */
struct frame {
	uint32_t next, prev;
	uint32_t use; /* the page that it has, where it has one */
	uint16_t list;
	uint16_t flags;
};

struct zone {
	struct frame *frame; /* nr, and behind them the heads of the lists */
	uint32_t nr;
	uint32_t count[LISTS + 1];
	uint32_t unreported; /* free frames without FRAME_REPORTED */
	uint32_t hand;	     /* where reporting goes on */
};

/* All frames are free. `frame` has room for nr + LISTS. */
void zone_init(struct zone *zone, struct frame *frame, uint32_t nr);

/* The frame at an end of a list, or NO_FRAME. */
uint32_t zone_first(const struct zone *zone, enum list list);
uint32_t zone_last(const struct zone *zone, enum list list);

/* Moves a frame to the front of a list; its flags are cleared. */
void zone_move(struct zone *zone, uint32_t frame, enum list list);

/* A free frame that need not be reported. */
void zone_set_reported(struct zone *zone, uint32_t frame);

/* The page of the cache that was idle longest, roughly; or NO_FRAME. */
uint32_t zone_idlest(struct zone *zone);

#endif /* PAYLOAD_PAGES_H */
