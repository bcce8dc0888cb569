/* SPDX-License-Identifier: MIT */
/*
 * The swap of one VM. A page's way: its checksum and slot are noted, the slot is
 * written, the page word names the slot; later it is read, the checksum compared,
 * and the slot freed or kept as the clean copy.
 *
 * Checksums and the table of the dead come in pieces of 32 Ki slots (128 MiB), made
 * when the first slot of a piece is taken, so that a fault never meets a missing
 * one: a slot that it reads was taken before.
 *
 * The first slots of a named file or a device hold the mark that says whose it is
 * (store/mark.h); they are taken from the start, and come on top of the size that was
 * asked for.
 *
 * Failures: a file that cannot be opened, allocated or grown is an error of the
 * call; a piece that cannot be made is a full swap. On destroy nothing may be in
 * flight; what held guests' bytes is wiped, as far as slots were ever taken.
 */
#include "store/swap.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "core/meta.h"
#include "core/page.h"
#include "store/giver.h"
#include "store/mark.h"
#include "store/slots.h"
#include "sys/hash.h"
#include "sys/pages.h"

#define PIECE_SHIFT 15
#define PIECE_SLOTS ((uint64_t)1 << PIECE_SHIFT)
#define GIVE_BACK   256	 /* slots: 1 MiB */
#define LOOK	    4096 /* runs at a time: 4 GiB */
#define WAIT_MS	    20	 /* for slots in hand, before the swap is full */

/* What a run of GIVE_BACK slots has: nothing (never used, or given back), or something
 * that is to be given back when it is found free twice. */
enum { GIVEN, USED, FREED };

/* The sums are an allocation of their own: together with the rest they would be
 * rounded up by a seventh. */
struct piece {
	uint16_t (*sum)[3];
	/* Who else has a slot; made when the first is shared. */
	_Atomic uint8_t *_Atomic extra;
	_Atomic uint64_t dead[PIECE_SLOTS / 64];
	_Atomic uint64_t dead_words[PIECE_SLOTS / 64 / 64];
};

struct ovc_swap {
	struct ovc_file file;
	bool sparse;
	uint64_t nr;   /* slots, those of the mark too */
	uint64_t head; /* of these, the mark's */
	uint64_t used; /* below which slots were ever taken */
	struct ovc_slots slots;
	struct ovc_giver *giver; /* NULL: space is not given back */
	uint64_t giving;	 /* slots that it has */
	uint8_t *runs;		 /* of GIVE_BACK slots: GIVEN, USED, FREED */
	uint64_t look;		 /* the run looked at last */
	void *bitmap;
	_Atomic uint64_t nr_dead;
	struct piece *_Atomic *pieces;
};

static struct piece *piece_of(const struct ovc_swap *swap, uint64_t slot)
{
	return atomic_load_explicit(&swap->pieces[slot >> PIECE_SHIFT],
				    memory_order_acquire);
}

static uint64_t pieces_for(uint64_t nr)
{
	return (nr + PIECE_SLOTS - 1) >> PIECE_SHIFT;
}

/*
 * The table of pieces is as long as it can ever get (a few KiB for what people
 * have), for a fault thread may be reading it while the swap grows.
 */
#define MAX_PIECES (OVC_SWAP_MAX_SLOTS >> PIECE_SHIFT)

static uint64_t runs_for(uint64_t nr)
{
	return (nr + GIVE_BACK - 1) / GIVE_BACK;
}

static int set_slots(struct ovc_swap *swap, uint64_t nr)
{
	void *mem = ovc_meta_zalloc(ovc_slots_bytes(nr));
	uint8_t *runs = ovc_meta_zalloc(runs_for(nr));
	void *old = swap->bitmap;
	uint64_t first;

	if (!mem || !runs) {
		ovc_meta_free(mem);
		ovc_meta_free(runs);
		return -ENOMEM;
	}
	if (old)
		memcpy(runs, swap->runs, runs_for(swap->nr));
	ovc_meta_free(swap->runs);
	swap->runs = runs;
	if (old) {
		ovc_slots_grow(&swap->slots, mem, nr);
	} else {
		ovc_slots_init(&swap->slots, mem, nr);
		ovc_slots_alloc(&swap->slots, (uint32_t)swap->head, &first);
	}
	swap->bitmap = mem;
	swap->nr = nr;
	ovc_meta_free(old);
	return 0;
}

/* Slots for `size` bytes of pages: of a device, as far as it goes. */
static uint64_t slots_for(const struct ovc_swap *swap, uint64_t size)
{
	uint64_t nr = swap->head + (size >> 12), most;

	if (swap->file.kind != OVC_FILE_DEVICE)
		return nr;
	most = (swap->file.size >> 12) - ovc_mark_tail(&swap->file);
	return nr < most ? nr : most;
}

