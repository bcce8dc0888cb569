/* SPDX-License-Identifier: MIT */
/*
 * What lib/share/merge.c and lib/share/lay.c do: merge a staged page with the store's, map the
 * store's page where the guest had its own, notice what the guest wrote of it, take
 * it away again. All of it is done with host->control, like the rest of reclaim; a
 * pin unmaps, too, and takes the lock for that.
 */
#include <errno.h>
#include <string.h>

#include "actors.h"

static bool is_claimed(const struct state *s, const struct thread *t)
{
	return state_of(s) == OVC_WRITING && value_of(s) == t->pos;
}

/* ---- merging ------------------------------------------------------------- */

bool merge_begin(struct state *s, struct thread *t, unsigned pos)
{
	struct entry *e = &s->entry[pos];

	if (!config.share || !e->used || e->busy || !names(s->word, pos) ||
	    state_of(s) != OVC_STAGED)
		return false;
	/* With a page of the store; or another VM's page, which has no place
	 * there yet. */
	if (!s->refs && s->store_v != GARBAGE)
		return false;
	t->pos = pos & 7;
	t->slot = NONE;
	t->good = 0;
	go(s, OVC_EV_CLAIM, pos);
	t->pc = MERGE_COMPARE;
	return true;
}

/* The other VM's page is staged like ours; that it is equal is what we look for. */
void merge_compare_step(struct state *s, struct thread *t)
{
	t->v = sys_view(s, t->pos) & 3;
	if (s->store_v == GARBAGE && t->v) {
		tell("%s finds that another VM has version %u, too", who, t->v);
		t->pc = MERGE_STORE;
	} else if (t->v && t->v == s->store_v) {
		tell("%s finds version %u in the store", who, t->v);
		t->pc = MERGE_SLOT;
	} else {
		tell("%s finds no version %u in the store", who, t->v);
		t->pc = UNWRITTEN;
	}
}

/* Copied from our page; the copy is good if that did not change meanwhile. */
void merge_store_step(struct state *s, struct thread *t)
{
	s->store_v = sys_view(s, t->pos) & 3;
	tell("%s copies version %u to the store", who, s->store_v);
	t->pc = MERGE_STORED;
}

void merge_stored_step(struct state *s, struct thread *t)
{
	if (!is_claimed(s, t) && !broken(STORE_UNCLAIMED)) {
		tell("%s finds that it was put back meanwhile", who);
		s->store_v = GARBAGE;
		done(t);
		return;
	}
	tell("the other VM's page is in the store");
	s->other = 1;
	s->other_v = t->v;
	store_ref(s);
	t->pc = MERGE_SLOT;
}

void merge_slot_step(struct state *s, struct thread *t)
{
	if (!is_claimed(s, t)) {
		tell("%s finds that the page has gone elsewhere", who);
		done(t);
		return;
	}
	t->slot = s->entry[t->pos].slot;
	s->entry[t->pos].slot = NONE;
	t->to = STORE;
	t->raw = 0;
	t->pc = broken(REF_LATE) ? SETTLE : MERGE_REF;
}

void merge_ref_step(struct state *s, struct thread *t)
{
	tell("%s adds a reference", who);
	store_ref(s);
	t->pc = broken(REF_LATE) ? SETTLED : SETTLE;
}

/* ---- laying -------------------------------------------------------------- */

/* The page is DROPPING and its frame is gone. */
void lay_step(struct state *s, struct thread *t)
{
	t->lay = !choose(2);
	if (!t->lay) {
		tell("%s leaves the page unmapped, or must", who);
		t->pc = DROP_END;
		return;
	}
	tell("%s maps the store over the page", who);
	sys_lay(s);
	t->pc = LAY_REGISTER;
}

void lay_register_step(struct state *s, struct thread *t)
{
	tell("%s registers the mapping", who);
	s->unregistered = 0;
	t->pc = LAY_CONTINUE;
}

void lay_continue_step(struct state *s, struct thread *t)
{
	tell("%s maps the store's page", who);
	sys_continue(s);
	t->pc = DROP_END;
}

/* ---- a reference less ---------------------------------------------------- */

void unref_step(struct state *s, struct thread *t)
{
	tell("%s drops a reference", who);
	store_unref(s);
	done(t);
}

/* ---- what the guest wrote ------------------------------------------------ */

