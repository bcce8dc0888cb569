/* SPDX-License-Identifier: MIT */
/*
 * No pressure, no cost: until memory may get short, regions are the kernel's alone,
 * with huge pages and native faults. So the library does not see guests grow; it
 * looks from time to time, the more often the nearer the budget is.
 *
 *   all regions together fit into the budget     nobody needs to look
 *   no more than the margin is left              track everything, from now on
 *   else                                         look again before guests could
 *                                                fill what is left, at GROWTH
 *
 * The margin is what guests may fill while we want to look and are not let: an eighth
 * of the budget, 256 MiB at least, and more after a look that came late, because the
 * machine that was busy once will be busy again. A budget of less than the margin
 * is tracked from the start: whoever adds the region does it, and returns when it is
 * done.
 *
 * A cheap upper bound (the process's resident memory, from /proc) comes first; pages
 * are counted only when that says that it is near. Where it is not known, everything is
 * tracked: it may be near. A VM with a limit of its own that
 * is less than its memory is tracked by the same rule.
 *
 * Failures: a region that cannot be registered is said so, counted (untaken.c), and tried
 * again each second; until then it is not reclaimed.
 *
 * Each tracked region is looked at once a second: somebody else's userfaultfd may have
 * unregistered it. Then absent pages are the kernel's zeros, no fault tells of what the
 * guest takes, and nobody would know.
 */
#include "balancer/monitor.h"

#include <errno.h>

#include "core/budget.h"
#include "core/events.h"
#include "memory/track.h"
#include "trouble/untaken.h"

#define GROWTH \
	((uint64_t)16 << 30) /* bytes a second: faster than memory fills */
#define MARGIN_LEAST  ((uint64_t)256 << 20)
#define LATE_MOST_NS  100000000ull /* a process that was stopped is no sign */
#define LOOK_MOST_NS  200000000ull
#define LOOK_LEAST_NS 500000ull
#define RETRY_NS      1000000000ull /* what could not be tracked */
#define REGISTERED_NS 1000000000ull

static bool track_vm(struct ovc_vm *vm)
{
	bool all = true;

	for (unsigned i = 0; i < vm->nr_regions; i++) {
		struct ovc_region *r = vm->regions[i];
		int error = 0;

		if (r->tracked || r->leaving)
			continue;
		error = ovc_region_track(r);
		ovc_untaken_region(r,
				   !error	   ? OVC_UNTAKEN_NR :
				   error == -EBUSY ? OVC_UNTAKEN_REGISTERED :
						     OVC_UNTAKEN_REFUSED,
				   error);
		all &= !error;
	}
	return all;
}

static uint64_t untracked_resident(const struct ovc_vm *vm)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < vm->nr_regions; i++)
		if (!vm->regions[i]->tracked)
			bytes += ovc_region_untracked_resident(vm->regions[i]);
	return bytes;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* In how many ns to look again, with `have` of `most` bytes in use; 0: track now. */
static uint64_t delay_for(const struct ovc_monitor *m, uint64_t have,
			  uint64_t most)
{
	uint64_t margin = larger(larger(most / 8, MARGIN_LEAST),
				 m->latest * (GROWTH / 1000000) / 1000);
	uint64_t ns;

	if (have + margin >= most)
		return 0;
	ns = (most - margin - have) * 1000 / (GROWTH / 1000000);
	if (ns < LOOK_LEAST_NS)
		return LOOK_LEAST_NS;
	return ns < LOOK_MOST_NS ? ns : LOOK_MOST_NS;
}

