/* SPDX-License-Identifier: MIT */
/*
 * The queue of staged pages, oldest first, and the window, in which frames of anonymous
 * memory lie meanwhile. All of it with host->control, but for `leftover`.
 */
#ifndef OVC_STAGING_H
#define OVC_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "segment.h"

struct ovc_host;
struct ovc_reclaim;
struct ovc_vm;

/* Takes address space for so many places, or as many as the kernel's way of moving pages
 * allows; 0 or -errno. Undone by _destroy(), also where it failed. */
int ovc_staging_create(struct ovc_host *host, uint64_t places);
void ovc_staging_destroy(struct ovc_host *host);

/* Places that the VM's next pages can have. */
uint64_t ovc_staging_room(const struct ovc_vm *vm);

/* The place that its next page gets, or OVC_NO_PLACE; and gives it to that page. */
uint64_t ovc_staging_next(struct ovc_vm *vm);
void ovc_staging_push(struct ovc_vm *vm);

/* Lets tails pass what is done, and frees the frames behind them. `settle`: what it meets
 * that is staged again is settled, for which one has to own the ring of writes. */
void ovc_staging_advance(struct ovc_reclaim *rc, bool settle);

/* Frees frames whose page was put back, when they are many. */
void ovc_staging_collect(struct ovc_reclaim *rc);

/* A VM goes, of whose regions no entry is left. */
void ovc_staging_leave(struct ovc_vm *vm);

/* Undoes what mlockall() did to the window. */
void ovc_staging_unlock(struct ovc_host *host);

#endif
