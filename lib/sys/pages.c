/* SPDX-License-Identifier: MIT */
/*
 * The one file that speaks to mmap and madvise. On failure nothing is changed but by
 * ovc_pages_dontneed_many(), which may have done a part: to drop a page twice does no
 * harm.
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
