/* SPDX-License-Identifier: MIT */
/*
 * What guests may write of shared pages without asking.
 *
 * The kernel copies a mapped page of the store when the guest writes it, at its own
 * speed, and we find out later. So that the budget holds whatever is written, that
 * memory is promised beforehand: a page that is mapped counts as used, until it is
 * write-protected. A protected page costs nothing; the guest's write asks, through a
 * userfaultfd of its own (the other one has protection that does not ask, to tell what
 * was written), and waits for memory like any other fault.
 *
 *   mapped      promised, by force: it is written at the kernel's speed
 *   short       all promises are taken back: protect, find what was written and charge
 *               it, and only then give the promise back
 *   write       of a protected page: OVC_PIECE pages around it are promised at once
 *               where there is room, else this page alone, else the guest waits
 *
 * A piece has a word: how many of its pages are promised (no fewer than are mapped and
 * not protected), and how many fault threads are about to take protection away. Those
 * add the promise before they begin, and who takes it back leaves a piece alone that
 * they are busy with:
 *
 *      word                 the guest may write     leads on
 *      0                    nothing                 promise, write: n
 *      n                    up to n pages           recall: 0
 *      n, busy              likewise                the fault thread's end: n
 *
 * A fault thread that comes when recall has set the word to 0 and has not protected yet
 * promises anew, and what it unprotects is protected again: then more is promised than
 * is used, until the next recall. Never less.
 *
 * Failures: where the kernel does not protect, the promise stays.
 */
#include "share/promise.h"

#include <string.h>

#include "core/budget.h"
#include "memory/memory.h"
#include "share/broken.h"

#define BUSY	  ((uint32_t)1 << 24)
#define COUNT	  (BUSY - 1)
#define AT_ONCE	  2048	       /* pages that are protected with one call */
#define AGAIN_NS  5000000ull   /* between two recalls that nobody waits for */
#define WATCH_NS  100000000ull /* between two looks */
#define WATCH_MS  100
#define WATCH_MAX 4096 /* pages of a look */

static uint64_t pieces(const struct ovc_region *r)
{
	return (r->nr + OVC_PIECE - 1) / OVC_PIECE;
}

static _Atomic uint32_t *promises(const struct ovc_region *r)
{
	return atomic_load(&r->promises);
}

static bool have_tables(struct ovc_region *r)
{
	size_t len = pieces(r) * sizeof(uint32_t);
	void *mem;

	if (promises(r))
		return true;
	if (ovc_pages_reserve(len, &mem))
		return false;
	atomic_store(&r->promises, mem);
	atomic_store(&r->vm->host->laid, true);
	atomic_fetch_add(&r->vm->host->tables, len);
	return true;
}

static void give_back(struct ovc_host *host, uint64_t nr)
{
	atomic_fetch_sub(&host->promised, nr);
	ovc_uncharge(host, nr);
}

bool ovc_promise(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	struct ovc_host *host = r->vm->host;

	if (!have_tables(r))
		return false;
	atomic_fetch_add(&host->promised, nr);
	ovc_charge_force(r->vm, nr);
	for (uint64_t i = idx, n; i < idx + nr; i += n) {
		n = OVC_PIECE - i % OVC_PIECE;
		n = n < idx + nr - i ? n : idx + nr - i;
		atomic_fetch_add(&promises(r)[i / OVC_PIECE], (uint32_t)n);
	}
	return true;
}

void ovc_promise_undo(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		atomic_fetch_sub(&promises(r)[i / OVC_PIECE], 1);
	give_back(r->vm->host, nr);
}

void ovc_promise_begin(struct ovc_region *r, uint64_t idx)
{
	atomic_fetch_add(&promises(r)[idx / OVC_PIECE], BUSY + 1);
	atomic_fetch_add(&r->vm->host->promised, 1);
	ovc_charge_force(r->vm, 1);
}

void ovc_promise_done(struct ovc_region *r, uint64_t idx)
{
	atomic_fetch_sub(&promises(r)[idx / OVC_PIECE], BUSY);
}

/* ---- taking back ---------------------------------------------------------------- */

