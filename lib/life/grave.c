/* SPDX-License-Identifier: MIT */
/*
 * Graves: a region's tables and a VM's file stay for as long as an I/O may come to its end
 * that is of them, however long a disk takes to answer. The kernel writes from the ring's
 * frames, or from our mapping of a memfd, and reads into buffers of ours; so nothing of it
 * touches memory that was the guest's, which is the VMM's again.
 *
 *  out           still has                             leads on
 *  ------------  ------------------------------------  ---------------------------
 *  region: gone  entries of the ring, reads (ios)      both 0: freed
 *  VM: ending    graves of its regions, I/Os (ios)     both 0: file closed, freed;
 *                and its index in the rings            the index may be used again
 *
 * Reclaim looks, in each step while there are any. What is in a grave counts as it did: its
 * frames are of the budget.
 */
#include "life/grave.h"

#include <semaphore.h>

#include "core/control.h"
#include "core/meta.h"
#include "life/members.h"
#include "out/staging.h"
#include "trouble/disk.h"

static bool is_quiet(const struct ovc_region *r)
{
	return !r->entries && !atomic_load(&r->ios);
}

bool ovc_bury_region(struct ovc_region *r)
{
	struct ovc_vm *vm = r->vm;

	if (is_quiet(r))
		return false;
	ovc_log(vm->host, OVC_LOG_WARNING,
		"%s: region %p is out, but its swap does not answer: %llu "
		"pages that are under way stay until it does",
		vm->name, (void *)r->base, (unsigned long long)r->entries);
	r->next_grave = vm->host->graves;
	vm->host->graves = r;
	vm->graves++;
	return true;
}

/*
 * To close a VM's file takes as long as its disk does: a thread of its own does it, for
 * which its caller waits a little.
 */
struct burial {
	struct ovc_vm *vm;
	_Atomic int users;
	sem_t done;
};

static void let_go(struct burial *b)
{
	if (atomic_fetch_sub(&b->users, 1) > 1)
		return;
	sem_destroy(&b->done);
	ovc_meta_free(b);
}

static void *close_vm(void *arg)
{
	struct burial *b = arg;
	struct ovc_host *host = b->vm->host;

	ovc_vm_free(b->vm);
	sem_post(&b->done);
	let_go(b);
	atomic_fetch_sub(&host->burying, 1);
	return NULL;
}

/* Without a thread, it is done here. */
static void start_burial(struct ovc_vm *vm, uint64_t wait)
{
	struct ovc_host *host = vm->host;
	struct burial *b = NULL;
	uint64_t since = 0;
	pthread_t thread;

	if (!ovc_host_dispatched(host) && vm->swap)
		b = ovc_meta_zalloc(sizeof(*b));
	if (!b) {
		ovc_vm_free(vm);
		return;
	}
	b->vm = vm;
	atomic_store(&b->users, 2);
	sem_init(&b->done, 0, 0);
	atomic_fetch_add(&host->burying, 1);
	if (ovc_thread_start(&thread, "ovc-bury", close_vm, b)) {
		close_vm(b);
	} else {
		pthread_detach(thread);
		for (unsigned round = 0; wait && sem_trywait(&b->done);
		     round++) {
			if (ovc_waited_for(&since, round, wait))
				break;
			ovc_nap(round);
		}
	}
	let_go(b);
}

/* Nothing of the VM is under way any more. With control. */
static void forget(struct ovc_vm *vm)
{
	ovc_staging_leave(vm);
	ovc_disk_leave(vm);
	vm->host->taken[vm->index] = false;
}

static void empty_vm_graves(struct ovc_host *host)
{
	struct ovc_vm **at = &host->vm_graves, *vm;

	while ((vm = *at)) {
		if (vm->graves || vm->ios) {
			at = &vm->next_grave;
			continue;
		}
		*at = vm->next_grave;
		forget(vm);
		start_burial(vm, 0);
	}
}

bool ovc_bury_vm(struct ovc_vm *vm)
{
	if (!vm->graves && !vm->ios) {
		forget(vm);
		return true;
	}
	vm->next_grave = vm->host->vm_graves;
	vm->host->vm_graves = vm;
	return false;
}

void ovc_bury_now(struct ovc_vm *vm)
{
	start_burial(vm, OVC_ANSWER_NS);
}

void ovc_graves_look(struct ovc_host *host)
{
	struct ovc_region **at = &host->graves, *r;

	while ((r = *at)) {
		if (!is_quiet(r)) {
			at = &r->next_grave;
			continue;
		}
		*at = r->next_grave;
		r->vm->graves--;
		ovc_region_free(r);
	}
	empty_vm_graves(host);
}
