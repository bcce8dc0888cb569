/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of pages. PAGEMAP_SCAN came with Linux 6.7 and is declared here by
 * number; before it /proc/self/pagemap is read, which is several times slower.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sys/fail.h"
#include "sys/pages.h"

#define PAGE ((size_t)4096)

#ifndef PAGEMAP_SCAN
#define PAGE_IS_WPALLOWED   (1 << 0)
#define PAGE_IS_WRITTEN	    (1 << 1)
#define PAGE_IS_FILE	    (1 << 2)
#define PAGE_IS_PRESENT	    (1 << 3)
#define PAGE_IS_SWAPPED	    (1 << 4)
#define PAGE_IS_PFNZERO	    (1 << 5)
#define PAGE_IS_HUGE	    (1 << 6)
#define PM_SCAN_WP_MATCHING (1 << 0)
struct page_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};
struct pm_scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif

static int scan(const struct ovc_pagemap *pm, uintptr_t start, uintptr_t end,
		struct page_region *vec, size_t nr, uint64_t *walk_end)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)vec,
		.vec_len = nr,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT |
			       PAGE_IS_SWAPPED | PAGE_IS_FILE | PAGE_IS_PFNZERO,
	};
	int got = ovc_sys_fail("PAGEMAP_SCAN");

	if (got)
		return got;
	got = ioctl(pm->fd, PAGEMAP_SCAN, &arg);
	*walk_end = arg.walk_end;
	return got < 0 ? -errno : got;
}

int ovc_pagemap_open(struct ovc_pagemap *pm, bool may_scan)
{
	struct page_region one;
	uint64_t end;
	uintptr_t here = (uintptr_t)&one & ~(uintptr_t)(PAGE - 1);
	int error = ovc_sys_fail("open pagemap");

	if (error)
		return error;
	pm->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pm->fd < 0)
		return -errno;
	pm->scan = may_scan && scan(pm, here, here + PAGE, &one, 1, &end) >= 0;
	return 0;
}

void ovc_pagemap_close(struct ovc_pagemap *pm)
{
	if (pm->fd >= 0)
		close(pm->fd);
	pm->fd = -1;
}

static uint8_t bits_of(uint64_t categories)
{
	bool written = categories & PAGE_IS_WRITTEN;
	bool file = categories & PAGE_IS_FILE;
	uint8_t bits = OVC_PAGES_PRESENT;

	/* No marker is WRITTEN, or of a file. */
	if (!(categories & PAGE_IS_PRESENT))
		bits = written || file ? OVC_PAGES_AWAY : OVC_PAGES_UNSURE;
	bits |= file ? OVC_PAGES_FILE : 0;
	bits |= categories & PAGE_IS_PFNZERO ? OVC_PAGES_ZERO : 0;
	return bits | (written ? OVC_PAGES_WRITTEN : 0);
}

static int get_by_scan(const struct ovc_pagemap *pm, uintptr_t start, size_t nr,
		       uint8_t *bits)
{
	uintptr_t at = start, end = start + nr * PAGE;
	struct page_region vec[64];

	while (at < end) {
		uint64_t walk_end = 0;
		int got = scan(pm, at, end, vec, 64, &walk_end);

		if (got < 0)
			return got;
		for (int i = 0; i < got; i++)
			memset(bits + (vec[i].start - start) / PAGE,
			       bits_of(vec[i].categories),
			       (vec[i].end - vec[i].start) / PAGE);
		if (walk_end <= at)
			return -EIO;
		at = walk_end;
	}
	return 0;
}

#define ENTRY_PRESENT	((uint64_t)1 << 63)
#define ENTRY_SWAPPED	((uint64_t)1 << 62)
#define ENTRY_FILE	((uint64_t)1 << 61)
#define ENTRY_PROTECTED ((uint64_t)1 << 57)
#define ENTRY_SHOWN	(((uint64_t)1 << 55) - 1) /* all 0 where hidden */
#define ENTRY_TYPE	31
#define TYPE_MARKER	31

/* What a swap entry with protection is. Its place is never 0. */
static uint8_t bits_of_protected(uint64_t entry)
{
	if (entry & ENTRY_FILE)
		return OVC_PAGES_AWAY | OVC_PAGES_FILE;
	if (!(entry & ENTRY_SHOWN))
		return OVC_PAGES_UNSURE;
	return (entry & ENTRY_TYPE) == TYPE_MARKER ? OVC_PAGES_MARKED :
						     OVC_PAGES_AWAY;
}

static uint8_t bits_of_entry(uint64_t entry)
{
	uint8_t bits;

	if (!(entry & (ENTRY_PRESENT | ENTRY_SWAPPED)))
		return 0;
	if (!(entry & ENTRY_PRESENT) && entry & ENTRY_PROTECTED)
		return bits_of_protected(entry);
	bits = entry & ENTRY_PRESENT ? OVC_PAGES_PRESENT : OVC_PAGES_AWAY;
	bits |= entry & ENTRY_FILE ? OVC_PAGES_FILE : 0;
	return bits | (entry & ENTRY_PROTECTED ? 0 : OVC_PAGES_WRITTEN);
}

