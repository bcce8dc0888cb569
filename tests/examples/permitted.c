/* SPDX-License-Identifier: MIT */
/*
 * permitted PROGRAM [ARGUMENT]...: runs the program where userfaultfd is
 * permitted and, if --kvm is among the arguments, /dev/kvm can be opened. Where not,
 * says so and ends with 77, a skip: the examples themselves end with an error
 * then, as they should.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

static int open_userfaultfd(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(dev);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return fd;
}

static void want_kvm(char *const *args)
{
	int fd;

	while (*args && strcmp(*args, "--kvm"))
		args++;
	if (!*args)
		return;
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		exit(77);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	int fd = open_userfaultfd();

	if (argc < 2)
		return 2;
	if (fd < 0) {
		printf("skipped: no userfaultfd here: %s\n", strerror(errno));
		return 77;
	}
	close(fd);
	want_kvm(argv + 1);
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
