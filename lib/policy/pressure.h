/* SPDX-License-Identifier: MIT */
/*
 * How short memory is: the host's state, and how much VMs may hold together. Pure.
 */
#ifndef OVC_POLICY_PRESSURE_H
#define OVC_POLICY_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>
#include "policy/policy.h"

/* Zeroed memory is a host that has all memory free. */
struct ovc_pressure {
	enum ovc_policy_state state;
	enum ovc_policy_cause cause;
	bool some, full;  /* stalls that count now */
	uint64_t ceiling; /* bytes that stalls leave to VMs; 0: no ceiling */
	uint64_t since;	  /* ns: when the ceiling was last moved */
};

/* `o` is filled in, `s->budget` above 0. */
void ovc_pressure_update(struct ovc_pressure *p,
			 const struct ovc_policy_snapshot *s,
			 const struct ovc_policy_options *o);

/*
 * Bytes that VMs may hold together so that enough stays free for the state to be
 * better than soft. At most budget less overhead less shared.
 */
uint64_t ovc_pressure_capacity(const struct ovc_pressure *p,
			       const struct ovc_policy_snapshot *s,
			       const struct ovc_policy_options *o);

/* How much harder to look for equal pages, times the usual CPU. */
uint32_t ovc_pressure_share_factor(enum ovc_policy_state state);

#endif
