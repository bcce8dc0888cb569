/* SPDX-License-Identifier: MIT */
/*
 * The slot allocator of one swap file.
 *
 * A write is cheap when it goes to contiguous slots, so what counts is long
 * runs. The search goes forward from the cursor (next fit: what is written
 * together, later lies together), over pieces of 256 slots that have one free;
 * two levels of bits skip the full ones. It ends at the first run that is as
 * long as wanted.
 *
 * In a file full of scattered live slots there is no such run. Then it ends at
 * a run of the length that it is *content* with: the best that the last search
 * which ended in vain saw within BUDGET steps. After 16 searches with success
 * it asks for more again. So it settles on the longest runs that are common
 * here, for a few steps a search; no search takes over BUDGET steps once it has
 * seen a free slot, and to see one takes nr / 2^20 words at most.
 *
 * Freeing what is not taken means that two pages shared a slot: abort.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "store/slots.h"

#define PIECE	    OVC_SLOTS_PIECE
#define PIECE_WORDS (PIECE / 64)
#define BUDGET	    2048 /* pieces looked at plus runs measured */
#define STREAK	    16

struct search {
	uint32_t want, enough; /* run lengths */
	int budget;
	uint64_t first, len; /* the best run so far */
};

/* Bits from..63. */
static uint64_t from_bit(unsigned from)
{
	return ~0ull << from;
}

static uint64_t nr_pieces(uint64_t nr)
{
	return (nr + PIECE - 1) / PIECE;
}

static uint64_t nr_words(uint64_t nr_bits)
{
	return (nr_bits + 63) / 64;
}

size_t ovc_slots_bytes(uint64_t nr)
{
	uint64_t pieces = nr_pieces(nr), full = nr_words(pieces);

	return 8 * (pieces * PIECE_WORDS + full + nr_words(full) +
		    (pieces + 3) / 4);
}

/* ---- Bits --------------------------------------------------------------- */

static void set_bit(uint64_t *map, uint64_t bit)
{
	map[bit / 64] |= 1ull << bit % 64;
}

static void clear_bit(uint64_t *map, uint64_t bit)
{
	map[bit / 64] &= ~(1ull << bit % 64);
}

/* Sets the bits from nr to the end of the last of so many words. */
static void fill_tail(uint64_t *map, uint64_t nr, uint64_t words)
{
	for (uint64_t w = nr / 64; w < words; w++)
		map[w] |= w == nr / 64 ? from_bit(nr % 64) : ~0ull;
}

/* The first bit in from..end-1 that is `value`; end where there is none. */
static uint64_t find_bit(const uint64_t *map, uint64_t from, uint64_t end,
			 bool value)
{
	uint64_t flip = value ? 0 : ~0ull;
	uint64_t mask = from_bit(from % 64);

	for (uint64_t w = from / 64; w * 64 < end; w++, mask = ~0ull) {
		uint64_t found = (map[w] ^ flip) & mask;

		if (found) {
			uint64_t bit = w * 64 + __builtin_ctzll(found);

			return bit < end ? bit : end;
		}
	}
	return end;
}

/* ---- Pieces ------------------------------------------------------------- */

static void count_piece(struct ovc_slots *s, uint64_t p, unsigned taken)
{
	uint64_t w = p / 64;

	s->taken[p] = taken;
	if (taken == PIECE)
		set_bit(s->full, p);
	else
		clear_bit(s->full, p);
	if (s->full[w] == ~0ull)
		set_bit(s->top, w);
	else
		clear_bit(s->top, w);
}

/* The first piece from p on that has a free slot, or the number of pieces. */
static uint64_t next_open(const struct ovc_slots *s, uint64_t p)
{
	uint64_t pieces = nr_pieces(s->nr), words = nr_words(pieces);
	uint64_t w = nr_words(p), open;

	/* The rest of p's own word, then whole words by way of top. */
	open = find_bit(s->full, p, w * 64 < pieces ? w * 64 : pieces, false);
	if (open < w * 64 || open == pieces)
		return open;
	w = find_bit(s->top, w, words, false);
	return w == words ? pieces : find_bit(s->full, w * 64, pieces, false);
}

