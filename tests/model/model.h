/* SPDX-License-Identifier: MIT */
/*
 * An explicit-state model of what happens to one page.
 *
 * The page word and its table are the library's own (lib/memory/page.c). Around them
 * is modelled, in steps between which anybody else may act:
 *
 *   kernel.c    the guest's page table, the page cache, userfaultfd, and
 *               two slots of a swap file: what each system call does
 *   store.c     a page of the sharing store, which other VMs refer to, too, and
 *               what maps it where the guest has its page
 *   ring.c      the positions of the staging ring, and the place of a page that is
 *               held back: another VM, with a swap file of its own, has a page that
 *               uses them in turn
 *   actors.c    whose turn it is; touch.c (lib/in/pager.c), reclaim.c, share.c
 *               (lib/share/merge.c, lib/share/lay.c), calls.c (lib/in/range.c): which steps
 *               threads take, as lib/ does it
 *   search.c    all interleavings of these, breadth first; what must hold in
 *               each; and the story of how one came to pass where it does not
 *
 * Contents of the page are versions 0, 1, 2, 0 ...: each write of the guest
 * makes the next one, each read must see the last. Version 0 is all zero.
 *
 * Not modelled: the budget being short (starved faults), neighbours that share a
 * system call, how equal pages are found.
 */
#ifndef OVC_TESTS_MODEL_H
#define OVC_TESTS_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/page.h"

#define NR_GUESTS 2
#define NR_POS	  2	 /* of the staging ring */
#define HOLD	  NR_POS /* the place of the page that is held back */
#define NR_SLOTS  2	 /* of the swap file */
#define GARBAGE	  3	 /* a slot's content before it was written */
#define NONE	  7	 /* no slot, no position */
#define STORE	  6	 /* of where a page settles: the sharing store */
#define STORE_NR  1	 /* the number of its one page */

enum { FAULT_0, FAULT_1, RECLAIM, DISCARDER, READER, PINNER, NR_THREADS };

/* What a guest does. */
enum { RUNS, QUEUED, HANDED, WOKEN };

struct guest {
	uint8_t is : 2;	   /* QUEUED: its message waits; HANDED: it was read */
	uint8_t write : 1; /* what it wants, unless it RUNS */
	uint8_t unused : 5;
};

/* Where a thread is in its work: which step comes next. See actors.c. */
struct thread {
	uint8_t pc, ret; /* ret: where a touch returns to */
	uint8_t next;	 /* where freeing a slot returns to */
	uint8_t slot : 3, pos : 3, write : 1, clean : 1;
	uint8_t to : 3;		   /* slot to settle to */
	uint8_t was : 4;	   /* state before it was borrowed */
	uint8_t wake : 1;	   /* owes a wake */
	uint8_t v : 2;		   /* bytes in a buffer */
	uint8_t raw : 1, good : 1; /* classify: must be written; settled */
	uint8_t error : 2;	   /* of the kernel */
	uint8_t doomed : 1;
	uint8_t lay : 1;   /* the store's page was mapped */
	uint8_t ahead : 1; /* reads what nobody touched yet */
	uint8_t unused : 7;
};

struct entry {
	uint8_t used : 1, frame : 1, settled : 1;
	uint8_t neighbour : 1; /* it is that VM's */
	uint8_t unused : 2;
	uint8_t v : 2;
	uint8_t slot : 3, wslot : 3;
	uint8_t busy : 2; /* 1: write queued, 2: the disk has the bytes */
};

struct slot {
	uint8_t taken : 1, v : 2, sum : 2, unused : 3;
};

struct state {
	uint64_t word;
	struct thread t[NR_THREADS];
	struct guest guest[NR_GUESTS];
	struct entry entry[NR_POS + 1]; /* the last: HOLD */
	struct slot slot[NR_SLOTS];
	uint8_t present : 1, wp : 1, marker : 1, poison : 1, v : 2;
	uint8_t laid : 1;	  /* the store is mapped here, ... */
	uint8_t unregistered : 1; /* ... or was just now: no faults yet */
	uint8_t stale : 1; /* what is laid is another page of the store */
	uint8_t own : 1; /* OVC_MARK_OWN: what is laid is what the word names */
	uint8_t cached : 1, cache_v : 2, truth : 2;
	uint8_t of_store : 1; /* what is present is the store's page */
	uint8_t locked : 1;   /* a caller has host->control */
	uint8_t unused : 1;
	uint8_t store_v : 2;		 /* GARBAGE: the page is free */
	uint8_t refs : 4;		 /* to it */
	uint8_t other : 1, unused_2 : 1; /* another VM refers to it ... */
	uint8_t other_v : 2;		 /* ... and must find this there */
	uint8_t taken : 1, taken_of_store : 1, taken_v : 2; /* see store.c */
	uint8_t unused_3 : 2;
	uint8_t neighbour : 2, neighbour_at : 3; /* see ring.c */
	uint8_t unused_4 : 3;
	uint8_t used; /* pages charged, but for the store's */
};

