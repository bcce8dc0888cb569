/* SPDX-License-Identifier: MIT */
/*
 * Who may hold how much: what the policy is told, and what is done of what it says.
 */
#ifndef OVC_GOVERN_H
#define OVC_GOVERN_H

#include "core/internal.h"

/* Options of the host; NULL as in overcommit.h. 0, -EINVAL, -ENOMEM, with the reason in
 * words. */
int ovc_govern_create(const struct ovc_host_options *o,
		      struct ovc_govern **govern);
void ovc_govern_destroy(struct ovc_govern **govern);

/* Decides, when it is time to. Returns after how many milliseconds to come again, -1:
 * when faults are tracked. Needs control. */
int ovc_govern_step(struct ovc_host *host, uint64_t now);

uint32_t ovc_govern_state(const struct ovc_host *host);
uint64_t ovc_govern_decisions(const struct ovc_host *host);

/* Is there room to guarantee a VM (NULL: a new one) so many bytes beside all others?
 * 0, or -ENOMEM with the figures in words. Needs control. */
int ovc_govern_admit(const struct ovc_host *host, const struct ovc_vm *vm,
		     uint64_t min, const char *what);

#endif
