/* SPDX-License-Identifier: MIT */
/*
 * The public calls of a VM and its regions: check, say what is wrong with a sentence, call one thing.
 */
#include "api/args.h"

#include <errno.h>
#include <string.h>

#include "balancer/sample.h"
#include "balloon/balloon.h"
#include "core/budget.h"
#include "core/control.h"
#include "core/internal.h"
#include "core/map.h"
#include "life/host.h"
#include "memory/track.h"
#include "share/domain.h"
#include "trouble/untaken.h"

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
	int error = ovc_api_take_options("vm_create", options ? options : &none,
					 LEAST(ovc_vm_options, name), &o,
					 sizeof(o));

	if (error)
		return error;
	error = ovc_api_check_host("vm_create", host);
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
	if (!ovc_api_check_vm("vm_destroy", *vmp))
		ovc_vm_unbuild(*vmp, flags & OVC_THROW_AWAY);
	*vmp = NULL;
}

int ovc_vm_set_limit(struct ovc_vm *vm, uint64_t limit)
{
	int error = ovc_api_check_vm("set_limit", vm);

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
	int error = ovc_api_check_vm("set_shares", vm);

	if (!error)
		error = check_shares("set_shares", shares, min,
				     atomic_load(&vm->limit) * OVC_PAGE);
	return error ? error : ovc_vm_entitle(vm, shares, min);
}

int ovc_vm_add_region(struct ovc_vm *vm,
		      const struct ovc_region_options *options)
{
	struct ovc_region_options o;
	int error = ovc_api_take_options("add_region", options,
					 LEAST(ovc_region_options, len), &o,
					 sizeof(o));

	if (error)
		return error;
	error = ovc_api_check_vm("add_region", vm);
	if (error)
		return error;
	if (o.memfd == -1)
		o.memfd = 0; /* what many programs have for "none" */
	return ovc_vm_add(vm, &o);
}

int ovc_vm_remove_region(struct ovc_vm *vm, void *addr, uint32_t flags)
{
	int error = ovc_api_check_vm("remove_region", vm);

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
	int error = ovc_api_check_stats("vm_stats", stats,
					LEAST(ovc_vm_stats, configured));

	if (error)
		return error;
	error = ovc_api_check_vm("vm_stats", vm);
	if (error)
		return error;
	fill_vm_stats(vm, &s);
	ovc_api_give(stats, &s, sizeof(s));
	return 0;
}
