/* SPDX-License-Identifier: MIT */
/*
 * Range calls, on pages of one region: what overcommit.h promises, once the
 * arguments were found good. Called from callers' threads, without a lock; they
 * may wait for other threads. Return 0 or a negative errno.
 */
#ifndef OVC_RANGE_H
#define OVC_RANGE_H

#include "core/internal.h"

int ovc_range_discard(struct ovc_region *r, uint64_t idx, uint64_t nr);
int ovc_range_prefetch(struct ovc_region *r, uint64_t idx, uint64_t nr);
int ovc_range_pin(struct ovc_region *r, uint64_t idx, uint64_t nr);
int ovc_range_unpin(struct ovc_region *r, uint64_t idx, uint64_t nr);
int ovc_range_overwrite(struct ovc_region *r, uint64_t idx, uint64_t nr);
int ovc_range_read(struct ovc_region *r, uint64_t offset, void *buf,
		   size_t len);

/*
 * Brings page idx in, and maybe more of the nr that begin there.
 *  -EIO        it is lost
 *  -ENOMEM     memory was waited for, and none was freed for `patience` ns
 *  -ETIMEDOUT  memory, the disk, or who has it in hand was, for OVC_PATIENCE_NS
 */
int ovc_range_bring_in(struct ovc_region *r, uint64_t idx, uint64_t nr,
		       bool write, uint64_t patience);

/* A page that is CLEAN gets to be RESIDENT. */
void ovc_range_give_up_slot(struct ovc_region *r, uint64_t idx);

/* Whether equal pages are looked for there. */
void ovc_range_set_sharing(struct ovc_region *r, uint64_t idx, uint64_t nr,
			   bool on);

/* Gives advice by its MADV_* number, and remembers it: see memory/advice.h. */
int ovc_range_advise(struct ovc_region *r, uint64_t idx, uint64_t nr,
		     int advice);

#endif
