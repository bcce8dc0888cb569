/* SPDX-License-Identifier: MIT */
/*
 * The kernel's swap as the peer: the parent's part, which changes the machine
 * and puts it back.
 *
 * A swap file in the swap directory, allocated whole, with the highest
 * priority, so that it is the one used; and a memory cgroup (v1 or v2) that the
 * trials join. Nothing is tuned: page-cluster, swappiness and the rest are as
 * the machine has them.
 *
 * Failures are -errno and a sentence; what was done until then is undone.
 *
 * peer_swap_stop() puts the machine back. It only makes system calls on paths
 * that were written down before, so a signal handler may call it. A run that
 * was killed outright leaves its files behind: they carry its process id, and
 * peer_swap_sweep() of the next run removes them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "bench.h"

#define PREFIX "ovc-bench-"

struct peer_cgroup peer_cgroup;

static struct {
	char path[4096];
	size_t bytes;
	bool file; /* exists */
	bool on;   /* swapped on */
	bool cgroup;
	/* v2: where "-memory" goes if we had to write "+memory" */
	char controllers[256];
	bool enabled;
} swap;

/* ---- The swap file ---------------------------------------------------- */

/* What mkswap(8) writes: version 1, no bad pages. */
static int write_swap_header(int fd, size_t bytes)
{
	static union {
		char page[4096];
		struct {
			char boot[1024];
			uint32_t version;
			uint32_t last_page;
		} info;
	} header;

	header.info.version = 1;
	header.info.last_page = (uint32_t)(bytes / sizeof(header.page) - 1);
	memcpy(header.page + sizeof(header.page) - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, &header, sizeof(header), 0) != sizeof(header))
		return -errno;
	return fsync(fd) ? -errno : 0;
}

