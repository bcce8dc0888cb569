/* SPDX-License-Identifier: MIT */
/*
 * Who looks for equal pages, and when.
 *
 * A pass goes over all memory, a chunk at a time; the first in random order, so that
 * much is found early. A chunk has three parts:
 *
 *   look    (control) which pages are there, which of them were written since the
 *           last pass? A page that was is write-protected, so that the next pass can
 *           tell again, and left alone: it will be written once more. A page that
 *           was looked at before and not written needs no hash: it is in the hints.
 *           What is seen for the first time is hashed at once.
 *   hash    (no lock) each page is borrowed as a reader does, so that nobody takes
 *           it away meanwhile
 *   merge   (control) merge.c
 *
 * Where the kernel cannot tell what was written (before Linux 6.7, and where the store
 * is mapped) each page is hashed in each pass, and counts as written when three bits of
 * its hash changed.
 *
 * CPU time is a budget: after each step the thread sleeps as long as makes it no more
 * than share_cpu percent of a CPU, or of what the process gets of one (policy/pace.c). What guests pay counts as well: who writes a page that was
 * protected to see whether it is written takes a fault of the kernel's. A pass that found
 * little lets the next ones take a quarter of that, but so much that a pass takes no
 * longer than a minute, if that is enough.
 *
 * Nothing is done before faults are tracked, for pages can be shared only then;
 * OVC_SHARE_ALWAYS tracks all regions at once.
 *
 * On stop the step under way ends; what is shared stays so until its region goes. A
 * region that goes waits for the hashing that is under way, and is not found by the
 * merge after it.
 */
#include "share/share.h"

#include <errno.h>
#include <string.h>

#include "core/budget.h"
#include "core/meta.h"
#include "core/tables.h"
#include "in/pager.h"
#include "memory/memory.h"
#include "memory/track.h"
#include "policy/pace.h"
#include "share/broken.h"
#include "share/domain.h"
#include "share/lay.h"
#include "share/pass.h"
#include "store/shared.h"

#define CHUNK	   OVC_SHARE_CHUNK
#define BURST_NS   2000000ull	  /* of work before a sleep */
#define PASS_NS	   60000000000ull /* that a pass should take at most */
#define WRITE_NS   1000 /* of the guest, for a page that it writes again */
#define SUM_BITS   (7u << OVC_MARK_SUM)
#define DEAD_PAGES 256 /* of the store, that are worth a sweep */

/* ---- looking --------------------------------------------------------------------- */

static void set_mark(struct ovc_region *r, uint64_t idx, unsigned mark)
{
	atomic_fetch_or(&r->marks[idx], (uint8_t)mark);
}

static void clear_mark(struct ovc_region *r, uint64_t idx, unsigned mark)
{
	atomic_fetch_and(&r->marks[idx], (uint8_t)~mark);
}

/* Protects runs of pages that are RESIDENT. The mark of a CLEAN page's protection is
 * what says whether its slot is good, and not ours; a page that is RESIDENT cannot
 * become CLEAN without control, which we have. */
static void protect(struct ovc_region *r, uint64_t first, uint64_t nr,
		    const bool *which)
{
	struct ovc_host *host = r->vm->host;

	for (uint64_t i = 0, n; i < nr; i += n ? n : 1) {
		for (n = 0; i + n < nr && which[i + n]; n++)
			;
		if (n)
			ovc_pagemap_protect(&host->pagemap,
					    ovc_page_addr(r, first + i), n);
	}
}

