/* SPDX-License-Identifier: MIT */
/*
 * What the actors' files share: the list of all steps, and how a step changes
 * the word. actors.c says whose turn it is; touch.c, reclaim.c, share.c and
 * calls.c have the steps.
 */
#ifndef OVC_TESTS_MODEL_ACTORS_H
#define OVC_TESTS_MODEL_ACTORS_H

#include "model.h"

/* Where a thread is, and what it does there. */
#define STEPS(X)                                   \
	X(TOUCH, touch_step)                       \
	X(ZERO, zero_step)                         \
	X(ZERO_END, zero_end_step)                 \
	X(CHECK_UNOWNED_DO, check_unowned_step)    \
	X(CHECK_CLEAN, check_clean_step)           \
	X(CHECK_CLEAN_END, check_clean_end_step)   \
	X(POISON_DO, poison_step)                  \
	X(UNSHARE, unshare_step)                   \
	X(UNSHARE_CACHED, unshare_cached_step)     \
	X(UNSHARE_END, unshare_end_step)           \
	X(UNSHARE_UNDO, unshare_undo_step)         \
	X(MAP, map_step)                           \
	X(REMAP, remap_step)                       \
	X(REMAP_UNDO, remap_undo_step)             \
	X(READ, read_step)                         \
	X(VERIFY, verify_step)                     \
	X(FILL, fill_step)                         \
	X(FILL_CACHED, fill_cached_step)           \
	X(FILL_END, fill_end_step)                 \
	X(FILL_UNDO, fill_undo_step)               \
	X(LOST_POISON, lost_poison_step)           \
	X(LOST_END, lost_end_step)                 \
	X(PUT_SLOT, put_slot_step)                 \
	X(PUT_ERASE, put_erase_step)               \
	X(PUT, put_step)                           \
	X(PUT_END, put_end_step)                   \
	X(PUT_DONE, put_done_step)                 \
	X(UNPUT_SLOT, unput_slot_step)             \
	X(UNPUT_END, unput_end_step)               \
	X(FREE_SLOT, free_slot_step)               \
	X(HOLD_SET, hold_set_step)                 \
	X(HOLD_END, hold_end_step)                 \
	X(UNHOLD_SLOT, unhold_slot_step)           \
	X(UNHOLD_SETTLE, unhold_settle_step)       \
	X(UNHOLD_END, unhold_end_step)             \
	X(UNHOLD_DONE, unhold_done_step)           \
	X(STAGE_ASK, stage_ask_step)               \
	X(STAGE_TAKE, stage_take_step)             \
	X(STAGE_ASK_MARKER, stage_ask_marker_step) \
	X(STAGE_COPY, stage_copy_step)             \
	X(STAGE_GIVE_BACK, stage_give_back_step)   \
	X(STAGE_END, stage_end_step)               \
	X(TAKEN_END, taken_end_step)               \
	X(KEPT_END, kept_end_step)                 \
	X(CLAIMED, claimed_step)                   \
	X(CLASSIFY, classify_step)                 \
	X(SETTLE, settle_step)                     \
	X(DROP, drop_step)                         \
	X(DROP_END, drop_end_step)                 \
	X(SETTLED, settled_step)                   \
	X(BATCH, batch_step)                       \
	X(UNWRITTEN, unwritten_step)               \
	X(MERGE_COMPARE, merge_compare_step)       \
	X(MERGE_STORE, merge_store_step)           \
	X(MERGE_STORED, merge_stored_step)         \
	X(MERGE_SLOT, merge_slot_step)             \
	X(MERGE_REF, merge_ref_step)               \
	X(LAY, lay_step)                           \
	X(LAY_REGISTER, lay_register_step)         \
	X(LAY_CONTINUE, lay_continue_step)         \
	X(UNREF, unref_step)                       \
	X(BREAK_END, break_end_step)               \
	X(UNMAP, unmap_step)                       \
	X(UNMAP_LOOK, unmap_look_step)             \
	X(UNMAP_BACK, unmap_back_step)             \
	X(UNMAP_UNREF, unmap_unref_step)           \
	X(UNMAP_KEPT, unmap_kept_step)             \
	X(UNMAP_END, unmap_end_step)               \
	X(RESTAGE, restage_step)                   \
	X(RESTAGE_END, restage_end_step)           \
	X(RESTAGE_UNREF, restage_unref_step)       \
	X(FOLD_TAKE, fold_take_step)               \
	X(FOLD_MAP, fold_map_step)                 \
	X(FOLD_GIVE_BACK, fold_give_back_step)     \
	X(FOLD_REGISTER, fold_register_step)       \
	X(FOLD_END, fold_end_step)                 \
	X(DISCARD, discard_step)                   \
	X(DISCARD_TAKE, discard_take_step)         \
	X(DISCARD_TAKEN, discard_taken_step)       \
	X(DISCARD_DO, discard_do_step)             \
	X(DISCARD_END, discard_end_step)           \
	X(UNDISCARD_END, undiscard_end_step)       \
	X(REMOVE, remove_step)                     \
	X(REMOVE_WAIT, remove_wait_step)           \
	X(REMOVE_FORGET, remove_forget_step)       \
	X(REMOVE_END, remove_end_step)             \
	X(LOOK, look_step)                         \
	X(LOOK_ASK, look_ask_step)                 \
	X(LOOK_COPY, look_copy_step)               \
	X(LOOK_END, look_end_step)                 \
	X(PIN, pin_step)                           \
	X(PIN_BRING_IN, pin_bring_in_step)         \
	X(PIN_UNMAP, pin_unmap_step)               \
	X(PIN_GIVE_UP_SLOT, pin_give_up_slot_step) \
	X(PIN_DMA, pin_dma_step)                   \
	X(UNPIN, unpin_step)

