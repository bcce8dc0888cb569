/* SPDX-License-Identifier: MIT */
/*
 * The queue of staged pages is cut into segments of 256 places, each of one VM, linked by
 * age. So a VM whose disk is slow, or does not answer, keeps its own segments from being
 * used again, and nobody else's.
 *
 *  segment   vm    tail next head            leads on
 *  --------  ----  ------------------------  ------------------------------------------
 *  free      NULL  0                         a VM needs a place: open
 *  open      set   head < 256                pages come in at head; full: closed
 *  closed    set   head = 256                no more pages come
 *  empty     set   tail = head               free, at the end of advance(), open or not
 *
 * In a segment `next` passes what was looked at to be settled, and `tail` what is done. A
 * place is empty before it is used again: no word names it, and its frame is freed.
 * Frames are freed a stretch at a time as tails pass; those whose page was put back also
 * earlier, when they are many.
 *
 * The free segment at the lowest address is taken first, so that little of the table of
 * entries is in use, and neighbours are freed with one call.
 *
 * Failures: no segment is free: nothing is staged until one is (settle.c makes room). A
 * stretch of the window that cannot be emptied is mapped anew.
 */
#include "out/staging.h"

#include <errno.h>
#include <string.h>

#include "core/budget.h"
#include "core/meta.h"
#include "in/pager.h"
#include "memory/memory.h"

#define KEEP	     4096 /* entries whose memory an empty queue keeps */
#define COLLECT_FROM 256  /* left-over frames that are worth a collection */
#define STRETCHES    64	  /* of the window that are freed together */
#define MOVED_MOST   8192 /* places, where mremap leaves a mapping for each run */

/* ---- creation --------------------------------------------------------------- */

/*
 * The window is registered, since pages move into registered memory only. Whether
 * the kernel really moves, also what was only read (the zero page), is tried out.
 */
static bool try_move(struct ovc_host *host, struct ovc_staging *s)
{
	void *page;
	size_t done;
	bool ok;

	if (ovc_pages_reserve(2 * OVC_PAGE, &page))
		return false;
	((volatile char *)page)[0] = 1;
	(void)((volatile char *)page)[OVC_PAGE];
	ok = !ovc_uffd_register(host->uffd, s->window, s->cap * OVC_PAGE, false,
				false) &&
	     !ovc_uffd_move(host->uffd, s->window, page, 2 * OVC_PAGE, &done);
	ovc_pages_release(page, 2 * OVC_PAGE);
	/* No page moves to where one is. */
	return !ovc_pages_dontneed(s->window, 2 * OVC_PAGE) && ok;
}

/* Pages are moved by mremap. */
static void do_without_move(struct ovc_host *host, struct ovc_staging *s)
{
	int error;

	if (host->uffd_features.move) {
		error = ovc_uffd_unregister(host->uffd, s->window,
					    s->cap * OVC_PAGE);
		if (error)
			ovc_log(host, OVC_LOG_WARNING,
				"the staging window stays registered: %s; a "
				"touch of an absent page of it needs a fault "
				"thread",
				strerror(-error));
	}
	host->uffd_features.move = false;
	/* Stay far from the limit of mappings. */
	if (s->cap > MOVED_MOST) {
		ovc_pages_release(s->window + MOVED_MOST * OVC_PAGE,
				  (s->cap - MOVED_MOST) * OVC_PAGE);
		s->cap = MOVED_MOST;
	}
}

int ovc_staging_create(struct ovc_host *host, uint64_t places)
{
	struct ovc_staging *s = &host->staging;
	int error;

	places = places < OVC_STAGED_MAX ? places : OVC_STAGED_MAX;
	s->cap = (places + OVC_SEGMENT - 1) & ~(uint64_t)(OVC_SEGMENT - 1);
	error = ovc_pages_reserve(s->cap * OVC_PAGE, (void **)&s->window);
	if (error)
		return error;
	if (host->uffd_features.move)
		s->window_registered = try_move(host, s);
	if (!s->window_registered)
		do_without_move(host, s);
	s->nr = s->nr_free = (unsigned)(s->cap / OVC_SEGMENT);
	s->segments = ovc_meta_zalloc(s->nr * sizeof(*s->segments));
	if (!s->segments)
		return -ENOMEM;
	return ovc_pages_reserve(s->cap * sizeof(*s->entries),
				 (void **)&s->entries);
}

