/* SPDX-License-Identifier: MIT */
/*
 * Swap files once they are open and ours: made fit, grown, read, punched, wiped.
 *
 * Space is taken by fallocate, or where the file system cannot by writing zeros. Each
 * failure says in words what is full, or what limit was reached.
 *
 * A limit of file size (RLIMIT_FSIZE) would end the process with SIGXFSZ: the signal is
 * held back around what may send it, and taken away.
 */
#include "sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "sys/fail.h"
#include "sys/thread.h"

#define MIB	      ((uint64_t)1 << 20)
#define ZEROS	      MIB	 /* written at a time */
#define NO_COW	      0x00800000 /* FS_NOCOW_FL */
#define IN_MIB(bytes) ((unsigned long long)((bytes) / MIB))

void ovc_file_close(struct ovc_file *f)
{
	if (f->fd < 0)
		return;
	/* A ring that goes may hold on to the file a little longer, and so may a
	 * child that was forked. */
	flock(f->fd, LOCK_UN);
	close(f->fd);
	f->fd = -1;
}

/* ---- sizes and limits -------------------------------------------------------- */

static int because_of_size(int error, uint64_t from, uint64_t size,
			   struct ovc_why *why)
{
	unsigned long long more = IN_MIB(size - from + MIB - 1);
	struct rlimit limit;

	if (error == -ENOSPC)
		return ovc_because(why, error,
				   "the disk is full: the file system has not "
				   "enough room for %llu MiB more; choose "
				   "another directory, a smaller swap_size, or "
				   "OVC_VM_SPARSE_SWAP",
				   more);
	if (error == -EDQUOT)
		return ovc_because(why, error,
				   "a quota of the file system has no room for "
				   "%llu MiB more; raise it, or choose a "
				   "smaller swap_size or another directory",
				   more);
	if (error != -EFBIG)
		return error;
	if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < size)
		return ovc_because(why, error,
				   "it is to be %llu MiB, and the process may "
				   "write files of %llu MiB (RLIMIT_FSIZE); "
				   "raise that (ulimit -f), or choose a "
				   "smaller swap_size or a block device",
				   IN_MIB(size + MIB - 1),
				   IN_MIB(limit.rlim_cur));
	return ovc_because(why, error,
			   "it is to be %llu MiB, and the file system has no "
			   "files so large; choose another, or a smaller "
			   "swap_size",
			   IN_MIB(size + MIB - 1));
}

/* ---- making it fit ----------------------------------------------------------- */

/* btrfs copies what is overwritten, which takes new space each time, unless a file is
 * told not to while it is empty. */
static void forbid_copies(struct ovc_file *f)
{
	int flags;

	if (!f->medium.copies || ovc_sys_fail("FS_IOC_SETFLAGS") ||
	    ioctl(f->fd, FS_IOC_GETFLAGS, &flags))
		return;
	flags |= NO_COW;
	if (ioctl(f->fd, FS_IOC_SETFLAGS, &flags) ||
	    ioctl(f->fd, FS_IOC_GETFLAGS, &flags))
		return;
	f->medium.copies = !(flags & NO_COW);
}

/*
 * O_DIRECT by fcntl, after opening, so that a file system without it (ramfs) can
 * fall back; some accept the flag and refuse the I/O, so that one is tried.
 */
static void try_direct(struct ovc_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);
	void *page;

	if (!f->medium.direct || ovc_sys_fail("O_DIRECT") || flags < 0 ||
	    fcntl(f->fd, F_SETFL, flags | O_DIRECT))
		return;
	if (posix_memalign(&page, 4096, 4096))
		return;
	f->direct = pread(f->fd, page, 4096, 0) >= 0;
	free(page);
	if (!f->direct)
		fcntl(f->fd, F_SETFL, flags);
}

/* A page of zeros, to find out whether it can be written at all; ext4 decides with the
 * first bytes whether they lie in the inode, where O_DIRECT is not done. */
