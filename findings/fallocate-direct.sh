#!/bin/bash
# SPDX-License-Identifier: MIT
#
# glibc 2.36: posix_fallocate() says EINVAL where ftruncate() and fallocate() do not.
#
# Where a file system has no fallocate(), as ext2, glibc writes one byte into
# each block instead. On a descriptor with O_DIRECT a write of one byte is not
# allowed, and the caller gets EINVAL for an offset and a length that are right. The
# same call on the same file without O_DIRECT works: preallocate first, and
# set O_DIRECT by fcntl() afterwards.
. "$(dirname "$0")/common/common.sh"

package libc6-dev=2.36-9+deb12u14
package e2fsprogs=1.47.0-2+b2
package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

truncate -s 16M "$WORK/disk"
"$ROOT/sbin/mke2fs" -q -F -t ext2 "$WORK/disk" || cannot "mke2fs does not work"
boot 6.12.117+deb12-cloud-amd64 virtio_blk -- \
	-drive "file=$WORK/disk,if=virtio,format=raw" <<'END'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (1 << 20)

static _Alignas(4096) char page[4096];

static void preallocate(const char *path, int flags, const char *how)
{
	int fd = open(path, O_RDWR | O_CREAT | flags, 0600), error;
	struct stat st;

	error = fallocate(fd, 0, 0, SIZE) ? errno : 0;
	printf("%s: fallocate: %s\n", how, error ? strerror(error) : "works");
	error = posix_fallocate(fd, 0, SIZE);
	fstat(fd, &st);
	printf("%s: posix_fallocate: %s, %s\n", how,
	       error ? strerror(error) : "works",
	       st.st_blocks >= SIZE / 512 ? "allocated" : "not allocated");
	if (fcntl(fd, F_SETFL, O_DIRECT))
		perror("fcntl");
	error = pwrite(fd, page, 4096, 0) == 4096 ? 0 : errno;
	printf("%s: direct write: %s\n", how, error ? strerror(error) : "works");
	close(fd);
}

int main(void)
{
	printf("glibc %s\n", gnu_get_libc_version());
	if (mount("/dev/vda", "/disk", "ext2", 0, NULL))
		return 1;
	preallocate("/disk/a", 0, "buffered");
	preallocate("/disk/b", O_DIRECT, "O_DIRECT");
	return 0;
}
END

compare "a range that can be allocated is, by fallocate() or without it" <<'END'
glibc 2.36
buffered: fallocate: Operation not supported
buffered: posix_fallocate: works, allocated
buffered: direct write: works
O_DIRECT: fallocate: Operation not supported
O_DIRECT: posix_fallocate: Invalid argument, not allocated
O_DIRECT: direct write: works
END
