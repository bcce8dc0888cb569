/* SPDX-License-Identifier: MIT */
/*
 * A VM: its swap and its regions. All under host->control.
 *
 * The swap grows before the region that wants it is added, so that a full disk is an
 * error of the call. Each failure undoes what came before. Removal brings the memory
 * back, then takes the region out of the map, then frees it, in this order: until the
 * last page is back, fault threads must find it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/check.h"
#include "balancer/govern.h"
#include "balloon/balloon.h"
#include "core/budget.h"
#include "core/control.h"
#include "core/events.h"
#include "core/internal.h"
#include "core/map.h"
#include "core/meta.h"
#include "life/grave.h"
#include "life/host.h"
#include "life/leave.h"
#include "life/members.h"
#include "share/domain.h"
#include "trouble/disk.h"

#define MIB	   ((uint64_t)1 << 20)
#define OVC_SHARES 1000

static void set_files(struct ovc_host *host, unsigned index, int fd)
{
	for (unsigned i = 0; i < host->nr_faulters; i++)
		ovc_ring_set_file(host->fault_ring[i], index, fd);
	ovc_ring_set_file(host->write_ring, index, fd);
}

/* ---- swap -------------------------------------------------------------------------- */

/* Bytes of swap for so many pages of memory: an eighth more, so that there are
 * stretches of free slots to write to. */
static uint64_t swap_for(const struct ovc_vm *vm, uint64_t pages)
{
	uint64_t bytes = pages * OVC_PAGE;

	if (vm->swap_size)
		return vm->swap_size;
	return (bytes + bytes / 8 + 2 * MIB) & ~(MIB - 1);
}

static int swap_failed(int error, const char *path, const struct ovc_why *why)
{
	return ovc_fail(error, "vm: swap %s: %s", path,
			*why->text ? why->text : strerror(-error));
}

/* What one would not expect of the place that was given. */
static void warn_of_swap(struct ovc_vm *vm, const char *path,
			 const struct ovc_file *f)
{
	struct ovc_host *host = vm->host;
	const char *name = f->medium.name;

	if (f->medium.memory)
		ovc_log(host, OVC_LOG_WARNING,
			"%s: swap %s is memory of the host (%s): what is "
			"swapped out stays there, beyond the budget; see "
			"swap_memory in the statistics",
			vm->name, path, name);
	else if (!f->direct && !(host->without & OVC_FEATURE_DIRECT_IO))
		ovc_log(host, OVC_LOG_WARNING,
			"%s: swap %s is on %s without O_DIRECT: its pages are "
			"in the host's page cache, too",
			vm->name, path, name);
	if (f->medium.copies && !vm->sparse)
		ovc_log(host, OVC_LOG_WARNING,
			"%s: swap %s is on %s, which copies what is "
			"overwritten: it may be full when pages are written, "
			"in spite of preallocation",
			vm->name, path, name);
}

static void note_swap(struct ovc_vm *vm, const char *path)
{
	const struct ovc_file *f = ovc_swap_file(vm->swap);
	struct ovc_host *host = vm->host;

	if (!f->direct)
		host->features &= ~(uint32_t)OVC_FEATURE_DIRECT_IO;
	if (f->kind == OVC_FILE_UNNAMED && !f->tmpfile)
		host->features &= ~(uint32_t)OVC_FEATURE_TMPFILE;
	ovc_log(host, OVC_LOG_DEBUG, "%s: swap %s on %s, %s", vm->name, path,
		f->medium.name, f->direct ? "O_DIRECT" : "page cache");
	warn_of_swap(vm, path, f);
}

/* Opening may wait for a disk: without control. */
static int open_swap(struct ovc_vm *vm, const struct ovc_vm_options *o)
{
	const struct ovc_host *host = vm->host;
	const struct ovc_swap_options swap = {
		.path = o->swap,
		.size = o->swap_size,
		.sparse = vm->sparse,
		.may_direct = !(host->without & OVC_FEATURE_DIRECT_IO),
		.may_tmpfile = !(host->without & OVC_FEATURE_TMPFILE),
	};
	struct ovc_why why;
	int error;

	if (!o->swap)
		return 0;
	error = ovc_swap_create(&swap, &vm->swap, &why);
	return error ? swap_failed(error, o->swap, &why) : 0;
}