static int try_write(const struct ovc_file *f, struct ovc_why *why)
{
	static const char zeros[4096];
	struct ovc_held_signal held;
	int error = ovc_sys_fail("pwrite");

	if (error)
		return error;
	ovc_signal_hold(&held, SIGXFSZ);
	if (pwrite(f->fd, zeros, sizeof(zeros), 0) < 0)
		error = -errno;
	ovc_signal_release(&held);
	if (error == -EINVAL)
		return ovc_because(why, error,
				   "files of %s cannot be written; choose "
				   "another directory",
				   f->medium.name);
	return error ? because_of_size(error, 0, sizeof(zeros), why) : 0;
}

int ovc_file_prepare(struct ovc_file *f, bool may_direct, struct ovc_why *why)
{
	int error = 0;

	ovc_medium_look(f->fd, &f->medium);
	if (f->kind != OVC_FILE_DEVICE) {
		forbid_copies(f);
		error = try_write(f, why);
		ovc_medium_look_again(f->fd, &f->medium);
	}
	if (!error && may_direct)
		try_direct(f);
	if (!error && f->kind != OVC_FILE_DEVICE && ftruncate(f->fd, 0))
		return 0; /* 9p: it stays a page long, and zero */
	return error;
}

/* ---- space ------------------------------------------------------------------- */

/* Writes zeros, page by page at first when `len` is short. */
static int write_zeros(const struct ovc_file *f, uint64_t from, uint64_t to)
{
	void *zeros = mmap(NULL, ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	int error = 0;

	if (zeros == MAP_FAILED)
		return -errno;
	while (!error && from < to) {
		uint64_t len = to - from < ZEROS ? to - from : ZEROS;
		ssize_t done = pwrite(f->fd, zeros, len, (off_t)from);

		if (done < 0 && errno != EINTR)
			error = -errno;
		else if (!done)
			error = -ENOSPC;
		else if (done > 0)
			from += (uint64_t)done;
	}
	/* Some find out that there is no room when it must go to the disk. */
	if (!error && fdatasync(f->fd) && errno != EINVAL)
		error = -errno;
	munmap(zeros, ZEROS);
	return error;
}

static int allocate_range(const struct ovc_file *f, uint64_t from, uint64_t to)
{
	int error;

	do {
		error = fallocate(f->fd, 0, (off_t)from, (off_t)(to - from)) ?
				-errno :
				0;
	} while (error == -EINTR);
	if (error == -EOPNOTSUPP || error == -ENOSYS)
		error = write_zeros(f, from, to);
	return error;
}

/* 9p cannot change the size of a file without a name, but write behind its end. */
static int set_size(const struct ovc_file *f, uint64_t from, uint64_t size)
{
	int error = ftruncate(f->fd, (off_t)size) ? -errno : 0;

	if (error && error != -EFBIG && error != -ENOSPC && error != -EDQUOT &&
	    size > from)
		error = write_zeros(f, size - 4096, size);
	return error;
}

int ovc_file_resize(struct ovc_file *f, uint64_t from, uint64_t size,
		    bool allocate, struct ovc_why *why)
{
	int error = ovc_sys_fail("fallocate");
	struct ovc_held_signal held;

	if (error || f->kind == OVC_FILE_DEVICE)
		return error;
	ovc_signal_hold(&held, SIGXFSZ);
	if (allocate && size > from)
		error = allocate_range(f, from, size);
	else
		error = set_size(f, from, size);
	/* A part may have been allocated: give it back. */
	if (error && size > from && ftruncate(f->fd, (off_t)from))
		ovc_file_punch(f, from, size - from);
	ovc_signal_release(&held);
	return error ? because_of_size(error, from, size, why) : 0;
}

int ovc_file_punch(const struct ovc_file *f, uint64_t offset, uint64_t len)
{
	uint64_t range[2] = { offset, len };
	int error = ovc_sys_fail("punch");

	if (error)
		return error;
	if (f->kind == OVC_FILE_DEVICE)
		return ioctl(f->fd, BLKDISCARD, range) ? -errno : 0;
	return fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)offset, (off_t)len) ?
		       -errno :
		       0;
}

