/* SPDX-License-Identifier: MIT */
/* What the public calls share: options and figures of other sizes than ours, and
 * handles that cannot be. */
#ifndef OVC_API_ARGS_H
#define OVC_API_ARGS_H

#include "core/internal.h"

/* The first fields that any version of a struct had; those with fewer are wrong. */
#define LEAST(type, field) \
	(offsetof(struct type, field) + sizeof(((struct type *)0)->field))

/*
 * Copies options of any size. Longer ones come from a caller newer than we are: what
 * we do not know must be zero. Shorter ones are of an older caller: the rest is zero.
 */
int ovc_api_take_options(const char *what, const void *from, size_t least,
			 void *to, size_t len);

/* The same the other way round, for statistics. */
void ovc_api_give(void *to, const void *from, size_t len);

int ovc_api_check_out(const char *what, const char *name, const void *out,
		      size_t least);

int ovc_api_check_stats(const char *what, const void *stats, size_t least);

/* Every call on a host or a VM comes through one of these. In a child of fork() there
 * are none of our threads, windows and locks that anybody could count on; `here` alone
 * is made for that (MADV_WIPEONFORK): a byte that is 0 there. */
int ovc_api_check_host(const char *what, const struct ovc_host *host);

int ovc_api_check_vm(const char *what, const struct ovc_vm *vm);

#endif
