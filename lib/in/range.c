/* SPDX-License-Identifier: MIT */
/*
 * What callers do with ranges, page by page in the caller's own thread.
 *
 * A page in a transient state is waited for: its owner is a thread that goes on by
 * itself (in dispatch mode we take its steps meanwhile). What must be read from swap a
 * fault thread reads (ask.c), so that a disk that does not answer keeps no caller.
 *
 * Failures: what comes no nearer for half a minute is given up; pin takes back what it pinned; the others leave the pages that they
 * did not reach as they were.
 */
#include "in/range.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/donate.h"
#include "core/budget.h"
#include "core/control.h"
#include "core/tables.h"
#include "in/ask.h"
#include "in/pager.h"
#include "life/room.h"
#include "memory/advice.h"
#include "memory/memory.h"
#include "share/lay.h"
#include "store/shared.h"
#include "sys/memfd.h"

#define RUN  64 /* pages brought in at once */
#define LOOK 16 /* pages copied at once, on the caller's stack */

/* ---- bringing in ------------------------------------------------------- */

/* The page at idx is ours to read, from `slot`; the ones behind it that can come
 * with the same read are taken along, up to `most`. Waits for at most ns: see ask.h. */
static int read_run(struct ovc_region *r, uint64_t idx, uint64_t most,
		    uint64_t slot, bool write, uint64_t ns)
{
	struct ovc_asked a = { r, idx, 1, slot, write, NULL };
	struct ovc_touched t;
	int error;

	while (a.nr < most) {
		uint64_t w = atomic_load(&r->words[idx + a.nr]);

		if (ovc_word_state(w) != OVC_SWAPPED ||
		    ovc_word_value(w) != slot + a.nr)
			break;
		if (ovc_pager_touch(r, idx + a.nr, false, true, &t) !=
		    OVC_TOUCH_READ)
			break;
		if (t.slot != slot + a.nr) { /* it moved in between */
			ovc_pager_unread(r, idx + a.nr, t.slot);
			break;
		}
		a.nr++;
	}
	error = ovc_ask_read(&a, ns);
	if (error == -EAGAIN || error == -ETIMEDOUT)
		for (uint64_t i = 0; i < a.nr; i++)
			ovc_pager_unread(r, idx + i, slot + i);
	return error == -EINPROGRESS ? -ETIMEDOUT : error;
}

/* A page that is mapped from the store gets to be one that a touch copies. */
static void unmap(struct ovc_region *r, uint64_t idx)
{
	struct ovc_host *host = r->vm->host;

	ovc_control_lock(host);
	ovc_lay_unmap(r, idx, 1);
	ovc_control_unlock(host);
}

/* Since the last look. What others were faster to take is a sign that more comes. */
static bool is_freed(struct ovc_host *host, uint64_t *seen)
{
	uint64_t now = atomic_load(&host->count.freed), before = *seen;

	*seen = now;
	return now != before;
}

int ovc_range_bring_in(struct ovc_region *r, uint64_t idx, uint64_t nr,
		       bool write, uint64_t patience)
{
	uint64_t begun = ovc_now_ns(), since = 0, starved = 0, ns;
	uint64_t freed = 0;
	uint64_t most = nr < RUN ? nr : RUN;
	int error;

	for (unsigned round = 0;; round++) {
		enum ovc_state s = ovc_word_state(atomic_load(&r->words[idx]));
		struct ovc_touched t;

		if (s == OVC_RESIDENT || s == OVC_CLEAN)
			return 0;
		if (s == OVC_SHARED) {
			unmap(r, idx);
			ovc_host_pause(r->vm->host, round);
			continue;
		}
		/* As a write, the touch of a stored page copies it. */
		switch (ovc_pager_touch(r, idx, write || s == OVC_STORED, false,
					&t)) {
		case OVC_TOUCH_READ:
			ns = ovc_now_ns() - begun;
			ns = ns < OVC_PATIENCE_NS ? OVC_PATIENCE_NS - ns : 0;
			error = read_run(r, idx, most, t.slot, write, ns);
			if (error == -ETIMEDOUT)
				return error;
			if (!error)
				break;
			most = 1; /* for which there is room sooner */
			ovc_host_pause(r->vm->host, round);
			break;
		case OVC_TOUCH_LOST:
			return -EIO;
		case OVC_TOUCH_DONE:
			break;
		case OVC_TOUCH_WAIT:
			ovc_host_pause(r->vm->host, round);
			break;
		case OVC_TOUCH_STARVED:
			ovc_host_pause(r->vm->host, round);
			if (is_freed(r->vm->host, &freed))
				starved = 0;
			if (ovc_waited_for(&starved, round, patience))
				return -ENOMEM;
			break;
		}
		if (ovc_waited_for(&since, round, OVC_PATIENCE_NS))
			return -ETIMEDOUT;
	}
}

