/* SPDX-License-Identifier: MIT */
/*
 * Finds threads that walk memory, so that what they will touch is read ahead.
 * Pure but for relaxed atomics: any number of threads may use one table.
 *
 * A thread may have four walks under way (say, the two sides of a copy). A walk
 * counts after two steps that agree: the same stride twice, or twice forward by
 * at most 4 (a sequential walk over memory of which some pages are present).
 * Random faults that happen to agree twice are rare: of the order of 16 / n^2
 * for each fault in n pages, 16 / n where n is of the order of 1,000.
 */
#ifndef OVC_POLICY_STREAM_H
#define OVC_POLICY_STREAM_H

#include <stdatomic.h>
#include <stdint.h>

#define OVC_STREAMS	       64
#define OVC_STREAM_MIN	       4u   /* pages of the first window */
#define OVC_STREAM_MAX	       128u /* of the last, for stride 1 and -1 */
#define OVC_STREAM_MAX_STRIDED 16u  /* likewise, other strides */
#define OVC_STREAM_MAX_STRIDE  1024 /* pages, either way */

struct ovc_stream {
	_Atomic uint64_t key;	/* thread and region; 0: never used */
	_Atomic uint64_t last;	/* page index of the last step */
	_Atomic uint64_t state; /* stride, steps that agreed, window */
	_Atomic uint32_t used;	/* tick of the last use */
};

/* Zeroed memory is an empty table. */
struct ovc_streams {
	_Atomic uint32_t tick;
	struct ovc_stream stream[OVC_STREAMS];
};

/*
 * Thread tid faulted on page idx of the region. Returns how many pages to read
 * ahead, idx + *stride, idx + 2 * *stride, ...; 0 when this is no walk (*stride
 * is 0 then) or nothing new. The caller leaves out pages that are present and
 * indices outside of the region.
 *
 * Call it for faults on absent pages and for the hit of a marker, a page of the
 * last window that was held back: a step to anywhere in the window, or to just
 * behind it, continues the walk and doubles the window.
 */
unsigned ovc_stream_hit(struct ovc_streams *s, uint32_t tid, uint32_t region,
			uint64_t idx, int64_t *stride);

#endif
