/* SPDX-License-Identifier: MIT */
/*
 * What runs in the guests: bare metal, 64-bit, integers only, no library.
 *
 * Each vCPU owns a share of the pages. Its first pages are the same in all VMs:
 *
 *	a kernel image, at the same addresses in all VMs;
 *	a page cache, the same files at other addresses in each VM;
 *	zeros;
 *
 * the others are like no other page: files of its own, a heap that comes and goes,
 * data. Most of what is common is only read later on, but a quarter of it is
 * written, too, and is no longer common then.
 *
 * Pages are in frames, which come from an allocator. Pages of files that were not
 * written are given up where frames are short, and read again when they are used;
 * the disk is a computation.
 *
 * The checksum of what was last written to a page stands in a ledger, in the
 * same memory. When a page is read, its checksum is computed again and compared:
 * a page that comes back with old bytes, another page's bytes or zeros is found,
 * counted, and named on the console if it is one of the first. The VMM can end
 * a vCPU at each report.
 */
#include "payload_parts.h"

#define STEPS_PER_REPORT 64
#define SCAN_STRIDE	 4
#define ERRORS_NAMED	 4
#define PAGE_WORDS	 512
#define FILE_PAGES	 64 /* the longest piece of the page cache */
#define NOWHERE		 NO_FRAME

#define MULTIPLIER 6364136223846793005u /* Knuth's, for MMIX */
#define INCREMENT  1442695040888963407u
#define PRIME	   2654435761u /* next to 2^32 divided by the golden ratio */

#if !__STDC_HOSTED__
void machine_console(char c)
{
	__asm__ volatile("outb %0, %w1" ::"a"(c), "Nd"(PORT_CONSOLE));
}

void machine_hypercall(struct report *report)
{
	__asm__ volatile("outl %0, %w1" ::"a"((uint32_t)(uintptr_t)report),
			 "Nd"(PORT_HYPERCALL)
			 : "memory");
}

void machine_balloon(struct balloon_queue *queue)
{
	__asm__ volatile("outl %0, %w1" ::"a"((uint32_t)(uintptr_t)queue),
			 "Nd"(PORT_BALLOON)
			 : "memory");
}

void machine_halt(void)
{
	__asm__ volatile("hlt" ::: "memory");
}
#endif

static void say_number(uint64_t number)
{
	if (number >= 10)
		say_number(number / 10);
	machine_console((char)('0' + number % 10));
}

static void say(const char *text, uint64_t number)
{
	while (*text)
		machine_console(*text++);
	say_number(number);
	machine_console('\n');
}

static uint64_t random64(struct vcpu *v)
{
	v->rng = v->rng * MULTIPLIER + INCREMENT;
	return v->rng ^ v->rng >> 32;
}

/* ---- Contents -------------------------------------------------------------- */

/*
 * What a page has, as a number. The page cache is cut into pieces whose length
 * and order are the VM's own. Elsewhere it is the number of the page.
 */
static uint64_t content(const struct vcpu *v, uint64_t page)
{
	uint64_t start = v->first + v->kernel, i = page - start;
	uint64_t piece = FILE_PAGES >> v->seed % 4;

	if (page < start || i >= v->cache)
		return page;
	return start + i % piece +
	       (i / piece + v->seed) * PRIME % (v->cache / piece) * piece;
}

/* A page of a file that is the same whenever it is read. */
static int is_file(const struct vcpu *v, uint64_t page)
{
	uint64_t i = page - v->first;

	return i - v->kernel < v->cache || i - v->common < v->files;
}

/* What page_write() makes a page's first bytes of. */
static uint64_t first_value(struct vcpu *v, uint64_t page)
{
	uint64_t i = page - v->first;

	if (i < v->kernel + v->cache)
		return content(v, page) + 1;
	if (i < v->common)
		return 0;
	return i - v->common < v->files ? (v->seed + 1) << 32 | page :
					  random64(v);
}