void ovc_range_give_up_slot(struct ovc_region *r, uint64_t idx)
{
	uint64_t w = atomic_load(&r->words[idx]);

	while (ovc_word_state(w) == OVC_CLEAN) {
		uint64_t slot = ovc_word_value(w);

		if (ovc_page_try(&r->words[idx], &w, OVC_EV_DIRTY, 0) ==
		    OVC_ACT_FREE) {
			ovc_swap_free(r->vm->swap, slot);
			return;
		}
		w = atomic_load(&r->words[idx]);
	}
}

/* ---- discard ------------------------------------------------------------ */

static bool any_pinned(const struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		if (ovc_word_pins(atomic_load(&r->words[i])))
			return true;
	return false;
}

static int discard(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	struct ovc_run run = { .idx = idx, .nr = nr };
	struct ovc_donated done = { 0 };
	int error;

	if (any_pinned(r, idx, nr))
		return ovc_fail(-EBUSY, "discard: a page of the range is "
					"pinned; unpin it first");
	error = ovc_donate(r, &run, 1, OVC_DISCARDED, &done);
	if (!error)
		return 0;
	return ovc_fail(error, "discard: %llu KiB stay as they were: %s",
			(unsigned long long)done.failed * OVC_PAGE >> 10,
			error == -ETIMEDOUT ?
				"somebody reads them, and the swap does not "
				"answer" :
				strerror(-error));
}

int ovc_range_discard(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	int error;

	pthread_mutex_lock(&r->vm->pinning);
	error = discard(r, idx, nr);
	pthread_mutex_unlock(&r->vm->pinning);
	return error;
}

/* ---- pin ------------------------------------------------------------------ */

static int add_pins(struct ovc_region *r, uint64_t idx, uint64_t nr,
		    uint64_t *done)
{
	struct ovc_vm *vm = r->vm;
	struct ovc_host *host = vm->host;

	for (*done = 0; *done < nr; ++*done) {
		ovc_word *word = &r->words[idx + *done];
		uint64_t w = atomic_load(word);

		ovc_region_touch(r, idx + *done);
		do {
			if (ovc_word_pins(w) >= OVC_W_PIN_MAX)
				return -EOVERFLOW;
		} while (!atomic_compare_exchange_weak(word, &w,
						       w + OVC_W_PIN_ONE));
		if (ovc_word_pins(w))
			continue;
		atomic_fetch_add(&vm->pinned, 1);
		atomic_fetch_add(&host->pinned, 1);
	}
	return 0;
}

/* Pages of a range that are in no memory yet. */
static uint64_t absent(const struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t n = 0;

	for (uint64_t i = idx; i < idx + nr; i++) {
		enum ovc_state s = ovc_word_state(atomic_load(&r->words[i]));

		n += s != OVC_RESIDENT && s != OVC_CLEAN && s != OVC_STAGED &&
		     s != OVC_WRITING;
	}
	return n;
}

/* Can all that is pinned by now be in memory at once, whatever is reclaimed? Of a VM
 * without swap what it has stays beside it. */
