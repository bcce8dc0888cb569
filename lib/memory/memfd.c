/* SPDX-License-Identifier: MIT */
/*
 * Memory of a memfd, mapped shared.
 *
 * Staging unmaps the guest's pages; the page cache keeps the frames, and we read
 * them through a mapping of our own, the view. Many scattered pages go with one
 * flush of the TLBs (process_madvise). A put back maps the page again
 * (UFFDIO_CONTINUE); nothing is copied. A dropped page is punched out of the file.
 *
 * Clean pages: the kernel leaves a marker where it unmaps a page that was still
 * write-protected, in the same step that unmaps it. Who asks afterwards cannot miss
 * a write.
 *
 * The view must be read only while the page word makes sure that the page is
 * there: reading a hole through it would allocate a page that nobody counts.
 */
#include "memory/memory.h"

#include <errno.h>
#include <string.h>

#include "sys/memfd.h"

static char *view(struct ovc_region *r, uint64_t idx, uint64_t pos)
{
	(void)pos;
	return r->view + idx * OVC_PAGE;
}

/*
 * Not all could be unmapped: run by run, each has its own error. A page of a run that
 * failed may be unmapped all the same, though it counts as kept: its next fault is a minor
 * one, which the pager answers by mapping the page, no longer protected, and so no longer
 * clean.
 */
static void stage_each(struct ovc_taken *t, size_t nr, const struct iovec *iov)
{
	for (size_t i = 0; i < nr; iov++) {
		int error = ovc_pages_dontneed(iov->iov_base, iov->iov_len);

		for (size_t n = iov->iov_len / OVC_PAGE; n; n--, i++) {
			t[i].error = error;
			t[i].clean &= !error;
		}
	}
}

static void stage(struct ovc_region *r, struct ovc_taken *t, size_t nr)
{
	struct iovec iov[OVC_CHUNK] = { { 0 } };
	size_t runs = 0;

	for (size_t i = 0; i < nr; i++) {
		char *addr = ovc_page_addr(r, t[i].idx);

		t[i].error = 0;
		if (runs &&
		    (char *)iov[runs - 1].iov_base + iov[runs - 1].iov_len ==
			    addr)
			iov[runs - 1].iov_len += OVC_PAGE;
		else
			iov[runs++] = (struct iovec){ addr, OVC_PAGE };
	}
	if (ovc_pages_dontneed_many(r->vm->host->batch_advise, iov, runs))
		stage_each(t, nr, iov);
	/* What went is neither mapped nor away any more, and nobody maps it while it is
	 * ours: what looks like a marker is one. */
	ovc_memory_ask_clean(r, t, nr, OVC_PAGES_UNSURE, OVC_PAGES_UNSURE);
}

/*
 * Zeros where the page cache has nothing; where it has a page (another mapping of
 * the memfd made it) that page.
 */
static int zero(struct ovc_region *r, uint64_t idx, uint64_t nr, bool write)
{
	struct ovc_host *host = r->vm->host;
	char *addr = ovc_page_addr(r, idx);
	int error = 0;

	(void)write;
	while (nr && !error) {
		size_t done;

		error = ovc_uffd_zeropage(host->uffd, addr, nr * OVC_PAGE,
					  &done);
		addr += done;
		nr -= done / OVC_PAGE;
		if (error != -EEXIST)
			continue;
		error = ovc_uffd_continue(host->uffd, addr, OVC_PAGE, false,
					  &done);
		if (error == -EEXIST)
			error = ovc_uffd_wake(host->uffd, addr, OVC_PAGE);
		addr += OVC_PAGE;
		nr--;
	}
	return error;
}

static int put_back(struct ovc_region *r, uint64_t idx, uint64_t pos, bool wp)
{
	size_t done;
	int error;

	(void)pos;
	error = ovc_uffd_continue(r->vm->host->uffd, ovc_page_addr(r, idx),
				  OVC_PAGE, wp, &done);
	/* There is no page any more: the VMM punched a hole. Its guest reads zeros, as
	 * it would of anonymous memory. */
	if (error == -EFAULT)
		return zero(r, idx, 1, false);
	if (error != -EEXIST)
		return error;
	return ovc_uffd_wake(r->vm->host->uffd, ovc_page_addr(r, idx),
			     OVC_PAGE);
}

static int punch(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	return ovc_memfd_punch(r->memfd, r->memfd_offset + idx * OVC_PAGE,
			       nr * OVC_PAGE);
}

static uint64_t count_present(const uint8_t *bits, uint64_t nr)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < nr; i++)
		n += bits[i] != 0;
	return n;
}

/* All of it, or nothing? That is asked at a fraction of what it takes to seek, for whose end
 * of a hole the kernel may walk through the whole file. */
static bool is_uniform(const struct ovc_region *r, uint64_t idx, uint64_t nr,
		       uint8_t *bits, uint64_t *all)
{
	if (ovc_memfd_allocated(r->memfd, r->memfd_offset + idx * OVC_PAGE,
				nr * OVC_PAGE, all)) {
		*all = 0; /* not known */
		return false;
	}
	if (*all && *all < nr)
		return false;
	memset(bits, *all ? OVC_PAGES_PRESENT : 0, nr);
	return true;
}

/* Finds what was allocated and never touched: halves of it, as long as there is more than
 * is known. */
static void find_untouched(const struct ovc_region *r, uint64_t idx,
			   uint64_t nr, uint8_t *bits)
{
	uint64_t all;

	if (is_uniform(r, idx, nr, bits, &all) ||
	    all <= count_present(bits, nr))
		return;
	find_untouched(r, idx, nr / 2, bits);
	find_untouched(r, idx + nr / 2, nr - nr / 2, bits + nr / 2);
}

/* What the file has, mapped or not, or in the host's swap. (mincore() does not know of
 * the last.) */
static int present(const struct ovc_region *r, uint64_t idx, uint64_t nr,
		   uint8_t *bits)
{
	uint64_t from = r->memfd_offset + idx * OVC_PAGE;
	uint64_t end = from + nr * OVC_PAGE, all;

	if (is_uniform(r, idx, nr, bits, &all))
		return 0;
	memset(bits, 0, nr);
	for (uint64_t at = from, hole; at < end; at = hole) {
		at = ovc_memfd_next_data(r->memfd, at);
		if (at >= end)
			break;
		hole = ovc_memfd_next_hole(r->memfd, at);
		hole = hole < end ? hole : end;
		memset(bits + (at - from) / OVC_PAGE, OVC_PAGES_PRESENT,
		       (hole - at + OVC_PAGE - 1) / OVC_PAGE);
	}
	if (all > count_present(bits, nr))
		find_untouched(r, idx, nr, bits);
	return 0;
}

/* Not through a mapping: that would give memory to a hole. */
static int read_page(struct ovc_region *r, uint64_t idx, void *page,
		     bool *written)
{
	*written = false;
	return ovc_memfd_read(r->memfd, r->memfd_offset + idx * OVC_PAGE, page,
			      OVC_PAGE);
}

const struct ovc_memory ovc_memory_memfd = {
	.name = "memfd",
	.stage = stage,
	.view = view,
	.put_back = put_back,
	.drop = punch,
	.zero = zero,
	.discard = punch,
	.poison = ovc_memory_poison,
	.present = present,
	.read = read_page,
	.frames_in_window = false,
};
