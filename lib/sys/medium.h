/* SPDX-License-Identifier: MIT */
/*
 * What a file lies on: which file system, or which device, and what of that matters
 * for swap.
 */
#ifndef OVC_SYS_MEDIUM_H
#define OVC_SYS_MEDIUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ovc_medium {
	char name[48];	  /* "ext4", "loop3 on tmpfs"; for sentences */
	bool memory;	  /* what is written stays in the host's memory */
	bool direct;	  /* O_DIRECT does what it says */
	bool copies;	  /* overwriting takes new space each time */
	bool blocks;	  /* memory: st_blocks is what it takes */
	char figures[48]; /* memory: a zram device's mm_stat, or "" */
};

/* Of an open file or device. What cannot be found out is taken for a plain disk. */
void ovc_medium_look(int fd, struct ovc_medium *m);

/* Looks again at what may change with the first bytes: `direct`. */
void ovc_medium_look_again(int fd, struct ovc_medium *m);

/* What libblkid finds on a device or in a file, in words ("a signature of ext4"): 1;
 * 0 where it finds nothing; -errno where it could not look. */
int ovc_medium_signature(int fd, char *text, size_t len);

#endif
