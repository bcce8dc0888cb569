/* SPDX-License-Identifier: MIT */
/*
 * The file to read first: vocabulary, structs, threads, locks, invariants.
 *
 * Vocabulary
 *   page       4 KiB of a region, known by (region, index)
 *   stage      take pages from the guest without freeing them: its next touch
 *              faults, and the library can still read them
 *   ring       the staged pages, oldest first; for anonymous memory the ring's
 *              window holds the frames themselves
 *   settle     decide where a staged page lives from now on (nowhere, or a slot)
 *              and free its frame
 *   put back   give a staged page to the guest again, untouched
 *   fill       give an absent page its bytes
 *   slot       4 KiB of a swap file
 *   store      the host's memfd of pages that guests have in common
 *   domain     VMs that may share pages with each other
 *   merge      make equal pages one page of the store
 *   lay        map pages of the store where a guest has its memory; a page that
 *              lies so may be SHARED, or anything else
 *   fold       put ordinary memory in the place of pages that are laid
 *   frame      a page as its guest counts it; those in its balloon it gave away
 *   hold       keep one page of a read-ahead window back, so that its touch tells
 *              that the guest got there
 *
 * Flow: one way out, reclaim.c (stage.c, settle.c, staging.c); one way in, fault.c and
 * pager.c (fault, page, fill). The page word (page.h) says where the bytes are.
 *
 * Threads
 *   fault/N    drain the userfaultfd, read slots on a ring of their own, fill.
 *              Take no lock, allocate nothing, call no user code, touch no guest
 *              memory.
 *   reclaim    stages, classifies, writes, settles, on a ring of its own; starts
 *              tracking. The only one that takes slots and ring positions. Never
 *              waits for a fault thread.
 *   share      looks for equal pages and merges them, within a budget of CPU time.
 *              Hashes without a lock, merges with control.
 *   event      calls the VMM's event function, which may wait for anything: nobody
 *              waits for it, but who destroys what it was told of.
 *   giver      of each VM whose swap is sparse or a device: gives the space of free
 *              slots back (store/giver.h), in dispatch mode, too.
 *   callers    see overcommit.h. Submit to no ring: what takes writes is a job that
 *              reclaim does (job.h), what takes reads is asked of a fault thread (ask.h)
 *   In dispatch mode the first three are steps that ovc_host_dispatch() takes; its
 *   thread owns the rings.
 *
 * Locks, in this order
 *   host->control   mutex: control calls and each step of reclaim. Protects the
 *                   lists of VMs and regions, swap files, the staging ring, hints, and the
 *                   store but for dropping references.
 *   events->lock    see events.c; behind all others, never held over user code.
 *   A fault thread finds regions in host->map, which control replaces whole; the
 *   old map is freed when every fault thread has been seen outside of a step
 *   (ovc_faulter_steps()).
 *
 * Invariants
 *   used      = pages of guests that are RESIDENT, CLEAN or charged ahead
 *               by who is filling them + frames of the ring that are not released
 *               yet + pages of the store + pages mapped from the store that
 *               guests may write unasked (promised)
 *   A page of the store has as many references as words name it.
 *   used     <= allowed, but for put_back, by at most OVC_LEFTOVER_MAX pages
 *   allowed   = (budget - metadata - buffers) / page
 *   A position of the ring is used again only when no word names it: staging.c.
 *   A slot is owned by the page word that names it, or by the ring entry or the hold
 *   that does. Who exchanges it out owns it, and may do so only while the place
 *   cannot become another page's:
 *     ring entry   the owner of the page's word while it names the position:
 *                  DROPPING, or FILLING from STAGED or DOOMED; the holder of control
 *     hold         the owner of the page's word while it names the hold: DROPPING, or
 *                  FILLING
 *   A page that became DOOMED has no slot, but for one that reclaim has in hand. A hold
 *   is taken by its fault thread, which alone looks there for region and page; it is
 *   freed by who ends the page. Of a region that goes no page is held.
 */
#ifndef OVC_INTERNAL_H
#define OVC_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include "overcommit.h"
#pragma GCC visibility pop
#include "core/page.h"
#include "core/segment.h"
#include "core/stat.h"
#include "policy/clock.h"
#include "policy/stream.h"
#include "store/swap.h"
#include "sys/cgroup.h"
#include "sys/pages.h"
#include "sys/proc.h"
#include "sys/ring.h"
#include "sys/thread.h"
#include "sys/uffd.h"

