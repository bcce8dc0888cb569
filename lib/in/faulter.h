/* SPDX-License-Identifier: MIT */
/*
 * A fault thread, among the files that it consists of: fault.c (the thread, faults),
 * reads.c (reads of swap), readahead.c (windows, prefetch). All of it is that thread's
 * alone.
 */
#ifndef OVC_FAULTER_H
#define OVC_FAULTER_H

#include "core/internal.h"
#include "in/pager.h"
#include "store/slots.h"

#define OVC_READS  256 /* in flight */
#define OVC_WINDOW 128 /* pages a read, at most */
#define OVC_NONE   UINT64_MAX

struct ovc_read {
	struct ovc_arrival a;
	struct iovec iov;
	uint64_t buffer; /* first page of the buffers */
	uint64_t hold;	 /* page to hold back, or none */
	uint64_t since;
	struct ovc_ask *ask; /* a caller's; NULL: nobody but guests waits */
};

struct ovc_faulter {
	struct ovc_host *host;
	struct ovc_ring *ring;
	unsigned n;
	int cpu; /* -1: any */
	bool threaded;
	pthread_t thread;
	bool queued; /* reads wait to be submitted */

	char *buffers;
	uint64_t nr_buffers;
	struct ovc_slots free;
	void *free_bits;
	uint64_t nr_free;

	struct ovc_read ios[OVC_READS];
	uint16_t idle[OVC_READS];
	unsigned nr_idle;

	/* since the last look at how faults are answered */
	unsigned seen, reads, flying;
	bool alone; /* this is thread 0, and it is not bound */

	unsigned next_hold;
	struct ovc_request *request; /* prefetch under way */
};

/* A window being put together: contiguous in the region and in the swap. */
struct ovc_window {
	struct ovc_arrival a;
	uint64_t most; /* pages */
	uint64_t since;
	bool hold;
};

/* ---- reads.c --------------------------------------------------------------- */

/* A page came in cold; `arg` is the fault thread. */
void ovc_faulter_on_probation(void *arg, struct ovc_region *r, uint64_t idx);

/* A fault that came at `since`, ns, was answered. */
void ovc_faulter_note_latency(struct ovc_vm *vm, uint64_t since);

/* Queues a read of nr pages that the caller made READING, for a caller that asked, or
 * NULL. False: no room. */
bool ovc_read_queue(struct ovc_faulter *f, const struct ovc_arrival *a,
		    uint64_t hold, uint64_t since, struct ovc_ask *ask);

/* Pages that were made READING, and are not read after all. */
void ovc_read_undo(const struct ovc_arrival *a);

/* Fills what was read. Returns how many reads are done. */
unsigned ovc_read_reap(struct ovc_faulter *f);

/* ---- readahead.c ------------------------------------------------------------ */

/* Adds a page that is READING now. */
bool ovc_window_add(struct ovc_faulter *f, struct ovc_window *w, uint64_t idx,
		    uint64_t slot);

/* Begins to read it. False: there is no room, and who asked is to ask again. */
bool ovc_window_flush(struct ovc_faulter *f, struct ovc_window *w);

/*
 * Brings in up to `count` pages that nobody touched yet, `stride` apart, behind
 * idx. Looks further, for what it meets first may be here or on its way: so while
 * the guest is in one window, the next is in flight and one more is asked for.
 * Pages that were never there are filled with zeros only where the touched one
 * was such a page too. Returns the index that it came to.
 */
uint64_t ovc_window_go_ahead(struct ovc_faulter *f, struct ovc_window *w,
			     uint64_t idx, unsigned count, int64_t stride,
			     bool zeros);

/* Takes a prefetch one window further, when there is room for it. */
bool ovc_prefetch_step(struct ovc_faulter *f);

#endif
