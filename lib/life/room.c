/* SPDX-License-Identifier: MIT */
/*
 * What can be had for a VM at best: the budget less what nobody can take from the VMs.
 *
 *   pinned       stays
 *   no swap      all that it holds stays
 *   little swap  what does not fit into it stays
 *   guaranteed   is not taken from others, as far as the policy has room for it
 *
 * It is a bound: what then is not to be had all the same (others pin meanwhile, a disk
 * fails) is waited for, and not for ever.
 */
#include "core/tables.h"
#include "life/room.h"

uint64_t ovc_room_absent(const struct ovc_region *r)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; i < r->nr; i++) {
		enum ovc_state s;

		if (!(i % 512) && !ovc_region_touched(r, i)) {
			i += 511;
			continue;
		}
		s = ovc_word_state(atomic_load(&r->words[i]));
		nr += s == OVC_SWAPPED || s == OVC_READING || s == OVC_STORED ||
		      s == OVC_SHARED;
	}
	return nr;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Pages that it has and that cannot go to swap. */
static uint64_t stuck(const struct ovc_vm *vm, uint64_t held)
{
	uint64_t size, used;

	if (!vm->swap)
		return held;
	size = ovc_swap_size(vm->swap) / OVC_PAGE;
	used = ovc_swap_used(vm->swap);
	return size - min_of(size, used) < held ?
		       held - (size - min_of(size, used)) :
		       0;
}

static uint64_t guaranteed(const struct ovc_vm *vm, uint64_t held)
{
	return min_of(held, min_of(atomic_load(&vm->min),
				   atomic_load(&vm->entitled)));
}

static uint64_t held_by(const struct ovc_vm *vm)
{
	return atomic_load(&vm->resident) + atomic_load(&vm->staged);
}

/* Of a VM from which the others' memory is asked. */
static uint64_t stays(const struct ovc_vm *vm)
{
	uint64_t held = held_by(vm);

	return max_of(max_of(atomic_load(&vm->pinned), stuck(vm, held)),
		      guaranteed(vm, held));
}

static uint64_t resident_in(const struct ovc_region *r)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; r && i < r->nr; i++) {
		enum ovc_state s;

		if (!(i % 512) && !ovc_region_touched(r, i)) {
			i += 511;
			continue;
		}
		s = ovc_word_state(atomic_load(&r->words[i]));
		nr += s == OVC_RESIDENT || s == OVC_CLEAN || s == OVC_STAGED ||
		      s == OVC_WRITING;
	}
	return nr;
}

uint64_t ovc_room_missing(const struct ovc_vm *vm,
			  const struct ovc_region *leaving, uint64_t nr,
			  uint64_t spare)
{
	const struct ovc_host *host = vm->host;
	uint64_t have = atomic_load(&host->allowed);
	uint64_t limit = atomic_load(&vm->limit);
	/* What is to be pinned counts as pinned already. */
	uint64_t own = max_of(
		atomic_load(&vm->pinned),
		max_of(stuck(vm, held_by(vm)), resident_in(leaving)) + nr);
	uint64_t all = own, over = 0;

	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i] && host->vms[i] != vm)
			all += stays(host->vms[i]);
	have = have > spare ? have - spare : 0;
	if (limit && own > limit)
		over = own - limit;
	return max_of(over, all > have ? all - have : 0);
}
