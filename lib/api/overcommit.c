/* SPDX-License-Identifier: MIT */
/*
 * The public calls: arguments and state are checked here, with a sentence for each
 * mistake; then one inner function is called.
 */
#include <errno.h>
#include <string.h>

#include "balloon/balloon.h"
#include "core/budget.h"
#include "core/control.h"
#include "share/domain.h"
#include "core/events.h"
#include "balancer/govern.h"
#include "life/host.h"
#include "core/internal.h"
#include "core/map.h"
#include "in/range.h"
#include "balancer/sample.h"
#include "share/share.h"
#include "store/shared.h"
#include "memory/track.h"
#include "trouble/untaken.h"

/* The first fields that any version of a struct had; those with fewer are wrong. */
#define LEAST(type, field) \
	(offsetof(struct type, field) + sizeof(((struct type *)0)->field))

const char *ovc_version(void)
{
	return OVC_VERSION;
}

/*
 * Copies options of any size. Longer ones come from a caller newer than we are: what
 * we do not know must be zero. Shorter ones are of an older caller: the rest is zero.
 */
static int take_options(const char *what, const void *from, size_t least,
			void *to, size_t len)
{
	size_t size;

	if (!from)
		return ovc_fail(-EINVAL, "%s: options is NULL", what);
	memcpy(&size, from, sizeof(size));
	if (size < least)
		return ovc_fail(-EINVAL,
				"%s: options.size is %zu; set it to "
				"sizeof the struct",
				what, size);
	for (size_t i = len; i < size; i++)
		if (((const char *)from)[i])
			return ovc_fail(-EINVAL,
					"%s: options has a field that this "
					"version of the library (%s) does not "
					"know",
					what, OVC_VERSION);
	memset(to, 0, len);
	memcpy(to, from, size < len ? size : len);
	return 0;
}

/* The same the other way round, for statistics. */
static void give(void *to, const void *from, size_t len)
{
	size_t size;

	memcpy(&size, to, sizeof(size));
	memcpy((char *)to + sizeof(size), (const char *)from + sizeof(size),
	       (size < len ? size : len) - sizeof(size));
	if (size > len)
		memset((char *)to + len, 0, size - len);
}

static int check_out(const char *what, const char *name, const void *out,
		     size_t least)
{
	size_t size;

	if (!out)
		return ovc_fail(-EINVAL, "%s: %s is NULL", what, name);
	memcpy(&size, out, sizeof(size));
	if (size < least)
		return ovc_fail(-EINVAL,
				"%s: %s.size is %zu; set it to "
				"sizeof the struct",
				what, name, size);
	return 0;
}

static int check_stats(const char *what, const void *stats, size_t least)
{
	return check_out(what, "stats", stats, least);
}

/* Every call on a host or a VM comes through one of these. In a child of fork() there
 * are none of our threads, windows and locks that anybody could count on; `here` alone
 * is made for that (MADV_WIPEONFORK): a byte that is 0 there. */
static int check_host(const char *what, const struct ovc_host *host)
{
	if (!host)
		return ovc_fail(-EINVAL, "%s: host is NULL", what);
	if (*host->here)
		return 0;
	return ovc_fail(-EPERM,
			"%s: this host was created by process %d; a fork()ed "
			"child cannot use it: create it after fork(), or "
			"exec()",
			what, host->process);
}

static int check_vm(const char *what, const struct ovc_vm *vm)
{
	return vm ? check_host(what, vm->host) :
		    ovc_fail(-EINVAL, "%s: vm is NULL", what);
}