static int make_file(size_t bytes, char *why, size_t why_size)
{
	int fd = open(swap.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int err;

	if (fd < 0) {
		err = -errno;
		snprintf(why, why_size, "%s: %s", swap.path, strerror(-err));
		return err;
	}
	swap.file = true;
	swap.bytes = bytes;
	err = -posix_fallocate(fd, 0, (off_t)bytes);
	if (!err)
		err = write_swap_header(fd, bytes);
	close(fd);
	if (err)
		snprintf(why, why_size, "allocating %s of %zu MiB: %s",
			 swap.path, bytes / MIB, strerror(-err));
	return err;
}

static int swap_on(char *why, size_t why_size)
{
	int err;

	if (swapon(swap.path, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK)) {
		err = -errno;
		snprintf(why, why_size, "swapon %s: %s%s", swap.path,
			 strerror(-err),
			 err == -EPERM ? " (be root to compare with it)" : "");
		return err;
	}
	swap.on = true;
	return 0;
}

/* ---- The cgroup ------------------------------------------------------- */

static bool has_word(const char *path, const char *word)
{
	char text[512] = " ", pattern[64];
	FILE *file = fopen(path, "re");
	size_t got;

	if (!file)
		return false;
	got = fread(text + 1, 1, sizeof(text) - 3, file);
	fclose(file);
	for (size_t i = 1; i <= got; i++)
		if (text[i] == '\n')
			text[i] = ' ';
	snprintf(pattern, sizeof(pattern), " %s ", word);
	return strstr(text, pattern) != NULL;
}

/* The root of the hierarchy that has the memory controller. */
static bool find_hierarchy(char *root, size_t root_size, bool *v2)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *entry;
	char path[512];
	bool found = false;

	while (mounts && !found && (entry = getmntent(mounts))) {
		*v2 = !strcmp(entry->mnt_type, "cgroup2");
		snprintf(path, sizeof(path), "%.200s/cgroup.controllers",
			 entry->mnt_dir);
		if (*v2)
			found = has_word(path, "memory");
		else
			found = !strcmp(entry->mnt_type, "cgroup") &&
				hasmntopt(entry, "memory");
		if (found)
			snprintf(root, root_size, "%.200s", entry->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	return found;
}

/* v2: children only have the controllers that the parent hands down. */
static int hand_down_memory(const char *root)
{
	int err;

	snprintf(swap.controllers, sizeof(swap.controllers),
		 "%s/cgroup.subtree_control", root);
	if (has_word(swap.controllers, "memory"))
		return 0;
	err = setting_write(swap.controllers, "+memory");
	swap.enabled = !err;
	return err;
}

static int make_cgroup(char *why, size_t why_size)
{
	char root[208];
	int err = 0;

	if (!find_hierarchy(root, sizeof(root), &peer_cgroup.v2)) {
		snprintf(why, why_size, "no memory cgroups are mounted");
		return -ENOENT;
	}
	snprintf(peer_cgroup.path, sizeof(peer_cgroup.path), "%s/" PREFIX "%d",
		 root, (int)getpid());
	if (peer_cgroup.v2)
		err = hand_down_memory(root);
	if (!err && mkdir(peer_cgroup.path, 0755))
		err = -errno;
	if (err)
		snprintf(why, why_size, "memory cgroup %s: %s",
			 peer_cgroup.path, strerror(-err));
	else
		swap.cgroup = true;
	return err;
}

/* ---- Start and stop --------------------------------------------------- */

int peer_swap_start(const struct options *options, size_t bytes, char *why,
		    size_t why_size)
{
	int err;

	if (swap.on && swap.bytes >= bytes)
		return 0;
	peer_swap_stop();
	snprintf(swap.path, sizeof(swap.path), "%s/" PREFIX "%d.swap",
		 options->swap_dir, (int)getpid());
	err = make_file(bytes, why, why_size);
	if (!err)
		err = swap_on(why, why_size);
	if (!err)
		err = make_cgroup(why, why_size);
	if (err)
		peer_swap_stop();
	return err;
}

void peer_swap_stop(void)
{
	if (swap.on)
		swapoff(swap.path);
	if (swap.file)
		unlink(swap.path);
	if (swap.cgroup)
		rmdir(peer_cgroup.path);
	if (swap.enabled)
		setting_write(swap.controllers, "-memory");
	swap.on = swap.file = swap.cgroup = swap.enabled = false;
}

/* ---- What a killed run left ------------------------------------------- */

/* Whether this is the name of something whose ovc-bench no longer runs. */
static bool orphaned(const char *name)
{
	char path[64], comm[32] = "";
	FILE *file;
	int pid;

	if (sscanf(name, PREFIX "%d", &pid) != 1 || pid <= 0)
		return false;
	if (pid == getpid())
		return true;
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (!file)
		return true;
	if (!fgets(comm, sizeof(comm), file))
		comm[0] = '\0';
	fclose(file);
	return strcmp(comm, "ovc-bench\n") != 0;
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && !strcmp(text + len - end_len, end);
}

/* /proc/swaps writes a space as \040 and the like. */
static void unescape(char *text)
{
	char *to = text;

	for (char *from = text; *from; to++) {
		unsigned octal;

		if (sscanf(from, "\\%3o", &octal) == 1) {
			*to = (char)octal;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static void sweep_swaps(void)
{
	char line[4096 + 128], path[4096 + 1];
	FILE *swaps = fopen("/proc/swaps", "re");

	while (swaps && fgets(line, sizeof(line), swaps)) {
		const char *name;

		if (sscanf(line, "%4096s", path) != 1)
			continue;
		unescape(path);
		name = strrchr(path, '/');
		if (!name || !ends_with(path, ".swap") || !orphaned(name + 1))
			continue;
		if (swapoff(path) == 0 && unlink(path) == 0)
			say("removed %s, which a killed run left", path);
	}
	if (swaps)
		fclose(swaps);
}

/* What has our name and this end; flag as for unlinkat(2). */
static void sweep_dir(const char *dir, int flag, const char *end)
{
	DIR *entries = opendir(dir);
	struct dirent *entry;

	while (entries && (entry = readdir(entries)))
		if (ends_with(entry->d_name, end) && orphaned(entry->d_name) &&
		    unlinkat(dirfd(entries), entry->d_name, flag) == 0)
			say("removed %s/%s, which a killed run left", dir,
			    entry->d_name);
	if (entries)
		closedir(entries);
}

void peer_swap_sweep(const char *dir)
{
	char root[208];
	bool v2;

	sweep_swaps();
	sweep_dir(dir, 0, ".swap");
	sweep_dir(dir, 0, ".ours");
	if (find_hierarchy(root, sizeof(root), &v2))
		sweep_dir(root, AT_REMOVEDIR, "");
}
