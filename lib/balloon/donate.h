/* SPDX-License-Identifier: MIT */
/*
 * Pages that the guest gave away are dropped, wherever they are: with the guest, staged,
 * in the store, in a slot, lost. Called from callers' threads, without a lock but for
 * vm->pinning where it says so; they may wait for other threads.
 */
#ifndef OVC_DONATE_H
#define OVC_DONATE_H

#include "core/internal.h"
#include "memory/memory.h"

/* What came of it, in pages. */
struct ovc_donated {
	uint64_t given, again, pinned, huge, freed;
	uint64_t failed; /* that the kernel did not drop */
};

enum ovc_donation_kind {
	OVC_DISCARDED, /* by the VMM, which takes no count of it */
	OVC_REPORTED,  /* free: the guest may use it any time */
	OVC_BALLOONED, /* in its balloon: it does not, before it has told */
};

/*
 * Drops nr runs of pages, in any order, but for those that are pinned, and adds up what came
 * of it. Needs vm->pinning, which it lets go while it waits for a page. 0, or the first errno: those pages stay as they were.
 */
int ovc_donate(struct ovc_region *r, const struct ovc_run *runs, size_t nr,
	       enum ovc_donation_kind kind, struct ovc_donated *d);

/*
 * One page of a tracked region, step by step. begin: true when it is DROPPING and the
 * caller's to drop and end; else it is done, unless *busy: then somebody else is at it.
 * end: it is EMPTY now; true if it was counted as resident.
 */
bool ovc_drop_begin(struct ovc_region *r, uint64_t idx, bool *busy);
bool ovc_drop_end(struct ovc_region *r, uint64_t idx);

/* What a page named that nobody needs any more: a slot, or a page of the store. */
void ovc_drop_home(struct ovc_vm *vm, enum ovc_state was, uint64_t value);

#endif
