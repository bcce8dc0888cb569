/* SPDX-License-Identifier: MIT */
/*
 * Swap files as files: opened, locked, preallocated, punched. Offsets and lengths
 * are multiples of 4096. Calls return 0 or a negative errno.
 */
#ifndef OVC_SYS_FILE_H
#define OVC_SYS_FILE_H

#include <stdbool.h>
#include <stdint.h>

enum ovc_file_kind { OVC_FILE_UNNAMED, OVC_FILE_NAMED, OVC_FILE_DEVICE };

struct ovc_file {
	int fd;
	enum ovc_file_kind kind;
	bool direct;   /* O_DIRECT is on */
	bool tmpfile;  /* made by O_TMPFILE */
	uint64_t size; /* of a device, else 0 */
};

/*
 * Opens what `path` names: a directory, a device, or a file. Where something is
 * wrong *why says what, as half a sentence.
 */
int ovc_file_open(struct ovc_file *f, const char *path, bool may_direct,
		  bool may_tmpfile, const char **why);
void ovc_file_close(struct ovc_file *f);

/* Makes the file `size` bytes; allocates all of it where `allocate`. */
int ovc_file_resize(struct ovc_file *f, uint64_t from, uint64_t size,
		    bool allocate);

/* Reads all of it, or says why not: -EIO where the file is shorter. */
int ovc_file_read(const struct ovc_file *f, void *buf, uint64_t len,
		  uint64_t offset);

/* Gives a range's space back; it may then have to be allocated anew. */
int ovc_file_punch(const struct ovc_file *f, uint64_t offset, uint64_t len);

#endif