enum pc {
	IDLE,
#define X(pc, step) pc,
	STEPS(X)
#undef X
		NR_PCS
};

#define X(pc, step) void step(struct state *s, struct thread *t);
STEPS(X)
#undef X

/* Begins staging; settling what is at pos; what a write at pos came to. False:
 * there is nothing of the kind to do. */
bool stage_begin(struct state *s, struct thread *t);
bool ahead_begin(struct state *s, struct thread *t);
bool unhold_begin(struct state *s, struct thread *t);
bool restage_begin(struct state *s, struct thread *t, unsigned pos);
bool merge_begin(struct state *s, struct thread *t, unsigned pos);
bool break_begin(struct state *s, struct thread *t);
bool unmap_begin(struct state *s, struct thread *t);
bool fold_begin(struct state *s, struct thread *t);
bool settle_one(struct state *s, struct thread *t, unsigned pos);
bool reap(struct state *s, struct thread *t, unsigned pos, bool failed);

extern const char *who; /* takes this step */

/* The ring entry at pos is named by the word. */
bool names(uint64_t word, unsigned pos);

/* A position that is free, or is free now; NONE. */
unsigned free_position(struct state *s);

/* The place of a held page is free. */
void free_hold(struct state *s);

/* The thread must wait for another one: its step was none. */
void not_yet(void);

/* Applies an event to the word. */
enum ovc_action go(struct state *s, enum ovc_page_event e, unsigned value);

/* The same at the end of a transient state; whoever waited is woken next. */
void end(struct state *s, struct thread *t, enum ovc_page_event e,
	 unsigned value);

/* The thread goes back to what it came from. */
void done(struct thread *t);

/* Frees the slot that the thread holds, if it does, and goes on at `next`. */
void free_then(struct thread *t, unsigned next);

static inline enum ovc_state state_of(const struct state *s)
{
	return ovc_word_state(s->word);
}

static inline bool transient(const struct state *s)
{
	return ovc_word_transient(s->word);
}

static inline unsigned value_of(const struct state *s)
{
	return (unsigned)ovc_word_value(s->word);
}

static inline bool broken(enum broken how)
{
	return config.broken & how;
}

#endif
