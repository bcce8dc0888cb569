/* SPDX-License-Identifier: MIT */
/*
 * What runs in the guests: bare metal, 64-bit, integers only, no library.
 *
 * Each vCPU owns a share of the pages, no two of which have the same bytes. The
 * checksum of what was last written to a page stands in a ledger, in the same
 * memory. When a page is read, its checksum is computed again and compared: a
 * page that comes back with old bytes, another page's bytes or zeros is found,
 * counted, and named on the console if it is one of the first. The VMM can end
 * a vCPU at each report.
 */
#include "payload.h"

#define STEPS_PER_REPORT 64
#define ERRORS_NAMED	 4
#define PAGE_WORDS	 512

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
	uint64_t words;	 /* in each page that carry data */
	uint64_t stride; /* from one of them to the next */
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
 * The words that carry data are spread over the page, each page beginning at
 * another offset, since an emulated CPU is too slow for all 512 of them.
 */
static uint64_t *page_words(const struct vcpu *v, uint64_t page)
{
	return v->pages + page * PAGE_WORDS + page % v->stride;
}

static void page_write(struct vcpu *v, uint64_t page, uint64_t value)
{
	uint64_t *word = page_words(v, page);
	uint64_t i, words = v->words, stride = v->stride, sum = page;

	for (i = 0; i < words; i++, word += stride) {
		value = value * MULTIPLIER + INCREMENT;
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

static void step(struct vcpu *v, uint64_t i)
{
	uint64_t page = v->first + i;

	if (v->report.phase == PHASE_FILL) {
		page_write(v, page, random64(v));
	} else if (v->report.phase == PHASE_RANDOM) {
		page = zipf_page(v);
		if (page_is_right(v, page))
			page_write(v, page, *page_words(v, page) + v->id + 1);
	} else if (v->report.phase == PHASE_IDLE) {
		machine_halt();
	} else if (page_is_right(v, page)) {
		v->report.verified += v->report.phase == PHASE_VERIFY;
	}
}

/* Lasts for `total` ns or steps. Returns 0 where the VMM wants an end. */
static int run(struct vcpu *v, enum phase phase, uint64_t total)
{
	int timed = phase == PHASE_RANDOM || phase == PHASE_IDLE;
	uint64_t i, begin = v->report.now_ns;

	v->report.phase = phase;
	v->report.total = total;
	v->report.done = 0;
	for (i = 0; v->report.done < total && !v->report.stop; i++) {
		if (i % STEPS_PER_REPORT == 0 || phase == PHASE_IDLE)
			machine_hypercall(&v->report);
		step(v, i);
		v->report.done = timed ? v->report.now_ns - begin : i + 1;
	}
	return !v->report.stop;
}

/* All of the page where the CPU is fast, 4 words of it where it is emulated. */
static void choose_words(struct vcpu *v)
{
	uint64_t before;

	machine_hypercall(&v->report);
	before = v->report.now_ns;
	page_write(v, v->first, 1);
	machine_hypercall(&v->report);
	v->words = v->report.now_ns - before < 1000000 ? PAGE_WORDS : 4;
	v->stride = PAGE_WORDS / v->words;
}

/* The entry point; see payload.lds. */
void payload(const struct boot *boot, uint64_t id)
{
	struct vcpu v = { .id = id, .words = PAGE_WORDS, .stride = 1 };

	v.pages = (uint64_t *)(uintptr_t)boot->pages;
	v.ledger = (uint64_t *)(uintptr_t)boot->ledger;
	v.first = boot->nr_pages * id / boot->nr_vcpus;
	v.nr = boot->nr_pages * (id + 1) / boot->nr_vcpus - v.first;
	v.rng = boot->seed * PRIME + id;
	choose_words(&v);
	if (run(&v, PHASE_FILL, v.nr) &&
	    run(&v, PHASE_RANDOM, boot->random_ns) &&
	    run(&v, PHASE_SCAN, v.nr) && run(&v, PHASE_IDLE, boot->idle_ns) &&
	    run(&v, PHASE_VERIFY, v.nr))
		say("all done, words checked of each page: ", v.words);
	v.report.phase = PHASE_DONE;
	machine_hypercall(&v.report);
}
