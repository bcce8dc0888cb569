/* SPDX-License-Identifier: MIT */
/*
 * A guest that takes frames back from its balloon is about to use them: in tracked
 * memory each page would cost it a fault and a wait, which a call from here spares it; one
 * call fills a run of them.
 *
 * Untracked memory is left to the kernel, which fills it on touch at its own speed, with
 * huge pages where it can.
 *
 * The pages are charged before their words change, and only from what is spare, so that
 * the balloon never takes from others what the guest does not need yet. Each page gets a
 * frame of its own and not the kernel's zero page: that would cost nothing until it is
 * written, and then a fault all the same.
 *
 * Failures: what the kernel refuses is EMPTY again, and filled when it is touched.
 */
#include "balloon/refill.h"

#include "core/budget.h"
#include "core/tables.h"
#include "in/pager.h"
#include "memory/memory.h"

#define AT_ONCE 128 /* pages of host->zeros */

/* Makes EMPTY pages ours, up to the first that is something else. */
static uint64_t own(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	const struct ovc_memory *m = ovc_memory_of(r, idx);
	uint64_t n;

	for (n = 0; n < nr && ovc_memory_of(r, idx + n) == m; n++) {
		uint64_t w = atomic_load(&r->words[idx + n]);

		if (ovc_word_state(w) != OVC_EMPTY)
			break;
		ovc_region_touch(r, idx + n);
		if (ovc_page_try(&r->words[idx + n], &w, OVC_EV_FAULT, 0) !=
		    OVC_ACT_ZERO)
			break;
	}
	return n;
}

/* Returns how many of nr pages that are ours are filled now. */
static uint64_t fill(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	const struct ovc_memory *m = ovc_memory_of(r, idx);
	bool all = !m->zero(r, idx, nr, true);
	uint64_t filled = 0;

	for (uint64_t i = idx; i < idx + nr; i++) {
		/* One by one, to know which; what is there is left alone. */
		bool good = all || !m->zero(r, i, 1, true);

		filled += good;
		ovc_pager_end(r, i, good ? OVC_EV_FILLED : OVC_EV_UNFILLED, 0);
	}
	return filled;
}

static bool charge(struct ovc_vm *vm, uint64_t nr)
{
	return ovc_room_ahead(vm, nr) && ovc_charge(vm, nr);
}

uint64_t ovc_refill(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t end = idx + nr, all = 0;

	while (idx < end && atomic_load(&r->tracked)) {
		uint64_t n = end - idx < AT_ONCE ? end - idx : AT_ONCE;
		uint64_t got, filled;

		if (!charge(r->vm, n))
			break;
		got = own(r, idx, n);
		filled = got ? fill(r, idx, got) : 0;
		atomic_fetch_add(&r->vm->resident, filled);
		ovc_uncharge(r->vm->host, n - filled);
		all += filled;
		idx += got ? got : 1;
	}
	return all;
}
