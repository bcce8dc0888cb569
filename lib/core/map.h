/* SPDX-License-Identifier: MIT */
/* The map of regions: see map.c. */
#ifndef OVC_MAP_H
#define OVC_MAP_H

#include "core/internal.h"

/* Builds host->map anew; the old one is freed once no fault thread reads it.
 * Needs control. */
int ovc_host_remap(struct ovc_host *host);

/* Waits until no fault thread is in the step that it was in. */
void ovc_host_quiesce(struct ovc_host *host);

/* Takes a region out of the map where no new map could be made. Needs control. */
void ovc_host_unmap(struct ovc_host *host, const struct ovc_region *region);

/* The region that holds an address; NULL if none. Fault threads within a step,
 * others with control. */
struct ovc_region *ovc_map_find(const struct ovc_map *map, const void *addr);

/* The region that has a page of that number; NULL if none. With control. */
struct ovc_region *ovc_map_find_number(const struct ovc_map *map,
				       uint64_t number);

#endif