/* A device's range: discarded, where it says that it then reads as zero; else zeroed, by
 * itself if it can, in pieces so that a kill gets through. */
static int zero_device(const struct ovc_file *f, uint64_t from, uint64_t to)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	while (from < to) {
		uint64_t len = to - from < 64 * MIB ? to - from : 64 * MIB;
		uint64_t range[2] = { from, len };

		if (fallocate(f->fd, punch, (off_t)from, (off_t)len) &&
		    ioctl(f->fd, BLKZEROOUT, range))
			return -errno;
		from += len;
	}
	return 0;
}

int ovc_file_wipe(const struct ovc_file *f, uint64_t offset, uint64_t len)
{
	int error = ovc_sys_fail("wipe");

	if (error)
		return error;
	if (f->kind == OVC_FILE_DEVICE)
		return zero_device(f, offset, offset + len);
	if (!ftruncate(f->fd, (off_t)offset))
		return 0;
	error = -errno;
	return ovc_file_punch(f, offset, INT64_MAX & ~(uint64_t)4095) ? error :
									0;
}

/* ---- bytes ------------------------------------------------------------------- */

int ovc_file_read(const struct ovc_file *f, void *buf, uint64_t len,
		  uint64_t offset)
{
	ssize_t got = ovc_sys_fail("pread");

	if (got)
		return (int)got;
	do {
		got = pread(f->fd, buf, len, (off_t)offset);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	return (uint64_t)got == len ? 0 : -EIO;
}

int ovc_file_write_page(const struct ovc_file *f, const void *page,
			uint64_t offset)
{
	int error = ovc_sys_fail("pwrite");
	struct ovc_held_signal held;
	ssize_t done;

	if (error)
		return error;
	ovc_signal_hold(&held, SIGXFSZ);
	do {
		done = pwrite(f->fd, page, 4096, (off_t)offset);
	} while (done < 0 && errno == EINTR);
	if (done < 0)
		error = -errno;
	else if (done != 4096)
		error = ovc_file_short(f, 0, offset + 4096);
	else if (fdatasync(f->fd) && errno != EINVAL)
		error = -errno;
	ovc_signal_release(&held);
	return error;
}

int ovc_file_short(const struct ovc_file *f, int error, uint64_t end)
{
	struct rlimit limit;
	struct statvfs fs;

	if (f->kind == OVC_FILE_DEVICE)
		return error ? error : -EIO;
	if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < end)
		return -EFBIG;
	/* Where others have room, it is a quota that ended; btrfs says ENOSPC then
	 * of a file that is not to be copied. */
	if (!fstatvfs(f->fd, &fs) && fs.f_bavail * fs.f_frsize > 16 * MIB)
		return -EDQUOT;
	return -ENOSPC;
}

/* zram says what it takes, in bytes: the third figure. */
static bool read_figures(const char *path, uint64_t *bytes)
{
	unsigned long long taken;
	FILE *f = *path ? fopen(path, "re") : NULL;
	bool ok = f && fscanf(f, "%*u %*u %llu", &taken) == 1;

	if (f)
		fclose(f);
	if (ok)
		*bytes = taken;
	return ok;
}

uint64_t ovc_file_memory(const struct ovc_file *f, uint64_t used)
{
	uint64_t bytes = used;
	struct stat st;

	if (!f->medium.memory || read_figures(f->medium.figures, &bytes))
		return f->medium.memory ? bytes : 0;
	/* ramfs does not count. */
	if (f->medium.blocks && !fstat(f->fd, &st) && st.st_blocks)
		return (uint64_t)st.st_blocks * 512;
	return used;
}