/* The same for making it bigger. Control calls come one at a time, so that nobody else
 * does it meanwhile, and the VM does not go. */
static int extend_swap(struct ovc_vm *vm, uint64_t pages)
{
	uint64_t size = swap_for(vm, pages);
	struct ovc_why why = { "" };
	int error;

	if (!vm->swap)
		return 0;
	ovc_control_unlock(vm->host);
	error = ovc_swap_extend(vm->swap, size, &why);
	ovc_control_lock(vm->host);
	if (!error)
		error = ovc_swap_grow(vm->swap, size);
	return error ? swap_failed(error, "of the VM cannot grow", &why) : 0;
}

/* ---- creation -------------------------------------------------------------------------- */

static struct ovc_vm *by_name(struct ovc_host *host, const char *name)
{
	for (unsigned i = 0; i < OVC_MAX_VMS; i++)
		if (host->vms[i] && !strcmp(host->vms[i]->name, name))
			return host->vms[i];
	return NULL;
}

static void choose_name(struct ovc_vm *vm, const char *name)
{
	struct ovc_host *host = vm->host;

	if (name) {
		snprintf(vm->name, sizeof(vm->name), "%s", name);
		return;
	}
	do {
		snprintf(vm->name, sizeof(vm->name), "vm%u", host->next_name++);
	} while (by_name(host, vm->name));
}

static int check_place(const struct ovc_vm *vm, const struct ovc_vm_options *o)
{
	struct ovc_host *host = vm->host;

	if (host->nr_vms == OVC_MAX_VMS)
		return ovc_fail(-ENOSPC,
				"vm: this host has %d VMs, which is "
				"the most",
				OVC_MAX_VMS);
	if (o->name && by_name(host, o->name))
		return ovc_fail(-EEXIST, "vm: this host has a VM named %s",
				o->name);
	return ovc_govern_admit(host, NULL, o->min, "vm");
}

/* Finds a place and a name for it, and opens its swap: control calls come one at a time,
 * so that the place is still free when the lock is taken again. */
static int build(struct ovc_vm *vm, const struct ovc_vm_options *o)
{
	struct ovc_host *host = vm->host;
	int error = check_place(vm, o);

	if (error)
		return error;
	while (vm->index < OVC_MAX_VMS && host->taken[vm->index])
		vm->index++;
	if (vm->index == OVC_MAX_VMS)
		return ovc_fail(-ENOSPC, "vm: disks of VMs that are gone do "
					 "not answer, and keep their places");
	choose_name(vm, o->name);
	error = ovc_domain_join(host, o->domain, &vm->domain);
	if (error)
		return ovc_fail(error, "vm: no domain for it: %s",
				strerror(-error));
	ovc_control_unlock(host);
	error = open_swap(vm, o);
	ovc_control_lock(host);
	if (!error && vm->swap && ovc_disk_join(vm))
		error = ovc_fail(-ENOMEM, "vm: out of memory");
	if (error)
		ovc_domain_leave(host, &vm->domain);
	else if (vm->swap)
		note_swap(vm, o->swap);
	return error;
}

int ovc_vm_build(struct ovc_host *host, const struct ovc_vm_options *o,
		 struct ovc_vm **vmp)
{
	struct ovc_vm *vm = ovc_meta_zalloc(sizeof(*vm));
	int error;

	if (!vm)
		return ovc_fail(-ENOMEM, "vm: out of memory");
	pthread_mutex_init(&vm->pinning, NULL);
	ovc_balloon_init(vm);
	vm->host = host;
	vm->swap_size = o->swap_size;
	vm->sparse = o->flags & OVC_VM_SPARSE_SWAP;
	vm->share_off = o->flags & OVC_VM_NO_SHARE;
	vm->share_zero_off = o->flags & OVC_VM_NO_ZERO_SHARE;
	atomic_store(&vm->limit, o->limit / OVC_PAGE);
	atomic_store(&vm->shares, o->shares ? o->shares : OVC_SHARES);
	atomic_store(&vm->min, o->min / OVC_PAGE);
	atomic_store(&vm->entitled, OVC_NOT_DECIDED);
	vm->goal = UINT64_MAX;
	atomic_store(&vm->confined, UINT64_MAX);
	ovc_control_lock(host);
	error = build(vm, o);
	if (!error) {
		if (vm->swap)
			set_files(host, vm->index, ovc_swap_file(vm->swap)->fd);
		host->vms[vm->index] = vm;
		host->taken[vm->index] = true;
		vm->id = ++host->next_vm_id;
		ovc_events_join(host->events, vm);
		host->nr_vms++;
		if (host->end <= vm->index)
			host->end = vm->index + 1;
		*vmp = vm;
	}
	ovc_control_unlock(host);
	if (error)
		ovc_vm_free(vm);
	return error;
}

