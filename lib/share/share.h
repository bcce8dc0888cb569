/* SPDX-License-Identifier: MIT */
/*
 * Looking for equal pages: share.c walks over memory and hashes, merge.c makes equal
 * pages one.
 */
#ifndef OVC_SHARE_H
#define OVC_SHARE_H

#include "core/internal.h"

#define OVC_SHARE_CHUNK 256 /* pages looked at in one step */

struct ovc_share_figures {
	_Atomic uint64_t passes, scanned, hashed, collisions; /* pages */
	_Atomic uint64_t cpu_ns;
};

int ovc_share_create(struct ovc_host *host, bool thread, struct ovc_share **sp);
void ovc_share_destroy(struct ovc_share **sp);

/* Looks at one chunk, and merges what it finds. Returns for how many milliseconds to
 * leave it alone then, -1: until it is kicked. Takes control itself. */
int ovc_share_step(struct ovc_share *s);

/* Waits until nobody hashes pages that were chosen before. With control. */
void ovc_share_quiesce(const struct ovc_host *host);

const struct ovc_share_figures *ovc_share_figures(const struct ovc_share *s);

/* ---- merge.c ---------------------------------------------------------------- */

/* Pages of a region, rising, that had these hashes a moment ago. */
struct ovc_hashed {
	struct ovc_region *region;
	unsigned nr;
	uint64_t idx[OVC_SHARE_CHUNK], hash[OVC_SHARE_CHUNK];
};

/* Of the pages [from, to) merges what has an equal, and notes the rest. Returns how many
 * frames that saved; *collisions counts equal hashes of other bytes. Needs control. */
uint64_t ovc_merge(struct ovc_host *host, const struct ovc_hashed *h,
		   unsigned from, unsigned to, uint64_t *collisions);

#endif
