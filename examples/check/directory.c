/* SPDX-License-Identifier: MIT */
/*
 * Where swap files go. The library is asked where there is a host: it knows file
 * systems that take O_DIRECT and do not do it. Else it is tried by plain calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "check.h"

#define MIB    (1 << 20)
#define LEAST  ((uint64_t)1 << 30) /* free, less is worth a word */
#define CHOOSE "--swap-dir DIR: choose one on ext4 or xfs, on a disk"

/* What plain calls say of a file in the directory, 0 or an errno each. */
struct tried {
	int tmpfile, allocate, direct;
};

static int try_direct(int fd)
{
	void *page = NULL;
	int error = 0;

	if (fcntl(fd, F_SETFL, O_DIRECT))
		return errno;
	if (posix_memalign(&page, 4096, 4096))
		return ENOMEM;
	memset(page, 1, 4096);
	if (pwrite(fd, page, 4096, 0) != 4096)
		error = errno;
	free(page);
	return error;
}

/* As the library does: without O_TMPFILE, a file that is unlinked at once. */
static int open_unnamed(const char *dir, struct tried *tried)
{
	char path[PATH_MAX];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	tried->tmpfile = fd < 0 ? errno : 0;
	if (fd >= 0 || snprintf(path, sizeof(path), "%s/.ovc-check-XXXXXX",
				dir) >= (int)sizeof(path))
		return fd;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

/* 0, or an errno where no file can be had. */
static int try_all(const char *dir, struct tried *tried)
{
	int fd = open_unnamed(dir, tried);

	if (fd < 0)
		return errno;
	tried->allocate = fallocate(fd, 0, 0, MIB) ? errno : 0;
	tried->direct = try_direct(fd);
	close(fd);
	return 0;
}

static const char *cure_of(int error)
{
	switch (error) {
	case ENOENT:
		return "make it first (mkdir -p), or --swap-dir DIR";
	case EACCES:
	case EPERM:
	case EROFS:
		return "--swap-dir DIR: choose one in which you may make files";
	case ENOSPC:
	case EDQUOT:
		return "make room, or --swap-dir DIR";
	case EFBIG:
		return "ulimit -f unlimited (systemd: LimitFSIZE=infinity)";
	default:
		return CHOOSE;
	}
}

static void say_space(const char *path)
{
	struct statvfs fs;
	uint64_t free;

	if (statvfs(path, &fs))
		return;
	free = (uint64_t)fs.f_bavail * fs.f_frsize;
	say("free space", free < LEAST ? WARNING : FINE,
	    "make room: swap files take up to the guests' memory and an "
	    "eighth",
	    "%ju MiB there", free / MIB);
}

/* The library's answer counts, where there is one. */
static int look(const char *path, struct tried *tried, char *text, size_t len)
{
	int error = try_all(path, tried), more;

	if (error || !check.host) {
		snprintf(text, len, "%s", error ? strerror(error) : "");
		return error;
	}
	more = library_try_swap(path, text, len);
	if (!more && !(check.stats.features & OVC_FEATURE_TMPFILE))
		tried->tmpfile = tried->tmpfile ? tried->tmpfile : EOPNOTSUPP;
	if (!more && !(check.stats.features & OVC_FEATURE_DIRECT_IO))
		tried->direct = tried->direct ? tried->direct : EOPNOTSUPP;
	return -more;
}

static void say_ways(const struct tried *tried)
{
	say("O_TMPFILE", tried->tmpfile ? WARNING : FINE, CHOOSE, "%s",
	    tried->tmpfile ? "not there: a file has a name for a moment" :
			     "a swap file never has a name");
	if (tried->allocate)
		say("preallocation", WARNING, CHOOSE,
		    "%s: zeros are written instead, which takes as long as "
		    "writing it all",
		    strerror(tried->allocate));
	else
		say("preallocation", FINE, NULL, "by fallocate");
	say("O_DIRECT", tried->direct ? WARNING : FINE, CHOOSE, "%s",
	    tried->direct ? "not done: swapped pages are in the host's page "
			    "cache, too" :
			    "past the page cache");
}

void check_directory(void)
{
	char path[PATH_MAX], text[512];
	struct tried tried = { 0 };
	struct stat st;
	int error;

	if (!realpath(check.swap_dir, path)) {
		say("swap directory", MISSING, cure_of(errno), "%s: %s",
		    check.swap_dir, strerror(errno));
		return;
	}
	if (!stat(path, &st) && !S_ISDIR(st.st_mode)) {
		say("swap directory", MISSING, CHOOSE, "%s is no directory",
		    path);
		return;
	}
	error = look(path, &tried, text, sizeof(text));
	if (error) {
		say("swap directory", MISSING, cure_of(error), "%s: %s", path,
		    text);
		return;
	}
	say("swap directory", *text ? WARNING : FINE, CHOOSE, "%s%s%s", path,
	    *text ? ": " : "", text);
	say_space(path);
	say_ways(&tried);
}
