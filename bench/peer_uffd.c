/* SPDX-License-Identifier: MIT */
/*
 * The smallest userfaultfd loop as the peer: read a message, answer it.
 *
 * In its best placement: one handler bound to each CPU, all blocking in read()
 * on the one userfaultfd. Every waiter is woken by a fault, the one on the
 * faulter's own CPU runs first and takes the message, and no wake-up crosses
 * CPUs. It keeps no state and looks nothing up.
 *
 * Not permitted: the trial is unavailable. An answer that the kernel refuses
 * aborts, since the faulter would hang. The handlers end with the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

static struct {
	int fd;
	int copy; /* a bool, atomic */
	char zeros[OVC_PAGE_SIZE] __attribute__((aligned(OVC_PAGE_SIZE)));
} uffd;

static int open_uffd(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd;

	if (dev < 0)
		return (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
	close(dev);
	return fd;
}

static int answer(uint64_t addr)
{
	struct uffdio_zeropage zero = { .range = { addr, OVC_PAGE_SIZE } };
	struct uffdio_copy copy = { .dst = addr, .len = OVC_PAGE_SIZE };

	if (!__atomic_load_n(&uffd.copy, __ATOMIC_RELAXED))
		return ioctl(uffd.fd, UFFDIO_ZEROPAGE, &zero);
	copy.src = (uintptr_t)uffd.zeros;
	return ioctl(uffd.fd, UFFDIO_COPY, &copy);
}

static void *handler(void *arg)
{
	struct uffd_msg msg;

	(void)arg;
	for (;;) {
		uint64_t addr;

		if (read(uffd.fd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		addr = msg.arg.pagefault.address & -(uint64_t)OVC_PAGE_SIZE;
		/* Each page is touched once, by one thread. */
		if (answer(addr))
			abort();
	}
	return NULL;
}

static int start_handlers(void)
{
	cpu_set_t allowed, one;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return -errno;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		pthread_t thread;
		int err;

		if (!CPU_ISSET(cpu, &allowed))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		err = pthread_create(&thread, NULL, handler, NULL);
		if (!err)
			err = pthread_setaffinity_np(thread, sizeof(one), &one);
		if (err)
			return -err;
	}
	return 0;
}

void peer_uffd_copy(bool copy)
{
	__atomic_store_n(&uffd.copy, (int)copy, __ATOMIC_RELAXED);
}

int peer_uffd_start(struct trial *trial, const struct arena *arena)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = {
		.range = { (uintptr_t)arena->addr, arena->len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int err;

	memset(uffd.zeros, 0, sizeof(uffd.zeros));
	uffd.fd = open_uffd();
	if (uffd.fd < 0 || ioctl(uffd.fd, UFFDIO_API, &api) ||
	    ioctl(uffd.fd, UFFDIO_REGISTER, &area))
		return fail(trial, TRIAL_UNAVAILABLE, "userfaultfd: %s",
			    strerror(errno));
	err = start_handlers();
	if (err)
		return fail(trial, TRIAL_FAILED, "threads: %s", strerror(-err));
	return 0;
}
