/* SPDX-License-Identifier: MIT */
/*
 * How pages are taken from a guest and given back. One table of functions for each
 * kind of memory. All return 0 or a negative errno and touch no page words: the
 * caller owns the pages, in a transient state, for the time of the call.
 *
 * [fault] functions are called on the fault path: they allocate nothing and wait
 * for nothing but the kernel's own page table locks.
 */
#ifndef OVC_MEMORY_H
#define OVC_MEMORY_H

#include "core/internal.h"

/* One page on its way out; pos is its ring position. */
struct ovc_taken {
	uint64_t idx;
	uint64_t pos;
	int error;  /* out: why the guest still has it; -ENOENT: nobody has */
	bool clean; /* in: has a slot; out: was not written since it got it */
};

struct ovc_memory {
	const char *name;

	/*
	 * Takes nr pages, idx and pos rising; errors are given page by page.
	 * `clean` comes out false where the page was written. [reclaim]
	 */
	void (*stage)(struct ovc_region *r, struct ovc_taken *taken, size_t nr);

	/* Where a staged page's bytes can be read. [any] */
	char *(*view)(struct ovc_region *r, uint64_t idx, uint64_t pos);

	/* Gives a staged page back, write-protected where wp. [fault] */
	int (*put_back)(struct ovc_region *r, uint64_t idx, uint64_t pos,
			bool wp);

	/* Frees the frames of nr staged pages. For anonymous memory they are
	 * freed with the ring's window instead. [reclaim] */
	int (*drop)(struct ovc_region *r, uint64_t idx, uint64_t nr);

	/* Gives nr absent pages zeros. A page that is there already is left
	 * alone. [fault] */
	int (*zero)(struct ovc_region *r, uint64_t idx, uint64_t nr,
		    bool write);

	/* Takes nr pages from the guest for good. [any] */
	int (*discard)(struct ovc_region *r, uint64_t idx, uint64_t nr);

	/* What a touch of a lost page finds. [fault] */
	int (*poison)(struct ovc_region *r, uint64_t idx);

	/* Fills bits[nr] so that ovc_pages_there() says where there are bytes of
	 * the guest's, its frame being mapped or away. */
	int (*present)(const struct ovc_region *r, uint64_t idx, uint64_t nr,
		       uint8_t *bits);

	/* Copies a page that is the guest's, and in the caller's hands: zeros where
	 * there is none. *written comes out true where it is not known to be as it
	 * was when it was protected. -EIO, -EFAULT: it is lost. */
	int (*read)(struct ovc_region *r, uint64_t idx, void *page,
		    bool *written);

	bool frames_in_window; /* staged frames live in the ring's window */
};

extern const struct ovc_memory ovc_memory_anon;
extern const struct ovc_memory ovc_memory_memfd;
extern const struct ovc_memory ovc_memory_laid;

/* Is the store mapped where the page is? Stable while the page is not in a transient
 * state of somebody else's. */
static inline bool ovc_is_laid(const struct ovc_region *r, uint64_t idx)
{
	return atomic_load_explicit(&r->marks[idx], memory_order_relaxed) &
	       OVC_MARK_LAID;
}

/* Has the mapping there the very page of the store that the page's word names, so that
 * it need only be mapped? */
static inline bool ovc_is_laid_well(const struct ovc_region *r, uint64_t idx)
{
	return atomic_load_explicit(&r->marks[idx], memory_order_relaxed) &
	       OVC_MARK_OWN;
}

/* Does the kernel tell whether a page was written? Where the store is mapped,
 * protection asks, and does not tell. */
static inline bool ovc_tells_written(const struct ovc_region *r, uint64_t idx)
{
	return r->vm->host->uffd_features.wp_async && !ovc_is_laid(r, idx);
}

/* Was the page's address taken away? See lost.c. */
static inline bool ovc_is_unmapped(const struct ovc_region *r, uint64_t idx)
{
	return idx >= atomic_load(&r->unmapped_from) &&
	       idx < atomic_load(&r->unmapped_to) &&
	       ovc_word_state(atomic_load(&r->words[idx])) == OVC_POISONED;
}

/* The userfaultfd that the page's mapping is registered with. */
static inline int ovc_memory_uffd(const struct ovc_region *r, uint64_t idx)
{
	const struct ovc_host *host = r->vm->host;

	return ovc_is_laid(r, idx) ? host->laid_uffd : host->uffd;
}

/* Lets who waits for a page try again, whatever the page was when it began to. */
static inline void ovc_memory_wake(const struct ovc_region *r, uint64_t idx,
				   uint64_t nr)
{
	const struct ovc_host *host = r->vm->host;

	ovc_uffd_wake(host->uffd, ovc_page_addr(r, idx), nr * OVC_PAGE);
	if (atomic_load(&r->promises))
		ovc_uffd_wake(host->laid_uffd, ovc_page_addr(r, idx),
			      nr * OVC_PAGE);
}

static inline const struct ovc_memory *ovc_memory_of(const struct ovc_region *r,
						     uint64_t idx)
{
	return ovc_is_laid(r, idx) ? &ovc_memory_laid : r->memory;
}

