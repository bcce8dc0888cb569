/* SPDX-License-Identifier: MIT */
/* The payload's page allocator: see payload_pages.h. */
#include "payload_pages.h"

static void unlink_frame(struct zone *z, uint32_t frame)
{
	struct frame *f = &z->frame[frame];

	z->frame[f->prev].next = f->next;
	z->frame[f->next].prev = f->prev;
}

static void link_frame(struct zone *z, uint32_t frame, enum list list)
{
	uint32_t head = z->nr + list;
	struct frame *f = &z->frame[frame];

	f->prev = head;
	f->next = z->frame[head].next;
	z->frame[f->next].prev = frame;
	z->frame[head].next = frame;
}

/*
 * The lowest frame is the first one, so that pages that are filled in order lie in
 * order, and the host may find runs that are equal.
 */
void zone_init(struct zone *z, struct frame *frame, uint32_t nr)
{
	uint32_t i;

	z->frame = frame;
	z->nr = nr;
	z->unreported = 0;
	z->hand = 0;
	for (i = 0; i <= LISTS; i++)
		z->count[i] = 0;
	for (i = 0; i < LISTS; i++)
		frame[nr + i].next = frame[nr + i].prev = nr + i;
	for (i = nr; i-- > 0;) {
		frame[i].list = LIST_FREE;
		frame[i].flags = FRAME_REPORTED; /* nobody has touched it */
		link_frame(z, i, LIST_FREE);
	}
	z->count[LIST_FREE] = nr;
}

uint32_t zone_first(const struct zone *z, enum list list)
{
	return z->count[list] ? z->frame[z->nr + list].next : NO_FRAME;
}

uint32_t zone_last(const struct zone *z, enum list list)
{
	return z->count[list] ? z->frame[z->nr + list].prev : NO_FRAME;
}

static int is_unreported(const struct frame *f)
{
	return f->list == LIST_FREE && !(f->flags & FRAME_REPORTED);
}

void zone_move(struct zone *z, uint32_t frame, enum list list)
{
	struct frame *f = &z->frame[frame];

	z->unreported -= is_unreported(f);
	if (f->list != LIST_USED)
		unlink_frame(z, frame);
	z->count[f->list]--;
	f->list = (uint16_t)list;
	f->flags = 0;
	z->count[list]++;
	if (list != LIST_USED)
		link_frame(z, frame, list);
	z->unreported += is_unreported(f);
}

void zone_set_reported(struct zone *z, uint32_t frame)
{
	struct frame *f = &z->frame[frame];

	z->unreported -= is_unreported(f);
	f->flags |= FRAME_REPORTED;
}

/* Second chance: who was used goes to the front, and is no longer marked. */
uint32_t zone_idlest(struct zone *z)
{
	uint32_t tries = z->count[LIST_CACHE], frame = NO_FRAME;

	for (; tries; tries--) {
		frame = zone_last(z, LIST_CACHE);
		if (!(z->frame[frame].flags & FRAME_REFERENCED))
			return frame;
		zone_move(z, frame, LIST_CACHE);
	}
	return zone_last(z, LIST_CACHE);
}
