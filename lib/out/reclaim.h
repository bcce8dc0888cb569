/* SPDX-License-Identifier: MIT */
/*
 * What the files of the way out share: reclaim.c (how much, when), stage.c, settle.c,
 * staging.c, push.c. All of it under host->control.
 */
#ifndef OVC_RECLAIM_H
#define OVC_RECLAIM_H

#include "balancer/monitor.h"
#include "core/internal.h"
#include "out/staging.h"
#include "trouble/blame.h"

#define OVC_DEPTH	32   /* writes in flight: see disk.c */
#define OVC_CLUSTER	256  /* pages a write */
#define OVC_STAGE_STEP	2048 /* pages staged in one step */
#define OVC_SETTLE_STEP 2048 /* pages settled in one step */
#define OVC_SOUND	64   /* pages asked about at once */
#define OVC_RETRY_NS	1000000000ull

struct ovc_dedupe; /* dedupe.c */
struct ovc_job;	   /* job.h */

struct ovc_write {
	bool check;	/* a read of dedupe.c's, not a write */
	uint64_t since; /* when it was begun; 0: idle */
	struct ovc_vm *vm;
	unsigned nr;
	uint64_t pos[OVC_CLUSTER];
	struct iovec iov[OVC_CLUSTER];
};

/* Where a page lives once its frame is freed. */
enum ovc_home_kind { OVC_HOME_NOWHERE, OVC_HOME_SLOT, OVC_HOME_STORE };

struct ovc_home {
	enum ovc_home_kind kind;
	uint64_t at; /* the slot, or the store's page */
	bool map;    /* STORE: the guest still wants it: map it where a mapping
			can be had */
};

/* A page whose frame is to be freed; it is DROPPING. */
struct ovc_drop {
	struct ovc_entry *e;
	uint64_t pos;
	struct ovc_home home;
};

struct ovc_reclaim {
	struct ovc_host *host;
	struct ovc_ring *ring;
	bool threaded;
	pthread_t thread;

	struct ovc_write ios[OVC_DEPTH];
	uint8_t idle[OVC_DEPTH];
	unsigned nr_idle;
	uint64_t writing; /* pages in flight */
	uint64_t silent;  /* those of them that a disk does not answer */

	/* raw pages of one VM that wait to be written together */
	struct ovc_vm *batch_vm;
	unsigned batch_nr;
	uint64_t batch[OVC_CLUSTER];
	uint64_t batch_sum[OVC_CLUSTER];

	struct ovc_drop drops[OVC_CLUSTER];
	unsigned nr_drops;

	/* ring positions whose pages are known to be readable: sound.c */
	uint64_t sound_from, sound_nr;

	bool active;
	struct ovc_blame blame;
	unsigned probation_turn;
	struct ovc_job *jobs; /* of callers, oldest first */
	struct ovc_monitor monitor;
	struct ovc_dedupe *dedupe; /* NULL until it is needed */
};

static inline struct ovc_entry *ovc_entry_at(struct ovc_host *host,
					     uint64_t pos)
{
	return &host->staging.entries[pos];
}

/* ---- stage.c -------------------------------------------------------------- */

/* May this VM's pages go anywhere now? */
bool ovc_vm_stageable(const struct ovc_vm *vm, uint64_t now);

/* Stages what it can of a chunk: all, or what the clock says. *moving is set where
 * some were just coming in, or going out. Returns how many were taken. */
unsigned ovc_stage_chunk(struct ovc_region *r, uint64_t first, uint64_t nr,
			 bool all, bool *moving);

/* Stages these pages of a region, rising, at most OVC_CHUNK, those of them that can
 * be. Returns how many. */
unsigned ovc_stage_pages(struct ovc_region *r, const uint64_t *idx,
			 unsigned nr);

/* The hand over one VM, at most a lap or *chunks chunks, until `want` are staged;
 * the same over all VMs; pages that are shared,
 * for which that is the last resort; and the oldest on probation beyond those that may stay.
 * Return how many were taken. */
