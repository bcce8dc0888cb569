/* SPDX-License-Identifier: MIT */
/*
 * The library's own memory, in a jemalloc arena of its own, so that the embedding
 * program's allocator is left alone and the size of ours is known. Tables that are
 * mostly untouched (one word for each page of a region) are mapped directly and
 * counted as they are touched. [any] thread; never called on the fault path.
 */
#ifndef OVC_META_H
#define OVC_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed memory, or NULL. */
void *ovc_meta_zalloc(size_t size);
void ovc_meta_free(void *p);

/* Bytes allocated by ovc_meta_zalloc() in the process, as the allocator rounds
 * them. */
uint64_t ovc_meta_bytes(void);

bool ovc_meta_is_jemalloc(void);

#endif