void ovc_staging_destroy(struct ovc_host *host)
{
	struct ovc_staging *s = &host->staging;

	ovc_pages_release(s->window, s->cap * OVC_PAGE);
	ovc_pages_release(s->entries, s->cap * sizeof(*s->entries));
	ovc_meta_free(s->segments);
}

/* ---- places ------------------------------------------------------------------ */

static struct ovc_segment *open_segment(struct ovc_vm *vm)
{
	struct ovc_staging *s = &vm->host->staging;
	struct ovc_segment *seg;
	uint64_t end;

	if (!s->nr_free)
		return NULL;
	while (s->segments[s->lowest].vm)
		s->lowest++;
	seg = &s->segments[s->lowest++];
	s->nr_free--;
	seg->vm = vm;
	seg->older = s->newest;
	*(s->newest ? &s->newest->newer : &s->oldest) = seg;
	s->newest = seg;
	end = ovc_segment_first(s, seg) + OVC_SEGMENT;
	s->high = end > s->high ? end : s->high;
	return vm->staging = seg;
}

/* The empty queue gives most of its entries' memory back. */
static void trim(struct ovc_staging *s)
{
	if (s->high <= KEEP)
		return;
	ovc_pages_dontneed(s->entries,
			   s->cap * sizeof(*s->entries) & ~(OVC_PAGE - 1));
	s->high = 0;
}

static void close_segment(struct ovc_staging *s, struct ovc_segment *seg)
{
	*(seg->older ? &seg->older->newer : &s->oldest) = seg->newer;
	*(seg->newer ? &seg->newer->older : &s->newest) = seg->older;
	if (seg->vm->staging == seg)
		seg->vm->staging = NULL;
	*seg = (struct ovc_segment){ .vm = NULL };
	if ((unsigned)(seg - s->segments) < s->lowest)
		s->lowest = (unsigned)(seg - s->segments);
	if (++s->nr_free == s->nr)
		trim(s);
}

uint64_t ovc_staging_room(const struct ovc_vm *vm)
{
	const struct ovc_staging *s = &vm->host->staging;
	uint64_t own = vm->staging ? OVC_SEGMENT - vm->staging->head : 0;

	return own + (uint64_t)s->nr_free * OVC_SEGMENT;
}

uint64_t ovc_staging_next(struct ovc_vm *vm)
{
	struct ovc_segment *seg = vm->staging;

	if (!seg || seg->head == OVC_SEGMENT)
		seg = open_segment(vm);
	if (!seg)
		return OVC_NO_PLACE;
	return ovc_segment_first(&vm->host->staging, seg) + seg->head;
}

void ovc_staging_push(struct ovc_vm *vm)
{
	vm->staging->head++;
}

/* ---- entries ------------------------------------------------------------------ */

/* A slot that the entry still has is of no more use. */
void ovc_entry_free_slot(struct ovc_entry *e)
{
	uint64_t slot = atomic_exchange(&e->slot, OVC_NO_SLOT);

	if (slot != OVC_NO_SLOT)
		ovc_swap_free(e->region->vm->swap, slot);
}

bool ovc_entry_named(uint64_t w, uint64_t pos)
{
	enum ovc_state s = ovc_word_state(w);

	return ovc_word_value(w) == pos &&
	       (s == OVC_STAGED || s == OVC_WRITING || s == OVC_DOOMED ||
		s == OVC_FILLING || s == OVC_DROPPING);
}

/* A memfd's page that was put back while we looked at it, and then thrown away, came to
 * life again by our look: a page of zeros that nobody is charged for. */
