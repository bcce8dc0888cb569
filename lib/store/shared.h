/* SPDX-License-Identifier: MIT */
/*
 * The sharing store: pages that guests have in common, kept once, in a memfd. Each has
 * a count of the page words that name it, the hash that it is found by, and the
 * domain that it belongs to.
 *
 * Taken, written and freed by one thread at a time (the holder of host->control),
 * which is also who adds references. A reference is dropped by anyone, without a
 * lock; a page without any is freed by ovc_shared_sweep().
 */
#ifndef OVC_STORE_SHARED_H
#define OVC_STORE_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct ovc_shared;

/* Of the memfd, as /proc/self/maps shows it. */
#define OVC_STORE_NAME "overcommit-shared"

/* Room for so many pages, numbered from 1; none of it takes memory yet. 0 or -errno. */
int ovc_shared_create(uint64_t pages, struct ovc_shared **sp);
void ovc_shared_destroy(struct ovc_shared **sp);

/* Takes a contiguous run of 1 to `want` pages for a domain (above 0): returns how
 * many, 0 when full. They have no reference yet: each must get one, or be dropped
 * with ovc_shared_give_back(), before control is released. */
uint64_t ovc_shared_take(struct ovc_shared *s, uint32_t want, uint32_t domain,
			 uint64_t *first);
void ovc_shared_give_back(struct ovc_shared *s, uint64_t first, uint64_t nr);

/* Fills pages from `first` on with the bytes that iov names; any alignment. */
int ovc_shared_write(struct ovc_shared *s, uint64_t first,
		     const struct iovec *iov, size_t nr);

void ovc_shared_set_hash(struct ovc_shared *s, uint64_t page, uint64_t hash);

/* Is this a page in use, of that domain, with that hash? */
bool ovc_shared_is(const struct ovc_shared *s, uint64_t page, uint32_t domain,
		   uint64_t hash);

/* Adds references; drops one. The last one's drop leaves the page to the sweep. */
void ovc_shared_ref(struct ovc_shared *s, uint64_t page);
void ovc_shared_unref(struct ovc_shared *s, uint64_t page);
uint32_t ovc_shared_refs(const struct ovc_shared *s, uint64_t page);

/* Frees what nobody refers to, and says how many pages of which domain. Cheap where
 * there is nothing. */
void ovc_shared_sweep(struct ovc_shared *s,
		      void (*freed)(void *arg, uint32_t domain, uint64_t nr),
		      void *arg);
uint64_t ovc_shared_dead(const struct ovc_shared *s);

/* Where a page's bytes can be read; it does not change while it has references. */
const char *ovc_shared_view(const struct ovc_shared *s, uint64_t page);

/* Calls fn for each page of a domain that is in use. */
void ovc_shared_each(const struct ovc_shared *s, uint32_t domain,
		     void (*fn)(void *arg, uint64_t page, uint64_t hash),
		     void *arg);

int ovc_shared_fd(const struct ovc_shared *s);
uint64_t ovc_shared_used(const struct ovc_shared *s);	  /* pages */
uint64_t ovc_shared_metadata(const struct ovc_shared *s); /* bytes */

#endif
