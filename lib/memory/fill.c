/* SPDX-License-Identifier: MIT */
/*
 * What kinds of memory have in common: filling an absent page by copy, staged pages
 * in the ring's window, and what is left of a page that is lost. A page that is there
 * already (EEXIST) means that somebody was faster, which the page words rule out, so
 * that it is an error here, but for a memfd: see fill_cached().
 */
#include "memory/memory.h"

#include <errno.h>
#include <string.h>

#include "sys/memfd.h"

/* Not through the mapping, where a page that is lost is a signal; but a seal against writing
 * leaves no other way. */
int ovc_cached_write(struct ovc_region *r, uint64_t idx, const void *src)
{
	struct iovec iov = { (void *)(uintptr_t)src, OVC_PAGE };
	int error = ovc_memfd_write(r->memfd, r->memfd_offset + idx * OVC_PAGE,
				    &iov, 1);

	if (error != -EPERM)
		return error;
	memcpy(r->view + idx * OVC_PAGE, src, OVC_PAGE);
	return 0;
}

/* The page cache has a page of a memfd where there should be none: what was
 * punched out failed to go, or another mapping touched it. It gets our bytes. */
static int fill_cached(struct ovc_region *r, uint64_t idx, const char *src,
		       bool wp)
{
	size_t bytes;
	int error = ovc_cached_write(r, idx, src);

	if (error)
		return error;
	return ovc_uffd_continue(r->vm->host->uffd, ovc_page_addr(r, idx),
				 OVC_PAGE, wp, &bytes);
}

/* How many of nr pages are laid like the first. */
static uint64_t same_mapping(const struct ovc_region *r, uint64_t idx,
			     uint64_t nr)
{
	bool laid = ovc_is_laid(r, idx);
	uint64_t n = 1;

	if (!atomic_load(&r->promises))
		return nr;
	while (n < nr && ovc_is_laid(r, idx + n) == laid)
		n++;
	return n;
}

int ovc_memory_fill(struct ovc_region *r, uint64_t idx, const void *src,
		    uint64_t nr, bool wp, uint64_t *done)
{
	const char *from = src;
	uint64_t most = nr;
	int error = 0;

	for (*done = 0; *done < nr && !error;) {
		uint64_t n = nr - *done < most ? nr - *done : most;
		size_t bytes;

		n = same_mapping(r, idx + *done, n);
		error = ovc_uffd_copy(ovc_memory_uffd(r, idx + *done),
				      ovc_page_addr(r, idx + *done),
				      from + *done * OVC_PAGE, n * OVC_PAGE, wp,
				      &bytes);
		*done += bytes / OVC_PAGE;
		/* More than one mapping: where there is no poison, a page that
		 * was lost and mended has one of its own. */
		if (error == -ENOENT && n > 1) {
			most = 1;
			error = 0;
		}
		if (error != -EEXIST || !r->view || ovc_is_laid(r, idx + *done))
			continue;
		error = fill_cached(r, idx + *done, from + *done * OVC_PAGE,
				    wp);
		*done += !error;
	}
	return error;
}

char *ovc_private_view(struct ovc_region *r, uint64_t idx, uint64_t pos)
{
	(void)idx;
	return r->vm->host->staging.window + pos * OVC_PAGE;
}

int ovc_private_stage_bytes(struct ovc_region *r, uint64_t pos,
			    const void *bytes)
{
	struct ovc_host *host = r->vm->host;
	char *to = host->staging.window + pos * OVC_PAGE;
	size_t done;

	if (host->staging.window_registered)
		return ovc_uffd_copy(host->uffd, to, bytes, OVC_PAGE, false,
				     &done);
	return ovc_pages_copy(to, bytes, OVC_PAGE);
}

int ovc_private_put_back(struct ovc_region *r, uint64_t idx, uint64_t pos,
			 bool wp)
{
	uint64_t done;

	return ovc_memory_fill(r, idx, ovc_private_view(r, idx, pos), 1, wp,
			       &done);
}

int ovc_private_drop(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	(void)r;
	(void)idx;
	(void)nr;
	return 0;
}