int ovc_swap_extend(struct ovc_swap *swap, uint64_t size, struct ovc_why *why)
{
	uint64_t nr = slots_for(swap, size);
	uint64_t from = swap->nr ? swap->nr : swap->head;
	int error;

	*why->text = '\0';
	if (nr <= swap->nr || !size)
		return 0;
	if (nr > OVC_SWAP_MAX_SLOTS)
		return ovc_because(why, -EFBIG,
				   "a swap has at most 64 TiB; choose a "
				   "smaller swap_size");
	if (swap->file.kind == OVC_FILE_DEVICE)
		error = ovc_mark_set(&swap->file, nr << 12, why);
	else
		error = ovc_file_resize(&swap->file, from << 12, nr << 12,
					!swap->sparse, why);
	return error;
}

int ovc_swap_grow(struct ovc_swap *swap, uint64_t size)
{
	uint64_t nr = slots_for(swap, size), was = swap->nr;
	struct ovc_why why;
	int error;

	if (nr <= was || !size)
		return 0;
	error = set_slots(swap, nr);
	if (error)
		ovc_file_resize(&swap->file, nr << 12, was << 12, false, &why);
	return error;
}

/* What was opened is made ours: nothing of it is touched before that. */
static int claim(struct ovc_swap *swap, const struct ovc_swap_options *o,
		 struct ovc_why *why)
{
	int error = ovc_mark_claim(&swap->file, o->path, why);

	if (!error)
		error = ovc_file_prepare(&swap->file, o->may_direct, why);
	if (!error)
		error = ovc_mark_set(&swap->file,
				     ovc_mark_head(&swap->file) << 12, why);
	if (!error)
		swap->head = ovc_mark_head(&swap->file);
	return error;
}

static int build(struct ovc_swap *swap, const struct ovc_swap_options *o,
		 struct ovc_why *why)
{
	int error = ovc_file_open(&swap->file, o->path, o->may_tmpfile, why);
	void *table;

	if (error)
		return error;
	error = claim(swap, o, why);
	if (error) {
		ovc_file_unmake(&swap->file, o->path);
		ovc_file_close(&swap->file); /* it may be another's */
		return error;
	}
	error = ovc_pages_reserve(MAX_PIECES * sizeof(*swap->pieces), &table);
	if (!error) {
		swap->pieces = table;
		error = ovc_swap_extend(swap, o->size, why);
	}
	if (!error)
		error = ovc_swap_grow(swap, o->size);
	if (!error && (o->sparse || swap->file.kind == OVC_FILE_DEVICE))
		error = ovc_giver_create(&swap->file, &swap->giver);
	if (error)
		ovc_file_unmake(&swap->file, o->path);
	return error;
}

int ovc_swap_create(const struct ovc_swap_options *o, struct ovc_swap **swapp,
		    struct ovc_why *why)
{
	struct ovc_swap *swap = ovc_meta_zalloc(sizeof(*swap));
	int error;

	*why->text = '\0';
	if (!swap)
		return -ENOMEM;
	swap->file.fd = -1;
	swap->sparse = o->sparse;
	error = build(swap, o, why);
	if (error)
		ovc_swap_destroy(&swap);
	else
		*swapp = swap;
	return error;
}

int ovc_swap_destroy(struct ovc_swap **swapp)
{
	struct ovc_swap *swap = *swapp;
	int error = 0;

	if (!swap)
		return 0;
	ovc_giver_destroy(&swap->giver);
	for (uint64_t i = 0; swap->pieces && i < pieces_for(swap->nr); i++) {
		struct piece *p = atomic_load(&swap->pieces[i]);

		if (p) {
			ovc_meta_free(p->sum);
			ovc_meta_free(
				(void *)(uintptr_t)atomic_load(&p->extra));
		}
		ovc_meta_free(p);
	}
	if (swap->pieces)
		ovc_pages_release(swap->pieces,
				  MAX_PIECES * sizeof(*swap->pieces));
	ovc_meta_free(swap->bitmap);
	ovc_meta_free(swap->runs);
	/* Also of a file without a name, which a child that was forked may have. */
	if (swap->file.fd >= 0)
		error = ovc_mark_wipe(&swap->file, swap->used << 12);
	ovc_file_close(&swap->file);
	ovc_meta_free(swap);
	*swapp = NULL;
	return error;
}

