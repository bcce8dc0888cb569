/* SPDX-License-Identifier: MIT */
/*
 * The way in: what a touch of an absent page leads to.
 *
 *   never there      zeros
 *   staged           put back, clean if its slot is still good
 *   in the store     copied from there; or, where it should be mapped, mapped again
 *   in a slot        the caller reads it (fault.c on a ring, calls with pread), and
 *                    it is filled when the bytes have been verified
 *
 * Memory is charged before the page word changes, so that `used` is never less
 * than what the guests have. No memory: the touch is starved; the VM is marked,
 * and reclaim wakes it when some is free. The mark is set before memory is tried
 * for the last time, and reclaim frees before it looks for marks, so that one of
 * the two sees the other.
 *
 * A slot that is noted at a position, of the ring or of a page that is held back, is taken
 * out by who owns the page in a transient state whose word names that position; in the
 * ring, also by the holder of control. Everybody else may find another page's there.
 *
 * Failures: a slot whose bytes are wrong or unreadable poisons its page. Where the kernel
 * has no memory everything stays as it was, and the touch is starved; what it refuses for
 * another reason is lost (lost.c), unless a slot has the bytes, too.
 */
#include "in/pager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/frames.h"
#include "core/budget.h"
#include "core/tables.h"
#include "in/lost.h"
#include "memory/memory.h"
#include "share/domain.h"
#include "share/promise.h"
#include "store/shared.h"
#include "sys/fail.h"

static bool is_hold(const struct ovc_host *host, uint64_t pos)
{
	return pos >= host->staging.cap;
}

char *ovc_pager_view(struct ovc_region *r, uint64_t idx, uint64_t pos)
{
	struct ovc_host *host = r->vm->host;

	if (is_hold(host, pos))
		return host->hold_frames + (pos - host->staging.cap) * OVC_PAGE;
	return ovc_memory_of(r, idx)->view(r, idx, pos);
}

static _Atomic uint64_t *slot_at(struct ovc_host *host, uint64_t pos)
{
	if (is_hold(host, pos))
		return &host->holds[pos - host->staging.cap].slot;
	return &host->staging.entries[pos].slot;
}

/* The clean slot of a staged page that is ours. */
static uint64_t take_slot(struct ovc_region *r, uint64_t pos)
{
	return atomic_exchange(slot_at(r->vm->host, pos), OVC_NO_SLOT);
}

static void wake(struct ovc_region *r, uint64_t idx)
{
	ovc_memory_wake(r, idx, 1);
}

void ovc_pager_end(struct ovc_region *r, uint64_t idx,
		   enum ovc_page_event event, uint64_t value)
{
	enum ovc_action action;

	if (ovc_page_end(&r->words[idx], event, value, &action) & OVC_W_WANTED)
		wake(r, idx);
}

/* ---- heat ------------------------------------------------------------ */

static uint32_t clock_now(struct ovc_host *host, uint32_t *turnover)
{
	uint64_t pages = atomic_load(&host->allowed);
	unsigned shift = ovc_clock_shift(pages);

	*turnover = (uint32_t)(pages >> shift);
	if (!*turnover)
		*turnover = 1;
	return (uint32_t)(atomic_load(&host->evicted) >> shift);
}

static uint32_t refault_heat(struct ovc_region *r, uint64_t idx, uint64_t w,
			     bool ahead)
{
	struct ovc_host *host = r->vm->host;
	uint32_t turnover, now = clock_now(host, &turnover);

	if (ahead)
		return ovc_clock_read_ahead(ovc_word_heat(w));
	return ovc_clock_refault(ovc_word_heat(w), now, turnover,
				 (uint32_t)(idx + atomic_load(&host->evicted)));
}

/* ---- clean pages ------------------------------------------------------ */

/*
 * Should a page come in write-protected, to keep its slot? Not when guests write
 * nearly all such pages anyway: each then costs a fault of the kernel's and a slot.
 * One in sixteen is tried all the same, to notice when that changes.
 */
static bool want_clean(struct ovc_region *r, uint64_t idx)
{
	struct ovc_vm *vm = r->vm;
	uint32_t kept =
		atomic_load_explicit(&vm->clean_kept, memory_order_relaxed);
	uint32_t lost =
		atomic_load_explicit(&vm->clean_lost, memory_order_relaxed);

	if (!ovc_tells_written(r, idx))
		return false;
	return kept + lost < 256 || kept * 8 > lost || !(idx & 15);
}

/* ---- putting back ----------------------------------------------------- */

