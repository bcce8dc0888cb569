/* SPDX-License-Identifier: MIT */
/*
 * Donation: a page that the guest gave away is dropped, and its memory goes back to the
 * budget before the call returns.
 *
 * Tracked: the page word decides page by page. What only has a home elsewhere (a slot, the
 * store, a page held back by read-ahead) gives it up and is done; what reclaim has in hand
 * is DOOMED, and reclaim ends it; what the guest has becomes DROPPING. Runs of these are
 * gathered, then dropped with as few system calls and flushes of the TLBs as the kernel
 * allows, then ended. A page in somebody else's hands is waited for, after what we hold
 * ourselves was dropped, so that nobody waits for us meanwhile.
 *
 * Untracked: the words say nothing yet, so that all pages are dropped, under control, and
 * tracking cannot begin in between and adopt what goes.
 *
 * A frame's bit is set before the page is dropped: whoever touches the page afterwards
 * finds it and clears it. A bit that was set already does not spare the drop, for while
 * nothing is tracked the guest may have touched the page unseen.
 *
 * Failures: what the kernel does not drop stays the guest's, and its bit is cleared again.
 * So it is with a page that another reads from a disk that does not answer.
 */
#include "balloon/donate.h"

#include <errno.h>

#include "balloon/frames.h"
#include "core/budget.h"
#include "core/control.h"
#include "core/tables.h"
#include "in/pager.h"
#include "share/domain.h"

#define RUNS	512	    /* dropped at once */
#define MUTE_NS 20000000ull /* for a page, once a disk did not answer */

/* ---- one page ------------------------------------------------------------ */

/* What it named of the store, it names no more. */
bool ovc_drop_end(struct ovc_region *r, uint64_t idx)
{
	uint64_t page = ovc_word_value(atomic_load(&r->words[idx]));

	ovc_pager_end(r, idx, OVC_EV_TO_EMPTY, 0);
	if (!page)
		return true;
	atomic_fetch_sub(&r->vm->shared, 1);
	atomic_fetch_sub(&r->vm->mapped, 1);
	ovc_domain_unref(r->vm, page);
	return false;
}

/* It could not be dropped: the guest keeps it. */
static void end_undropped(struct ovc_region *r, uint64_t idx)
{
	uint64_t page = ovc_word_value(atomic_load(&r->words[idx]));
	enum ovc_action action;

	ovc_page_end(&r->words[idx], OVC_EV_UNWRITTEN, 0, &action);
	if (page)
		ovc_pager_end(r, idx, OVC_EV_MAPPED, page);
	else
		ovc_pager_end(r, idx, OVC_EV_FILLED, 0);
}

void ovc_drop_home(struct ovc_vm *vm, enum ovc_state was, uint64_t value)
{
	if (was == OVC_STORED) {
		atomic_fetch_sub(&vm->shared, 1);
		ovc_domain_unref(vm, value);
		return;
	}
	atomic_fetch_sub(&vm->swapped, 1);
	ovc_swap_free(vm->swap, value);
}

bool ovc_drop_begin(struct ovc_region *r, uint64_t idx, bool *busy)
{
	struct ovc_vm *vm = r->vm;
	uint64_t w = atomic_load(&r->words[idx]);
	uint64_t value = ovc_word_value(w), keep = 0;
	enum ovc_state s = ovc_word_state(w);

	*busy = true;
	if (ovc_word_transient(w))
		return false;
	if (s == OVC_STAGED) {
		*busy = !ovc_pager_discard_staged(r, idx, w);
		return false;
	}
	if (s == OVC_WRITING || s == OVC_DOOMED || s == OVC_SHARED)
		keep = value;
	switch (ovc_page_try(&r->words[idx], &w, OVC_EV_DISCARD, keep)) {
	case OVC_ACT_DROP:
		*busy = false;
		if (s == OVC_CLEAN)
			ovc_swap_free(vm->swap, value);
		if (s == OVC_POISONED) {
			/* There is nothing behind it to drop. */
			ovc_memory_mend(r, idx);
			atomic_fetch_sub(&vm->poisoned, 1);
			ovc_pager_end(r, idx, OVC_EV_TO_EMPTY, 0);
			return false;
		}
		return true;
	case OVC_ACT_FREE:
		ovc_drop_home(vm, s, value);
		*busy = false;
		return false;
	case OVC_ACT_NONE:
		*busy = false;
		return false;
	default:
		return false; /* it moved: look again */
	}
}

/* ---- many pages ------------------------------------------------------------ */