#define OVC_PAGE	 ((size_t)OVC_PAGE_SIZE)
#define OVC_CHUNK	 64   /* pages that the clock's hand looks at at once */
#define OVC_MAX_VMS	 1000 /* a host */
#define OVC_MAX_REGIONS	 512  /* a VM */
#define OVC_MAX_FAULTERS 64   /* a host */
#define OVC_LEFTOVER_MAX 1024 /* frames left in the ring by put_back */
#define OVC_NO_SLOT	 UINT64_MAX /* of a ring entry */
#define OVC_NOT_DECIDED	 UINT64_MAX /* of an entitlement */

struct ovc_memory;
struct ovc_advice;	    /* memory/advice.c */
struct ovc_disk;	    /* disk.h */
struct ovc_domain;	    /* domain.h */
struct ovc_share;	    /* share.h */
struct ovc_govern;	    /* govern.h */
struct ovc_events;	    /* events.h */
struct ovc_sample;	    /* sample.c */
struct ovc_untaken_records; /* untaken.c */

/* What went in and out, of a VM and summed for the host: pages, relaxed. */
struct ovc_counters {
	_Atomic uint64_t faults, faults_waited, swap_in, swap_out, clean, zero,
		put_back, readahead, read_errors, write_errors, merged, broken,
		changed, share_zero, spared, freed;
};

struct ovc_region {
	struct ovc_vm *vm;
	const struct ovc_memory *memory;
	char *base;
	uint64_t nr;  /* pages */
	uint64_t gpa; /* or OVC_GPA_NONE */
	uint32_t id;  /* for stream detection */
	int memfd;    /* -1: anonymous */
	uint64_t memfd_offset;
	uint64_t device, inode; /* of the memfd */
	char *view;		/* memfd: our own mapping of it */
	ovc_word *words;
	_Atomic uint64_t *touched;  /* a bit for each page of words in use */
	_Atomic uint64_t *marked;   /* the same of marks */
	uint64_t hand, shared_hand; /* of the clock; over shared pages */
	uint64_t asked; /* page that the kernel was asked of, free-running */
	_Atomic bool tracked; /* registered and adopted */
	bool registered;
	_Atomic bool leaving; /* being removed: stage nothing more */
	_Atomic bool gone; /* its memory is the VMM's again; set with control */
	uint64_t entries;  /* of the ring that name it; with control */
	_Atomic uint32_t ios;	       /* that read for it, under way */
	struct ovc_region *next_grave; /* see leave.c; with control */

	/* What the kernel refused, with control: see untaken.c. `refused` is the cause
	 * where that is all of it, else OVC_UNTAKEN_NR. The hand's lap has found pages
	 * that it could try, or that rest; where all rest it comes again later. */
	struct ovc_untaken_records *untaken;
	enum ovc_untaken refused;
	bool lap_open, lap_rests;
	uint64_t rest_until;

	/* for sharing; see share.c */
	uint64_t number;	/* of its first page, unique in the host */
	_Atomic uint8_t *marks; /* OVC_MARK_* of each page; set with control */
	_Atomic uint64_t *_Atomic frames; /* in the balloon: frames.h */
	bool mappable; /* pages of the store may be mapped into it */
	bool direct;   /* devices write it unpinned: nothing of it is shared */
	unsigned map_flags;	     /* OVC_MAP_*, for mappings made anew */
	pthread_mutex_t advice_lock; /* of `advice`: memory/advice.c */
	struct ovc_advice *advice;   /* NULL: map_flags, all of it */
	uint64_t mapped_from; /* the first that ever was; UINT64_MAX: none */
	/* pages among which some were found unmapped by the VMM: lost.c */
	_Atomic uint64_t unmapped_from, unmapped_to;
	uint64_t hole, hole_end; /* found when the region goes; pages */
	_Atomic uint32_t *_Atomic promises; /* of each piece: promise.c */
};

/* A guest's balloon: balloon.c; which frames are in it: frames.h. */
struct ovc_vm_balloon {
	pthread_mutex_t lock; /* of what is not atomic; behind all others */
	bool driver, on_oom;
	uint32_t cap;		/* percent of the VM's memory */
	uint64_t wanted, asked; /* bytes: by the policy, by the VMM */
	int fd;			/* eventfd: the target changed; -1: none yet */
	uint64_t guest[OVC_BALLOON_S_ALL]; /* as its guest says, or unknown */
	_Atomic uint64_t target, reached;  /* bytes */
	_Atomic bool stale; /* there was a deflation since `reached` was said */
	/* pages: now; all in all */
	_Atomic uint64_t held;
	_Atomic uint64_t inflated, deflated, touched, reported, refused;
	_Atomic uint64_t huge; /* of 2 MiB, that were broken */
};