/*
 * The words that carry data are spread over the page, since an emulated CPU is
 * too slow for all 512 of them. Neighbours begin at different offsets; which, is
 * the same in all VMs, for pieces of the page cache are multiples of 8 pages.
 */
static uint64_t *page_words(const struct vcpu *v, uint64_t page)
{
	return v->frames + (uint64_t)v->where[page] * PAGE_WORDS +
	       page % 8 * (v->stride / 8);
}

/* The same value makes the same bytes; 0 makes zeros. */
static void page_write(struct vcpu *v, uint64_t page, uint64_t value)
{
	uint64_t *word = page_words(v, page);
	uint64_t i, words = v->words, stride = v->stride, sum = page;

	for (i = 0; i < words; i++, word += stride) {
		value = value ? value * MULTIPLIER + INCREMENT : 0;
		*word = value;
		sum = (sum ^ value) * MULTIPLIER;
	}
	v->ledger[page] = sum;
}

static uint64_t page_checksum(const struct vcpu *v, uint64_t page)
{
	const uint64_t *word = page_words(v, page);
	uint64_t i, words = v->words, stride = v->stride, sum = page;

	for (i = 0; i < words; i++, word += stride)
		sum = (sum ^ *word) * MULTIPLIER;
	return sum;
}

/* ---- Frames ---------------------------------------------------------------- */

void page_forget(struct vcpu *v, uint32_t frame)
{
	v->where[v->zone.frame[frame].use] = NOWHERE;
	zone_move(&v->zone, frame, LIST_FREE);
}

static void page_free(struct vcpu *v, uint64_t page)
{
	zone_move(&v->zone, v->where[page], LIST_FREE);
	v->where[page] = NOWHERE;
}

/* As Linux does: what is free, what can be read again, the balloon. */
static void page_allocate(struct vcpu *v, uint64_t page)
{
	struct zone *z = &v->zone;
	uint32_t frame;

	if (!z->count[LIST_FREE] && z->count[LIST_CACHE])
		page_forget(v, zone_idlest(z));
	if (!z->count[LIST_FREE])
		balloon_out_of_memory(v);
	while ((frame = zone_first(z, LIST_FREE)) == NO_FRAME) {
		/* It has fewer pages than frames. */
		say("no frame for page ", page);
		v->report.errors++;
		machine_halt();
	}
	zone_move(z, frame, LIST_USED);
	z->frame[frame].use = (uint32_t)page;
	v->where[page] = frame;
}

static void page_fill(struct vcpu *v, uint64_t page)
{
	if (v->where[page] == NOWHERE)
		page_allocate(v, page);
	page_write(v, page, first_value(v, page));
	if (is_file(v, page))
		zone_move(&v->zone, v->where[page], LIST_CACHE);
}

/* Sees to it that the page is in a frame. */
static void page_use(struct vcpu *v, uint64_t page)
{
	if (v->where[page] == NOWHERE) {
		page_fill(v, page);
		v->reads++;
	}
	v->zone.frame[v->where[page]].flags |= FRAME_REFERENCED;
}

/* What was written cannot be read again from the disk. */
static void page_change(struct vcpu *v, uint64_t page)
{
	uint32_t frame = v->where[page];

	if (v->zone.frame[frame].list == LIST_CACHE)
		zone_move(&v->zone, frame, LIST_USED);
	page_write(v, page, *page_words(v, page) + random64(v));
}

static int page_is_right(struct vcpu *v, uint64_t page)
{
	page_use(v, page);
	v->report.checks++;
	if (page_checksum(v, page) == v->ledger[page])
		return 1;
	if (v->report.errors++ < ERRORS_NAMED)
		say("wrong bytes in page ", page);
	return 0;
}

static uint64_t heap_first(const struct vcpu *v)
{
	return v->first + v->common + v->files;
}

