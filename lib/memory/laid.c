/* SPDX-License-Identifier: MIT */
/*
 * Guest memory where pages of the sharing store are mapped, privately: the kernel
 * copies a page when the guest writes it. It is the same for regions of both kinds:
 * what is private here is anonymous memory, and a memfd's own page is not involved.
 *
 *   lay     the store is mapped over the guest's pages, registered for missing and
 *           minor faults and for write protection that asks (with a userfaultfd of
 *           its own: see promise.c), and its pages are mapped at once. Absent pages stay absent:
 *           the kernel asks (a minor fault, since the store has a page there) and
 *           never shows the store's bytes by itself.
 *   take    the page tables' entries move into a window (MREMAP_DONTUNMAP); the
 *           guest's next touch asks. What the guest wrote until then came along, so
 *           that a look at the window says for good which pages are private. (A look
 *           before the move would miss a write in between.)
 *   stage   take, and copy into the ring's window. UFFDIO_MOVE does not take
 *           pages out of a file's mapping.
 *   fold    ordinary memory takes the place. New memory is not registered, so that
 *           a touch between the two would not be seen; therefore all pages are there
 *           before it moves in, and nobody needs to ask:
 *             anonymous: built elsewhere, with the bytes, then moved over
 *                  (mremap), which is one step for the guest
 *             memfd: the bytes are written to the memfd, then it is mapped
 *
 * A mapping made for each page costs one of vm.max_map_count, which who calls this
 * counts. At the limit the calls fail and change nothing.
 */
#include <errno.h>
#include <string.h>

#include "core/events.h"
#include "memory/advice.h"
#include "memory/memory.h"
#include "store/shared.h"
#include "sys/memfd.h"

#define TRIES	   8
#define GIVE_TRIES 1000

#define BOTH (OVC_MARK_LAID | OVC_MARK_OWN)

static void set_marks(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      bool laid)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		if (laid)
			atomic_fetch_or(&r->marks[i], BOTH);
		else
			atomic_fetch_and(&r->marks[i], (uint8_t)~BOTH);
}

/* A mapping that is registered alone: the kernel needs no memory for it, so that what
 * fails once goes through when it is tried again. */
static int register_new(struct ovc_region *r, uint64_t idx, uint64_t nr,
			bool minor, bool wp)
{
	int error = -EINVAL;

	for (unsigned i = 0; i < TRIES && error; i++)
		error = ovc_uffd_register(ovc_memory_uffd(r, idx),
					  ovc_page_addr(r, idx), nr * OVC_PAGE,
					  minor, wp);
	return error;
}

int ovc_laid_lay(struct ovc_region *r, uint64_t idx, uint64_t nr, uint64_t page)
{
	struct ovc_host *host = r->vm->host;
	char *addr = ovc_page_addr(r, idx);
	size_t done;
	int error = ovc_memfd_map_private(ovc_shared_fd(host->store),
					  page * OVC_PAGE, addr, nr * OVC_PAGE);

	if (error)
		return error;
	/* What is advised of huge pages is of no use here. */
	ovc_advice_apply(r, idx, nr, OVC_MAP_DONTDUMP);
	set_marks(r, idx, nr, true);
	if (register_new(r, idx, nr, true, true))
		ovc_bug("a mapping of the store cannot be registered", 0);
	/* What is not mapped now, is when it is touched. */
	ovc_uffd_continue(host->laid_uffd, addr, nr * OVC_PAGE, false, &done);
	return 0;
}

const char *ovc_laid_taken(const struct ovc_host *host, uint64_t k)
{
	return host->laid_window + k * OVC_PAGE;
}

/* As many as one mapping has: the kernel moves no more at once. */
static int move_some(struct ovc_region *r, uint64_t idx, uint64_t nr,
		     uint64_t at, uint64_t *moved)
{
	struct ovc_host *host = r->vm->host;
	int error = -EFAULT;

	for (*moved = nr; *moved; *moved /= 2) {
		error = ovc_pages_move_away(ovc_page_addr(r, idx),
					    host->laid_window + at * OVC_PAGE,
					    *moved * OVC_PAGE);
		if (error != -EFAULT && error != -EINVAL)
			break;
	}
	if (error)
		*moved = 0;
	return error;
}

/* Nobody is asked for what is touched in the window: a page that is away comes, and in the
 * place of a marker the store's. */