/* What a put back, or a loss, leaves of a ring's entry. */
static void leave_ring(struct ovc_region *r, uint64_t idx, uint64_t pos)
{
	struct ovc_host *host = r->vm->host;

	atomic_fetch_sub(&r->vm->staged, 1);
	if (is_hold(host, pos))
		return;
	if (ovc_memory_of(r, idx)->frames_in_window)
		atomic_fetch_add(&host->staging.leftover, 1);
}

static void free_hold(struct ovc_host *host, uint64_t pos)
{
	if (is_hold(host, pos))
		atomic_store(&host->holds[pos - host->staging.cap].region,
			     NULL);
}

/* A staged page that cannot be put back: its slot has the bytes, or nobody has. */
static void lose_staged(struct ovc_region *r, uint64_t idx, uint64_t pos,
			uint64_t slot, int error)
{
	struct ovc_vm *vm = r->vm;

	leave_ring(r, idx, pos);
	/* A memfd's frame is not in the window, and paid for by the page. */
	if (!is_hold(vm->host, pos) &&
	    !ovc_memory_of(r, idx)->frames_in_window &&
	    !ovc_memory_of(r, idx)->drop(r, idx, 1))
		ovc_uncharge(vm->host, 1);
	if (slot != OVC_NO_SLOT) {
		atomic_fetch_add(&vm->swapped, 1);
		ovc_pager_end(r, idx, OVC_EV_READ_CANCEL, slot);
		wake(r, idx);
	} else {
		ovc_refused(r, idx, error);
	}
	free_hold(vm->host, pos);
}

static int put_staged(struct ovc_region *r, uint64_t idx, uint64_t pos,
		      bool clean)
{
	uint64_t done;
	unsigned tries = 0;
	int error;

	do {
		if (is_hold(r->vm->host, pos))
			error = ovc_memory_fill(r, idx,
						ovc_pager_view(r, idx, pos), 1,
						clean, &done);
		else
			error = ovc_memory_of(r, idx)->put_back(r, idx, pos,
								clean);
	} while (ovc_try_again(error, &tries));
	return error;
}

int ovc_pager_put_back(struct ovc_region *r, uint64_t idx, uint64_t pos,
		       uint64_t slot, bool write)
{
	struct ovc_vm *vm = r->vm;
	bool clean = slot != OVC_NO_SLOT && !write && ovc_tells_written(r, idx);
	int error = put_staged(r, idx, pos, clean);

	if (ovc_is_short(error)) {
		/* Without one, what the entry has is reclaim's to take. */
		if (slot != OVC_NO_SLOT)
			atomic_store(slot_at(vm->host, pos), slot);
		ovc_pager_end(r, idx, OVC_EV_UNPUT, pos);
		ovc_starve(r, idx, error);
		return error;
	}
	if (error) {
		lose_staged(r, idx, pos, slot, error);
		return error;
	}
	if (!is_hold(vm->host, pos))
		ovc_page_set_heat(&r->words[idx],
				  ovc_clock_put_back(ovc_word_heat(
					  atomic_load(&r->words[idx]))));
	leave_ring(r, idx, pos);
	OVC_COUNT(vm, put_back, 1);
	atomic_fetch_add(&vm->resident, 1);
	if (clean) {
		ovc_pager_end(r, idx, OVC_EV_FILLED_CLEAN, slot);
	} else {
		ovc_pager_end(r, idx, OVC_EV_FILLED, 0);
		if (slot != OVC_NO_SLOT)
			ovc_swap_free(vm->swap, slot);
	}
	free_hold(vm->host, pos);
	return 0;
}

/*
 * Does a put back need a frame more? A staged one of the guest's own memory is there; a
 * held page's is one of our buffers, and what is in the ring's window is copied, and
 * stays there a while.
 */
static bool costs(struct ovc_region *r, uint64_t idx, uint64_t pos)
{
	return is_hold(r->vm->host, pos) ||
	       ovc_memory_of(r, idx)->frames_in_window;
}

/* A held page pays as usual. Frames on top of the staged ones: see OVC_LEFTOVER_MAX. */
static bool charge_put_back(struct ovc_region *r, uint64_t pos, bool ahead)
{
	struct ovc_host *host = r->vm->host;

	if (is_hold(host, pos))
		return ovc_charge(r->vm, 1);
	if (ahead && !ovc_room_ahead(r->vm, 1))
		return false;
	/* The end of a VM does not wait for a write. */
	if (atomic_load(&host->staging.leftover) >= OVC_LEFTOVER_MAX &&
	    !atomic_load(&r->vm->ending))
		return false;
	ovc_charge_force(r->vm, 1);
	return true;
}

