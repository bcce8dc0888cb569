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
 * the others are like no other page. Most of what is common is only read later
 * on, but a quarter of it is written, too, and is no longer common then.
 *
 * The checksum of what was last written to a page stands in a ledger, in the
 * same memory. When a page is read, its checksum is computed again and compared:
 * a page that comes back with old bytes, another page's bytes or zeros is found,
 * counted, and named on the console if it is one of the first. The VMM can end
 * a vCPU at each report.
 */
#include "payload.h"

#define STEPS_PER_REPORT 64
#define SCAN_STRIDE	 4
#define ERRORS_NAMED	 4
#define PAGE_WORDS	 512
#define FILE_PAGES	 64 /* the longest piece of the page cache */

#define MULTIPLIER 6364136223846793005u /* Knuth's, for MMIX */
#define INCREMENT  1442695040888963407u
#define PRIME	   2654435761u /* next to 2^32 divided by the golden ratio */

struct vcpu {
	struct report report;
	uint64_t *pages;
	uint64_t *ledger;
	uint64_t id;
	uint64_t first;	 /* the first page of its own */
	uint64_t nr;	 /* how many are its own */
	uint64_t kernel; /* pages of the kernel image, ... */
	uint64_t cache;	 /* ... of the page cache after it, ... */
	uint64_t common; /* ... of these and of zeros together */
	uint64_t pace;	 /* ns that each page of these takes at least */
	uint64_t began;	 /* when the phase did */
	uint64_t words;	 /* in each page that carry data */
	uint64_t stride; /* from one of them to the next */
	uint64_t seed;
	uint64_t rng;
};

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

/*
 * The words that carry data are spread over the page, since an emulated CPU is
 * too slow for all 512 of them. Neighbours begin at different offsets; which, is
 * the same in all VMs, for pieces of the page cache are multiples of 8 pages.
 */
static uint64_t *page_words(const struct vcpu *v, uint64_t page)
{
	return v->pages + page * PAGE_WORDS + page % 8 * (v->stride / 8);
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

static int page_is_right(struct vcpu *v, uint64_t page)
{
	v->report.checks++;
	if (page_checksum(v, page) == v->ledger[page])
		return 1;
	if (v->report.errors++ < ERRORS_NAMED)
		say("wrong bytes in page ", page);
	return 0;
}

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
	return page - v->first >= v->common || page / FILE_PAGES % 4 == 0;
}

static void rest(struct vcpu *v)
{
	machine_halt();
	machine_hypercall(&v->report);
}

static void step(struct vcpu *v, uint64_t i)
{
	uint64_t page = v->first + i;

	switch (v->report.phase) {
	case PHASE_COMMON:
		while (v->report.now_ns < v->began + i * v->pace &&
		       !v->report.stop)
			rest(v);
		page_write(v, page,
			   i < v->kernel + v->cache ? content(v, page) + 1 : 0);
		v->report.filled++;
		break;
	case PHASE_FILL:
		page_write(v, page + v->common, random64(v));
		v->report.filled++;
		break;
	case PHASE_RANDOM:
		page = zipf_page(v);
		if (page_is_right(v, page) && is_written(v, page))
			page_write(v, page, *page_words(v, page) + random64(v));
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
			machine_hypercall(&v->report);
		step(v, i);
		v->report.done = timed ? v->report.now_ns - v->began : i + 1;
	}
	return !v->report.stop;
}

/*
 * All of each page where the CPU is fast, 4 words of it where it is emulated. The
 * VMM has all vCPUs do as the first one, or else pages would not be the same.
 */
static void choose_words(struct vcpu *v)
{
	uint64_t before, page = v->first + v->nr - 1;

	page_write(v, page, 1); /* the first touch takes longer */
	machine_hypercall(&v->report);
	before = v->report.now_ns;
	page_write(v, page, 1);
	machine_hypercall(&v->report);
	v->report.words = v->report.now_ns - before < 1000000 ? PAGE_WORDS : 4;
	machine_hypercall(&v->report);
	v->words = v->report.words;
	v->stride = PAGE_WORDS / v->words;
}

static void divide_pages(struct vcpu *v, const struct boot *boot)
{
	v->first = boot->nr_pages * v->id / boot->nr_vcpus;
	v->nr = boot->nr_pages * (v->id + 1) / boot->nr_vcpus - v->first;
	v->common = v->nr * boot->common / 100;
	v->kernel = v->common / 4;
	v->cache = v->common / 8 * 5 / FILE_PAGES * FILE_PAGES;
	v->pace = v->common ? boot->common_ns / v->common : 0;
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
	v.pages = (uint64_t *)(uintptr_t)boot->pages;
	v.ledger = (uint64_t *)(uintptr_t)boot->ledger;
	v.seed = boot->seed;
	v.rng = boot->seed * PRIME + id;
	divide_pages(&v, boot);
	choose_words(&v);
	if (run(&v, PHASE_COMMON, v.common) &&
	    run(&v, PHASE_SETTLE, boot->idle_ns) &&
	    run(&v, PHASE_FILL, v.nr - v.common) &&
	    run(&v, PHASE_RANDOM, boot->random_ns) &&
	    run(&v, PHASE_SCAN, v.nr / SCAN_STRIDE) &&
	    run(&v, PHASE_IDLE, boot->idle_ns) && run(&v, PHASE_VERIFY, v.nr))
		say("all done, words checked of each page: ", v.words);
	v.report.phase = PHASE_DONE;
	machine_hypercall(&v.report);
}