/* ---- host -------------------------------------------------------------------------- */

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
	int error = take_options("host_create", options,
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
	int error = check_host("set_share", host);

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
	if (check_host("host_destroy", host)) {
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
	int error = check_host("set_budget", host);

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
	int error =
		check_stats("host_stats", stats, LEAST(ovc_host_stats, budget));

	if (error)
		return error;
	error = check_host("host_stats", host);
	if (error)
		return error;
	fill_host_stats(host, &s);
	give(stats, &s, sizeof(s));
	return 0;
}

static int check_dispatch(const char *what, const struct ovc_host *host)
{
	int error = check_host(what, host);

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
	int error = check_host(what, host);

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
	error = check_out("next_event", "event", event,
			  LEAST(ovc_event, events_lost));
	if (error)
		return error;
	if (!ovc_events_next(host, &e))
		return 0;
	give(event, &e, sizeof(e));
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

/* ---- VM ---------------------------------------------------------------------------- */

static int check_name(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	if (!name)
		return 0;
	if (!len || len > 63)
		return ovc_fail(-EINVAL,
				"vm_create: name has %zu characters; "
				"1 to 63 are allowed",
				len);
	if (strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			 "abcdefghijklmnopqrstuvwxyz0123456789._-") != len ||
	    !strcmp(name, ".") || !strcmp(name, ".."))
		return ovc_fail(-EINVAL,
				"vm_create: name \"%s\" has a "
				"character other than A-Z a-z 0-9 . _ "
				"- (or is . or ..)",
				name);
	return 0;
}

#define MIB ((uint64_t)1 << 20)

static int check_limit(const char *what, uint64_t limit)
{
	if (limit && limit < MIB)
		return ovc_fail(-EINVAL, "%s: limit %llu is under 1 MiB", what,
				(unsigned long long)limit);
	return 0;
}

static int check_shares(const char *what, uint32_t shares, uint64_t min,
			uint64_t limit)
{
	if (shares > 1000000)
		return ovc_fail(-EINVAL,
				"%s: shares %u are more than 1,000,000", what,
				shares);
	if (limit && min > limit)
		return ovc_fail(-EINVAL,
				"%s: min of %llu MiB is above the limit of "
				"%llu MiB",
				what, (unsigned long long)min >> 20,
				(unsigned long long)limit >> 20);
	return 0;
}

int ovc_vm_create(struct ovc_host *host, const struct ovc_vm_options *options,
		  struct ovc_vm **vmp)
{
	static const struct ovc_vm_options none = { .size = sizeof(none) };
	struct ovc_vm_options o;
	int error = take_options("vm_create", options ? options : &none,
				 LEAST(ovc_vm_options, name), &o, sizeof(o));

	if (error)
		return error;
	error = check_host("vm_create", host);
	if (error)
		return error;
	if (!vmp)
		return ovc_fail(-EINVAL, "vm_create: vmp is NULL");
	if (o.flags & ~(uint32_t)(OVC_VM_SPARSE_SWAP | OVC_VM_NO_SHARE |
				  OVC_VM_NO_ZERO_SHARE))
		return ovc_fail(-EINVAL,
				"vm_create: flags %#x has unknown "
				"bits",
				o.flags);
	if (o.swap_size % MIB)
		return ovc_fail(-EINVAL,
				"vm_create: swap_size %llu is not a "
				"multiple of 1 MiB",
				(unsigned long long)o.swap_size);
	if (o.swap && !*o.swap)
		return ovc_fail(-EINVAL, "vm_create: swap is empty; NULL is no "
					 "swap");
	if (o.domain && (!*o.domain || strlen(o.domain) > 63))
		return ovc_fail(-EINVAL,
				"vm_create: domain has %zu characters; 1 to 63 "
				"are allowed",
				strlen(o.domain));
	error = check_limit("vm_create", o.limit);
	if (!error)
		error = check_shares("vm_create", o.shares, o.min, o.limit);
	if (!error)
		error = check_name(o.name);
	return error ? error : ovc_vm_build(host, &o, vmp);
}

void ovc_vm_destroy(struct ovc_vm **vmp, uint32_t flags)
{
	if (!vmp || !*vmp)
		return;
	if (!check_vm("vm_destroy", *vmp))
		ovc_vm_unbuild(*vmp, flags & OVC_THROW_AWAY);
	*vmp = NULL;
}

int ovc_vm_set_limit(struct ovc_vm *vm, uint64_t limit)
{
	int error = check_vm("set_limit", vm);

	if (!error)
		error = check_limit("set_limit", limit);
	if (!error)
		error = check_shares("set_limit", 0,
				     atomic_load(&vm->min) * OVC_PAGE, limit);
	if (error)
		return error;
	atomic_store(&vm->limit, limit / OVC_PAGE);
	ovc_kick_always(vm->host);
	return 0;
}

int ovc_vm_set_shares(struct ovc_vm *vm, uint32_t shares, uint64_t min)
{
	int error = check_vm("set_shares", vm);

	if (!error)
		error = check_shares("set_shares", shares, min,
				     atomic_load(&vm->limit) * OVC_PAGE);
	return error ? error : ovc_vm_entitle(vm, shares, min);
}

int ovc_vm_add_region(struct ovc_vm *vm,
		      const struct ovc_region_options *options)
{
	struct ovc_region_options o;
	int error = take_options("add_region", options,
				 LEAST(ovc_region_options, len), &o, sizeof(o));

	if (error)
		return error;
	error = check_vm("add_region", vm);
	if (error)
		return error;
	if (o.memfd == -1)
		o.memfd = 0; /* what many programs have for "none" */
	return ovc_vm_add(vm, &o);
}

int ovc_vm_remove_region(struct ovc_vm *vm, void *addr, uint32_t flags)
{
	int error = check_vm("remove_region", vm);

	if (error)
		return error;
	if (flags & ~(uint32_t)OVC_THROW_AWAY)
		return ovc_fail(-EINVAL,
				"remove_region: flags %#x has unknown "
				"bits",
				flags);
	return ovc_vm_remove(vm, addr, flags & OVC_THROW_AWAY);
}

static void fill_entitlement(const struct ovc_vm *vm, struct ovc_vm_stats *s)
{
	uint64_t entitled = atomic_load(&vm->entitled);
	bool known;

	s->shares = atomic_load(&vm->shares);
	s->throttled = atomic_load(&vm->throttled);
	s->min = atomic_load(&vm->min) * OVC_PAGE;
	s->entitlement = entitled == OVC_NOT_DECIDED ? s->configured :
						       entitled * OVC_PAGE;
	s->active = ovc_sample_active(vm, &known);
}

#define TRIES 64

/* Where its pages are, of one moment: none came back meanwhile, as far as its guest
 * lets us see one. Needs control, so that none goes. */
static void fill_places(struct ovc_vm *vm, struct ovc_vm_stats *s)
{
	const struct ovc_counters *c = &vm->count;
	uint64_t before, after;

	for (unsigned i = 0; i < TRIES; i++) {
		before = atomic_load(&c->put_back) + atomic_load(&c->swap_in);
		s->staged = atomic_load(&vm->staged) * OVC_PAGE;
		s->swapped = atomic_load(&vm->swapped) * OVC_PAGE;
		s->resident = ovc_vm_resident(vm);
		after = atomic_load(&c->put_back) + atomic_load(&c->swap_in);
		if (before == after)
			break;
	}
	s->poisoned = atomic_load(&vm->poisoned) * OVC_PAGE;
	s->shared_bytes = atomic_load(&vm->shared) * OVC_PAGE;
}

static void fill_vm_stats(struct ovc_vm *vm, struct ovc_vm_stats *s)
{
	const struct ovc_counters *c = &vm->count;
	uint64_t gone, refs;

	ovc_host_quiesce(vm->host);
	ovc_control_lock(vm->host);
	s->configured = vm->configured * OVC_PAGE;
	s->regions = vm->nr_regions;
	fill_places(vm, s);
	s->tracked = vm->nr_regions > 0;
	for (unsigned i = 0; i < vm->nr_regions; i++)
		s->tracked &= atomic_load(&vm->regions[i]->tracked);
	if (vm->swap) {
		s->swap_size = ovc_swap_size(vm->swap);
		s->swap_used = ovc_swap_used(vm->swap) * OVC_PAGE;
		s->swap_memory = ovc_swap_memory(vm->swap);
	}
	fill_entitlement(vm, s);
	for (unsigned i = 0; i < OVC_UNTAKEN_NR; i++)
		s->untaken[i] = ovc_untaken_bytes(vm, i);
	s->refusals = atomic_load(&vm->refusals);
	s->refused_with = (uint32_t)atomic_load(&vm->refused_with);
	s->id = vm->id;
	refs = atomic_load(&vm->domain->refs);
	if (refs)
		s->charged_bytes =
			(uint64_t)((double)s->shared_bytes *
				   (double)vm->domain->stored / (double)refs);
	ovc_control_unlock(vm->host);
	s->pinned = atomic_load(&vm->pinned) * OVC_PAGE;
	s->limit = atomic_load(&vm->limit) * OVC_PAGE;
	gone = s->resident + s->staged + s->swapped + s->poisoned +
	       s->shared_bytes;
	s->zero = s->configured > gone ? s->configured - gone : 0;
	s->faults = atomic_load(&c->faults);
	s->swap_in_bytes = atomic_load(&c->swap_in) * OVC_PAGE;
	s->swap_out_bytes = atomic_load(&c->swap_out) * OVC_PAGE;
	s->clean_bytes = atomic_load(&c->clean) * OVC_PAGE;
	s->zero_bytes = atomic_load(&c->zero) * OVC_PAGE;
	s->put_back_bytes = atomic_load(&c->put_back) * OVC_PAGE;
	s->readahead_bytes = atomic_load(&c->readahead) * OVC_PAGE;
	s->read_errors = atomic_load(&c->read_errors);
	s->write_errors = atomic_load(&c->write_errors);
	s->mapped_bytes = atomic_load(&vm->mapped) * OVC_PAGE;
	s->spared_bytes = atomic_load(&c->spared) * OVC_PAGE;
	s->merged_bytes = atomic_load(&c->merged) * OVC_PAGE;
	s->broken_bytes = atomic_load(&c->broken) * OVC_PAGE;
	s->volatile_bytes = atomic_load(&c->changed) * OVC_PAGE;
	ovc_balloon_fill_stats(vm, s);
	s->fault_p50_ns = ovc_hist_quantile(&vm->latency, 0.5);
	s->fault_p99_ns = ovc_hist_quantile(&vm->latency, 0.99);
}

int ovc_vm_stats(struct ovc_vm *vm, struct ovc_vm_stats *stats)
{
	struct ovc_vm_stats s = { 0 };
	int error =
		check_stats("vm_stats", stats, LEAST(ovc_vm_stats, configured));

	if (error)
		return error;
	error = check_vm("vm_stats", vm);
	if (error)
		return error;
	fill_vm_stats(vm, &s);
	give(stats, &s, sizeof(s));
	return 0;
}

/* ---- balloon ------------------------------------------------------------------------- */

static int check_list(const char *what, const struct ovc_vm *vm,
		      const void *list, size_t nr)
{
	int error = check_vm(what, vm);

	if (error)
		return error;
	if (!list && nr)
		return ovc_fail(-EINVAL, "%s: the list of %zu is NULL", what,
				nr);
	return 0;
}

/* The same, and a result that may be NULL. */
static int check_result(const char *what, const struct ovc_vm *vm,
			const void *list, size_t nr, const void *result,
			size_t least)
{
	int error = check_list(what, vm, list, nr);
	size_t size;

	if (error || !result)
		return error;
	memcpy(&size, result, sizeof(size));
	if (size < least)
		return ovc_fail(-EINVAL,
				"%s: result.size is %zu; set it to sizeof the "
				"struct",
				what, size);
	return 0;
}

int ovc_vm_balloon_inflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			   struct ovc_donation *result)
{
	struct ovc_donation d = { 0 };
	int error = check_result("balloon_inflate", vm, pfns, nr, result,
				 LEAST(ovc_donation, given));

	if (error)
		return error;
	error = ovc_balloon_inflate(vm, pfns, nr, &d);
	if (result)
		give(result, &d, sizeof(d));
	return error;
}

