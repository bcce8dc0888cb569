/* SPDX-License-Identifier: MIT */
/*
 * Hints: where a page with a given hash was seen last. Pure: no system call, no lock;
 * the caller serialises.
 *
 * A set-associative cache of 8-byte entries, 24 bits of the hash and 40 of where:
 * buckets of 16 are two cache lines side by side. A hint may be
 * wrong (the page has changed, the store's page is another by now) or missing (its
 * bucket was full); both cost a chance to share and nothing else, so that nothing is
 * ever taken out but to make room.
 */
#ifndef OVC_POLICY_HINTS_H
#define OVC_POLICY_HINTS_H

#include <stddef.h>
#include <stdint.h>

#define OVC_HINT_WAYS 16

/* Where: 1 to OVC_HINT_STORE - 1 is the number of a guest's page; with
 * OVC_HINT_STORE set, a page of the store. */
#define OVC_HINT_STORE ((uint64_t)1 << 39)

struct ovc_hints {
	uint64_t *entry;
	uint64_t buckets;
};

/* Bytes of memory for so many pages: 12 for each. */
size_t ovc_hints_bytes(uint64_t pages);

/* `mem` is ovc_hints_bytes(pages) zeroed bytes, aligned to 128, which stay the
 * caller's. */
void ovc_hints_init(struct ovc_hints *h, void *mem, uint64_t pages);

/* All places where `hash` may have been seen, those in the store first. Returns how
 * many. */
unsigned ovc_hints_find(const struct ovc_hints *h, uint64_t hash,
			uint64_t where[OVC_HINT_WAYS]);

/* Notes that `hash` is at `where`. A full bucket forgets another page, which is returned;
 * 0 for none. */
uint64_t ovc_hints_note(struct ovc_hints *h, uint64_t hash, uint64_t where);

/* What was at `from` is at `to` now; without a hint of `from`, notes `to`. */
uint64_t ovc_hints_move(struct ovc_hints *h, uint64_t hash, uint64_t from,
			uint64_t to);

#endif
