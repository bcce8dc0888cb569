/* SPDX-License-Identifier: MIT */
/*
 * What the process holds: descriptors, threads, the library's mappings and its
 * heap. The library's mappings are told from others by MADV_DONTFORK, which all of
 * them have; so jemalloc may keep what it likes.
 */
#include "fault.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/meta.h"

static unsigned count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned nr = 0;

	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr;
}

/* Threads; but not io_uring's own, which the kernel keeps for a thread that once
 * used a ring, as long as that lives. */
static unsigned count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;
	unsigned nr = 0;

	while (dir && (e = readdir(dir))) {
		char path[300], name[17] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm",
			 e->d_name);
		f = fopen(path, "re");
		nr += f && fgets(name, sizeof(name), f) &&
		      strncmp(name, "iou-", 4);
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return nr;
}

static unsigned count_mappings(void)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	unsigned nr = 0;

	while (f && fgets(line, sizeof(line), f))
		nr += !strncmp(line, "VmFlags:", 8) && strstr(line, " dc");
	if (f)
		fclose(f);
	return nr;
}

void held_now(struct held *held)
{
	held->fds = count_entries("/proc/self/fd");
	held->threads = count_threads();
	held->mappings = count_mappings();
	held->bytes = ovc_meta_bytes();
}

bool held_no_more(const struct held *before)
{
	struct held now;

	/* A thread that was joined may be seen a little longer. */
	for (unsigned i = 0; i < 200; i++) {
		held_now(&now);
		if (now.threads <= before->threads)
			break;
		usleep(1000);
	}
	if (now.fds <= before->fds && now.threads <= before->threads &&
	    now.mappings <= before->mappings && now.bytes <= before->bytes)
		return true;
	fprintf(stderr,
		"fault: LEAK: fds %u -> %u, threads %u -> %u, mappings %u -> "
		"%u, bytes %llu -> %llu\n",
		before->fds, now.fds, before->threads, now.threads,
		before->mappings, now.mappings,
		(unsigned long long)before->bytes,
		(unsigned long long)now.bytes);
	return false;
}
