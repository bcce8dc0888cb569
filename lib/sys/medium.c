/* SPDX-License-Identifier: MIT */
/*
 * What a file lies on.
 *
 * Three things are asked, since each alone lies. The file system's magic number says
 * what it is. statx's alignment of direct I/O says whether O_DIRECT is done or only
 * taken: tmpfs, fuse, ext4 with data=journal or encryption take it and use the page
 * cache; btrfs does it and does not say so. /sys says what a device is made of: zram
 * and a loop device over a file on tmpfs are the host's memory, and so is device
 * mapper over nothing but these. An overlay is what its upper directory is.
 *
 * Nothing here fails: what is not known is taken for a plain disk. The longest way
 * down (a loop device over a file on a loop device ...) is four steps.
 */
#include "sys/medium.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sys/fail.h"

#define STEPS 4

#ifndef STATX_DIOALIGN
#error "headers of Linux 6.1 or later are needed"
#endif

struct kind {
	unsigned long magic;
	const char *name;
	bool memory, copies, cached;
};

/* cached: O_DIRECT is taken and not done, and statx may not say so. */
static const struct kind kinds[] = {
	{ .magic = EXT4_SUPER_MAGIC, .name = "ext2, ext3 or ext4" },
	{ .magic = XFS_SUPER_MAGIC, .name = "xfs" },
	{ .magic = BTRFS_SUPER_MAGIC, .name = "btrfs", .copies = true },
	{ .magic = 0xca451a4e, .name = "bcachefs", .copies = true },
	{ .magic = 0x2fc12fc1, .name = "zfs", .copies = true },
	{ .magic = F2FS_SUPER_MAGIC, .name = "f2fs", .copies = true },
	{ .magic = NILFS_SUPER_MAGIC, .name = "nilfs2", .copies = true },
	{ .magic = MSDOS_SUPER_MAGIC, .name = "vfat" },
	{ .magic = 0x2011bab0, .name = "exfat" },
	{ .magic = NFS_SUPER_MAGIC, .name = "nfs" },
	{ .magic = V9FS_MAGIC, .name = "9p", .cached = true },
	{ .magic = FUSE_SUPER_MAGIC, .name = "fuse", .cached = true },
	{ .magic = OVERLAYFS_SUPER_MAGIC, .name = "overlay", .cached = true },
	{ .magic = TMPFS_MAGIC,
	  .name = "tmpfs",
	  .memory = true,
	  .cached = true },
	{ .magic = RAMFS_MAGIC,
	  .name = "ramfs",
	  .memory = true,
	  .cached = true },
	{ .magic = HUGETLBFS_MAGIC, .name = "hugetlbfs", .memory = true },
};

static const struct kind *kind_of(unsigned long magic)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].magic == magic)
			return &kinds[i];
	return NULL;
}

static const struct kind *kind_of_path(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) ? NULL : kind_of((unsigned long)fs.f_type);
}

/* ---- overlays ---------------------------------------------------------------- */

/* "\040" is a space. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		unsigned c;

		if (*text == '\\' && sscanf(text + 1, "%3o", &c) == 1) {
			*to++ = (char)c;
			text += strlen("040");
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* The options of the mounted file system that has this number. */
static bool mount_options(dev_t dev, char *line, int len)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	unsigned dev_major, dev_minor;
	bool found = false;

	while (f && !found && fgets(line, len, f))
		found = sscanf(line, "%*d %*d %u:%u", &dev_major, &dev_minor) ==
				2 &&
			makedev(dev_major, dev_minor) == dev;
	if (f)
		fclose(f);
	return found;
}

/* What is under an overlay, or NULL. */
static const struct kind *under_overlay(dev_t dev)
{
	char line[4096], *upper;

	if (!mount_options(dev, line, sizeof(line)))
		return NULL;
	upper = strstr(line, "upperdir=");
	if (!upper)
		return NULL;
	upper += strlen("upperdir=");
	upper[strcspn(upper, ",\n")] = '\0';
	unescape(upper);
	/* A relative one was relative to who mounted it. */
	return *upper == '/' ? kind_of_path(upper) : NULL;
}

/* ---- devices ----------------------------------------------------------------- */

static bool device_is_memory(dev_t dev, char *name, size_t len, unsigned steps);

static bool number_follows(const char *name, const char *prefix)
{
	size_t n = strlen(prefix);

	return !strncmp(name, prefix, n) && name[n] >= '0' && name[n] <= '9';
}

/* The first line of DIR/NAME, without its end. */
static bool read_line(const char *dir, const char *name, char *line, int len)
{
	char path[400];
	FILE *f;
	bool ok;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >=
	    (int)sizeof(path))
		return false;
	f = fopen(path, "re");
	ok = f && fgets(line, len, f);
	if (f)
		fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = '\0';
	return ok;
}

