/* SPDX-License-Identifier: MIT */
/*
 * What guests write of shared pages takes memory that nobody asked us for.
 *
 * The kernel copies, at its own speed, and we find out later. As long as all pages
 * that are mapped from the store could be copied and the budget would hold, later is
 * the next pass of share.c. Otherwise the process's anonymous memory is watched, which
 * is one short read of /proc; when it grew by more than we know of, pages are looked
 * through for copies. Found, these are charged, and reclaim makes room. Where there is
 * little left, the neighbours of what was written are unmapped: they have to ask before
 * they are written, and wait like any other fault.
 */
#include "lay.h"
#include "share.h"

#define WATCH_MS 2
#define DRIP_NS	 100000000ull /* look all the same: slow writers add up */
#define PIECE	 128

static uint64_t mapped_pages(const struct ovc_host *host)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i])
			n += atomic_load(&host->vms[i]->mapped);
	return n;
}

static bool short_of(const struct ovc_host *host, uint64_t more)
{
	return atomic_load(&host->used) + more +
		       atomic_load(&host->reserve) / OVC_PAGE / 2 >
	       atomic_load(&host->allowed);
}

/* Less than a quarter of the reserve is left: no more unseen writes near those that
 * there were. Who reads there gets the page mapped again, without memory. */
static bool dangerous(const struct ovc_host *host)
{
	return atomic_load(&host->used) +
		       atomic_load(&host->reserve) / OVC_PAGE / 4 >
	       atomic_load(&host->allowed);
}

static void look_through(struct ovc_host *host, struct ovc_region *r)
{
	uint64_t from = r->mapped_from & ~(uint64_t)(PIECE - 1);

	for (uint64_t i = from; i < r->nr; i += PIECE) {
		uint64_t nr = r->nr - i < PIECE ? r->nr - i : PIECE;

		if (ovc_region_touched(r, i) && ovc_lay_find_broken(r, i, nr) &&
		    dangerous(host))
			ovc_lay_unmap(r, i, nr);
	}
}

int ovc_breaks_watch(struct ovc_host *host, uint64_t now)
{
	uint64_t mapped = mapped_pages(host), anon, used, known;

	if (!mapped || !short_of(host, mapped))
		return -1;
	anon = ovc_pages_process_anon() / OVC_PAGE;
	used = atomic_load(&host->used);
	known = used > host->watched_used ? used - host->watched_used : 0;
	if (now - host->watched_at < DRIP_NS &&
	    anon < host->watched_anon + known +
			    atomic_load(&host->reserve) / OVC_PAGE / 8)
		return WATCH_MS;
	for (unsigned i = 0; i < host->end; i++)
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++)
			if (host->vms[i]->regions[k]->mapped_from != UINT64_MAX)
				look_through(host, host->vms[i]->regions[k]);
	host->watched_at = now;
	host->watched_anon = ovc_pages_process_anon() / OVC_PAGE;
	host->watched_used = atomic_load(&host->used);
	return WATCH_MS;
}
