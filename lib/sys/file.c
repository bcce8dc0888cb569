/* SPDX-License-Identifier: MIT */
/*
 * The one file that opens swap files.
 *
 * An unnamed file (O_TMPFILE) vanishes with its last descriptor, so that a killed
 * VMM leaves nothing behind; where the file system lacks it, a file is created and
 * unlinked at once. A named file is locked (flock), which also keeps a second VM
 * of the same process away, and is never followed through a symbolic link. A
 * device is opened exclusively.
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
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fail.h"

static int open_unnamed(struct ovc_file *f, const char *dir, bool may_tmpfile)
{
	char path[4096];

	if (may_tmpfile) {
		f->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		f->tmpfile = f->fd >= 0;
		if (f->tmpfile)
			return 0;
		if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
			return -errno;
	}
	if (snprintf(path, sizeof(path), "%s/.overcommit-XXXXXX", dir) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	f->fd = mkostemp(path, O_CLOEXEC);
	if (f->fd < 0)
		return -errno;
	unlink(path);
	return 0;
}

static int open_device(struct ovc_file *f, const char *path, const char **why)
{
	f->fd = open(path, O_RDWR | O_CLOEXEC | O_EXCL);
	if (f->fd < 0) {
		if (errno == EBUSY)
			*why = "the device is in use (mounted, swap, or "
			       "another VM's)";
		return -errno;
	}
	return ioctl(f->fd, BLKGETSIZE64, &f->size) ? -errno : 0;
}

static int open_named(struct ovc_file *f, const char *path, const char **why)
{
	struct stat st;
	int error;

	f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->fd < 0) {
		if (errno == ELOOP)
			*why = "it is a symbolic link, which is not followed";
		return -errno;
	}
	if (fstat(f->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		*why = "it is no regular file, directory or block device";
		return -EINVAL;
	}
	error = ovc_sys_fail("flock");
	if (error)
		return error;
	if (!flock(f->fd, LOCK_EX | LOCK_NB))
		return 0;
	if (errno != EWOULDBLOCK)
		return -errno;
	*why = "it is in use by another VM";
	return -EBUSY;
}

/*
 * O_DIRECT by fcntl, after opening, so that a file system without it (tmpfs) can
 * fall back; some accept the flag and refuse the I/O, so that one is tried.
 */
static void try_direct(struct ovc_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);
	void *page;

	if (ovc_sys_fail("O_DIRECT") || flags < 0 ||
	    fcntl(f->fd, F_SETFL, flags | O_DIRECT))
		return;
	if (posix_memalign(&page, 4096, 4096))
		return;
	f->direct = pread(f->fd, page, 4096, 0) >= 0;
	free(page);
	if (!f->direct)
		fcntl(f->fd, F_SETFL, flags);
}

int ovc_file_open(struct ovc_file *f, const char *path, bool may_direct,
		  bool may_tmpfile, const char **why)
{
	int error = ovc_sys_fail("open swap");
	struct stat st;
	bool exists;

	memset(f, 0, sizeof(*f));
	f->fd = -1;
	*why = NULL;
	if (error)
		return error;
	exists = !stat(path, &st);
	if (exists && S_ISDIR(st.st_mode)) {
		f->kind = OVC_FILE_UNNAMED;
		error = open_unnamed(f, path, may_tmpfile);
	} else if (exists && S_ISBLK(st.st_mode)) {
		f->kind = OVC_FILE_DEVICE;
		error = open_device(f, path, why);
	} else {
		f->kind = OVC_FILE_NAMED;
		error = open_named(f, path, why);
	}
	if (error) {
		/* Not ovc_file_close(): what was refused may be another VM's
		 * live swap, and must not be truncated. */
		if (f->fd >= 0)
			close(f->fd);
		f->fd = -1;
		return error;
	}
	if (may_direct)
		try_direct(f);
	return 0;
}

void ovc_file_close(struct ovc_file *f)
{
	if (f->fd < 0)
		return;
	/* What a named file held is a guest's memory: do not leave it. */
	if (f->kind == OVC_FILE_NAMED && ftruncate(f->fd, 0))
		fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  INT64_MAX & ~4095);
	/* A ring that goes may hold on to the file a little longer. */
	flock(f->fd, LOCK_UN);
	close(f->fd);
	f->fd = -1;
}

int ovc_file_resize(struct ovc_file *f, uint64_t from, uint64_t size,
		    bool allocate)
{
	int error = ovc_sys_fail("fallocate");

	if (error || f->kind == OVC_FILE_DEVICE)
		return error;
	if (!allocate || size <= from)
		return ftruncate(f->fd, (off_t)size) ? -errno : 0;
	if (!fallocate(f->fd, 0, (off_t)from, (off_t)(size - from)))
		return 0;
	error = errno;
	if (error == EOPNOTSUPP)
		error = posix_fallocate(f->fd, (off_t)from,
					(off_t)(size - from));
	/* A part may have been allocated: give it back. */
	if (error && ftruncate(f->fd, (off_t)from))
		return -error;
	return -error;
}

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