/*
 * Makes a page ours that is STAGED, WRITING or DOOMED, its word w, to put it back, and
 * charges what that costs: *paid pages. OVC_TOUCH_DONE: it is ours.
 */
static enum ovc_touch begin_put_back(struct ovc_region *r, uint64_t idx,
				     uint64_t w, bool ahead, unsigned *paid,
				     bool *again)
{
	uint64_t pos = ovc_word_value(w);

	*paid = costs(r, idx, pos);
	if (*paid && !charge_put_back(r, pos, ahead))
		return OVC_TOUCH_STARVED;
	if (ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, pos) ==
	    OVC_ACT_RACED) {
		ovc_uncharge(r->vm->host, *paid);
		*again = true;
		return OVC_TOUCH_WAIT;
	}
	/* Between our look and here it may have gone, become memory of the other
	 * kind, and come back to the same position: the word tells no difference. */
	if (*paid != costs(r, idx, pos)) {
		if (*paid)
			ovc_uncharge(r->vm->host, 1);
		else
			ovc_charge_force(r->vm, 1);
		*paid = !*paid;
	}
	return OVC_TOUCH_DONE;
}

/* Puts back what was charged. */
static enum ovc_touch put_back(struct ovc_region *r, uint64_t idx, uint64_t pos,
			       uint64_t slot, bool write, unsigned paid)
{
	int error = ovc_pager_put_back(r, idx, pos, slot, write);

	if (error)
		ovc_uncharge(r->vm->host, paid);
	return ovc_is_short(error) ? OVC_TOUCH_STARVED : OVC_TOUCH_DONE;
}

static enum ovc_touch touch_staged(struct ovc_region *r, uint64_t idx,
				   uint64_t w, bool write, bool ahead,
				   struct ovc_touched *t, bool *again)
{
	uint64_t pos = ovc_word_value(w);
	uint64_t slot = OVC_NO_SLOT;
	unsigned paid;
	enum ovc_touch begun = begin_put_back(r, idx, w, ahead, &paid, again);

	if (begun != OVC_TOUCH_DONE)
		return begun;
	t->mark = w & OVC_W_MARK;
	/* What was WRITING has given its slot to reclaim. */
	if (ovc_word_state(w) == OVC_STAGED)
		slot = take_slot(r, pos);
	return put_back(r, idx, pos, slot, write, paid);
}

/* What the guest gave away it must not see again, whatever it takes. */
static int erase(struct ovc_region *r, uint64_t idx, uint64_t pos)
{
	const struct ovc_host *host = r->vm->host;
	int error = 0;

	if (is_hold(host, pos)) {
		memset(ovc_pager_view(r, idx, pos), 0, OVC_PAGE);
		return 0;
	}
	for (unsigned i = 0; i < OVC_TRIES; i++) {
		error = ovc_memory_write_staged(r, idx, pos, host->zeros);
		if (!error)
			break;
	}
	return error;
}

/* A page that was discarded while reclaim still had its frame: the bytes are
 * erased, and it is put back. */
static enum ovc_touch touch_doomed(struct ovc_region *r, uint64_t idx,
				   uint64_t w, bool ahead, bool *again)
{
	uint64_t pos = ovc_word_value(w), slot;
	unsigned paid;
	enum ovc_touch begun;
	int error;

	if (ahead)
		return OVC_TOUCH_STARVED;
	begun = begin_put_back(r, idx, w, ahead, &paid, again);
	if (begun != OVC_TOUCH_DONE)
		return begun;
	ovc_frames_touched(r, idx);
	slot = take_slot(r, pos);
	if (slot != OVC_NO_SLOT)
		ovc_swap_free(r->vm->swap, slot);
	error = erase(r, idx, pos);
	if (!error)
		return put_back(r, idx, pos, OVC_NO_SLOT, true, paid);
	lose_staged(r, idx, pos, OVC_NO_SLOT, error);
	ovc_uncharge(r->vm->host, paid);
	return OVC_TOUCH_DONE;
}

/* ---- pages that are nowhere, or in swap -------------------------------- */

static bool charge_in(struct ovc_region *r, bool ahead)
{
	if (ahead && !ovc_room_ahead(r->vm, 1))
		return false;
	return ovc_charge(r->vm, 1);
}

static int zero(struct ovc_region *r, uint64_t idx, bool write)
{
	unsigned tries = 0;
	int error;

	do {
		error = ovc_memory_of(r, idx)->zero(r, idx, 1, write);
	} while (ovc_try_again(error, &tries));
	return error;
}

static enum ovc_touch touch_empty(struct ovc_region *r, uint64_t idx,
				  uint64_t w, bool write, bool ahead,
				  struct ovc_touched *t, bool *again)
{
	int error;

