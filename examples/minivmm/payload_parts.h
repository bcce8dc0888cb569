/* SPDX-License-Identifier: MIT */
/*
 * What the payload's parts have in common: a vCPU, which is all of the state.
 *
 *	payload.c          the workload, which verifies its pages
 *	payload_pages.c    which frames are free
 *	payload_balloon.c  the balloon driver
 */
#ifndef PAYLOAD_PARTS_H
#define PAYLOAD_PARTS_H

#include "payload.h"
#include "payload_pages.h"

#define PAGE_SIZE 4096

/*
 * Pages are what the workload has, by number; frames are where they are. A page of
 * the page cache that was not written need not be anywhere: it can be read again.
 */
struct vcpu {
	struct report report;
	struct zone zone;
	struct balloon_queue *queue; /* NULL: no balloon */
	uint64_t first_pfn;	     /* guest frame number of frame 0 */
	uint64_t told;		     /* when statistics were sent last */
	uint64_t reads;		     /* pages of files read again */
	uint64_t *frames;	     /* memory of frame 0 */
	uint64_t *ledger;
	uint32_t *where;
	uint64_t id;
	uint64_t first;	  /* the first page of its own */
	uint64_t nr;	  /* how many are its own */
	uint64_t reserve; /* frames that it has beyond that */
	uint64_t kernel;  /* pages of the kernel image, ... */
	uint64_t cache;	  /* ... of the page cache after it, ... */
	uint64_t common;  /* ... of these and of zeros together; behind them */
	uint64_t files;	  /* ... pages of files of its own, ... */
	uint64_t heap;	  /* ... and those that an idle guest frees */
	uint64_t pace;	  /* ns that each page of these takes at least */
	uint64_t began;	  /* when the phase did */
	uint64_t words;	  /* in each page that carry data */
	uint64_t stride;  /* from one of them to the next */
	uint64_t seed;
	uint64_t rng;
	uint64_t order; /* that is being followed; ORDER_FINISH: none is */
	uint64_t swept; /* pages that were visited in turn */
	int heap_freed;
};

/* payload.c: forgets a clean page of the page cache; its frame is free. */
void page_forget(struct vcpu *v, uint32_t frame);

/* payload_balloon.c: at the start, now and then, and when no frame is free. */
void balloon_start(struct vcpu *v);
void balloon_work(struct vcpu *v);
void balloon_out_of_memory(struct vcpu *v);

#endif /* PAYLOAD_PARTS_H */
