/* SPDX-License-Identifier: MIT */
/*
 * What lib/out/reclaim.c does: stage, classify, settle, and what a write that is
 * done leads to. One thread, which does one thing at a time.
 */
#include <errno.h>
#include <string.h>

#include "actors.h"

/* ---- reclaim: stage ------------------------------------------------------ */

bool stage_begin(struct state *s, struct thread *t)
{
	enum ovc_state is = state_of(s);
	struct entry *e;
	unsigned pos;

	if (ovc_word_pins(s->word) || (is != OVC_RESIDENT && is != OVC_CLEAN &&
				       (is != OVC_STORED || !config.restage)))
		return false;
	pos = free_position(s);
	if (pos == NONE)
		return false;
	if (is == OVC_STORED)
		return restage_begin(s, t, pos);
	e = &s->entry[pos];
	memset(e, 0, sizeof(*e));
	e->used = 1;
	e->wslot = NONE;
	t->clean = is == OVC_CLEAN;
	e->slot = t->clean ? value_of(s) & 7 : NONE;
	t->pos = pos & 7;
	t->slot = NONE;
	go(s, OVC_EV_STAGE, 0);
	t->pc = t->clean && !in_memfd(s) ? STAGE_ASK : STAGE_TAKE;
	return true;
}

/* Anonymous memory: asked before the page is moved, which loses the bit. */
void stage_ask_step(struct state *s, struct thread *t)
{
	t->clean = !s->present || s->wp;
	tell("%s asks if it was written: %s", who, t->clean ? "no" : "yes");
	t->pc = STAGE_TAKE;
}

void stage_take_step(struct state *s, struct thread *t)
{
	int error;

	tell("%s takes the page", who);
	if (s->laid && !broken(LAID_DONTNEED)) {
		t->error = !!sys_take_away(s);
		t->pc = t->error ? KEPT_END : STAGE_COPY;
		return;
	}
	error = sys_take(s, t->pos);
	t->error = error == -ENOENT ? 2 : !!error;
	if (error && in_memfd(s)) {
		/* Some of it may have happened. */
		t->clean = 0;
	}
	t->pc = error			? KEPT_END :
		t->clean && in_memfd(s) ? STAGE_ASK_MARKER :
					  STAGE_END;
}

/* A memfd: the marker was left by the very step that unmapped the page. */
void stage_ask_marker_step(struct state *s, struct thread *t)
{
	t->clean = s->marker;
	tell("%s asks for the marker: %s", who,
	     t->clean ? "not written" : "written");
	t->pc = STAGE_END;
}

void stage_end_step(struct state *s, struct thread *t)
{
	struct entry *e = &s->entry[t->pos];

	e->frame = !in_memfd(s);
	if (config.memfd && broken(LAID_DONTNEED))
		e->frame = 0;
	t->pc = TAKEN_END;
	if (t->clean || e->slot == NONE)
		return;
	t->slot = e->slot;
	e->slot = NONE;
	free_then(t, TAKEN_END);
}

void taken_end_step(struct state *s, struct thread *t)
{
	bool wanted = s->word & OVC_W_WANTED;

	go(s, OVC_EV_TAKEN, t->pos);
	done(t);
	if (wanted && !broken(NO_WANTED)) {
		t->write = 1;
		t->pc = TOUCH;
	}
}

void kept_end_step(struct state *s, struct thread *t)
{
	struct entry *e = &s->entry[t->pos];
	bool gone = t->error == 2;

	t->slot = e->slot;
	memset(e, 0, sizeof(*e));
	if (t->slot != NONE && !gone && t->clean) {
		end(s, t, OVC_EV_KEPT_CLEAN, t->slot);
		done(t);
		return;
	}
	s->used -= gone;
	end(s, t, gone ? OVC_EV_VANISHED : OVC_EV_KEPT, 0);
	free_then(t, IDLE);
	if (t->pc == IDLE)
		done(t);
}

/* ---- reclaim: classify, settle ------------------------------------------- */

static void settle_begin(struct thread *t, unsigned to)
{
	t->to = to & 7;
	t->good = 0;
	t->pc = SETTLE;
}

/* One entry of the ring is looked at. */
bool settle_one(struct state *s, struct thread *t, unsigned pos)
{
	struct entry *e = &s->entry[pos];

	if (!e->used || e->busy || !names(s->word, pos))
		return false;
	t->pos = pos & 7;
	t->slot = NONE;
	if (state_of(s) == OVC_DOOMED) {
		settle_begin(t, NONE);
		return true;
	}
	if (state_of(s) != OVC_STAGED)
		return false;
	go(s, OVC_EV_CLAIM, pos);
	t->pc = CLAIMED;
	return true;
}

void claimed_step(struct state *s, struct thread *t)
{
	struct entry *e = &s->entry[t->pos];

	t->slot = e->slot;
	e->slot = NONE;
	if (t->slot == NONE) {
		t->pc = CLASSIFY;
		return;
	}
	tell("%s takes slot %u from the entry", who, t->slot);
	if (!e->frame || broken(CLEAN_UNCONFIRMED))
		settle_begin(t, t->slot); /* unwritten: no need to look */
	else
		t->pc = CLASSIFY;
}

