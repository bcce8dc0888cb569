/* SPDX-License-Identifier: MIT */
/*
 * One life of a host: what its parts (scenario.c, sharing.c) have in common.
 */
#ifndef FAULT_RUN_H
#define FAULT_RUN_H

#include "fault.h"
#include "overcommit.h"

#define EQUAL 24 /* contents that many pages have: their tags are 1 to EQUAL */

struct run {
	const struct scenario *s;
	int error; /* what is injected */
	struct ovc_host *host;
	struct ovc_vm *vm, *other;
	struct guest guest[3]; /* the third is of the other VM */
	unsigned nr;	       /* guests */
	uint64_t tag;
	bool lost;	 /* a page is */
	unsigned pinned; /* a bit for each region */
	bool bad;
	char swap[4096];
};

static inline struct ovc_vm *run_vm(const struct run *r, unsigned k)
{
	return k < 2 ? r->vm : r->other;
}

void complain(struct run *r, const char *what, const void *where,
	      long long value);

/* May this call be tried once more? Says so if it should not have failed. */
bool again(struct run *r, int error, unsigned tries);

#define CALL(r, expr)                                      \
	do {                                               \
		for (unsigned n_ = 1;; n_++) {             \
			step(#expr);                       \
			if (!again(r, expr, n_) || r->bad) \
				break;                     \
		}                                          \
	} while (0)

/* Could the failure that there was lose a page? */
bool may_lose(const struct run *r);

/* What each guest does to its pages, from and to in parts of 16. */
enum deed { WRITE, WRITE_EQUAL, VERIFY, SCATTER };
void guests(struct run *r, enum deed deed, unsigned from, unsigned to);

/* A call on each region, in parts of 16. Returns for which it succeeded, a bit for
 * each. */
typedef int range_fn(struct ovc_vm *vm, void *addr, size_t len);
unsigned ranges(struct run *r, const char *name, range_fn *fn, unsigned from,
		unsigned to);
#define RANGES(r, fn, from, to) ranges(r, #fn, fn, from, to)

/* What was discarded reads as zero. */
void forget(struct run *r, unsigned from, unsigned to);

/* Reads with ovc_vm_read(), which sees what the guest would. */
void read_pages(struct run *r);
void unpin(struct run *r);
int add_region(struct run *r, unsigned k);

/* ---- sharing.c ----------------------------------------------------------- */

/* The life of two VMs that share, to the end of both. */
void live_shared(struct run *r);

#endif
