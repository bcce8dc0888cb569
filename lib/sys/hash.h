/* SPDX-License-Identifier: MIT */
#ifndef OVC_SYS_HASH_H
#define OVC_SYS_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-128 with a seed, folded to 64 bits. */
uint64_t ovc_hash_salted(const void *bytes, size_t len, uint64_t salt);

/* XXH3-64, as a checksum. */
uint64_t ovc_hash_sum(const void *bytes, size_t len);

#endif
