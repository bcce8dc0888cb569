/* SPDX-License-Identifier: MIT */
/*
 * Hashes of pages: XXH3, from the library where it chooses among the vectors of the
 * CPU that it runs on (which is up to two and a half times as fast), else inline.
 */
#include "sys/hash.h"

#ifdef OVC_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

uint64_t ovc_hash_salted(const void *bytes, size_t len, uint64_t salt)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(bytes, len, salt);

	return h.low64 ^ h.high64;
}

uint64_t ovc_hash_sum(const void *bytes, size_t len)
{
	return XXH3_64bits(bytes, len);
}
