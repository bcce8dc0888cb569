/* SPDX-License-Identifier: MIT */
/*
 * Who may have a userfaultfd that is told of the kernel's faults, too: KVM's are, and
 * those of system calls. One way is enough.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

#ifndef USERFAULTFD_IOC_NEW /* Linux 6.1 */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define DEVICE "/dev/userfaultfd"

/* 0, or an errno. */
static int try_call(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int try_device(void)
{
	int dev = open(DEVICE, O_RDWR | O_CLOEXEC), fd, error;

	if (dev < 0)
		return errno;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	error = fd < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	close(dev);
	return error;
}

/* A line of /proc/self/status. */
static bool status(const char *key, char *value, size_t len)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		found = !strncmp(line, key, strlen(key));
		if (found)
			snprintf(value, len, "%s",
				 line + strlen(key) +
					 strspn(line + strlen(key), "\t "));
	}
	if (file)
		fclose(file);
	if (found)
		value[strcspn(value, "\n")] = '\0';
	return found;
}

bool is_filtered(void)
{
	char value[32];

	return status("Seccomp:", value, sizeof(value)) && *value != '0';
}

static bool has_capability(unsigned bit)
{
	char value[64];

	return status("CapEff:", value, sizeof(value)) &&
	       strtoull(value, NULL, 16) >> bit & 1;
}

/* What is no good is a warning where there is no other way. */
static enum verdict unless(bool good)
{
	return good || check.may_userfaultfd ? FINE : WARNING;
}

static void say_ways(int call, int device, bool capable)
{
	char value[16] = "not known";
	bool any;

	if (call)
		say("userfaultfd(2)", unless(false), NULL, "%s%s",
		    strerror(call),
		    call == EPERM && capable ? ", in spite of CAP_SYS_PTRACE" :
					       "");
	else
		say("userfaultfd(2)", FINE, NULL, "permitted");
	if (device)
		say(DEVICE, unless(false), NULL, "%s%s", strerror(device),
		    device == ENOENT ? ": since Linux 6.1" : "");
	else
		say(DEVICE, FINE, NULL, "may be opened");
	any = read_line("/proc/sys/vm/unprivileged_userfaultfd", value,
			sizeof(value)) &&
	      *value == '1';
	say("unprivileged", unless(any), NULL,
	    "vm.unprivileged_userfaultfd is %s%s", value,
	    any ? ": all may have one" : "");
	say("CAP_SYS_PTRACE", unless(capable), NULL, "%s",
	    capable ? "in force" : "not in force");
	say("seccomp", unless(!is_filtered()), NULL, "%s",
	    is_filtered() ? "a filter is on: a container, or a service's" :
			    "no filter");
}

void check_permission(void)
{
	int call = try_call(), device = try_device();
	bool capable = has_capability(CAP_SYS_PTRACE);
	const char *cure =
		"one of: be root; setcap cap_sys_ptrace+ep PROGRAM; give your "
		"group " DEVICE " (as root: chgrp GROUP, chmod 660, and a "
		"udev rule to keep it so); sysctl "
		"vm.unprivileged_userfaultfd=1";

	check.may_userfaultfd = !call || !device;
	if (call == ENOSYS && is_filtered())
		cure = "allow the call in the seccomp filter, or open " DEVICE;
	else if (call == ENOSYS)
		cure = "a kernel with CONFIG_USERFAULTFD";
	else if (call == EPERM && capable && is_filtered())
		cure = "allow the call in the seccomp filter (of a container: "
		       "--security-opt seccomp=FILE), or give it " DEVICE;
	if (check.may_userfaultfd)
		say("userfaultfd", FINE, NULL, "permitted, by %s",
		    device ? "userfaultfd(2)" : DEVICE);
	else
		say("userfaultfd", MISSING, cure,
		    "not permitted (%s): nothing works without",
		    strerror(call));
	say_ways(call, device, capable);
}