static uint64_t look_at_host(const struct ovc_monitor *m, struct ovc_host *host)
{
	uint64_t most = atomic_load(&host->allowed) * OVC_PAGE;
	uint64_t configured = 0, memfd = 0, resident, have, delay;
	bool all = true, known;

	for (unsigned i = 0; i < host->end; i++)
		configured += host->vms[i] ? host->vms[i]->configured : 0;
	/* What we use ourselves is little until something is tracked, and not
	 * worth to begin with that. */
	if (configured * OVC_PAGE <= ovc_host_budget(host))
		return UINT64_MAX;
	for (unsigned i = 0; i < host->end; i++)
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++)
			if (host->vms[i]->regions[k]->memfd >= 0)
				memfd += ovc_region_untracked_resident(
					host->vms[i]->regions[k]);
	resident = ovc_pages_process_resident(&host->proc);
	known = resident != UINT64_MAX;
	delay = known ? delay_for(m, resident + memfd, most) : 0;
	if (delay)
		return delay;
	have = ovc_host_held(host) * OVC_PAGE;
	for (unsigned i = 0; i < host->end; i++)
		have += host->vms[i] ? untracked_resident(host->vms[i]) : 0;
	delay = known ? delay_for(m, have, most) : 0;
	if (delay)
		return delay;
	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i])
			all &= track_vm(host->vms[i]);
	if (!atomic_exchange(&host->tracked, true))
		ovc_log(host, OVC_LOG_INFO,
			"memory gets short: %llu of %llu MiB in use; tracking",
			(unsigned long long)have >> 20,
			(unsigned long long)most >> 20);
	return all ? UINT64_MAX : RETRY_NS;
}

static uint64_t look_at_vm(const struct ovc_monitor *m, struct ovc_host *host,
			   struct ovc_vm *vm)
{
	uint64_t limit = atomic_load(&vm->limit), delay;
	bool pending = false;

	for (unsigned i = 0; i < vm->nr_regions; i++)
		pending |= !vm->regions[i]->tracked;
	if (!pending || !limit || limit >= vm->configured)
		return UINT64_MAX;
	delay = delay_for(m, untracked_resident(vm), limit * OVC_PAGE);
	if (delay)
		return delay;
	atomic_store(&host->tracked, true);
	return track_vm(vm) ? UINT64_MAX : RETRY_NS;
}

static bool all_tracked(const struct ovc_host *host)
{
	for (unsigned i = 0; i < host->end; i++)
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++)
			if (!host->vms[i]->regions[k]->tracked)
				return false;
	return true;
}

/* What was out reads as zero where it was touched since; from now on it does not. */
static void register_again(struct ovc_region *r)
{
	struct ovc_host *host = r->vm->host;
	int error = ovc_uffd_register(host->uffd, r->base, r->nr * OVC_PAGE,
				      r->memfd >= 0,
				      host->uffd_features.wp_async);

	ovc_log(host, OVC_LOG_ERROR,
		"%s: region %p was unregistered from the library's userfaultfd "
		"by somebody else in the process (Linux 6.1 and 6.12 let any "
		"userfaultfd do that), or unmapped: pages of it that were out "
		"may have been read as zeros since; it is %s",
		r->vm->name, (void *)r->base,
		error ? "out of our hands" : "registered again");
	ovc_event_post(host, OVC_EVENT_MEMORY_FAILED, ENOENT, r->vm, r, 0,
		       r->nr);
	if (error)
		ovc_untaken_region(r, OVC_UNTAKEN_REGISTERED, error);
}

int ovc_monitor_registered(struct ovc_monitor *m, struct ovc_host *host,
			   uint64_t now)
{
	if (!atomic_load(&host->tracked))
		return -1;
	if (now < m->registered_at)
		return (int)((m->registered_at - now) / 1000000 + 1);
	m->registered_at = now + REGISTERED_NS;
	for (unsigned i = 0; i < host->end; i++)
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++) {
			struct ovc_region *r = host->vms[i]->regions[k];

			if (atomic_load(&r->tracked) && !r->leaving &&
			    r->refused == OVC_UNTAKEN_NR &&
			    !ovc_region_is_registered(r))
				register_again(r);
		}
	return REGISTERED_NS / 1000000;
}

int ovc_monitor_step(struct ovc_monitor *m, struct ovc_host *host, uint64_t now)
{
	uint64_t delay = UINT64_MAX, one;

	if (now < m->next && !atomic_exchange(&host->changed, false))
		return (int)((m->next - now) / 1000000 + 1);
	if (m->next && now > m->next)
		m->latest = larger(m->latest, now - m->next < LATE_MOST_NS ?
						      now - m->next :
						      LATE_MOST_NS);
	if (!all_tracked(host)) {
		delay = look_at_host(m, host);
		for (unsigned i = 0; i < host->end; i++) {
			if (!host->vms[i])
				continue;
			one = look_at_vm(m, host, host->vms[i]);
			delay = one < delay ? one : delay;
		}
	}
	if (delay == UINT64_MAX) {
		m->next = 0; /* nothing until somebody changes something */
		return -1;
	}
	m->next = now + delay;
	return (int)(delay / 1000000);
}
