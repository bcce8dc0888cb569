/* SPDX-License-Identifier: MIT */
/* What a VM consists of: see members.c. With control. */
#ifndef OVC_MEMBERS_H
#define OVC_MEMBERS_H

#include "core/internal.h"

/* Room for one region more: most VMs have a few, some hundreds. 0 or -ENOMEM. */
int ovc_vm_make_room(struct ovc_vm *vm);
void ovc_vm_put_in(struct ovc_vm *vm, struct ovc_region *r);

/* Undoes that. */
void ovc_vm_take_back(struct ovc_region *r);

/* Takes a region out of its VM, and out of the map. Needs control. */
void ovc_vm_take_out(struct ovc_region *region);

/* Nothing names the VM any more, and no I/O of its file is under way. Needs control. */
void ovc_vm_free(struct ovc_vm *vm);

#endif
