/* SPDX-License-Identifier: MIT */
/* A userfaultfd that the VMM passes is tried out, and refused with the reason. */
#include "world.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static struct world w;

static int userfaultfd(int flags)
{
	int fd;

	need_userfaultfd();
	fd = (int)syscall(SYS_userfaultfd, flags);
	if (fd < 0)
		cr_skip_test("userfaultfd: %s", strerror(errno));
	return fd;
}

static void expect_refused(int fd, int error, const char *word)
{
	struct ovc_host_options o = { .size = sizeof(o),
				      .budget = 64 * MIB,
				      .userfaultfd = fd };
	struct ovc_host *host;

	expect_error("host_create", ovc_host_create(&o, &host), error, word);
	cr_assert_geq(fcntl(fd, F_GETFD), 0, "it stays the caller's");
}

Test(launcher, one_that_blocks_is_made_to_not)
{
	size_t len = 80 * MIB;
	struct plan plan = { .budget = 48 * MIB,
			     .len = len,
			     .userfaultfd = userfaultfd(0) };

	world_open(&w, plan);
	fill_pages(w.mem, 0, len / PAGE, 1);
	cr_assert_gt(vm_stats(&w).swapped, 0);
	cr_assert_eq(check_pages(w.mem, 0, len / PAGE, 1), -1);
	world_close(&w, OVC_THROW_AWAY);
}

Test(launcher, one_of_user_mode_only_is_refused)
{
	expect_refused(userfaultfd(UFFD_USER_MODE_ONLY | O_NONBLOCK), -EPERM,
		       "user mode only");
}

Test(launcher, one_that_was_used_is_refused)
{
	int fd = userfaultfd(O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API };

	cr_assert_eq(ioctl(fd, UFFDIO_API, &api), 0);
	expect_refused(fd, -EINVAL, "UFFDIO_API");
}

Test(launcher, what_is_none_is_refused)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	need_userfaultfd();
	expect_refused(fd, -EINVAL, "no userfaultfd");
}

/* The child opens one, sends it, and stays. */
static int opened_by_a_child(pid_t *pid)
{
	char byte = 1, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int ends[2], fd;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	*pid = fork();
	if (!*pid) {
		fd = (int)syscall(SYS_userfaultfd, O_NONBLOCK);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		sendmsg(ends[1], &m, 0);
		for (;;)
			pause();
	}
	cr_assert_eq(recvmsg(ends[0], &m, 0), 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	close(ends[0]);
	close(ends[1]);
	return fd;
}

Test(launcher, one_of_another_process_is_refused)
{
	pid_t pid;
	int fd;

	need_userfaultfd();
	fd = opened_by_a_child(&pid);
	expect_refused(fd, -EINVAL, "another process");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
