/* SPDX-License-Identifier: MIT */
/*
 * The one file that opens swap files.
 *
 * An unnamed file (O_TMPFILE) vanishes with its last descriptor, so that a killed
 * VMM leaves nothing behind; where the file system lacks it, a file is created and
 * unlinked at once. A named file is locked (flock), which also keeps a second VM
 * of the same process away, and is never followed through a symbolic link. A
 * device is opened exclusively.
 *
 * What is not the caller's alone is refused: another owner, other names of the same
 * file, others who may read it. Whether the contents are ours to overwrite is for
 * store/mark.c to say; until then nothing is written, and a refused file is only closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/fail.h"
#include "sys/file.h"

/* ---- opening ----------------------------------------------------------------- */

static int open_unnamed(struct ovc_file *f, const char *dir, bool may_tmpfile,
			struct ovc_why *why)
{
	char path[PATH_MAX];
	struct stat st;

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
	/* It had a name for a moment. */
	if (fstat(f->fd, &st))
		return -errno;
	if (st.st_mode & 077)
		return ovc_because(why, -EACCES,
				   "others may read or write files there, for "
				   "the file system keeps no modes; mount it "
				   "with umask=077, or choose another "
				   "directory");
	return 0;
}

/* Who was just killed has not closed all yet: an io_uring goes a moment later than its
 * process. So what is in use is tried for a second. */
#define TRIES  100
#define NAP_NS 10000000

static bool is_tried_again(int error, unsigned tried)
{
	const struct timespec nap = { .tv_nsec = NAP_NS };

	if (error != EBUSY && error != EWOULDBLOCK)
		return false;
	if (tried == TRIES)
		return false;
	nanosleep(&nap, NULL);
	return true;
}

static int open_device(struct ovc_file *f, const char *path,
		       struct ovc_why *why)
{
	int read_only = 0;

	for (unsigned i = 0; !i || is_tried_again(errno, i); i++) {
		f->fd = open(path, O_RDWR | O_CLOEXEC | O_EXCL);
		if (f->fd >= 0)
			break;
	}
	if (f->fd < 0 && errno == EBUSY)
		return ovc_because(why, -EBUSY,
				   "the device is in use (mounted, swap, or "
				   "another VM's)");
	if (f->fd < 0 && errno != EROFS)
		return -errno;
	/* Most read-only devices open all the same, and fail when written. */
	if (f->fd < 0 || (!ioctl(f->fd, BLKROGET, &read_only) && read_only))
		return ovc_because(why, -EROFS,
				   "the device is read-only; make it writable "
				   "(blockdev --setrw) or choose another");
	return ioctl(f->fd, BLKGETSIZE64, &f->size) ? -errno : 0;
}

static int no_file(struct ovc_why *why)
{
	return ovc_because(why, -EINVAL,
			   "it is no regular file, directory or block device");
}

/* A file that others have a way to is no place for a guest's memory, and what
 * belongs to somebody else is not ours to overwrite. */
static int check_named(const struct ovc_file *f, const struct stat *st,
		       struct ovc_why *why)
{
	if (!S_ISREG(st->st_mode))
		return no_file(why);
	if (!f->created && st->st_uid != geteuid())
		return ovc_because(why, -EPERM,
				   "the file belongs to user %u, and not to "
				   "user %u; choose another path",
				   st->st_uid, geteuid());
	if (st->st_nlink > 1)
		return ovc_because(why, -EPERM,
				   "the file has %lu names (hard links); "
				   "choose another path",
				   (unsigned long)st->st_nlink);
	if (st->st_mode & 077)
		return ovc_because(why, -EPERM,
				   "others may read or write the file (mode "
				   "%o); chmod 600, or choose another path",
				   st->st_mode & 0777);
	return 0;
}

static int open_or_create(struct ovc_file *f, const char *path)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY;

	/* Somebody else may create, or remove, it between the two. */
	for (int i = 0; i < 100; i++) {
		f->fd = open(path, flags);
		if (f->fd >= 0 || errno != ENOENT)
			break;
		f->fd = open(path, flags | O_CREAT | O_EXCL, 0600);
		f->created = f->fd >= 0;
		if (f->fd >= 0 || errno != EEXIST)
			break;
	}
	return f->fd < 0 ? -errno : 0;
}

static int lock(const struct ovc_file *f, struct ovc_why *why)
{
	int error = ovc_sys_fail("flock");

	for (unsigned i = 0; !error; i++) {
		if (!flock(f->fd, LOCK_EX | LOCK_NB))
			return 0;
		if (!is_tried_again(errno, i))
			error = -errno;
	}
	if (error != -EWOULDBLOCK)
		return error;
	return ovc_because(why, -EBUSY, "it is in use by another VM");
}

