/* SPDX-License-Identifier: MIT */
/*
 * The page word, which is the truth about one page, and its transition table.
 * Pure: no system call, no thread of its own, no lock.
 *
 *  63            30 29    16 15     6  5     4     3     0
 * +----------------+--------+--------+-----+------+-------+
 * |     value      |  heat  |  pins  |mark |wanted| state |
 * +----------------+--------+--------+-----+------+-------+
 *
 * value   a slot (CLEAN, SWAPPED, READING), a page of the sharing store (STORED,
 *         SHARED), a ring position (STAGED, WRITING, DOOMED, and FILLING when it
 *         came from these, DROPPING when it came from STAGED), else 0
 * heat    what policy/clock.c knows of the page's use
 * pins    how many pins hold the page in memory
 * mark    the page was held back by read-ahead: its touch asks for more
 * wanted  a fault came while the state was transient; its owner must wake
 *
 *  state    the guest  bytes are in     slot  stable  who may end it
 *  -------  ---------  ---------------  ----  ------  -------------------------
 *  EMPTY    faults     nowhere: zero    no    yes     anyone
 *  RESIDENT has it     guest            no    yes     anyone
 *  CLEAN    has it     guest, and slot  yes   yes     anyone
 *           until written
 *  STAGING  may fault  moving           ring  no      reclaim
 *  STAGED   faults     ring             ring  yes     anyone
 *  WRITING  faults     ring             ring  yes     anyone; reclaim is reading
 *                                                     or writing the bytes
 *  DOOMED   faults     nowhere: zero    ring  yes     reclaim, or a fault
 *  DROPPING faults     nowhere/slot     own.  no      who entered it
 *  SWAPPED  faults     slot             yes   yes     anyone
 *  READING  faults     slot             yes   no      who entered it
 *  FILLING  may fault  moving, or being own.  no      who entered it
 *                      copied out
 *  POISONED SIGBUS     lost             no    yes     discard
 *  STORED   faults     store            no    yes     anyone
 *  SHARED   reads it,  store; or the    no    yes     anyone, or who finds out
 *           a write    guest, once it                 that the guest wrote
 *           copies it  wrote
 *
 * "ring": the slot, if there is one, is noted in the ring's entry; internal.h says who may
 * take it from there. "own.": it is known to the owner of the transient state.
 *
 * A transient state has one owner. A stable state is entered only after the
 * owner's system call has returned: else a page could be taken for resident
 * while a guest still waits, or a write be lost between "marked" and "unmapped".
 */
#ifndef OVC_PAGE_H
#define OVC_PAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum ovc_state {
	OVC_EMPTY,
	OVC_RESIDENT,
	OVC_CLEAN,
	OVC_STAGING,
	OVC_STAGED,
	OVC_WRITING,
	OVC_DOOMED,
	OVC_DROPPING,
	OVC_SWAPPED,
	OVC_READING,
	OVC_FILLING,
	OVC_POISONED,
	OVC_STORED,
	OVC_SHARED,
	OVC_NR_STATES,
};

enum ovc_page_event {
	/* from faults, prefetch, pin */
	OVC_EV_FAULT,	     /* somebody needs the page in the guest */
	OVC_EV_READ_OK,	     /* the slot's bytes are in a buffer: fill now */
	OVC_EV_READ_HELD,    /* they are in the ring: hold the page back */
	OVC_EV_READ_CANCEL,  /* no memory to fill it, or not needed */
	OVC_EV_FILLED,	     /* the guest has it, its slot is given up */
	OVC_EV_FILLED_CLEAN, /* the guest has it, write-protected */
	OVC_EV_UNFILLED,     /* the kernel refused; it is as EMPTY as before */
	OVC_EV_UNPUT,	     /* the kernel refused; it is STAGED as before */
	OVC_EV_UNHOLD,	     /* it was held back, and is to be so no longer */
	OVC_EV_LOST,	     /* poisoned now */
	/* from reclaim */
	OVC_EV_STAGE,	   /* about to be taken from the guest */
	OVC_EV_TAKEN,	   /* taken */
	OVC_EV_KEPT,	   /* the kernel refused: the guest still has it */
	OVC_EV_KEPT_CLEAN, /* the same, and its slot is still good */
	OVC_EV_VANISHED,   /* there was no page: the VMM had dropped it */
	OVC_EV_CLAIM,	   /* reclaim begins to read its bytes */
	OVC_EV_SETTLE,	   /* its bytes are safe or zero: free the frame */
	OVC_EV_UNWRITTEN,  /* the write, or the drop, failed: back it goes */
	OVC_EV_TO_SWAP,	   /* dropped; the slot has the bytes */
	OVC_EV_TO_EMPTY,   /* dropped; it reads as zero */
	/* from calls */
	OVC_EV_DISCARD, /* the guest gave it away */
	OVC_EV_DOOM,	/* it is; reclaim has its frame, and its slot is free */
	OVC_EV_DIRTY,	/* it will be written unseen (DMA): no slot from now */
	OVC_EV_LOOK,	/* its bytes are to be copied out, where they are */
	OVC_EV_ADOPT,	/* tracking begins and the guest has it already */
	/* from sharing */
	OVC_EV_TO_STORE, /* the store has the bytes, the guest nothing */
	OVC_EV_MAPPED,	 /* the guest has the store's page mapped */
	OVC_EV_BROKE,	 /* it was found to have a private copy instead */
	OVC_NR_EVENTS,
};

