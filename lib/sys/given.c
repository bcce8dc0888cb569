/* SPDX-License-Identifier: MIT */
/*
 * A userfaultfd that a launcher opened for us: is it of use?
 *
 * A page of our own is registered with it and then touched by the kernel, as KVM and
 * system calls touch guest memory, by a thread that copies from it into an eventfd:
 *
 *   a fault is told of         it is of use; the fault is answered
 *   the copy says EFAULT       it does not hear of the kernel's faults
 *   the copy simply succeeds   it is of another process, whose memory it serves
 *
 * It must not block, for fault threads ask it whether there is something to do; and it
 * must not get into programs that the VMM starts: both are set.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "sys/fail.h"
#include "sys/pages.h"
#include "sys/thread.h"
#include "sys/uffd.h"

#define PAGE	4096
#define WAIT_MS 5000

struct touch {
	const void *page;
	int to, done; /* eventfds */
	int error;
};

static void *copy_from(void *arg)
{
	struct touch *t = arg;

	t->error = write(t->to, t->page, 8) < 0 ? errno : 0;
	ovc_notify_post(t->done);
	return NULL;
}

/* Returns what became of the touch: 0 where the descriptor told of it. */
static int answer(int fd, void *page, struct touch *t, const char **why)
{
	int fds[] = { t->done, fd };
	struct ovc_uffd_fault fault;
	size_t done;

	/* True: the first of them. */
	if (!ovc_poll_first(fds, 2, WAIT_MS)) {
		bool told = ovc_uffd_read(fd, &fault, 1) == 1 &&
			    fault.addr == (uintptr_t)page;

		ovc_uffd_zeropage(fd, page, PAGE, &done);
		*why = "nothing came of a fault; use another";
		return told ? 0 : -EINVAL;
	}
	if (t->error == EFAULT) {
		*why = "it is of user mode only (UFFD_USER_MODE_ONLY): faults of "
		       "vCPUs, which are the kernel's, are not told of";
		return -EPERM;
	}
	*why = "it is of another process, and serves the memory of that one: "
	       "let it be opened by the process that becomes the VMM, before "
	       "that gives up its rights";
	return -EINVAL;
}

static int touch(int fd, void *page, const char **why)
{
	struct touch t = { .page = page };
	pthread_t thread;
	int error;

	t.to = ovc_notify_create();
	t.done = ovc_notify_create();
	error = t.to < 0 ? t.to : t.done < 0 ? t.done : 0;
	if (!error)
		error = ovc_thread_start(&thread, "ovc-try", copy_from, &t);
	if (!error) {
		error = answer(fd, page, &t, why);
		/* Who waits for it no more goes on. */
		ovc_uffd_unregister(fd, page, PAGE);
		pthread_join(thread, NULL);
	}
	ovc_fd_close(t.to);
	ovc_fd_close(t.done);
	return error;
}

static int set_flags(int fd)
{
	int flags = ovc_sys_fail("fcntl userfaultfd");

	if (flags)
		return flags;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC))
		return -errno;
	return 0;
}

static int use(int fd, struct ovc_uffd_features *want, const char **why)
{
	void *page;
	int error = ovc_pages_reserve(PAGE, &page);

	if (error)
		return error;
	error = ovc_uffd_open(fd, want);
	if (error == -ENOTTY) {
		*why = "it is no userfaultfd";
		error = -EINVAL;
	} else if (error == -EINVAL && !ovc_uffd_wake(fd, page, PAGE)) {
		*why = "UFFDIO_API was called on it already";
	} else if (error >= 0) {
		error = ovc_uffd_register(fd, page, PAGE, false, false);
		*why = error ? "it is of another process" : NULL;
		error = error ? -EINVAL : touch(fd, page, why);
	}
	ovc_pages_release(page, PAGE);
	return error;
}

int ovc_uffd_take(int fd, struct ovc_uffd_features *want, const char **why)
{
	int error = set_flags(fd);

	*why = NULL;
	if (!error)
		error = use(fd, want, why);
	return error < 0 ? error : fd;
}