/* Runs of SHARED pages, each within one mapping or more. */
static bool protect(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	int fd = r->vm->host->laid_uffd, error = 0;

	for (uint64_t i = idx, n; i < idx + nr && !error; i += n ? n : 1) {
		for (n = 0; i + n < idx + nr; n++)
			if (ovc_word_state(atomic_load(&r->words[i + n])) !=
			    OVC_SHARED)
				break;
		if (n)
			error = ovc_uffd_protect(fd, ovc_page_addr(r, i),
						 n * OVC_PAGE);
	}
	return !error;
}

/* Those that were written while the others were looked for. */
static void unprotect_private(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		if (ovc_is_laid(r, i) &&
		    ovc_word_state(atomic_load(&r->words[i])) == OVC_RESIDENT)
			ovc_uffd_unprotect(r->vm->host->laid_uffd,
					   ovc_page_addr(r, i), OVC_PAGE);
}

/* Nobody may be about to unprotect pages of the piece. */
static uint32_t take(_Atomic uint32_t *piece)
{
	uint32_t was = atomic_load(piece);

	while (was && was < BUSY)
		if (atomic_compare_exchange_weak(piece, &was, 0))
			return was;
	return 0;
}

static void recall_some(struct ovc_region *r, uint64_t first, uint64_t nr,
			const uint32_t *taken)
{
	uint64_t idx = first * OVC_PIECE, end = (first + nr) * OVC_PIECE;
	uint64_t sum = 0;
	bool kept;

	end = end < r->nr ? end : r->nr;
	/* Private pages are not to be protected: it would be a fault for nothing, and one
	 * that the host swaps then looks like the marker of a page that is absent. */
	ovc_broken_find(r, idx, end - idx);
	kept = !protect(r, idx, end - idx);
	if (ovc_broken_find(r, idx, end - idx))
		unprotect_private(r, idx, end - idx);
	for (uint64_t k = 0; k < nr; k++) {
		if (kept)
			atomic_fetch_add(&promises(r)[first + k], taken[k]);
		else
			sum += taken[k];
	}
	give_back(r->vm->host, sum);
}

static void recall_region(struct ovc_region *r)
{
	uint32_t taken[AT_ONCE / OVC_PIECE];
	uint64_t nr = pieces(r);

	for (uint64_t i = r->mapped_from / OVC_PIECE, n; i < nr;
	     i += n ? n : 1) {
		for (n = 0; n < AT_ONCE / OVC_PIECE && i + n < nr; n++) {
			taken[n] = take(&promises(r)[i + n]);
			if (!taken[n])
				break;
		}
		if (n)
			recall_some(r, i, n, taken);
	}
}

void ovc_promise_recall(struct ovc_host *host)
{
	for (unsigned i = 0; i < host->end; i++)
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++)
			if (promises(host->vms[i]->regions[k]) &&
			    host->vms[i]->regions[k]->mapped_from != UINT64_MAX)
				recall_region(host->vms[i]->regions[k]);
	host->recalled_at = ovc_now_ns();
}

void ovc_promise_make_room(struct ovc_host *host)
{
	if (!atomic_load(&host->promised) ||
	    atomic_load(&host->used) +
			    atomic_load(&host->reserve) / OVC_PAGE / 2 <=
		    atomic_load(&host->allowed))
		return;
	if (ovc_any_starved(host) ||
	    atomic_load(&host->used) > atomic_load(&host->allowed) ||
	    ovc_now_ns() - host->recalled_at > AGAIN_NS)
		ovc_promise_recall(host);
}

void ovc_promise_end(struct ovc_region *r)
{
	uint64_t nr = pieces(r);

	if (!promises(r))
		return;
	for (uint64_t i = 0; i < nr; i++)
		give_back(r->vm->host, take(&promises(r)[i]));
}

void ovc_promise_free(struct ovc_region *r)
{
	size_t len = pieces(r) * sizeof(uint32_t);

	if (!promises(r))
		return;
	ovc_pages_release(promises(r), len);
	atomic_fetch_sub(&r->vm->host->tables, len);
}

/* ---- looking ---------------------------------------------------------------------- */

