/* SPDX-License-Identifier: MIT */
/*
 * The one file that speaks to mmap, madvise and /proc/self for memory.
 *
 * PAGEMAP_SCAN came with Linux 6.7 and is declared here by number; before it
 * /proc/self/pagemap is read, which is several times slower. On failure nothing is
 * changed but by ovc_pages_dontneed_many(), which may have done a part: to drop a
 * page twice does no harm.
 */
#include "sys/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sys/fail.h"

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

/*
 * What we map is never locked. A process that called mlockall(MCL_FUTURE) gets each new
 * mapping locked, with all of its memory at once; but not where it may not touch it, so
 * that there is time to unlock it.
 */
void *ovc_pages_map(void *at, size_t len, int flags, int fd, uint64_t offset)
{
	void *p = mmap(at, len, PROT_NONE, flags, fd, (off_t)offset);

	if (p == MAP_FAILED)
		return NULL;
	munlock(p, len);
	if (!mprotect(p, len, PROT_READ | PROT_WRITE))
		return p;
	if (!at) {
		int error = errno;

		munmap(p, len);
		errno = error;
	}
	return NULL;
}

static int map_empty(void *at, size_t len, int flags, void **addr)
{
	int error = ovc_sys_fail("mmap");
	void *p;

	if (error)
		return error;
	p = ovc_pages_map(at, len,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags,
			  -1, 0);
	if (!p)
		return -errno;
	/* Huge pages would make what is touched, and so counted, more. What guests
	 * have is not for a core dump, nor are tables that are mostly empty. */
	madvise(p, len, MADV_NOHUGEPAGE);
	madvise(p, len, MADV_DONTFORK);
	madvise(p, len, MADV_UNMERGEABLE);
	madvise(p, len, MADV_DONTDUMP);
	*addr = p;
	return 0;
}

int ovc_pages_reserve(size_t len, void **addr)
{
	return map_empty(NULL, len, 0, addr);
}

int ovc_pages_make_wiped(void **page)
{
	int error = ovc_sys_fail("mmap");
	void *p;

	if (error)
		return error;
	p = ovc_pages_map(NULL, PAGE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!p)
		return -errno;
	error = ovc_sys_fail("madvise");
	if (!error && madvise(p, PAGE, MADV_WIPEONFORK))
		error = -errno;
	if (error)
		munmap(p, PAGE);
	else
		*page = p;
	return error;
}

void ovc_pages_release(const volatile void *addr, size_t len)
{
	if (addr)
		munmap((void *)(uintptr_t)addr, len);
}

int ovc_pages_refresh(void *addr, size_t len)
{
	return map_empty(addr, len, MAP_FIXED, &addr);
}

int ovc_pages_make(size_t len, unsigned traits, void **addr)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	int error = ovc_sys_fail("mmap");
	void *p;

	if (error)
		return error;
	if (traits & OVC_MAP_NORESERVE)
		flags |= MAP_NORESERVE;
	p = ovc_pages_map(NULL, len, flags, -1, 0);
	if (!p)
		return -errno;
	error = ovc_pages_advise(p, len, traits | OVC_MAP_DONTFORK);
	madvise(p, len, MADV_UNMERGEABLE);
	if (error)
		munmap(p, len);
	else
		*addr = p;
	return error;
}

int ovc_pages_advise(void *addr, size_t len, unsigned traits)
{
	static const struct {
		unsigned trait;
		int advice;
	} all[] = {
		{ OVC_MAP_HUGE, MADV_HUGEPAGE },
		{ OVC_MAP_NOHUGE, MADV_NOHUGEPAGE },
		{ OVC_MAP_DONTDUMP, MADV_DONTDUMP },
		{ OVC_MAP_DONTFORK, MADV_DONTFORK },
	};
	int error = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]) && !error; i++)
		if (traits & all[i].trait)
			error = ovc_sys_fail("madvise traits");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]) && !error; i++)
		if (traits & all[i].trait && madvise(addr, len, all[i].advice))
			error = -errno;
	return error;
}

int ovc_pages_move_over(void *from, void *to, size_t len)
{
	int error = ovc_sys_fail("mremap");

	if (error)
		return error;
	return mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
			       MAP_FAILED ?
		       -errno :
		       0;
}

int ovc_pages_dontneed(void *addr, size_t len)
{
	int error = ovc_sys_fail("madvise");

	if (error)
		return error;
	return madvise(addr, len, MADV_DONTNEED) ? -errno : 0;
}

#ifndef PIDFD_SELF
#define PIDFD_SELF -10000
#endif

