/* SPDX-License-Identifier: MIT */
/*
 * The one file that speaks to userfaultfd.
 *
 * Debian 12's headers are those of Linux 6.1; what came later is declared here
 * by number. An ioctl that finds the address space changing returns EAGAIN, with
 * what it did so far in its result field; we go on from there. That cannot loop
 * for ever: no event that must be read first (REMOVE, REMAP, FORK) is enabled.
 */
#include "sys/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/fail.h"

#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP ((__u64)1 << 1)
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define UFFD_FLAGS (O_CLOEXEC | O_NONBLOCK)

static int open_new(void)
{
	int dev, fd, error = ovc_sys_fail("userfaultfd");

	if (error)
		return error;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, UFFD_FLAGS);
		error = errno;
		close(dev);
		if (fd >= 0)
			return fd;
		if (error == EMFILE || error == ENFILE || error == ENOMEM)
			return -error;
	}
	/* Not UFFD_USER_MODE_ONLY: a vCPU's faults are the kernel's. */
	fd = (int)syscall(SYS_userfaultfd, UFFD_FLAGS);
	return fd >= 0 ? fd : -errno;
}

static uint64_t features_of(const struct ovc_uffd_features *use)
{
	uint64_t bits = UFFD_FEATURE_THREAD_ID;

	if (use->minor)
		bits |= UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM;
	if (use->poison)
		bits |= UFFD_FEATURE_POISON;
	if (use->wp_async)
		bits |= UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED |
			UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	if (use->wp)
		bits |= UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	if (use->wp_map)
		bits |= UFFD_FEATURE_WP_UNPOPULATED;
	if (use->move)
		bits |= UFFD_FEATURE_MOVE;
	return bits;
}

/*
 * Asks for everything, and where that is EINVAL for less: newest feature first,
 * so that the first success is the most that this kernel has. (The other way,
 * to query first, would cost a second descriptor, which a process that was given
 * its only one cannot open.)
 */
static int agree(int fd, struct ovc_uffd_features *want)
{
	bool *newest[] = { &want->move,	  &want->wp_async, &want->poison,
			   &want->wp_map, &want->wp,	   &want->minor };
	size_t nr = sizeof(newest) / sizeof(newest[0]);
	int error = ovc_sys_fail("UFFDIO_API");

	for (size_t i = 0; !error; i++) {
		struct uffdio_api api = { .api = UFFD_API,
					  .features = features_of(want) };

		if (!ioctl(fd, UFFDIO_API, &api))
			return 0;
		if (errno != EINVAL || i == nr)
			error = -errno;
		else
			*newest[i] = false;
	}
	return error;
}

int ovc_uffd_open(int given, struct ovc_uffd_features *want)
{
	int fd = given > 0 ? given : open_new();
	int error;

	if (fd < 0)
		return fd;
	error = agree(fd, want);
	if (!error)
		return fd;
	if (given <= 0)
		close(fd);
	return error;
}