void classify_step(struct state *s, struct thread *t)
{
	t->v = sys_view(s, t->pos) & 3;
	tell("%s looks at the bytes: version %u", who, t->v);
	t->raw = t->v != 0;
	if (!t->raw) {
		settle_begin(t, NONE);
	} else if (t->slot != NONE && t->v == s->slot[t->slot].sum) {
		settle_begin(t, t->slot);
	} else {
		free_then(t, BATCH);
	}
}

/* From WRITING or DOOMED to nowhere, or to a slot. */
void settle_step(struct state *s, struct thread *t)
{
	enum ovc_state is = state_of(s);

	t->pc = SETTLED;
	if (value_of(s) != t->pos ||
	    !(is == OVC_WRITING || (is == OVC_DOOMED && t->to == NONE))) {
		tell("%s finds that the page has gone elsewhere", who);
		if (t->to == STORE && !broken(REF_LATE))
			store_unref(s);
		return;
	}
	go(s, OVC_EV_SETTLE, 0);
	t->good = 1;
	t->pc = broken(STABLE_BEFORE_DROP) ? DROP_END : DROP;
}

/* The kernel would not: the guest gets it back, as zeros where it is that; then
 * the entry's slot, if a discard left one there, is good no longer. */
static void not_dropped(struct state *s, struct thread *t)
{
	bool erase = t->to == NONE && !broken(UNDROPPED_KEPT);

	go(s, OVC_EV_UNWRITTEN, t->pos);
	t->write = 1;
	t->doomed = erase;
	if (t->to == STORE)
		t->ret = UNREF;
	free_then(t, erase ? PUT_SLOT : PUT);
}

void drop_step(struct state *s, struct thread *t)
{
	tell("%s drops the frame", who);
	if (!s->entry[t->pos].frame && refused()) {
		not_dropped(s, t);
		return;
	}
	sys_drop(s, t->pos);
	if (!s->entry[t->pos].frame)
		s->used--;
	t->pc = t->to == STORE		   ? LAY :
		broken(STABLE_BEFORE_DROP) ? SETTLED :
					     DROP_END;
}

void drop_end_step(struct state *s, struct thread *t)
{
	s->entry[t->pos].settled = 1;
	/* An older mapping may be there, of another page. */
	if (t->to == STORE && !t->lay && !broken(OWN_KEPT))
		s->own = 0;
	if (t->to == NONE)
		end(s, t, OVC_EV_TO_EMPTY, 0);
	else if (t->to == STORE)
		end(s, t, t->lay ? OVC_EV_MAPPED : OVC_EV_TO_STORE, STORE_NR);
	else
		end(s, t, OVC_EV_TO_SWAP, t->to);
	t->pc = broken(STABLE_BEFORE_DROP)	   ? DROP :
		t->to == STORE && broken(REF_LATE) ? MERGE_REF :
						     SETTLED;
}

void settled_step(struct state *s, struct thread *t)
{
	bool batch = t->raw && !t->good;

	(void)s;
	if (t->good && t->to != NONE && t->to != STORE)
		t->slot = NONE; /* the word's now */
	free_then(t, batch ? BATCH : IDLE);
	if (t->pc == IDLE)
		done(t);
}

void batch_step(struct state *s, struct thread *t)
{
	struct entry *e = &s->entry[t->pos];
	unsigned slot = slot_take(s);

	if (slot == NONE) {
		tell("%s finds the swap full", who);
		t->pc = UNWRITTEN;
		return;
	}
	tell("%s starts to write version %u to slot %u", who, t->v, slot);
	s->slot[slot].sum = t->v;
	e->wslot = slot & 7;
	e->busy = 1;
	done(t);
}

/* A write that the disk is through with. */
bool reap(struct state *s, struct thread *t, unsigned pos, bool failed)
{
	struct entry *e = &s->entry[pos];

	if (e->busy != 2 || (failed && !config.refusals))
		return false;
	e->busy = 0;
	t->pos = pos & 7;
	t->slot = e->wslot;
	e->wslot = NONE;
	if (failed) {
		tell("%s is told that the write failed", who);
		free_then(t, UNWRITTEN);
		return true;
	}
	tell("%s is told that slot %u is written", who, t->slot);
	settle_begin(t, t->slot);
	return true;
}

/* It could not be written: back to the guest. */
void unwritten_step(struct state *s, struct thread *t)
{
	t->slot = NONE;
	if (value_of(s) == t->pos && state_of(s) == OVC_DOOMED) {
		t->raw = 0;
		settle_begin(t, NONE);
		return;
	}
	if (value_of(s) != t->pos || state_of(s) != OVC_WRITING) {
		done(t);
		return;
	}
	go(s, OVC_EV_UNWRITTEN, t->pos);
	if (s->entry[t->pos].frame)
		s->used++;
	t->write = 1;
	t->pc = broken(MARK_FIRST) ? PUT_END : PUT;
}