#define OVC_MARK_SEEN	1  /* looked at before */
#define OVC_MARK_HASHED 2  /* its hash is noted, if it was not written since */
#define OVC_MARK_OFF	4  /* not to be shared */
#define OVC_MARK_LAID	8  /* the store is mapped there: memory/laid.c */
#define OVC_MARK_OWN	16 /* and there it is the page that the word names */
#define OVC_MARK_SUM	5  /* shift: some bits of its hash */

/* When something was said last, so that it is not said all the time. */
struct ovc_told {
	uint64_t next, wait; /* ns */
};

struct ovc_vm {
	struct ovc_host *host;
	char name[64];
	unsigned index;	       /* in host->vms, and of its file in the rings */
	struct ovc_swap *swap; /* NULL: none */
	bool sparse;
	uint64_t swap_size;	/* as asked for, bytes; 0: follow the regions */
	_Atomic uint64_t limit; /* pages, 0: none */
	uint64_t id;		/* no other of the host ever has the same */
	_Atomic uint32_t shares;
	_Atomic uint64_t min; /* pages, guaranteed */
	/* By the policy: pages that it should hold, or OVC_NOT_DECIDED; whether it
	 * waits for memory of its own beyond that; pages to come down to by force
	 * (with control), UINT64_MAX for none. See govern.c. */
	_Atomic uint64_t entitled;
	_Atomic bool throttled;
	uint64_t goal, told_swap_in;
	uint64_t writing; /* pages on their way to swap; with control */
	struct ovc_segment *staging; /* its newest; with control */
	unsigned ios;	       /* of reclaim's with its file; with control */
	struct ovc_disk *disk; /* of its swap; NULL: none */
	/* Pages that it may hold where memory is short, since it cannot be written out;
	 * UINT64_MAX: it can. When it last could not; with control. See disk.c. */
	_Atomic uint64_t confined;
	uint64_t held_up;
	unsigned graves;	     /* of its regions; with control */
	struct ovc_vm *next_grave;   /* see leave.c; with control */
	struct ovc_sample *sample;   /* with control */
	struct ovc_region **regions; /* room_regions of them */
	struct ovc_region **by_gpa;  /* the same, rising; OVC_GPA_NONE last */
	unsigned room_regions;
	unsigned nr_regions, hand;
	_Atomic uint64_t configured; /* pages; set with control */
	_Atomic uint64_t resident, staged, swapped, poisoned,
		pinned; /* pages */
	/* pages that the store has, and those of them that are mapped */
	_Atomic uint64_t shared, mapped;
	struct ovc_domain *domain;
	bool share_off, share_zero_off;
	/* Held by a discard from its look at the pins to its end, but not while
	 * it waits for a page; and while pins are added: no page is both pinned
	 * and dropped. Comes before host->control. */
	pthread_mutex_t pinning;
	_Atomic bool starved; /* a fault found no memory */
	/* when the kernel lacked it, and when that was said */
	_Atomic uint64_t short_at, short_told;
	_Atomic bool ending; /* being destroyed: no limit of its own any more */
	struct ovc_vm_balloon balloon;
	struct ovc_counters count;
	struct ovc_hist latency;
	/* swap-out failing: not tried again before this time */
	uint64_t retry_at;
	_Atomic int write_error; /* now; 0: works */
	_Atomic int last_error;	 /* the last there was */
	/* Pages that the kernel did not let go when they were tried last, by cause; how
	 * often it refused; its last errno. */
	_Atomic uint64_t untaken[OVC_UNTAKEN_NR];
	_Atomic uint64_t refusals;
	_Atomic int refused_with;
	struct ovc_told told[OVC_UNTAKEN_NR];
	uint64_t failing_since; /* with control */
	/* in blame.c: until when it was seen to get on, and what was freed then */
	uint64_t quiet_since, seen_freed, stuck_told;
	/* of recent clean pages staged, how many still were: see pager.c */
	_Atomic uint32_t clean_kept, clean_lost;
};

/* A page held back by read-ahead; its ring position is cap + its index. Such a page is
 * STAGED until it is put back, or given up (OVC_EV_UNHOLD); never WRITING or DOOMED. */
struct ovc_hold {
	struct ovc_region *_Atomic region;
	uint64_t idx;
	_Atomic uint64_t slot;
};

/* The regions of a host by address, which fault threads search, and, behind these, by
 * number, for who looks for equal pages. */
struct ovc_map {
	size_t nr, room;
	struct ovc_region *regions[];
};

/*
 * Prefetch requests wait in a small table whose slots are taken by one
 * compare-and-swap.
 */