static ssize_t advise_self(const struct iovec *iov, size_t nr, int advice)
{
	return syscall(SYS_process_madvise, PIDFD_SELF, iov, nr, advice, 0);
}

bool ovc_pages_can_batch(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov = { p, PAGE };
	bool can;

	if (p == MAP_FAILED)
		return false;
	can = !ovc_sys_fail("process_madvise") &&
	      advise_self(&iov, 1, MADV_DONTNEED) == (ssize_t)PAGE;
	munmap(p, PAGE);
	return can;
}

static int advise_each(const struct iovec *iov, size_t nr, int advice)
{
	for (size_t i = 0; i < nr; i++)
		if (madvise(iov[i].iov_base, iov[i].iov_len, advice))
			return -errno;
	return 0;
}

/* What the kernel did not get to is done range by range. */
static int advise_many(bool batch, const struct iovec *iov, size_t nr,
		       int advice)
{
	int error = nr ? ovc_sys_fail("process_madvise") : 0;

	if (error)
		return error;
	while (batch && nr > 1) {
		size_t step = nr < 512 ? nr : 512, want = 0;

		for (size_t i = 0; i < step; i++)
			want += iov[i].iov_len;
		if (advise_self(iov, step, advice) != (ssize_t)want)
			break;
		iov += step;
		nr -= step;
	}
	return advise_each(iov, nr, advice);
}

int ovc_pages_dontneed_many(bool batch, const struct iovec *iov, size_t nr)
{
	return advise_many(batch, iov, nr, MADV_DONTNEED);
}

int ovc_pages_remove_many(const struct iovec *iov, size_t nr)
{
	return advise_many(true, iov, nr, MADV_REMOVE);
}

