/* SPDX-License-Identifier: MIT */
/*
 * madvise, mmap and pagemap: what the kernel says of, and does with, ranges of
 * this process's memory. Addresses and lengths are page aligned. Calls return 0
 * or a negative errno.
 */
#ifndef OVC_SYS_PAGES_H
#define OVC_SYS_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "sys/proc.h"

/* mmap(), readable and writable, but not locked and without memory, whatever the process
 * wants of its mappings. NULL, and errno. For the files of sys/. */
void *ovc_pages_map(void *at, size_t len, int flags, int fd, uint64_t offset);

/* Reserves address space, readable, writable, without memory behind it. */
int ovc_pages_reserve(size_t len, void **addr);
void ovc_pages_release(const volatile void *addr, size_t len);

/* Puts fresh, empty memory in the place of a range: one mapping again. */
int ovc_pages_refresh(void *addr, size_t len);

/* Private anonymous memory with the traits (OVC_MAP_*) of a guest's, so that it becomes
 * one mapping with that when it is moved there, in one step for all other threads. */
int ovc_pages_make(size_t len, unsigned traits, void **addr);
int ovc_pages_move_over(void *from, void *to, size_t len);

#define OVC_MAP_NORESERVE 1
#define OVC_MAP_HUGE	  2
#define OVC_MAP_NOHUGE	  4
#define OVC_MAP_DONTDUMP  8
#define OVC_MAP_DONTFORK  16
#define OVC_MAP_ALL	  31
#define OVC_MAP_MIXED	  32 /* not all mappings of a range have the same */

/* Gives a range the traits that it is to have; what is not asked for stays. */
int ovc_pages_advise(void *addr, size_t len, unsigned traits);

/* Advice by its MADV_* number: the traits that it sets and clears; false for advice
 * that is none of traits. */
bool ovc_pages_is_advice(int advice, unsigned *set, unsigned *clear);
int ovc_pages_advise_as(void *addr, size_t len, int advice);

/* Frees a range's frames; it reads as zero, or as the file, afterwards. */
int ovc_pages_dontneed(void *addr, size_t len);

/* The same for many ranges, with one flush of the TLBs where the kernel can
 * (process_madvise on oneself), else one after the other. */
int ovc_pages_dontneed_many(bool batch, const struct iovec *iov, size_t nr);
bool ovc_pages_can_batch(void);

/* Frees the file's pages behind many ranges of a shared mapping of it. */
int ovc_pages_remove_many(const struct iovec *iov, size_t nr);

/* Moves the page tables of a private anonymous range to `to`, leaving the range
 * mapped, registered and empty (MREMAP_DONTUNMAP). */
int ovc_pages_move_away(void *from, void *to, size_t len);

/* Makes a range inaccessible: what is left when a page is lost and the kernel
 * has no poison. */
int ovc_pages_forbid(void *addr, size_t len);

/* One page that is all zeros in a child of fork(). */
int ovc_pages_make_wiped(void **page);

/* Says that a range is not used now, which splits huge pages that have lost a part. */
void ovc_pages_cold(void *addr, size_t len);

/* Maps what a range has, as a read would: an error where that would be a signal. */
int ovc_pages_map_in(void *addr, size_t len);

/* Touches a range for writing (5.14): what another process shares of it is copied. */
int ovc_pages_populate(void *addr, size_t len);

/* The kernel is not to merge its pages with equal ones; what it merged is copied. */
int ovc_pages_unmerge(void *addr, size_t len);

/* Is the mapping that has this page locked (mlock)? */
bool ovc_pages_are_locked(void *addr);
void ovc_pages_unlock(void *addr, size_t len);

/* Children of fork() do not get the range (and may get it again). */
int ovc_pages_dontfork(void *addr, size_t len, bool on);

/*
 * Bits for each page of a range. A page is there where a frame is mapped, and where its
 * frame is away for now. To a quick look one that is away and write-protected looks like
 * the marker that is left of a protected page when it is taken: it is UNSURE until somebody
 * asks further (ovc_pagemap_tell(), or ovc_memory_look(), which always finds out).
 */
#define OVC_PAGES_PRESENT 1 /* a frame is mapped */
#define OVC_PAGES_WRITTEN \
	2 /* not write-protected: written, or never protected */
#define OVC_PAGES_MARKED 4  /* no page, but a marker of write protection */
#define OVC_PAGES_FILE	 8  /* the frame is of a file: no private copy */
#define OVC_PAGES_ZERO	 16 /* the kernel's zero page */
#define OVC_PAGES_AWAY	 32 /* in the host's swap, or being moved by the kernel */
#define OVC_PAGES_UNSURE 64 /* AWAY or MARKED */