unsigned ovc_stage_vm(struct ovc_vm *vm, unsigned want, unsigned *chunks);
unsigned ovc_stage_sweep(struct ovc_host *host, unsigned want, uint64_t now);
unsigned ovc_stage_shared(struct ovc_host *host, unsigned want, uint64_t now);
unsigned ovc_stage_probation(struct ovc_reclaim *rc, unsigned want,
			     uint64_t now);

/* ---- settle.c ------------------------------------------------------------- */

/*
 * From WRITING or DOOMED at pos to its new home: at once, or with the next
 * ovc_settle_drops(). False: it was put back meanwhile.
 */
bool ovc_settle_to(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos,
		   struct ovc_home home);

/* A slot as a home; nowhere for OVC_NO_SLOT. */
static inline struct ovc_home ovc_home_slot(uint64_t slot)
{
	return (struct ovc_home){
		.kind = slot == OVC_NO_SLOT ? OVC_HOME_NOWHERE : OVC_HOME_SLOT,
		.at = slot,
	};
}

/* A WRITING page goes back to the guest. */
void ovc_settle_put_back(struct ovc_reclaim *rc, struct ovc_entry *e,
			 uint64_t pos);

/* A WRITING page, of which only the checksum is known, is to be written. */
void ovc_settle_write(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos,
		      uint64_t sum);

/* Writes what was put together. */
void ovc_write_batch(struct ovc_reclaim *rc);

/* Writing nr pages failed: the VM's swap rests for a while, and the VMM is told. */
void ovc_write_failed(struct ovc_vm *vm, int error, const struct ovc_region *r,
		      uint64_t idx, uint64_t nr);

/* Is a page all zero? */
bool ovc_is_zero(const char *page);
void ovc_settle_drops(struct ovc_reclaim *rc);

/* Looks at one entry of the ring; true: it is (or will be) on its way out. */
bool ovc_settle_one(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos);

/* Writes, and drops, what was put together. */
void ovc_settle_flush(struct ovc_reclaim *rc);

/* The oldest `want` pages that wait; those of one VM; or as many as it takes for
 * others of a VM to be staged. */
void ovc_settle(struct ovc_reclaim *rc, uint64_t want);
void ovc_settle_vm(struct ovc_reclaim *rc, const struct ovc_vm *vm,
		   uint64_t want);
void ovc_settle_room(struct ovc_reclaim *rc, const struct ovc_vm *vm);

/* Settles what keeps tails from passing, though it was once, and lets them pass. */
void ovc_settle_tails(struct ovc_reclaim *rc);

/* Finishes writes that are done. Returns how many. */
unsigned ovc_settle_reap(struct ovc_reclaim *rc);

/* ---- sound.c --------------------------------------------------------------- */

/* Can the bytes of a staged page that is ours be read? False: its frame is lost. */
bool ovc_sound(struct ovc_reclaim *rc, const struct ovc_entry *e, uint64_t pos);

/* What was asked may be different by now. */
static inline void ovc_sound_forget(struct ovc_reclaim *rc)
{
	rc->sound_nr = 0;
}

/* ---- dedupe.c --------------------------------------------------------------- */

/* Looks whether a page that is to be written is in the VM's swap already. True: it is
 * busy, and settled or written when that is known. */
bool ovc_dedupe_try(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos,
		    uint64_t sum);

/* Begins to read what was put together. */
void ovc_dedupe_flush(struct ovc_reclaim *rc);

/* A page was written. */
void ovc_dedupe_note(struct ovc_reclaim *rc, const struct ovc_entry *e,
		     uint64_t slot);

/* A read of ours is done. */
void ovc_dedupe_done(struct ovc_reclaim *rc, struct ovc_write *io, int result);

void ovc_dedupe_destroy(struct ovc_dedupe **dp);

#endif