static void look(struct ovc_share *s, struct ovc_region *r, uint64_t first,
		 uint64_t nr)
{
	struct ovc_host *host = r->vm->host;
	bool written[CHUNK] = { false };
	uint8_t bits[CHUNK];
	uint64_t shared = 0, changed = 0, seen = 0;

	s->hashed.nr = 0;
	if (!ovc_region_touched(r, first) ||
	    ovc_pagemap_get(&host->pagemap, ovc_page_addr(r, first), nr, bits))
		return;
	ovc_region_mark(r, first);
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t w = atomic_load(&r->words[first + i]);
		enum ovc_state state = ovc_word_state(w);
		bool told = ovc_tells_written(r, first + i);
		uint8_t mark = atomic_load(&r->marks[first + i]);

		shared += state == OVC_SHARED;
		/* One that the VMM dropped must not be touched: who would answer
		 * waits for us. One that is away is not fetched to be hashed. */
		if ((state != OVC_RESIDENT && state != OVC_CLEAN) ||
		    !(bits[i] & OVC_PAGES_PRESENT) ||
		    bits[i] & OVC_PAGES_ZERO || mark & OVC_MARK_OFF ||
		    ovc_word_pins(w))
			continue;
		seen++;
		if (told && bits[i] & OVC_PAGES_WRITTEN) {
			written[i] = state == OVC_RESIDENT;
			if (mark & OVC_MARK_SEEN) {
				clear_mark(r, first + i, OVC_MARK_HASHED);
				changed++;
				continue;
			}
		} else if (told && mark & OVC_MARK_HASHED) {
			continue;
		}
		s->hashed.idx[s->hashed.nr++] = first + i;
	}
	protect(r, first, nr, written);
	for (unsigned i = 0; i < s->hashed.nr; i++)
		if (ovc_tells_written(r, s->hashed.idx[i]))
			set_mark(r, s->hashed.idx[i],
				 OVC_MARK_SEEN | OVC_MARK_HASHED);
	if (shared)
		ovc_broken_find(r, first, nr);
	ovc_lay_fold(r, first, nr);
	s->pass_scanned += seen;
	s->owed += changed * WRITE_NS;
	atomic_fetch_add(&s->figures.scanned, seen);
	atomic_fetch_add(&r->vm->count.changed, changed);
	atomic_fetch_add(&host->count.changed, changed);
}

/* ---- hashing --------------------------------------------------------------------- */

/* Borrows pages as a reader does. Returns how many; was[] is what they were. */
static unsigned borrow(struct ovc_hashed *h, uint64_t *was)
{
	struct ovc_region *r = h->region;
	unsigned n = 0;

	for (unsigned i = 0; i < h->nr; i++) {
		uint64_t w = atomic_load(&r->words[h->idx[i]]);
		enum ovc_state s = ovc_word_state(w);

		if ((s != OVC_RESIDENT && s != OVC_CLEAN) ||
		    ovc_page_try(&r->words[h->idx[i]], &w, OVC_EV_LOOK, 0) !=
			    OVC_ACT_COPY)
			continue;
		was[n] = w;
		h->idx[n++] = h->idx[i];
	}
	return n;
}

static void give_back(struct ovc_region *r, uint64_t idx, uint64_t was)
{
	if (ovc_word_state(was) == OVC_CLEAN)
		ovc_pager_end(r, idx, OVC_EV_FILLED_CLEAN, ovc_word_value(was));
	else
		ovc_pager_end(r, idx, OVC_EV_FILLED, 0);
}

/* A memfd's page may be unmapped by the kernel at any time; our own mapping of it
 * needs nobody to answer. */
static uint64_t hash_one(const struct ovc_region *r, uint64_t idx)
{
	const char *at = ovc_page_addr(r, idx);

	if (r->view && !ovc_is_laid(r, idx))
		at = r->view + idx * OVC_PAGE;
	return ovc_domain_hash(r->vm->domain, at);
}

/* A page that is ours stays what it is. */
static void hash_all(struct ovc_share *s)
{
	struct ovc_hashed *h = &s->hashed;
	struct ovc_region *r = h->region;
	uint64_t was[CHUNK];

	h->nr = borrow(h, was);
	for (unsigned i = 0; i < h->nr; i++) {
		h->hash[i] = hash_one(r, h->idx[i]);
		give_back(r, h->idx[i], was[i]);
	}
	atomic_fetch_add(&s->figures.hashed, h->nr);
}

/* Without the kernel's word: what has the same few bits of its hash as in the last
 * pass was probably not written. */