bool break_begin(struct state *s, struct thread *t)
{
	if (state_of(s) != OVC_SHARED)
		return false;
	t->good = s->present && !s->of_store;
	tell("%s asks if the guest has a copy: %s", who,
	     t->good ? "yes" : "no");
	t->pc = BREAK_END;
	return true;
}

void break_end_step(struct state *s, struct thread *t)
{
	if (!t->good || state_of(s) != OVC_SHARED) {
		done(t);
		return;
	}
	go(s, OVC_EV_BROKE, 0);
	s->used++;
	t->pc = UNREF;
}

/* ---- unmapping ----------------------------------------------------------- */

/* Who holds the lock calls this. */
bool unmap_begin(struct state *s, struct thread *t)
{
	if (state_of(s) != OVC_SHARED)
		return false;
	go(s, OVC_EV_STAGE, 0);
	t->good = 0;
	t->pc = broken(UNMAP_LOOKS_FIRST) || broken(UNMAP_MARKS_FIRST) ?
			UNMAP_LOOK :
			UNMAP;
	return true;
}

static void unmapped(struct state *s, struct thread *t, enum ovc_page_event e,
		     unsigned value)
{
	end(s, t, e, value);
	sys_release(s);
	s->locked = 0;
	done(t);
}

void unmap_step(struct state *s, struct thread *t)
{
	tell("%s takes the mapping away", who);
	if (broken(UNMAP_MARKS_FIRST) && !t->good) {
		sys_take_away(s);
		sys_release(s);
		s->locked = 0;
		done(t);
		return;
	}
	if (sys_take_away(s)) {
		unmapped(s, t, OVC_EV_MAPPED, STORE_NR);
		return;
	}
	if (broken(UNMAP_LOOKS_FIRST) || broken(UNMAP_MARKS_FIRST))
		t->pc = t->good ? UNMAP_BACK : UNMAP_END;
	else
		t->pc = UNMAP_LOOK;
}

/* In the window nobody can write it. Before, the guest could. */
void unmap_look_step(struct state *s, struct thread *t)
{
	bool early = broken(UNMAP_LOOKS_FIRST) || broken(UNMAP_MARKS_FIRST);

	t->good = early ? s->present && !s->of_store :
			  s->taken && !s->taken_of_store;
	tell("%s asks if the guest had a copy: %s", who,
	     t->good ? "yes" : "no");
	if (broken(UNMAP_MARKS_FIRST) && !t->good)
		t->pc = UNMAP_END;
	else if (early)
		t->pc = UNMAP;
	else
		t->pc = t->good ? UNMAP_BACK : UNMAP_END;
}

/* It is tried until it works. */
void unmap_back_step(struct state *s, struct thread *t)
{
	tell("%s gives the guest its copy again", who);
	s->used++;
	s->present = 1;
	s->of_store = s->wp = s->marker = 0;
	s->v = s->taken_v;
	wake_all(s);
	t->pc = UNMAP_UNREF;
}

void unmap_unref_step(struct state *s, struct thread *t)
{
	store_unref(s);
	t->pc = UNMAP_KEPT;
}

void unmap_kept_step(struct state *s, struct thread *t)
{
	unmapped(s, t, OVC_EV_KEPT, 0);
}

void unmap_end_step(struct state *s, struct thread *t)
{
	if (!broken(UNMAP_MARKS_FIRST)) {
		unmapped(s, t, OVC_EV_TO_STORE, STORE_NR);
		return;
	}
	end(s, t, OVC_EV_TO_STORE, STORE_NR);
	t->pc = UNMAP;
}

/* ---- a laid page on its way out ------------------------------------------ */

void stage_copy_step(struct state *s, struct thread *t)
{
	t->pc = KEPT_END;
	if (!s->taken) {
		tell("%s finds that there was nothing", who);
		t->error = 2;
		sys_release(s);
		return;
	}
	tell("%s copies it to ring position %u", who, t->pos);
	if (refused()) {
		t->error = 1;
		t->pc = STAGE_GIVE_BACK;
		return;
	}
	s->entry[t->pos].v = s->taken_of_store ? store_read(s) & 3 : s->taken_v;
	sys_release(s);
	t->pc = STAGE_END;
}

void stage_give_back_step(struct state *s, struct thread *t)
{
	tell("%s gives the page back", who);
	s->present = 1;
	s->of_store = s->wp = s->marker = 0;
	s->v = s->taken_v;
	wake_all(s);
	sys_release(s);
	t->pc = KEPT_END;
}

