/* SPDX-License-Identifier: MIT */
/*
 * Swap files as files: opened, locked, preallocated, punched, emptied. Offsets and
 * lengths are multiples of 4096. Calls return 0 or a negative errno.
 */
#ifndef OVC_SYS_FILE_H
#define OVC_SYS_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "sys/medium.h"
#include "sys/why.h"

enum ovc_file_kind { OVC_FILE_UNNAMED, OVC_FILE_NAMED, OVC_FILE_DEVICE };

struct ovc_file {
	int fd;
	enum ovc_file_kind kind;
	bool direct;		  /* O_DIRECT is on, and does what it says */
	bool tmpfile;		  /* made by O_TMPFILE */
	bool created;		  /* a named file that was not there before */
	uint64_t size;		  /* that it had when it was opened */
	uint64_t device;	  /* that it lies on, or is */
	struct ovc_medium medium; /* known after ovc_file_prepare() */
};

/*
 * Opens what `path` names: a directory, a device, or a file, and refuses what can be
 * refused without a look at its contents. Nothing of it is changed, but that a file
 * is made where none was.
 */
int ovc_file_open(struct ovc_file *f, const char *path, bool may_tmpfile,
		  struct ovc_why *why);

/* Refuses a device that is not zero between `from` and `head` and in the last `tail`
 * bytes, or, with `from` 0, has a signature that libblkid knows anywhere. */
int ovc_file_blank(const struct ovc_file *f, const char *path, uint64_t from,
		   uint64_t head, uint64_t tail, struct ovc_why *why);

/* Makes what is ours, and empty, fit for swap: no copies on write, O_DIRECT. */
int ovc_file_prepare(struct ovc_file *f, bool may_direct, struct ovc_why *why);

/* Only closes it. */
void ovc_file_close(struct ovc_file *f);

/* Takes a file that ovc_file_open() made, and that is not to be, away again. */
void ovc_file_unmake(const struct ovc_file *f, const char *path);

/* Makes a file `size` bytes; allocates all of it where `allocate`. On failure it is
 * `from` bytes again. */
int ovc_file_resize(struct ovc_file *f, uint64_t from, uint64_t size,
		    bool allocate, struct ovc_why *why);

/* Reads all of it, or says why not: -EIO where the file is shorter. */
int ovc_file_read(const struct ovc_file *f, void *buf, uint64_t len,
		  uint64_t offset);

/* Writes a page so that it outlives the machine's end. */
int ovc_file_write_page(const struct ovc_file *f, const void *page,
			uint64_t offset);

/* What kept a write that ended at `end` from the disk: `error` is 0 where it ended short,
 * of which the kernel gives no errno, or -ENOSPC, which may be a quota's. */
int ovc_file_short(const struct ovc_file *f, int error, uint64_t end);

/* Gives a range's space back; it may then have to be allocated anew. */
int ovc_file_punch(const struct ovc_file *f, uint64_t offset, uint64_t len);

/* Empties a file, or makes a range of a device read as zero. */
int ovc_file_wipe(const struct ovc_file *f, uint64_t offset, uint64_t len);

/* Bytes of the host's memory that it takes, if its medium is memory. `used` bytes
 * hold pages. */
uint64_t ovc_file_memory(const struct ovc_file *f, uint64_t used);

#endif
