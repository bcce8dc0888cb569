/* SPDX-License-Identifier: MIT */
/* What overcommit.c, which checks arguments, calls of the host and its VMs. */
#ifndef OVC_HOST_H
#define OVC_HOST_H

#include "core/internal.h"

int ovc_host_build(const struct ovc_host_options *o, struct ovc_host **hostp);
void ovc_host_end(struct ovc_host *host); /* nothing is reclaimed any more */
void ovc_host_unbuild(struct ovc_host *host); /* no VM is left */
int ovc_host_resize(struct ovc_host *host, uint64_t budget);
void ovc_host_share(struct ovc_host *host, uint32_t mode, uint32_t cpu);
void ovc_host_step(struct ovc_host *host); /* dispatch mode */

/* These take control themselves. */
int ovc_vm_build(struct ovc_host *host, const struct ovc_vm_options *o,
		 struct ovc_vm **vmp);
int ovc_vm_entitle(struct ovc_vm *vm, uint32_t shares, uint64_t min);
void ovc_vm_unbuild(struct ovc_vm *vm, bool throw_away);
int ovc_vm_add(struct ovc_vm *vm, const struct ovc_region_options *o);
int ovc_vm_remove(struct ovc_vm *vm, const void *addr, bool throw_away);

#endif