static void heap_free(struct vcpu *v)
{
	for (uint64_t i = 0; i < v->heap; i++)
		page_free(v, heap_first(v) + i);
	v->heap_freed = v->heap != 0;
}

/* ---- Work ------------------------------------------------------------------ */

/*
 * Zipf's law with an exponent of 1, in integers: ranks 2^k to 2^(k+1) - 1 are
 * together as likely for each k, so draw k evenly, then a rank of these evenly.
 * Multiplying by a prime scatters neighbours in rank over the memory.
 */
static uint64_t zipf_page(struct vcpu *v)
{
	uint64_t octaves = 64 - (uint64_t)__builtin_clzll(v->nr);
	uint64_t random, octave, rank;

	do {
		random = random64(v);
		octave = (random >> 32) * octaves >> 32;
		rank = 1ull << octave;
		rank += random64(v) & (rank - 1);
	} while (rank > v->nr);
	return v->first + (rank - 1) * PRIME % v->nr;
}

/* Of what is common, some files are written, and the rest is only read. */
static int is_written(const struct vcpu *v, uint64_t page)
{
	if (page - v->first >= v->common)
		return !is_file(v, page);
	return page / FILE_PAGES % 4 == 0;
}

static void report(struct vcpu *v)
{
	machine_hypercall(&v->report);
	balloon_work(v);
}

static void rest(struct vcpu *v)
{
	machine_halt();
	report(v);
}

/* In the scenario each other page is the next one of a round over all. */
static uint64_t random_page(struct vcpu *v, uint64_t i)
{
	if (v->order == ORDER_FINISH || i % 2)
		return zipf_page(v);
	return v->first + v->swept++ * PRIME % v->nr;
}

static void step(struct vcpu *v, uint64_t i)
{
	uint64_t page = v->first + i;

	switch (v->report.phase) {
	case PHASE_COMMON:
		while (v->report.now_ns < v->began + i * v->pace &&
		       !v->report.stop)
			rest(v);
		page_fill(v, page);
		v->report.filled++;
		break;
	case PHASE_FILL:
		page_fill(v, (v->heap_freed ? heap_first(v) :
					      v->first + v->common) +
				     i);
		v->report.filled++;
		break;
	case PHASE_RANDOM:
		page = random_page(v, i);
		if (page_is_right(v, page) && is_written(v, page))
			page_change(v, page);
		break;
	case PHASE_SCAN:
		page_is_right(v, page + i * (SCAN_STRIDE - 1));
		break;
	case PHASE_VERIFY:
		if (page_is_right(v, page))
			v->report.verified++;
		break;
	default:
		rest(v);
	}
}

static int has_new_order(const struct vcpu *v)
{
	return v->order != ORDER_FINISH && v->report.order != v->order;
}

/* Lasts for `total` ns or steps. Returns 0 where the VMM wants an end. */
static int run(struct vcpu *v, enum phase phase, uint64_t total)
{
	int timed = phase == PHASE_SETTLE || phase == PHASE_RANDOM ||
		    phase == PHASE_IDLE;
	uint64_t i;

	v->began = v->report.now_ns;
	v->report.phase = phase;
	v->report.total = total;
	v->report.done = 0;
	for (i = 0; v->report.done < total && !v->report.stop; i++) {
		if (i % STEPS_PER_REPORT == 0)
			report(v);
		if (timed && has_new_order(v))
			break;
		step(v, i);
		v->report.done = timed ? v->report.now_ns - v->began : i + 1;
	}
	return !v->report.stop;
}

static int have_heap(struct vcpu *v)
{
	if (v->heap_freed && !run(v, PHASE_FILL, v->heap))
		return 0;
	v->heap_freed = 0;
	return 1;
}