/* What the caller of ovc_page_next() must do once the new word is in place. */
enum ovc_action {
	OVC_ACT_BUG,	 /* an empty cell */
	OVC_ACT_NONE,	 /* nothing more */
	OVC_ACT_WAIT,	 /* word unchanged but for `wanted`: the owner wakes */
	OVC_ACT_CHECK,	 /* it should be there: make sure and wake */
	OVC_ACT_ZERO,	 /* fill with zeros */
	OVC_ACT_ERASE,	 /* zero the staged bytes, then put them back */
	OVC_ACT_PUT,	 /* put the staged bytes back */
	OVC_ACT_READ,	 /* read the slot */
	OVC_ACT_FILL,	 /* fill with the bytes just read */
	OVC_ACT_POISON,	 /* make the touch a SIGBUS */
	OVC_ACT_TAKE,	 /* take it from the guest */
	OVC_ACT_DROP,	 /* free its frame */
	OVC_ACT_FREE,	 /* free its slot */
	OVC_ACT_COPY,	 /* copy the bytes out, then end where it was */
	OVC_ACT_UNSHARE, /* fill with the bytes that the store has */
	OVC_ACT_MAP,	 /* map the store's page again */
	OVC_ACT_RACED,	 /* of ovc_page_try(): somebody was faster */
};

struct ovc_edge {
	uint8_t next;
	uint8_t action;
};

extern const struct ovc_edge ovc_edge[OVC_NR_STATES][OVC_NR_EVENTS];

#define OVC_W_WANTED	  ((uint64_t)1 << 4)
#define OVC_W_MARK	  ((uint64_t)1 << 5)
#define OVC_W_PIN_SHIFT	  6
#define OVC_W_PIN_MASK	  ((uint64_t)0x3ff << OVC_W_PIN_SHIFT)
#define OVC_W_PIN_ONE	  ((uint64_t)1 << OVC_W_PIN_SHIFT)
#define OVC_W_PIN_MAX	  1000
#define OVC_W_HEAT_SHIFT  16
#define OVC_W_HEAT_MASK	  ((uint64_t)0x3fff << OVC_W_HEAT_SHIFT)
#define OVC_W_VALUE_SHIFT 30
#define OVC_W_VALUE_MASK  (~(uint64_t)0 << OVC_W_VALUE_SHIFT)

typedef _Atomic uint64_t ovc_word;

static inline enum ovc_state ovc_word_state(uint64_t w)
{
	return (enum ovc_state)(w & 15);
}

static inline unsigned ovc_word_pins(uint64_t w)
{
	return (unsigned)((w & OVC_W_PIN_MASK) >> OVC_W_PIN_SHIFT);
}

static inline uint32_t ovc_word_heat(uint64_t w)
{
	return (uint32_t)((w & OVC_W_HEAT_MASK) >> OVC_W_HEAT_SHIFT);
}

static inline uint64_t ovc_word_value(uint64_t w)
{
	return w >> OVC_W_VALUE_SHIFT;
}

static inline uint64_t ovc_word_with_heat(uint64_t w, uint32_t heat)
{
	return (w & ~OVC_W_HEAT_MASK) | (uint64_t)heat << OVC_W_HEAT_SHIFT;
}

static inline uint64_t ovc_word_with_value(uint64_t w, uint64_t value)
{
	return (w & ~OVC_W_VALUE_MASK) | value << OVC_W_VALUE_SHIFT;
}

/* The state is one that its owner leaves by itself, soon. */
static inline bool ovc_word_transient(uint64_t w)
{
	enum ovc_state s = ovc_word_state(w);

	return s == OVC_STAGING || s == OVC_DROPPING || s == OVC_READING ||
	       s == OVC_FILLING;
}

/*
 * The word after `event`, with the new `value`; *action is what to do. Clears
 * `wanted` unless it stays transient, and `mark` unless it is kept by
 * OVC_EV_READ_HELD. Aborts, printing the word, on an empty cell.
 */
uint64_t ovc_page_next(uint64_t word, enum ovc_page_event event, uint64_t value,
		       enum ovc_action *action);

/*
 * Moves *w from `*old` by `event`. Returns the action where the word was still
 * *old; otherwise OVC_ACT_RACED, with *old set to what it is now (look again).
 */
enum ovc_action ovc_page_try(ovc_word *w, uint64_t *old,
			     enum ovc_page_event event, uint64_t value);

/* Sets the heat, whatever else happens to the word meanwhile. */
void ovc_page_set_heat(ovc_word *w, uint32_t heat);

/*
 * The same for the owner of a transient state, whom only flags and pins can
 * overtake: repeats until done. Returns the word that it replaced, whose
 * `wanted` says if someone must be woken.
 */
uint64_t ovc_page_end(ovc_word *w, enum ovc_page_event event, uint64_t value,
		      enum ovc_action *action);

const char *ovc_state_name(enum ovc_state s);
const char *ovc_event_name(enum ovc_page_event e);

/* Prints what is broken and aborts: for invariants of the library's own. */
_Noreturn void ovc_bug(const char *what, uint64_t word);

#endif
