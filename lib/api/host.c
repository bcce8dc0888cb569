/* SPDX-License-Identifier: MIT */
/*
 * The public calls of a host: check, say what is wrong with a sentence, call one thing.
 */
#include "api/args.h"

#include <errno.h>
#include <string.h>

#include "balancer/govern.h"
#include "core/budget.h"
#include "core/control.h"
#include "core/events.h"
#include "core/internal.h"
#include "core/map.h"
#include "life/host.h"
#include "memory/track.h"
#include "share/share.h"
#include "store/shared.h"
#include "trouble/untaken.h"

const char *ovc_version(void)
{
	return OVC_VERSION;
}

#define FEATURES_ALL ((1u << 12) - 1)

static int check_policy(const struct ovc_host_options *o)
{
	const struct ovc_policy *p = o->policy;

	if (p && (p->size != sizeof(*p) || !p->state_bytes || !p->start ||
		  !p->decide))
		return ovc_fail(-EINVAL,
				"host_create: policy->size is not that of the "
				"struct, or state_bytes, start or decide is "
				"NULL");
	if (o->policy_period &&
	    (o->policy_period < 10 || o->policy_period > 60000))
		return ovc_fail(-EINVAL,
				"host_create: policy_period of %u ms is not "
				"within 10 and 60,000",
				o->policy_period);
	return 0;
}

static int check_share(const char *what, uint32_t mode, uint32_t cpu)
{
	if (mode > OVC_SHARE_ALWAYS)
		return ovc_fail(-EINVAL, "%s: share %u is no mode", what, mode);
	if (cpu > 100)
		return ovc_fail(-EINVAL,
				"%s: share_cpu %u is more than 100 percent",
				what, cpu);
	return 0;
}

int ovc_host_create(const struct ovc_host_options *options,
		    struct ovc_host **hostp)
{
	struct ovc_host_options o;
	int error = ovc_api_take_options("host_create", options,
					 LEAST(ovc_host_options, budget), &o,
					 sizeof(o));

	if (error)
		return error;
	if (!hostp)
		return ovc_fail(-EINVAL, "host_create: hostp is NULL");
	if (o.flags & ~(uint32_t)OVC_HOST_DISPATCH)
		return ovc_fail(-EINVAL,
				"host_create: flags %#x has unknown "
				"bits",
				o.flags);
	if (o.event && o.flags & OVC_HOST_DISPATCH)
		return ovc_fail(-EINVAL,
				"host_create: event together with "
				"OVC_HOST_DISPATCH, which starts no thread to "
				"call it: use ovc_host_next_event()");
	if (o.fault_threads > OVC_MAX_FAULTERS)
		return ovc_fail(-EINVAL,
				"host_create: fault_threads %u is "
				"more than %d",
				o.fault_threads, OVC_MAX_FAULTERS);
	if (o.without & ~FEATURES_ALL)
		return ovc_fail(-EINVAL,
				"host_create: without %#x has unknown "
				"bits",
				o.without);
	if (o.userfaultfd < 0)
		return ovc_fail(-EINVAL,
				"host_create: userfaultfd %d is no "
				"descriptor",
				o.userfaultfd);
	error = check_share("host_create", o.share, o.share_cpu);
	if (!error)
		error = check_policy(&o);
	return error ? error : ovc_host_build(&o, hostp);
}

int ovc_host_set_share(struct ovc_host *host, uint32_t mode, uint32_t cpu)
{
	int error = ovc_api_check_host("set_share", host);

	if (!error)
		error = check_share("set_share", mode, cpu);
	if (!error)
		ovc_host_share(host, mode, cpu);
	return error;
}

void ovc_host_destroy(struct ovc_host **hostp)
{
	struct ovc_host *host = hostp ? *hostp : NULL;

	if (!host)
		return;
	if (ovc_api_check_host("host_destroy", host)) {
		*hostp = NULL;
		return;
	}
	if (ovc_events_are_mine(host->events)) {
		ovc_fail(-EDEADLK, "host_destroy: called by the host's event "
				   "function, which it would wait for");
		ovc_log(host, OVC_LOG_ERROR, "%s", ovc_error());
		return;
	}
	ovc_host_end(host);
	for (unsigned i = 0; i < OVC_MAX_VMS; i++)
		if (host->vms[i])
			ovc_vm_unbuild(host->vms[i], false);
	ovc_host_unbuild(host);
	*hostp = NULL;
}

int ovc_host_set_budget(struct ovc_host *host, uint64_t budget)
{
	int error = ovc_api_check_host("set_budget", host);

	return error ? error : ovc_host_resize(host, budget);
}

static void add_untaken(const struct ovc_vm *vm, struct ovc_host_stats *s)
{
	for (unsigned i = 0; i < OVC_UNTAKEN_NR; i++)
		s->untaken[i] += ovc_untaken_bytes(vm, i);
	s->refusals += atomic_load(&vm->refusals);
}