/* Sets (takes) or clears a word's bits, which must all be the other way. */
static void flip_bits(struct ovc_slots *s, uint64_t w, uint64_t bits, bool take)
{
	if ((s->map[w] & bits) != (take ? 0 : bits)) {
		fprintf(stderr,
			"libovercommit: slots %" PRIu64 "..: word %016" PRIx64
			", bits %016" PRIx64 " are %s already\n",
			w * 64, s->map[w], bits, take ? "taken" : "free");
		abort();
	}
	s->map[w] ^= bits;
}

static void flip_run(struct ovc_slots *s, uint64_t first, uint64_t nr,
		     bool take)
{
	uint64_t end = first + nr;

	while (first < end) {
		uint64_t p = first / PIECE, w = first / 64;
		unsigned n = 64 - first % 64;

		if (n > end - first)
			n = end - first;
		flip_bits(s, w, ~0ull >> (64 - n) << first % 64, take);
		count_piece(s, p, s->taken[p] + (take ? n : -n));
		first += n;
	}
	s->used += take ? nr : -nr;
}

/* ---- Search ------------------------------------------------------------- */

/*
 * Measures the free runs that begin at `from` or later in its piece; they may
 * end in a later one. True: found one that is long enough.
 */
static bool search_piece(const struct ovc_slots *s, struct search *q,
			 uint64_t from)
{
	uint64_t end = (from / PIECE + 1) * PIECE;

	q->budget--;
	while (from < end) {
		uint64_t first, last, max;

		first = find_bit(s->map, from, end, false);
		if (first == end)
			return false;
		max = s->nr - first < q->want ? s->nr : first + q->want;
		last = find_bit(s->map, first, max, true);
		q->budget--;
		if (last - first > q->len) {
			q->first = first;
			q->len = last - first;
		}
		if (q->len >= q->enough)
			return true;
		from = last + 1;
	}
	return false;
}

/* The pieces from..end-1. True: the search is over. */
static bool search_range(const struct ovc_slots *s, struct search *q,
			 uint64_t from, uint64_t end)
{
	uint64_t p = from;

	while ((p = next_open(s, p)) < end) {
		if (q->len && q->budget <= 0)
			return true;
		/* A run may go on in the next piece, so a piece with fewer
		 * free slots than the best run could begin a longer one; that
		 * is rare and not worth the look. */
		if (PIECE - s->taken[p] <= q->len)
			q->budget--;
		else if (search_piece(s, q, p * PIECE))
			return true;
		p++;
	}
	return false;
}

static void search(const struct ovc_slots *s, struct search *q)
{
	uint64_t pieces = nr_pieces(s->nr), end = pieces;

	if (s->cursor < s->nr) {
		end = s->cursor / PIECE + 1;
		if (search_piece(s, q, s->cursor) ||
		    search_range(s, q, end, pieces))
			return;
	}
	search_range(s, q, 0, end);
}

/* What the next search should be content with. */
static void learn(struct ovc_slots *s, const struct search *q)
{
	if (q->len < q->enough) {
		s->content = q->len;
		s->streak = 0;
	} else if (s->content < q->want && ++s->streak >= STREAK) {
		s->content += 1 + s->content / 8;
		s->streak = 0;
	}
}

uint64_t ovc_slots_alloc(struct ovc_slots *s, uint32_t want, uint64_t *first)
{
	struct search q = { .want = want, .budget = BUDGET };

	if (!want || s->used == s->nr)
		return 0;
	q.enough = want < s->content ? want : s->content;
	search(s, &q);
	learn(s, &q);
	flip_run(s, q.first, q.len, true);
	s->cursor = q.first + q.len;
	*first = q.first;
	return q.len;
}

static void check_run(const struct ovc_slots *s, const char *what,
		      uint64_t first, uint64_t nr)
{
	if (first <= s->nr && nr <= s->nr - first)
		return;
	fprintf(stderr,
		"libovercommit: %s slots %" PRIu64 " + %" PRIu64
		" of a file of %" PRIu64 "\n",
		what, first, nr, s->nr);
	abort();
}

void ovc_slots_take(struct ovc_slots *s, uint64_t first, uint64_t nr)
{
	check_run(s, "took", first, nr);
	flip_run(s, first, nr, true);
}

