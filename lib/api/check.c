/* SPDX-License-Identifier: MIT */
/*
 * Can that memory be a region? And: it becomes the guest's alone.
 *
 * What can be known when a region is added is said then, and not found out when memory is
 * short: what kind of memory it is, whether it is locked or its memfd is sealed, and
 * whether it can be registered, which is tried (and undone at once: until memory gets short
 * regions are the kernel's alone).
 *
 * Pages that a child of fork() has or had, and pages that the kernel merged with equal ones
 * (KSM), cannot be moved. Children do not get the memory any more, the kernel is not to
 * merge it, and what is in memory already is made the guest's own: a page that nobody else
 * has any more costs nothing, one that somebody has is copied.
 *
 * Failures: nothing has changed then, but that pages may have been copied.
 */
#include "api/check.h"

#include <errno.h>
#include <string.h>

#include "api/overlap.h"
#include "memory/advice.h"
#include "memory/memory.h"
#include "sys/memfd.h"

#define MAX_LEN ((uint64_t)1 << 40)
#define LOOK	4096 /* pages asked about at once */

static int check_shape(const struct ovc_region_options *o)
{
	uintptr_t addr = (uintptr_t)o->addr;

	if (!o->addr || addr % OVC_PAGE)
		return ovc_fail(-EINVAL,
				"add_region: addr %p is not aligned "
				"to 4096 bytes",
				o->addr);
	if (!o->len || o->len % OVC_PAGE)
		return ovc_fail(-EINVAL,
				"add_region: len %zu is not a "
				"multiple of 4096 above 0",
				o->len);
	if (o->len > MAX_LEN)
		return ovc_fail(-EINVAL,
				"add_region: len %zu is more than "
				"1 TiB; add several regions",
				o->len);
	if (addr + o->len < addr)
		return ovc_fail(-EINVAL, "add_region: addr + len wraps around");
	if (o->gpa != OVC_GPA_NONE &&
	    (o->gpa % OVC_PAGE || o->gpa + o->len < o->gpa))
		return ovc_fail(-EINVAL,
				"add_region: gpa %#llx is not "
				"aligned, or wraps around",
				(unsigned long long)o->gpa);
	if (o->flags &
	    ~(uint32_t)(OVC_REGION_UNSHARED_MEMFD | OVC_REGION_DIRECT_IO))
		return ovc_fail(-EINVAL,
				"add_region: flags %#x has unknown bits",
				o->flags);
	if (o->memfd < 0 || o->memfd_offset % OVC_PAGE)
		return ovc_fail(-EINVAL,
				"add_region: memfd %d or its offset "
				"is bad",
				o->memfd);
	return 0;
}

static int check_memfd(const struct ovc_region_options *o,
		       const struct ovc_mapping *m)
{
	uint64_t device, inode, size;
	int error = ovc_memfd_stat(o->memfd, &device, &inode, &size);

	if (error)
		return ovc_fail(-EINVAL, "add_region: memfd %d: %s", o->memfd,
				strerror(-error));
	if (!ovc_memfd_is_memory(o->memfd))
		return ovc_fail(-EINVAL,
				"add_region: memfd %d is a file of a file "
				"system on a disk; guest memory must be "
				"anonymous, or of a memfd or a tmpfs",
				o->memfd);
	if (m->private || m->inode != inode || m->device != device ||
	    m->offset != o->memfd_offset || !m->straight)
		return ovc_fail(-EINVAL, "add_region: the range is not a "
					 "shared mapping of the memfd from its "
					 "offset on");
	if (size < o->memfd_offset + o->len)
		return ovc_fail(-EINVAL, "add_region: the memfd is shorter "
					 "than the region");
	if (ovc_memfd_is_sealed(o->memfd))
		return ovc_fail(-EINVAL, "add_region: the memfd is sealed "
					 "against writing (F_SEAL_FUTURE_WRITE "
					 "or F_SEAL_WRITE), so that none of "
					 "its memory can be freed; do not seal "
					 "guest memory so");
	return 0;
}

/* Who cannot tell that a device is writing a page must not take it. */
static int check_direct(const struct ovc_host *host,
			const struct ovc_region_options *o)
{
	if (!(o->flags & OVC_REGION_DIRECT_IO))
		return 0;
	if (o->memfd)
		return ovc_fail(-ENOTSUP,
				"add_region: OVC_REGION_DIRECT_IO is for "
				"private anonymous memory: of a memfd the "
				"kernel does not tell which pages devices "
				"use; pin them (ovc_vm_pin)");
	if (!host->staging.window_registered)
		return ovc_fail(-ENOTSUP,
				"add_region: OVC_REGION_DIRECT_IO needs "
				"UFFDIO_MOVE (Linux 6.8): without it the "
				"kernel does not tell which pages devices "
				"use; pin them (ovc_vm_pin)");
	return 0;
}

static int check_mapping(struct ovc_host *host,
			 const struct ovc_region_options *o,
			 struct ovc_mapping *m)
{
	int error;