/* Runs of one region that wait to be dropped. */
struct drops {
	struct ovc_region *r;
	struct ovc_donated *d;
	enum ovc_donation_kind kind;
	bool tracked;
	bool mute; /* a disk did not answer who reads a page */
	int error; /* the first */
	size_t nr, nr_huge;
	struct ovc_run run[RUNS];
	uint64_t huge[RUNS]; /* pages of huge pages that lose a part */
};

static void end_failed(struct drops *s, const struct ovc_run *run)
{
	for (uint64_t i = run->idx; i < run->idx + run->nr; i++) {
		if (s->kind == OVC_BALLOONED)
			ovc_frames_take(s->r, i);
		if (s->tracked)
			end_undropped(s->r, i);
	}
	s->d->failed += run->nr;
	if (!s->error)
		s->error = run->error;
}

/* Returns how many pages of it were in memory; while untracked that was counted before. */
static uint64_t end_run(struct drops *s, const struct ovc_run *run)
{
	uint64_t freed = 0;

	if (!s->tracked)
		return 0;
	for (uint64_t i = run->idx; i < run->idx + run->nr; i++)
		freed += ovc_drop_end(s->r, i);
	return freed;
}

/* Pages of a run that have memory of their own; while untracked no word says so. */
static uint64_t count_there(struct ovc_region *r, const struct ovc_run *run)
{
	uint64_t nr = 0;
	uint8_t bits[512];

	for (uint64_t at = run->idx, n; at < run->idx + run->nr; at += n) {
		n = run->idx + run->nr - at;
		n = n < sizeof(bits) ? n : sizeof(bits);
		if (r->memory->present(r, at, n, bits))
			return nr;
		for (uint64_t i = 0; i < n; i++)
			nr += ovc_pages_there(bits[i]) &&
			      !(bits[i] & OVC_PAGES_ZERO);
	}
	return nr;
}

/*
 * The kernel frees nothing of a huge page before all of it is gone, or memory is short on the
 * whole machine: what was given and counted would be memory still. To look at what is left of
 * it as cold splits it at once.
 */
static void break_huge(struct drops *s)
{
	struct ovc_region *r = s->r;

	for (size_t i = 0; i < s->nr_huge; i++) {
		uint64_t end =
			s->huge[i] + ovc_frames_to_huge_end(r, s->huge[i]);
		uint64_t from = end > 512 ? end - 512 : 0;

		end = end < r->nr ? end : r->nr;
		ovc_pages_cold(ovc_page_addr(r, from), (end - from) * OVC_PAGE);
	}
	s->nr_huge = 0;
}

static void flush(struct drops *s)
{
	uint64_t freed = 0;

	if (!s->nr) {
		break_huge(s);
		return;
	}
	for (size_t i = 0; i < s->nr && !s->tracked; i++)
		freed += count_there(s->r, &s->run[i]);
	ovc_memory_discard(s->r, s->run, s->nr);
	break_huge(s);
	for (size_t i = 0; i < s->nr; i++) {
		if (s->run[i].error)
			end_failed(s, &s->run[i]);
		else
			freed += end_run(s, &s->run[i]);
	}
	s->nr = 0;
	s->d->freed += freed;
	if (s->tracked && freed) {
		atomic_fetch_sub(&s->r->vm->resident, freed);
		ovc_uncharge(s->r->vm->host, freed);
	}
}

static void add(struct drops *s, uint64_t idx)
{
	struct ovc_run *last = s->nr ? &s->run[s->nr - 1] : NULL;

	if (last && last->idx + last->nr == idx &&
	    ovc_is_laid(s->r, idx) == ovc_is_laid(s->r, last->idx)) {
		last->nr++;
		return;
	}
	if (s->nr == RUNS)
		flush(s);
	s->run[s->nr++] = (struct ovc_run){ .idx = idx, .nr = 1 };
}

static void not_dropped(struct drops *s, uint64_t idx, int error)
{
	if (s->kind == OVC_BALLOONED)
		ovc_frames_take(s->r, idx);
	s->d->failed++;
	if (!s->error)
		s->error = error;
}

/* With nothing in hand, and pins are added meanwhile. */
static void wait_a_while(const struct drops *s, unsigned round)
{
	struct ovc_vm *vm = s->r->vm;

	pthread_mutex_unlock(&vm->pinning);
	ovc_host_pause(vm->host, round);
	pthread_mutex_lock(&vm->pinning);
}

static bool is_pinned(const struct ovc_region *r, uint64_t idx)
{
	return ovc_region_touched(r, idx) &&
	       ovc_word_pins(atomic_load(&r->words[idx]));
}