int ovc_vm_balloon_inflate_ranges(struct ovc_vm *vm,
				  const struct ovc_range *ranges, size_t nr,
				  struct ovc_donation *result)
{
	struct ovc_donation d = { 0 };
	int error = check_result("balloon_inflate_ranges", vm, ranges, nr,
				 result, LEAST(ovc_donation, given));

	if (error)
		return error;
	error = ovc_balloon_inflate_ranges(vm, ranges, nr, &d);
	if (result)
		give(result, &d, sizeof(d));
	return error;
}

int ovc_vm_balloon_deflate_ranges(struct ovc_vm *vm,
				  const struct ovc_range *ranges, size_t nr,
				  struct ovc_deflation *result)
{
	struct ovc_deflation d = { 0 };
	int error = check_result("balloon_deflate_ranges", vm, ranges, nr,
				 result, LEAST(ovc_deflation, taken));

	if (error)
		return error;
	ovc_balloon_deflate_ranges(vm, ranges, nr, &d);
	if (result)
		give(result, &d, sizeof(d));
	return 0;
}

int ovc_vm_balloon_report(struct ovc_vm *vm, const struct ovc_range *ranges,
			  size_t nr, struct ovc_donation *result)
{
	struct ovc_donation d = { 0 };
	int error = check_result("balloon_report", vm, ranges, nr, result,
				 LEAST(ovc_donation, given));

	if (error)
		return error;
	error = ovc_balloon_report(vm, ranges, nr, &d);
	if (result)
		give(result, &d, sizeof(d));
	return error;
}