static bool make_piece(struct ovc_swap *swap, uint64_t slot)
{
	struct piece *p = piece_of(swap, slot);

	if (p)
		return true;
	p = ovc_meta_zalloc(sizeof(*p));
	if (p)
		p->sum = ovc_meta_zalloc(PIECE_SLOTS * sizeof(*p->sum));
	if (!p || !p->sum) {
		ovc_meta_free(p);
		return false;
	}
	atomic_store_explicit(&swap->pieces[slot >> PIECE_SHIFT], p,
			      memory_order_release);
	return true;
}

/* Slots whose space was given back may be taken again. */
static void collect(struct ovc_swap *swap)
{
	uint64_t first, nr;

	while (swap->giving && ovc_giver_collect(swap->giver, &first, &nr)) {
		ovc_slots_free(&swap->slots, first, nr);
		swap->giving -= nr;
	}
}

/* So may, in need, those that only wait for it. */
static void recall(struct ovc_swap *swap)
{
	uint64_t first, nr;

	while (swap->giving && ovc_giver_recall(swap->giver, &first, &nr)) {
		ovc_slots_free(&swap->slots, first, nr);
		swap->giving -= nr;
	}
}

static void note_use(struct ovc_swap *swap, uint64_t first, uint64_t nr)
{
	if (first + nr > swap->used)
		swap->used = first + nr;
	for (uint64_t run = first / GIVE_BACK;
	     run <= (first + nr - 1) / GIVE_BACK; run++)
		swap->runs[run] = USED;
}

uint64_t ovc_swap_take(struct ovc_swap *swap, uint32_t want, uint64_t *first)
{
	uint64_t got;

	collect(swap);
	got = ovc_slots_alloc(&swap->slots, want, first);
	if (atomic_load(&swap->nr_dead) && (got < want || swap->nr_dead > 64)) {
		/* The dead make room: look again, if there was too little. */
		if (got && got < want) {
			ovc_slots_free(&swap->slots, *first, got);
			got = 0;
		}
		ovc_swap_sweep(swap);
		if (!got)
			got = ovc_slots_alloc(&swap->slots, want, first);
	}
	if (!got && swap->giving) {
		recall(swap);
		ovc_giver_wait(swap->giver, WAIT_MS);
		collect(swap);
		got = ovc_slots_alloc(&swap->slots, want, first);
	}
	if (got && (!make_piece(swap, *first) ||
		    !make_piece(swap, *first + got - 1))) {
		ovc_slots_free(&swap->slots, *first, got);
		got = 0;
	}
	if (got)
		note_use(swap, *first, got);
	return got;
}

bool ovc_swap_ref(struct ovc_swap *swap, uint64_t slot)
{
	struct piece *p = piece_of(swap, slot);
	_Atomic uint8_t *extra = atomic_load(&p->extra);
	uint64_t i = slot & (PIECE_SLOTS - 1);
	uint8_t n;

	if (!extra) {
		extra = ovc_meta_zalloc(PIECE_SLOTS * sizeof(*extra));
		if (!extra)
			return false;
		atomic_store(&p->extra, extra);
	}
	n = atomic_load(&extra[i]);
	do {
		if (n == UINT8_MAX)
			return false;
	} while (!atomic_compare_exchange_weak(&extra[i], &n, n + 1));
	return true;
}

/* One of several who have it? Then one less. */
static bool unshare(struct piece *p, uint64_t i)
{
	_Atomic uint8_t *extra = atomic_load(&p->extra);
	uint8_t n = extra ? atomic_load(&extra[i]) : 0;

	while (n)
		if (atomic_compare_exchange_weak(&extra[i], &n, n - 1))
			return true;
	return false;
}

void ovc_swap_free(struct ovc_swap *swap, uint64_t slot)
{
	struct piece *p = piece_of(swap, slot);
	uint64_t i = slot & (PIECE_SLOTS - 1);
	uint64_t bit = (uint64_t)1 << (i & 63);

	if (unshare(p, i))
		return;
	if (atomic_fetch_or(&p->dead[i / 64], bit) & bit)
		ovc_bug("a slot was freed twice", slot << OVC_W_VALUE_SHIFT);
	atomic_fetch_or(&p->dead_words[i / 4096], (uint64_t)1 << (i / 64 & 63));
	atomic_fetch_add(&swap->nr_dead, 1);
}

static void sweep_word(struct ovc_swap *swap, struct piece *p, uint64_t first,
		       uint64_t word)
{
	uint64_t dead = atomic_exchange(&p->dead[word], 0);
	uint64_t slot = first + word * 64;

	atomic_fetch_sub(&swap->nr_dead, (uint64_t)__builtin_popcountll(dead));
	for (; dead; dead &= dead - 1)
		ovc_slots_free(&swap->slots,
			       slot + (uint64_t)__builtin_ctzll(dead), 1);
}