static int open_named(struct ovc_file *f, const char *path, struct ovc_why *why)
{
	int error = open_or_create(f, path);
	struct stat st;

	if (error == -ELOOP)
		return ovc_because(why, error,
				   "it is a symbolic link, which is not "
				   "followed");
	if (error)
		return error;
	if (fstat(f->fd, &st))
		return -errno;
	error = check_named(f, &st, why);
	if (!error)
		error = lock(f, why);
	/* Its size may have changed until it was ours. */
	if (!error && fstat(f->fd, &st))
		error = -errno;
	f->size = (uint64_t)st.st_size;
	return error;
}

/* A path that ends like a directory's never becomes a file. */
static int check_missing(const char *path, struct ovc_why *why)
{
	size_t len = strlen(path);
	char parent[PATH_MAX], *slash;
	struct stat st;

	if (len >= sizeof(parent))
		return -ENAMETOOLONG;
	if (path[len - 1] == '/')
		return ovc_because(why, -ENOENT,
				   "there is no such directory; make it first "
				   "(mkdir -p)");
	memcpy(parent, path, len + 1);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent)
		return 0;
	*slash = '\0';
	if (!stat(parent, &st) || errno != ENOENT)
		return 0;
	return ovc_because(why, -ENOENT,
			   "the directory that it is to be in does not exist; "
			   "make it first (mkdir -p)");
}

static int open_kind(struct ovc_file *f, const char *path, bool may_tmpfile,
		     struct ovc_why *why)
{
	struct stat st;
	bool exists = !stat(path, &st);
	int error;

	if (exists && S_ISDIR(st.st_mode)) {
		f->kind = OVC_FILE_UNNAMED;
		return open_unnamed(f, path, may_tmpfile, why);
	}
	if (exists && S_ISBLK(st.st_mode)) {
		f->kind = OVC_FILE_DEVICE;
		return open_device(f, path, why);
	}
	f->kind = OVC_FILE_NAMED;
	if (exists && !S_ISREG(st.st_mode)) /* which may block when opened */
		return no_file(why);
	error = exists || errno != ENOENT ? 0 : check_missing(path, why);
	return error ? error : open_named(f, path, why);
}

int ovc_file_open(struct ovc_file *f, const char *path, bool may_tmpfile,
		  struct ovc_why *why)
{
	int error = ovc_sys_fail("open swap");
	struct stat st;

	memset(f, 0, sizeof(*f));
	f->fd = -1;
	*why->text = '\0';
	if (!error)
		error = open_kind(f, path, may_tmpfile, why);
	if (!error && !fstat(f->fd, &st))
		f->device = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	if (error) {
		ovc_file_unmake(f, path);
		ovc_file_close(f);
	}
	return error;
}

void ovc_file_unmake(const struct ovc_file *f, const char *path)
{
	struct stat own, there;

	if (f->created && !fstat(f->fd, &own) && !lstat(path, &there) &&
	    own.st_dev == there.st_dev && own.st_ino == there.st_ino)
		unlink(path);
}

/* ---- contents of others ------------------------------------------------------ */

/* The first byte of a range that is not zero; `to` where all are. */
static int find_byte(int fd, uint64_t from, uint64_t to, uint64_t *at)
{
	char buf[16384];

	while (from < to) {
		uint64_t want = to - from;
		ssize_t got;

		if (want > sizeof(buf))
			want = sizeof(buf);
		got = pread(fd, buf, want, (off_t)from);
		if (got <= 0)
			return got ? -errno : -EIO;
		for (ssize_t i = 0; i < got; i++)
			if (buf[i]) {
				*at = from + (uint64_t)i;
				return 0;
			}
		from += (uint64_t)got;
	}
	*at = to;
	return 0;
}

/* The same in both of two ranges; found: whether there is one. */
static int find_bytes(const struct ovc_file *f, uint64_t from, uint64_t head,
		      uint64_t tail, uint64_t *at, bool *found)
{
	int error = ovc_sys_fail("pread");

	if (!error)
		error = find_byte(f->fd, from, head, at);
	*found = !error && *at < head;
	if (error || *found)
		return error;
	error = find_byte(f->fd, f->size - tail, f->size, at);
	*found = !error && *at < f->size;
	return error;
}

int ovc_file_blank(const struct ovc_file *f, const char *path, uint64_t from,
		   uint64_t head, uint64_t tail, struct ovc_why *why)
{
	int error, signature = 0;
	uint64_t at = 0;
	char what[100];
	bool found;

	error = find_bytes(f, from, head, tail, &at, &found);
	if (error)
		return error;
	/* Behind a mark of ours, a guest may have written anything. */
	if (found || !from)
		signature = ovc_medium_signature(f->fd, what, sizeof(what));
	if (signature < 0)
		return signature;
	if (signature)
		return ovc_because(why, -ENOTEMPTY,
				   "the device has %s; if nobody needs it, "
				   "wipe it: wipefs -a %.60s && blkdiscard -z "
				   "%.60s",
				   what, path, path);
	if (!found)
		return 0;
	return ovc_because(why, -ENOTEMPTY,
			   "the device has contents (at byte %llu); if nobody "
			   "needs them, wipe it: blkdiscard -z %.100s",
			   (unsigned long long)at, path);
}