enum ovc_slot_state { OVC_SLOT_FREE, OVC_SLOT_BUSY, OVC_SLOT_READY };

struct ovc_request {
	_Atomic int state;
	struct ovc_region *_Atomic region;
	uint64_t idx, nr;
};

/* Pages of a region, READING, that a fault thread is to read from contiguous slots, for a
 * caller: in/ask.c. */
struct ovc_asked {
	struct ovc_region *region;
	uint64_t idx, nr, slot;
	bool write; /* the first is wanted for a write */
	char *to;   /* where they are copied; NULL: they are brought in */
};

struct ovc_ask {
	_Atomic int state;
	int error;
	struct ovc_asked what;
	sem_t answered;
};

#define OVC_MAX_ASKS	 64
#define OVC_MAX_REQUESTS 256
#define OVC_HOLDS	 32 /* of each fault thread */

struct ovc_probation; /* probation.h */
struct ovc_faulter;   /* fault.c */
struct ovc_reclaim;   /* reclaim.c */

struct ovc_host {
	const volatile char *here; /* 1; 0 in a child of fork() */
	int process;		   /* that created it */
	uint32_t flags, without;
	_Atomic uint32_t features;
	int uffd;
	int laid_uffd; /* of mappings of the store; -1: there can be none */
	struct ovc_uffd_features uffd_features, laid_features;
	struct ovc_pagemap pagemap;
	struct ovc_proc proc;
	struct ovc_cgroup
		cgroup; /* with control, as the time of the next look: */
	uint64_t cgroup_at;
	bool batch_advise;

	_Atomic uint64_t budget, reserve; /* bytes */
	_Atomic uint64_t may; /* bytes that the memory cgroup leaves */
	_Atomic uint64_t used, allowed, pinned; /* pages */
	_Atomic uint64_t tables;  /* bytes of sparse tables touched */
	uint64_t buffers;	  /* bytes */
	_Atomic uint64_t evicted; /* pages so far: the clock's time */

	/* What a caller that waits does of the threads' work; NULL: nothing. */
	void (*take_steps)(struct ovc_host *host);
	pthread_mutex_t control;
	_Atomic int control_waiting;
	_Atomic bool reclaim_waits; /* for control: share lets it go first */
	struct ovc_vm *vms[OVC_MAX_VMS];
	bool taken[OVC_MAX_VMS]; /* an index: by a VM, or by what is left of one */
	unsigned nr_vms, hand, shared_hand;
	unsigned end; /* behind the last of vms that is in use */
	uint32_t next_region_id, next_name;
	struct ovc_map *_Atomic map;
	_Atomic bool tracked; /* some VM is */

	struct ovc_staging staging;
	struct ovc_disk *disks; /* with control */
	unsigned next_disk;
	_Atomic unsigned nr_disks;
	struct ovc_hold *holds; /* OVC_HOLDS for each faulter */
	char *hold_frames;
	size_t hold_frames_len;
	char *zeros; /* reads as zero, 512 KiB */

	struct ovc_faulter *faulters[OVC_MAX_FAULTERS];
	unsigned nr_faulters;
	/* Of each: odd while in a step, in which it may look at regions; each
	 * step differs. */
	_Atomic uint64_t steps[OVC_MAX_FAULTERS];
	struct ovc_ring *fault_ring[OVC_MAX_FAULTERS], *write_ring;
	struct ovc_probation *probation[OVC_MAX_FAULTERS];
	_Atomic bool solo; /* fault thread 0 serves alone: see fault.c */
	struct ovc_reclaim *reclaim;
	struct ovc_streams streams;

	struct ovc_govern *govern;
	uint64_t next_vm_id;
	_Atomic uint32_t share_factor; /* times share_cpu */

	struct ovc_share *share;
	struct ovc_shared *store; /* made when it is first needed */
	struct ovc_domain *domains;
	uint32_t next_domain;
	uint64_t next_number; /* of a region's first page */
	_Atomic uint32_t share_mode, share_cpu;
	uint64_t mappings_may; /* that sharing may use */
	uint64_t mappings_most; /* or less, while none can be had; with control */
	_Atomic uint64_t mappings; /* that it uses: see fold.c */
	_Atomic uint64_t unmapped; /* pages not mapped for want of these */
	_Atomic bool laid;	   /* pages of the store may be mapped */
	_Atomic uint64_t promised; /* pages of `used`; see promise.c */
	uint64_t recalled_at, watched_at, watched_to; /* likewise */
	char *laid_window; /* see memory/laid.c; with control */