static int check_room(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	struct ovc_vm *vm = r->vm;
	struct ovc_host *host = vm->host;
	uint64_t missing, more = 0;

	ovc_control_lock(host);
	if (atomic_load(&r->tracked) && !vm->swap)
		more = absent(r, idx, nr);
	missing = ovc_room_missing(vm, NULL, more,
				   atomic_load(&host->reserve) / OVC_PAGE);
	ovc_control_unlock(host);
	if (!missing)
		return 0;
	return ovc_fail(-ENOMEM,
			"pin: %llu KiB are missing: of the budget less the "
			"reserve and what the library needs, beside what is "
			"pinned, guaranteed to others, or has no swap; or of "
			"the VM's limit; unpin some, or raise them",
			(unsigned long long)missing * OVC_PAGE >> 10);
}

static void remove_pins(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	for (uint64_t i = idx; i < idx + nr; i++) {
		uint64_t w = atomic_fetch_sub(&r->words[i], OVC_W_PIN_ONE);

		if (ovc_word_pins(w) == 1) {
			atomic_fetch_sub(&r->vm->pinned, 1);
			atomic_fetch_sub(&r->vm->host->pinned, 1);
		}
	}
}

/*
 * Pins come first, so that reclaim leaves alone what is brought in; and a page
 * that is pinned counts as written, for a device writes past the page tables.
 */
static int bring_in_pinned(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	int error = 0;

	for (uint64_t i = idx; !error && i < idx + nr; i++) {
		enum ovc_state s;

		/* Again if a read borrows it just then: that ends as CLEAN as
		 * it began, and a device's writes would go unseen. */
		do {
			error = ovc_range_bring_in(r, i, idx + nr - i, true,
						   OVC_PATIENCE_NS);
			ovc_range_give_up_slot(r, i);
			s = ovc_word_state(atomic_load(&r->words[i]));
		} while (!error && s != OVC_RESIDENT);
	}
	return error;
}

int ovc_range_pin(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t done;
	int error;

	pthread_mutex_lock(&r->vm->pinning);
	error = add_pins(r, idx, nr, &done);
	pthread_mutex_unlock(&r->vm->pinning);
	if (error)
		ovc_fail(error, "pin: a page has %d pins already",
			 OVC_W_PIN_MAX);
	else
		error = check_room(r, idx, nr);
	if (!error && !atomic_load(&r->tracked))
		/* The kernel brings in by itself what is not there yet. */
		ovc_pages_populate(ovc_page_addr(r, idx), nr * OVC_PAGE);
	if (!error && atomic_load(&r->tracked)) {
		error = bring_in_pinned(r, idx, nr);
		if (error == -EIO)
			ovc_fail(error, "pin: a page could not be read from "
					"swap, or is poisoned");
		else if (error)
			error = ovc_fail(-ETIMEDOUT,
					 "pin: memory, or the swap of %s, was "
					 "waited for in vain for %llu s",
					 r->vm->name,
					 OVC_PATIENCE_NS / 1000000000);
	}
	if (error)
		remove_pins(r, idx, done);
	return error;
}

int ovc_range_unpin(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		if (!ovc_word_pins(atomic_load(&r->words[i])))
			return ovc_fail(-EINVAL,
					"unpin: page %llu of the "
					"range is not pinned",
					(unsigned long long)(i - idx));
	remove_pins(r, idx, nr);
	return 0;
}

/* ---- overwrite, prefetch --------------------------------------------------- */

int ovc_range_overwrite(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	for (uint64_t i = idx; i < idx + nr; i++) {
		uint64_t w = atomic_load(&r->words[i]);
		uint64_t value = ovc_word_value(w);
		enum ovc_state s = ovc_word_state(w);

		if (s != OVC_SWAPPED && s != OVC_STORED)
			continue;
		if (ovc_page_try(&r->words[i], &w, OVC_EV_DISCARD, 0) ==
		    OVC_ACT_FREE)
			ovc_drop_home(r->vm, s, value);
		/* else it is being read already: nothing to spare */
	}
	return 0;
}