void ovc_swap_sweep(struct ovc_swap *swap)
{
	for (uint64_t i = 0; i < pieces_for(swap->nr); i++) {
		struct piece *p = piece_of(swap, i << PIECE_SHIFT);

		for (uint64_t k = 0; p && k < PIECE_SLOTS / 64 / 64; k++) {
			uint64_t words = 0;

			if (atomic_load(&p->dead_words[k]))
				words = atomic_exchange(&p->dead_words[k], 0);
			for (; words; words &= words - 1)
				sweep_word(swap, p, i << PIECE_SHIFT,
					   k * 64 + (uint64_t)__builtin_ctzll(
							    words));
		}
	}
}

/* Is so much free that a run can be out of reach for as long as a disk takes? */
static bool can_spare(const struct ovc_swap *swap)
{
	uint64_t left = swap->nr - ovc_slots_used(&swap->slots);

	return left > 2 * GIVE_BACK && left > swap->nr / 16;
}

/* What was free at the last look, too, is not about to be used. */
static void look_at_run(struct ovc_swap *swap, uint64_t run)
{
	uint64_t first = run * GIVE_BACK, nr = swap->nr - first;

	if (nr > GIVE_BACK)
		nr = GIVE_BACK;
	if (!ovc_slots_free_piece(&swap->slots, first, GIVE_BACK, &first))
		swap->runs[run] = USED;
	else if (swap->runs[run] == USED)
		swap->runs[run] = FREED;
	else if (can_spare(swap) && ovc_giver_offer(swap->giver, first, nr)) {
		ovc_slots_take(&swap->slots, first, nr);
		swap->giving += nr;
		swap->runs[run] = GIVEN;
	}
}

void ovc_swap_tidy(struct ovc_swap *swap)
{
	uint64_t nr = runs_for(swap->nr);

	if (!swap->giver)
		return;
	collect(swap);
	if (atomic_load(&swap->nr_dead))
		ovc_swap_sweep(swap);
	for (uint64_t i = 0; i < nr && i < LOOK; i++) {
		swap->look = swap->look + 1 < nr ? swap->look + 1 : 0;
		if (swap->runs[swap->look] != GIVEN)
			look_at_run(swap, swap->look);
	}
}

uint64_t ovc_swap_checksum(const void *page)
{
	return ovc_hash_sum(page, 4096) & (((uint64_t)1 << 48) - 1);
}

void ovc_swap_set_sum(struct ovc_swap *swap, uint64_t slot, uint64_t sum)
{
	uint16_t *to = piece_of(swap, slot)->sum[slot & (PIECE_SLOTS - 1)];

	to[0] = (uint16_t)sum;
	to[1] = (uint16_t)(sum >> 16);
	to[2] = (uint16_t)(sum >> 32);
}

uint64_t ovc_swap_sum(const struct ovc_swap *swap, uint64_t slot)
{
	const uint16_t *of =
		piece_of(swap, slot)->sum[slot & (PIECE_SLOTS - 1)];

	return of[0] | (uint64_t)of[1] << 16 | (uint64_t)of[2] << 32;
}

const struct ovc_file *ovc_swap_file(const struct ovc_swap *swap)
{
	return &swap->file;
}

uint64_t ovc_swap_size(const struct ovc_swap *swap)
{
	return swap->nr ? (swap->nr - swap->head) << 12 : 0;
}

uint64_t ovc_swap_used(struct ovc_swap *swap)
{
	uint64_t taken = ovc_slots_used(&swap->slots);

	if (!taken)
		return 0;
	return taken - swap->head - swap->giving - atomic_load(&swap->nr_dead);
}

uint64_t ovc_swap_memory(struct ovc_swap *swap)
{
	return ovc_file_memory(&swap->file, ovc_swap_used(swap) << 12);
}

const char *ovc_swap_error(struct ovc_swap *swap, int error)
{
	bool device = swap->file.kind == OVC_FILE_DEVICE;

	switch (error) {
	case ENOSPC:
		if (ovc_swap_used(swap) << 12 >= ovc_swap_size(swap))
			return "all of the swap is in use";
		return device ? "the device has no space left" :
				"the disk is full";
	case EDQUOT:
		return "a quota of the file system is used up";
	case EFBIG:
		return "the process may not write files so large "
		       "(RLIMIT_FSIZE)";
	case EIO:
		return device ? "the device failed" : strerror(error);
	default:
		return strerror(error);
	}
}
