/* SPDX-License-Identifier: MIT */
/*
 * No byte is in two regions.
 *
 * A region has its bytes at host addresses, at offsets of a memfd, and at guest physical
 * addresses. Where two regions have one of these in common:
 *
 *   addresses   two words would say where one page is
 *   memfd       the same, though the addresses differ: what is taken through one mapping
 *               is a hole for the other, which reads zeros. A memfd is known by device
 *               and inode; two descriptors may be of one
 *   gpa         a frame that the guest gives to its balloon would be dropped from either
 *
 * All are refused when the second is added, and nothing has changed then. The first two
 * are looked for in all VMs of the host, the last in the VM, whose own they are.
 */
#include "api/overlap.h"

#include <errno.h>

static size_t len_of(const struct ovc_region *r)
{
	return r->nr * OVC_PAGE;
}

static bool meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

static int same_addresses(const struct ovc_region_options *o,
			  const struct ovc_region *r)
{
	if (!meet((uintptr_t)o->addr, o->len, (uintptr_t)r->base, len_of(r)))
		return 0;
	return ovc_fail(-EEXIST,
			"add_region: addr %p, %zu bytes, overlaps region %p, "
			"%zu bytes, of %s",
			o->addr, o->len, (void *)r->base, len_of(r),
			r->vm->name);
}

static int same_bytes(const struct ovc_vm *vm,
		      const struct ovc_region_options *o,
		      const struct ovc_mapping *m, const struct ovc_region *r)
{
	if (r->memfd < 0 || r->inode != m->inode || r->device != m->device ||
	    !meet(o->memfd_offset, o->len, r->memfd_offset, len_of(r)))
		return 0;
	return ovc_fail(-EEXIST,
			"add_region: memfd %d, %zu bytes from offset %#llx on, "
			"for region %p of %s, overlaps what region %p of %s "
			"maps of it, %zu bytes from offset %#llx on; a page "
			"can be in one region only, through one mapping",
			o->memfd, o->len, (unsigned long long)o->memfd_offset,
			o->addr, vm->name, (void *)r->base, r->vm->name,
			len_of(r), (unsigned long long)r->memfd_offset);
}

static int same_frames(const struct ovc_vm *vm,
		       const struct ovc_region_options *o,
		       const struct ovc_region *r)
{
	if (o->gpa == OVC_GPA_NONE || r->gpa == OVC_GPA_NONE ||
	    !meet(o->gpa, o->len, r->gpa, len_of(r)))
		return 0;
	return ovc_fail(-EEXIST,
			"add_region: gpa %#llx, %zu bytes, of region %p "
			"overlaps gpa %#llx, %zu bytes, of region %p, both of "
			"%s; set gpa to where the guest has each, or to "
			"OVC_GPA_NONE where it does not matter",
			(unsigned long long)o->gpa, o->len, o->addr,
			(unsigned long long)r->gpa, len_of(r), (void *)r->base,
			vm->name);
}

int ovc_overlap_ranges(const struct ovc_vm *vm,
		       const struct ovc_region_options *o)
{
	const struct ovc_map *map = atomic_load(&vm->host->map);
	int error = 0;

	for (size_t i = 0; map && i < map->nr && !error; i++)
		error = same_addresses(o, map->regions[i]);
	for (unsigned i = 0; i < vm->nr_regions && !error; i++)
		error = same_frames(vm, o, vm->regions[i]);
	return error;
}

int ovc_overlap_bytes(const struct ovc_vm *vm,
		      const struct ovc_region_options *o,
		      const struct ovc_mapping *m)
{
	const struct ovc_map *map = atomic_load(&vm->host->map);
	int error = 0;

	for (size_t i = 0; o->memfd && map && i < map->nr && !error; i++)
		error = same_bytes(vm, o, m, map->regions[i]);
	return error;
}