static void drop_looked_at(struct ovc_region *r, uint64_t idx)
{
	uint64_t w = atomic_load(&r->words[idx]);

	if (!r->view || ovc_is_laid(r, idx) || ovc_word_state(w) != OVC_EMPTY ||
	    ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, 0) != OVC_ACT_ZERO)
		return;
	r->memory->drop(r, idx, 1);
	ovc_pager_end(r, idx, OVC_EV_UNFILLED, 0);
}

/* Nobody names the entry any more: its slot, if it still has one, is free. */
void ovc_entry_finish(struct ovc_entry *e)
{
	ovc_entry_free_slot(e);
	if (!e->frame && !e->settled && !atomic_load(&e->region->gone))
		drop_looked_at(e->region, e->idx);
	ovc_entry_clear(e);
}

/* ---- the window ------------------------------------------------------------------ */

/* Empties a part of the window, so that pages can move there. */
static void empty_window(struct ovc_host *host, char *addr, size_t len)
{
	struct ovc_staging *s = &host->staging;

	if (s->window_registered && !ovc_pages_dontneed(addr, len))
		return;
	/* mremap left mappings there; or, never seen, the kernel would not. */
	if (ovc_pages_refresh(addr, len) ||
	    (s->window_registered &&
	     ovc_uffd_register(host->uffd, addr, len, false, false)))
		ovc_log(host, OVC_LOG_ERROR,
			"a part of the staging window is lost");
}

static void empty_stretches(struct ovc_host *host, const struct iovec *iov,
			    size_t nr)
{
	if (host->staging.window_registered &&
	    !ovc_pages_dontneed_many(host->batch_advise, iov, nr))
		return;
	for (size_t i = 0; i < nr; i++)
		empty_window(host, iov[i].iov_base, iov[i].iov_len);
}

/*
 * mlockall() locked the window, too, and met what a fault thread put there to stop it. The
 * lock goes, for a page moves only between mappings that are both locked or both not; and
 * so does what stopped it, unless a page has come in its place.
 */
void ovc_staging_unlock(struct ovc_host *host)
{
	struct ovc_staging *s = &host->staging;
	char *at = atomic_exchange(&host->window_touched, NULL);

	if (!at)
		return;
	ovc_pages_unlock(s->window, s->cap * OVC_PAGE);
	if (!s->entries[(uint64_t)(at - s->window) / OVC_PAGE].frame)
		empty_window(host, at, OVC_PAGE);
	ovc_log(host, OVC_LOG_WARNING,
		"the process locked all of its memory (mlockall): what is locked "
		"of guests cannot be taken, and what the library reserved for "
		"itself may be in memory now");
}

/* ---- the tails ------------------------------------------------------------------- */

/* Stretches of the window that are to be freed, and the frames in them. */
struct freed {
	struct iovec iov[STRETCHES];
	size_t nr;
	uint64_t frames, left;
};

static void free_stretches(struct ovc_host *host, struct freed *f)
{
	if (!f->nr)
		return;
	empty_stretches(host, f->iov, f->nr);
	atomic_fetch_sub(&host->staging.leftover, f->left);
	ovc_uncharge(host, f->frames);
	f->nr = f->frames = f->left = 0;
}

static void add_stretch(struct ovc_host *host, struct freed *f, uint64_t pos,
			uint64_t nr)
{
	char *addr = host->staging.window + pos * OVC_PAGE;
	struct iovec *last = f->nr ? &f->iov[f->nr - 1] : NULL;

	if (last && (char *)last->iov_base + last->iov_len == addr)
		last->iov_len += nr * OVC_PAGE;
	else
		f->iov[f->nr++] = (struct iovec){ addr, nr * OVC_PAGE };
}

static bool is_named(const struct ovc_entry *e, uint64_t pos)
{
	return ovc_entry_named(atomic_load(&e->region->words[e->idx]), pos);
}

