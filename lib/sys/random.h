/* SPDX-License-Identifier: MIT */
/* The kernel's random numbers. */
#ifndef OVC_SYS_RANDOM_H
#define OVC_SYS_RANDOM_H

#include <stddef.h>

int ovc_random(void *to, size_t len); /* up to 256 bytes; 0 or -errno */

#endif
