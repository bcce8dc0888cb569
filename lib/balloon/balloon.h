/* SPDX-License-Identifier: MIT */
/*
 * The balloon of a VM: what its device is told and tells. What overcommit.h promises, once
 * the arguments were found good. [any] thread unless it says otherwise.
 */
#ifndef OVC_BALLOON_H
#define OVC_BALLOON_H

#include "core/internal.h"

/* In a VM's life. */
void ovc_balloon_init(struct ovc_vm *vm);
void ovc_balloon_end(struct ovc_vm *vm);

/* Options with the defaults filled in. */
void ovc_balloon_set(struct ovc_vm *vm, const struct ovc_balloon_options *o);

int ovc_balloon_inflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			struct ovc_donation *result);
int ovc_balloon_inflate_ranges(struct ovc_vm *vm,
			       const struct ovc_range *ranges, size_t nr,
			       struct ovc_donation *result);
void ovc_balloon_deflate_ranges(struct ovc_vm *vm,
				const struct ovc_range *ranges, size_t nr,
				struct ovc_deflation *result);
int ovc_balloon_report(struct ovc_vm *vm, const struct ovc_range *ranges,
		       size_t nr, struct ovc_donation *result);
void ovc_balloon_deflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			 struct ovc_deflation *result);

/* What the policy wants the balloon to hold, in bytes; the cap is kept, and without a
 * driver nothing happens. May be called with or without control; takes one lock that is
 * behind all others. */
void ovc_balloon_set_target(struct ovc_vm *vm, uint64_t bytes);

/* What the VMM wants of it, at least: -ENODEV, -EINVAL. */
int ovc_balloon_ask(struct ovc_vm *vm, uint64_t bytes);

/* The target, in bytes; the descriptor is quiet until it changes again. */
uint64_t ovc_balloon_target(struct ovc_vm *vm);
int ovc_balloon_fd(struct ovc_vm *vm);

int ovc_balloon_reached(struct ovc_vm *vm, uint64_t bytes);
int ovc_balloon_guest_stats(struct ovc_vm *vm,
			    const struct ovc_balloon_stat *stats, size_t nr);
int ovc_balloon_oom(struct ovc_vm *vm, uint64_t bytes, uint64_t *pages);

/* What the policy has to know of it. */
void ovc_balloon_tell(struct ovc_vm *vm, struct ovc_policy_vm *to);
void ovc_balloon_fill_stats(struct ovc_vm *vm, struct ovc_vm_stats *s);

#endif