	/* What the guest gave away it has to ask for. */
	if (ahead && ovc_frames_has(r, idx))
		return OVC_TOUCH_WAIT;
	if (!charge_in(r, ahead))
		return OVC_TOUCH_STARVED;
	ovc_region_touch(r, idx);
	if (ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, 0) != OVC_ACT_ZERO) {
		ovc_uncharge(r->vm->host, 1);
		*again = true;
		return OVC_TOUCH_WAIT;
	}
	ovc_frames_touched(r, idx);
	error = zero(r, idx, write);
	if (error)
		ovc_uncharge(r->vm->host, 1);
	if (ovc_is_short(error)) {
		ovc_pager_end(r, idx, OVC_EV_UNFILLED, 0);
		ovc_starve(r, idx, error);
		return OVC_TOUCH_STARVED;
	}
	if (error) {
		ovc_refused(r, idx, error);
		return OVC_TOUCH_DONE;
	}
	t->empty = true;
	t->cold = ovc_clock_on_probation(ovc_word_heat(w));
	atomic_fetch_add(&r->vm->resident, 1);
	ovc_pager_end(r, idx, OVC_EV_FILLED, 0);
	return OVC_TOUCH_DONE;
}

static enum ovc_touch touch_swapped(struct ovc_region *r, uint64_t idx,
				    uint64_t w, bool ahead,
				    struct ovc_touched *t, bool *again)
{
	if (!charge_in(r, ahead))
		return OVC_TOUCH_STARVED;
	t->slot = ovc_word_value(w);
	if (ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, t->slot) !=
	    OVC_ACT_READ) {
		ovc_uncharge(r->vm->host, 1);
		*again = true;
		return OVC_TOUCH_WAIT;
	}
	return OVC_TOUCH_READ;
}

/* ---- pages of the store -------------------------------------------------- */

static void lose_shared(struct ovc_region *r, uint64_t idx, uint64_t page,
			int error)
{
	atomic_fetch_sub(&r->vm->mapped, 1);
	atomic_fetch_sub(&r->vm->shared, 1);
	ovc_refused(r, idx, error);
	ovc_domain_unref(r->vm, page);
}

/* The guest's page is FILLING, and the store's is mapped there but for the page table's
 * entry. It comes back write-protected, or promised where the kernel cannot. */
static enum ovc_touch map_again(struct ovc_region *r, uint64_t idx,
				uint64_t page)
{
	const struct ovc_host *host = r->vm->host;
	bool wp = host->laid_features.wp_map;
	unsigned tries = 0;
	size_t done;
	int error;

	if (!wp)
		ovc_promise_begin(r, idx);
	do {
		error = ovc_uffd_continue(host->laid_uffd,
					  ovc_page_addr(r, idx), OVC_PAGE, wp,
					  &done);
		/* Mapped already, where nobody was woken. */
		if (error == -EEXIST)
			error = ovc_uffd_wake(host->laid_uffd,
					      ovc_page_addr(r, idx), OVC_PAGE);
	} while (ovc_try_again(error, &tries));
	if (!error || ovc_is_short(error))
		ovc_pager_end(r, idx, OVC_EV_MAPPED, page);
	else
		lose_shared(r, idx, page, error);
	if (!wp)
		ovc_promise_done(r, idx);
	if (ovc_is_short(error)) {
		ovc_starve(r, idx, error);
		return OVC_TOUCH_STARVED;
	}
	return OVC_TOUCH_DONE;
}

/* It was unmapped, and the guest reads it: that takes no memory. */
static enum ovc_touch touch_unmapped(struct ovc_region *r, uint64_t idx,
				     uint64_t w, bool *again)
{
	uint64_t page = ovc_word_value(w);

	*again = ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, 0) !=
		 OVC_ACT_UNSHARE;
	if (*again)
		return OVC_TOUCH_WAIT;
	/* It may have been elsewhere since we looked, and be back unmapped. */
	if (!ovc_is_laid_well(r, idx)) {
		ovc_pager_end(r, idx, OVC_EV_TO_STORE, page);
		*again = true;
		return OVC_TOUCH_WAIT;
	}
	atomic_fetch_add(&r->vm->mapped, 1);
	return map_again(r, idx, page);
}

static enum ovc_touch not_unshared(struct ovc_region *r, uint64_t idx,
				   uint64_t page, int error)
{
	ovc_uncharge(r->vm->host, 1);
	if (ovc_is_short(error)) {
		ovc_pager_end(r, idx, OVC_EV_TO_STORE, page);
		ovc_starve(r, idx, error);
		return OVC_TOUCH_STARVED;
	}
	atomic_fetch_sub(&r->vm->shared, 1);
	ovc_refused(r, idx, error);
	ovc_domain_unref(r->vm, page);
	return OVC_TOUCH_DONE;
}

