/* SPDX-License-Identifier: MIT */
/*
 * How much of its memory a VM uses, found out by watching a few pages.
 */
#ifndef OVC_SAMPLE_H
#define OVC_SAMPLE_H

#include "core/internal.h"

/* Begins, looks at, or ends a VM's period of so many pages and ns. Needs control. */
void ovc_sample_step(struct ovc_vm *vm, uint64_t now, uint32_t pages,
		     uint64_t period);

/* A region goes, or the VM. Needs control. */
void ovc_sample_forget(struct ovc_vm *vm, const struct ovc_region *r);
void ovc_sample_end(struct ovc_vm *vm);

/* The working set in bytes, and whether it is known at all. */
uint64_t ovc_sample_active(const struct ovc_vm *vm, bool *known);
bool ovc_sample_grows(const struct ovc_vm *vm);

#endif
