/* SPDX-License-Identifier: MIT */
/* The ledger of pages, and the bells: see budget.c. [any thread, no lock], unless a line
 * says otherwise. */
#ifndef OVC_BUDGET_H
#define OVC_BUDGET_H

#include "core/internal.h"

/* The budget, or what the process's memory cgroup leaves, whichever is less: bytes. */
static inline uint64_t ovc_host_budget(const struct ovc_host *host)
{
	uint64_t budget = atomic_load(&host->budget);
	uint64_t may = atomic_load(&host->may);

	return may < budget ? may : budget;
}

/* Looks at the memory cgroup, when it is time to. Returns in how many ms to look again,
 * -1 for never. Needs control. */
int ovc_host_look_at_cgroup(struct ovc_host *host, uint64_t now);

/* Pages that may be charged, from the budget and what we use ourselves. */
void ovc_host_recount(struct ovc_host *host);
uint64_t ovc_host_metadata(const struct ovc_host *host);

/* Charges nr pages against the budget and the VM's limit. */
bool ovc_charge(struct ovc_vm *vm, uint64_t nr);
void ovc_charge_force(struct ovc_vm *vm, uint64_t nr);
void ovc_uncharge(struct ovc_host *host, uint64_t nr);

/* Pages that are in use, without those that are only promised. */
static inline uint64_t ovc_host_held(const struct ovc_host *host)
{
	uint64_t promised = atomic_load(&host->promised);
	uint64_t used = atomic_load(&host->used);

	return used > promised ? used - promised : 0;
}

/* Does it hold as much as it may, whatever the host has? */
bool ovc_vm_at_limit(const struct ovc_vm *vm);

/* Room above half of the reserve: may we bring in what nobody touched yet? */
bool ovc_room_ahead(struct ovc_vm *vm, uint64_t nr);

/* Has a fault of any VM found no memory? Needs control. */
bool ovc_any_starved(const struct ovc_host *host);

/* Wakes reclaim if memory is short. Any thread, no lock. */
void ovc_kick(struct ovc_host *host);
void ovc_kick_always(struct ovc_host *host);
void ovc_wake_faulters(struct ovc_host *host);

/* Wakes who looks for equal pages. */
void ovc_share_kick(const struct ovc_host *host);

/* Pages that a VM holds, as the policy counts. */
static inline uint64_t ovc_vm_held(const struct ovc_vm *vm)
{
	return atomic_load(&vm->resident) + atomic_load(&vm->staged);
}

/* Pages that may be taken from it, beyond what it is entitled to; or, if that does not
 * help, beyond its guarantee, as far as that fits. What is staged is as good as gone. */
static inline uint64_t ovc_vm_over(const struct ovc_vm *vm)
{
	uint64_t has = atomic_load(&vm->resident);
	uint64_t entitled = atomic_load(&vm->entitled);

	if (entitled == OVC_NOT_DECIDED)
		entitled = atomic_load(&vm->min);
	return has > entitled ? has - entitled : 0;
}

static inline uint64_t ovc_vm_not_guaranteed(const struct ovc_vm *vm)
{
	uint64_t has = atomic_load(&vm->resident), min = atomic_load(&vm->min);
	uint64_t entitled = atomic_load(&vm->entitled);

	min = min < entitled ? min : entitled;
	return has > min ? has - min : 0;
}

#endif