static bool is_memory_there(const char *dir, const char *file, char *name,
			    size_t len, unsigned steps)
{
	unsigned dev_major, dev_minor;
	char line[32];

	return read_line(dir, file, line, sizeof(line)) &&
	       sscanf(line, "%u:%u", &dev_major, &dev_minor) == 2 &&
	       device_is_memory(makedev(dev_major, dev_minor), name, len,
				steps);
}

/* A loop device is what its file lies on. */
static bool loop_is_memory(const char *dir, char *name, size_t len,
			   unsigned steps)
{
	const struct kind *kind;
	char file[PATH_MAX];
	struct stat st;

	if (!read_line(dir, "loop/backing_file", file, sizeof(file)))
		return false;
	kind = kind_of_path(file);
	if (kind && kind->memory) {
		snprintf(name, len, "a loop device on %s", kind->name);
		return true;
	}
	return !stat(file, &st) &&
	       device_is_memory(st.st_dev, name, len, steps);
}

/* Device mapper, md: memory if all that it is made of is. */
static bool slaves_are_memory(const char *dir, char *name, size_t len,
			      unsigned steps)
{
	char path[128], file[272];
	bool memory = false, all = true;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/slaves", dir);
	d = opendir(path);
	while (d && all && (e = readdir(d))) {
		if (*e->d_name == '.')
			continue;
		snprintf(file, sizeof(file), "%s/dev", e->d_name);
		all = is_memory_there(path, file, name, len, steps);
		memory = all;
	}
	if (d)
		closedir(d);
	return memory;
}

static bool device_is_memory(dev_t dev, char *name, size_t len, unsigned steps)
{
	char dir[64], link[300], line[32];
	const char *own;
	ssize_t got;

	snprintf(dir, sizeof(dir), "/sys/dev/block/%u:%u", major(dev),
		 minor(dev));
	got = steps ? readlink(dir, link, sizeof(link) - 1) : -1;
	if (got < 0)
		return false;
	link[got] = '\0';
	own = strrchr(link, '/');
	own = own ? own + 1 : link;
	if (number_follows(own, "zram") || number_follows(own, "ram")) {
		snprintf(name, len, "%.30s", own);
		return true;
	}
	if (read_line(dir, "partition", line, sizeof(line)))
		return is_memory_there(dir, "../dev", name, len, steps - 1);
	return loop_is_memory(dir, name, len, steps - 1) ||
	       slaves_are_memory(dir, name, len, steps - 1);
}

static void look_at_device(dev_t dev, struct ovc_medium *m)
{
	snprintf(m->name, sizeof(m->name), "a block device");
	m->memory = device_is_memory(dev, m->name, sizeof(m->name), STEPS);
	if (number_follows(m->name, "zram"))
		snprintf(m->figures, sizeof(m->figures),
			 "/sys/block/%.20s/mm_stat", m->name);
}

/* ---- files ------------------------------------------------------------------- */

static void look_at_file(int fd, const struct stat *st, struct ovc_medium *m)
{
	struct statfs fs;
	const struct kind *kind = NULL, *under = NULL;

	if (!fstatfs(fd, &fs))
		kind = kind_of((unsigned long)fs.f_type);
	snprintf(m->name, sizeof(m->name), "%s",
		 kind ? kind->name : "its file system");
	m->copies = kind && kind->copies;
	m->memory = kind && kind->memory;
	m->direct = !kind || !kind->cached;
	if (kind && !strcmp(kind->name, "overlay"))
		under = under_overlay(st->st_dev);
	if (under) {
		snprintf(m->name, sizeof(m->name), "overlay on %s",
			 under->name);
		m->copies = under->copies;
		m->memory = under->memory;
		m->direct = !under->cached;
	}
	m->blocks = m->memory;
	if (!m->memory)
		m->memory = device_is_memory(st->st_dev, m->name,
					     sizeof(m->name), STEPS);
}

/* What statx says of direct I/O, where it says anything; what may be more than a page
 * is of no use to us. */
void ovc_medium_look_again(int fd, struct ovc_medium *m)
{
	struct statx sx;

	if (ovc_sys_fail("statx") ||
	    statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) ||
	    !(sx.stx_mask & STATX_DIOALIGN))
		return;
	m->direct = sx.stx_dio_mem_align && sx.stx_dio_mem_align <= 4096 &&
		    sx.stx_dio_offset_align && sx.stx_dio_offset_align <= 4096;
}

void ovc_medium_look(int fd, struct ovc_medium *m)
{
	struct stat st;

	*m = (struct ovc_medium){ .direct = true };
	if (ovc_sys_fail("fstat") || fstat(fd, &st)) {
		snprintf(m->name, sizeof(m->name), "its file system");
		return;
	}
	if (S_ISBLK(st.st_mode))
		look_at_device(st.st_rdev, m);
	else
		look_at_file(fd, &st, m);
	ovc_medium_look_again(fd, m);
}
