/* SPDX-License-Identifier: MIT */
/* A pass over all memory, and where it has come to: see pass.c. With control. */
#ifndef OVC_PASS_H
#define OVC_PASS_H

#include "policy/pace.h"
#include "share/share.h"

struct ovc_share {
	struct ovc_host *host;
	bool threaded;
	pthread_t thread;
	int stop; /* the end; something to do is host->share_wake */
	_Atomic uint64_t steps; /* odd while hashing */
	struct ovc_share_figures figures;

	/* the pass: chunk number `at` of `total` is (start + at * stride) */
	uint64_t at, total, start, stride;
	bool first;
	uint64_t pass_scanned, pass_saved, pass_cpu;
	bool little; /* the last pass found little */
	uint64_t last_cpu;

	uint64_t owed;	      /* ns of work, ours and guests', not slept for */
	struct ovc_pace seen; /* at the last sleep, since the beginning of time */
	uint64_t recounted;

	uint64_t number; /* of the chunk's first page */
	uint64_t chunk_nr;
	struct ovc_hashed hashed;
};

/* Are equal pages looked for there? */
bool ovc_pass_takes(const struct ovc_region *r);

/* The next chunk, of the region *r from page *first on; a pass that is over is ended, and
 * the next begun. False: there is none. */
bool ovc_pass_next(struct ovc_share *s, struct ovc_region **r, uint64_t *first);

/* Callers go before reclaim, and reclaim before us: guests wait for these, and nobody for
 * what we find. */
void ovc_share_lock(struct ovc_host *host);

/* Asks the kernel how many mappings there are, when it is time to. Takes control. */
void ovc_pass_recount(struct ovc_share *s);

#endif
