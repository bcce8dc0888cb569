/* SPDX-License-Identifier: MIT */
/*
 * How a region ends.
 */
#ifndef OVC_LEAVE_H
#define OVC_LEAVE_H

#include "core/internal.h"

enum ovc_leave_how {
	OVC_LEAVE_ALL, /* everything comes back, or nothing is changed */
	OVC_LEAVE_SOME, /* what there is room for comes back; the rest is poisoned */
	OVC_LEAVE_NONE, /* it is thrown away */
};

/*
 * Takes a region out of its VM, in the caller's thread, while guests run. Needs no lock.
 *  0
 *  -EIO        it is out, but some pages are poisoned
 *  -ENOMEM     the budget has no room for it; nothing is changed (ALL)
 *  -ETIMEDOUT  memory, or the disk, was waited for in vain; it is still there (ALL)
 */
int ovc_leave(struct ovc_region *r, enum ovc_leave_how how);

/* Nothing of the VM is staged any more, nor read ahead: it ends. Needs control. */
void ovc_leave_begin(struct ovc_region *r);

#endif
