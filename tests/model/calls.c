/* SPDX-License-Identifier: MIT */
/*
 * What lib/in/range.c does: discard, read, and pin with what the device then
 * writes.
 */
#include "actors.h"

/* ---- calls --------------------------------------------------------------- */

/* Ways that are not the library's: the place may be another page's by now, or not be the
 * page's any more when it is discarded. */
static bool unowned_discard(void)
{
	return broken(DOOMED_TAKEN) || broken(UNHOLD_CLAIMS);
}

/* At once, from STAGED. */
static void doom(struct state *s)
{
	unsigned pos = value_of(s);

	go(s, OVC_EV_CLAIM, pos);
	go(s, OVC_EV_DISCARD, pos);
}

/* It is ours while it is DROPPING, and so is its position. */
static void discard_staged(struct state *s, struct thread *t, unsigned pos)
{
	s->truth = 0;
	t->pos = pos & 7;
	t->doomed = is_hold(pos);
	t->pc = is_hold(pos) ? UNHOLD_SLOT : DISCARD_TAKE;
	if (!unowned_discard()) {
		go(s, OVC_EV_DISCARD, pos);
		return;
	}
	doom(s);
	if (broken(DOOMED_TAKEN)) {
		t->pc = DISCARD_TAKE;
		return;
	}
	done(t);
}

void discard_step(struct state *s, struct thread *t)
{
	enum ovc_state is = state_of(s);
	unsigned value = value_of(s);
	enum ovc_action action;
	bool keep = is == OVC_WRITING || is == OVC_DOOMED || is == OVC_SHARED;

	if (transient(s)) {
		not_yet();
		return;
	}
	if (is == OVC_STAGED && broken(TAKEN_FIRST)) {
		t->pos = value & 7;
		t->pc = DISCARD_TAKE;
		return;
	}
	tell("%s discards the page", who);
	t->slot = NONE;
	t->was = is & 15;
	if (is == OVC_STAGED) {
		discard_staged(s, t, value);
		return;
	}
	action = go(s, OVC_EV_DISCARD, keep ? value : 0);
	if (is == OVC_CLEAN || is == OVC_SWAPPED)
		t->slot = value & 7;
	if (action == OVC_ACT_DROP) {
		/* was charged */
		t->clean = is == OVC_RESIDENT || is == OVC_CLEAN;
		free_then(t, DISCARD_DO);
		return;
	}
	s->truth = 0; /* from here on it reads as zero */
	if (is == OVC_STORED) {
		t->pc = UNREF;
		return;
	}
	free_then(t, IDLE);
	if (t->pc == IDLE)
		done(t);
}

void discard_take_step(struct state *s, struct thread *t)
{
	t->slot = s->entry[t->pos].slot;
	s->entry[t->pos].slot = NONE;
	if (t->slot != NONE)
		tell("%s takes slot %u from ring position %u", who, t->slot,
		     t->pos);
	t->pc = DISCARD_TAKEN;
}

void discard_taken_step(struct state *s, struct thread *t)
{
	if (broken(TAKEN_FIRST) &&
	    (state_of(s) != OVC_STAGED || value_of(s) != t->pos)) {
		tell("%s finds that the page has gone elsewhere, and gives it "
		     "back",
		     who);
		s->entry[t->pos].slot = t->slot;
		t->pc = DISCARD;
		return;
	}
	if (broken(TAKEN_FIRST)) {
		doom(s);
		s->truth = 0;
	} else if (!unowned_discard()) {
		end(s, t, OVC_EV_DOOM, t->pos);
	}
	free_then(t, IDLE);
	if (t->pc == IDLE)
		done(t);
}

void discard_do_step(struct state *s, struct thread *t)
{
	tell("%s drops it", who);
	if (refused()) {
		/* The guest keeps what it had. */
		go(s, OVC_EV_UNWRITTEN, 0);
		t->pc = UNDISCARD_END;
		return;
	}
	sys_discard(s);
	t->pc = DISCARD_END;
}

void undiscard_end_step(struct state *s, struct thread *t)
{
	bool lost = t->was == OVC_POISONED && !broken(UNDISCARD_REVIVES);

	if (t->was == OVC_SHARED)
		end(s, t, OVC_EV_MAPPED, STORE_NR);
	else
		end(s, t, lost ? OVC_EV_LOST : OVC_EV_FILLED, 0);
	done(t);
}

void discard_end_step(struct state *s, struct thread *t)
{
	end(s, t, OVC_EV_TO_EMPTY, 0);
	s->used -= t->clean;
	if (t->was == OVC_SHARED)
		t->pc = UNREF;
	else
		done(t);
}

static void look_check(const struct state *s, unsigned v)
{
	tell("%s copies version %u out", who, v);
	if (v != s->truth)
		violate("%s read version %u, but %u was written last", who, v,
			s->truth);
}