int ovc_range_prefetch(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	struct ovc_host *host = r->vm->host;

	if (!atomic_load(&r->tracked))
		return 0; /* it is all there, or zero */
	for (unsigned i = 0; i < OVC_MAX_REQUESTS; i++) {
		struct ovc_request *q = &host->requests[i];
		int is = OVC_SLOT_FREE;

		if (!atomic_compare_exchange_strong(&q->state, &is,
						    OVC_SLOT_BUSY))
			continue;
		q->region = r;
		q->idx = idx;
		q->nr = nr;
		atomic_store(&q->state, OVC_SLOT_READY);
		atomic_store(&host->have_requests, true);
		ovc_wake_faulters(host);
		return 0;
	}
	return ovc_fail(-EAGAIN,
			"prefetch: %d requests are waiting already; "
			"try again later",
			OVC_MAX_REQUESTS);
}

void ovc_range_set_sharing(struct ovc_region *r, uint64_t idx, uint64_t nr,
			   bool on)
{
	ovc_control_lock(r->vm->host);
	for (uint64_t i = idx; i < idx + nr; i++) {
		ovc_region_mark(r, i);
		if (on)
			atomic_fetch_and(&r->marks[i], (uint8_t)~OVC_MARK_OFF);
		else
			atomic_fetch_or(&r->marks[i], OVC_MARK_OFF);
	}
	ovc_control_unlock(r->vm->host);
}

/* ---- read ------------------------------------------------------------------ */

/* A page that the guest had: a slot that is not known to be good any more goes. */
static int copy_guests(struct ovc_region *r, uint64_t idx, uint64_t was,
		       char *page)
{
	uint64_t slot = ovc_word_value(was);
	bool clean = ovc_word_state(was) == OVC_CLEAN, written = true;
	int error = ovc_memory_of(r, idx)->read(r, idx, page, &written);

	if (clean && !written) {
		ovc_pager_end(r, idx, OVC_EV_FILLED_CLEAN, slot);
		return error;
	}
	ovc_pager_end(r, idx, OVC_EV_FILLED, 0);
	if (clean)
		ovc_swap_free(r->vm->swap, slot);
	return error;
}

/* Has the bytes of nr pages that are ours copied from contiguous slots. */
static int copy_slots(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      uint64_t slot, char *page)
{
	const struct ovc_asked a = { r, idx, nr, slot, false, page };
	uint64_t since = 0;
	int error;

	for (unsigned round = 0;; round++) {
		error = ovc_ask_read(&a, OVC_PATIENCE_NS);
		if (error == -EINPROGRESS)
			return -ETIMEDOUT;
		if (error != -EAGAIN && error != -EINTR && error != -ENOMEM &&
		    error != -ECANCELED) /* not the disk's word */
			return error;
		ovc_host_pause(r->vm->host, round);
		if (ovc_waited_for(&since, round, OVC_PATIENCE_NS))
			return -ETIMEDOUT;
	}
}

/* Pages behind one that is ours to read from `slot`, which can come with it. */
static uint64_t borrow_more(struct ovc_region *r, uint64_t idx, uint64_t most,
			    uint64_t slot)
{
	uint64_t n;

	for (n = 1; n < most; n++) {
		uint64_t w = atomic_load(&r->words[idx + n]);

		if (ovc_word_state(w) != OVC_SWAPPED ||
		    ovc_word_value(w) != slot + n ||
		    ovc_page_try(&r->words[idx + n], &w, OVC_EV_LOOK,
				 slot + n) != OVC_ACT_COPY)
			break;
	}
	return n;
}

static void give_back(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      uint64_t slot)
{
	for (uint64_t i = 0; i < nr; i++)
		ovc_pager_end(r, idx + i, OVC_EV_READ_CANCEL, slot + i);
}

/* Several, where that can be: *nr at most, and those that are good. One that is bad is
 * found to be so when it is the first. */
