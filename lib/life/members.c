/* SPDX-License-Identifier: MIT */
/* What a VM consists of: its regions, in the order in which they came and by guest physical
 * address. With control. */
#include "life/members.h"

#include <errno.h>
#include <string.h>

#include "balancer/sample.h"
#include "balloon/balloon.h"
#include "core/map.h"
#include "core/meta.h"

/* Where among those by gpa a region that begins there is, or would be. */
static unsigned place_of(const struct ovc_vm *vm, uint64_t gpa)
{
	unsigned lo = 0, hi = vm->nr_regions;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (vm->by_gpa[mid]->gpa < gpa)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Room for one more: most VMs have a few regions, some hundreds. */
int ovc_vm_make_room(struct ovc_vm *vm)
{
	unsigned room = vm->room_regions ? 2 * vm->room_regions : 8;
	struct ovc_region **list, **old = vm->regions;

	if (vm->nr_regions < vm->room_regions)
		return 0;
	list = ovc_meta_zalloc(2 * room * sizeof(list[0]));
	if (!list)
		return -ENOMEM;
	for (unsigned i = 0; i < vm->nr_regions; i++) {
		list[i] = vm->regions[i];
		list[room + i] = vm->by_gpa[i];
	}
	vm->regions = list;
	vm->by_gpa = list + room;
	vm->room_regions = room;
	ovc_meta_free(old);
	return 0;
}

void ovc_vm_put_in(struct ovc_vm *vm, struct ovc_region *r)
{
	unsigned n = place_of(vm, r->gpa);

	memmove(&vm->by_gpa[n + 1], &vm->by_gpa[n],
		(vm->nr_regions - n) * sizeof(vm->by_gpa[0]));
	vm->by_gpa[n] = r;
	vm->regions[vm->nr_regions++] = r;
	vm->configured += r->nr;
}

static void take_out(struct ovc_vm *vm, unsigned n)
{
	const struct ovc_region *r = vm->regions[n];
	unsigned k = place_of(vm, r->gpa);

	while (vm->by_gpa[k] != r) /* several have none */
		k++;
	vm->configured -= r->nr;
	vm->nr_regions--;
	memmove(&vm->regions[n], &vm->regions[n + 1],
		(vm->nr_regions - n) * sizeof(vm->regions[0]));
	memmove(&vm->by_gpa[k], &vm->by_gpa[k + 1],
		(vm->nr_regions - k) * sizeof(vm->by_gpa[0]));
}

void ovc_vm_take_back(struct ovc_region *r)
{
	for (unsigned n = 0; n < r->vm->nr_regions; n++)
		if (r->vm->regions[n] == r)
			take_out(r->vm, n);
}

void ovc_vm_take_out(struct ovc_region *r)
{
	struct ovc_host *host = r->vm->host;

	ovc_vm_take_back(r);
	/* A map that cannot be made anew is mended in place. */
	if (ovc_host_remap(host))
		ovc_host_unmap(host, r);
	atomic_store(&host->changed, true);
}

void ovc_vm_free(struct ovc_vm *vm)
{
	int error = ovc_swap_destroy(&vm->swap);

	if (error)
		ovc_log(vm->host, OVC_LOG_WARNING,
			"%s: its swap could not be wiped and still has its "
			"memory: %s",
			vm->name, strerror(-error));
	ovc_balloon_end(vm);
	pthread_mutex_destroy(&vm->pinning);
	ovc_sample_end(vm);
	ovc_meta_free(vm->regions);
	ovc_meta_free(vm);
}