void look_step(struct state *s, struct thread *t)
{
	if (transient(s)) {
		not_yet();
		return;
	}
	t->was = state_of(s) & 15;
	if (go(s, OVC_EV_LOOK, value_of(s)) == OVC_ACT_COPY) {
		t->pos = value_of(s) & 7; /* or its slot */
		t->pc = t->was == OVC_SHARED && !broken(LOOK_UNASKED) ?
				LOOK_ASK :
				LOOK_COPY;
		return;
	}
	if (t->was != OVC_POISONED)
		look_check(s, 0);
	done(t);
}

/* A page of the store may be mapped or not. What the guest writes after this is
 * not for this read to see. */
void look_ask_step(struct state *s, struct thread *t)
{
	t->good = s->present && !s->of_store;
	t->v = s->truth;
	tell("%s asks if the guest has a copy: %s", who,
	     t->good ? "yes" : "no");
	t->pc = LOOK_COPY;
}

static void look_shared(struct state *s, const struct thread *t)
{
	unsigned v;

	if (t->good || broken(LOOK_UNASKED)) {
		/* At the guest's address. Nobody would answer a fault. */
		if (!s->present)
			violate("%s touches a page that it has in hand itself",
				who);
		look_check(s, s->of_store ? store_read(s) : s->v);
		return;
	}
	v = store_read(s);
	tell("%s copies version %u out of the store", who, v);
	if (v != t->v)
		violate("%s read version %u, but %u was written last", who, v,
			t->v);
}

void look_copy_step(struct state *s, struct thread *t)
{
	t->pc = LOOK_END;
	switch (t->was) {
	case OVC_RESIDENT:
	case OVC_CLEAN:
		if (in_memfd(s))
			look_check(s, s->cached ? s->cache_v : 0);
		else
			look_check(s, s->present ? s->v : 0);
		return;
	case OVC_SWAPPED:
		look_check(s, slot_read(s, t->pos));
		return;
	case OVC_STORED:
		look_check(s, store_read(s));
		return;
	case OVC_SHARED:
		look_shared(s, t);
		return;
	default:
		look_check(s, sys_view(s, t->pos));
		return;
	}
}

void look_end_step(struct state *s, struct thread *t)
{
	switch (t->was) {
	case OVC_RESIDENT:
		end(s, t, OVC_EV_FILLED, 0);
		break;
	case OVC_CLEAN:
		end(s, t, OVC_EV_FILLED_CLEAN, t->pos);
		break;
	case OVC_SWAPPED:
		end(s, t, OVC_EV_READ_CANCEL, t->pos);
		break;
	case OVC_STORED:
		end(s, t, OVC_EV_TO_STORE, t->pos);
		break;
	case OVC_SHARED:
		end(s, t, OVC_EV_MAPPED, t->pos);
		break;
	default:
		end(s, t, OVC_EV_UNPUT, t->pos);
		break;
	}
	done(t);
}

void pin_step(struct state *s, struct thread *t)
{
	tell("%s pins the page", who);
	s->word += OVC_W_PIN_ONE;
	t->pc = PIN_BRING_IN;
}

void pin_bring_in_step(struct state *s, struct thread *t)
{
	if (transient(s)) {
		not_yet();
		return;
	}
	if (state_of(s) == OVC_POISONED) {
		t->pc = UNPIN;
		return;
	}
	if (state_of(s) == OVC_SHARED) {
		t->pc = PIN_UNMAP;
		return;
	}
	if (state_of(s) == OVC_RESIDENT || state_of(s) == OVC_CLEAN) {
		tell("%s finds that it is here", who);
		t->pc = PIN_GIVE_UP_SLOT;
		return;
	}
	/* A touch that reads may map a STORED page: that brings nothing in. */
	t->write = !broken(BRING_IN_READS);
	t->ret = PIN_BRING_IN;
	touch_step(s, t);
}

void pin_unmap_step(struct state *s, struct thread *t)
{
	if (!control_free(s)) {
		not_yet();
		return;
	}
	t->ret = PIN_BRING_IN;
	s->locked = unmap_begin(s, t);
	if (!s->locked)
		done(t);
}

/* A device writes past the page tables: the slot is good no longer. */
void pin_give_up_slot_step(struct state *s, struct thread *t)
{
	if (transient(s) && !broken(PIN_PASSES_LOOK)) {
		not_yet();
		return;
	}
	t->ret = IDLE;
	t->slot = NONE;
	if (state_of(s) == OVC_CLEAN) {
		t->slot = value_of(s) & 7;
		go(s, OVC_EV_DIRTY, 0);
	}
	free_then(t, PIN_DMA);
}

void pin_dma_step(struct state *s, struct thread *t)
{
	t->pc = UNPIN;
	s->truth = (s->truth + 1u) % config.versions;
	tell("a device writes version %u", s->truth);
	if (in_memfd(s) ? !s->cached : !s->present || s->of_store)
		violate("a pinned page is not in memory");
	if (in_memfd(s))
		s->cache_v = s->truth;
	else
		s->v = s->truth;
}

void unpin_step(struct state *s, struct thread *t)
{
	tell("%s unpins the page", who);
	s->word -= OVC_W_PIN_ONE;
	done(t);
}
