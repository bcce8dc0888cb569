/* SPDX-License-Identifier: MIT */
/*
 * The disks that swap files lie on, and what each may have in flight.
 */
#ifndef OVC_DISK_H
#define OVC_DISK_H

#include "core/internal.h"

struct ovc_disk_reads {
	unsigned pages, ios;
};

/* A file system, or a device that is swap itself. */
struct ovc_disk {
	struct ovc_disk *next; /* with control, as all up to `silent` */
	uint64_t device;
	unsigned number;
	unsigned vms;
	unsigned ios; /* of reclaim's */
	bool silent;  /* one of them has had no answer for a second */
	/* of each fault thread, whose own they are */
	struct ovc_disk_reads reads[OVC_MAX_FAULTERS];
	_Atomic bool parked; /* faults wait for one of these to end */
};

/* The disk of the VM's swap, which is open. 0, or -ENOMEM. Needs control, as
 * what follows. */
int ovc_disk_join(struct ovc_vm *vm);

/* Nothing of the VM is in flight any more. */
void ovc_disk_leave(struct ovc_vm *vm);

/* An I/O of reclaim's with the VM's file begins, or has ended. */
void ovc_disk_begin(struct ovc_vm *vm);
void ovc_disk_end(struct ovc_vm *vm);

/* May reclaim begin one? */
bool ovc_disk_may_write(const struct ovc_vm *vm);

/* Is there no sense in staging the VM's pages now? */
bool ovc_disk_is_busy(const struct ovc_vm *vm);

/* Finds out which disks are silent, and which VMs are to live on what they have
 * for that. Once in each of reclaim's steps. */
void ovc_disk_look(struct ovc_reclaim *rc, uint64_t now);

/* Fault thread n, with so many buffers and I/Os left: may it begin to read nr pages? */
bool ovc_disk_may_read(const struct ovc_vm *vm, unsigned n, uint64_t nr,
		       uint64_t free_pages, unsigned free_ios);

/* Such a read begins, or has ended. True: faults wait for that, and are to ask
 * again. */
void ovc_disk_read_begin(struct ovc_vm *vm, unsigned n, uint64_t nr);
bool ovc_disk_read_end(struct ovc_vm *vm, unsigned n, uint64_t nr);

#endif
