/* SPDX-License-Identifier: MIT */
/* See args.h. */
#include "api/args.h"

#include <errno.h>
#include <string.h>

#include "core/internal.h"

int ovc_api_take_options(const char *what, const void *from, size_t least,
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

void ovc_api_give(void *to, const void *from, size_t len)
{
	size_t size;

	memcpy(&size, to, sizeof(size));
	memcpy((char *)to + sizeof(size), (const char *)from + sizeof(size),
	       (size < len ? size : len) - sizeof(size));
	if (size > len)
		memset((char *)to + len, 0, size - len);
}

int ovc_api_check_out(const char *what, const char *name, const void *out,
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

int ovc_api_check_stats(const char *what, const void *stats, size_t least)
{
	return ovc_api_check_out(what, "stats", stats, least);
}

int ovc_api_check_host(const char *what, const struct ovc_host *host)
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

int ovc_api_check_vm(const char *what, const struct ovc_vm *vm)
{
	return vm ? ovc_api_check_host(what, vm->host) :
		    ovc_fail(-EINVAL, "%s: vm is NULL", what);
}
