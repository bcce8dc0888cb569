/* SPDX-License-Identifier: MIT */
/*
 * Gives the space of free slots back, on a thread of its own, since a disk may take any
 * time for a discard. Runs of slots are offered, given, and collected, by who takes
 * slots; from the first to the last nobody else may have them.
 */
#ifndef OVC_STORE_GIVER_H
#define OVC_STORE_GIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "sys/file.h"

struct ovc_giver;

int ovc_giver_create(const struct ovc_file *file, struct ovc_giver **giverp);

/* Waits for the one that is being given, and forgets the others. */
void ovc_giver_destroy(struct ovc_giver **giverp);

/* False: too many wait, or the file gives nothing back. */
bool ovc_giver_offer(struct ovc_giver *g, uint64_t first, uint64_t nr);

/* One that was given; false where there is none. */
bool ovc_giver_collect(struct ovc_giver *g, uint64_t *first, uint64_t *nr);

/* Waits until there is one, at most `ms` milliseconds. */
void ovc_giver_wait(struct ovc_giver *g, unsigned ms);

/* One that was offered last, and is not being given yet: it is needed after all. */
bool ovc_giver_recall(struct ovc_giver *g, uint64_t *first, uint64_t *nr);

#endif
