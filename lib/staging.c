/* SPDX-License-Identifier: MIT */
/*
 * The ring's tail, and the frames in its window: freed a stretch at a time as the tail
 * passes what is done; those whose page was put back also earlier, when they are many.
 * A position is empty before it is used again.
 */
#include "reclaim.h"

#define KEEP	     4096 /* entries whose memory an empty ring keeps */
#define COLLECT_FROM 256  /* left-over frames that are worth a collection */

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

static void free_window(struct ovc_host *host, uint64_t from, uint64_t to)
{
	struct ovc_staging *s = &host->staging;

	while (from < to) {
		uint64_t at = from % s->cap, n = to - from;
		char *addr = s->window + at * OVC_PAGE;

		if (n > s->cap - at)
			n = s->cap - at;
		empty_window(host, addr, n * OVC_PAGE);
		from += n;
	}
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

/* The ring is empty: a little used one stays, and a big one becomes, little. */
static void begin_again(struct ovc_staging *s)
{
	s->tail = s->next = s->head = 0;
	if (s->high <= KEEP)
		return;
	ovc_pages_dontneed(s->entries,
			   s->cap * sizeof(*s->entries) & ~(OVC_PAGE - 1));
	s->high = 0;
}

void ovc_staging_advance(struct ovc_reclaim *rc, bool settle)
{
	struct ovc_host *host = rc->host;
	struct ovc_staging *s = &host->staging;
	uint64_t from = s->tail, frames = 0, left = 0;

	while (s->tail < s->next) {
		struct ovc_entry *e = ovc_entry_at(host, s->tail);

		if (e->busy)
			break;
		if (e->region) {
			uint64_t pos = s->tail % s->cap;

			/* What was refused by the guest's kernel is staged
			 * again, behind `next`: take it here. */
			if (settle) {
				ovc_settle_one(rc, e, pos);
				ovc_settle_flush(rc);
			}
			if (e->busy ||
			    (e->region &&
			     ovc_entry_named(
				     atomic_load(&e->region->words[e->idx]),
				     pos)))
				break;
			if (e->region)
				ovc_entry_finish(e);
		}
		frames += e->frame;
		left += e->frame && !e->settled;
		e->frame = 0;
		s->tail++;
	}
	if (frames) {
		free_window(host, from, s->tail);
		atomic_fetch_sub(&s->leftover, left);
		ovc_uncharge(host, frames);
	}
	if (s->tail == s->head)
		begin_again(s);
}

/* Frames whose page was put back do not wait for the tail when they are many. */
void ovc_staging_collect(struct ovc_reclaim *rc)
{
	struct ovc_host *host = rc->host;
	struct ovc_staging *s = &host->staging;
	struct iovec iov[512];
	uint64_t n = 0;

	if (atomic_load(&s->leftover) < COLLECT_FROM)
		return;
	for (uint64_t i = s->tail; i < s->head && n < 512; i++) {
		struct ovc_entry *e = ovc_entry_at(host, i);
		uint64_t pos = i % s->cap;

		if (!e->frame || e->busy || e->settled)
			continue;
		if (e->region &&
		    ovc_entry_named(atomic_load(&e->region->words[e->idx]),
				    pos))
			continue;
		if (e->region)
			ovc_entry_finish(e);
		e->frame = 0;
		iov[n++] =
			(struct iovec){ s->window + pos * OVC_PAGE, OVC_PAGE };
	}
	if (!n)
		return;
	if (ovc_pages_dontneed_many(host->batch_advise, iov, n))
		for (uint64_t i = 0; i < n; i++)
			empty_window(host, iov[i].iov_base, OVC_PAGE);
	atomic_fetch_sub(&s->leftover, n);
	ovc_uncharge(host, n);
}