	int fault_wake;	  /* eventfd: prefetch waiting, or stop */
	int reclaim_wake; /* eventfd */
	int share_wake;	  /* eventfd; -1: there is none yet */
	_Atomic bool kicked, stop;
	_Atomic bool ending; /* being destroyed: nothing is reclaimed any more */
	struct ovc_region *graves; /* see leave.c; with control */
	struct ovc_vm *vm_graves;
	_Atomic unsigned burying; /* VMs whose files are being closed */
	_Atomic bool changed;	  /* for the monitor: look again */
	int epoll, timer;	  /* dispatch mode */
	_Atomic bool late;	  /* likewise: reads wait to be started */
	_Atomic bool stepping; /* likewise: somebody takes the faulter's step */
	void *_Atomic window_touched; /* by mlockall(): see staging.c */
	uint64_t reserve_asked;
	uint64_t share_at; /* likewise: when to look for equal pages */

	struct ovc_request requests[OVC_MAX_REQUESTS];
	_Atomic bool have_requests;
	struct ovc_ask asks[OVC_MAX_ASKS];
	_Atomic unsigned asks_ready;

	struct ovc_events *events; /* events.h */
	void (*log)(int level, const char *line, void *opaque);
	void *opaque;

	struct ovc_counters count;
	struct ovc_hist latency;
};

/* Counts for a VM and for the host. [any] */
static inline void ovc_count(struct ovc_vm *vm, size_t field, uint64_t n)
{
	_Atomic uint64_t *one = (void *)((char *)&vm->count + field);
	_Atomic uint64_t *all = (void *)((char *)&vm->host->count + field);

	atomic_fetch_add_explicit(one, n, memory_order_relaxed);
	atomic_fetch_add_explicit(all, n, memory_order_relaxed);
}
#define OVC_COUNT(vm, field, n) \
	ovc_count(vm, offsetof(struct ovc_counters, field), n)

/* ---- error.c: sentences ---------------------------------------------- */

/* Sets ovc_error() and returns `error`. */
__attribute__((format(printf, 2, 3))) int ovc_fail(int error, const char *fmt,
						   ...);
__attribute__((format(printf, 3, 4))) void
ovc_log(struct ovc_host *host, int level, const char *fmt, ...);

/* ---- host.c ---------------------------------------------------------- */

static inline bool ovc_host_dispatched(const struct ovc_host *host)
{
	return host->flags & OVC_HOST_DISPATCH;
}

/* ---- region.c -------------------------------------------------------- */

int ovc_region_create(struct ovc_vm *vm, const struct ovc_region_options *o,
		      struct ovc_region **regionp);
void ovc_region_free(struct ovc_region *region);

static inline char *ovc_page_addr(const struct ovc_region *r, uint64_t idx)
{
	return r->base + idx * OVC_PAGE;
}

static inline uint64_t ovc_page_gpa(const struct ovc_region *r, uint64_t idx)
{
	return r->gpa == OVC_GPA_NONE ? OVC_GPA_NONE : r->gpa + idx * OVC_PAGE;
}

/* ---- fault.c --------------------------------------------------------- */

/* The n-th of nr; bound to a CPU where cpu is one. */
int ovc_faulter_create(struct ovc_host *host, unsigned n, bool thread,
		       unsigned nr, int cpu, struct ovc_faulter **fp);
void ovc_faulter_destroy(struct ovc_faulter **fp);
bool ovc_faulter_step(struct ovc_faulter *f); /* true: did something */
uint64_t ovc_faulter_buffer_pages(const struct ovc_host *host, unsigned nr);

/* ---- reclaim.c, push.c -------------------------------------------------- */

int ovc_reclaim_create(struct ovc_host *host, bool thread,
		       struct ovc_reclaim **rp);
void ovc_reclaim_destroy(struct ovc_reclaim **rp);

/* Does what is to do now. Returns for how many milliseconds there is nothing more
 * unless somebody calls: 0 for at once, -1 for ever. Needs control. */
int ovc_reclaim_step(struct ovc_reclaim *r);

/* Tracks what should be tracked from now on, without waiting for the thread. Needs
 * control. */
void ovc_reclaim_look(struct ovc_reclaim *r);

/* Stages what can be of a range and settles it; returns when done: 0, or the
 * errno of a write that failed. Needs no lock. */
int ovc_reclaim_range(struct ovc_region *region, uint64_t idx, uint64_t nr);

/* Forgets what it can about a region whose pages were brought back. True: that was all
 * there was. Needs control; the owner of reclaim's ring only. */
bool ovc_reclaim_forget(struct ovc_reclaim *r, struct ovc_region *region);

#endif