int ovc_vm_balloon_deflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			   struct ovc_deflation *result)
{
	struct ovc_deflation d = { 0 };
	int error = check_result("balloon_deflate", vm, pfns, nr, result,
				 LEAST(ovc_deflation, taken));

	if (error)
		return error;
	ovc_balloon_deflate(vm, pfns, nr, &d);
	if (result)
		give(result, &d, sizeof(d));
	return 0;
}

int ovc_vm_balloon_set(struct ovc_vm *vm,
		       const struct ovc_balloon_options *options)
{
	static const struct ovc_balloon_options none = { .size = sizeof(none) };
	struct ovc_balloon_options o;
	int error = take_options("balloon_set", options ? options : &none,
				 LEAST(ovc_balloon_options, flags), &o,
				 sizeof(o));

	if (error)
		return error;
	error = check_vm("balloon_set", vm);
	if (error)
		return error;
	if (o.flags &
	    ~(uint32_t)(OVC_BALLOON_DRIVER | OVC_BALLOON_DEFLATE_ON_OOM))
		return ovc_fail(-EINVAL,
				"balloon_set: flags %#x has unknown bits",
				o.flags);
	if (o.flags == OVC_BALLOON_DEFLATE_ON_OOM)
		return ovc_fail(-EINVAL, "balloon_set: flags has "
					 "DEFLATE_ON_OOM without DRIVER");
	if (o.cap > 90)
		return ovc_fail(-EINVAL,
				"balloon_set: cap %u is more than 90 percent",
				o.cap);
	ovc_balloon_set(vm, &o);
	return 0;
}

