/* SPDX-License-Identifier: MIT */
/*
 * The kernel copies a mapped page of the store when the guest writes it, and tells
 * nobody. Who wants to know looks: a private page where the word says SHARED is the
 * guest's own, RESIDENT, and charged from then on.
 */
#include "share/broken.h"

#include "core/budget.h"
#include "memory/memory.h"
#include "share/domain.h"

void ovc_broken(struct ovc_region *r, uint64_t page)
{
	struct ovc_vm *vm = r->vm;

	atomic_fetch_sub(&vm->mapped, 1);
	atomic_fetch_sub(&vm->shared, 1);
	atomic_fetch_add(&vm->resident, 1);
	OVC_COUNT(vm, broken, 1);
	ovc_domain_unref(vm, page);
}

uint64_t ovc_broken_find(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint8_t bits[512];
	uint64_t found = 0;

	for (uint64_t at = idx, n; at < idx + nr; at += n) {
		n = idx + nr - at < 512 ? idx + nr - at : 512;
		if (ovc_memory_look(r, at, n, bits))
			continue;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t w = atomic_load(&r->words[at + i]);

			if (ovc_word_state(w) != OVC_SHARED ||
			    !ovc_laid_is_private(bits[i]) ||
			    ovc_page_try(&r->words[at + i], &w, OVC_EV_BROKE,
					 0) != OVC_ACT_FREE)
				continue;
			ovc_charge_force(r->vm, 1);
			ovc_broken(r, ovc_word_value(w));
			found++;
		}
	}
	return found;
}