static enum ovc_touch touch_stored(struct ovc_region *r, uint64_t idx,
				   uint64_t w, bool write, bool ahead,
				   bool *again)
{
	struct ovc_vm *vm = r->vm;
	uint64_t page = ovc_word_value(w), done;
	unsigned tries = 0;
	int error;

	if (!write && ovc_is_laid_well(r, idx))
		return touch_unmapped(r, idx, w, again);
	if (!charge_in(r, ahead))
		return OVC_TOUCH_STARVED;
	if (ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, 0) !=
	    OVC_ACT_UNSHARE) {
		ovc_uncharge(vm->host, 1);
		*again = true;
		return OVC_TOUCH_WAIT;
	}
	do {
		error = ovc_memory_fill(r, idx,
					ovc_shared_view(vm->host->store, page),
					1, false, &done);
	} while (ovc_try_again(error, &tries));
	if (error)
		return not_unshared(r, idx, page, error);
	/* It is read: next time it is worth a mapping. */
	ovc_page_set_heat(&r->words[idx], ovc_clock_put_back(ovc_word_heat(w)));
	atomic_fetch_add(&vm->resident, 1);
	atomic_fetch_sub(&vm->shared, 1);
	OVC_COUNT(vm, broken, 1);
	ovc_pager_end(r, idx, OVC_EV_FILLED, 0);
	ovc_domain_unref(vm, page);
	return OVC_TOUCH_DONE;
}

/* It should be mapped, and is not: the kernel wanted the page table's entry. */
static enum ovc_touch touch_shared(struct ovc_region *r, uint64_t idx,
				   uint64_t w, bool *again)
{
	uint64_t page = ovc_word_value(w);

	if (ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, 0) != OVC_ACT_MAP) {
		*again = true;
		return OVC_TOUCH_WAIT;
	}
	return map_again(r, idx, page);
}

/* The page is ours: has the guest it as it came in, and nobody wrote it? */
static bool is_protected(const struct ovc_region *r, uint64_t idx)
{
	uint8_t bits;

	return !ovc_pagemap_get(&r->vm->host->pagemap, ovc_page_addr(r, idx), 1,
				&bits) &&
	       (bits & (OVC_PAGES_PRESENT | OVC_PAGES_WRITTEN)) ==
		       OVC_PAGES_PRESENT;
}

/*
 * A fault on a page that should be there, and has a slot. Most often it is there: one
 * fault thread had read the message when another brought the page in. Then the slot
 * is as good as before. Otherwise the page counts as written from now on: what
 * protected it may be gone.
 */
static enum ovc_touch touch_clean(struct ovc_region *r, uint64_t idx,
				  uint64_t w, bool *again)
{
	uint64_t slot = ovc_word_value(w);

	*again = true;
	if (ovc_page_try(&r->words[idx], &w, OVC_EV_LOOK, 0) != OVC_ACT_COPY)
		return OVC_TOUCH_WAIT;
	if (is_protected(r, idx)) {
		*again = false;
		ovc_pager_end(r, idx, OVC_EV_FILLED_CLEAN, slot);
		wake(r, idx);
		return OVC_TOUCH_DONE;
	}
	ovc_pager_end(r, idx, OVC_EV_FILLED, 0);
	ovc_swap_free(r->vm->swap, slot);
	return OVC_TOUCH_WAIT;
}

/* A fault on a page that should be there. It is, and the fault is late; or the VMM
 * dropped it behind our back, or the kernel unmapped a page of a memfd. */
static enum ovc_touch touch_present(struct ovc_region *r, uint64_t idx,
				    uint64_t w, bool write, bool *again)
{
	int error;

	/* The page must be ours meanwhile: were it staged between our look and the
	 * kernel's, zeros would be mapped where its bytes were. */
	if (ovc_page_try(&r->words[idx], &w, OVC_EV_LOOK, 0) != OVC_ACT_COPY) {
		*again = true;
		return OVC_TOUCH_WAIT;
	}
	error = zero(r, idx, write);
	if (!error || ovc_is_short(error)) {
		ovc_pager_end(r, idx, OVC_EV_FILLED, 0);
	} else {
		atomic_fetch_sub(&r->vm->resident, 1);
		ovc_uncharge(r->vm->host, 1);
		ovc_refused(r, idx, error);
	}
	if (!ovc_is_short(error))
		return OVC_TOUCH_DONE;
	ovc_starve(r, idx, error);
	return OVC_TOUCH_STARVED;
}