static void leave_changed(struct ovc_share *s)
{
	struct ovc_hashed *h = &s->hashed;
	struct ovc_region *r = h->region;
	unsigned n = 0;

	for (unsigned i = 0; i < h->nr; i++) {
		uint8_t sum = (uint8_t)(h->hash[i] << OVC_MARK_SUM) & SUM_BITS;
		uint8_t mark = atomic_load(&r->marks[h->idx[i]]);
		bool same = !(mark & OVC_MARK_SEEN) || (mark & SUM_BITS) == sum;

		if (ovc_tells_written(r, h->idx[i])) {
			h->idx[n] = h->idx[i];
			h->hash[n++] = h->hash[i];
			continue;
		}
		clear_mark(r, h->idx[i], SUM_BITS | OVC_MARK_HASHED);
		set_mark(r, h->idx[i],
			 sum | OVC_MARK_SEEN | (same ? OVC_MARK_HASHED : 0));
		if (!same) {
			atomic_fetch_add(&r->vm->count.changed, 1);
			atomic_fetch_add(&s->host->count.changed, 1);
			continue;
		}
		h->idx[n] = h->idx[i];
		h->hash[n++] = h->hash[i];
	}
	h->nr = n;
}

/* ---- a step ----------------------------------------------------------------------- */

static bool begin_step(struct ovc_share *s)
{
	struct ovc_host *host = s->host;
	struct ovc_region *r;
	uint64_t first;

	if (atomic_load(&host->share_mode) == OVC_SHARE_NEVER ||
	    atomic_load(&host->stop) || !ovc_pass_next(s, &r, &first))
		return false;
	s->number = r->number + first;
	s->chunk_nr = r->nr - first < CHUNK ? r->nr - first : CHUNK;
	s->hashed.region = r;
	look(s, r, first, s->chunk_nr);
	/* From here on who removes the region waits for us. */
	atomic_fetch_add(&s->steps, 1);
	return true;
}

/* Reclaim must not wait long for the lock when memory is short. */
static unsigned slice(const struct ovc_host *host)
{
	bool is_short =
		ovc_host_held(host) + atomic_load(&host->reserve) / OVC_PAGE >
		atomic_load(&host->allowed);

	return is_short ? CHUNK / 8 : CHUNK;
}

/* Merges a part of what was hashed; false: there is no more, or the region goes. */
static bool merge_some(struct ovc_share *s, unsigned *at)
{
	struct ovc_host *host = s->host;
	unsigned from = *at, to = from + slice(host);
	struct ovc_region *r;
	uint64_t idx, collisions = 0;

	if (from >= s->hashed.nr ||
	    !ovc_domain_find(host, NULL, s->number, &r, &idx) ||
	    r != s->hashed.region || !ovc_pass_takes(r))
		return false;
	if (!from)
		leave_changed(s);
	*at = to < s->hashed.nr ? to : s->hashed.nr;
	s->pass_saved += ovc_merge(host, &s->hashed, from, *at, &collisions);
	atomic_fetch_add(&s->figures.collisions, collisions);
	return *at < s->hashed.nr;
}

static void end_step(struct ovc_share *s)
{
	struct ovc_host *host = s->host;
	unsigned at = 0;
	bool more;

	do {
		ovc_share_lock(host);
		more = merge_some(s, &at);
		if (!more && host->store &&
		    ovc_shared_dead(host->store) > DEAD_PAGES)
			ovc_domain_sweep(host);
		pthread_mutex_unlock(&host->control);
	} while (more);
}

static unsigned percent_now(const struct ovc_share *s)
{
	unsigned most = atomic_load(&s->host->share_cpu) *
			atomic_load(&s->host->share_factor);
	unsigned least;

	most = most < 100 ? most : 100;
	if (!s->little)
		return most;
	least = (unsigned)(s->last_cpu * 100 / PASS_NS) + 1;
	if (least < most / 4)
		least = most / 4;
	return least < most ? least : most;
}

/* What happened since the last look. Who steps may be another thread each time, in
 * dispatch mode: then what he waited is not known. */
static struct ovc_pace look_at_cpu(struct ovc_share *s)
{
	struct ovc_pace now = { .wall = ovc_now_ns(),
				.process = ovc_process_cpu_ns() };
	struct ovc_pace was = s->seen;

