/* SPDX-License-Identifier: MIT */
/*
 * Reads kept files of /proc. Each read begins anew, at offset 0, so that it tells what is
 * true now; nothing is written to the descriptors, and their position is not used, so that
 * threads may read at once.
 */
#include "sys/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sys/fail.h"

static void open_once(int *fd, const char *path, int flags)
{
	if (*fd < 0 && !ovc_sys_fail(path))
		*fd = open(path, flags | O_CLOEXEC);
}

void ovc_proc_open(struct ovc_proc *p)
{
	open_once(&p->self, "/proc/self", O_PATH | O_DIRECTORY);
	open_once(&p->statm, "/proc/self/statm", O_RDONLY);
	open_once(&p->smaps, "/proc/self/smaps", O_RDONLY);
	open_once(&p->maps, "/proc/self/maps", O_RDONLY);
	open_once(&p->merging, "/proc/self/ksm_merging_pages", O_RDONLY);
	open_once(&p->meminfo, "/proc/meminfo", O_RDONLY);
	open_once(&p->pressure, "/proc/pressure/memory", O_RDONLY);
}

void ovc_proc_close(struct ovc_proc *p)
{
	int fds[] = { p->self,	  p->statm,   p->smaps,	  p->maps,
		      p->merging, p->meminfo, p->pressure };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	*p = (struct ovc_proc)OVC_PROC_NONE;
}

bool ovc_proc_text(int fd, const char *name, char *text, size_t size)
{
	ssize_t got = fd < 0 || ovc_sys_fail(name) ?
			      -1 :
			      pread(fd, text, size - 1, 0);

	text[got > 0 ? got : 0] = '\0';
	return got > 0;
}

/* Gives away the whole lines of a buffer. Returns how many bytes are left of it. */
static size_t give_lines(char *text, size_t len, size_t cap, bool *more,
			 bool (*fn)(const char *line, void *arg), void *arg)
{
	char *at = text, *end;

	text[len] = '\0';
	while (*more && (end = strchr(at, '\n'))) {
		*end = '\0';
		*more = fn(at, arg);
		at = end + 1;
	}
	if (*more && at == text && len == cap) {
		*more = fn(at, arg);
		at += len;
	}
	len -= (size_t)(at - text);
	memmove(text, at, len);
	return len;
}

int ovc_proc_lines(int fd, const char *name,
		   bool (*fn)(const char *line, void *arg), void *arg)
{
	char text[4097];
	size_t len = 0;
	off_t at = 0;
	bool more = true;
	int error = fd < 0 ? -ENOENT : ovc_sys_fail(name);

	while (!error && more) {
		ssize_t got = pread(fd, text + len, 4096 - len, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			error = -errno;
		if (got <= 0)
			break;
		at += got;
		len = give_lines(text, len + (size_t)got, 4096, &more, fn, arg);
	}
	if (!error && more && len) {
		text[len] = '\0';
		fn(text, arg);
	}
	return error;
}
