/* SPDX-License-Identifier: MIT */
/*
 * ovc-check: what this host can do for libovercommit, a line each.
 *
 *	main.c         the command line, the order, the exit status
 *	output.c       lines as text or as JSON
 *	library.c      what the library itself finds out, by creating a host
 *	kernel.c       version, features of userfaultfd and others, io_uring
 *	permission.c   who may have a userfaultfd
 *	directory.c    where swap files go
 *	limits.c       of the process: resources, its memory cgroup
 *	machine.c      KSM, host swap, huge pages, KVM
 *
 * Nothing on the host is changed, but that an unnamed file of a MiB exists in the
 * swap directory for a moment.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <overcommit.h>

enum verdict {
	FINE,
	WARNING, /* the library does without, or somebody should know */
	MISSING, /* the library needs it */
};

extern struct check {
	const char *swap_dir;
	bool json;
	unsigned warnings, missing;

	/* library.c: a host, or why there is none; */
	struct ovc_host *host;
	int error; /* negative errno */
	char why[512];
	struct ovc_host_stats stats;

	/* kernel.c: 6.8 is 608; */
	unsigned version;
	/* permission.c: faults of the kernel, which KVM's are, included. */
	bool may_userfaultfd;
} check;

/* ---- output.c ------------------------------------------------------------- */

/* A line. The cure is printed where it is not fine; NULL: there is none. */
__attribute__((format(printf, 4, 5))) void say(const char *name,
					       enum verdict verdict,
					       const char *cure,
					       const char *format, ...);
void say_result(void);

/* The first line of a file, without its end; false: it cannot be read. */
bool read_line(const char *path, char *line, size_t len);

/* ---- the checks ----------------------------------------------------------- */

void check_permission(void);
void check_library(void); /* after that, check.host may be used, ... */
void library_close(void); /* ... until this */
void check_kernel(void);
void check_io_uring(void);
void check_directory(void);
void check_limits(void);
void check_cgroup(void);
void check_machine(void);
void check_kvm(void);

/* library.c: tries to give a VM its swap there. Returns what ovc_vm_create() did, with
 * its sentence, or else with the library's warnings, in `text`. */
int library_try_swap(const char *dir, char *text, size_t len);

/* permission.c: a seccomp filter is on. */
bool is_filtered(void);

#endif /* CHECK_H */
