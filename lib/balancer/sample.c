/* SPDX-License-Identifier: MIT */
/*
 * How much of its memory a VM uses, found out by watching a few pages.
 *
 * Each period some pages are chosen at random among those that the guest has, and
 * staged one by one. A page that is touched is put back, like any that was staged: it is
 * found with its guest again at the next look. What is not touched waits in the ring, and
 * is put back at the end of the period, unless it went to swap because memory was
 * short, where it belongs; touched there, it comes back and counts as well. What was
 * reclaimed cannot be chosen, and what comes back of it counts as used besides.
 *
 * Costs: a fault for each of these pages that is in use, and a flush of TLBs for each.
 *
 * Failures: where there is no memory for the list, or no room in the ring, fewer pages are
 * watched; with none the working set is not known, and all is taken to be used.
 */
#include "balancer/sample.h"

#include "core/meta.h"
#include "core/tables.h"
#include "in/pager.h"
#include "out/reclaim.h"
#include "out/staging.h"
#include "policy/working_set.h"

#define TRIES 32 /* random pages that are looked at for one that is there */

struct ovc_sample {
	struct ovc_working_set set;
	uint64_t began, random, swapped_in;
	uint32_t room, nr;
	struct {
		struct ovc_region *region; /* NULL: counted, or gone */
		uint64_t idx;
	} page[];
};

static uint64_t next_random(struct ovc_sample *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return s->random * 0x9e3779b97f4a7c15ull >> 16;
}

static struct ovc_sample *make(struct ovc_vm *vm, uint32_t pages)
{
	struct ovc_sample *s = vm->sample;

	if (s && s->room >= pages)
		return s;
	ovc_sample_end(vm);
	s = ovc_meta_zalloc(sizeof(*s) + pages * sizeof(s->page[0]));
	if (!s)
		return NULL;
	s->room = pages;
	s->random = ovc_now_ns() * 2 + 1;
	vm->sample = s;
	return s;
}

/* What was not touched goes back to where it was: samples are no way out. */
static void give_back(struct ovc_sample *s)
{
	for (uint32_t i = 0; i < s->nr; i++) {
		struct ovc_region *r = s->page[i].region;
		struct ovc_touched t;

		/* A page that was held back may go to swap meanwhile. */
		if (r &&
		    ovc_word_state(atomic_load(&r->words[s->page[i].idx])) ==
			    OVC_STAGED &&
		    ovc_pager_touch(r, s->page[i].idx, false, true, &t) ==
			    OVC_TOUCH_READ)
			ovc_pager_unread(r, s->page[i].idx, t.slot);
	}
}

/* Any page of the VM. */
static struct ovc_region *choose(const struct ovc_vm *vm, struct ovc_sample *s,
				 uint64_t *idx)
{
	uint64_t at = next_random(s) % vm->configured;

	for (unsigned k = 0; k < vm->nr_regions; k++) {
		struct ovc_region *r = vm->regions[k];

		*idx = at;
		if (at < r->nr)
			return r;
		at -= r->nr;
	}
	return NULL;
}

static bool is_with_guest(const struct ovc_region *r, uint64_t idx)
{
	enum ovc_state s = ovc_word_state(atomic_load(&r->words[idx]));

	return s == OVC_RESIDENT || s == OVC_CLEAN;
}

static bool watch_one(struct ovc_vm *vm, struct ovc_sample *s)
{
	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t idx;
		struct ovc_region *r = choose(vm, s, &idx);

		if (!r || !atomic_load(&r->tracked) || r->leaving ||
		    !ovc_region_touched(r, idx) || !is_with_guest(r, idx) ||
		    ovc_stage_pages(r, &idx, 1) != 1)
			continue;
		s->page[s->nr].region = r;
		s->page[s->nr++].idx = idx;
		return true;
	}
	return false;
}

static void begin(struct ovc_vm *vm, struct ovc_sample *s, uint64_t now,
		  uint32_t pages)
{
	uint64_t resident = atomic_load(&vm->resident);

	s->nr = 0;
	s->began = now;
	while (s->nr < pages && ovc_staging_room(vm) > OVC_CHUNK &&
	       watch_one(vm, s))
		;
	ovc_working_set_begin(&s->set, s->nr, resident, vm->configured);
}

static void look(struct ovc_vm *vm, struct ovc_sample *s)
{
	uint64_t in = atomic_load(&vm->count.swap_in) -
		      atomic_load(&vm->count.readahead);
	uint32_t touched = 0;

	for (uint32_t i = 0; i < s->nr; i++) {
		if (!s->page[i].region ||
		    !is_with_guest(s->page[i].region, s->page[i].idx))
			continue;
		s->page[i].region = NULL;
		touched++;
	}
	ovc_working_set_touched(&s->set, touched);
	if (in > s->swapped_in)
		ovc_working_set_refault(&s->set, in - s->swapped_in);
	s->swapped_in = in;
}

void ovc_sample_step(struct ovc_vm *vm, uint64_t now, uint32_t pages,
		     uint64_t period)
{
	struct ovc_sample *s = make(vm, pages);

	if (!s || !vm->configured)
		return;
	if (s->began) {
		look(vm, s);
		if (now - s->began < period)
			return;
		ovc_working_set_end(&s->set);
		give_back(s);
	}
	begin(vm, s, now, pages);
}

void ovc_sample_forget(struct ovc_vm *vm, const struct ovc_region *r)
{
	struct ovc_sample *s = vm->sample;

	for (uint32_t i = 0; s && i < s->nr; i++)
		if (s->page[i].region == r)
			s->page[i].region = NULL;
}

void ovc_sample_end(struct ovc_vm *vm)
{
	ovc_meta_free(vm->sample);
	vm->sample = NULL;
}

uint64_t ovc_sample_active(const struct ovc_vm *vm, bool *known)
{
	const struct ovc_sample *s = vm->sample;
	uint64_t bytes = vm->configured * OVC_PAGE;

	*known = s && s->set.known;
	if (!s)
		return bytes;
	return (uint64_t)((double)bytes * ovc_working_set_estimate(&s->set) /
			  OVC_WORKING_SET_ALL);
}

bool ovc_sample_grows(const struct ovc_vm *vm)
{
	return vm->sample && ovc_working_set_grows(&vm->sample->set);
}