static int look_at_window(const struct ovc_host *host, uint64_t nr,
			  uint8_t *bits)
{
	const struct ovc_pagemap *pm = &host->pagemap;
	int error = ovc_pagemap_get(pm, host->laid_window, nr, bits);
	char byte;

	if (!error && ovc_pages_unsure(bits, nr))
		error = ovc_pagemap_tell(pm, host->laid_window, nr, bits);
	for (uint64_t k = 0; k < nr && !error; k++)
		for (unsigned i = 0;
		     !error && bits[k] & OVC_PAGES_UNSURE && i < TRIES; i++) {
			error = ovc_pages_copy(&byte, ovc_laid_taken(host, k),
					       1);
			if (!error)
				error = ovc_pagemap_get(pm,
							ovc_laid_taken(host, k),
							1, &bits[k]);
		}
	return error ? error : ovc_pages_unsure(bits, nr) ? -EAGAIN : 0;
}

int ovc_laid_take(struct ovc_region *r, uint64_t idx, uint64_t nr,
		  uint8_t *bits)
{
	struct ovc_host *host = r->vm->host;
	uint64_t n = 0, moved;
	int error = 0;

	while (n < nr && !error) {
		error = move_some(r, idx + n, nr - n, n, &moved);
		n += moved;
	}
	if (!n)
		return error;
	if (look_at_window(host, n, bits))
		/* Not known: a copy of each page is always right. */
		memset(bits, OVC_PAGES_PRESENT, n);
	return (int)n;
}

void ovc_laid_release(struct ovc_host *host, uint64_t nr)
{
	if (ovc_pages_refresh(host->laid_window, nr * OVC_PAGE))
		ovc_log(host, OVC_LOG_ERROR,
			"a window cannot be emptied yet: %llu pages stay "
			"allocated",
			(unsigned long long)nr);
}

/* ---- staging ------------------------------------------------------------------ */

/* Moves the page's entry back, for which no frame is needed. It is there all the time, so
 * that nobody touches it while it is not registered. */
static int move_back(struct ovc_region *r, uint64_t idx, const char *from)
{
	int error = ovc_pages_move_over((void *)(uintptr_t)from,
					ovc_page_addr(r, idx), OVC_PAGE);

	if (error)
		return error;
	ovc_pages_dontfork(ovc_page_addr(r, idx), OVC_PAGE, true);
	if (register_new(r, idx, 1, true, true))
		ovc_bug("a mapping of the store cannot be registered", 0);
	ovc_memory_wake(r, idx, 1);
	return 0;
}

/* Bytes in hand are not given up for want of memory that may be there in a moment. */
void ovc_laid_give_back(struct ovc_region *r, uint64_t idx, const char *from)
{
	uint64_t done;
	int error = -ENOMEM;

	for (unsigned i = 0; i < GIVE_TRIES && error; i++) {
		error = ovc_memory_fill(r, idx, from, 1, false, &done);
		if (error && i >= TRIES && error != -EFAULT)
			error = move_back(r, idx, from);
		if (error && i >= TRIES)
			ovc_nap(GIVE_TRIES);
	}
	if (!error)
		return;
	ovc_memory_poison(r, idx);
	ovc_event_post(r->vm->host, OVC_EVENT_POISONED, -error, r->vm, r, idx,
		       1);
}

static void stage_run(struct ovc_region *r, struct ovc_taken *t, size_t nr)
{
	struct ovc_host *host = r->vm->host;
	uint8_t bits[OVC_LAID_WINDOW];
	int got = ovc_laid_take(r, t->idx, nr, bits);

	for (size_t k = 0; k < nr; k++)
		t[k].error = got < 0 ? got : -EAGAIN;
	for (int k = 0; k < got; k++) {
		t[k].error =
			ovc_pages_there(bits[k]) ?
				ovc_private_stage_bytes(
					r, t[k].pos,
					ovc_laid_taken(host, (unsigned)k)) :
				-ENOENT;
		if (t[k].error && t[k].error != -ENOENT)
			ovc_laid_give_back(r, t[k].idx,
					   ovc_laid_taken(host, (unsigned)k));
	}
	if (got > 0)
		ovc_laid_release(host, (unsigned)got);
}

static void stage(struct ovc_region *r, struct ovc_taken *t, size_t nr)
{
	ovc_memory_ask_clean(r, t, nr, OVC_PAGES_WRITTEN, 0);
	for (size_t i = 0, n; i < nr; i += n) {
		for (n = 1; i + n < nr && n < OVC_LAID_WINDOW; n++)
			if (t[i + n].idx != t[i].idx + n)
				break;
		stage_run(r, t + i, n);
	}
}

