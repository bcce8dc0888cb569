/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a page that the kernel does not let the guest have.
 *
 *   short of memory   the page stays where it is. Its touch waits like one for which the
 *                     budget has nothing: the VM is starved, and reclaim wakes it some
 *                     milliseconds later. The VMM is told, once a second at most.
 *   anything else     is tried again at once, a few times; then the page is lost
 *   lost              poisoned, an event. An error that stays would otherwise have the
 *                     guest fault for ever, at the speed of the CPU.
 *   no address        the VMM unmapped it, or mapped something else: lost, but nothing is
 *                     poisoned, for what is there is not ours. The region's removal
 *                     says which range it was. While the region is unregistered, though,
 *                     it is no more than late, and the kernel's.
 *
 * Bytes that are elsewhere, too, are not lost: who can read them from swap again does
 * that (pager.c).
 */
#include "in/lost.h"

#include <errno.h>

#include "core/budget.h"
#include "core/events.h"
#include "memory/memory.h"

#define TELL_NS 1000000000ull

bool ovc_is_short(int error)
{
	return error == -ENOMEM || error == -EAGAIN || error == -EBUSY ||
	       error == -EINTR || error == -ENOSPC;
}

void ovc_starve(struct ovc_region *r, uint64_t idx, int error)
{
	struct ovc_vm *vm = r->vm;
	uint64_t now = ovc_now_ns(), told = atomic_load(&vm->short_told);

	atomic_store(&vm->short_at, now);
	atomic_store(&vm->starved, true);
	ovc_kick(vm->host);
	if (now - told > TELL_NS &&
	    atomic_compare_exchange_strong(&vm->short_told, &told, now))
		ovc_event_post(vm->host, OVC_EVENT_MEMORY_FAILED, -error, vm, r,
			       idx, 1);
}

static void end_lost(struct ovc_region *r, uint64_t idx, int error)
{
	struct ovc_vm *vm = r->vm;
	enum ovc_action action;

	atomic_fetch_add(&vm->poisoned, 1);
	ovc_page_end(&r->words[idx], OVC_EV_LOST, 0, &action);
	ovc_memory_wake(r, idx, 1);
	ovc_event_post(vm->host, OVC_EVENT_POISONED, -error, vm, r, idx, 1);
}

void ovc_lost(struct ovc_region *r, uint64_t idx, int error)
{
	ovc_memory_poison(r, idx);
	end_lost(r, idx, error);
}

static void note_unmapped(struct ovc_region *r, uint64_t idx)
{
	uint64_t at = atomic_load(&r->unmapped_from);

	while (idx < at &&
	       !atomic_compare_exchange_weak(&r->unmapped_from, &at, idx))
		;
	at = atomic_load(&r->unmapped_to);
	while (idx + 1 > at &&
	       !atomic_compare_exchange_weak(&r->unmapped_to, &at, idx + 1))
		;
}

/* It asked before its region was unregistered: the kernel serves it by itself now. */
static void end_native(struct ovc_region *r, uint64_t idx)
{
	enum ovc_action action;

	ovc_page_end(&r->words[idx], OVC_EV_UNFILLED, 0, &action);
	ovc_memory_wake(r, idx, 1);
}

void ovc_refused(struct ovc_region *r, uint64_t idx, int error)
{
	if (error == -ENOENT && atomic_load(&r->gone)) {
		end_native(r, idx);
		return;
	}
	if (error != -ENOENT) {
		ovc_lost(r, idx, error);
		return;
	}
	note_unmapped(r, idx);
	end_lost(r, idx, error);
}
