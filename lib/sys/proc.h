/* SPDX-License-Identifier: MIT */
/*
 * Files of /proc that are asked again and again. They are opened once and kept, for later
 * there may be no /proc (chroot), no descriptor left, or no open (seccomp).
 */
#ifndef OVC_SYS_PROC_H
#define OVC_SYS_PROC_H

#include <stdbool.h>
#include <stddef.h>

/* Descriptors; -1 where there is no such file: what it would say is unknown. */
struct ovc_proc {
	int self; /* the directory /proc/self */
	int statm, smaps, maps, merging;
	int meminfo, pressure; /* of the machine */
};

#define OVC_PROC_NONE                                             \
	{                                                         \
		.self = -1, .statm = -1, .smaps = -1, .maps = -1, \
		.merging = -1, .meminfo = -1, .pressure = -1      \
	}

/* Opens what is not open, of OVC_PROC_NONE or of one that lacks some. */
void ovc_proc_open(struct ovc_proc *p);
void ovc_proc_close(struct ovc_proc *p);

/* The beginning of a file as text, as it is now. False: unknown. */
bool ovc_proc_text(int fd, const char *name, char *text, size_t size);

/* Gives each line, without its end, to fn, until that says false. Lines longer than 4096
 * come in pieces. 0, or -errno: then not all were seen. */
int ovc_proc_lines(int fd, const char *name,
		   bool (*fn)(const char *line, void *arg), void *arg);

#endif
