/* SPDX-License-Identifier: MIT */
/*
 * The swap of one VM: a file, its slots, their checksums. Offsets are slots.
 *
 * Slots are taken by one thread at a time (the holder of host->control). They are
 * freed by anyone, without a lock: the bit of a freed slot is set in a table of the
 * dead, which the taker clears out when it looks for room.
 */
#ifndef OVC_STORE_SWAP_H
#define OVC_STORE_SWAP_H

#include <stdbool.h>
#include <stdint.h>

#include "sys/file.h"

struct ovc_swap;

#define OVC_SWAP_MAX_SLOTS ((uint64_t)1 << 34)

struct ovc_swap_options {
	const char *path;
	uint64_t size; /* bytes of pages, a multiple of 1 MiB; 0: none yet */
	bool sparse, may_direct, may_tmpfile;
};

/*
 * Opens, makes it ours and allocates. *why says what is wrong where errno does not.
 * 0 or -errno.
 */
int ovc_swap_create(const struct ovc_swap_options *options,
		    struct ovc_swap **swapp, struct ovc_why *why);

/* Wipes what held guests' bytes, and closes. Both may take as long as the disk does. 0,
 * or the -errno that kept it from being wiped: its mark is left, for who comes next. */
int ovc_swap_destroy(struct ovc_swap **swapp);

/*
 * Makes it bigger, in two steps: space for `size` bytes of pages, as slowly as the file
 * system gives it, without a lock, but not while somebody else does; then slots, by who
 * takes slots. Less than there is is no change. A device has what it has.
 */
int ovc_swap_extend(struct ovc_swap *swap, uint64_t size, struct ovc_why *why);
int ovc_swap_grow(struct ovc_swap *swap, uint64_t size);

/* Takes a contiguous run of 1 to `want` slots: returns how many, 0 when full. */
uint64_t ovc_swap_take(struct ovc_swap *swap, uint32_t want, uint64_t *first);

/* One more page has a slot. Who calls has one itself, so that it cannot go meanwhile,
 * and is who takes slots. False: it has 256 already, or no memory. */
bool ovc_swap_ref(struct ovc_swap *swap, uint64_t slot);

/* Gives a slot up; the last of those who have it frees it. Any thread. */
void ovc_swap_free(struct ovc_swap *swap, uint64_t slot);

/* Clears out the dead. */
void ovc_swap_sweep(struct ovc_swap *swap);

/* Now and then: in a sparse file or on a device, the space of runs of slots that have been
 * free since the last time is given back (store/giver.h). */
void ovc_swap_tidy(struct ovc_swap *swap);

/* The checksum of a page, and of what a slot should hold: 48 bits of XXH3. */
uint64_t ovc_swap_checksum(const void *page);
void ovc_swap_set_sum(struct ovc_swap *swap, uint64_t slot, uint64_t sum);
uint64_t ovc_swap_sum(const struct ovc_swap *swap, uint64_t slot);

const struct ovc_file *ovc_swap_file(const struct ovc_swap *swap);
uint64_t ovc_swap_size(const struct ovc_swap *swap); /* bytes */
uint64_t ovc_swap_used(struct ovc_swap *swap);	     /* slots */
uint64_t
ovc_swap_memory(struct ovc_swap *swap); /* bytes: see ovc_file_memory() */

/* What an errno of a write to it means, in words. By who takes slots. */
const char *ovc_swap_error(struct ovc_swap *swap, int error);

#endif
