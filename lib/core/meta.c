/* SPDX-License-Identifier: MIT */
/*
 * jemalloc, or calloc where the library was built without it.
 *
 * The arena is created with the first allocation and stays for the life of the
 * process: it is shared by all hosts, and what they free goes back to it at once
 * and from it to the kernel by jemalloc's decay. Where it cannot be created,
 * allocations fail, as they do when memory is short.
 */
#include "core/meta.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "sys/fail.h"

static _Atomic uint64_t bytes;

#ifdef HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int flags; /* 0 until the arena exists */

static void create_arena(void)
{
	unsigned arena;
	size_t size = sizeof(arena);

	if (!mallctl("arenas.create", &arena, &size, NULL, 0))
		flags = MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE |
			MALLOCX_ZERO;
}

void *ovc_meta_zalloc(size_t size)
{
	void *p = NULL;

	pthread_once(&once, create_arena);
	if (flags && !ovc_sys_fail("allocate"))
		p = mallocx(size, flags);
	if (p)
		atomic_fetch_add(&bytes, sallocx(p, 0));
	return p;
}

void ovc_meta_free(void *p)
{
	if (!p)
		return;
	atomic_fetch_sub(&bytes, sallocx(p, 0));
	dallocx(p, MALLOCX_TCACHE_NONE);
}
#else
#include <malloc.h>

void *ovc_meta_zalloc(size_t size)
{
	void *p = ovc_sys_fail("allocate") ? NULL : calloc(1, size);

	if (p)
		atomic_fetch_add(&bytes, malloc_usable_size(p));
	return p;
}

void ovc_meta_free(void *p)
{
	if (!p)
		return;
	atomic_fetch_sub(&bytes, malloc_usable_size(p));
	free(p);
}
#endif

uint64_t ovc_meta_bytes(void)
{
	return atomic_load(&bytes);
}

bool ovc_meta_is_jemalloc(void)
{
#ifdef HAVE_JEMALLOC
	return true;
#else
	return false;
#endif
}