	ovc_proc_open(&host->proc); /* what could not be opened before */
	error = ovc_pages_mapping(&host->proc, o->addr, o->len, m);
	if (error)
		return ovc_fail(error, "add_region: /proc/self/smaps: %s",
				strerror(-error));
	if (!m->mapped)
		return ovc_fail(-EFAULT, "add_region: the range is not mapped "
					 "as a whole");
	if (m->hugetlb)
		return ovc_fail(-EINVAL, "add_region: hugetlb memory cannot be "
					 "overcommitted; use transparent huge "
					 "pages");
	if (!m->readable || !m->writable)
		return ovc_fail(-EINVAL, "add_region: the mapping is not "
					 "readable and writable");
	if (m->locked)
		return ovc_fail(-EINVAL, "add_region: the memory is locked "
					 "(mlock, mlockall, QEMU's mem-lock), "
					 "and cannot be taken from the guest; "
					 "munlock() it before it is added, or "
					 "do not overcommit this guest");
	if (o->memfd && !host->uffd_features.minor)
		return ovc_fail(-ENOTSUP,
				"add_region: memfd memory needs minor "
				"faults for shmem (Linux 5.14)");
	if (o->memfd)
		return check_memfd(o, m);
	if (m->file || m->shared)
		return ovc_fail(-EINVAL, "add_region: the mapping is not "
					 "private and anonymous; name its "
					 "memfd if it is of one");
	/* The ring's window has no execute permission, and pages move only
	 * between mappings with the same. */
	if (m->exec)
		return ovc_fail(-EINVAL, "add_region: the mapping is "
					 "executable; guests do not need that");
	return 0;
}

/* ---- can it be registered? ------------------------------------------------------ */

#define TRIES 8

static int refused(int error)
{
	if (error == -EBUSY)
		return ovc_fail(error, "add_region: another userfaultfd has "
				       "the memory, or a part of it "
				       "registered (post-copy migration, a "
				       "background snapshot?); add it when "
				       "that is over");
	if (error == -ENOMEM)
		return ovc_fail(error, "add_region: userfaultfd cannot "
				       "register the memory: the process has "
				       "as many mappings as it may have; "
				       "raise vm.max_map_count (sysctl)");
	return ovc_fail(error,
			"add_region: userfaultfd cannot register the memory: "
			"%s",
			strerror(-error));
}

/* Who faults meanwhile is woken by the end of it. */
static int try_register(struct ovc_host *host,
			const struct ovc_region_options *o)
{
	int error = ovc_uffd_register(host->uffd, o->addr, o->len,
				      o->memfd != 0, false);

	if (error)
		return refused(error);
	error = -EAGAIN;
	for (unsigned i = 0; i < TRIES && error; i++)
		error = ovc_uffd_unregister(host->uffd, o->addr, o->len);
	if (error)
		return ovc_fail(error,
				"add_region: a registration that was tried "
				"cannot be undone: %s",
				strerror(-error));
	return 0;
}

int ovc_region_check(struct ovc_vm *vm, const struct ovc_region_options *o,
		     struct ovc_mapping *m)
{
	int error = check_shape(o);

	if (!error)
		error = ovc_overlap_ranges(vm, o);
	if (!error)
		error = check_direct(vm->host, o);
	if (!error)
		error = check_mapping(vm->host, o, m);
	if (!error)
		error = ovc_overlap_bytes(vm, o, m);
	return error ? error : try_register(vm->host, o);
}

/* ---- the guest's alone ------------------------------------------------------------ */

static int own_run(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	return nr ? ovc_pages_populate(ovc_page_addr(r, idx), nr * OVC_PAGE) :
		    0;
}

/* Nothing is asked of pages that are absent, in the host's swap, or zero: they would
 * become memory. */
static int own_pages(struct ovc_region *r)
{
	const struct ovc_pagemap *pm = &r->vm->host->pagemap;
	uint8_t bits[LOOK];
	uint64_t run = 0;
	int error = 0;

	for (uint64_t at = 0, n; at < r->nr && !error; at += n) {
		n = r->nr - at < LOOK ? r->nr - at : LOOK;
		error = ovc_pagemap_in_memory(pm, ovc_page_addr(r, at), n,
					      bits);
		for (uint64_t i = 0; i < n && !error; i++) {
			if (bits[i]) {
				run++;
				continue;
			}
			error = own_run(r, at + i - run, run);
			run = 0;
		}
	}
	return error ? error : own_run(r, r->nr - run, run);
}

int ovc_region_own(struct ovc_region *r)
{
	size_t len = r->nr * OVC_PAGE;
	int error = ovc_pages_dontfork(r->base, len, true);

	if (!error && r->memfd < 0)
		error = ovc_pages_unmerge(r->base, len);
	/* The other ways to take pages ask for less. */
	if (!error && r->memfd < 0 && r->vm->host->uffd_features.move)
		error = own_pages(r);
	return error;
}

void ovc_region_disown(struct ovc_region *r)
{
	ovc_advice_end(r);
}
