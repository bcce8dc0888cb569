/* SPDX-License-Identifier: MIT */
/*
 * What guests may write of shared pages without asking.
 */
#ifndef OVC_PROMISE_H
#define OVC_PROMISE_H

#include "core/internal.h"

#define OVC_PIECE 64 /* pages that are promised together */

/* To be called before pages of the store are mapped: the guest may write all of them.
 * False: no memory for the tables. Needs control. */
bool ovc_promise(struct ovc_region *r, uint64_t idx, uint64_t nr);

/* They were not mapped after all. Needs control. */
void ovc_promise_undo(struct ovc_region *r, uint64_t idx, uint64_t nr);

/* The same of one page whose mapping there was, around making it again. [fault] */
void ovc_promise_begin(struct ovc_region *r, uint64_t idx);
void ovc_promise_done(struct ovc_region *r, uint64_t idx);

/*
 * A guest wants to write a page that is write-protected. True: it may go on, or try
 * again; false: it must wait for memory. [fault]
 */
bool ovc_promise_write(struct ovc_region *r, uint64_t idx);

/* Takes all promises back: what guests wrote is found and charged, what they did not is
 * write-protected. Needs control. */
void ovc_promise_recall(struct ovc_host *host);

/* The same where that would make room. Needs control. */
void ovc_promise_make_room(struct ovc_host *host);

/* Looks through some of what is promised for pages that were written. Returns after
 * how many milliseconds to come again, -1: nothing is promised. Needs control. */
int ovc_promise_watch(struct ovc_host *host, uint64_t now);

/* Of a region that goes, of which nothing is mapped any more. Needs control. */
void ovc_promise_end(struct ovc_region *r);

void ovc_promise_free(struct ovc_region *r);

#endif
