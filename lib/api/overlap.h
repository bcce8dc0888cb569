/* SPDX-License-Identifier: MIT */
/*
 * Whether a region that is to be added has something in common with one that is there.
 */
#ifndef OVC_OVERLAP_H
#define OVC_OVERLAP_H

#include "core/internal.h"

/*
 * Addresses and guest physical addresses; and, of a memfd, bytes, `m` being what the
 * region's range maps. 0, or -EEXIST and a sentence with the names of both. Need control.
 */
int ovc_overlap_ranges(const struct ovc_vm *vm,
		       const struct ovc_region_options *o);
int ovc_overlap_bytes(const struct ovc_vm *vm,
		      const struct ovc_region_options *o,
		      const struct ovc_mapping *m);

#endif
