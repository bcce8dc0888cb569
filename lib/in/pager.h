/* SPDX-License-Identifier: MIT */
/*
 * The pager does what the page table says: it is between the page words and what
 * moves bytes (memory/, store/). All its functions may be called from any thread
 * that is allowed to look at the region; none takes a lock or allocates.
 */
#ifndef OVC_PAGER_H
#define OVC_PAGER_H

#include "core/internal.h"

enum ovc_touch {
	OVC_TOUCH_DONE,	   /* the guest can go on */
	OVC_TOUCH_WAIT,	   /* another thread is at it, and will wake */
	OVC_TOUCH_READ,	   /* the caller now owns the page, READING: read it */
	OVC_TOUCH_STARVED, /* no memory: reclaim wakes when there is some */
	OVC_TOUCH_LOST,	   /* poisoned */
};

struct ovc_touched {
	bool mark;     /* the page had been held back by read-ahead */
	bool empty;    /* it was filled with zeros */
	bool cold;     /* it should go to probation */
	uint64_t slot; /* OVC_TOUCH_READ: to be read */
};

/* Makes a page that somebody touched present, or says what it takes. `ahead`:
 * nobody touched it yet; only spare memory is used. */
enum ovc_touch ovc_pager_touch(struct ovc_region *r, uint64_t idx, bool write,
			       bool ahead, struct ovc_touched *t);

/* Pages that were READ: nr of them, contiguous in the region and in the swap, and
 * charged. */
struct ovc_arrival {
	struct ovc_region *region;
	uint64_t idx, nr, slot;
	uint64_t demand; /* the page that was touched; nr_pages if none was */
	bool write;	 /* by a write */
	const char *bytes;
};

/* Gives a page up that was READING: it is SWAPPED again, and not charged. */
void ovc_pager_unread(struct ovc_region *r, uint64_t idx, uint64_t slot);

/* Its bytes cannot be had: error says why. */
void ovc_pager_lost(struct ovc_region *r, uint64_t idx, uint64_t slot,
		    int error);

/* Poisons a page that only the swap or the store has, and for which there is no room.
 * False: it is elsewhere. */
bool ovc_pager_give_up(struct ovc_region *r, uint64_t idx);

/* Verifies and fills. Calls cold() for each page that should go to probation. */
void ovc_pager_arrived(const struct ovc_arrival *a,
		       void (*cold)(void *arg, struct ovc_region *r,
				    uint64_t idx),
		       void *arg);

/* Holds a page back instead: copies it to hold number `hold`. False if somebody
 * wants it already (then it is still READING) or its bytes are wrong. */
bool ovc_pager_hold(struct ovc_region *r, uint64_t idx, uint64_t slot,
		    const char *bytes, unsigned hold);

/* Takes a hold away from its page; afterwards it is free, unless somebody is at the page,
 * who then frees it. For the fault thread that has the hold: others may not even look
 * which page that is. */
void ovc_pager_unhold(struct ovc_host *host, unsigned hold);

/* A page that is held back, its word w, is SWAPPED again, unless somebody is faster. */
void ovc_pager_give_back_held(struct ovc_region *r, uint64_t idx, uint64_t w);

/* Discards a page that is STAGED, its word w: its slot is free, it is EMPTY, or DOOMED
 * where reclaim has its frame. False: its word is another one by now. */
bool ovc_pager_discard_staged(struct ovc_region *r, uint64_t idx, uint64_t w);

/* Aborts if a page of the region is held back: of one that goes, none can be. */
void ovc_pager_check_unheld(const struct ovc_host *host,
			    const struct ovc_region *r);

/* A staged page's bytes, by ring position. */
char *ovc_pager_view(struct ovc_region *r, uint64_t idx, uint64_t pos);

/* Finishes a transient state and wakes who came meanwhile. */
void ovc_pager_end(struct ovc_region *r, uint64_t idx,
		   enum ovc_page_event event, uint64_t value);

/* Puts a page back whose state the caller moved to FILLING from STAGED or
 * WRITING at ring position pos; slot is its clean copy or OVC_NO_SLOT. */
int ovc_pager_put_back(struct ovc_region *r, uint64_t idx, uint64_t pos,
		       uint64_t slot, bool write);

/* Brings a page in from a caller's thread, waiting as needed. 0, -EIO. */
int ovc_pager_bring_in(struct ovc_region *r, uint64_t idx, bool write,
		       bool force);

#endif