int ovc_vm_balloon_fd(struct ovc_vm *vm)
{
	int error = check_vm("balloon_fd", vm);

	return error ? error : ovc_balloon_fd(vm);
}

int ovc_vm_balloon_target(struct ovc_vm *vm, uint64_t *bytes)
{
	int error = check_vm("balloon_target", vm);

	if (error)
		return error;
	if (!bytes)
		return ovc_fail(-EINVAL, "balloon_target: bytes is NULL");
	*bytes = ovc_balloon_target(vm);
	return 0;
}

static int check_bytes(const char *what, const struct ovc_vm *vm,
		       uint64_t bytes)
{
	int error = check_vm(what, vm);

	if (error)
		return error;
	if (bytes % OVC_PAGE)
		return ovc_fail(-EINVAL,
				"%s: %llu bytes are no multiple of 4096", what,
				(unsigned long long)bytes);
	return 0;
}

int ovc_vm_balloon_ask(struct ovc_vm *vm, uint64_t bytes)
{
	int error = check_bytes("balloon_ask", vm, bytes);

	return error ? error : ovc_balloon_ask(vm, bytes);
}

int ovc_vm_balloon_reached(struct ovc_vm *vm, uint64_t bytes)
{
	int error = check_bytes("balloon_reached", vm, bytes);

	return error ? error : ovc_balloon_reached(vm, bytes);
}

int ovc_vm_balloon_stats(struct ovc_vm *vm,
			 const struct ovc_balloon_stat *stats, size_t nr)
{
	int error = check_list("balloon_stats", vm, stats, nr);

	return error ? error : ovc_balloon_guest_stats(vm, stats, nr);
}

int ovc_vm_balloon_oom(struct ovc_vm *vm, uint64_t bytes, uint64_t *pages)
{
	int error = check_vm("balloon_oom", vm);

	if (error)
		return error;
	if (!pages)
		return ovc_fail(-EINVAL, "balloon_oom: pages is NULL");
	if (!bytes)
		return ovc_fail(-EINVAL, "balloon_oom: bytes is 0");
	return ovc_balloon_oom(vm, bytes, pages);
}

