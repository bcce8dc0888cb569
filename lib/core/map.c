/* SPDX-License-Identifier: MIT */
/*
 * The regions by address, for fault threads, and by number, for who looks for
 * equal pages. Fault threads search it without a lock; control replaces it whole, waits
 * until each of them has been seen outside of the step that it was in, and frees the old
 * one.
 *
 * Failures: without memory for a new map a region that goes is taken out of the old
 * one, which is unknown for that moment: who faults then is woken, and faults again.
 */
#include "core/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/meta.h"
#include "memory/memory.h"

struct ovc_region *ovc_map_find(const struct ovc_map *map, const void *addr)
{
	size_t lo = 0, hi = map ? map->nr : 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		struct ovc_region *r = map->regions[mid];

		if ((const char *)addr < r->base)
			hi = mid;
		else if ((const char *)addr >= r->base + r->nr * OVC_PAGE)
			lo = mid + 1;
		else
			return r;
	}
	return NULL;
}

struct ovc_region *ovc_map_find_number(const struct ovc_map *map,
				       uint64_t number)
{
	size_t lo = 0, hi = map ? map->nr : 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		struct ovc_region *r = map->regions[map->room + mid];

		if (number < r->number)
			hi = mid;
		else if (number - r->number >= r->nr)
			lo = mid + 1;
		else
			return r;
	}
	return NULL;
}

/* Waits until no fault thread is in the step that it was in. */
void ovc_host_quiesce(struct ovc_host *host)
{
	for (unsigned i = 0; i < host->nr_faulters; i++) {
		uint64_t was = atomic_load(&host->steps[i]);

		while ((was & 1) && atomic_load(&host->steps[i]) == was)
			ovc_nap(0);
	}
}

static int by_number(const void *a, const void *b)
{
	const struct ovc_region *const *x = a, *const *y = b;

	return (*x)->number < (*y)->number ? -1 : (*x)->number > (*y)->number;
}

static int by_address(const void *a, const void *b)
{
	const struct ovc_region *const *x = a, *const *y = b;

	return (*x)->base < (*y)->base ? -1 : (*x)->base > (*y)->base;
}

int ovc_host_remap(struct ovc_host *host)
{
	struct ovc_map *map, *old;
	size_t nr = 0;

	for (unsigned i = 0; i < OVC_MAX_VMS; i++)
		nr += host->vms[i] ? host->vms[i]->nr_regions : 0;
	map = ovc_meta_zalloc(sizeof(*map) + 2 * nr * sizeof(map->regions[0]));
	if (!map)
		return -ENOMEM;
	map->room = nr;
	for (unsigned i = 0; i < OVC_MAX_VMS; i++)
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++)
			map->regions[map->nr++] = host->vms[i]->regions[k];
	memcpy(map->regions + nr, map->regions, nr * sizeof(map->regions[0]));
	qsort(map->regions, nr, sizeof(map->regions[0]), by_address);
	qsort(map->regions + nr, nr, sizeof(map->regions[0]), by_number);
	old = atomic_exchange(&host->map, map);
	ovc_host_quiesce(host);
	/* Callers search it under control. */
	ovc_meta_free(old);
	return 0;
}

static size_t leave_out(struct ovc_region **list, size_t nr,
			const struct ovc_region *region)
{
	size_t n = 0;

	for (size_t i = 0; i < nr; i++)
		if (list[i] != region)
			list[n++] = list[i];
	return n;
}

void ovc_host_unmap(struct ovc_host *host, const struct ovc_region *region)
{
	struct ovc_map *map = atomic_exchange(&host->map, NULL);

	/* For a moment no region is known; what faults then is woken, and
	 * faults again. */
	ovc_host_quiesce(host);
	leave_out(map->regions, map->nr, region);
	map->nr = leave_out(map->regions + map->room, map->nr, region);
	atomic_store(&host->map, map);
	for (size_t i = 0; i < map->nr; i++)
		if (atomic_load(&map->regions[i]->tracked))
			ovc_memory_wake(map->regions[i], 0,
					map->regions[i]->nr);
}
