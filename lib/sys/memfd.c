/* SPDX-License-Identifier: MIT */
/*
 * The one file that speaks to memfds. The duplicate and the mapping are ours until
 * ovc_memfd_unmap(); the guest's own mapping is the VMM's.
 */
#include "sys/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/fail.h"
#include "sys/pages.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* on all architectures */
#endif

int ovc_memfd_stat(int fd, uint64_t *device, uint64_t *inode, uint64_t *size)
{
	int error = ovc_sys_fail("fstat memfd");
	struct stat st;

	if (error)
		return error;
	if (fstat(fd, &st))
		return -errno;
	*device = st.st_dev;
	*inode = st.st_ino;
	*size = (uint64_t)st.st_size;
	return 0;
}

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

bool ovc_memfd_is_memory(int fd)
{
	/* Other files have no seals. */
	return fcntl(fd, F_GET_SEALS) >= 0;
}

bool ovc_memfd_is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals > 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
}

static int map_view(int fd, uint64_t offset, size_t len, int flags, char **view)
{
	int error = ovc_sys_fail("mmap memfd");
	void *p;

	if (error)
		return error;
	p = ovc_pages_map(NULL, len, MAP_SHARED | flags, fd, offset);
	if (!p)
		return -errno;
	madvise(p, len, MADV_DONTFORK);
	/* A dump would take what the guest has twice, and fill the holes. */
	madvise(p, len, MADV_DONTDUMP);
	*view = p;
	return 0;
}

int ovc_memfd_map(const struct ovc_proc *proc, int fd, uint64_t offset,
		  size_t len, int *copy, char **view)
{
	int error = ovc_sys_fail("dup memfd");
	char path[32];

	*copy = -1;
	*view = NULL;
	if (error)
		return error;
	/* Opened anew, for a duplicate would share the file position, and we
	 * move it. */
	snprintf(path, sizeof(path), "fd/%d", fd);
	*copy = openat(proc->self, path, O_RDWR | O_CLOEXEC);
	if (*copy < 0)
		return -errno;
	return map_view(*copy, offset, len, 0, view);
}

void ovc_memfd_unmap(int copy, char *view, size_t len)
{
	if (view)
		munmap(view, len);
	if (copy >= 0)
		close(copy);
}

uint64_t ovc_memfd_next_data(int fd, uint64_t offset)
{
	off_t at = lseek(fd, (off_t)offset, SEEK_DATA);

	if (at >= 0)
		return (uint64_t)at;
	return errno == ENXIO ? UINT64_MAX : offset;
}

uint64_t ovc_memfd_next_hole(int fd, uint64_t offset)
{
	off_t at = lseek(fd, (off_t)offset, SEEK_HOLE);

	return at >= 0 ? (uint64_t)at : UINT64_MAX;
}

/*
 * Pages that fallocate() got and nobody touched have memory and no contents: to Linux 6.18
 * they are a hole for lseek(SEEK_DATA), as for mincore(), and the pagemap has nothing that
 * is not mapped. fstat() counts them, but in the whole file. cachestat() counts what
 * the page cache has of a range, whatever is in it.
 */
int ovc_memfd_allocated(int fd, uint64_t offset, uint64_t len, uint64_t *nr)
{
	struct {
		uint64_t offset, len;
	} range = { offset, len };
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} stat;
	int error = ovc_sys_fail("cachestat");

	if (error)
		return error;
	if (syscall(SYS_cachestat, fd, &range, &stat, 0))
		return -errno;
	*nr = stat.cached + stat.evicted;
	return 0;
}

int ovc_memfd_read(int fd, uint64_t offset, void *buf, size_t len)
{
	int error = ovc_sys_fail("pread memfd");

	while (!error && len) {
		ssize_t got = pread(fd, buf, len, (off_t)offset);

		if (got <= 0) {
			/* Behind the end there is nothing to read. */
			error = got ? -errno : -EFAULT;
			if (error == -EINTR)
				error = 0;
			continue;
		}
		buf = (char *)buf + got;
		offset += (uint64_t)got;
		len -= (size_t)got;
	}
	return error;
}

int ovc_memfd_remap(int fd, uint64_t offset, void *addr, size_t len)
{
	void *p = mmap(addr, len, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, fd, (off_t)offset);

	return p == MAP_FAILED ? -errno : 0;
}

int ovc_memfd_punch(int fd, uint64_t offset, uint64_t len)
{
	int error = ovc_sys_fail("punch memfd");

	if (error)
		return error;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)offset, (off_t)len) ?
		       -errno :
		       0;
}

int ovc_memfd_create(const char *name, size_t len, int *fd, char **view)
{
	int error = ovc_sys_fail("memfd_create");

	*fd = -1;
	*view = NULL;
	if (error)
		return error;
	*fd = memfd_create(name, MFD_CLOEXEC);
	if (*fd < 0)
		return -errno;
	if (ftruncate(*fd, (off_t)len))
		return -errno;
	return map_view(*fd, 0, len, MAP_NORESERVE, view);
}

int ovc_memfd_write(int fd, uint64_t offset, const struct iovec *iov, size_t nr)
{
	size_t len = 0;
	ssize_t got = ovc_sys_fail("pwritev memfd");

	for (size_t i = 0; i < nr; i++)
		len += iov[i].iov_len;
	if (got)
		return (int)got;
	got = pwritev(fd, iov, (int)nr, (off_t)offset);
	if (got == (ssize_t)len)
		return 0;
	return got < 0 ? -errno : -ENOMEM;
}

int ovc_memfd_map_private(int fd, uint64_t offset, void *addr, size_t len)
{
	int error = ovc_sys_fail("mmap store");
	void *p;

	if (error)
		return error;
	p = mmap(addr, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, (off_t)offset);
	if (p == MAP_FAILED)
		return -errno;
	madvise(p, len, MADV_DONTFORK);
	return 0;
}