static void fill_host_stats(struct ovc_host *host, struct ovc_host_stats *s)
{
	const struct ovc_counters *c = &host->count;
	const struct ovc_share_figures *f = ovc_share_figures(host->share);
	uint64_t resident = 0, staged = 0, swapped = 0;
	uint64_t tracked = 0, untracked;

	/* A guest goes on a moment before its fault has been counted. */
	ovc_host_quiesce(host);
	ovc_control_lock(host);
	for (unsigned i = 0; i < OVC_MAX_VMS; i++) {
		struct ovc_vm *vm = host->vms[i];

		if (!vm)
			continue;
		resident += ovc_vm_resident(vm);
		tracked += atomic_load(&vm->resident) * OVC_PAGE;
		staged += atomic_load(&vm->staged);
		swapped += atomic_load(&vm->swapped);
		s->shared_bytes += atomic_load(&vm->shared) * OVC_PAGE;
		s->mapped_bytes += atomic_load(&vm->mapped) * OVC_PAGE;
		if (vm->swap)
			s->swap_memory += ovc_swap_memory(vm->swap);
	}
	s->vms = host->nr_vms;
	if (host->store)
		s->store_bytes = ovc_shared_used(host->store) * OVC_PAGE;
	s->share_mappings_limit = host->mappings_may;
	s->policy_state = ovc_govern_state(host);
	s->decisions = ovc_govern_decisions(host);
	for (unsigned i = 0; i < host->end; i++)
		s->guaranteed_bytes +=
			host->vms[i] ?
				atomic_load(&host->vms[i]->min) * OVC_PAGE :
				0;
	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i])
			add_untaken(host->vms[i], s);
	s->metadata = ovc_host_metadata(host);
	ovc_control_unlock(host);
	untracked = resident > tracked ? resident - tracked : 0;
	s->budget = atomic_load(&host->budget);
	s->budget_effective = ovc_host_budget(host);
	s->reserve = atomic_load(&host->reserve);
	s->resident = resident;
	s->staged = staged * OVC_PAGE;
	s->swapped = swapped * OVC_PAGE;
	s->buffers = host->buffers;
	s->used = ovc_host_held(host) * OVC_PAGE + untracked + s->metadata +
		  s->buffers;
	s->faults = atomic_load(&c->faults);
	s->faults_waited = atomic_load(&c->faults_waited);
	s->swap_in_bytes = atomic_load(&c->swap_in) * OVC_PAGE;
	s->swap_out_bytes = atomic_load(&c->swap_out) * OVC_PAGE;
	s->clean_bytes = atomic_load(&c->clean) * OVC_PAGE;
	s->zero_bytes = atomic_load(&c->zero) * OVC_PAGE;
	s->put_back_bytes = atomic_load(&c->put_back) * OVC_PAGE;
	s->readahead_bytes = atomic_load(&c->readahead) * OVC_PAGE;
	s->features = host->features;
	s->promised_bytes = atomic_load(&host->promised) * OVC_PAGE;
	s->tracked = atomic_load(&host->tracked);
	s->fault_threads = ovc_host_dispatched(host) ? 0 : host->nr_faulters;
	s->fault_p50_ns = ovc_hist_quantile(&host->latency, 0.5);
	s->fault_p99_ns = ovc_hist_quantile(&host->latency, 0.99);
	s->spared_bytes = atomic_load(&c->spared) * OVC_PAGE;
	s->merged_bytes = atomic_load(&c->merged) * OVC_PAGE;
	s->broken_bytes = atomic_load(&c->broken) * OVC_PAGE;
	s->share_zero_bytes = atomic_load(&c->share_zero) * OVC_PAGE;
	s->volatile_bytes = atomic_load(&c->changed) * OVC_PAGE;
	s->scanned_bytes = atomic_load(&f->scanned) * OVC_PAGE;
	s->hashed_bytes = atomic_load(&f->hashed) * OVC_PAGE;
	s->collisions = atomic_load(&f->collisions);
	s->share_passes = atomic_load(&f->passes);
	s->share_cpu_ns = atomic_load(&f->cpu_ns);
	s->share_mappings = atomic_load(&host->mappings);
	s->share_unmapped = atomic_load(&host->unmapped);
}

int ovc_host_stats(struct ovc_host *host, struct ovc_host_stats *stats)
{
	struct ovc_host_stats s = { 0 };
	int error = ovc_api_check_stats("host_stats", stats,
					LEAST(ovc_host_stats, budget));

	if (error)
		return error;
	error = ovc_api_check_host("host_stats", host);
	if (error)
		return error;
	fill_host_stats(host, &s);
	ovc_api_give(stats, &s, sizeof(s));
	return 0;
}

static int check_dispatch(const char *what, const struct ovc_host *host)
{
	int error = ovc_api_check_host(what, host);

	if (error)
		return error;
	if (!ovc_host_dispatched(host))
		return ovc_fail(-EINVAL,
				"%s: the host has threads of its own; "
				"create it with OVC_HOST_DISPATCH",
				what);
	return 0;
}

static int check_asked(const char *what, const struct ovc_host *host)
{
	int error = ovc_api_check_host(what, host);

	if (error)
		return error;
	if (!ovc_events_are_asked_for(host->events))
		return ovc_fail(-EINVAL,
				"%s: the host was created with an event "
				"function, which is told all events",
				what);
	return 0;
}

int ovc_host_event_fd(struct ovc_host *host)
{
	int error = check_asked("event_fd", host);

	return error ? error : ovc_events_fd(host->events);
}

int ovc_host_next_event(struct ovc_host *host, struct ovc_event *event)
{
	int error = check_asked("next_event", host);
	struct ovc_event e;

	if (error)
		return error;
	error = ovc_api_check_out("next_event", "event", event,
				  LEAST(ovc_event, events_lost));
	if (error)
		return error;
	if (!ovc_events_next(host, &e))
		return 0;
	ovc_api_give(event, &e, sizeof(e));
	return 1;
}

int ovc_host_fd(struct ovc_host *host)
{
	int error = check_dispatch("host_fd", host);

	return error ? error : host->epoll;
}

int ovc_host_dispatch(struct ovc_host *host)
{
	int error = check_dispatch("host_dispatch", host);

	if (!error)
		ovc_host_step(host);
	return error;
}