int ovc_vm_entitle(struct ovc_vm *vm, uint32_t shares, uint64_t min)
{
	struct ovc_host *host = vm->host;
	int error;

	ovc_control_lock(host);
	error = ovc_govern_admit(host, vm, min, "set_shares");
	if (!error) {
		atomic_store(&vm->shares, shares ? shares : OVC_SHARES);
		atomic_store(&vm->min, min / OVC_PAGE);
	}
	ovc_control_unlock(host);
	return error;
}

/* ---- regions ------------------------------------------------------------------------------ */

static int add(struct ovc_vm *vm, const struct ovc_region_options *o)
{
	struct ovc_host *host = vm->host;
	struct ovc_region *r;
	int error;

	if (vm->nr_regions == OVC_MAX_REGIONS)
		return ovc_fail(-ENOSPC,
				"add_region: %s has %d regions, which "
				"is the most",
				vm->name, OVC_MAX_REGIONS);
	if (ovc_vm_make_room(vm))
		return ovc_fail(-ENOMEM, "add_region: out of memory");
	error = ovc_region_create(vm, o, &r);
	if (error)
		return error;
	error = extend_swap(vm, vm->configured + r->nr);
	if (error) {
		ovc_region_disown(r);
		ovc_region_free(r);
		return error;
	}
	ovc_vm_put_in(vm, r);
	error = ovc_host_remap(host);
	if (error) {
		ovc_vm_take_back(r);
		ovc_region_disown(r);
		ovc_region_free(r);
		return ovc_fail(error, "add_region: out of memory");
	}
	return 0;
}

int ovc_vm_add(struct ovc_vm *vm, const struct ovc_region_options *o)
{
	struct ovc_host *host = vm->host;
	int error;

	ovc_control_lock(host);
	error = add(vm, o);
	if (!error) {
		atomic_store(&host->changed, true);
		ovc_reclaim_look(host->reclaim);
	}
	ovc_control_unlock(host);
	if (!error)
		ovc_kick_always(host);
	ovc_share_kick(host);
	return error;
}

int ovc_vm_remove(struct ovc_vm *vm, const void *addr, bool throw_away)
{
	struct ovc_host *host = vm->host;
	struct ovc_region *r = NULL;
	int error;

	ovc_control_lock(host);
	for (unsigned i = 0; i < vm->nr_regions; i++)
		if (vm->regions[i]->base == addr)
			r = vm->regions[i];
	ovc_control_unlock(host);
	if (!r)
		return ovc_fail(-EINVAL,
				"remove_region: no region of %s begins at %p",
				vm->name, addr);
	error = ovc_leave(r, throw_away ? OVC_LEAVE_NONE : OVC_LEAVE_ALL);
	if (error == -EIO)
		ovc_fail(error, "remove_region: some pages could not be read "
				"back and stay poisoned");
	return error;
}

void ovc_vm_unbuild(struct ovc_vm *vm, bool throw_away)
{
	struct ovc_host *host = vm->host;
	bool now;

	ovc_events_leave(host->events, vm);
	atomic_store(&vm->ending, true);
	while (vm->nr_regions)
		ovc_leave(vm->regions[vm->nr_regions - 1],
			  throw_away ? OVC_LEAVE_NONE : OVC_LEAVE_SOME);
	ovc_control_lock(host);
	if (vm->swap) {
		set_files(host, vm->index, -1);
		/* So that no ring keeps the file, and its space. */
		ovc_wake_faulters(host);
	}
	host->vms[vm->index] = NULL;
	host->nr_vms--;
	while (host->end && !host->vms[host->end - 1])
		host->end--;
	ovc_domain_leave(host, &vm->domain);
	now = ovc_bury_vm(vm);
	ovc_control_unlock(host);
	if (now)
		ovc_bury_now(vm);
}