static int read_entries(const struct ovc_pagemap *pm, uintptr_t addr,
			uint64_t *entry, size_t nr)
{
	off_t at = (off_t)(addr / PAGE * sizeof(*entry));
	ssize_t got = ovc_sys_fail("pread pagemap");

	if (got)
		return (int)got;
	got = pread(pm->fd, entry, nr * sizeof(*entry), at);
	if (got == (ssize_t)(nr * sizeof(*entry)))
		return 0;
	return got < 0 ? -errno : -EIO;
}

/* Only a scan's word is taken for what was not WRITTEN. */
static int get_by_reading(const struct ovc_pagemap *pm, uintptr_t start,
			  size_t nr, uint8_t *bits)
{
	uint64_t entry[256];

	for (size_t i = 0; i < nr;) {
		size_t step = nr - i < 256 ? nr - i : 256;
		int error = read_entries(pm, start + i * PAGE, entry, step);

		if (error)
			return error;
		for (size_t k = 0; k < step; k++) {
			bits[i + k] = bits_of_entry(entry[k]);
			if (ovc_pages_there(bits[i + k]))
				bits[i + k] |= OVC_PAGES_WRITTEN;
		}
		i += step;
	}
	return 0;
}

bool ovc_pages_unsure(const uint8_t *bits, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (bits[i] & OVC_PAGES_UNSURE)
			return true;
	return false;
}

int ovc_pagemap_tell(const struct ovc_pagemap *pm, const void *addr, size_t nr,
		     uint8_t *bits)
{
	for (size_t i = 0; i < nr; i++) {
		uint64_t entry;
		int error;

		if (!(bits[i] & OVC_PAGES_UNSURE))
			continue;
		error = read_entries(pm, (uintptr_t)addr + i * PAGE, &entry, 1);
		if (error)
			return error;
		bits[i] = bits_of_entry(entry);
	}
	return 0;
}

/* Only the scan knows zero pages, only the entries what is in swap. */
int ovc_pagemap_in_memory(const struct ovc_pagemap *pm, const void *addr,
			  size_t nr, uint8_t *bits)
{
	int error = ovc_pagemap_get(pm, addr, nr, bits);
	uint64_t entry[256];

	for (size_t i = 0, n; i < nr && !error; i += n) {
		n = nr - i < 256 ? nr - i : 256;
		error = read_entries(pm, (uintptr_t)addr + i * PAGE, entry, n);
		for (size_t k = 0; k < n && !error; k++)
			bits[i + k] = entry[k] >> 63 &&
				      !(bits[i + k] & OVC_PAGES_ZERO);
	}
	return error;
}

bool ovc_pages_is_alone(const struct ovc_pagemap *pm, const void *addr)
{
	uint64_t entry;

	if (read_entries(pm, (uintptr_t)addr, &entry, 1))
		return true;
	return !(entry >> 63) || entry >> 56 & 1;
}

int ovc_pagemap_get(const struct ovc_pagemap *pm, const void *addr, size_t nr,
		    uint8_t *bits)
{
	memset(bits, 0, nr);
	if (pm->scan)
		return get_by_scan(pm, (uintptr_t)addr, nr, bits);
	return get_by_reading(pm, (uintptr_t)addr, nr, bits);
}

size_t ovc_pagemap_present(const struct ovc_pagemap *pm, const void *addr,
			   size_t nr)
{
	struct page_region one;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + nr * PAGE,
		.vec = (uintptr_t)&one,
		.vec_len = 1,
		.category_mask = PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_PRESENT,
	};
	uint64_t entry;
	size_t n = 0;

	if (!pm->scan) {
		while (n < nr &&
		       !read_entries(pm, arg.start + n * PAGE, &entry, 1) &&
		       entry & ENTRY_PRESENT)
			n++;
		return n;
	}
	if (ovc_sys_fail("PAGEMAP_SCAN present") ||
	    ioctl(pm->fd, PAGEMAP_SCAN, &arg) != 1 || one.start != arg.start)
		return 0;
	return (one.end - one.start) / PAGE;
}

/* One page is enough to ask about: it has the category of what maps it. */
bool ovc_pages_is_huge(const struct ovc_pagemap *pm, const void *addr)
{
	struct page_region one;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + PAGE,
		.vec = (uintptr_t)&one,
		.vec_len = 1,
		.category_mask = PAGE_IS_HUGE,
		.return_mask = PAGE_IS_HUGE,
	};

	return pm->scan && !ovc_sys_fail("PAGEMAP_SCAN huge") &&
	       ioctl(pm->fd, PAGEMAP_SCAN, &arg) == 1;
}

/* With a place for what it finds: without one the kernel asks for no category, and
 * leaves markers where no page is. */
int ovc_pagemap_protect(const struct ovc_pagemap *pm, const void *addr,
			size_t nr)
{
	struct page_region vec[64];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_WP_MATCHING,
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + nr * PAGE,
		.vec = (uintptr_t)vec,
		.vec_len = 64,
		.category_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_WRITTEN,
	};

	while (arg.start < arg.end) {
		int error = ovc_sys_fail("PAGEMAP_SCAN protect");

		if (error)
			return error;
		if (ioctl(pm->fd, PAGEMAP_SCAN, &arg) < 0)
			return -errno;
		if (arg.walk_end <= arg.start)
			return -EIO;
		arg.start = arg.walk_end;
	}
	return 0;
}
