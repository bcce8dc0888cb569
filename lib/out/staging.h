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

#include "core/internal.h"

/* Takes address space for so many places, or as many as the kernel's way of moving pages
 * allows; 0 or -errno. Undone by _destroy(), also where it failed. */
int ovc_staging_create(struct ovc_host *host, uint64_t places);
void ovc_staging_destroy(struct ovc_host *host);

/* Places that the VM's next pages can have. */
uint64_t ovc_staging_room(const struct ovc_vm *vm);

/* The place that its next page gets, or OVC_NO_PLACE; and gives it to that page. */
uint64_t ovc_staging_next(struct ovc_vm *vm);
void ovc_staging_push(struct ovc_vm *vm);

/* Lets tails pass what is done, and frees the frames behind them. */
void ovc_staging_advance(struct ovc_host *host);

/* Frees frames whose page was put back, when they are many. */
void ovc_staging_collect(struct ovc_host *host);

/* A VM goes, of whose regions no entry is left. */
void ovc_staging_leave(const struct ovc_vm *vm);

/* A slot that the entry still has is of no more use. */
void ovc_entry_free_slot(struct ovc_entry *e);

/* Does a page word name a ring position? */
bool ovc_entry_named(uint64_t w, uint64_t pos);

/* It names no page any more. */
static inline void ovc_entry_clear(struct ovc_entry *e)
{
	e->region->entries--;
	e->region = NULL;
}

/* Nobody names the entry any more: its slot, if it still has one, is free. */
void ovc_entry_finish(struct ovc_entry *e);

/* Undoes what mlockall() did to the window. */
void ovc_staging_unlock(struct ovc_host *host);

#endif