/* The next piece that is promised, from where the last look ended. */
static bool next_promised(struct ovc_host *host, struct ovc_region **rp,
			  uint64_t *piece)
{
	uint64_t number = 0;
	struct ovc_region *r;

	for (unsigned i = 0; i < host->end; i++) {
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++) {
			r = host->vms[i]->regions[k];
			number = r->number / OVC_PIECE;
			if (!promises(r) ||
			    number + pieces(r) <= host->watched_to)
				continue;
			*piece = host->watched_to > number ?
					 host->watched_to - number :
					 0;
			for (; *piece < pieces(r); ++*piece) {
				if (!(atomic_load(&promises(r)[*piece]) &
				      COUNT))
					continue;
				host->watched_to = number + *piece + 1;
				*rp = r;
				return true;
			}
		}
	}
	host->watched_to = 0;
	return false;
}

int ovc_promise_watch(struct ovc_host *host, uint64_t now)
{
	struct ovc_region *r;
	uint64_t piece, nr;

	if (!atomic_load(&host->promised))
		return -1;
	if (now - host->watched_at < WATCH_NS)
		return WATCH_MS;
	host->watched_at = now;
	for (unsigned done = 0; done < WATCH_MAX / OVC_PIECE; done++) {
		if (!next_promised(host, &r, &piece))
			break;
		nr = r->nr - piece * OVC_PIECE;
		nr = nr < OVC_PIECE ? nr : OVC_PIECE;
		ovc_broken_find(r, piece * OVC_PIECE, nr);
	}
	return WATCH_MS;
}

/* ---- the guest asks ----------------------------------------------------------------- */

static uint64_t shared_in(const struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t n = 0;

	for (uint64_t i = idx; i < idx + nr; i++)
		n += ovc_word_state(atomic_load(&r->words[i])) == OVC_SHARED;
	return n;
}

/* Of the host's memory, not of a VM's limit: what is written is charged to that when it
 * is found. */
static bool charge(struct ovc_vm *vm, uint64_t nr)
{
	struct ovc_host *host = vm->host;
	uint64_t used = atomic_fetch_add(&host->used, nr) + nr;
	uint64_t allowed = atomic_load(&host->allowed);
	bool ok = used <= allowed;

	if (!ok)
		atomic_fetch_sub(&host->used, nr);
	if (used + atomic_load(&host->reserve) / OVC_PAGE / 2 > allowed)
		ovc_kick(host);
	return ok;
}

/* Takes the protection away where pages are laid. */
static void unprotect(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	int fd = r->vm->host->laid_uffd;

	for (uint64_t i = idx, n; i < idx + nr; i += n ? n : 1) {
		for (n = 0; i + n < idx + nr && ovc_is_laid(r, i + n); n++)
			;
		if (n)
			ovc_uffd_unprotect(fd, ovc_page_addr(r, i),
					   n * OVC_PAGE);
	}
}

static bool let_write(struct ovc_region *r, uint64_t idx, _Atomic uint32_t *w)
{
	struct ovc_host *host = r->vm->host;
	uint64_t first = idx - idx % OVC_PIECE;
	uint64_t nr = r->nr - first < OVC_PIECE ? r->nr - first : OVC_PIECE;
	uint64_t shared = shared_in(r, first, nr);
	uint64_t half = atomic_load(&host->reserve) / OVC_PAGE / 2;

	if (atomic_load(&host->used) + shared + half >
		    atomic_load(&host->allowed) ||
	    !shared || !charge(r->vm, shared)) {
		/* Little is left. */
		first = idx;
		nr = shared = 1;
		if (!charge(r->vm, 1))
			return false;
	}
	atomic_fetch_add(&host->promised, shared);
	atomic_fetch_add(w, (uint32_t)shared);
	unprotect(r, first, nr);
	return true;
}

bool ovc_promise_write(struct ovc_region *r, uint64_t idx)
{
	_Atomic uint32_t *w = promises(r) + idx / OVC_PIECE;
	enum ovc_state state;
	bool ok = true;

	if (!promises(r))
		return true;
	atomic_fetch_add(w, BUSY);
	state = ovc_word_state(atomic_load(&r->words[idx]));
	if (state == OVC_SHARED)
		ok = let_write(r, idx, w);
	else if (state == OVC_RESIDENT) /* its own already */
		unprotect(r, idx, 1);
	/* else somebody has it in hand: the guest asks again */
	atomic_fetch_sub(w, BUSY);
	return ok;
}
