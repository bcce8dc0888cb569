/* SPDX-License-Identifier: MIT */
/*
 * Whose contents are these? A named file or a device that is swap begins with a mark,
 * a page that has nothing of guests in it. What has no mark and is not empty is
 * somebody else's, and refused; what has one was left by a VMM that was killed, and
 * is wiped and taken.
 *
 *	named file  page 0 is the mark
 *	device      page 0 is the mark; the rest of the first MiB, and the last MiB,
 *		    where file systems, partition tables, RAID and LVM have theirs,
 *		    are never written: so what is there is never a guest's, and any
 *		    byte there is somebody else's, mark or not
 */
#ifndef OVC_STORE_MARK_H
#define OVC_STORE_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "sys/file.h"

/* Slots at the beginning, and at the end, that are no pages. */
uint64_t ovc_mark_head(const struct ovc_file *f);
uint64_t ovc_mark_tail(const struct ovc_file *f);

/* Is it free to be overwritten? What a killed VMM left is wiped. */
int ovc_mark_claim(const struct ovc_file *f, const char *path,
		   struct ovc_why *why);

/* Says, before anything is written there, that the first `bytes` are ours. */
int ovc_mark_set(const struct ovc_file *f, uint64_t bytes, struct ovc_why *why);

/* Wipes the first `bytes`, and the mark when all else is gone. */
int ovc_mark_wipe(const struct ovc_file *f, uint64_t bytes);

#endif
