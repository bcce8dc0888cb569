/* SPDX-License-Identifier: MIT */
/*
 * A disk that is slow, or does not answer, must be slow for its own VMs only. What they
 * could take from all others is
 *
 *   writes in flight     of which reclaim has 32
 *   buffers for reads    of each fault thread
 *   memory               since a VM that cannot be written out grows, and the
 *                        others are reclaimed for it
 *
 * In flight, a disk may have as many as are left: it begins one more while fewer
 * of its own are under way than are free. So one disk alone gets half of all, and of two
 * that are stuck the next one finds a quarter free. (The threshold is that of
 * shared-memory switches: Choudhury and Hahne, "Dynamic queue length thresholds
 * for shared-memory packet switches", 1998, with a factor of 1.) Reads have no
 * threshold while all VMs are on one disk, which then is slow for all anyway.
 *
 *  disk     how it is known                       what follows
 *  -------  ------------------------------------  -----------------------------------
 *  well     an I/O more may begin                 nothing
 *  busy     as many are under way as are free     its VMs' pages are not staged, and
 *           (where there is another disk)         do not count as waiting to go
 *  silent   an I/O has had no answer for 1 s      the same, and none is begun
 *
 * A VM whose disk is busy or silent, or whose writes fail, and was so in the last second,
 * lives on what it has where memory is short: what it held then, or its entitlement, or
 * an equal share, whichever is most. It waits for more until pages of its own are
 * written, as a process does that writes more than its disk takes. Alone, or at its end,
 * it takes nothing from others.
 *
 * Why by disk and not by VM: a disk that dies has the files of many VMs, each of which
 * could take a part.
 *
 * Reads that may not begin leave their faults unanswered; when one of the disk's ends,
 * all faults of its VMs are woken and ask again.
 */
#include "trouble/disk.h"

#include <errno.h>

#include "core/budget.h"
#include "core/meta.h"
#include "out/reclaim.h"

#define SILENT_NS 1000000000ull
#define HELD_NS	  1000000000ull

/* ---- who is on which -------------------------------------------------------- */

static struct ovc_disk *find(struct ovc_host *host, uint64_t device)
{
	struct ovc_disk *d = host->disks;

	while (d && d->device != device)
		d = d->next;
	return d;
}

int ovc_disk_join(struct ovc_vm *vm)
{
	struct ovc_host *host = vm->host;
	uint64_t device = ovc_swap_file(vm->swap)->device;
	struct ovc_disk *d = find(host, device);

	if (!d) {
		d = ovc_meta_zalloc(sizeof(*d));
		if (!d)
			return -ENOMEM;
		d->device = device;
		d->number = host->next_disk++;
		d->next = host->disks;
		host->disks = d;
		atomic_fetch_add(&host->nr_disks, 1);
	}
	d->vms++;
	vm->disk = d;
	return 0;
}

void ovc_disk_leave(struct ovc_vm *vm)
{
	struct ovc_disk **at = &vm->host->disks, *d = vm->disk;

	if (!d)
		return;
	vm->disk = NULL;
	if (--d->vms)
		return;
	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	atomic_fetch_sub(&vm->host->nr_disks, 1);
	ovc_meta_free(d);
}

/* ---- writes ------------------------------------------------------------------ */

void ovc_disk_begin(struct ovc_vm *vm)
{
	vm->ios++;
	vm->disk->ios++;
}

void ovc_disk_end(struct ovc_vm *vm)
{
	vm->ios--;
	vm->disk->ios--;
}

static bool is_over(const struct ovc_vm *vm)
{
	return vm->disk->ios + 1 >= vm->host->reclaim->nr_idle;
}

bool ovc_disk_may_write(const struct ovc_vm *vm)
{
	/* One for who was allowed one before, and has not begun it yet. */
	if (vm->host->reclaim->nr_idle < 2)
		return false;
	return !vm->disk || (!vm->disk->silent && !is_over(vm));
}

bool ovc_disk_is_busy(const struct ovc_vm *vm)
{
	if (!vm->disk)
		return false;
	return vm->disk->silent ||
	       (atomic_load(&vm->host->nr_disks) > 1 && is_over(vm));
}

/* ---- memory ------------------------------------------------------------------ */

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What it may hold while it cannot be written out. */
static uint64_t may_hold(const struct ovc_vm *vm)
{
	const struct ovc_host *host = vm->host;
	uint64_t share = atomic_load(&vm->entitled);

	if (share == OVC_NOT_DECIDED)
		share = atomic_load(&host->allowed) / host->nr_vms;
	return larger(ovc_vm_held(vm), share);
}

static void look_at_vm(struct ovc_vm *vm, uint64_t now)
{
	bool others = vm->host->nr_vms > 1;

	if (others && (ovc_disk_is_busy(vm) || atomic_load(&vm->write_error))) {
		vm->held_up = now;
		if (atomic_load(&vm->confined) == UINT64_MAX)
			atomic_store(&vm->confined, may_hold(vm));
	} else if (!others || now - vm->held_up > HELD_NS) {
		atomic_store(&vm->confined, UINT64_MAX);
	}
}

void ovc_disk_look(struct ovc_reclaim *rc, uint64_t now)
{
	struct ovc_host *host = rc->host;

	for (struct ovc_disk *d = host->disks; d; d = d->next)
		d->silent = false;
	rc->silent = 0;
	for (unsigned i = 0; i < OVC_DEPTH; i++) {
		const struct ovc_write *io = &rc->ios[i];

		if (!io->since || now < io->since + SILENT_NS)
			continue;
		io->vm->disk->silent = true;
		rc->silent += io->nr;
	}
	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i])
			look_at_vm(host->vms[i], now);
}

/* ---- reads --------------------------------------------------------------------- */

bool ovc_disk_may_read(const struct ovc_vm *vm, unsigned n, uint64_t nr,
		       uint64_t free_pages, unsigned free_ios)
{
	const struct ovc_disk_reads *reads = &vm->disk->reads[n];

	if (atomic_load_explicit(&vm->host->nr_disks, memory_order_relaxed) < 2)
		return true;
	/* Something must be under way that ends. */
	if (!reads->ios ||
	    (reads->pages + nr <= free_pages && reads->ios < free_ios))
		return true;
	atomic_store(&vm->disk->parked, true);
	return false;
}

void ovc_disk_read_begin(struct ovc_vm *vm, unsigned n, uint64_t nr)
{
	vm->disk->reads[n].pages += (unsigned)nr;
	vm->disk->reads[n].ios++;
}

bool ovc_disk_read_end(struct ovc_vm *vm, unsigned n, uint64_t nr)
{
	vm->disk->reads[n].pages -= (unsigned)nr;
	vm->disk->reads[n].ios--;
	return atomic_load_explicit(&vm->disk->parked, memory_order_relaxed) &&
	       atomic_exchange(&vm->disk->parked, false);
}
