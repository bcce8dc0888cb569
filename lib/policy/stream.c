/* SPDX-License-Identifier: MIT */
/*
 * Sequential and strided access detection: see stream.h.
 *
 * The table is 16 sets of 4 entries; thread and region choose the set. A fault
 * continues the entry that expects it, and its window doubles: 4, 8, 16 ... A
 * fault next to an entry's last one (at most 16 pages off) makes that entry
 * expect the same distance again. One at up to 1,024 pages takes a new entry,
 * since it may as well be a walk of its own. Any other takes a new entry with
 * no expectation. New entries replace the set's least recently used.
 *
 * Races: two threads in one set may mix their fields. The worst that can come
 * of it is a walk forgotten, or one window of at most 128 pages read for
 * nothing; the caller checks each index against the region in any case. So
 * relaxed order and no read-modify-write are enough.
 */
#include <stdbool.h>
#include <stdlib.h>
#include "policy/stream.h"

#define WAYS 4
#define NEAR 16 /* pages: the same walk */
#define GAP  4	/* pages: sequential, with present pages between */

/* The fields of an entry, read and written one by one. */
struct walk {
	uint64_t last;
	int32_t stride;	 /* 0: no expectation */
	uint32_t agreed; /* steps in a row with this stride, 1: one step */
	uint32_t window; /* pages read ahead last time */
};

static struct walk load(const struct ovc_stream *e)
{
	uint64_t state = atomic_load_explicit(&e->state, memory_order_relaxed);

	return (struct walk){
		.last = atomic_load_explicit(&e->last, memory_order_relaxed),
		.stride = (int16_t)(state & 0xffff),
		.agreed = state >> 16 & 0xff,
		.window = state >> 24 & 0xffff,
	};
}

static void store(struct ovc_stream *e, struct walk w)
{
	uint64_t state = (uint16_t)w.stride | (uint64_t)w.agreed << 16 |
			 (uint64_t)w.window << 24;

	atomic_store_explicit(&e->last, w.last, memory_order_relaxed);
	atomic_store_explicit(&e->state, state, memory_order_relaxed);
}

static void touch(struct ovc_streams *s, struct ovc_stream *e)
{
	uint32_t tick =
		atomic_load_explicit(&s->tick, memory_order_relaxed) + 1;

	atomic_store_explicit(&s->tick, tick, memory_order_relaxed);
	atomic_store_explicit(&e->used, tick, memory_order_relaxed);
}

static uint64_t key_of(uint32_t tid, uint32_t region)
{
	return ((uint64_t)tid << 32 | region) ^ 1ull << 63; /* never 0 */
}

/* Multiplicative hashing; consecutive thread ids fall into different sets. */
static struct ovc_stream *set_of(struct ovc_streams *s, uint32_t tid,
				 uint32_t region)
{
	uint32_t set = (tid + region * 16777619u) * 2654435761u >> 28;

	return &s->stream[set * WAYS];
}

static bool is_key(const struct ovc_stream *e, uint64_t key)
{
	return atomic_load_explicit(&e->key, memory_order_relaxed) == key;
}

static int64_t distance(const struct walk *w, uint64_t idx)
{
	return (int64_t)(idx - w->last);
}

/* A step onwards: into the window, or to the first page behind it. */
static bool steps_on(const struct walk *w, int64_t d)
{
	int64_t limit = w->window + 1;

	if (!w->stride || d % w->stride)
		return false;
	if (w->stride == 1)
		limit = w->window + GAP;
	return d / w->stride >= 1 && d / w->stride <= limit;
}

/* Two short steps forward that differ: sequential, with gaps. */
static bool is_gappy(const struct walk *w, int64_t d)
{
	return !w->window && w->stride >= 1 && w->stride <= GAP && d >= 1 &&
	       d <= GAP;
}

/* A page again, or one of the last window's that came late. */
static bool is_behind(const struct walk *w, int64_t d)
{
	if (!d)
		return true;
	return w->window && d % w->stride == 0 && d / w->stride < 0 &&
	       d / w->stride >= -(int64_t)w->window;
}

static uint32_t grow(const struct walk *w)
{
	uint32_t max = abs(w->stride) == 1 ? OVC_STREAM_MAX :
					     OVC_STREAM_MAX_STRIDED;
	uint32_t window = w->window ? w->window * 2 : OVC_STREAM_MIN;

	return window < max ? window : max;
}

static unsigned step(struct ovc_stream *e, struct walk w, uint64_t idx,
		     int64_t *stride)
{
	w.last = idx;
	if (w.agreed < 2)
		w.agreed++;
	if (w.agreed >= 2) {
		w.window = grow(&w);
		*stride = w.stride;
	}
	store(e, w);
	return w.window;
}

/* True: the fault belongs to this entry's walk; *ahead is the answer. */
static bool continues(struct ovc_stream *e, uint64_t idx, int64_t *stride,
		      unsigned *ahead)
{
	struct walk w = load(e);
	int64_t d = distance(&w, idx);

	*ahead = 0;
	if (is_behind(&w, d))
		return true;
	if (!steps_on(&w, d)) {
		if (!is_gappy(&w, d))
			return false;
		w.stride = 1;
	}
	*ahead = step(e, w, idx, stride);
	return true;
}

static struct ovc_stream *oldest(struct ovc_streams *s, struct ovc_stream *set)
{
	uint32_t tick = atomic_load_explicit(&s->tick, memory_order_relaxed);
	struct ovc_stream *found = set;
	uint32_t age = 0;

	for (int i = 0; i < WAYS; i++) {
		uint32_t used = atomic_load_explicit(&set[i].used,
						     memory_order_relaxed);

		if (tick - used >= age) {
			age = tick - used;
			found = &set[i];
		}
	}
	return found;
}

/* The walk that this fault may begin, given the entries of its thread. */
static void begin(struct ovc_streams *s, struct ovc_stream *set, uint64_t key,
		  uint64_t idx)
{
	struct ovc_stream *e = NULL;
	int64_t nearest = OVC_STREAM_MAX_STRIDE + 1;
	struct walk w = { .last = idx };

	for (int i = 0; i < WAYS; i++) {
		struct walk other = load(&set[i]);
		int64_t d = distance(&other, idx);

		if (!is_key(&set[i], key) || d <= -llabs(nearest) ||
		    d >= llabs(nearest))
			continue;
		nearest = d;
		e = &set[i];
	}
	if (e) {
		w.stride = (int32_t)nearest;
		w.agreed = 1;
	}
	if (!e || llabs(nearest) > NEAR)
		e = oldest(s, set);
	atomic_store_explicit(&e->key, key, memory_order_relaxed);
	store(e, w);
	touch(s, e);
}

unsigned ovc_stream_hit(struct ovc_streams *s, uint32_t tid, uint32_t region,
			uint64_t idx, int64_t *stride)
{
	uint64_t key = key_of(tid, region);
	struct ovc_stream *set = set_of(s, tid, region);
	unsigned ahead;

	*stride = 0;
	for (int i = 0; i < WAYS; i++) {
		if (!is_key(&set[i], key) ||
		    !continues(&set[i], idx, stride, &ahead))
			continue;
		touch(s, &set[i]);
		return ahead;
	}
	begin(s, set, key, idx);
	return 0;
}