int ovc_pages_move_away(void *from, void *to, size_t len)
{
	int error = ovc_sys_fail("mremap");
	void *p;

	if (error)
		return error;
	p = mremap(from, len, len,
		   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
	return p == MAP_FAILED ? -errno : 0;
}

int ovc_pages_forbid(void *addr, size_t len)
{
	void *p = mmap(addr, len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		       -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#ifndef MADV_COLD
#define MADV_COLD 20
#endif

void ovc_pages_cold(void *addr, size_t len)
{
	if (!ovc_sys_fail("madvise cold"))
		madvise(addr, len, MADV_COLD);
}

int ovc_pages_map_in(void *addr, size_t len)
{
	int error = ovc_sys_fail("madvise populate");

	if (error)
		return error;
	return madvise(addr, len, MADV_POPULATE_READ) ? -errno : 0;
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int ovc_pages_populate(void *addr, size_t len)
{
	int error = ovc_sys_fail("madvise populate");

	if (error)
		return error;
	return madvise(addr, len, MADV_POPULATE_WRITE) ? -errno : 0;
}

int ovc_pages_unmerge(void *addr, size_t len)
{
	/* A kernel without KSM says EINVAL: it has merged nothing. */
	if (!madvise(addr, len, MADV_UNMERGEABLE) || errno == EINVAL)
		return 0;
	return -errno;
}

bool ovc_pages_are_locked(void *addr)
{
	/* Advice that does no harm, and that locked memory does not take. */
	return madvise(addr, PAGE, MADV_COLD) && errno == EINVAL;
}

void ovc_pages_unlock(void *addr, size_t len)
{
	munlock(addr, len);
}

static const struct {
	int advice;
	unsigned set, clear;
} advices[] = {
	{ MADV_HUGEPAGE, OVC_MAP_HUGE, OVC_MAP_NOHUGE },
	{ MADV_NOHUGEPAGE, OVC_MAP_NOHUGE, OVC_MAP_HUGE },
	{ MADV_DONTDUMP, OVC_MAP_DONTDUMP, 0 },
	{ MADV_DODUMP, 0, OVC_MAP_DONTDUMP },
	{ MADV_DONTFORK, OVC_MAP_DONTFORK, 0 },
	{ MADV_DOFORK, 0, OVC_MAP_DONTFORK },
};

bool ovc_pages_is_advice(int advice, unsigned *set, unsigned *clear)
{
	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
		if (advices[i].advice != advice)
			continue;
		*set = advices[i].set;
		*clear = advices[i].clear;
		return true;
	}
	return false;
}

int ovc_pages_advise_as(void *addr, size_t len, int advice)
{
	int error = ovc_sys_fail("madvise as");

	/* No child gets guest memory while it is ours. */
	if (error || advice == MADV_DOFORK)
		return error;
	return madvise(addr, len, advice) ? -errno : 0;
}

int ovc_pages_dontfork(void *addr, size_t len, bool on)
{
	return madvise(addr, len, on ? MADV_DONTFORK : MADV_DOFORK) ? -errno :
								      0;
}

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

/* The source is the side that the kernel reads as it reads a write()'s: a page that is lost
 * is an error there, also when this read is what finds out (x86). */
int ovc_pages_copy(void *to, const void *from, size_t len)
{
	int error = ovc_sys_fail("process_vm_writev");

	while (!error && len) {
		struct iovec src = { (void *)(uintptr_t)from, len };
		struct iovec dst = { to, len };
		ssize_t got = process_vm_writev(getpid(), &src, 1, &dst, 1, 0);

		if (got < 0 && (errno == ENOSYS || errno == EPERM)) {
			memcpy(to, from, len);
			return 0;
		}
		if (got <= 0)
			return got ? -errno : -EFAULT;
		to = (char *)to + got;
		from = (const char *)from + got;
		len -= (size_t)got;
	}
	return error;
}

/* One mapping of /proc/self/smaps, as far as it matters here. */
struct area {
	unsigned long long start, end, offset, inode;
	unsigned major, minor;
	char perms[8];
};

static void add_area(struct ovc_mapping *m, const struct area *a,
		     unsigned long long at, unsigned long long begin)
{
	unsigned long long offset = a->offset + (at - a->start);

	if (at == begin) {
		m->inode = a->inode;
		m->device = makedev(a->major, a->minor);
		m->offset = offset;
		m->readable = m->writable = m->straight = true;
	}
	m->readable &= a->perms[0] == 'r';
	m->writable &= a->perms[1] == 'w';
	m->exec |= a->perms[2] == 'x';
	m->shared |= a->perms[3] == 's';
	m->private |= a->perms[3] == 'p';
	m->file |= a->inode != 0;
	m->straight &= a->inode == m->inode &&
		       makedev(a->major, a->minor) == m->device &&
		       offset - m->offset == at - begin;
}

static unsigned traits_of(const char *line)
{
	return (strstr(line, " nr") ? OVC_MAP_NORESERVE : 0) |
	       (strstr(line, " hg") ? OVC_MAP_HUGE : 0) |
	       (strstr(line, " nh") ? OVC_MAP_NOHUGE : 0) |
	       (strstr(line, " dd") ? OVC_MAP_DONTDUMP : 0) |
	       (strstr(line, " dc") ? OVC_MAP_DONTFORK : 0);
}

static void add_traits(struct ovc_mapping *m, unsigned traits)
{
	if (m->some && (m->traits & OVC_MAP_ALL) != traits)
		m->traits |= OVC_MAP_MIXED;
	m->traits |= traits;
	m->some = true;
}

struct mapping_search {
	struct ovc_mapping *m;
	struct area a;
	unsigned long long begin, at, end;
	bool inside;
};

static bool look_at_line(const char *line, void *arg)
{
	struct mapping_search *s = arg;
	struct area *a = &s->a;

	if (sscanf(line, "%llx-%llx %7s %llx %x:%x %llu", &a->start, &a->end,
		   a->perms, &a->offset, &a->major, &a->minor,
		   &a->inode) == 7) {
		s->inside = a->start <= s->at && s->at < a->end &&
			    s->at < s->end;
		if (s->inside) {
			add_area(s->m, a, s->at, s->begin);
			s->at = a->end;
		}
		return a->start < s->end;
	}
	if (s->inside && !strncmp(line, "VmFlags:", 8)) {
		s->m->hugetlb |= strstr(line, " ht") != NULL;
		s->m->locked |= strstr(line, " lo") != NULL;
		add_traits(s->m, traits_of(line));
	}
	return true;
}

/*
 * smaps and not maps, for only it has the VmFlags line, whose "ht" is the one
 * sure sign of hugetlb.
 */
int ovc_pages_mapping(const struct ovc_proc *proc, const void *addr, size_t len,
		      struct ovc_mapping *m)
{
	struct mapping_search s = {
		.m = m,
		.begin = (uintptr_t)addr,
		.at = (uintptr_t)addr,
		.end = (uintptr_t)addr + len,
	};
	int error;

	memset(m, 0, sizeof(*m));
	error = ovc_proc_lines(proc->smaps, "read smaps", look_at_line, &s);
	m->mapped = s.at >= s.end;
	return error;
}

struct traits_search {
	unsigned long long from, to, begin, end;
	void (*fn)(void *arg, const void *end, unsigned traits);
	void *arg;
};

static bool look_at_traits(const char *line, void *arg)
{
	struct traits_search *s = arg;
	unsigned long long from, to;

	if (sscanf(line, "%llx-%llx ", &from, &to) == 2) {
		s->from = from;
		s->to = to;
		return from < s->end;
	}
	if (s->to > s->begin && !strncmp(line, "VmFlags:", 8))
		s->fn(s->arg,
		      (const void *)(uintptr_t)(s->to < s->end ? s->to :
								 s->end),
		      traits_of(line));
	return true;
}

int ovc_pages_traits(const struct ovc_proc *proc, const void *addr, size_t len,
		     void (*fn)(void *arg, const void *end, unsigned traits),
		     void *arg)
{
	struct traits_search s = { .begin = (uintptr_t)addr,
				   .end = (uintptr_t)addr + len,
				   .fn = fn,
				   .arg = arg };

	return ovc_proc_lines(proc->smaps, "read smaps", look_at_traits, &s);
}

struct piece_search {
	uintptr_t begin, end;
	void (*fn)(void *arg, char *from, size_t len);
	void *arg;
};

static bool look_at_piece(const char *line, void *arg)
{
	const struct piece_search *s = arg;
	unsigned long from, to;

	if (sscanf(line, "%lx-%lx", &from, &to) != 2)
		return true;
	from = from > s->begin ? from : s->begin;
	to = to < s->end ? to : s->end;
	if (from < to)
		s->fn(s->arg, (char *)from, to - from);
	return true;
}

int ovc_pages_each_mapping(const struct ovc_proc *proc, const void *addr,
			   size_t len,
			   void (*fn)(void *arg, char *from, size_t len),
			   void *arg)
{
	struct piece_search s = { .begin = (uintptr_t)addr,
				  .end = (uintptr_t)addr + len,
				  .fn = fn,
				  .arg = arg };

	return ovc_proc_lines(proc->maps, "read maps", look_at_piece, &s);
}

struct hole {
	char *from, *to;
	bool closed;
};

static void find_hole(void *arg, char *from, size_t len)
{
	struct hole *h = arg;

	if (h->closed)
		return;
	if (from == h->from) {
		h->from += len;
	} else {
		h->to = from;
		h->closed = true;
	}
}

/* MS_ASYNC does nothing but look whether all is mapped. */
bool ovc_pages_hole(const struct ovc_proc *proc, const void *addr, size_t len,
		    char **hole, size_t *hole_len)
{
	char *base = (char *)(uintptr_t)addr;
	struct hole h = { .from = base, .to = base + len };

	if (ovc_sys_fail("msync") || !msync(base, len, MS_ASYNC) ||
	    errno != ENOMEM)
		return false;
	if (ovc_pages_each_mapping(proc, addr, len, find_hole, &h) ||
	    h.from >= h.to)
		h = (struct hole){ .from = base, .to = base + len };
	*hole = h.from;
	*hole_len = (size_t)(h.to - h.from);
	return true;
}

/* Of statm: pages resident, and of these, those of files and shmem. */
static bool read_statm(const struct ovc_proc *proc,
		       unsigned long long *resident, unsigned long long *files)
{
	unsigned long long total;
	char text[128];

	return ovc_proc_text(proc->statm, "read statm", text, sizeof(text)) &&
	       sscanf(text, "%llu %llu %llu", &total, resident, files) == 3;
}

uint64_t ovc_pages_process_resident(const struct ovc_proc *proc)
{
	unsigned long long resident, files;

	return read_statm(proc, &resident, &files) ? resident * PAGE :
						     UINT64_MAX;
}

uint64_t ovc_pages_max_mappings(void)
{
	int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
	char text[64];
	bool known =
		ovc_proc_text(fd, "read max_map_count", text, sizeof(text));

	if (fd >= 0)
		close(fd);
	return known ? strtoull(text, NULL, 10) : 0;
}

struct counted {
	const char *name;
	uint64_t nr;
};

static bool count_line(const char *line, void *arg)
{
	struct counted *c = arg;

	c->nr += strstr(line, c->name) != NULL;
	return true;
}

uint64_t ovc_pages_mappings_of(const struct ovc_proc *proc, const char *name)
{
	struct counted c = { .name = name };

	if (ovc_proc_lines(proc->maps, "read maps", count_line, &c))
		return UINT64_MAX;
	return c.nr;
}

uint64_t ovc_pages_mappings(const struct ovc_proc *proc)
{
	return ovc_pages_mappings_of(proc, "");
}
