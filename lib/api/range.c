/* SPDX-License-Identifier: MIT */
/*
 * The public calls of ranges of memory: check, say what is wrong with a sentence, call one thing.
 */
#include "api/args.h"

#include <errno.h>
#include <string.h>

#include "core/control.h"
#include "core/internal.h"
#include "core/map.h"
#include "in/range.h"

/* Finds the region that holds a whole range. */
static int find(const char *what, struct ovc_vm *vm, const void *addr,
		size_t len, struct ovc_region **r)
{
	int error = ovc_api_check_vm(what, vm);
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
