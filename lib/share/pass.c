/* SPDX-License-Identifier: MIT */
/*
 * A pass goes over all memory, a chunk at a time: chunk number (start + at * stride) of all
 * of them. The first goes with a large stride, so that much is found early; later ones in
 * order. What a pass found says how much the next may take.
 */
#include "share/pass.h"

#include "core/budget.h"
#include "core/tables.h"
#include "memory/memory.h"
#include "memory/track.h"
#include "share/domain.h"
#include "share/lay.h"
#include "store/shared.h"

#define CHUNK	   OVC_SHARE_CHUNK
#define RECOUNT_NS 5000000000ull
#define LITTLE	   256 /* found less than a 256th of the pages: little */

void ovc_share_lock(struct ovc_host *host)
{
	for (unsigned i = 0; i < 64 && (atomic_load(&host->reclaim_waits) ||
					atomic_load(&host->control_waiting));
	     i++)
		ovc_nap(i);
	pthread_mutex_lock(&host->control);
}

bool ovc_pass_takes(const struct ovc_region *r)
{
	return !r->vm->share_off && !r->direct && !r->leaving &&
	       atomic_load(&r->tracked);
}

static uint64_t chunks_of(const struct ovc_region *r)
{
	return (r->nr + CHUNK - 1) / CHUNK;
}

/* OVC_SHARE_ALWAYS does not wait for memory to get short. */
static void track_all(struct ovc_host *host)
{
	for (unsigned i = 0; i < host->end; i++) {
		struct ovc_vm *vm = host->vms[i];

		for (unsigned k = 0; vm && !vm->share_off && k < vm->nr_regions;
		     k++)
			if (!atomic_load(&vm->regions[k]->tracked) &&
			    !vm->regions[k]->leaving &&
			    !ovc_region_track(vm->regions[k]))
				atomic_store(&host->tracked, true);
	}
}

/* Calls for each region that takes part; returns the sum of their chunks. *found is
 * the one that has chunk number *n, which becomes its chunk. */
static uint64_t walk(struct ovc_host *host, uint64_t *n,
		     struct ovc_region **found)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < host->end; i++) {
		struct ovc_vm *vm = host->vms[i];

		for (unsigned k = 0; vm && k < vm->nr_regions; k++) {
			struct ovc_region *r = vm->regions[k];
			uint64_t nr = ovc_pass_takes(r) ? chunks_of(r) : 0;

			if (n && *n >= total && *n < total + nr && !*found) {
				*found = r;
				*n -= total;
				n = NULL;
			}
			total += nr;
		}
	}
	return total;
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
	return b ? gcd(b, a % b) : a;
}

/* Pages of a domain (NULL: of all) that may have hints. */
static uint64_t pages_of(const struct ovc_host *host,
			 const struct ovc_domain *d)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i] && (!d || host->vms[i]->domain == d) &&
		    !host->vms[i]->share_off)
			pages += host->vms[i]->configured;
	return pages;
}

static void forget_hashed(struct ovc_region *r)
{
	for (uint64_t i = 0; i < r->nr; i++) {
		if (!(i % 512) && !ovc_region_touched(r, i)) {
			i += 511;
			continue;
		}
		atomic_fetch_and(&r->marks[i], (uint8_t)~OVC_MARK_HASHED);
	}
}

/* Hints for what can be in memory: no domain needs more than the budget, and all of them
 * together not more than twice that, were it shared out evenly. */
static void cover_domains(struct ovc_host *host)
{
	uint64_t most = atomic_load(&host->budget) / OVC_PAGE;
	uint64_t all = pages_of(host, NULL);

	for (struct ovc_domain *d = host->domains; d; d = d->next) {
		uint64_t pages = pages_of(host, d);
		bool forgot;

		if (all > 2 * most)
			pages = (uint64_t)((double)pages * 2 * (double)most /
					   (double)all) +
				1;
		/* Not anew for each VM that joins. */
		if (pages > d->covers && pages < 2 * d->covers)
			pages = 2 * d->covers;
		pages = pages < most ? pages : most;
		if (!pages || ovc_domain_cover(host, d, pages, &forgot) ||
		    !forgot)
			continue;
		for (unsigned i = 0; i < host->end; i++)
			for (unsigned k = 0;
			     host->vms[i] && host->vms[i]->domain == d &&
			     k < host->vms[i]->nr_regions;
			     k++)
				forget_hashed(host->vms[i]->regions[k]);
	}
}

static void begin_pass(struct ovc_share *s)
{
	struct ovc_host *host = s->host;
	/* Regions that come and go do not keep us at the first. */
	uint64_t was = s->total ? (s->start + s->at * s->stride) % s->total : 0;

	cover_domains(host);
	s->total = walk(host, NULL, NULL);
	s->at = 0;
	s->start = s->total ? was % s->total : 0;
	s->stride = 1;
	s->pass_scanned = s->pass_saved = s->pass_cpu = 0;
	/* The golden section spreads the chunks evenly, whatever was seen. */
	if (s->first && s->total > 2) {
		s->stride = (uint64_t)((double)s->total * 0.6180339887) | 1;
		while (gcd(s->stride, s->total) != 1)
			s->stride += 2;
	}
}

static void end_pass(struct ovc_share *s)
{
	s->first = false;
	s->little = s->pass_saved <= s->pass_scanned / LITTLE;
	s->last_cpu = s->pass_cpu;
	atomic_fetch_add(&s->figures.passes, 1);
	s->total = 0;
}

/* How many mappings there really are; and where none could be had lately, that may be
 * over. */
void ovc_pass_recount(struct ovc_share *s)
{
	struct ovc_host *host = s->host;
	uint64_t now = ovc_now_ns(), nr;

	if (!host->store || now - s->recounted < RECOUNT_NS)
		return;
	s->recounted = now;
	nr = ovc_pages_mappings_of(&host->proc, OVC_STORE_NAME);
	if (nr != UINT64_MAX)
		atomic_store(&host->mappings, nr);
	ovc_share_lock(host);
	host->mappings_most = host->mappings_may;
	pthread_mutex_unlock(&host->control);
}

/* The next chunk; false: nothing takes part. */
bool ovc_pass_next(struct ovc_share *s, struct ovc_region **r, uint64_t *first)
{
	uint64_t n, total;

	if (atomic_load(&s->host->share_mode) == OVC_SHARE_ALWAYS)
		track_all(s->host);
	total = walk(s->host, NULL, NULL);
	if (!total)
		return false;
	if (s->at >= s->total && s->total)
		end_pass(s);
	if (total != s->total) { /* regions came or went */
		if (total > s->total && s->total)
			s->first = true;
		begin_pass(s);
	}
	n = (s->start + s->at++ * s->stride) % s->total;
	*r = NULL;
	walk(s->host, &n, r);
	*first = n * CHUNK;
	return *r;
}