static void drop(struct drops *s, uint64_t idx)
{
	uint64_t since = 0;

	for (unsigned round = 0;; round++) {
		bool busy;

		if (ovc_drop_begin(s->r, idx, &busy)) {
			add(s, idx);
			return;
		}
		if (!busy)
			return;
		flush(s);
		wait_a_while(s, round);
		if (is_pinned(s->r, idx)) {
			not_dropped(s, idx, -EBUSY);
			return;
		}
		/* Nobody waits twice for a disk that does not answer. */
		if (!ovc_waited_for(&since, round,
				    s->mute ? MUTE_NS : OVC_PATIENCE_NS))
			continue;
		s->mute = true;
		not_dropped(s, idx, -ETIMEDOUT);
		return;
	}
}

static void note_broken(struct drops *s, uint64_t idx)
{
	if (s->nr_huge == RUNS)
		flush(s);
	s->huge[s->nr_huge++] = idx;
}

/*
 * A huge page that loses a part of itself is broken. A run breaks none but at its two
 * ends; whether there is one is asked once for each 2 MiB, until they are given back.
 */
static void note_huge(struct drops *s, const struct ovc_run *run)
{
	struct ovc_region *r = s->r;
	uint64_t end = run->idx + run->nr, n;

	for (uint64_t i = run->idx; i < end; i += n) {
		n = ovc_frames_to_huge_end(r, i);
		if (n == 512 && end - i >= 512)
			ovc_frames_unlook(r, i);
		else if (ovc_frames_look(r, i) &&
			 ovc_pages_is_huge(&r->vm->host->pagemap,
					   ovc_page_addr(r, i))) {
			s->d->huge++;
			note_broken(s, i);
		}
	}
}

/* Where no word was ever touched, nothing is pinned or laid: pages to the end of these
 * words, at most nr, go without a look at each. */
static uint64_t add_untouched(struct drops *s, uint64_t idx, uint64_t nr)
{
	uint64_t n = 512 - idx % 512;

	if (s->tracked || s->kind == OVC_BALLOONED ||
	    ovc_region_touched(s->r, idx))
		return 0;
	n = n < nr ? n : nr;
	s->d->given += n;
	add(s, idx);
	s->run[s->nr - 1].nr += n - 1;
	return n;
}

/* Is the huge page that idx lies in, a run's end, about to lose a part? */
static void note_end(struct drops *s, uint64_t idx)
{
	if (ovc_pages_is_huge(&s->r->vm->host->pagemap,
			      ovc_page_addr(s->r, idx)))
		note_broken(s, idx);
}

/* A discard has its ends looked at, each time. */
static void note_ends(struct drops *s, const struct ovc_run *run)
{
	uint64_t end = run->idx + run->nr;

	if (ovc_frames_to_huge_end(s->r, run->idx) != 512)
		note_end(s, run->idx);
	if (ovc_frames_to_huge_end(s->r, end - 1) != 1)
		note_end(s, end - 1);
}

static void donate_run(struct drops *s, const struct ovc_run *run)
{
	uint64_t end = run->idx + run->nr;

	if (s->kind != OVC_DISCARDED)
		note_huge(s, run);
	else
		note_ends(s, run);
	for (uint64_t i = run->idx; i < end; i++) {
		uint64_t n = add_untouched(s, i, end - i);

		if (n) {
			i += n - 1;
			continue;
		}
		if (is_pinned(s->r, i)) {
			s->d->pinned++;
			continue;
		}
		if (s->kind == OVC_BALLOONED && !ovc_frames_put(s->r, i))
			s->d->again++;
		else
			s->d->given++;
		if (s->tracked)
			drop(s, i);
		else
			add(s, i);
	}
}

static void donate_all(struct drops *s, const struct ovc_run *runs, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		donate_run(s, &runs[i]);
	flush(s);
}

int ovc_donate(struct ovc_region *r, const struct ovc_run *runs, size_t nr,
	       enum ovc_donation_kind kind, struct ovc_donated *d)
{
	struct ovc_host *host = r->vm->host;
	struct drops s;
	int error = kind == OVC_DISCARDED ? 0 : ovc_frames_make(r);

	if (error)
		return error;
	s.r = r;
	s.d = d;
	s.kind = kind;
	s.tracked = atomic_load(&r->tracked);
	s.error = 0;
	s.nr = s.nr_huge = 0;
	s.mute = false;
	if (!s.tracked) {
		ovc_control_lock(host);
		s.tracked = atomic_load(&r->tracked);
		if (!s.tracked)
			donate_all(&s, runs, nr);
		ovc_control_unlock(host);
		if (!s.tracked)
			return s.error;
	}
	donate_all(&s, runs, nr);
	return s.error;
}
