#!/bin/bash
# SPDX-License-Identifier: MIT
#
# btrfs of Linux 6.12: space that was preallocated can be written once.
#
# posix_fallocate() promises that writes to the range do not fail for want of
# space. On btrfs the first write to each block keeps the promise. The second is a
# copy elsewhere like any overwrite, and on a file system that is nearly full it
# says ENOSPC. A file with the flag FS_NOCOW_FL, set while it was
# empty, is overwritten where it is.
. "$(dirname "$0")/common/common.sh"

package btrfs-progs=6.2-1+deb12u2
package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

truncate -s 256M "$WORK/disk"
"$ROOT/sbin/mkfs.btrfs" -q "$WORK/disk" >"$WORK/log" 2>&1 ||
	cannot "mkfs.btrfs does not work"
boot 6.12.117+deb12-cloud-amd64 virtio_blk btrfs -- \
	-drive "file=$WORK/disk,if=virtio,format=raw" <<'END'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (64 << 10)
#define SIZE (64 << 20)

static char *chunk;

static void fill_disk(void)
{
	int fd = open("/disk/fill", O_WRONLY | O_CREAT, 0600);
	size_t size;

	for (size = CHUNK; size >= 4096; size /= 2)
		while (write(fd, chunk, size) > 0)
			fsync(fd);
	close(fd);
}

static void overwrite(const char *what, int fd)
{
	long at;
	int pass;

	for (pass = 1; pass <= 3; pass++) {
		errno = 0;
		for (at = 0; at < SIZE; at += CHUNK)
			if (pwrite(fd, chunk, CHUNK, at) != CHUNK)
				break;
		if (at < SIZE)
			printf("%s, pass %d: %s\n", what, pass, strerror(errno));
		else
			printf("%s, pass %d: written\n", what, pass);
	}
}

static int file(const char *path, int flags)
{
	int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);

	if (flags && ioctl(fd, FS_IOC_SETFLAGS, &flags))
		perror("FS_IOC_SETFLAGS");
	if (posix_fallocate(fd, 0, SIZE))
		perror("posix_fallocate");
	return fd;
}

int main(void)
{
	int plain, nocow;

	chunk = aligned_alloc(4096, CHUNK);
	memset(chunk, 1, CHUNK);
	if (mount("/dev/vda", "/disk", "btrfs", 0, NULL))
		return 1;
	plain = file("/disk/plain", 0);
	nocow = file("/disk/nocow", FS_NOCOW_FL);
	fill_disk();
	overwrite("plain", plain);
	overwrite("FS_NOCOW_FL", nocow);
	return 0;
}
END

compare "what posix_fallocate() has given can be written again and again" <<'END'
plain, pass 1: written
plain, pass 2: No space left on device
plain, pass 3: No space left on device
FS_NOCOW_FL, pass 1: written
FS_NOCOW_FL, pass 2: written
FS_NOCOW_FL, pass 3: written
END