	ovc_thread_waits(&s->host->proc, &now.ran, &now.waited);
	s->seen = now;
	if (!s->threaded || now.ran < was.ran || now.waited < was.waited)
		now.waited = was.waited;
	return (struct ovc_pace){ now.wall - was.wall,
				  now.process - was.process,
				  now.ran > was.ran ? now.ran - was.ran : 0,
				  now.waited - was.waited };
}

/* How long to sleep for the work that was done; 0: go on. */
static int sleep_for(struct ovc_share *s)
{
	unsigned percent = percent_now(s);
	struct ovc_pace pace;
	uint64_t ns;

	if (s->owed < BURST_NS)
		return 0;
	pace = look_at_cpu(s);
	ns = ovc_pace_sleep(&pace, s->owed, percent);
	s->owed = 0;
	return ns ? (int)(ns / 1000000 + 1) : 0;
}

int ovc_share_step(struct ovc_share *s)
{
	struct ovc_host *host = s->host;
	uint64_t begin = ovc_cpu_ns(), used;
	bool something;

	ovc_share_lock(host);
	something = begin_step(s);
	pthread_mutex_unlock(&host->control);
	if (!something)
		return -1; /* a kick says that there is */
	hash_all(s);
	atomic_fetch_add(&s->steps, 1);
	end_step(s);
	ovc_pass_recount(s);
	used = ovc_cpu_ns() - begin;
	atomic_fetch_add(&s->figures.cpu_ns, used);
	s->pass_cpu += used;
	s->owed += used;
	return sleep_for(s);
}

void ovc_share_quiesce(const struct ovc_host *host)
{
	uint64_t was = host->share ? atomic_load(&host->share->steps) : 0;

	while (was & 1 && atomic_load(&host->share->steps) == was)
		ovc_nap(0);
}

const struct ovc_share_figures *ovc_share_figures(const struct ovc_share *s)
{
	return &s->figures;
}

/* ---- the thread -------------------------------------------------------------------- */

static void *run(void *arg)
{
	struct ovc_share *s = arg;
	const struct ovc_host *host = s->host;

	while (!atomic_load(&s->host->stop)) {
		int wait = ovc_share_step(s);

		if (!wait)
			continue;
		/* A kick ends an idle wait, and no other: the budget of CPU
		 * time holds for who changes it, too. */
		if (wait < 0)
			ovc_poll_first(&host->share_wake, 1, -1);
		else
			ovc_poll_first(&s->stop, 1, wait);
		ovc_notify_clear(host->share_wake);
	}
	return NULL;
}

int ovc_share_create(struct ovc_host *host, bool thread, struct ovc_share **sp)
{
	struct ovc_share *s = ovc_meta_zalloc(sizeof(*s));
	int error = 0;

	if (!s)
		return -ENOMEM;
	s->host = host;
	s->first = true;
	s->seen.wall = ovc_now_ns();
	s->seen.process = ovc_process_cpu_ns();
	s->stop = -1;
	host->share_wake = ovc_notify_create();
	if (host->share_wake >= 0)
		s->stop = ovc_notify_create();
	if (host->share_wake < 0 || s->stop < 0)
		error = host->share_wake < 0 ? host->share_wake : s->stop;
	if (!error && thread) {
		error = ovc_thread_start(&s->thread, "ovc-share", run, s);
		s->threaded = !error;
	}
	if (error)
		ovc_share_destroy(&s);
	else
		*sp = s;
	return error;
}

void ovc_share_destroy(struct ovc_share **sp)
{
	struct ovc_share *s = *sp;
	struct ovc_host *host;

	if (!s)
		return;
	host = s->host;
	if (s->threaded) {
		ovc_notify_post(s->stop);
		ovc_notify_post(host->share_wake);
		pthread_join(s->thread, NULL);
	}
	ovc_fd_close(host->share_wake);
	host->share_wake = -1;
	ovc_fd_close(s->stop);
	ovc_meta_free(s);
	*sp = NULL;
}