void ovc_slots_free(struct ovc_slots *s, uint64_t first, uint64_t nr)
{
	check_run(s, "freed", first, nr);
	flip_run(s, first, nr, false);
	/* An empty file has no scattered slots: forget what they taught. */
	if (!s->used)
		s->content = UINT32_MAX;
}

uint64_t ovc_slots_used(const struct ovc_slots *s)
{
	return s->used;
}

bool ovc_slots_free_piece(const struct ovc_slots *s, uint64_t slot,
			  uint64_t piece, uint64_t *first)
{
	uint64_t begin = slot - slot % piece;
	uint64_t end = s->nr - begin < piece ? s->nr : begin + piece;

	*first = begin;
	return find_bit(s->map, begin, end, true) == end;
}

/* ---- Life --------------------------------------------------------------- */

static void lay_out(struct ovc_slots *s, void *mem, uint64_t nr)
{
	uint64_t pieces = nr_pieces(nr), full = nr_words(pieces);

	s->nr = nr;
	s->map = mem;
	s->full = s->map + pieces * PIECE_WORDS;
	s->top = s->full + full;
	s->taken = (uint16_t *)(s->top + nr_words(full));
}

/* Marks what lies beyond the end. */
static void close_end(struct ovc_slots *s)
{
	uint64_t pieces = nr_pieces(s->nr), full = nr_words(pieces);

	if (!pieces)
		return;
	fill_tail(s->map, s->nr, pieces * PIECE_WORDS);
	fill_tail(s->full, pieces, full);
	fill_tail(s->top, full, nr_words(full));
	count_piece(s, pieces - 1,
		    s->taken[pieces - 1] + (unsigned)(pieces * PIECE - s->nr));
}

void ovc_slots_init(struct ovc_slots *s, void *mem, uint64_t nr)
{
	memset(s, 0, sizeof(*s));
	s->content = UINT32_MAX;
	lay_out(s, mem, nr);
	close_end(s);
}

int ovc_slots_grow(struct ovc_slots *s, void *newmem, uint64_t nr)
{
	const struct ovc_slots old = *s;
	uint64_t pieces = nr_pieces(old.nr);

	if (nr < old.nr)
		return -EINVAL;
	lay_out(s, newmem, nr);
	if (pieces) {
		memcpy(s->map, old.map, pieces * PIECE / 8);
		memcpy(s->taken, old.taken, pieces * sizeof(*s->taken));
	}
	if (old.nr % PIECE) {
		/* The bits beyond the old end are slots now. */
		for (uint64_t i = old.nr; i < pieces * PIECE; i++)
			clear_bit(s->map, i);
		s->taken[pieces - 1] -= pieces * PIECE - old.nr;
	}
	for (uint64_t p = 0; p < pieces; p++)
		count_piece(s, p, s->taken[p]);
	close_end(s);
	s->content = UINT32_MAX;
	return 0;
}

static bool bit_is(const uint64_t *map, uint64_t bit, bool value)
{
	return (map[bit / 64] >> bit % 64 & 1) == value;
}

static bool piece_is_valid(const struct ovc_slots *s, uint64_t p)
{
	unsigned taken = 0;

	for (unsigned w = 0; w < PIECE_WORDS; w++)
		taken += __builtin_popcountll(s->map[p * PIECE_WORDS + w]);
	return taken == s->taken[p] && bit_is(s->full, p, taken == PIECE);
}

bool ovc_slots_is_valid(const struct ovc_slots *s)
{
	uint64_t pieces = nr_pieces(s->nr), full = nr_words(pieces);
	uint64_t taken = 0;

	for (uint64_t p = 0; p < pieces; p++) {
		if (!piece_is_valid(s, p))
			return false;
		taken += s->taken[p];
	}
	for (uint64_t w = 0; w < full; w++)
		if (!bit_is(s->top, w, s->full[w] == ~0ull))
			return false;
	return taken - (pieces * PIECE - s->nr) == s->used &&
	       find_bit(s->map, s->nr, pieces * PIECE, false) ==
		       pieces * PIECE &&
	       find_bit(s->full, pieces, full * 64, false) == full * 64 &&
	       s->cursor <= s->nr;
}