/* Ways to break the laws, each of which the search must find. */
enum broken {
	MARK_FIRST = 1 << 0,
	NO_WANTED = 1 << 1,
	STABLE_BEFORE_DROP = 1 << 2,
	CLEAN_UNCONFIRMED = 1 << 3,
	CHECK_UNOWNED = 1 << 4,
	POISON_UNOWNED = 1 << 5,
	FILL_GIVES_UP = 1 << 6,
	PIN_PASSES_LOOK = 1 << 7,
	UNPUT_OVERWRITES = 1 << 8,
	UNDROPPED_KEPT = 1 << 9,
	UNDISCARD_REVIVES = 1 << 10,
	UNREF_FIRST = 1 << 11,
	REF_LATE = 1 << 12,
	STORE_UNCLAIMED = 1 << 13,
	UNMAP_MARKS_FIRST = 1 << 14,
	UNMAP_LOOKS_FIRST = 1 << 15,
	BREAK_UNLOCKED = 1 << 16,
	LAID_CONTINUE = 1 << 17,
	LAID_DONTNEED = 1 << 18,
	ZERO_OVER_MARKER = 1 << 19,
	FOLD_PINNED = 1 << 20,
	FOLD_EMPTY = 1 << 21,
	LOOK_UNASKED = 1 << 22,
	OWN_KEPT = 1 << 23,
	OWN_UNOWNED = 1 << 24,
	BRING_IN_READS = 1 << 25,
	DOOMED_TAKEN = 1 << 26,
	TAKEN_FIRST = 1 << 27,
	UNHOLD_CLAIMS = 1 << 28,
	HOLD_FREED_FIRST = 1 << 29,
	CLEAN_UNSEEN = 1 << 30,
};

struct config {
	bool at_length; /* has millions of states */
	bool memfd;
	bool discard, look, pin; /* calls that are made */
	bool refusals;		 /* the kernel and the disk may refuse */
	bool unmaps;		 /* the kernel may unmap a page of a memfd */
	bool wp_async;
	bool share;    /* merging, with another VM that comes and goes */
	bool renumber; /* a page that is stored anew gets another number */
	bool restage;  /* STORED pages go to swap */
	bool fold;
	bool neighbour; /* a page of another VM uses the same ring */
	bool hold;	/* a page may be held back by read-ahead */
	bool remove;	/* discards are removals of the region */
	unsigned guests, faulters;
	unsigned positions, slots; /* at most NR_POS, NR_SLOTS */
	unsigned versions;	   /* of the page's content, 2 or 3 */
	unsigned broken;
};

extern struct config config;

/* ---- search.c ------------------------------------------------------------ */

/* Adds a sentence to the story, when it is being told. */
__attribute__((format(printf, 1, 2))) void tell(const char *fmt, ...);

/* Something that must never be. */
__attribute__((format(printf, 1, 2))) void violate(const char *fmt, ...);

/* One of n ways to go on; the first is the one without trouble. At most one
 * call a step: the search takes the step again for each of the others. */
unsigned choose(unsigned n);

/* The same where only the first is possible unless trouble was asked for. */
bool refused(void);

/* ---- kernel.c ------------------------------------------------------------ */

void wake_all(struct state *s);
void guest_step(struct state *s, unsigned g);
bool kernel_unmaps(struct state *s);
bool disk_step(struct state *s, unsigned pos);

/* It is the memfd's page that the guest has, or would have. */
bool in_memfd(const struct state *s);

int sys_zero(struct state *s, bool write);
int sys_fill(struct state *s, unsigned v, bool wp);
int sys_put_back(struct state *s, unsigned pos, bool wp);
int sys_take(struct state *s, unsigned pos);
void sys_drop(struct state *s, unsigned pos);
void sys_discard(struct state *s);
void sys_poison(struct state *s);
unsigned sys_view(struct state *s, unsigned pos);
void sys_erase(struct state *s, unsigned pos);

void slot_free(struct state *s, unsigned slot);
unsigned slot_take(struct state *s);
unsigned slot_read(struct state *s, unsigned slot);

/* ---- store.c ------------------------------------------------------------- */

bool others_step(struct state *s);

void store_ref(struct state *s);
void store_unref(struct state *s);
unsigned store_read(const struct state *s);

void sys_lay(struct state *s);
int sys_continue(struct state *s);
int sys_take_away(struct state *s);
void sys_release(struct state *s);
void sys_fold(struct state *s);

/* ---- ring.c -------------------------------------------------------------- */

bool neighbour_step(struct state *s);
void check_neighbour(const struct state *s);

static inline bool is_hold(unsigned pos)
{
	return pos == HOLD;
}

/* ---- actors.c ------------------------------------------------------------ */

/* Takes the next step of a thread. False: it has none now. `idle_too`: it
 * may begin something new. */
bool thread_step(struct state *s, unsigned who, bool idle_too);
bool thread_idle(const struct state *s, unsigned who);

/* Nobody has host->control. */
bool control_free(const struct state *s);

#endif
