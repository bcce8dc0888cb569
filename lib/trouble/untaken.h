/* SPDX-License-Identifier: MIT */
/*
 * Pages that the kernel does not let us take from a guest, or free: counted by cause,
 * told, and left to rest. See untaken.c. With host->control, where nothing else is said.
 */
#ifndef OVC_UNTAKEN_H
#define OVC_UNTAKEN_H

#include "core/internal.h"

/*
 * The kernel refused these pages (rising, of one region, nr above 0), all for the same
 * reason, with this error; it is found out what the reason was.
 */
void ovc_untaken_refused(struct ovc_region *r, const uint64_t *idx, unsigned nr,
			 int error);

/* The page was taken after all, or is gone. */
void ovc_untaken_clear(struct ovc_region *r, uint64_t idx);

/* Is the page, which was refused, to be left alone yet? */
bool ovc_untaken_is_resting(const struct ovc_region *r, uint64_t idx,
			    uint64_t now);

static inline bool ovc_untaken_rests(const struct ovc_region *r, uint64_t idx,
				     uint64_t now)
{
	return r->untaken && ovc_untaken_is_resting(r, idx, now);
}

/* How many pages of a range were refused when they were tried last, and why one was. */
uint64_t ovc_untaken_in(const struct ovc_region *r, uint64_t idx, uint64_t nr,
			enum ovc_untaken *cause);

/* The whole region is refused, for good or until it is said anew; OVC_UNTAKEN_NR: it is
 * not. Says so in the log, from time to time. */
void ovc_untaken_region(struct ovc_region *r, enum ovc_untaken cause,
			int error);

/* Bytes of a VM that cannot be taken for this cause, as far as it was tried. */
uint64_t ovc_untaken_bytes(const struct ovc_vm *vm, enum ovc_untaken cause);

/* Why, and what to do, as the end of a sentence. [any] */
const char *ovc_untaken_text(enum ovc_untaken cause);

void ovc_untaken_free(struct ovc_region *r);

#endif