/* Until told to finish. */
static int follow_orders(struct vcpu *v)
{
	int go_on = 1;

	while (go_on) {
		/* A filling heap ends before a new order is looked at. */
		if (v->report.order != ORDER_IDLE)
			go_on = have_heap(v);
		v->order = v->report.order;
		if (!go_on || v->order == ORDER_FINISH)
			break;
		if (v->order == ORDER_IDLE && !v->heap_freed)
			heap_free(v);
		go_on = run(v,
			    v->order == ORDER_IDLE ? PHASE_IDLE : PHASE_RANDOM,
			    UINT64_MAX);
	}
	v->order = ORDER_FINISH;
	return go_on && have_heap(v);
}

/*
 * All of each page where the CPU is fast, 4 words of it where it is emulated. The
 * VMM has all vCPUs do as the first one, or else pages would not be the same.
 */
static void choose_words(struct vcpu *v)
{
	uint64_t before, page = v->first + v->nr - 1;

	page_allocate(v, page);
	page_write(v, page, 1); /* the first touch takes longer */
	machine_hypercall(&v->report);
	before = v->report.now_ns;
	page_write(v, page, 1);
	machine_hypercall(&v->report);
	v->report.words = v->report.now_ns - before < 1000000 ? PAGE_WORDS : 4;
	machine_hypercall(&v->report);
	v->words = v->report.words;
	v->stride = PAGE_WORDS / v->words;
	page_free(v, page);
}

static void divide_pages(struct vcpu *v, const struct boot *boot)
{
	uint64_t frames = payload_first(boot, v->id + 1);

	v->first = payload_first(boot, v->id);
	frames -= v->first;
	v->reserve = payload_reserve(frames);
	v->nr = frames - v->reserve;
	v->common = v->nr * boot->common / 100;
	v->kernel = v->common / 4;
	v->cache = v->common / 8 * 5 / FILE_PAGES * FILE_PAGES;
	v->files = v->nr * boot->files / 100;
	v->heap = v->nr * boot->heap / 100;
	v->pace = v->common ? boot->common_ns / v->common : 0;

	v->frames = (uint64_t *)(uintptr_t)boot->pages + v->first * PAGE_WORDS;
	v->ledger = (uint64_t *)(uintptr_t)boot->ledger;
	v->where = (uint32_t *)(uintptr_t)boot->where;
	v->first_pfn = boot->first_pfn + v->first;
	zone_init(&v->zone,
		  (struct frame *)(uintptr_t)boot->frames + v->first +
			  v->id * LISTS,
		  (uint32_t)frames);
	for (uint64_t i = 0; i < v->nr; i++)
		v->where[v->first + i] = NOWHERE;
	if (boot->queue_size)
		v->queue = (struct balloon_queue
				    *)(uintptr_t)(boot->queues +
						  v->id * boot->queue_size);
}

/* The entry point; see payload.lds. */
void payload(const struct boot *boot, uint64_t id)
{
	struct vcpu v;

	/* Not by an initialiser: here is no memset() that it could call. */
	for (uint64_t i = 0; i < sizeof(v) / 8; i++)
		((volatile uint64_t *)&v)[i] = 0;
	v.id = id;
	v.words = PAGE_WORDS;
	v.stride = 1;
	v.seed = boot->seed;
	v.rng = boot->seed * PRIME + id;
	v.order = ORDER_FINISH;
	divide_pages(&v, boot);
	choose_words(&v);
	balloon_start(&v);
	if (run(&v, PHASE_COMMON, v.common) &&
	    run(&v, PHASE_SETTLE, boot->idle_ns) &&
	    run(&v, PHASE_FILL, v.nr - v.common) &&
	    (boot->scenario ? follow_orders(&v) :
			      run(&v, PHASE_RANDOM, boot->random_ns) &&
				      run(&v, PHASE_SCAN, v.nr / SCAN_STRIDE) &&
				      run(&v, PHASE_IDLE, boot->idle_ns)) &&
	    run(&v, PHASE_VERIFY, v.nr))
		say("all done, words checked of each page: ", v.words);
	v.report.phase = PHASE_DONE;
	machine_hypercall(&v.report);
}