int ovc_uffd_register(int fd, void *addr, size_t len, bool minor, bool wp)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)addr, len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int error = ovc_sys_fail("UFFDIO_REGISTER");

	if (error)
		return error;
	reg.mode |= minor ? UFFDIO_REGISTER_MODE_MINOR : 0;
	reg.mode |= wp ? UFFDIO_REGISTER_MODE_WP : 0;
	return ioctl(fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int ovc_uffd_unregister(int fd, void *addr, size_t len)
{
	struct uffdio_range range = { (uintptr_t)addr, len };
	int error = ovc_sys_fail("UFFDIO_UNREGISTER");

	if (error)
		return error;
	return ioctl(fd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

int ovc_uffd_read(int fd, struct ovc_uffd_fault *faults, int max)
{
	struct uffd_msg msgs[64];
	ssize_t got;
	int nr = 0;

	if (max > 64)
		max = 64;
	got = read(fd, msgs, (size_t)max * sizeof(msgs[0]));
	for (ssize_t i = 0; got > 0 && i < got / (ssize_t)sizeof(msgs[0]);
	     i++) {
		const struct uffd_msg *m = &msgs[i];

		if (m->event != UFFD_EVENT_PAGEFAULT)
			continue;
		faults[nr++] = (struct ovc_uffd_fault){
			.addr = (uintptr_t)m->arg.pagefault.address &
				~(uintptr_t)4095,
			.tid = m->arg.pagefault.feat.ptid,
			.write = m->arg.pagefault.flags &
				 UFFD_PAGEFAULT_FLAG_WRITE,
			.minor = m->arg.pagefault.flags &
				 UFFD_PAGEFAULT_FLAG_MINOR,
			.wp = m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP,
		};
	}
	return nr;
}

/*
 * Repeats an ioctl until its whole range is done. `result` is where the kernel
 * says how far it came: bytes, or a negative errno.
 */
static int whole(int fd, const char *name, unsigned long request, void *arg,
		 __u64 *start[2], __u64 *len, __s64 *result, size_t *done)
{
	int error = 0;

	*done = 0;
	while (!error && *len) {
		__u64 step = *len;

		*result = 0; /* some errors leave it as it was */
		error = ovc_sys_fail(name);
		if (!error && ioctl(fd, request, arg))
			error = -errno;
		if (error) {
			step = *result > 0 ? (__u64)*result : 0;
		}
		*start[0] += step;
		if (start[1])
			*start[1] += step;
		*len -= step;
		*done += step;
		if (error == -EAGAIN) {
			error = 0;
			if (!step)
				sched_yield();
		}
	}
	return error;
}

int ovc_uffd_copy(int fd, void *dst, const void *src, size_t len, bool wp,
		  size_t *done)
{
	struct uffdio_copy arg = {
		.dst = (uintptr_t)dst,
		.src = (uintptr_t)src,
		.len = len,
		.mode = wp ? UFFDIO_COPY_MODE_WP : 0,
	};
	__u64 *start[2] = { &arg.dst, &arg.src };

	return whole(fd, "UFFDIO_COPY", UFFDIO_COPY, &arg, start, &arg.len,
		     &arg.copy, done);
}

int ovc_uffd_zeropage(int fd, void *dst, size_t len, size_t *done)
{
	struct uffdio_zeropage arg = { .range = { (uintptr_t)dst, len } };
	__u64 *start[2] = { &arg.range.start, NULL };

	return whole(fd, "UFFDIO_ZEROPAGE", UFFDIO_ZEROPAGE, &arg, start,
		     &arg.range.len, &arg.zeropage, done);
}

int ovc_uffd_continue(int fd, void *dst, size_t len, bool wp, size_t *done)
{
	struct uffdio_continue arg = {
		.range = { (uintptr_t)dst, len },
		.mode = wp ? UFFDIO_CONTINUE_MODE_WP : 0,
	};
	__u64 *start[2] = { &arg.range.start, NULL };

	return whole(fd, "UFFDIO_CONTINUE", UFFDIO_CONTINUE, &arg, start,
		     &arg.range.len, &arg.mapped, done);
}

int ovc_uffd_move(int fd, void *dst, void *src, size_t len, size_t *done)
{
	struct uffdio_move arg = {
		.dst = (uintptr_t)dst,
		.src = (uintptr_t)src,
		.len = len,
	};
	__u64 *start[2] = { &arg.dst, &arg.src };

	return whole(fd, "UFFDIO_MOVE", UFFDIO_MOVE, &arg, start, &arg.len,
		     &arg.move, done);
}

int ovc_uffd_poison(int fd, void *dst, size_t len)
{
	struct uffdio_poison arg = { .range = { (uintptr_t)dst, len } };
	__u64 *start[2] = { &arg.range.start, NULL };
	size_t done;

	return whole(fd, "UFFDIO_POISON", UFFDIO_POISON, &arg, start,
		     &arg.range.len, &arg.updated, &done);
}

int ovc_uffd_wake(int fd, void *dst, size_t len)
{
	struct uffdio_range range = { (uintptr_t)dst, len };

	return ioctl(fd, UFFDIO_WAKE, &range) ? -errno : 0;
}

static int write_protect(int fd, void *dst, size_t len, uint64_t mode)
{
	struct uffdio_writeprotect arg = { .range = { (uintptr_t)dst, len },
					   .mode = mode };

	while (ioctl(fd, UFFDIO_WRITEPROTECT, &arg))
		if (errno != EAGAIN)
			return -errno;
	return 0;
}

int ovc_uffd_protect(int fd, void *dst, size_t len)
{
	int error = ovc_sys_fail("UFFDIO_WRITEPROTECT");

	if (error)
		return error;
	return write_protect(fd, dst, len, UFFDIO_WRITEPROTECT_MODE_WP);
}

int ovc_uffd_unprotect(int fd, void *dst, size_t len)
{
	return write_protect(fd, dst, len, 0);
}
