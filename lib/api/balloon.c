/* SPDX-License-Identifier: MIT */
/*
 * The public calls of a balloon: check, say what is wrong with a sentence, call one thing.
 */
#include "api/args.h"

#include <errno.h>
#include <string.h>

#include "balloon/balloon.h"
#include "core/internal.h"

static int check_list(const char *what, const struct ovc_vm *vm,
		      const void *list, size_t nr)
{
	int error = ovc_api_check_vm(what, vm);

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
		ovc_api_give(result, &d, sizeof(d));
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
		ovc_api_give(result, &d, sizeof(d));
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
		ovc_api_give(result, &d, sizeof(d));
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
		ovc_api_give(result, &d, sizeof(d));
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
		ovc_api_give(result, &d, sizeof(d));
	return 0;
}

int ovc_vm_balloon_set(struct ovc_vm *vm,
		       const struct ovc_balloon_options *options)
{
	static const struct ovc_balloon_options none = { .size = sizeof(none) };
	struct ovc_balloon_options o;
	int error = ovc_api_take_options("balloon_set",
					 options ? options : &none,
					 LEAST(ovc_balloon_options, flags), &o,
					 sizeof(o));

	if (error)
		return error;
	error = ovc_api_check_vm("balloon_set", vm);
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
	int error = ovc_api_check_vm("balloon_fd", vm);

	return error ? error : ovc_balloon_fd(vm);
}

int ovc_vm_balloon_target(struct ovc_vm *vm, uint64_t *bytes)
{
	int error = ovc_api_check_vm("balloon_target", vm);

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
	int error = ovc_api_check_vm(what, vm);

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
	int error = ovc_api_check_vm("balloon_oom", vm);

	if (error)
		return error;
	if (!pages)
		return ovc_fail(-EINVAL, "balloon_oom: pages is NULL");
	if (!bytes)
		return ovc_fail(-EINVAL, "balloon_oom: bytes is 0");
	return ovc_balloon_oom(vm, bytes, pages);
}
