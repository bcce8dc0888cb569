/* SPDX-License-Identifier: MIT */
/*
 * Checks when all threads rest, and when the library has gone.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stress.h"

/* ---- statistics ----------------------------------------------------------- */

static uint64_t nonzero(unsigned v)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < REGIONS; i++)
		bytes += shadow_nonzero(&places[v * REGIONS + i].mem) * PAGE;
	return bytes;
}

/* One look; `why` says what does not add up. Reclaim may still be at work. */
static const char *adds_up(unsigned v)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };
	uint64_t held;

	if (ovc_vm_stats(vms[v], &s))
		return "stats fail";
	held = s.resident + s.staged + s.swapped;
	if (held + s.shared_bytes + s.zero + s.poisoned != s.configured)
		return "resident + staged + swapped + shared + zero + poisoned "
		       "is not what is configured";
	if (s.configured != REGIONS * o.scale * MIB)
		return "configured is wrong";
	if (s.poisoned || s.read_errors || s.write_errors)
		return "errors were counted";
	if (s.pinned)
		return "pins are left";
	if (held + s.shared_bytes < nonzero(v))
		return "fewer pages are held than have bytes";
	if (s.swap_used > held)
		return "swap_used is impossible";
	return NULL;
}

static void print_vm(unsigned v)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };

	ovc_vm_stats(vms[v], &s);
	fprintf(stderr,
		"stress: VM %u: configured %llu resident %llu "
		"staged %llu shared %llu swapped %llu zero %llu poisoned %llu pinned %llu "
		"swap_used %llu nonzero %llu\n",
		v, (unsigned long long)s.configured / PAGE,
		(unsigned long long)s.resident / PAGE,
		(unsigned long long)s.staged / PAGE,
		(unsigned long long)s.shared_bytes / PAGE,
		(unsigned long long)s.swapped / PAGE,
		(unsigned long long)s.zero / PAGE,
		(unsigned long long)s.poisoned / PAGE,
		(unsigned long long)s.pinned / PAGE,
		(unsigned long long)s.swap_used / PAGE,
		(unsigned long long)nonzero(v) / PAGE);
}

void check_rest(void)
{
	struct ovc_host_stats h = { .size = sizeof(h) };
	const char *why[VMS], *walked = NULL;
	unsigned bad = 0;

	for (unsigned round = 0; round < 100; round++) {
		bad = 0;
		for (unsigned v = 0; v < VMS; v++)
			bad += (why[v] = adds_up(v)) != NULL;
		walked = walk();
		bad += walked != NULL;
		ovc_host_stats(host, &h);
		if (!bad && h.used <= h.budget)
			break;
		usleep(30000);
	}
	for (unsigned v = 0; v < VMS; v++)
		if (why[v]) {
			fail(why[v], (long)v);
			print_vm(v);
		}
	if (walked)
		fail(walked, 0);
	if (h.used > h.budget)
		fail("more is used than the budget, KiB",
		     (long)((h.used - h.budget) / 1024));
}

/* ---- what is left ---------------------------------------------------------- */

static unsigned entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned nr = 0;

	while (d && readdir(d))
		nr++;
	if (d)
		closedir(d);
	return nr;
}

/* Descriptors; but not the pipes to a sanitizer's symbolizer, which it starts when
 * it first has something to say. The library opens none. */
static unsigned descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	unsigned nr = 0;

	while (d && (e = readdir(d))) {
		char to[6] = "";

		nr += !(readlinkat(dirfd(d), e->d_name, to, 5) == 5 &&
			!strcmp(to, "pipe:") && SANITIZED);
	}
	if (d)
		closedir(d);
	return nr;
}

static unsigned mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned nr = 0;
	int c;

	while (f && (c = fgetc(f)) != EOF)
		nr += c == '\n';
	if (f)
		fclose(f);
	return nr;
}

struct left what_is_left(void)
{
	struct left l = { descriptors(), 0, 0 };

	l.mappings = mappings();
	l.threads = entries("/proc/self/task");
	return l;
}

/* io_uring's kernel threads, which also count as tasks, end a little later. */
void check_left(struct left before)
{
	struct left now = what_is_left();

	for (unsigned i = 0; i < 100 && now.threads > before.threads; i++) {
		usleep(30000);
		now = what_is_left();
	}
	if (now.fds != before.fds)
		fail("descriptors are left over", (long)now.fds - before.fds);
	if (now.threads > before.threads)
		fail("threads are left over",
		     (long)now.threads - before.threads);
	/* The C library keeps a few stacks and arenas. */
	if (!SANITIZED && now.mappings > before.mappings + 16)
		fail("mappings are left over",
		     (long)now.mappings - before.mappings);
}