/* stage() of pages of either kind. */
void ovc_memory_stage(struct ovc_region *r, struct ovc_taken *t, size_t nr);

/* Pages in a row, all of them laid or none. */
struct ovc_run {
	uint64_t idx, nr;
	int error; /* out */
};

/* discard() of many runs, in any order. [any] */
void ovc_memory_discard(struct ovc_region *r, struct ovc_run *runs, size_t nr);

/*
 * Lays nr pages of the store, from `page` on, over pages that are the caller's and
 * have no frame of their own any more, and maps them. Needs control. On failure
 * nothing has changed. What a guest reads there until the registration is done is
 * right; what it writes is a private copy.
 */
int ovc_laid_lay(struct ovc_region *r, uint64_t idx, uint64_t nr,
		 uint64_t page);

/*
 * What nr pages of private memory are, ordinary or laid: never UNSURE. Where the kernel
 * does not tell, the doubtful page is unprotected to find out, and counts as WRITTEN from
 * then on: a page that is CLEAN must be the caller's, who says what becomes of it. A page of
 * the store that loses its protection is one that was unmapped, whose touch asks.
 */
int ovc_memory_look(const struct ovc_region *r, uint64_t idx, uint64_t nr,
		    uint8_t *bits);

/* Of what ovc_memory_look() said of a laid page: is it a private copy? */
static inline bool ovc_laid_is_private(uint8_t bits)
{
	return ovc_pages_there(bits) && !(bits & OVC_PAGES_FILE);
}

/* `read` of private memory. */
int ovc_private_read(struct ovc_region *r, uint64_t idx, void *page,
		     bool *written);

/* Writes a page of the memfd's. */
int ovc_cached_write(struct ovc_region *r, uint64_t idx, const void *src);

/* Overwrites a staged page; [fault]. An error means that it cannot be put back. */
int ovc_memory_write_staged(struct ovc_region *r, uint64_t idx, uint64_t pos,
			    const void *bytes);

/* Copies the bytes of a staged page. */
int ovc_memory_read_staged(struct ovc_region *r, uint64_t idx, uint64_t pos,
			   void *page);

#define OVC_LAID_WINDOW 512 /* pages that are taken at once */

/*
 * Takes up to nr (OVC_LAID_WINDOW) laid pages, the caller's, away from the guest, into
 * a window, and says in bits what they are, as ovc_memory_look() does, but for good:
 * nobody can write them there. Returns how many, or -errno. Needs control.
 */
int ovc_laid_take(struct ovc_region *r, uint64_t idx, uint64_t nr,
		  uint8_t *bits);
const char *ovc_laid_taken(const struct ovc_host *host, uint64_t k);
void ovc_laid_release(struct ovc_host *host, uint64_t nr);

/* The guest gets a page again that was taken from it; poison, and an event, where the
 * kernel does not let it. */
void ovc_laid_give_back(struct ovc_region *r, uint64_t idx, const char *from);

/*
 * Puts ordinary memory in the place of nr (OVC_LAID_WINDOW) laid pages, the caller's,
 * all of them present; their bytes stay what they are. Needs control. On failure
 * those that are laid still are as they were.
 */
int ovc_laid_fold(struct ovc_region *r, uint64_t idx, uint64_t nr);

/* The same where the bytes do not matter. */
int ovc_laid_clear(struct ovc_region *r, uint64_t idx, uint64_t nr);

/*
 * Gives nr absent pages the bytes at src; [fault]. Both kinds: the kernel copies
 * (UFFDIO_COPY), which for a page or a few is as fast as any other way and keeps
 * unverified bytes out of the page cache. *done is how many pages were filled.
 */
int ovc_memory_fill(struct ovc_region *r, uint64_t idx, const void *src,
		    uint64_t nr, bool wp, uint64_t *done);

/* What private memory does, the store mapped there or not: its staged pages are in the
 * ring's window. */
char *ovc_private_view(struct ovc_region *r, uint64_t idx, uint64_t pos);
int ovc_private_put_back(struct ovc_region *r, uint64_t idx, uint64_t pos,
			 bool wp);
int ovc_private_drop(struct ovc_region *r, uint64_t idx, uint64_t nr);
int ovc_private_stage_bytes(struct ovc_region *r, uint64_t pos,
			    const void *bytes);
int ovc_private_discard(struct ovc_region *r, uint64_t idx, uint64_t nr);

/* Gives a page that is being staged its bytes, from elsewhere than the guest: a frame in
 * the ring's window, or in the memfd. [reclaim] */
int ovc_memory_stage_bytes(struct ovc_region *r, uint64_t idx, uint64_t pos,
			   const void *bytes);

/* Of nr pages said to be clean leaves so those whose bits (OVC_PAGES_*) under mask
 * are `want`. [reclaim] */
void ovc_memory_ask_clean(struct ovc_region *r, struct ovc_taken *t, size_t nr,
			  uint8_t mask, uint8_t want);

/* Lost and no poison: the mapping itself goes. */
int ovc_memory_poison(struct ovc_region *r, uint64_t idx);

/* Takes back what ovc_memory_poison() did, before the page is discarded. */
void ovc_memory_mend(struct ovc_region *r, uint64_t idx);

#endif
