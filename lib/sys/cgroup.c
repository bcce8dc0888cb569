/* SPDX-License-Identifier: MIT */
/*
 * Finds the process's memory cgroup and keeps its files open.
 *
 *   /proc/self/cgroup     its path in the hierarchy that has the memory controller: the
 *                         one that names it (version 1), else "0::" (version 2)
 *   /proc/self/mountinfo  where that hierarchy is mounted, and which part of it
 *   memory.max, memory.high, memory.limit_in_bytes   of each cgroup from there up: the
 *                         least of all is what counts
 *
 * Failures: what cannot be found or opened has no limit that we know of. A process that was
 * moved where nothing can be opened keeps the files of the cgroup that it was in.
 */
#include "sys/cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/fail.h"
#include "sys/machine.h"
#include "sys/proc.h"

#define NO_LIMIT ((uint64_t)1 << 60) /* version 1 says so by a huge number */

/* Where we are, and where that is mounted. */
struct place {
	bool v1, mounted;
	char path[1024]; /* in the hierarchy */
	char dir[2048];	 /* of the file system */
	size_t top;	 /* of dir: the mount point's length */
};

static bool find_path(const char *text, struct place *p)
{
	char line[1100];

	for (const char *at = text; *at; at += *at == '\n') {
		size_t len = strcspn(at, "\n");

		snprintf(line, sizeof(line), "%.*s", (int)len, at);
		at += len;
		if (sscanf(line, "%*d:memory:%1023s", p->path) == 1) {
			p->v1 = true;
			return true;
		}
		sscanf(line, "0::%1023s", p->path);
	}
	return p->path[0];
}

/* "36 35 98:0 /root /mount/point options - type source options" */
static bool look_at_mount(const char *line, void *arg)
{
	char root[1024], point[1024], type[32], options[256] = "";
	const char *dash = strstr(line, " - "), *below;
	struct place *p = arg;
	size_t len;

	if (!dash ||
	    sscanf(line, "%*s %*s %*s %1023s %1023s", root, point) != 2 ||
	    sscanf(dash, " - %31s %*s %255s", type, options) < 1)
		return true;
	if (strcmp(type, p->v1 ? "cgroup" : "cgroup2") ||
	    (p->v1 && !strstr(options, "memory")))
		return true;
	len = strcmp(root, "/") ? strlen(root) : 0;
	below = strncmp(p->path, root, len) ? "" : p->path + len;
	if (!strcmp(below, "/"))
		below = "";
	p->top = (size_t)snprintf(p->dir, sizeof(p->dir), "%s", point);
	snprintf(p->dir + p->top, sizeof(p->dir) - p->top, "%s", below);
	p->mounted = true;
	return false;
}

static int open_in(const char *dir, const char *name)
{
	char path[2200];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return ovc_sys_fail("open cgroup") ? -1 :
					     open(path, O_RDONLY | O_CLOEXEC);
}

static void open_limit(struct ovc_cgroup *c, const char *dir, const char *name)
{
	int fd = c->nr < OVC_CGROUP_FILES ? open_in(dir, name) : -1;

	if (fd >= 0)
		c->limits[c->nr++] = fd;
}

/* From the process's cgroup to the mount point. */
static void open_limits(struct ovc_cgroup *c, struct place *p)
{
	char *slash;

	c->pressure = open_in(p->dir, "memory.pressure");
	for (;;) {
		if (p->v1) {
			open_limit(c, p->dir, "memory.limit_in_bytes");
		} else {
			open_limit(c, p->dir, "memory.max");
			open_limit(c, p->dir, "memory.high");
		}
		slash = strrchr(p->dir, '/');
		if (strlen(p->dir) <= p->top || !slash ||
		    (size_t)(slash - p->dir) < p->top)
			return;
		*slash = '\0';
	}
}

static void close_limits(struct ovc_cgroup *c)
{
	for (unsigned i = 0; i < c->nr; i++)
		close(c->limits[i]);
	c->nr = 0;
	if (c->pressure >= 0)
		close(c->pressure);
	c->pressure = -1;
}

/* Opens the files of where the process is now, and then lets go of the others. */
static void follow(struct ovc_cgroup *c)
{
	struct ovc_cgroup found = { .pressure = -1 };
	struct place p = { 0 };
	int mounts;

	if (!find_path(c->was, &p))
		return;
	mounts = ovc_sys_fail("open mountinfo") ?
			 -1 :
			 open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	ovc_proc_lines(mounts, "read mountinfo", look_at_mount, &p);
	if (mounts >= 0)
		close(mounts);
	if (!p.mounted)
		return;
	open_limits(&found, &p);
	if (!found.nr && c->nr) {
		close_limits(&found);
		return;
	}
	close_limits(c);
	memcpy(c->limits, found.limits, sizeof(c->limits));
	c->nr = found.nr;
	c->pressure = found.pressure;
}

static void look(struct ovc_cgroup *c)
{
	char now[sizeof(c->was)];

	if (!ovc_proc_text(c->self, "read cgroup", now, sizeof(now)) ||
	    !strcmp(now, c->was))
		return;
	memcpy(c->was, now, sizeof(now));
	follow(c);
}

void ovc_cgroup_open(struct ovc_cgroup *c)
{
	memset(c, 0, sizeof(*c));
	c->pressure = -1;
	c->self = open_in("/proc/self", "cgroup");
	look(c);
}

void ovc_cgroup_close(struct ovc_cgroup *c)
{
	close_limits(c);
	if (c->self >= 0)
		close(c->self);
	c->self = -1;
}

uint64_t ovc_cgroup_limit(struct ovc_cgroup *c)
{
	uint64_t least = UINT64_MAX;
	char text[64];

	look(c);
	for (unsigned i = 0; i < c->nr; i++) {
		uint64_t one;

		if (!ovc_proc_text(c->limits[i], "read limit", text,
				   sizeof(text)) ||
		    text[0] < '0' || text[0] > '9')
			continue; /* "max" */
		one = strtoull(text, NULL, 10);
		if (one < NO_LIMIT && one < least)
			least = one;
	}
	return least;
}

void ovc_cgroup_stalls(const struct ovc_cgroup *c, uint32_t *some,
		       uint32_t *full)
{
	char text[512];

	ovc_proc_text(c->pressure, "read pressure", text, sizeof(text));
	ovc_machine_stalls(text, some, full);
}
