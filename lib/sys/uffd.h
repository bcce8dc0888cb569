/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd, and nothing else. Addresses are page aligned; lengths are bytes.
 * Calls that work on a range return 0 or a negative errno and say in *done how
 * many bytes were handled before that. EAGAIN (the address space was changing)
 * is retried inside.
 */
#ifndef OVC_SYS_UFFD_H
#define OVC_SYS_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the kernel offers; see ovc_uffd_open(). */
struct ovc_uffd_features {
	bool move;     /* UFFDIO_MOVE */
	bool poison;   /* UFFDIO_POISON */
	bool minor;    /* minor faults on shmem */
	bool wp_async; /* write-protect resolved by the kernel, anon and shmem */
	bool wp;       /* or by us (5.19); with wp_map: also mapped so (6.4) */
	bool wp_map;
};

struct ovc_uffd_fault {
	uintptr_t addr; /* of the page */
	uint32_t tid;
	bool write;
	bool minor; /* the page cache has the page, the mapping does not */
	bool wp;    /* it is write-protected */
};

/*
 * Opens a userfaultfd (or takes `given` where above 0), nonblocking, and agrees
 * on features: of what the kernel has, those that *want has. *want is narrowed to
 * what was agreed. Returns the descriptor or -errno.
 */
int ovc_uffd_open(int given, struct ovc_uffd_features *want);

/*
 * The same with one that was given, which is tried out: that it is one, of this process,
 * and hears of faults of the kernel; see given.c. *why says what is wrong, or is NULL where
 * the error does.
 */
int ovc_uffd_take(int fd, struct ovc_uffd_features *want, const char **why);

int ovc_uffd_register(int fd, void *addr, size_t len, bool minor, bool wp);
int ovc_uffd_unregister(int fd, void *addr, size_t len);

/* Reads up to `max` faults. Returns how many, 0 for none. */
int ovc_uffd_read(int fd, struct ovc_uffd_fault *faults, int max);

int ovc_uffd_copy(int fd, void *dst, const void *src, size_t len, bool wp,
		  size_t *done);
int ovc_uffd_zeropage(int fd, void *dst, size_t len, size_t *done);
int ovc_uffd_continue(int fd, void *dst, size_t len, bool wp, size_t *done);
int ovc_uffd_move(int fd, void *dst, void *src, size_t len, size_t *done);
int ovc_uffd_poison(int fd, void *dst, size_t len);
int ovc_uffd_wake(int fd, void *dst, size_t len);

/* Writes fault from now on, of pages that are absent, too. */
int ovc_uffd_protect(int fd, void *dst, size_t len);

/* Takes write protection away, also that of wp, so that the next stage sees a page as
 * written; wakes who waits. */
int ovc_uffd_unprotect(int fd, void *dst, size_t len);

#endif