/* Of bits that are sure: is there a page, whose bytes must not get lost? */
static inline bool ovc_pages_there(uint8_t bits)
{
	return bits & (OVC_PAGES_PRESENT | OVC_PAGES_AWAY);
}

struct ovc_pagemap {
	int fd;	   /* of /proc/self/pagemap */
	bool scan; /* PAGEMAP_SCAN works */
};

int ovc_pagemap_open(struct ovc_pagemap *pm, bool may_scan);
void ovc_pagemap_close(struct ovc_pagemap *pm);

/* Fills bits[nr], quickly; ZERO only where pm->scan, and else all that is there is
 * WRITTEN. */
int ovc_pagemap_get(const struct ovc_pagemap *pm, const void *addr, size_t nr,
		    uint8_t *bits);

/* How many of nr pages from addr on have a frame mapped, up to the first that has none: the
 * cheapest question. */
size_t ovc_pagemap_present(const struct ovc_pagemap *pm, const void *addr,
			   size_t nr);

/* Asks once more for pages that are UNSURE. They stay so where the kernel hides from this
 * process what swap entries are: it shows that to CAP_SYS_ADMIN alone. */
int ovc_pagemap_tell(const struct ovc_pagemap *pm, const void *addr, size_t nr,
		     uint8_t *bits);

/* Is any of them UNSURE? */
bool ovc_pages_unsure(const uint8_t *bits, size_t nr);

/* Fills bits[nr] with 1 where a frame is mapped that is not the kernel's zero page, else
 * with 0. */
int ovc_pagemap_in_memory(const struct ovc_pagemap *pm, const void *addr,
			  size_t nr, uint8_t *bits);

/* Has no other process, and no other place of this one, the page mapped? True where it is
 * not known. */
bool ovc_pages_is_alone(const struct ovc_pagemap *pm, const void *addr);

/* Is a huge page mapped there? False where it cannot be asked. */
bool ovc_pages_is_huge(const struct ovc_pagemap *pm, const void *addr);

/* Write-protects what is present of a range that is registered for it, so that what is
 * WRITTEN from then on can be told. */
int ovc_pagemap_protect(const struct ovc_pagemap *pm, const void *addr,
			size_t nr);

/*
 * Copies memory that may be lost (poisoned) or unmapped: -EFAULT then, and no signal. The
 * kernel does it; where this process may not ask it to (seccomp) it is a plain copy.
 */
int ovc_pages_copy(void *to, const void *from, size_t len);

/* What kind of mapping covers [addr, addr + len). */
struct ovc_mapping {
	bool mapped;   /* all of it */
	bool some;     /* any of it */
	bool readable; /* all of it */
	bool writable;
	bool exec; /* any of it */
	bool shared;
	bool private;
	bool file; /* any of it is of a file */
	bool hugetlb;
	bool locked;	 /* any of it */
	unsigned traits; /* OVC_MAP_* of any of it */
	uint64_t inode;	 /* of the file; 0 for none */
	uint64_t device; /* that it is on */
	uint64_t offset; /* of addr in it */
	bool straight;	 /* offsets rise with addresses, one file */
};

int ovc_pages_mapping(const struct ovc_proc *proc, const void *addr, size_t len,
		      struct ovc_mapping *m);

/* Calls fn for what each mapping has of the range, by address. */
int ovc_pages_each_mapping(const struct ovc_proc *proc, const void *addr,
			   size_t len,
			   void (*fn)(void *arg, char *from, size_t len),
			   void *arg);

/* The same with the end of that and its traits. */
int ovc_pages_traits(const struct ovc_proc *proc, const void *addr, size_t len,
		     void (*fn)(void *arg, const void *end, unsigned traits),
		     void *arg);

/* Is some of the range not mapped? Then where the first such piece is; all of the range
 * where that cannot be found out. */
bool ovc_pages_hole(const struct ovc_proc *proc, const void *addr, size_t len,
		    char **hole, size_t *hole_len);

/* Resident bytes of the process, an upper bound of what its guests hold in anonymous
 * memory, and cheap; UINT64_MAX: unknown. */
uint64_t ovc_pages_process_resident(const struct ovc_proc *proc);

/* How many mappings a process may have (0: unknown), and how many this one has
 * (UINT64_MAX: unknown). */
uint64_t ovc_pages_max_mappings(void);
uint64_t ovc_pages_mappings(const struct ovc_proc *proc);
uint64_t ovc_pages_mappings_of(const struct ovc_proc *proc,
			       const char *name); /* of a file or memfd */

#endif