static enum ovc_touch touch_once(struct ovc_region *r, uint64_t idx, bool write,
				 bool ahead, struct ovc_touched *t, bool *again)
{
	uint64_t w = atomic_load(&r->words[idx]);

	switch (ovc_word_state(w)) {
	case OVC_EMPTY:
		return touch_empty(r, idx, w, write, ahead, t, again);
	case OVC_SWAPPED:
		return touch_swapped(r, idx, w, ahead, t, again);
	case OVC_WRITING:
		/* A guess does not keep what is on its way out: it has given its
		 * clean slot to reclaim, and would be written again. */
		if (ahead)
			return OVC_TOUCH_WAIT;
		return touch_staged(r, idx, w, write, ahead, t, again);
	case OVC_STAGED:
		return touch_staged(r, idx, w, write, ahead, t, again);
	case OVC_DOOMED:
		return touch_doomed(r, idx, w, ahead, again);
	case OVC_RESIDENT:
		if (ahead)
			return OVC_TOUCH_DONE;
		return touch_present(r, idx, w, write, again);
	case OVC_CLEAN:
		return ahead ? OVC_TOUCH_DONE : touch_clean(r, idx, w, again);
	case OVC_STORED:
		return touch_stored(r, idx, w, write, ahead, again);
	case OVC_SHARED:
		if (ahead)
			return OVC_TOUCH_DONE;
		return touch_shared(r, idx, w, again);
	case OVC_POISONED:
		/* It was poisoned before the word said so. Not again: the word
		 * is not ours, and may stand for another page by now. */
		if (!ahead)
			wake(r, idx);
		return OVC_TOUCH_LOST;
	default: /* transient: its owner wakes, if it is told */
		*again = !ahead &&
			 ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, 0) ==
				 OVC_ACT_RACED;
		return OVC_TOUCH_WAIT;
	}
}

enum ovc_touch ovc_pager_touch(struct ovc_region *r, uint64_t idx, bool write,
			       bool ahead, struct ovc_touched *t)
{
	enum ovc_touch result;
	bool again, told = ahead;

	do {
		*t = (struct ovc_touched){ .slot = OVC_NO_SLOT };
		again = false;
		result = touch_once(r, idx, write, ahead, t, &again);
		if (result == OVC_TOUCH_STARVED && !told) {
			/* See the story on top: mark, then try once more. */
			OVC_COUNT(r->vm, faults_waited, 1);
			atomic_store(&r->vm->starved, true);
			told = again = true;
		}
	} while (again);
	if (result == OVC_TOUCH_STARVED)
		ovc_kick(r->vm->host);
	return result;
}

/* ---- bytes that came from swap ----------------------------------------- */

void ovc_pager_unread(struct ovc_region *r, uint64_t idx, uint64_t slot)
{
	ovc_uncharge(r->vm->host, 1);
	ovc_pager_end(r, idx, OVC_EV_READ_CANCEL, slot);
}

/* READING, whose slot's bytes cannot be had. */
static void poison(struct ovc_region *r, uint64_t idx, uint64_t slot, int error)
{
	struct ovc_vm *vm = r->vm;
	enum ovc_action action;

	ovc_page_end(&r->words[idx], OVC_EV_LOST, slot, &action);
	atomic_fetch_sub(&vm->swapped, 1);
	ovc_lost(r, idx, error);
	ovc_swap_free(vm->swap, slot);
}

void ovc_pager_lost(struct ovc_region *r, uint64_t idx, uint64_t slot,
		    int error)
{
	ovc_uncharge(r->vm->host, 1);
	OVC_COUNT(r->vm, read_errors, 1);
	poison(r, idx, slot, error);
}

bool ovc_pager_give_up(struct ovc_region *r, uint64_t idx)
{
	struct ovc_vm *vm = r->vm;
	uint64_t w = atomic_load(&r->words[idx]), at = ovc_word_value(w);
	enum ovc_state s = ovc_word_state(w);

	if ((s != OVC_SWAPPED && s != OVC_STORED) ||
	    ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT,
			 s == OVC_SWAPPED ? at : 0) == OVC_ACT_RACED)
		return false;
	if (s == OVC_SWAPPED) {
		poison(r, idx, at, -ENOMEM);
		return true;
	}
	atomic_fetch_sub(&vm->shared, 1);
	ovc_lost(r, idx, -ENOMEM);
	ovc_domain_unref(vm, at);
	return true;
}

