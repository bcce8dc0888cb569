/* SPDX-License-Identifier: MIT */
/*
 * Which slots of one swap file are taken. Pure: no system call, no lock; the
 * caller serialises all calls on one struct ovc_slots, the queries included.
 *
 * Invariants (ovc_slots_is_valid() walks them):
 *	used = bits set in map below nr
 *	taken[p] = bits set in map of piece p, those beyond nr included
 *	bit p of full = (taken[p] == OVC_SLOTS_PIECE)
 *	bit w of top = (word w of full is all ones)
 *	bits of map, full and top beyond the end are ones
 * Memory not touched yet is all zero, so that a file's unused part costs none.
 */
#ifndef OVC_STORE_SLOTS_H
#define OVC_STORE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OVC_SLOTS_PIECE 256u /* slots counted together: 1 MiB of file */

struct ovc_slots {
	uint64_t nr;	  /* slots */
	uint64_t used;	  /* of these, taken */
	uint64_t cursor;  /* where the next search begins, <= nr */
	uint64_t *map;	  /* a bit a slot: taken */
	uint64_t *full;	  /* a bit a piece: no slot free */
	uint64_t *top;	  /* a bit a word of full: all ones */
	uint16_t *taken;  /* slots taken of each piece */
	uint32_t content; /* the run length that ends a search */
	uint32_t streak;  /* searches in a row that found it */
};

/* Bytes of memory needed for nr slots (34.2 a piece), a multiple of 8. */
size_t ovc_slots_bytes(uint64_t nr);

/*
 * Makes all nr slots free. `mem` is ovc_slots_bytes(nr) zeroed bytes, aligned
 * to 8, which stay the caller's and must outlive *s.
 */
void ovc_slots_init(struct ovc_slots *s, void *mem, uint64_t nr);

/*
 * Takes a run of contiguous slots, 1 to want of them, and sets *first. Returns
 * its length: `want` where a run of that length is near the cursor, otherwise
 * about the longest of those near it; 0 if no slot is free (or want is 0).
 */
uint64_t ovc_slots_alloc(struct ovc_slots *s, uint32_t want, uint64_t *first);

/* Takes the slots first..first+nr-1. Aborts unless all of them are free. */
void ovc_slots_take(struct ovc_slots *s, uint64_t first, uint64_t nr);

/* Frees the slots first..first+nr-1. Aborts unless all of them are taken. */
void ovc_slots_free(struct ovc_slots *s, uint64_t first, uint64_t nr);

/* How many slots are taken. */
uint64_t ovc_slots_used(const struct ovc_slots *s);

/*
 * Whether the aligned piece of `piece` slots (at least 1) that holds `slot` is
 * free altogether; *first is its first slot. A piece that the end of the file
 * cuts counts as far as it goes.
 */
bool ovc_slots_free_piece(const struct ovc_slots *s, uint64_t slot,
			  uint64_t piece, uint64_t *first);

/*
 * Moves to the bigger `newmem` (as for ovc_slots_init(), of nr slots); the new
 * slots are free. The old memory is the caller's to free.
 *  -EINVAL  nr is less than there are
 */
int ovc_slots_grow(struct ovc_slots *s, void *newmem, uint64_t nr);

/* Whether the invariants hold. Walks all of it. */
bool ovc_slots_is_valid(const struct ovc_slots *s);

#endif
