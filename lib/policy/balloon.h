/* SPDX-License-Identifier: MIT */
/*
 * Balloon first, swap where it fails: how a VM gives back what it holds beyond its
 * entitlement. Pure.
 *
 * The balloon's target goes up while the VM is over, down while it could have
 * more, at most a step ahead of what the balloon holds, so that a driver that
 * follows sets its own pace and one that does not is not asked for everything at
 * once. Differences within the dead band change nothing.
 *
 * What the balloon is *trusted* to bring is not swapped: all that fits into it in
 * the soft state, at most a step in the hard state and half of what there is in the
 * low state; nothing without a driver, or with one that failed. What fits is bounded
 * by the cap, by the guarantee, and by what the guest says it has available: a guest
 * driven below that would swap, too, and read its own swapped pages back from ours
 * just to write them to its disk (double paging). What is swapped the balloon is not
 * asked for, so that both together never take more than there is too much.
 *
 * Only what the VM holds is proof. Each step has its time; when that is over, the
 * VM must be a step lower, and the difference is swapped, whatever the driver says.
 * A driver that brought less than half of a step has failed (of a VM that grows
 * meanwhile, what its balloon took counts). It is tried again
 * after six times that long.
 */
#ifndef OVC_POLICY_BALLOON_H
#define OVC_POLICY_BALLOON_H

#include <stdbool.h>
#include <stdint.h>
#include "policy/policy.h"

#define OVC_POLICY_BALLOON_RETRY 6 /* times the timeout */

/* What is remembered of a VM. Zeroed memory: its balloon was never asked. */
struct ovc_policy_balloon {
	bool waiting; /* for a step */
	bool failed;
	bool lied; /* when it failed: said that it had reached its target */
	uint64_t since; /* ns: begin of the wait, or when it failed */
	uint64_t from;	/* resident bytes then */
	uint64_t kept;	/* resident and swapped bytes then */
	uint64_t held;	/* bytes in the balloon then */
	uint64_t step;	/* bytes that the wait is for */
	uint64_t due;	/* resident bytes that are overdue; 0: none */
};

/*
 * Decides on balloon and swap of a VM with the entitlement that stands in *d, and
 * says why. `o` is filled in.
 */
void ovc_policy_balloon_decide(struct ovc_policy_balloon *b,
			       const struct ovc_policy_vm *vm,
			       const struct ovc_policy_options *o, uint64_t now,
			       enum ovc_policy_state state,
			       struct ovc_policy_vm_decision *d);

/* OVC_POLICY_BAD_*: what the VM's figures contradict themselves in. */
uint32_t ovc_policy_balloon_check(const struct ovc_policy_vm *vm);

#endif
