/* SPDX-License-Identifier: MIT */
/*
 * What is asked of memory that is to be a region, and done to it before it is one: see
 * check.c. With control.
 */
#ifndef OVC_CHECK_H
#define OVC_CHECK_H

#include "core/internal.h"

/* 0, with what maps it in *m; or -errno, and a sentence. */
int ovc_region_check(struct ovc_vm *vm, const struct ovc_region_options *o,
		     struct ovc_mapping *m);

/* Makes it the guest's alone, and takes that back (what is copied stays so) where the
 * VMM had not done it itself. */
int ovc_region_own(struct ovc_region *r);
void ovc_region_disown(struct ovc_region *r);

#endif