/* ---- ranges -------------------------------------------------------------------------- */

/* Finds the region that holds a whole range. */
static int find(const char *what, struct ovc_vm *vm, const void *addr,
		size_t len, struct ovc_region **r)
{
	int error = check_vm(what, vm);
	struct ovc_host *host;
	const char *a = addr;

	if (error)
		return error;
	host = vm->host;
	ovc_control_lock(host);
	*r = ovc_map_find(atomic_load(&host->map), addr);
	ovc_control_unlock(host);
	if (!*r || (*r)->vm != vm)
		return ovc_fail(-EINVAL, "%s: addr %p is in no region of %s",
				what, addr, vm->name);
	if (len > (*r)->nr * OVC_PAGE - (size_t)(a - (*r)->base))
		return ovc_fail(
			-EINVAL,
			"%s: addr + len reaches %zu bytes "
			"past the end of the region",
			what,
			len - ((*r)->nr * OVC_PAGE - (size_t)(a - (*r)->base)));
	return 0;
}

static int find_pages(const char *what, struct ovc_vm *vm, const void *addr,
		      size_t len, struct ovc_region **r, uint64_t *idx)
{
	int error;

	if ((uintptr_t)addr % OVC_PAGE)
		return ovc_fail(-EINVAL,
				"%s: addr %p is not aligned to 4096 "
				"bytes",
				what, addr);
	if (!len || len % OVC_PAGE)
		return ovc_fail(-EINVAL,
				"%s: len %zu is not a multiple of "
				"4096 above 0",
				what, len);
	error = find(what, vm, addr, len, r);
	if (!error)
		*idx = (uint64_t)((const char *)addr - (*r)->base) / OVC_PAGE;
	return error;
}

#define RANGE_CALL(name, inner)                                         \
	int ovc_vm_##name(struct ovc_vm *vm, void *addr, size_t len)    \
	{                                                               \
		struct ovc_region *r = NULL;                            \
		uint64_t idx = 0;                                       \
		int error = find_pages(#name, vm, addr, len, &r, &idx); \
                                                                        \
		return error ? error : inner(r, idx, len / OVC_PAGE);   \
	}

RANGE_CALL(discard, ovc_range_discard)
RANGE_CALL(reclaim, ovc_reclaim_range)
RANGE_CALL(prefetch, ovc_range_prefetch)
RANGE_CALL(pin, ovc_range_pin)
RANGE_CALL(unpin, ovc_range_unpin)
RANGE_CALL(overwrite, ovc_range_overwrite)

int ovc_vm_set_sharing(struct ovc_vm *vm, void *addr, size_t len, int on)
{
	struct ovc_region *r = NULL;
	uint64_t idx = 0;
	int error = find_pages("set_sharing", vm, addr, len, &r, &idx);

	if (error)
		return error;
	if (on != 0 && on != 1)
		return ovc_fail(-EINVAL, "set_sharing: on is %d; 0 or 1", on);
	ovc_range_set_sharing(r, idx, len / OVC_PAGE, on);
	return 0;
}

int ovc_vm_advise(struct ovc_vm *vm, void *addr, size_t len, int advice)
{
	struct ovc_region *r = NULL;
	unsigned set, clear;
	uint64_t idx = 0;
	int error = find_pages("advise", vm, addr, len, &r, &idx);

	if (error)
		return error;
	if (!ovc_pages_is_advice(advice, &set, &clear))
		return ovc_fail(-EINVAL,
				"advise: advice %d is none of MADV_HUGEPAGE, "
				"NOHUGEPAGE, DONTDUMP, DODUMP, DONTFORK and "
				"DOFORK; the library does the rest itself",
				advice);
	return ovc_range_advise(r, idx, len / OVC_PAGE, advice);
}

int ovc_vm_read(struct ovc_vm *vm, const void *addr, void *buf, size_t len)
{
	struct ovc_region *r = NULL;
	int error;

	if (!buf)
		return ovc_fail(-EINVAL, "read: buf is NULL");
	error = find("read", vm, addr, len, &r);
	if (error)
		return error;
	return ovc_range_read(r, (uint64_t)((const char *)addr - r->base), buf,
			      len);
}
