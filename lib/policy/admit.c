/* SPDX-License-Identifier: MIT */
/*
 * Admission: a guarantee is given only if all can be kept at the same time, with
 * nothing shared and nothing idle.
 */
#include <errno.h>
#include <stdbool.h>
#include "policy/policy.h"

static uint64_t add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

int ovc_policy_admit(const struct ovc_policy_snapshot *snapshot, uint64_t id,
		     uint64_t min, uint64_t *needed, uint64_t *available)
{
	uint64_t overhead = snapshot->overhead, sum = min;
	uint64_t room =
		snapshot->budget > overhead ? snapshot->budget - overhead : 0;

	for (size_t i = 0; i < snapshot->nr_vms; i++)
		if (snapshot->vms[i].id != id)
			sum = add(sum, snapshot->vms[i].min);
	if (needed)
		*needed = sum;
	if (available)
		*available = room;
	return sum > room ? -ENOMEM : 0;
}
