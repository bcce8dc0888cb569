/* SPDX-License-Identifier: MIT */
/*
 * The kernel: its version, and what the library uses of it. Where there is no host
 * to ask, a userfaultfd of user mode only, which all may have, tells what the kernel
 * has of userfaultfd; of the rest nothing is known then.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "check.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* With the bit that userfaultfd has for it; its header may be older. */
static const struct feature {
	uint32_t bit;
	unsigned since; /* 6.8 is 608 */
	uint64_t uffd;
	const char *name, *without;
} features[] = {
	{ OVC_FEATURE_MOVE, 608, 1 << 16, "UFFDIO_MOVE",
	  "memory is taken from guests by mremap" },
	{ OVC_FEATURE_WP_ASYNC, 607, 1 << 15, "WP_ASYNC",
	  "clean pages are written again" },
	{ OVC_FEATURE_PAGEMAP_SCAN, 607, 0, "PAGEMAP_SCAN",
	  "clean pages are written again" },
	{ OVC_FEATURE_POISON, 606, 1 << 14, "UFFDIO_POISON",
	  "a lost page is SIGSEGV instead of SIGBUS" },
	{ OVC_FEATURE_MINOR, 514, 1 << 10, "minor shmem",
	  "no memfd regions, and shared pages are not mapped" },
	{ OVC_FEATURE_BATCH_ADVISE, 613, 0, "process_madvise",
	  "of oneself: a call for each range" },
};

static uint64_t uffd_features(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd,
			      O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return 0;
	if (ioctl(fd, UFFDIO_API, &api))
		api.features = 0;
	close(fd);
	return api.features;
}

static void say_version(const char *release)
{
	if (check.version < 507)
		say("kernel", MISSING, "Linux 5.7 or later, best 6.8",
		    "Linux %s is too old", release);
	else if (check.version < 608)
		say("kernel", WARNING, "6.8 or later is best", "Linux %s",
		    release);
	else
		say("kernel", FINE, NULL, "Linux %s", release);
}

static void say_feature(const struct feature *f, uint64_t uffd)
{
	bool used = check.host ? check.stats.features & f->bit : uffd & f->uffd;
	char cure[64];

	if (used) {
		say(f->name, FINE, NULL, "%s",
		    check.host ? "used" : "the kernel has it");
		return;
	}
	if (!check.host && (!f->uffd || !uffd)) {
		say(f->name, WARNING, NULL,
		    "not known without a host of the library's");
		return;
	}
	if (check.version >= f->since)
		snprintf(cure, sizeof(cure),
			 "a kernel, or seccomp filter, that allows it");
	else
		snprintf(cure, sizeof(cure), "Linux %u.%u or later",
			 f->since / 100, f->since % 100);
	say(f->name, WARNING, cure, "not there: %s", f->without);
}

void check_kernel(void)
{
	uint64_t uffd = check.host ? 0 : uffd_features();
	struct utsname name;
	unsigned major = 0, minor = 0;

	uname(&name);
	sscanf(name.release, "%u.%u", &major, &minor);
	check.version = 100 * major + minor;
	say_version(name.release);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		say_feature(&features[i], uffd);
}

/* 0, or an errno. */
static int try_io_uring(void)
{
	struct io_uring_params params = { 0 };
	int fd = (int)syscall(SYS_io_uring_setup, 1, &params);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

void check_io_uring(void)
{
	int error = try_io_uring();
	char disabled[16] = "";
	const char *cure = "a kernel with CONFIG_IO_URING";

	read_line("/proc/sys/kernel/io_uring_disabled", disabled,
		  sizeof(disabled));
	if (!error &&
	    (!check.host || check.stats.features & OVC_FEATURE_IO_URING)) {
		say("io_uring", FINE, NULL, "%s",
		    check.host ? "used" : "allowed");
		return;
	}
	if (*disabled && *disabled != '0')
		cure = "sysctl kernel.io_uring_disabled=0, or with 1 be of "
		       "the group kernel.io_uring_group";
	else if (is_filtered())
		cure = "allow io_uring in the seccomp filter";
	else if (error == ENOMEM)
		cure = "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)";
	say("io_uring", WARNING, cure,
	    "%s: a thread reads and writes swap files instead",
	    error ? strerror(error) : "the library could not use it");
}
