/* SPDX-License-Identifier: MIT */
/*
 * A policy's settings: what they are when nobody sets them, and what they may be.
 */
#include <errno.h>
#include <stdbool.h>
#include "policy/policy.h"

static const struct ovc_policy_options defaults = {
	.size = sizeof(defaults),
	.idle_tax = 7500,
	/* Half of ESX's: beside the budget there is a reserve for faults. */
	.clear = 300,
	.soft = 200,
	.hard = 100,
	.low = 50,
	.hysteresis = 50,
	.psi_some = 1000,
	.psi_full = 500,
	/* A balloon that is larger than this makes most guests swap. */
	.balloon_cap = 6500,
	.balloon_step = 625,
	.dead_band = 25,
	.guest_floor = 500,
	.balloon_timeout = 5000000000,
	.samples = 100,
	.sample_period = 30000000000,
};

/* Takes the default for 0; false where the rest is out of range. */
static bool fill(uint32_t *value, uint32_t otherwise, uint32_t least,
		 uint32_t most)
{
	if (!*value)
		*value = otherwise;
	return *value >= least && *value <= most;
}

/* Likewise, for a figure of which UINT32_MAX means "never". */
static bool fill_or_never(uint32_t *value, uint32_t otherwise, uint32_t most)
{
	return *value == UINT32_MAX || fill(value, otherwise, 1, most);
}

static bool fill_states(struct ovc_policy_options *o)
{
	return fill(&o->clear, defaults.clear, 1, OVC_POLICY_ALL) &&
	       fill(&o->soft, defaults.soft, 1, OVC_POLICY_ALL) &&
	       fill(&o->hard, defaults.hard, 1, OVC_POLICY_ALL) &&
	       fill(&o->low, defaults.low, 1, OVC_POLICY_ALL) &&
	       fill(&o->hysteresis, defaults.hysteresis, 1, 2000) &&
	       o->clear > o->soft && o->soft > o->hard && o->hard > o->low &&
	       o->soft + o->hysteresis < OVC_POLICY_ALL &&
	       fill_or_never(&o->psi_some, defaults.psi_some, 10000) &&
	       fill_or_never(&o->psi_full, defaults.psi_full, 10000);
}

static bool fill_balloon(struct ovc_policy_options *o)
{
	if (!o->balloon_timeout)
		o->balloon_timeout = defaults.balloon_timeout;
	return fill(&o->balloon_cap, defaults.balloon_cap, 1, 9000) &&
	       fill(&o->balloon_step, defaults.balloon_step, 10, 10000) &&
	       fill(&o->dead_band, defaults.dead_band, 1, 1000) &&
	       fill(&o->guest_floor, defaults.guest_floor, 1, 9000) &&
	       o->balloon_timeout <= UINT64_MAX / 16;
}

int ovc_policy_options_fill(const struct ovc_policy_options *options,
			    struct ovc_policy_options *out)
{
	struct ovc_policy_options o = options ? *options : defaults;

	if (o.size != sizeof(o) || o.reserved || !fill_states(&o) ||
	    !fill_balloon(&o) ||
	    !fill_or_never(&o.idle_tax, defaults.idle_tax, 9900) ||
	    !fill(&o.samples, defaults.samples, 10, 100000))
		return -EINVAL;
	if (!o.sample_period)
		o.sample_period = defaults.sample_period;
	*out = o;
	return 0;
}
