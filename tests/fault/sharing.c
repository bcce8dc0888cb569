/* SPDX-License-Identifier: MIT */
/*
 * Two VMs that share: equal pages are merged, some are written, given away, pinned,
 * pushed out, and one VM goes before the other.
 *
 * No single failure may end the sharing: what could not be merged is, later. When both
 * VMs are gone the store must be empty, and nothing charged.
 */
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/control.h"
#include "core/internal.h"
#include "run.h"

#define AWAIT 40 /* seconds; a mapping is tried again after some */

static struct ovc_host_stats host_stats(struct run *r)
{
	struct ovc_host_stats s = { .size = sizeof(s) };

	ovc_host_stats(r->host, &s);
	return s;
}

/* Pages that could be shared: an eighth is zeros. */
static uint64_t worth(const struct run *r)
{
	return r->nr * r->guest[0].nr * 7 / 8;
}

static void wait_a_little(struct run *r)
{
	struct pollfd p = { .events = POLLIN };

	if (!r->s->dispatch) {
		usleep(1000);
		return;
	}
	p.fd = ovc_host_fd(r->host);
	poll(&p, 1, 1);
	ovc_host_dispatch(r->host);
}

/* Until a number of pages is shared. What was touched is so only where it can be mapped;
 * when a mapping could not be had, that is tried again after some seconds. In dispatch
 * mode a round may take no time, so that rounds say nothing about time. */
static void await(struct run *r, uint64_t pages)
{
	time_t end = time(NULL) + AWAIT;

	for (unsigned i = 0; time(NULL) < end && !r->bad; i++) {
		struct ovc_host_stats h = host_stats(r);

		if (h.shared_bytes >= pages * PAGE || !h.share_mappings_limit)
			return;
		if (!(i % 1000))
			step("wait for sharing");
		wait_a_little(r);
	}
	complain(r, "equal pages are not shared", NULL,
		 (long long)(host_stats(r).shared_bytes / PAGE));
}

static int switch_off(struct ovc_vm *vm, void *addr, size_t len)
{
	return ovc_vm_set_sharing(vm, addr, len, 0);
}

static void remove_and_add(struct run *r)
{
	int error;

	step("ovc_vm_remove_region");
	error = ovc_vm_remove_region(r->vm, r->guest[0].addr, 0);
	if (error && !may_lose(r))
		complain(r, ovc_error(), NULL, error);
	CALL(r, add_region(r, 0));
}

/* Frames that could not be given back with the last page go with the next sweep. */
static void sweep(struct run *r)
{
	struct ovc_vm *vm = NULL;

	CALL(r, ovc_vm_create(r->host, NULL, &vm));
	ovc_vm_destroy(&vm, 0);
	wait_a_little(r);
}

/* The ring keeps frames of what is done until it is needed. */
static uint64_t ring_frames(struct ovc_host *host)
{
	const struct ovc_staging *ring = &host->staging;
	uint64_t n = 0;

	ovc_control_lock(host);
	for (uint64_t i = 0; i < ring->high; i++)
		n += ring->entries[i].frame;
	ovc_control_unlock(host);
	return n;
}

static void check_nothing_left(struct run *r)
{
	struct ovc_host_stats h;

	for (unsigned i = 0; i < 1000 && !r->bad; i++) {
		sweep(r);
		h = host_stats(r);
		if (!h.shared_bytes && !h.store_bytes && !h.mapped_bytes &&
		    h.used == h.metadata + h.buffers +
				      ring_frames(r->host) * PAGE)
			return;
	}
	if (r->bad)
		return;
	fprintf(stderr,
		"fault: shared %llu, mapped %llu, store %llu, used %llu, "
		"metadata %llu, buffers %llu\n",
		(unsigned long long)h.shared_bytes,
		(unsigned long long)h.mapped_bytes,
		(unsigned long long)h.store_bytes, (unsigned long long)h.used,
		(unsigned long long)h.metadata, (unsigned long long)h.buffers);
	complain(r, "LEAK: no VM is left, and shared pages are", NULL, 0);
}

void live_shared(struct run *r)
{
	guests(r, WRITE_EQUAL, 0, 16);
	await(r, worth(r) / 2);
	guests(r, SCATTER, 0, 16);
	guests(r, WRITE, 4, 8);
	r->pinned = RANGES(r, ovc_vm_pin, 1, 2);
	guests(r, WRITE, 1, 2);
	RANGES(r, ovc_vm_reclaim, 0, 16);
	read_pages(r);
	RANGES(r, ovc_vm_discard, 8, 10);
	forget(r, 8, 10);
	RANGES(r, switch_off, 14, 16);
	CALL(r, ovc_host_set_share(r->host, OVC_SHARE_NEVER, 0));
	RANGES(r, ovc_vm_overwrite, 11, 13);
	guests(r, WRITE_EQUAL, 4, 13);
	guests(r, VERIFY, 0, 16);
	CALL(r, ovc_host_set_share(r->host, OVC_SHARE_ALWAYS, 100));
	await(r, worth(r) / 4);
	unpin(r);
	remove_and_add(r);
	guests(r, VERIFY, 0, 16);
	await(r, worth(r) / 4);
	step("ovc_vm_destroy");
	ovc_vm_destroy(&r->vm, 0);
	guests(r, VERIFY, 0, 16);
	ovc_vm_destroy(&r->other, 0);
	guests(r, VERIFY, 0, 16);
	check_nothing_left(r);
}
