/* SPDX-License-Identifier: MIT */
/* A memfd that is a guest's memory, or the sharing store. Calls return 0 or a negative errno. */
#ifndef OVC_SYS_MEMFD_H
#define OVC_SYS_MEMFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "sys/proc.h"

/* What fd is: its device and inode, and its size in bytes. */
int ovc_memfd_stat(int fd, uint64_t *device, uint64_t *inode, uint64_t *size);

/* Is it memory (a memfd, or a file of a tmpfs)? And sealed, so that pages of it cannot be
 * freed? */
bool ovc_memfd_is_memory(int fd);
bool ovc_memfd_is_sealed(int fd);

/* Maps [offset, offset + len) of a duplicate of fd, which comes back in *copy (-1
 * where even that failed). */
int ovc_memfd_map(const struct ovc_proc *proc, int fd, uint64_t offset,
		  size_t len, int *copy, char **view);
void ovc_memfd_unmap(int copy, char *view, size_t len);

/* A new one of len bytes, without memory yet, and a mapping of it. What was made when
 * it fails is for ovc_memfd_unmap(). */
int ovc_memfd_create(const char *name, size_t len, int *fd, char **view);

/* Writes nr pieces one behind the other; all of it or an error. */
int ovc_memfd_write(int fd, uint64_t offset, const struct iovec *iov,
		    size_t nr);

/* Maps a range of it at addr, copied on write. */
int ovc_memfd_map_private(int fd, uint64_t offset, void *addr, size_t len);

/* Reads len bytes; holes read as zeros, and get no memory by it. All of it or an error. */
int ovc_memfd_read(int fd, uint64_t offset, void *buf, size_t len);

/* The first byte from offset on that is not in a hole, and the first that is in one;
 * UINT64_MAX for none. What the host swapped is in no hole; what was allocated
 * (fallocate) and never touched is in one. */
uint64_t ovc_memfd_next_data(int fd, uint64_t offset);
uint64_t ovc_memfd_next_hole(int fd, uint64_t offset);

/* How many pages of a range have memory, or a place in the host's swap, touched or not.
 * -ENOSYS before Linux 6.5, -EPERM too where a filter refuses it. */
int ovc_memfd_allocated(int fd, uint64_t offset, uint64_t len, uint64_t *nr);

/* Maps a range of it anew, shared, at addr. */
int ovc_memfd_remap(int fd, uint64_t offset, void *addr, size_t len);

/* Frees the pages of a range of it. */
int ovc_memfd_punch(int fd, uint64_t offset, uint64_t len);

#endif