/* Always a frame, not the kernel's zero page: that would not overwrite the marker of
 * a write protection, which what was here before may have left. */
static int zero(struct ovc_region *r, uint64_t idx, uint64_t nr, bool write)
{
	(void)write;
	return ovc_memory_anon.zero(r, idx, nr, true);
}

const struct ovc_memory ovc_memory_laid = {
	.name = "laid",
	.stage = stage,
	.view = ovc_private_view,
	.put_back = ovc_private_put_back,
	.drop = ovc_private_drop,
	.zero = zero,
	.discard = ovc_private_discard,
	.poison = ovc_memory_poison,
	.present = ovc_memory_look,
	.read = ovc_private_read,
	.frames_in_window = true,
};

/* ---- folding -------------------------------------------------------------------- */

static int map_ordinary(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	int error = ovc_memfd_remap(r->memfd, r->memfd_offset + idx * OVC_PAGE,
				    ovc_page_addr(r, idx), nr * OVC_PAGE);

	if (!error)
		ovc_advice_apply(r, idx, nr, OVC_MAP_ALL);
	return error;
}

static void ordinary(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	set_marks(r, idx, nr, false);
	if (register_new(r, idx, nr, r->memfd >= 0,
			 r->vm->host->uffd_features.wp_async))
		ovc_bug("guest memory cannot be registered again", 0);
}

/* The taken pages are in the window. Anonymous memory is built beside them. */
static int build(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	struct ovc_host *host = r->vm->host;
	size_t len = nr * OVC_PAGE;
	void *fresh;
	int error;

	if (r->memfd >= 0) {
		struct iovec iov = { host->laid_window, len };

		error = ovc_memfd_write(
			r->memfd, r->memfd_offset + idx * OVC_PAGE, &iov, 1);
		return error ? error : map_ordinary(r, idx, nr);
	}
	error = ovc_pages_make(len, ovc_advice_of(r, idx), &fresh);
	if (error)
		return error;
	error = ovc_pages_copy(fresh, host->laid_window, len);
	if (!error)
		error = ovc_pages_move_over(fresh, ovc_page_addr(r, idx), len);
	if (error)
		ovc_pages_release(fresh, len);
	return error;
}

static int fold(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	struct ovc_host *host = r->vm->host;
	uint8_t bits[OVC_LAID_WINDOW];
	int got = ovc_laid_take(r, idx, nr, bits), error;
	uint64_t there = 0;

	if (got < 0)
		return got;
	/* What is not there would read as the store's. */
	for (int k = 0; k < got; k++)
		there += ovc_pages_there(bits[k]);
	error = there < nr ? -EAGAIN : build(r, idx, nr);
	if (error && r->memfd >= 0)
		ovc_memfd_punch(r->memfd, r->memfd_offset + idx * OVC_PAGE,
				nr * OVC_PAGE);
	if (error)
		for (int k = 0; k < got; k++) {
			if (ovc_pages_there(bits[k]))
				ovc_laid_give_back(r, idx + (unsigned)k,
						   ovc_laid_taken(host,
								  (unsigned)k));
		}
	else
		ordinary(r, idx, nr);
	ovc_laid_release(host, (unsigned)got);
	return error;
}

static int clear(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	size_t len = nr * OVC_PAGE;
	void *fresh;
	int error;

	if (r->memfd >= 0) {
		error = map_ordinary(r, idx, nr);
	} else {
		error = ovc_pages_make(len, ovc_advice_of(r, idx), &fresh);
		if (!error)
			error = ovc_pages_move_over(fresh,
						    ovc_page_addr(r, idx), len);
	}
	if (!error)
		ordinary(r, idx, nr);
	return error;
}

/* One mapping is made of pages that were advised alike. */
static int each_alike(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      int (*fn)(struct ovc_region *r, uint64_t idx,
				uint64_t nr))
{
	int error = 0;

	for (uint64_t n; nr && !error; nr -= n, idx += n) {
		n = ovc_advice_alike(r, idx, nr);
		error = fn(r, idx, n);
	}
	return error;
}

int ovc_laid_fold(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	return each_alike(r, idx, nr, fold);
}

int ovc_laid_clear(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	return each_alike(r, idx, nr, clear);
}
