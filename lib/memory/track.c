/* SPDX-License-Identifier: MIT */
/*
 * Tracking begins: a region is registered with userfaultfd, and what is there is
 * adopted. Until then it is the kernel's alone, and costs nothing.
 *
 * It registers first and counts afterwards. A page that is touched between the
 * two faults and is counted by the pager; one that was there is adopted; so each is
 * counted once.
 *
 * Failures: what cannot be registered stays as it was. How it ends: leave.c.
 */
#include "memory/track.h"

#include <errno.h>

#include "balloon/frames.h"
#include "core/budget.h"
#include "core/tables.h"
#include "memory/memory.h"
#include "sys/memfd.h"

#define LOOK 4096 /* pages asked about at once */

/* Takes memory for the fault threads' I/O buffers, when it is first needed. */
static void take_buffers(struct ovc_host *host)
{
	for (unsigned i = 0; i < host->nr_faulters; i++) {
		struct ovc_ring *ring = host->fault_ring[i];

		ovc_ring_use_buffers(ring);
		if (!ovc_ring_has_buffers(ring))
			atomic_fetch_and(&host->features,
					 ~OVC_FEATURE_FIXED_BUFS);
	}
}

static void adopt(struct ovc_region *r, uint64_t idx)
{
	uint64_t w;

	ovc_region_touch(r, idx);
	do {
		w = atomic_load(&r->words[idx]);
		if (ovc_word_state(w) != OVC_EMPTY)
			return; /* it came by a fault, and was counted */
	} while (ovc_page_try(&r->words[idx], &w, OVC_EV_ADOPT, 0) ==
		 OVC_ACT_RACED);
	ovc_frames_touched(r, idx);
	ovc_charge_force(r->vm, 1);
	atomic_fetch_add(&r->vm->resident, 1);
}

static bool is_allocated(const struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t all;

	return nr &&
	       !ovc_memfd_allocated(r->memfd, r->memfd_offset + idx * OVC_PAGE,
				    nr * OVC_PAGE, &all) &&
	       all;
}

/* The first page from idx on that may be resident: a memfd knows its holes. In a hole, what
 * was allocated and never touched; then the first is less than LOOK behind. */
static uint64_t skip_holes(const struct ovc_region *r, uint64_t idx)
{
	uint64_t at = r->memfd_offset + idx * OVC_PAGE, data, n;

	if (r->memfd < 0 || idx >= r->nr)
		return idx;
	data = ovc_memfd_next_data(r->memfd, at);
	n = data == UINT64_MAX ? r->nr - idx : (data - at) / OVC_PAGE;
	n = n < r->nr - idx ? n : r->nr - idx;
	if (!is_allocated(r, idx, n))
		return idx + n;
	for (uint64_t half; n > LOOK; n -= half) {
		half = n / 2;
		if (is_allocated(r, idx, half))
			half = n - half; /* the other is left out */
		else
			idx += half;
	}
	return idx;
}

/* Counts what is resident of a region; adopts it where the region is given once more, to
 * be changed. */
static int for_resident(const struct ovc_region *r, struct ovc_region *changed,
			uint64_t *nr)
{
	uint8_t bits[LOOK];

	*nr = 0;
	for (uint64_t at = skip_holes(r, 0); at < r->nr;
	     at = skip_holes(r, at + LOOK)) {
		uint64_t n = r->nr - at < LOOK ? r->nr - at : LOOK;
		int error = r->memory->present(r, at, n, bits);

		if (error)
			return error;
		for (uint64_t i = 0; i < n; i++) {
			bool there = ovc_pages_there(bits[i]);

			/* The kernel's one zero page is nobody's memory; but it
			 * is written without a fault that would be seen. */
			*nr += there &&
			       (changed || !(bits[i] & OVC_PAGES_ZERO));
			if (there && changed)
				adopt(changed, at + i);
		}
	}
	return 0;
}

int ovc_region_track(struct ovc_region *r)
{
	struct ovc_host *host = r->vm->host;
	uint64_t nr;
	int error = 0;

	take_buffers(host);
	if (!r->registered)
		error = ovc_uffd_register(host->uffd, r->base, r->nr * OVC_PAGE,
					  r->memfd >= 0,
					  host->uffd_features.wp_async);
	if (error)
		return error;
	r->registered = true;
	error = for_resident(r, r, &nr);
	if (error)
		return error;
	atomic_store(&r->tracked, true);
	ovc_share_kick(host);
	ovc_log(host, OVC_LOG_DEBUG,
		"%s: tracking region %p, %llu MiB (%s), %llu MiB resident",
		r->vm->name, (void *)r->base,
		(unsigned long long)(r->nr * OVC_PAGE) >> 20, r->memory->name,
		(unsigned long long)(nr * OVC_PAGE) >> 20);
	return 0;
}

uint64_t ovc_region_untracked_resident(const struct ovc_region *r)
{
	uint64_t nr;

	/* Not known: it may be all of it. */
	return for_resident(r, NULL, &nr) ? r->nr * OVC_PAGE : nr * OVC_PAGE;
}

uint64_t ovc_vm_resident(const struct ovc_vm *vm)
{
	uint64_t bytes = atomic_load(&vm->resident) * OVC_PAGE;

	for (unsigned i = 0; i < vm->nr_regions; i++)
		if (!atomic_load(&vm->regions[i]->tracked))
			bytes += ovc_region_untracked_resident(vm->regions[i]);
	return bytes;
}

bool ovc_region_is_registered(struct ovc_region *r)
{
	enum ovc_action action;

	for (unsigned n = 0; n < LOOK && n < r->nr; n++) {
		uint64_t i = r->asked++ % r->nr, w;
		size_t done;
		int error;

		if (!ovc_region_touched(r, i)) {
			r->asked += 511 - i % 512;
			continue;
		}
		w = atomic_load(&r->words[i]);
		if (ovc_word_state(w) != OVC_RESIDENT || ovc_is_laid(r, i) ||
		    ovc_page_try(&r->words[i], &w, OVC_EV_LOOK, 0) !=
			    OVC_ACT_COPY)
			continue;
		error = ovc_uffd_zeropage(r->vm->host->uffd,
					  ovc_page_addr(r, i), OVC_PAGE, &done);
		if (ovc_page_end(&r->words[i], OVC_EV_FILLED, 0, &action) &
		    OVC_W_WANTED)
			ovc_memory_wake(r, i, 1);
		return error != -ENOENT;
	}
	return true;
}