static int copy_swapped(struct ovc_region *r, uint64_t idx, uint64_t *nr,
			uint64_t slot, char *page)
{
	uint64_t n = borrow_more(r, idx, *nr, slot), good = 0;
	int error = copy_slots(r, idx, n, slot, page);

	if (error && error != -ETIMEDOUT && n > 1) {
		give_back(r, idx + 1, n - 1, slot + 1);
		n = 1;
		error = copy_slots(r, idx, n, slot, page);
	}
	while (!error && good < n &&
	       ovc_swap_checksum(page + good * OVC_PAGE) ==
		       ovc_swap_sum(r->vm->swap, slot + good))
		good++;
	give_back(r, idx, n, slot);
	*nr = good;
	return !error && !good ? -EBADMSG : error;
}

static int copy_store(struct ovc_region *r, uint64_t page, char *to)
{
	return ovc_pages_copy(to, ovc_shared_view(r->vm->host->store, page),
			      OVC_PAGE);
}

/* The guest's address is read only where the guest has a copy, which is there. */
static int copy_shared(struct ovc_region *r, uint64_t idx, uint64_t store,
		       char *page)
{
	uint8_t bits;
	int error = ovc_memory_look(r, idx, 1, &bits);

	if (!error && ovc_laid_is_private(bits))
		error = ovc_pages_copy(page, ovc_page_addr(r, idx), OVC_PAGE);
	else if (!error)
		error = copy_store(r, store, page);
	ovc_pager_end(r, idx, OVC_EV_MAPPED, store);
	return error;
}

/* Held back by read-ahead, or staged. */
static int copy_staged(struct ovc_region *r, uint64_t idx, uint64_t pos,
		       char *page)
{
	int error = 0;

	if (pos >= r->vm->host->staging.cap)
		memcpy(page, ovc_pager_view(r, idx, pos), OVC_PAGE);
	else
		error = ovc_memory_read_staged(r, idx, pos, page);
	ovc_pager_end(r, idx, OVC_EV_UNPUT, pos);
	return error;
}

/* Copies a page that we made FILLING (it was with the guest, or staged) or
 * READING (it was swapped), and gives it back as it was. */
static int copy_borrowed(struct ovc_region *r, uint64_t idx, uint64_t was,
			 char *page, uint64_t *nr)
{
	uint64_t value = ovc_word_value(was);
	int error;

	if (ovc_word_state(was) == OVC_SWAPPED)
		return copy_swapped(r, idx, nr, value, page);
	*nr = 1;
	switch (ovc_word_state(was)) {
	case OVC_RESIDENT:
	case OVC_CLEAN:
		return copy_guests(r, idx, was, page);
	case OVC_STORED:
		error = copy_store(r, value, page);
		ovc_pager_end(r, idx, OVC_EV_TO_STORE, value);
		return error;
	case OVC_SHARED:
		return copy_shared(r, idx, value, page);
	default:
		return copy_staged(r, idx, value, page);
	}
}

/* A page that was never there. Of a memfd another mapping may have made one, which the
 * guest would find. */
static int copy_empty(struct ovc_region *r, uint64_t idx, char *page)
{
	if (r->memfd >= 0)
		return ovc_memfd_read(r->memfd,
				      r->memfd_offset + idx * OVC_PAGE, page,
				      OVC_PAGE);
	memset(page, 0, OVC_PAGE);
	return 0;
}

/* Copies page idx, and maybe more: *nr at most, and as many as were copied. */
static int read_pages(struct ovc_region *r, uint64_t idx, char *page,
		      uint64_t *nr)
{
	uint64_t since = 0;

	for (unsigned round = 0;; round++) {
		uint64_t w = atomic_load(&r->words[idx]), was = w;

		if (ovc_word_transient(w)) {
			ovc_host_pause(r->vm->host, round);
			if (ovc_waited_for(&since, round, OVC_PATIENCE_NS))
				return -ETIMEDOUT;
			continue;
		}
		switch (ovc_page_try(&r->words[idx], &w, OVC_EV_LOOK,
				     ovc_word_value(w))) {
		case OVC_ACT_COPY:
			return copy_borrowed(r, idx, was, page, nr);
		case OVC_ACT_NONE:
			*nr = 1;
			if (ovc_word_state(was) == OVC_POISONED)
				return -EIO;
			if (ovc_word_state(was) == OVC_EMPTY)
				return copy_empty(r, idx, page);
			memset(page, 0, OVC_PAGE);
			return 0;
		default:
			break;
		}
	}
}

