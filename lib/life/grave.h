/* SPDX-License-Identifier: MIT */
/*
 * What is left of regions and VMs that are out, while a disk does not answer.
 */
#ifndef OVC_GRAVE_H
#define OVC_GRAVE_H

#include "core/internal.h"

/* A region that is out. False: no I/O of it is under way; it is to be freed. Needs
 * control. */
bool ovc_bury_region(struct ovc_region *r);

/* How long we wait for a disk, before something is left to its answer. */
#define OVC_ANSWER_NS 2000000000ull

/* A VM that is out: its swap is closed, and it is freed, when the last of its I/Os is
 * done. True: there is none; ovc_bury_now() is to be called, without control. */
bool ovc_bury_vm(struct ovc_vm *vm);
void ovc_bury_now(struct ovc_vm *vm);

/* Frees what I/Os are not under way for any more. Needs control. */
void ovc_graves_look(struct ovc_host *host);

#endif
