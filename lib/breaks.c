/* SPDX-License-Identifier: MIT */
/*
 * What guests write of shared pages takes memory that nobody asked us for.
 *
 * The kernel copies, at its own speed, and we find out later. As long as all pages
 * that are mapped from the store could be copied and the budget would hold, later is
 * the next pass of share.c. Otherwise the process's anonymous memory is watched, which
 * is one short read of /proc; when it grew by more than we know of, pages are looked
 * through for copies. Found, these are charged, and reclaim makes room. Where there is
 * little left, what comes behind them is unmapped, and where nothing is left, all is: it
 * has to ask before it is written, and waits like any other fault.
 */
#include "lay.h"
#include "share.h"

#define WATCH_MS 2
#define DRIP_NS	 100000000ull /* look all the same: slow writers add up */
#define PIECE	 512
#define AHEAD	 4 /* pieces: who writes in order comes there next */

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

static bool is_over(const struct ovc_host *host)
{
	return atomic_load(&host->used) > atomic_load(&host->allowed);
}

/* Less than a quarter of the reserve is left. */
static bool dangerous(const struct ovc_host *host)
{
	return atomic_load(&host->used) +
		       atomic_load(&host->reserve) / OVC_PAGE / 4 >
	       atomic_load(&host->allowed);
}

/* Charges what was written. No more unseen writes then, where memory is that short: not
 * near those that there were, nor, over the budget, anywhere. Who only reads gets its
 * page mapped again, which takes no memory. */
static void look_through(struct ovc_host *host, struct ovc_region *r)
{
	uint64_t from = r->mapped_from & ~(uint64_t)(PIECE - 1);
	uint64_t brake = 0; /* pieces to be unmapped */

	for (uint64_t i = from; i < r->nr; i += PIECE) {
		uint64_t nr = r->nr - i < PIECE ? r->nr - i : PIECE;

		if (!ovc_region_touched(r, i))
			continue;
		if (ovc_lay_find_broken(r, i, nr) && dangerous(host))
			brake = AHEAD;
		if (brake || is_over(host))
			ovc_lay_unmap(r, i, nr);
		brake -= brake > 0;
	}
}

int ovc_breaks_watch(struct ovc_host *host, uint64_t now)
{
	uint64_t mapped = mapped_pages(host), anon, used, known;

	if (!mapped)
		return -1;
	/* What faults take meanwhile wakes reclaim, and so us. */
	if (!short_of(host, mapped))
		return DRIP_NS / 1000000;
	anon = ovc_pages_process_anon() / OVC_PAGE;
	used = atomic_load(&host->used);
	known = used > host->watched_used ? used - host->watched_used : 0;
	if (now - host->watched_at < DRIP_NS &&
	    anon < host->watched_anon + known +
			    atomic_load(&host->reserve) / OVC_PAGE / 8)
		return WATCH_MS;
	for (unsigned i = 0; i < host->end; i++)
		for (unsigned k = 0;
		     host->vms[i] && atomic_load(&host->vms[i]->mapped) &&
		     k < host->vms[i]->nr_regions;
		     k++)
			if (host->vms[i]->regions[k]->mapped_from != UINT64_MAX)
				look_through(host, host->vms[i]->regions[k]);
	host->watched_at = ovc_now_ns();
	host->watched_anon = ovc_pages_process_anon() / OVC_PAGE;
	host->watched_used = atomic_load(&host->used);
	return WATCH_MS;
}