/* Not tracked: all that there is is the kernel's. (If tracking begins while we copy, a
 * touch of ours is answered like a guest's.) */
static int read_untracked(struct ovc_region *r, uint64_t offset, char *to,
			  size_t len, char *page)
{
	int error;

	if (r->memfd >= 0)
		return ovc_memfd_read(r->memfd, r->memfd_offset + offset, to,
				      len);
	if (!ovc_pages_copy(to, r->base + offset, len))
		return 0;
	/* What is bad, the page or the kind of buffer? */
	while (len) {
		size_t n = OVC_PAGE - offset % OVC_PAGE;

		n = n < len ? n : len;
		error = ovc_pages_copy(page, r->base + offset, n);
		if (error)
			return error;
		memcpy(to, page, n);
		to += n;
		offset += n;
		len -= n;
	}
	return 0;
}

static int read_failed(uint64_t offset, int error)
{
	if (error == -ETIMEDOUT)
		return ovc_fail(error,
				"read: the page at offset %#llx of the region "
				"was waited for in vain for %llu s: the swap "
				"does not answer",
				(unsigned long long)offset,
				OVC_PATIENCE_NS / 1000000000);
	return ovc_fail(-EIO,
			"read: the page at offset %#llx of the region is lost "
			"or could not be read (error %d)",
			(unsigned long long)offset, -error);
}

static int read_tracked(struct ovc_region *r, uint64_t offset, char *to,
			size_t len, char *pages)
{
	while (len) {
		size_t at = offset % OVC_PAGE, n;
		uint64_t nr = (at + len + OVC_PAGE - 1) / OVC_PAGE;
		int error;

		nr = nr < LOOK ? nr : LOOK;
		error = read_pages(r, offset / OVC_PAGE, pages, &nr);
		if (error)
			return read_failed(offset, error);
		n = nr * OVC_PAGE - at;
		n = n < len ? n : len;
		memcpy(to, pages + at, n);
		to += n;
		offset += n;
		len -= n;
	}
	return 0;
}

/* The stack is in core dumps: no guest's bytes are left there. */
int ovc_range_read(struct ovc_region *r, uint64_t offset, void *buf, size_t len)
{
	_Alignas(4096) char pages[LOOK * OVC_PAGE];
	size_t used;
	int error;

	if (atomic_load(&r->tracked)) {
		error = read_tracked(r, offset, buf, len, pages);
	} else {
		error = read_untracked(r, offset, buf, len, pages);
		error = error ? read_failed(offset, error) : 0;
	}
	used = (len / OVC_PAGE + 2) * OVC_PAGE;
	explicit_bzero(pages, used < sizeof(pages) ? used : sizeof(pages));
	return error;
}

/* ---- advice -------------------------------------------------------------------- */

/* With control, so that nobody maps memory anew between the two. */
int ovc_range_advise(struct ovc_region *r, uint64_t idx, uint64_t nr,
		     int advice)
{
	struct ovc_host *host = r->vm->host;
	unsigned set = 0, clear = 0;
	int error;

	ovc_pages_is_advice(advice, &set, &clear);
	ovc_control_lock(host);
	error = ovc_pages_advise_as(ovc_page_addr(r, idx), nr * OVC_PAGE,
				    advice);
	if (!error)
		error = ovc_advice_note(r, idx, nr, set, clear);
	ovc_control_unlock(host);
	if (error)
		ovc_fail(error, "advise: %s", strerror(-error));
	return error;
}
