/* SPDX-License-Identifier: MIT */
/* Dispatch mode: see dispatch.c. */
#ifndef OVC_DISPATCH_H
#define OVC_DISPATCH_H

#include "core/internal.h"

/* Makes the descriptor that is to be polled; the calling thread owns the rings. 0 or
 * -errno. */
int ovc_dispatch_create(struct ovc_host *host);

/* The calling thread owns the rings from now on. */
void ovc_dispatch_take_over(struct ovc_host *host);

#endif