int ovc_private_discard(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	return ovc_pages_dontneed(ovc_page_addr(r, idx), nr * OVC_PAGE);
}

int ovc_memory_poison(struct ovc_region *r, uint64_t idx)
{
	struct ovc_host *host = r->vm->host;
	char *addr = ovc_page_addr(r, idx);
	int error = -ENOSYS, fd = ovc_memory_uffd(r, idx);

	if (host->uffd_features.poison)
		error = ovc_uffd_poison(fd, addr, OVC_PAGE);
	/* The marker of a write protection, which a page of a file left behind,
	 * is in the way: the kernel overwrites none with poison. */
	if (error == -EEXIST && (r->view || ovc_is_laid(r, idx)) &&
	    !ovc_uffd_unprotect(fd, addr, OVC_PAGE))
		error = ovc_uffd_poison(fd, addr, OVC_PAGE);
	/* ENOENT: what is there is not ours. */
	if (error && error != -EEXIST && error != -ENOENT) {
		error = ovc_pages_forbid(addr, OVC_PAGE);
		ovc_memory_wake(r, idx, 1);
	}
	return error;
}

void ovc_memory_ask_clean(struct ovc_region *r, struct ovc_taken *t, size_t nr,
			  uint8_t mask, uint8_t want)
{
	struct ovc_host *host = r->vm->host;
	uint64_t first = t[0].idx, span = t[nr - 1].idx - first + 1;
	uint8_t bits[OVC_CHUNK];
	bool any = false, known;

	for (size_t i = 0; i < nr; i++)
		any |= t[i].clean;
	if (!any)
		return;
	known = host->uffd_features.wp_async && span <= OVC_CHUNK &&
		!ovc_pagemap_get(&host->pagemap, ovc_page_addr(r, first), span,
				 bits);
	for (size_t i = 0; i < nr; i++)
		t[i].clean &= known && (bits[t[i].idx - first] & mask) == want;
}

/* ---- what a page is, and its bytes ------------------------------------- */

#define TRIES 8

/* Without protection a marker is nothing, and what is away is still there. Somebody who
 * protects laid pages may come in between. */
static int find_out(const struct ovc_region *r, uint64_t idx, uint8_t *bits)
{
	const struct ovc_pagemap *pm = &r->vm->host->pagemap;
	char *addr = ovc_page_addr(r, idx);
	int error = 0;

	for (unsigned i = 0; !error && *bits & OVC_PAGES_UNSURE; i++) {
		if (i == TRIES)
			return -EAGAIN;
		error = ovc_uffd_unprotect(ovc_memory_uffd(r, idx), addr,
					   OVC_PAGE);
		if (!error)
			error = ovc_pagemap_get(pm, addr, 1, bits);
		if (!error)
			error = ovc_pagemap_tell(pm, addr, 1, bits);
	}
	return error;
}

int ovc_memory_look(const struct ovc_region *r, uint64_t idx, uint64_t nr,
		    uint8_t *bits)
{
	const struct ovc_pagemap *pm = &r->vm->host->pagemap;
	char *addr = ovc_page_addr(r, idx);
	int error = ovc_pagemap_get(pm, addr, nr, bits);

	if (error || !ovc_pages_unsure(bits, nr))
		return error;
	error = ovc_pagemap_tell(pm, addr, nr, bits);
	for (uint64_t i = 0; i < nr && !error; i++)
		error = find_out(r, idx + i, &bits[i]);
	return error;
}

/* What is there, is read without a fault that somebody would have to answer; what is away
 * the kernel fetches. */
int ovc_private_read(struct ovc_region *r, uint64_t idx, void *page,
		     bool *written)
{
	uint8_t bits;
	int error = ovc_memory_look(r, idx, 1, &bits);

	if (error)
		return error;
	*written = bits & OVC_PAGES_WRITTEN;
	if (ovc_pages_there(bits))
		return ovc_pages_copy(page, ovc_page_addr(r, idx), OVC_PAGE);
	memset(page, 0, OVC_PAGE);
	return 0;
}