/* A page that is FILLING from its slot, and that the guest cannot have. */
static void not_filled(struct ovc_region *r, uint64_t idx, uint64_t slot,
		       int error)
{
	struct ovc_vm *vm = r->vm;

	if (ovc_is_short(error)) {
		ovc_pager_unread(r, idx, slot);
		ovc_starve(r, idx, error);
		return;
	}
	ovc_uncharge(vm->host, 1);
	atomic_fetch_sub(&vm->swapped, 1);
	ovc_refused(r, idx, error);
	ovc_swap_free(vm->swap, slot);
}

/* Fills pages that are FILLING, as far as the kernel lets us. */
static uint64_t fill_some(const struct ovc_arrival *a, uint64_t from,
			  uint64_t nr, bool clean, int *error)
{
	struct ovc_region *r = a->region;
	const char *bytes = a->bytes + (from - a->idx) * OVC_PAGE;
	uint64_t all = 0, done;
	unsigned tries = 0;

	do {
		*error = ovc_memory_fill(r, from + all, bytes + all * OVC_PAGE,
					 nr - all, clean, &done);
		all += done;
	} while (ovc_try_again(*error, &tries));
	return all;
}

/* The first page that is refused is dealt with; those behind it are SWAPPED again, for
 * who wants them. */
static void fill_run(const struct ovc_arrival *a, uint64_t from, uint64_t nr,
		     bool clean)
{
	struct ovc_region *r = a->region;
	struct ovc_vm *vm = r->vm;
	int error;
	uint64_t done = fill_some(a, from, nr, clean, &error), i;

	atomic_fetch_add(&vm->resident, done);
	atomic_fetch_sub(&vm->swapped, done);
	for (i = from; i < from + done; i++) {
		uint64_t slot = a->slot + (i - a->idx);

		if (clean) {
			ovc_pager_end(r, i, OVC_EV_FILLED_CLEAN, slot);
		} else {
			ovc_pager_end(r, i, OVC_EV_FILLED, 0);
			ovc_swap_free(vm->swap, slot);
		}
	}
	for (; i < from + nr; i++) {
		if (i == from + done)
			not_filled(r, i, a->slot + (i - a->idx), error);
		else
			ovc_pager_unread(r, i, a->slot + (i - a->idx));
		if (!ovc_is_short(error))
			wake(r, i);
	}
}

static bool is_clean_one(const struct ovc_arrival *a, uint64_t idx)
{
	if (idx == a->demand && a->write)
		return false;
	return want_clean(a->region, idx);
}

/* Verifies one page: FILLING when good. */
static bool verify(const struct ovc_arrival *a, uint64_t idx)
{
	struct ovc_region *r = a->region;
	uint64_t k = idx - a->idx, w;
	bool good = ovc_swap_checksum(a->bytes + k * OVC_PAGE) ==
		    ovc_swap_sum(r->vm->swap, a->slot + k);
	enum ovc_action action;

	if (good) {
		ovc_page_end(&r->words[idx], OVC_EV_READ_OK, a->slot + k,
			     &action);
		return true;
	}
	w = atomic_load(&r->words[idx]);
	if (idx == a->demand || (w & OVC_W_WANTED))
		ovc_pager_lost(r, idx, a->slot + k, -EBADMSG);
	else
		ovc_pager_unread(r, idx, a->slot + k);
	return false;
}

static void warm(const struct ovc_arrival *a, uint64_t idx,
		 void (*cold)(void *, struct ovc_region *, uint64_t), void *arg)
{
	struct ovc_region *r = a->region;
	uint32_t heat = refault_heat(r, idx, atomic_load(&r->words[idx]),
				     idx != a->demand);

	ovc_page_set_heat(&r->words[idx], heat);
	if (cold && ovc_clock_on_probation(heat))
		cold(arg, r, idx);
}

void ovc_pager_arrived(const struct ovc_arrival *a,
		       void (*cold)(void *arg, struct ovc_region *r,
				    uint64_t idx),
		       void *arg)
{
	uint64_t from = a->idx, end = a->idx + a->nr;
	bool clean = false;

	OVC_COUNT(a->region->vm, swap_in, a->nr);
	if (a->demand - a->idx < a->nr)
		OVC_COUNT(a->region->vm, readahead, a->nr - 1);
	else
		OVC_COUNT(a->region->vm, readahead, a->nr);
	for (uint64_t i = a->idx; i < end; i++) {
		bool good = verify(a, i), this = is_clean_one(a, i);

		if (i > from && (!good || this != clean)) {
			fill_run(a, from, i - from, clean);
			from = i;
		}
		if (!good)
			from = i + 1;
		else
			warm(a, i, cold, arg);
		clean = this;
	}
	if (end > from)
		fill_run(a, from, end - from, clean);
}

