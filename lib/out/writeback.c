/* SPDX-License-Identifier: MIT */
/*
 * Pages that must be written are put together, up to 256 of one VM, and go to
 * contiguous slots with one write.
 *
 * Failures: what no slot, or no write, can be had for is put back. A write that fails
 * puts its pages back; the VM's swap is left alone for a second, and the VMM is told.
 */
#include <errno.h>

#include "core/events.h"
#include "in/pager.h"
#include "out/reclaim.h"
#include "trouble/disk.h"

void ovc_write_failed(struct ovc_vm *vm, int error, const struct ovc_region *r,
		      uint64_t idx, uint64_t nr)
{
	atomic_store(&vm->last_error, -error);
	OVC_COUNT(vm, write_errors, 1);
	vm->retry_at = ovc_now_ns() + OVC_RETRY_NS;
	if (!atomic_load(&vm->write_error))
		vm->failing_since = ovc_now_ns();
	if (atomic_exchange(&vm->write_error, -error) != -error) {
		const struct ovc_news news = {
			.type = OVC_EVENT_WRITE_FAILED,
			.error = -error,
			.vm = vm,
			.region = r,
			.idx = idx,
			.len = nr * OVC_PAGE,
			.words = ovc_swap_error(vm->swap, -error),
		};

		ovc_events_tell(vm->host, &news);
		ovc_log(vm->host, OVC_LOG_WARNING,
			"%s: swap-out failed: %s; pages stay in memory",
			vm->name, news.words);
	}
}

static void batch_put_back(struct ovc_reclaim *rc, unsigned from, int error)
{
	struct ovc_entry *first = ovc_entry_at(rc->host, rc->batch[from]);

	if (error)
		ovc_write_failed(rc->batch_vm, error, first->region, first->idx,
				 rc->batch_nr - from);
	for (unsigned i = from; i < rc->batch_nr; i++) {
		struct ovc_entry *e = ovc_entry_at(rc->host, rc->batch[i]);

		e->busy = 0;
		ovc_settle_put_back(rc, e, rc->batch[i]);
	}
}

/* Starts one write of nr pages of the batch to contiguous slots. */
static void start_write(struct ovc_reclaim *rc, unsigned from, unsigned nr,
			uint64_t slot)
{
	struct ovc_write *io = &rc->ios[rc->idle[--rc->nr_idle]];
	struct ovc_vm *vm = rc->batch_vm;
	unsigned runs = 0;
	struct ovc_ring_io op = {
		.write = true,
		.file = vm->index,
		.disk = vm->disk->number,
		.fd = ovc_swap_file(vm->swap)->fd,
		.iov = io->iov,
		.offset = slot * OVC_PAGE,
		.user = (uint64_t)(io - rc->ios),
	};

	io->check = false;
	io->since = ovc_now_ns();
	io->vm = vm;
	io->nr = nr;
	for (unsigned i = 0; i < nr; i++) {
		uint64_t pos = rc->batch[from + i];
		struct ovc_entry *e = ovc_entry_at(rc->host, pos);
		char *at = ovc_pager_view(e->region, e->idx, pos);

		ovc_swap_set_sum(vm->swap, slot + i, rc->batch_sum[from + i]);
		e->wslot = slot + i;
		io->pos[i] = pos;
		if (runs && (char *)io->iov[runs - 1].iov_base +
					    io->iov[runs - 1].iov_len ==
				    at)
			io->iov[runs - 1].iov_len += OVC_PAGE;
		else
			io->iov[runs++] = (struct iovec){ at, OVC_PAGE };
	}
	op.nr_iov = runs;
	rc->writing += nr;
	vm->writing += nr;
	ovc_disk_begin(vm);
	if (!ovc_ring_queue(rc->ring, &op))
		ovc_bug("the reclaim ring is full", 0);
}

/* Writes the batch out, in as few pieces as its swap has room for. */
void ovc_write_batch(struct ovc_reclaim *rc)
{
	struct ovc_vm *vm = rc->batch_vm;
	unsigned at = 0;
	bool full = false; /* out of writes in flight is no failure */

	while (at < rc->batch_nr && vm->swap && rc->nr_idle &&
	       (!at || ovc_disk_may_write(vm))) {
		uint64_t slot;
		uint64_t got =
			ovc_swap_take(vm->swap, rc->batch_nr - at, &slot);

		full = !got;
		if (full)
			break;
		start_write(rc, at, (unsigned)got, slot);
		at += (unsigned)got;
	}
	if (at < rc->batch_nr) {
		if (!vm->swap)
			vm->retry_at = ovc_now_ns() + OVC_RETRY_NS;
		batch_put_back(rc, at, full ? -ENOSPC : 0);
	}
	rc->batch_nr = 0;
}

void ovc_settle_write(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos,
		      uint64_t sum)
{
	if (rc->batch_nr &&
	    (rc->batch_vm != e->region->vm || rc->batch_nr == OVC_CLUSTER))
		ovc_write_batch(rc);
	rc->batch_vm = e->region->vm;
	rc->batch[rc->batch_nr] = pos;
	rc->batch_sum[rc->batch_nr++] = sum;
	e->busy = 1;
}
