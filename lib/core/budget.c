/* SPDX-License-Identifier: MIT */
/*
 * The ledger: pages that are charged against the budget, what may be charged, and
 * the bells that say that it is time to look.
 *
 *   charge     before a page word changes. A VM may be at its limit, at what it is
 *              entitled to, or at what it may hold while it cannot be written out
 *              (disk.c); the host at its budget. Then the caller waits.
 *   force      for what must go on: a put back, an adopted page
 *   uncharge   after the frame is gone
 *   recount    what may be charged, from the budget, or what the process's
 *              memory cgroup leaves if that is less, and what we use ourselves
 *
 * Failures: more given back than was charged is a bug of ours, and aborts.
 */
#include "core/budget.h"

#include "core/meta.h"
#include "store/shared.h"

#define MIB	((uint64_t)1 << 20)
#define AHEAD	512 /* pages that may be read ahead at once */
#define LOOK_NS 1000000000ull

uint64_t ovc_host_metadata(const struct ovc_host *host)
{
	return ovc_meta_bytes() + atomic_load(&host->tables) +
	       ovc_staging_metadata(&host->staging) +
	       (host->store ? ovc_shared_metadata(host->store) : 0);
}

void ovc_host_recount(struct ovc_host *host)
{
	uint64_t budget = ovc_host_budget(host);
	uint64_t own = ovc_host_metadata(host) + host->buffers;

	atomic_store(&host->allowed,
		     own < budget ? (budget - own) / OVC_PAGE : 0);
}

/* What a VM may hold: its limit, or what it is entitled to while it is throttled. */
static uint64_t ceiling(const struct ovc_vm *vm)
{
	uint64_t limit = atomic_load_explicit(&vm->limit, memory_order_relaxed);
	uint64_t entitled;

	limit = limit ? limit : UINT64_MAX;
	if (atomic_load_explicit(&vm->ending, memory_order_relaxed))
		return UINT64_MAX;
	if (!atomic_load_explicit(&vm->throttled, memory_order_relaxed))
		return limit;
	entitled = atomic_load(&vm->entitled);
	return entitled < limit ? entitled : limit;
}

/* Would it hold more than that with nr pages more? Nothing is counted for who may hold
 * all. */
static bool exceeds(const struct ovc_vm *vm, uint64_t nr, uint64_t most)
{
	return most != UINT64_MAX && ovc_vm_held(vm) + nr > most;
}

/* The same where memory is short: see disk.c. */
static uint64_t confinement(const struct ovc_vm *vm)
{
	if (atomic_load_explicit(&vm->ending, memory_order_relaxed))
		return UINT64_MAX;
	return atomic_load(&vm->confined);
}

bool ovc_vm_at_limit(const struct ovc_vm *vm)
{
	return exceeds(vm, 1, ceiling(vm));
}

bool ovc_charge(struct ovc_vm *vm, uint64_t nr)
{
	struct ovc_host *host = vm->host;
	uint64_t allowed = atomic_load(&host->allowed);
	uint64_t reserve = atomic_load(&host->reserve) / OVC_PAGE;
	uint64_t most = ceiling(vm), used;

	if (exceeds(vm, nr, most))
		return false;
	used = atomic_fetch_add(&host->used, nr) + nr;
	if (used > allowed) {
		atomic_fetch_sub(&host->used, nr);
		return false;
	}
	if (used + reserve / 2 > allowed || most != UINT64_MAX)
		ovc_kick(host);
	/* Reclaim leaves a reserve free: with less than two memory is short. */
	if (exceeds(vm, nr, confinement(vm)) && used + 2 * reserve > allowed) {
		atomic_fetch_sub(&host->used, nr);
		return false;
	}
	return true;
}

void ovc_charge_force(struct ovc_vm *vm, uint64_t nr)
{
	atomic_fetch_add(&vm->host->used, nr);
	ovc_kick(vm->host);
}

void ovc_uncharge(struct ovc_host *host, uint64_t nr)
{
	uint64_t was = atomic_fetch_sub(&host->used, nr);

	if (was < nr)
		ovc_bug("more pages given back than were charged", was);
}

bool ovc_room_ahead(struct ovc_vm *vm, uint64_t nr)
{
	struct ovc_host *host = vm->host;

	/* What is on its way in does not count against the limit yet. */
	return !exceeds(vm, nr + AHEAD, ceiling(vm)) &&
	       atomic_load(&host->used) + nr +
			       atomic_load(&host->reserve) / OVC_PAGE / 4 <
		       atomic_load(&host->allowed);
}

bool ovc_any_starved(const struct ovc_host *host)
{
	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i] && atomic_load(&host->vms[i]->starved))
			return true;
	return false;
}

/* ---- bells ------------------------------------------------------------------ */

void ovc_kick_always(struct ovc_host *host)
{
	atomic_store(&host->changed, true);
	ovc_notify_post(host->reclaim_wake);
}

void ovc_kick(struct ovc_host *host)
{
	if (!atomic_load(&host->kicked) &&
	    !atomic_exchange(&host->kicked, true))
		ovc_notify_post(host->reclaim_wake);
}

void ovc_wake_faulters(struct ovc_host *host)
{
	ovc_notify_post(host->fault_wake);
}

void ovc_share_kick(const struct ovc_host *host)
{
	if (host->share_wake >= 0)
		ovc_notify_post(host->share_wake);
}

/* ---- the memory cgroup ------------------------------------------------------ */

/* The cgroup counts more than we do: the rest of the process, page tables, what the kernel
 * keeps for it. */
static uint64_t part_for_guests(uint64_t limit)
{
	uint64_t rest = limit / 16 > 16 * MIB ? limit / 16 : 16 * MIB;

	return limit == UINT64_MAX ? limit : limit > rest ? limit - rest : 0;
}

static void tell_cgroup(struct ovc_host *host, uint64_t limit)
{
	if (ovc_host_budget(host) < atomic_load(&host->budget))
		ovc_log(host, OVC_LOG_WARNING,
			"the process's memory cgroup may hold %llu MiB, so that "
			"%llu MiB are the budget, and not %llu MiB",
			(unsigned long long)limit >> 20,
			(unsigned long long)ovc_host_budget(host) >> 20,
			(unsigned long long)atomic_load(&host->budget) >> 20);
	else
		ovc_log(host, OVC_LOG_INFO,
			"the process's memory cgroup leaves the budget alone");
}

int ovc_host_look_at_cgroup(struct ovc_host *host, uint64_t now)
{
	uint64_t limit, may;

	if (!host->cgroup.nr)
		return -1;
	if (now < host->cgroup_at)
		return (int)((host->cgroup_at - now) / 1000000 + 1);
	host->cgroup_at = now + LOOK_NS;
	limit = ovc_cgroup_limit(&host->cgroup);
	may = part_for_guests(limit);
	if (may != atomic_exchange(&host->may, may)) {
		ovc_host_recount(host);
		atomic_store(&host->changed, true);
		tell_cgroup(host, limit);
	}
	return LOOK_NS / 1000000;
}