/* ---- pages held back ---------------------------------------------------- */

bool ovc_pager_hold(struct ovc_region *r, uint64_t idx, uint64_t slot,
		    const char *bytes, unsigned hold)
{
	struct ovc_vm *vm = r->vm;
	struct ovc_host *host = vm->host;
	struct ovc_hold *h = &host->holds[hold];
	uint64_t pos = host->staging.cap + hold, w, next;
	enum ovc_action action;

	if (ovc_swap_checksum(bytes) != ovc_swap_sum(vm->swap, slot))
		return false;
	memcpy(host->hold_frames + hold * OVC_PAGE, bytes, OVC_PAGE);
	h->idx = idx;
	atomic_store(&h->slot, slot);
	atomic_store(&h->region, r);
	w = atomic_load(&r->words[idx]);
	do {
		if (w & OVC_W_WANTED) {
			atomic_store(&h->region, NULL);
			return false;
		}
		next = ovc_page_next(w, OVC_EV_READ_HELD, pos, &action) |
		       OVC_W_MARK;
	} while (!atomic_compare_exchange_weak(&r->words[idx], &w, next));
	OVC_COUNT(vm, swap_in, 1);
	OVC_COUNT(vm, readahead, 1);
	/* Its frame is one of our buffers: the guest has none yet. */
	ovc_uncharge(host, 1);
	atomic_fetch_add(&vm->staged, 1);
	atomic_fetch_sub(&vm->swapped, 1);
	return true;
}

/* A held page that is DROPPING, and ours: its word names the hold, which nobody uses
 * before that is free. */
static void end_held(struct ovc_region *r, uint64_t idx, uint64_t pos,
		     enum ovc_page_event event, uint64_t value)
{
	atomic_fetch_sub(&r->vm->staged, 1);
	ovc_pager_end(r, idx, event, value);
	free_hold(r->vm->host, pos);
}

void ovc_pager_unhold(struct ovc_host *host, unsigned hold)
{
	struct ovc_hold *h = &host->holds[hold];
	struct ovc_region *r = atomic_load(&h->region);
	uint64_t pos = host->staging.cap + hold, w, slot;

	if (!r)
		return;
	w = atomic_load(&r->words[h->idx]);
	if (ovc_word_state(w) != OVC_STAGED || ovc_word_value(w) != pos ||
	    ovc_page_try(&r->words[h->idx], &w, OVC_EV_UNHOLD, pos) !=
		    OVC_ACT_DROP)
		return;
	slot = take_slot(r, pos);
	if (slot == OVC_NO_SLOT)
		ovc_bug("a page that is held back has no slot", w);
	atomic_fetch_add(&r->vm->swapped, 1);
	end_held(r, h->idx, pos, OVC_EV_TO_SWAP, slot);
}

void ovc_pager_give_back_held(struct ovc_region *r, uint64_t idx, uint64_t w)
{
	uint64_t pos = ovc_word_value(w), slot;

	if (ovc_page_try(&r->words[idx], &w, OVC_EV_UNHOLD, pos) !=
	    OVC_ACT_DROP)
		return;
	slot = take_slot(r, pos);
	if (slot == OVC_NO_SLOT)
		ovc_bug("a page that is held back has no slot", w);
	atomic_fetch_add(&r->vm->swapped, 1);
	end_held(r, idx, pos, OVC_EV_TO_SWAP, slot);
}

bool ovc_pager_discard_staged(struct ovc_region *r, uint64_t idx, uint64_t w)
{
	uint64_t pos = ovc_word_value(w), slot;

	if (ovc_page_try(&r->words[idx], &w, OVC_EV_DISCARD, pos) !=
	    OVC_ACT_FREE)
		return false;
	ovc_sys_preempt(OVC_PREEMPT_DISCARD, pos);
	slot = take_slot(r, pos);
	if (is_hold(r->vm->host, pos))
		end_held(r, idx, pos, OVC_EV_TO_EMPTY, 0);
	else
		ovc_pager_end(r, idx, OVC_EV_DOOM, pos);
	if (slot != OVC_NO_SLOT)
		ovc_swap_free(r->vm->swap, slot);
	return true;
}

void ovc_pager_check_unheld(const struct ovc_host *host,
			    const struct ovc_region *r)
{
	for (unsigned i = 0; i < host->nr_faulters * OVC_HOLDS; i++)
		if (atomic_load(&host->holds[i].region) == r)
			ovc_bug("a page of a region that goes is held back", i);
}