/* ---- from the store to swap ---------------------------------------------- */

bool restage_begin(struct state *s, struct thread *t, unsigned pos)
{
	struct entry *e = &s->entry[pos];

	memset(e, 0, sizeof(*e));
	e->used = 1;
	e->slot = e->wslot = NONE;
	t->pos = pos & 7;
	t->slot = NONE;
	t->clean = 0;
	go(s, OVC_EV_STAGE, 0);
	s->used++;
	t->pc = broken(UNREF_FIRST) ? RESTAGE_UNREF : RESTAGE;
	return true;
}

void restage_step(struct state *s, struct thread *t)
{
	struct entry *e = &s->entry[t->pos];

	tell("%s copies the store's page to ring position %u", who, t->pos);
	if (refused()) {
		memset(e, 0, sizeof(*e));
		s->used--;
		end(s, t, OVC_EV_TO_STORE, STORE_NR);
		done(t);
		return;
	}
	e->frame = !in_memfd(s);
	if (e->frame) {
		e->v = store_read(s) & 3;
	} else {
		s->cached = 1;
		s->cache_v = store_read(s) & 3;
	}
	t->pc = broken(UNREF_FIRST) ? TAKEN_END : RESTAGE_END;
}

/* The reference goes after the word stopped naming the store's page, and before a
 * touch that came meanwhile is answered: that may take long. */
void restage_end_step(struct state *s, struct thread *t)
{
	t->raw = !!(s->word & OVC_W_WANTED);
	go(s, OVC_EV_TAKEN, t->pos);
	t->pc = RESTAGE_UNREF;
}

void restage_unref_step(struct state *s, struct thread *t)
{
	bool wanted = t->raw;

	store_unref(s);
	if (broken(UNREF_FIRST)) {
		t->pc = RESTAGE;
		return;
	}
	done(t);
	if (wanted) {
		t->write = 1;
		t->pc = TOUCH;
	}
}

/* ---- folding ------------------------------------------------------------- */

bool fold_begin(struct state *s, struct thread *t)
{
	enum ovc_state is = state_of(s);
	bool may = is == OVC_RESIDENT ||
		   (is == OVC_EMPTY && broken(FOLD_EMPTY));

	if (!config.fold || !s->laid || !may ||
	    (ovc_word_pins(s->word) && !broken(FOLD_PINNED)))
		return false;
	t->raw = is == OVC_EMPTY;
	go(s, is == OVC_EMPTY ? OVC_EV_FAULT : OVC_EV_LOOK, 0);
	t->pc = FOLD_TAKE;
	return true;
}

void fold_take_step(struct state *s, struct thread *t)
{
	tell("%s takes the page away, to put ordinary memory there", who);
	t->pc = sys_take_away(s) ? FOLD_END : FOLD_MAP;
	if (t->pc == FOLD_MAP && !s->taken && !t->raw)
		violate("the guest lost a page");
	if (t->pc == FOLD_MAP && config.memfd) {
		s->cached = !t->raw;
		s->cache_v = s->taken_v;
	}
}

void fold_map_step(struct state *s, struct thread *t)
{
	tell("%s maps ordinary memory over the page", who);
	if (refused()) {
		t->pc = FOLD_GIVE_BACK;
		return;
	}
	/* Who does DMA there goes on with the frame that there was. */
	if (s->t[PINNER].pc == PIN_DMA || s->t[PINNER].pc == UNPIN)
		violate("%s moves a page that is pinned", who);
	sys_fold(s);
	if (t->raw)
		s->present = 0;
	t->pc = FOLD_REGISTER;
}

void fold_give_back_step(struct state *s, struct thread *t)
{
	tell("%s gives the page back", who);
	s->cached = s->cache_v = 0;
	s->present = !t->raw;
	s->v = s->taken_v;
	wake_all(s);
	t->pc = FOLD_END;
}

void fold_register_step(struct state *s, struct thread *t)
{
	tell("%s registers the mapping", who);
	s->unregistered = 0;
	t->pc = FOLD_END;
}

void fold_end_step(struct state *s, struct thread *t)
{
	sys_release(s);
	end(s, t, t->raw ? OVC_EV_UNFILLED : OVC_EV_FILLED, 0);
	done(t);
}
