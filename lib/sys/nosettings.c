/* SPDX-License-Identifier: MIT */
/*
 * What the private jemalloc finds when it looks for settings: nothing.
 *
 * jemalloc reads the environment variable MALLOC_CONF and the link
 * /etc/malloc.conf before anything else runs. They belong to the program, so
 * private-jemalloc points the two calls here. Both always fail; jemalloc then
 * keeps its defaults.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/types.h>

char *ovc_nosettings_getenv(const char *name);
ssize_t ovc_nosettings_readlink(const char *path, char *buf, size_t len);

char *ovc_nosettings_getenv(const char *name)
{
	(void)name;
	return NULL;
}

ssize_t ovc_nosettings_readlink(const char *path, char *buf, size_t len)
{
	(void)path;
	(void)buf;
	(void)len;
	errno = ENOENT;
	return -1;
}