/* Is the place done, but for its frame? */
static bool pass_one(struct ovc_entry *e, uint64_t pos)
{
	if (e->busy)
		return false;
	if (!e->region)
		return true;
	if (is_named(e, pos))
		return false;
	ovc_entry_finish(e);
	return true;
}

/* `next` need not wait for somebody to look at what is done already. */
static void skip_done(const struct ovc_staging *s, struct ovc_segment *seg)
{
	uint64_t first = ovc_segment_first(s, seg);

	for (; seg->next < seg->head; seg->next++) {
		const struct ovc_entry *e = &s->entries[first + seg->next];

		if (e->busy || (e->region && !e->settled &&
				is_named(e, first + seg->next)))
			return;
	}
}

static void pass(struct ovc_host *host, struct ovc_segment *seg,
		 struct freed *f)
{
	struct ovc_staging *s = &host->staging;
	uint64_t first = ovc_segment_first(s, seg), from = seg->tail;
	uint64_t frames = 0;

	skip_done(s, seg);
	while (seg->tail < seg->next) {
		struct ovc_entry *e = &s->entries[first + seg->tail];

		if (!pass_one(e, first + seg->tail))
			break;
		frames += e->frame;
		f->left += e->frame && !e->settled;
		e->frame = 0;
		seg->tail++;
	}
	f->frames += frames;
	if (frames)
		add_stretch(host, f, first + from, seg->tail - from);
}

static void close_empty(struct ovc_staging *s)
{
	for (struct ovc_segment *seg = s->oldest, *newer; seg; seg = newer) {
		newer = seg->newer;
		if (seg->tail == seg->head)
			close_segment(s, seg);
	}
}

void ovc_staging_advance(struct ovc_host *host)
{
	struct ovc_staging *s = &host->staging;
	struct freed f = { .nr = 0 };

	for (struct ovc_segment *seg = s->oldest; seg; seg = seg->newer) {
		pass(host, seg, &f);
		if (f.nr == STRETCHES)
			free_stretches(host, &f);
	}
	free_stretches(host, &f);
	close_empty(s);
}

void ovc_staging_leave(const struct ovc_vm *vm)
{
	const struct ovc_staging *s = &vm->host->staging;

	ovc_staging_advance(vm->host);
	for (const struct ovc_segment *seg = s->oldest; seg; seg = seg->newer)
		if (seg->vm == vm)
			ovc_bug("a VM goes, of which pages are staged",
				ovc_segment_first(s, seg) + seg->tail);
}

/* ---- what was put back --------------------------------------------------------- */

/* A frame that nobody needs, though the tail has not passed it? */
static bool is_leftover(const struct ovc_entry *e, uint64_t pos)
{
	return e->frame && !e->busy && !e->settled &&
	       !(e->region && is_named(e, pos));
}

static size_t find_leftover(struct ovc_staging *s,
			    const struct ovc_segment *seg, struct iovec *iov,
			    size_t room)
{
	uint64_t first = ovc_segment_first(s, seg);
	size_t n = 0;

	for (uint64_t pos = first + seg->tail;
	     pos < first + seg->head && n < room; pos++) {
		struct ovc_entry *e = &s->entries[pos];

		if (!is_leftover(e, pos))
			continue;
		if (e->region)
			ovc_entry_finish(e);
		e->frame = 0;
		iov[n++] =
			(struct iovec){ s->window + pos * OVC_PAGE, OVC_PAGE };
	}
	return n;
}

void ovc_staging_collect(struct ovc_host *host)
{
	struct ovc_staging *s = &host->staging;
	struct iovec iov[512];
	size_t n = 0;

	if (atomic_load(&s->leftover) < COLLECT_FROM)
		return;
	for (struct ovc_segment *seg = s->oldest; seg && n < 512;
	     seg = seg->newer)
		n += find_leftover(s, seg, iov + n, 512 - n);
	if (!n)
		return;
	empty_stretches(host, iov, n);
	atomic_fetch_sub(&s->leftover, n);
	ovc_uncharge(host, n);
}
