/* SPDX-License-Identifier: MIT */
/*
 * What the machine says of its memory: /proc/meminfo, /proc/pressure/memory. What cannot
 * be read is unknown.
 */
#include "sys/machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sys/fail.h"

static const char *slurp(const char *path, char *text, size_t len)
{
	int fd = ovc_sys_fail("open machine") ?
			 -1 :
			 open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, len - 1);

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = 0;
	return text;
}

static bool find_kib(const char *text, const char *key, uint64_t *bytes)
{
	const char *at = strstr(text, key);
	unsigned long long kib;

	if (!at || sscanf(at + strlen(key), " %llu", &kib) != 1)
		return false;
	*bytes = kib * 1024;
	return true;
}

static bool find_avg10(const char *text, const char *key, uint32_t *hundredths)
{
	const char *at = strstr(text, key);
	unsigned whole, part;

	if (!at ||
	    sscanf(at + strlen(key), " avg10=%u.%2u", &whole, &part) != 2)
		return false;
	*hundredths = whole * 100 + part;
	return true;
}

void ovc_machine_look(struct ovc_machine *m)
{
	char text[2048];
	const char *at = slurp("/proc/meminfo", text, sizeof(text));

	if (!find_kib(at, "MemAvailable:", &m->available) ||
	    !find_kib(at, "MemTotal:", &m->total))
		m->available = m->total = UINT64_MAX;
	at = slurp("/proc/pressure/memory", text, sizeof(text));
	if (!find_avg10(at, "some", &m->some) ||
	    !find_avg10(at, "full", &m->full))
		m->some = m->full = UINT32_MAX;
}
