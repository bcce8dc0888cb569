/* SPDX-License-Identifier: MIT */
/*
 * The balloon: frames that a guest gives away, reports free, takes back or touches,
 * wherever their pages were; and what its device is told and tells.
 *
 * Linked with the library's test build, to fail the kernel's calls one by one and to be
 * the policy.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "balloon/balloon.h"
#include "sharing.h"
#include "sys/fail.h"

TestSuite(balloon, .timeout = 60 * PATIENCE);

#define PAGES	 ((uint64_t)1024)
#define HUGE	 ((size_t)2 * MIB)
#define FRAME(i) ((uint32_t)(WORLD_GPA / PAGE + (i)))

/* Which memory, and whether it is tracked. */
struct balloon_way {
	struct way way;
	bool tracked;
};

static size_t balloon_ways(struct balloon_way ways[16])
{
	static const uint32_t without[] = { 0, OVC_FEATURE_BATCH_ADVISE,
					    OVC_FEATURE_PAGEMAP_SCAN,
					    OVC_FEATURE_MOVE };
	size_t nr = 0;

	for (unsigned kind = ANON; kind <= MEMFD; kind++)
		for (size_t i = 0; i < sizeof(without) / sizeof(without[0]);
		     i++)
			for (int tracked = 0; tracked < 2; tracked++)
				ways[nr++] = (struct balloon_way){
					{ (enum kind)kind, without[i] }, tracked
				};
	return nr;
}

#define way_params()                        \
	static struct balloon_way ways[16]; \
	return cr_make_param_array(struct balloon_way, ways, balloon_ways(ways))

static const char *name_of(const struct balloon_way *b)
{
	static char name[300];

	snprintf(name, sizeof(name), "%s, %s", way_name(b->way),
		 b->tracked ? "tracked" : "untracked");
	return name;
}

/* All pages with the guest, of seed 1. */
static void open_full(struct world *w, const struct balloon_way *b)
{
	world_open(w, (struct plan){ .way = b->way, .len = PAGES * PAGE });
	if (b->tracked) {
		w->mem[0] = 1;
		cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, PAGE), 0);
		cr_assert_eq(vm_stats(w).tracked, 1);
	}
	fill_pages(w->mem, 0, PAGES, 1);
	/* Who brought pages ahead meanwhile has come to its end: it would fill what
	 * is dropped. */
	vm_stats(w);
}

static struct ovc_donation inflate(struct world *w, const uint32_t *pfns,
				   size_t nr)
{
	struct ovc_donation d = { .size = sizeof(d) };

	cr_assert_eq(ovc_vm_balloon_inflate(w->vm, pfns, nr, &d), 0, "%s",
		     ovc_error());
	return d;
}

static struct ovc_deflation deflate(struct world *w, const uint32_t *pfns,
				    size_t nr)
{
	struct ovc_deflation d = { .size = sizeof(d) };

	cr_assert_eq(ovc_vm_balloon_deflate(w->vm, pfns, nr, &d), 0, "%s",
		     ovc_error());
	return d;
}

static void frames_from(uint32_t *pfns, uint64_t from, uint64_t nr,
			uint64_t stride)
{
	for (uint64_t i = 0; i < nr; i++)
		pfns[i] = FRAME(from + i * stride);
}

static void shuffle(uint32_t *pfns, size_t nr, unsigned seed)
{
	srand(seed);
	for (size_t i = nr; i > 1; i--) {
		size_t k = (size_t)rand() % i;
		uint32_t swap = pfns[i - 1];

		pfns[i - 1] = pfns[k];
		pfns[k] = swap;
	}
}

static void expect_zero(const struct world *w, uint64_t idx, uint64_t nr)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		cr_assert(is_zero(w->mem + i * PAGE), "page %u", (unsigned)i);
}

static long too_many(const struct world *w)
{
	struct ovc_host_stats h = host_stats(w);

	return (long)(h.used - h.resident - h.metadata - h.buffers) /
	       (long)PAGE;
}

/* What guests hold is what is charged, once reclaim has nothing in hand. */
static void expect_balance(const struct world *w)
{
	for (int i = 0; i < 1000 && too_many(w); i++)
		usleep(5000);
	cr_assert_eq(too_many(w), 0, "%ld pages too many", too_many(w));
}

static void set_driver(struct world *w, uint32_t flags, uint32_t cap)
{
	struct ovc_balloon_options o = { .size = sizeof(o),
					 .flags = flags,
					 .cap = cap };

	cr_assert_eq(ovc_vm_balloon_set(w->vm, &o), 0, "%s", ovc_error());
}

static uint64_t target_of(const struct world *w)
{
	uint64_t bytes = 1;

	cr_assert_eq(ovc_vm_balloon_target(w->vm, &bytes), 0);
	return bytes;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* ---- refused ------------------------------------------------------------------ */

Test(balloon, a_bad_argument_of_each_call_is_refused)
{
	struct ovc_balloon_stat stat = { 0 };
	struct ovc_donation small = { .size = 8 };
	struct ovc_deflation little = { .size = 8 };
	struct ovc_range range = { 0 };
	struct ovc_balloon_options o = { .size = sizeof(o) };
	uint32_t pfn = FRAME(1);
	uint64_t n;
	struct world w;

	world_open(&w, (struct plan){ 0 });
	expect_error("inflate", ovc_vm_balloon_inflate(NULL, &pfn, 1, NULL),
		     -EINVAL, "vm");
	expect_error("inflate", ovc_vm_balloon_inflate(w.vm, NULL, 1, NULL),
		     -EINVAL, "list");
	expect_error("inflate", ovc_vm_balloon_inflate(w.vm, &pfn, 1, &small),
		     -EINVAL, "size");
	expect_error("report", ovc_vm_balloon_report(NULL, &range, 1, NULL),
		     -EINVAL, "vm");
	expect_error("report", ovc_vm_balloon_report(w.vm, NULL, 1, NULL),
		     -EINVAL, "list");
	expect_error("report", ovc_vm_balloon_report(w.vm, &range, 1, &small),
		     -EINVAL, "size");
	expect_error("deflate", ovc_vm_balloon_deflate(NULL, &pfn, 1, NULL),
		     -EINVAL, "vm");
	expect_error("deflate", ovc_vm_balloon_deflate(w.vm, NULL, 1, NULL),
		     -EINVAL, "list");
	expect_error("deflate", ovc_vm_balloon_deflate(w.vm, &pfn, 1, &little),
		     -EINVAL, "size");
	expect_error("set", ovc_vm_balloon_set(NULL, &o), -EINVAL, "vm");
	o.flags = 4;
	expect_error("set", ovc_vm_balloon_set(w.vm, &o), -EINVAL, "flags");
	o.flags = OVC_BALLOON_DEFLATE_ON_OOM;
	expect_error("set", ovc_vm_balloon_set(w.vm, &o), -EINVAL, "DRIVER");
	o.flags = OVC_BALLOON_DRIVER;
	o.cap = 91;
	expect_error("set", ovc_vm_balloon_set(w.vm, &o), -EINVAL, "cap");
	o.cap = 0;
	o.size = 8;
	expect_error("set", ovc_vm_balloon_set(w.vm, &o), -EINVAL, "size");
	expect_error("fd", ovc_vm_balloon_fd(NULL), -EINVAL, "vm");
	expect_error("target", ovc_vm_balloon_target(NULL, &n), -EINVAL, "vm");
	expect_error("target", ovc_vm_balloon_target(w.vm, NULL), -EINVAL,
		     "bytes");
	expect_error("ask", ovc_vm_balloon_ask(NULL, 0), -EINVAL, "vm");
	expect_error("ask", ovc_vm_balloon_ask(w.vm, 0), -ENODEV, "driver");
	expect_error("reached", ovc_vm_balloon_reached(NULL, 0), -EINVAL, "vm");
	expect_error("reached", ovc_vm_balloon_reached(w.vm, 0), -ENODEV,
		     "driver");
	expect_error("stats", ovc_vm_balloon_stats(NULL, &stat, 1), -EINVAL,
		     "vm");
	expect_error("stats", ovc_vm_balloon_stats(w.vm, NULL, 1), -EINVAL,
		     "list");
	expect_error("inflate",
		     ovc_vm_balloon_inflate_ranges(NULL, &range, 1, NULL),
		     -EINVAL, "vm");
	expect_error("inflate",
		     ovc_vm_balloon_inflate_ranges(w.vm, NULL, 1, NULL),
		     -EINVAL, "list");
	expect_error("inflate",
		     ovc_vm_balloon_inflate_ranges(w.vm, &range, 1, &small),
		     -EINVAL, "size");
	expect_error("deflate",
		     ovc_vm_balloon_deflate_ranges(NULL, &range, 1, NULL),
		     -EINVAL, "vm");
	expect_error("deflate",
		     ovc_vm_balloon_deflate_ranges(w.vm, NULL, 1, NULL),
		     -EINVAL, "list");
	expect_error("deflate",
		     ovc_vm_balloon_deflate_ranges(w.vm, &range, 1, &little),
		     -EINVAL, "size");
	expect_error("oom", ovc_vm_balloon_oom(NULL, 1, &n), -EINVAL, "vm");
	expect_error("oom", ovc_vm_balloon_oom(w.vm, 1, NULL), -EINVAL,
		     "pages");
	expect_error("oom", ovc_vm_balloon_oom(w.vm, 0, &n), -EINVAL, "bytes");
	expect_error("oom", ovc_vm_balloon_oom(w.vm, 1, &n), -ENODEV, "driver");
	set_driver(&w, OVC_BALLOON_DRIVER, 0);
	expect_error("oom", ovc_vm_balloon_oom(w.vm, 1, &n), -ENOTSUP,
		     "negotiated");
	expect_error("ask", ovc_vm_balloon_ask(w.vm, 1), -EINVAL, "4096");
	expect_error("ask", ovc_vm_balloon_ask(w.vm, w.len), -EINVAL, "cap");
	expect_error("reached", ovc_vm_balloon_reached(w.vm, 4095), -EINVAL,
		     "4096");
	cr_assert_eq(vm_stats(&w).balloon_refused, 0);
	cr_assert_eq(vm_stats(&w).ballooned, 0);
	/* None at all is none too many. */
	cr_assert_eq(ovc_vm_balloon_inflate(w.vm, NULL, 0, NULL), 0);
	cr_assert_eq(ovc_vm_balloon_deflate(w.vm, NULL, 0, NULL), 0);
	cr_assert_eq(ovc_vm_balloon_report(w.vm, NULL, 0, NULL), 0);
	cr_assert_eq(ovc_vm_balloon_stats(w.vm, NULL, 0), 0);
	world_close(&w, 0);
}

/* ---- inflate ------------------------------------------------------------------- */

ParameterizedTestParameters(balloon, given_frames_are_dropped_and_no_others)
{
	way_params();
}

/* Every third page, in no order, some of them twice. */
ParameterizedTest(struct balloon_way *b, balloon,
		  given_frames_are_dropped_and_no_others)
{
	uint32_t pfns[PAGES / 3 + 20];
	uint64_t nr = PAGES / 3;
	struct ovc_donation d;
	struct ovc_vm_stats s;
	struct world w;

	open_full(&w, b);
	frames_from(pfns, 0, nr, 3);
	memcpy(pfns + nr, pfns, 20 * sizeof(*pfns));
	shuffle(pfns, nr + 20, 1);
	d = inflate(&w, pfns, nr + 20);
	s = vm_stats(&w);
	cr_assert_eq(d.given, nr, "%s: %llu", name_of(b),
		     (unsigned long long)d.given);
	cr_assert_eq(d.again, 20);
	cr_assert_eq(d.pinned + d.outside + d.failed + d.huge, 0);
	cr_assert_eq(d.freed, nr * PAGE, "%s: %llu", name_of(b),
		     (unsigned long long)d.freed);
	cr_assert_eq(s.ballooned, nr * PAGE);
	cr_assert_eq(s.inflated_bytes, nr * PAGE);
	cr_assert_eq(s.balloon_refused, 0);
	cr_assert_eq(s.resident, (PAGES - nr) * PAGE, "%s", name_of(b));
	cr_assert_eq(s.deflated_by_touch, 0);
	expect_balance(&w);
	for (uint64_t i = 0; i < PAGES; i++)
		cr_assert(i % 3 || i / 3 >= nr ?
				  is_page(w.mem + i * PAGE, i, 1) :
				  is_zero(w.mem + i * PAGE),
			  "%s: page %u", name_of(b), (unsigned)i);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, a_falling_list_of_all_frames_is_taken)
{
	way_params();
}

/* As Linux's buddy allocator tends to hand them out. */
ParameterizedTest(struct balloon_way *b, balloon,
		  a_falling_list_of_all_frames_is_taken)
{
	static uint32_t pfns[PAGES];
	struct ovc_donation d;
	struct world w;

	open_full(&w, b);
	for (uint64_t i = 0; i < PAGES; i++)
		pfns[i] = FRAME(PAGES - 1 - i);
	d = inflate(&w, pfns, PAGES);
	cr_assert_eq(d.given, PAGES);
	cr_assert_eq(vm_stats(&w).resident, 0, "%s", name_of(b));
	cr_assert_eq(vm_stats(&w).ballooned, PAGES * PAGE);
	d = inflate(&w, pfns, PAGES);
	cr_assert_eq(d.given, 0);
	cr_assert_eq(d.again, PAGES);
	cr_assert_eq(vm_stats(&w).inflated_bytes, PAGES * PAGE);
	expect_zero(&w, 0, PAGES);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, frames_that_are_not_the_vms_are_refused)
{
	way_params();
}

ParameterizedTest(struct balloon_way *b, balloon,
		  frames_that_are_not_the_vms_are_refused)
{
	struct ovc_region_options o = { .size = sizeof(o),
					.len = 16 * PAGE,
					.gpa = 64 * PAGE };
	uint32_t pfns[] = { FRAME(5),
			    FRAME(PAGES),
			    FRAME(PAGES - 1),
			    0,
			    UINT32_MAX,
			    FRAME(-1),
			    64,
			    79,
			    0x7fffffff,
			    FRAME(6),
			    FRAME(PAGES + 7),
			    80,
			    FRAME(PAGES),
			    0 };
	struct ovc_donation d;
	struct ovc_vm *other;
	struct world w;
	char *mem;

	open_full(&w, b);
	cr_assert_eq(ovc_vm_create(w.host, NULL, &other), 0);
	o.addr = mem = map_memory(b->way.kind, o.len, &o.memfd);
	cr_assert_eq(ovc_vm_add_region(other, &o), 0);
	fill_pages(mem, 0, 16, 2);
	d = inflate(&w, pfns, sizeof(pfns) / sizeof(pfns[0]));
	cr_assert_eq(d.given, 3);
	cr_assert_eq(d.outside + d.again, 11);
	cr_assert_eq(vm_stats(&w).balloon_refused, d.outside);
	cr_assert_eq(check_pages(mem, 0, 16, 2), -1, "%s", name_of(b));
	cr_assert_eq(check_pages(w.mem, 0, 5, 1), -1);
	expect_zero(&w, 5, 2);
	cr_assert_eq(check_pages(w.mem, 7, PAGES - 8, 1), -1);
	expect_zero(&w, PAGES - 1, 1);
	cr_assert_eq(deflate(&w, pfns + 6, 2).outside, 2);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, frames_of_several_regions_are_found)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, balloon, frames_of_several_regions_are_found)
{
	struct ovc_region_options o = { .size = sizeof(o),
					.len = 32 * PAGE,
					.gpa = WORLD_GPA - 32 * PAGE };
	struct balloon_way b = { *way, true };
	uint32_t pfns[64];
	struct ovc_donation d;
	struct world w;
	char *mem;

	open_full(&w, &b);
	o.addr = mem = map_memory(way->kind, o.len, &o.memfd);
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	fill_pages(mem, 0, 32, 3);
	for (int i = 0; i < 64; i++)
		pfns[i] = FRAME(i - 32);
	d = inflate(&w, pfns, 64);
	cr_assert_eq(d.given, 64);
	for (int i = 0; i < 32; i++)
		cr_assert(is_zero(mem + (size_t)i * PAGE));
	expect_zero(&w, 0, 32);
	cr_assert_eq(check_pages(w.mem, 32, PAGES - 32, 1), -1);
	/* A region that goes takes its part of the balloon along. */
	d = inflate(&w, pfns, 64);
	cr_assert_eq(vm_stats(&w).ballooned, 64 * PAGE);
	cr_assert_eq(ovc_vm_remove_region(w.vm, mem, 0), 0);
	cr_assert_eq(vm_stats(&w).ballooned, 32 * PAGE);
	world_close(&w, 0);
}

Test(balloon, a_region_without_guest_addresses_has_no_frames)
{
	struct ovc_region_options o = { .size = sizeof(o),
					.len = 32 * PAGE,
					.gpa = OVC_GPA_NONE };
	struct balloon_way b = { both_kinds[0], true };
	uint32_t pfns[] = { 0, 31, UINT32_MAX, (uint32_t)-2, FRAME(3) };
	struct world w;
	char *mem;

	open_full(&w, &b);
	o.addr = mem = map_memory(ANON, o.len, &o.memfd);
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	fill_pages(mem, 0, 32, 3);
	cr_assert_eq(inflate(&w, pfns, 5).outside, 4);
	cr_assert_eq(check_pages(mem, 0, 32, 3), -1);
	cr_assert_eq(deflate(&w, pfns, 5).outside, 4);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, pinned_pages_are_refused_one_by_one)
{
	way_params();
}

ParameterizedTest(struct balloon_way *b, balloon,
		  pinned_pages_are_refused_one_by_one)
{
	uint32_t pfns[64];
	struct ovc_range range;
	struct ovc_donation d;
	struct world w;

	open_full(&w, b);
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem + 10 * PAGE, 3 * PAGE), 0);
	frames_from(pfns, 0, 64, 1);
	d = inflate(&w, pfns, 64);
	cr_assert_eq(d.given, 61, "%s", name_of(b));
	cr_assert_eq(d.pinned, 3);
	cr_assert_eq(vm_stats(&w).ballooned, 61 * PAGE);
	cr_assert_eq(vm_stats(&w).balloon_refused, 3);
	expect_zero(&w, 0, 10);
	cr_assert_eq(check_pages(w.mem, 10, 3, 1), -1);
	expect_zero(&w, 13, 51);
	range = (struct ovc_range){ w.mem, PAGES * PAGE };
	d = (struct ovc_donation){ .size = sizeof(d) };
	cr_assert_eq(ovc_vm_balloon_report(w.vm, &range, 1, &d), 0);
	cr_assert_eq(d.pinned, 3);
	cr_assert_eq(d.given, PAGES - 3);
	cr_assert_eq(check_pages(w.mem, 10, 3, 1), -1);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem + 10 * PAGE, 3 * PAGE), 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, pages_are_dropped_wherever_they_were)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

/* In swap, clean, with the guest, never there; every other one. */
ParameterizedTest(struct way *way, balloon,
		  pages_are_dropped_wherever_they_were)
{
	static uint32_t pfns[PAGES / 2];
	struct ovc_donation d;
	struct world w;

	world_open(&w, (struct plan){ .way = *way, .len = PAGES * PAGE });
	fill_pages(w.mem, 0, PAGES - 256, 2);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, PAGES / 2 * PAGE), 0);
	cr_assert_eq(check_pages(w.mem, 0, 64, 2), -1); /* clean, some */
	frames_from(pfns, 0, PAGES / 2, 2);
	shuffle(pfns, PAGES / 2, 2);
	d = inflate(&w, pfns, PAGES / 2);
	cr_assert_eq(d.given, PAGES / 2, "%s", way_name(*way));
	cr_assert_lt(d.freed, PAGES / 2 * PAGE);
	cr_assert_leq(vm_stats(&w).swapped, PAGES / 4 * PAGE);
	expect_balance(&w);
	for (uint64_t i = 0; i < PAGES; i++)
		cr_assert(i % 2 && i < PAGES - 256 ?
				  is_page(w.mem + i * PAGE, i, 2) :
				  is_zero(w.mem + i * PAGE),
			  "%s: page %u", way_name(*way), (unsigned)i);
	cr_assert_eq(vm_stats(&w).ballooned, 0);
	cr_assert_eq(vm_stats(&w).deflated_by_touch, PAGES / 2 * PAGE);
	expect_balance(&w);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, staged_pages_are_dropped)
{
	static struct way ways[] = { { ANON, 0 },
				     { MEMFD, 0 },
				     { ANON, OVC_FEATURE_BATCH_ADVISE },
				     { MEMFD, OVC_FEATURE_BATCH_ADVISE },
				     { ANON, OVC_FEATURE_MOVE } };

	return cr_make_param_array(struct way, ways, 5);
}

/* Under pressure some pages are always staged, or being written; which, nobody knows. */
ParameterizedTest(struct way *way, balloon, staged_pages_are_dropped)
{
	uint64_t nr = 32 * MIB / PAGE;
	uint32_t *pfns = malloc(nr * sizeof(*pfns));
	bool staged = false;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 16 * MIB,
				      .len = 32 * MIB });
	frames_from(pfns, 0, nr, 1);
	shuffle(pfns, nr, 3);
	for (unsigned i = 0; i < 20 && !staged; i++) {
		fill_pages(w.mem, 0, nr, i);
		staged = vm_stats(&w).staged;
	}
	cr_assert(staged);
	cr_assert_eq(inflate(&w, pfns, nr).given, nr);
	cr_assert_eq(vm_stats(&w).resident, 0);
	cr_assert_eq(vm_stats(&w).swapped, 0);
	cr_assert_eq(vm_stats(&w).ballooned, w.len);
	for (uint64_t i = 0; i < nr; i++)
		cr_assert(is_zero(w.mem + i * PAGE), "%s: page %u",
			  way_name(*way), (unsigned)i);
	cr_assert_eq(vm_stats(&w).deflated_by_touch, w.len);
	world_close(&w, 0);
	free(pfns);
}

ParameterizedTestParameters(balloon, shared_pages_are_dropped)
{
	return cr_make_param_array(struct share_way, share_ways, SHARE_WAYS);
}

ParameterizedTest(struct share_way *s, balloon, shared_pages_are_dropped)
{
	static uint32_t pfns[NR / 2];
	struct shared_world g;

	shared_open(&g, share_plan(s));
	fill_common(g.w.mem, 0, NR, 32, 4);
	fill_common(g.mem, 0, NR, 32, 4);
	share_now(&g.w);
	wait_for(host_stats(&g.w).shared_bytes == 2 * NR * PAGE);
	cr_assert_eq(ovc_host_set_share(g.w.host, OVC_SHARE_NEVER, 0), 0);
	/* Half of them, in runs of 3, one apart. */
	for (uint64_t i = 0; i < NR / 2; i++)
		pfns[i] = FRAME(i / 3 * 4 + i % 3);
	shuffle(pfns, NR / 2, 4);
	cr_assert_eq(inflate(&g.w, pfns, NR / 2).given, NR / 2);
	cr_assert_eq(vm_stats(&g.w).shared_bytes, NR / 2 * PAGE);
	for (uint64_t i = 0; i < NR; i++) {
		bool given = i % 4 < 3 && i / 4 * 3 + i % 4 < NR / 2;

		cr_assert(given ? is_zero(g.w.mem + i * PAGE) :
				  is_page(g.w.mem + i * PAGE, i % 32, 4),
			  "%s: page %u", share_way_name(s), (unsigned)i);
	}
	cr_assert_eq(check_common(g.mem, 0, NR, 32, 4), -1);
	cr_assert_eq(vm_stats(&g.w).deflated_by_touch, NR / 2 * PAGE);
	shared_close(&g, 0);
}

ParameterizedTestParameters(balloon, a_poisoned_page_is_dropped_and_healed)
{
	static struct way ways[] = { { ANON, 0 },
				     { MEMFD, 0 },
				     { ANON, OVC_FEATURE_POISON },
				     { MEMFD, OVC_FEATURE_POISON } };

	return cr_make_param_array(struct way, ways, 4);
}

ParameterizedTest(struct way *way, balloon,
		  a_poisoned_page_is_dropped_and_healed)
{
	uint32_t pfns[64];
	char path[600];
	struct world w;
	int fd;

	snprintf(path, sizeof(path), "%s/slots", own_dir());
	world_open(&w, (struct plan){ .way = *way,
				      .swap = path,
				      .len = PAGES * PAGE });
	fill_pages(w.mem, 0, 64, 5);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, 64 * PAGE), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	for (off_t at = 0; at < (off_t)(128 * PAGE); at += (off_t)PAGE)
		cr_assert_eq(pwrite(fd, "garbage", 7, at + 1000), 7);
	cr_assert_eq(fsync(fd), 0);
	close(fd);
	cr_assert_neq(touch_signal(w.mem + 7 * PAGE, NULL, NULL), 0);
	cr_assert_geq(vm_stats(&w).poisoned, PAGE);
	frames_from(pfns, 0, 64, 1);
	cr_assert_eq(inflate(&w, pfns, 64).given, 64);
	cr_assert_eq(vm_stats(&w).poisoned, 0);
	expect_zero(&w, 0, 64);
	cr_assert_eq(inflate(&w, pfns, 64).given, 64);
	cr_assert_eq(deflate(&w, pfns, 64).taken, 64);
	fill_pages(w.mem, 0, 64, 6);
	cr_assert_eq(check_pages(w.mem, 0, 64, 6), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, what_the_kernel_does_not_drop_is_kept)
{
	way_params();
}

/* Each of the calls in turn: pages are zero or as they were, and counted so. */
ParameterizedTest(struct balloon_way *b, balloon,
		  what_the_kernel_does_not_drop_is_kept)
{
	uint32_t pfns[128];
	bool any = false;

	frames_from(pfns, 0, 128, 2);
	for (unsigned long n = 1; n < 12; n++) {
		struct ovc_donation d = { .size = sizeof(d) };
		uint64_t kept = 0;
		struct world w;
		int error;

		open_full(&w, b);
		ovc_sys_fail_nth(n, ENOMEM);
		error = ovc_vm_balloon_inflate(w.vm, pfns, 128, &d);
		ovc_sys_fail_nth(0, 0);
		cr_assert_eq(vm_stats(&w).ballooned, (128 - d.failed) * PAGE);
		for (uint64_t i = 0; i < 256; i += 2) {
			bool same = is_page(w.mem + i * PAGE, i, 1);

			cr_assert(same || is_zero(w.mem + i * PAGE));
			kept += same;
		}
		cr_assert_eq(d.failed, kept, "%s, call %lu", name_of(b), n);
		cr_assert_eq(d.given, 128 - kept);
		cr_assert_eq(error != 0, kept != 0);
		if (kept)
			cr_assert(strstr(ovc_error(), "dropped"));
		any |= kept != 0;
		cr_assert_eq(vm_stats(&w).inflated_bytes, (128 - kept) * PAGE);
		expect_balance(&w);
		/* Again, and it goes. */
		d = inflate(&w, pfns, 128);
		cr_assert_eq(vm_stats(&w).ballooned, 128 * PAGE);
		expect_zero(&w, 0, 1);
		world_close(&w, 0);
	}
	/* With many at once each is tried again by itself: one failure is not
	 * enough. */
	cr_assert(any || !(b->way.without & OVC_FEATURE_BATCH_ADVISE), "%s",
		  name_of(b));
}

/* ---- huge pages ------------------------------------------------------------------ */

/* Fresh memory of four huge pages; false where the kernel gives none. */
static bool open_huge(struct world *w, bool tracked)
{
	struct ovc_region_options o = { .size = sizeof(o),
					.len = 4 * HUGE,
					.gpa = 0 };
	char *room;

	world_open(w, (struct plan){ 0 });
	room = mmap(NULL, 5 * HUGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cr_assert_neq(room, MAP_FAILED);
	o.addr = (char *)(((uintptr_t)room + HUGE - 1) & -HUGE);
	madvise(o.addr, o.len, MADV_HUGEPAGE);
	cr_assert_eq(ovc_vm_add_region(w->vm, &o), 0, "%s", ovc_error());
	munmap(w->mem, 0);
	w->mem = o.addr;
	memset(w->mem, 1, o.len);
	if (tracked)
		cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem + 3 * HUGE, PAGE), 0);
	return smaps_bytes(w->mem, "AnonHugePages:") >= 3 * HUGE;
}

static void huge_counts(bool tracked)
{
	uint32_t pfns[512];
	struct ovc_range range;
	struct ovc_donation d = { .size = sizeof(d) };
	struct world w;
	bool told; /* which pages are huge: since Linux 6.7 */
	size_t had;

	if (!open_huge(&w, tracked))
		cr_skip_test("no huge pages to be had");
	told = host_stats(&w).features & OVC_FEATURE_PAGEMAP_SCAN;
	had = smaps_bytes(w.mem, "AnonHugePages:");
	for (uint32_t i = 0; i < 512; i++)
		pfns[i] = 511 - i;
	/* A whole one, as frames: none is broken. */
	cr_assert_eq(inflate(&w, pfns, 512).huge, 0);
	cr_assert_eq(smaps_bytes(w.mem, "AnonHugePages:"), had - HUGE);
	/* As a range, too. */
	range = (struct ovc_range){ w.mem + HUGE, HUGE };
	cr_assert_eq(ovc_vm_balloon_report(w.vm, &range, 1, &d), 0);
	cr_assert_eq(d.given, 512);
	cr_assert_eq(d.huge, 0);
	cr_assert_eq(smaps_bytes(w.mem, "AnonHugePages:"), had - 2 * HUGE);
	/* A part of one breaks it, once. */
	pfns[0] = 2 * 512 + 7;
	pfns[1] = 2 * 512 + 99;
	cr_assert_eq(inflate(&w, pfns, 2).huge, told);
	pfns[0]++;
	cr_assert_eq(inflate(&w, pfns, 1).huge, 0);
	cr_assert_eq(vm_stats(&w).huge_broken, told);
	cr_assert_eq(smaps_bytes(w.mem, "AnonHugePages:"), had - 3 * HUGE);
	ovc_vm_destroy(&w.vm, 0);
	ovc_host_destroy(&w.host);
}

Test(balloon, huge_pages_are_counted_when_they_break)
{
	huge_counts(false);
}

Test(balloon, huge_pages_are_counted_when_they_break_tracked)
{
	huge_counts(true);
}

/* ---- report ---------------------------------------------------------------------- */

ParameterizedTestParameters(balloon, reported_ranges_are_dropped_not_ballooned)
{
	way_params();
}

ParameterizedTest(struct balloon_way *b, balloon,
		  reported_ranges_are_dropped_not_ballooned)
{
	struct ovc_donation d = { .size = sizeof(d) };
	struct ovc_range r[7];
	struct ovc_vm_stats s;
	struct world w;

	open_full(&w, b);
	r[0] = (struct ovc_range){ w.mem + 64 * PAGE, 64 * PAGE };
	r[1] = (struct ovc_range){ w.mem, PAGE };
	/* Only whole pages of it. */
	r[2] = (struct ovc_range){ w.mem + 4 * PAGE + 1, 2 * PAGE };
	/* Beyond the end, and nowhere. */
	r[3] = (struct ovc_range){ w.mem + (PAGES - 2) * PAGE, 3 * PAGE };
	r[4] = (struct ovc_range){ NULL, 2 * PAGE };
	r[5] = (struct ovc_range){ w.mem, SIZE_MAX };
	/* Once more, while the first may not be dropped yet. */
	r[6] = (struct ovc_range){ w.mem + 100 * PAGE, 2 * PAGE };
	cr_assert_eq(ovc_vm_balloon_report(w.vm, r, 7, &d), 0);
	cr_assert_eq(d.given, 64 + 1 + 1 + 2 + 2, "%s: %llu", name_of(b),
		     (unsigned long long)d.given);
	cr_assert_eq(d.outside, 3);
	s = vm_stats(&w);
	cr_assert_eq(s.reported_bytes, 70 * PAGE);
	cr_assert_eq(s.ballooned + s.inflated_bytes, 0);
	cr_assert_eq(s.resident, (PAGES - 68) * PAGE);
	expect_zero(&w, 0, 1);
	cr_assert_eq(check_pages(w.mem, 1, 4, 1), -1);
	expect_zero(&w, 5, 1);
	cr_assert_eq(check_pages(w.mem, 6, 58, 1), -1);
	expect_zero(&w, 64, 64);
	cr_assert_eq(check_pages(w.mem, 128, PAGES - 130, 1), -1);
	expect_zero(&w, PAGES - 2, 2);
	cr_assert_eq(vm_stats(&w).deflated_by_touch, 0);
	world_close(&w, 0);
}

/* ---- deflate, touch ---------------------------------------------------------------- */

ParameterizedTestParameters(balloon, frames_come_back_once)
{
	way_params();
}

ParameterizedTest(struct balloon_way *b, balloon, frames_come_back_once)
{
	uint32_t pfns[PAGES / 4];
	struct ovc_deflation d;
	struct world w;

	open_full(&w, b);
	frames_from(pfns, 0, PAGES / 4, 2);
	/* Never given. */
	d = deflate(&w, pfns, PAGES / 4);
	cr_assert_eq(d.taken, 0);
	cr_assert_eq(d.refused, PAGES / 4);
	cr_assert_eq(vm_stats(&w).balloon_refused, PAGES / 4);
	inflate(&w, pfns, PAGES / 8);
	shuffle(pfns, PAGES / 4, 6);
	d = deflate(&w, pfns, PAGES / 4);
	cr_assert_eq(d.taken, PAGES / 8, "%s", name_of(b));
	cr_assert_eq(d.refused, PAGES / 8);
	cr_assert_eq(d.filled, b->tracked ? PAGES / 8 : 0);
	cr_assert_eq(vm_stats(&w).ballooned, 0);
	cr_assert_eq(vm_stats(&w).deflated_bytes, PAGES / 8 * PAGE);
	for (uint64_t i = 0; i < PAGES; i++)
		cr_assert(i % 2 || i >= PAGES / 4 ?
				  is_page(w.mem + i * PAGE, i, 1) :
				  is_zero(w.mem + i * PAGE));
	cr_assert_eq(vm_stats(&w).deflated_by_touch, 0);
	fill_pages(w.mem, 0, PAGES, 7);
	cr_assert_eq(check_pages(w.mem, 0, PAGES, 7), -1);
	expect_balance(&w);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, they_come_back_filled)
{
	way_params();
}

ParameterizedTest(struct balloon_way *b, balloon, they_come_back_filled)
{
	static uint32_t pfns[PAGES];
	struct ovc_deflation d;
	uint64_t faults;
	struct world w;

	open_full(&w, b);
	frames_from(pfns, 0, PAGES, 1);
	inflate(&w, pfns, PAGES);
	/* 63 go, 300 go; a gap of frames that are there. */
	d = deflate(&w, pfns, 63);
	cr_assert_eq(d.filled, b->tracked ? 63 : 0, "%s: %llu", name_of(b),
		     (unsigned long long)d.filled);
	d = deflate(&w, pfns + 100, 300);
	cr_assert_eq(d.taken, 300);
	cr_assert_eq(d.filled, b->tracked ? 300 : 0, "%s: %llu", name_of(b),
		     (unsigned long long)d.filled);
	faults = vm_stats(&w).faults;
	fill_pages(w.mem, 100, 300, 8);
	cr_assert_eq(vm_stats(&w).faults, faults, "%s", name_of(b));
	d = deflate(&w, pfns, PAGES);
	cr_assert_eq(d.taken, PAGES - 363);
	cr_assert_eq(check_pages(w.mem, 100, 300, 8), -1);
	expect_zero(&w, 0, 100);
	expect_zero(&w, 400, PAGES - 400);
	expect_balance(&w);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, nothing_is_filled_without_room)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, balloon, nothing_is_filled_without_room)
{
	uint64_t nr = 24 * MIB / PAGE;
	uint32_t *pfns = malloc(nr * sizeof(*pfns));
	struct ovc_deflation d;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 16 * MIB,
				      .len = 24 * MIB });
	frames_from(pfns, 0, nr, 1);
	fill_pages(w.mem, 0, nr, 9);
	vm_stats(&w); /* who brings ahead is at its end */
	inflate(&w, pfns, nr);
	d = deflate(&w, pfns, nr);
	cr_assert_eq(d.taken, nr);
	cr_assert_gt(d.filled, 0);
	cr_assert_lt(d.filled * PAGE, 16 * MIB);
	cr_assert_leq(host_stats(&w).used, 16 * MIB);
	for (uint64_t i = 0; i < nr; i++)
		cr_assert(is_zero(w.mem + i * PAGE));
	world_close(&w, 0);
	free(pfns);
}

ParameterizedTestParameters(balloon, a_touch_takes_a_frame_back_and_is_counted)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, balloon,
		  a_touch_takes_a_frame_back_and_is_counted)
{
	struct balloon_way b = { *way, true };
	uint32_t pfns[200];
	struct ovc_vm_stats s;
	struct world w;

	open_full(&w, &b);
	frames_from(pfns, 0, 200, 1);
	inflate(&w, pfns, 200);
	/* Read, and written, far enough apart that nothing is brought ahead. */
	cr_assert(is_zero(w.mem + 3 * PAGE));
	make_page(w.mem + 150 * PAGE, 150, 10);
	s = vm_stats(&w);
	cr_assert_eq(s.deflated_by_touch, 2 * PAGE);
	cr_assert_eq(s.ballooned, 198 * PAGE);
	cr_assert_eq(s.deflated_bytes, 0);
	cr_assert_eq(deflate(&w, pfns, 200).refused, 2);
	cr_assert(is_page(w.mem + 150 * PAGE, 150, 10));
	/* Not touched: looked at, brought ahead. */
	inflate(&w, pfns, 200);
	cr_assert_eq(ovc_vm_read(w.vm, w.mem, (char[8]){ 0 }, 8), 0);
	cr_assert_eq(ovc_vm_prefetch(w.vm, w.mem, PAGES * PAGE), 0);
	fill_pages(w.mem, 300, 32, 11);
	usleep(50000);
	cr_assert_eq(vm_stats(&w).ballooned, 200 * PAGE);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, reading_ahead_stops_at_the_balloon)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

/* A guest that writes fresh pages in order is helped, but not to what it gave away. */
ParameterizedTest(struct way *way, balloon, reading_ahead_stops_at_the_balloon)
{
	struct balloon_way b = { *way, true };
	static uint32_t pfns[PAGES];
	struct world w;

	open_full(&w, &b);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem, 512 * PAGE), 0);
	frames_from(pfns, 512, PAGES - 512, 1);
	inflate(&w, pfns, PAGES - 512);
	fill_pages(w.mem, 0, 512, 12);
	cr_assert_eq(vm_stats(&w).ballooned, (PAGES - 512) * PAGE);
	cr_assert_eq(vm_stats(&w).deflated_by_touch, 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(balloon, touches_before_tracking_are_found_out)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, balloon,
		  touches_before_tracking_are_found_out)
{
	struct balloon_way b = { *way, false };
	uint32_t pfns[64];
	struct world w;

	open_full(&w, &b);
	frames_from(pfns, 0, 64, 1);
	inflate(&w, pfns, 64);
	fill_pages(w.mem, 10, 5, 13);
	cr_assert_eq(vm_stats(&w).ballooned, 64 * PAGE); /* unseen */
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem + 512 * PAGE, PAGE), 0);
	cr_assert_eq(vm_stats(&w).tracked, 1);
	cr_assert_eq(vm_stats(&w).ballooned, 59 * PAGE);
	cr_assert_eq(vm_stats(&w).deflated_by_touch, 5 * PAGE);
	cr_assert_eq(check_pages(w.mem, 10, 5, 13), -1);
	/* Given once more, they go. */
	cr_assert_eq(inflate(&w, pfns, 64).given, 5);
	expect_zero(&w, 0, 64);
	world_close(&w, 0);
}

/* ---- the device -------------------------------------------------------------------- */

Test(balloon, the_target_is_the_larger_of_two_within_the_cap)
{
	struct world w;

	world_open(&w, (struct plan){ .len = 100 * PAGE });
	ovc_balloon_set_target(w.vm, 10 * PAGE); /* no driver: forgotten */
	cr_assert_eq(target_of(&w), 0);
	set_driver(&w, OVC_BALLOON_DRIVER, 0);
	cr_assert_eq(target_of(&w), 0);
	ovc_balloon_set_target(w.vm, 10 * PAGE + 1);
	cr_assert_eq(target_of(&w), 10 * PAGE);
	cr_assert_eq(ovc_vm_balloon_ask(w.vm, 20 * PAGE), 0);
	cr_assert_eq(target_of(&w), 20 * PAGE);
	ovc_balloon_set_target(w.vm, 100 * PAGE);
	cr_assert_eq(target_of(&w), 65 * PAGE); /* the default cap */
	cr_assert_eq(vm_stats(&w).balloon_target, 65 * PAGE);
	cr_assert_eq(ovc_vm_balloon_ask(w.vm, 65 * PAGE), 0);
	expect_error("ask", ovc_vm_balloon_ask(w.vm, 66 * PAGE), -EINVAL,
		     "cap");
	set_driver(&w, OVC_BALLOON_DRIVER, 30);
	cr_assert_eq(target_of(&w), 30 * PAGE);
	ovc_balloon_set_target(w.vm, 0);
	cr_assert_eq(ovc_vm_balloon_ask(w.vm, 0), 0);
	cr_assert_eq(target_of(&w), 0);
	world_close(&w, 0);
}

Test(balloon, the_descriptor_says_when_the_target_changed)
{
	struct world w;
	int fd;

	world_open(&w, (struct plan){ .len = 100 * PAGE });
	set_driver(&w, OVC_BALLOON_DRIVER, 0);
	cr_assert_eq(ovc_vm_balloon_ask(w.vm, PAGE), 0);
	fd = ovc_vm_balloon_fd(w.vm);
	cr_assert_geq(fd, 0);
	cr_assert_eq(ovc_vm_balloon_fd(w.vm), fd);
	cr_assert(readable(fd)); /* it was set before */
	cr_assert_eq(target_of(&w), PAGE);
	cr_assert(!readable(fd));
	cr_assert_eq(ovc_vm_balloon_ask(w.vm, PAGE), 0);
	cr_assert(!readable(fd)); /* the same */
	ovc_balloon_set_target(w.vm, 7 * PAGE);
	cr_assert(readable(fd));
	ovc_balloon_set_target(w.vm, 8 * PAGE);
	cr_assert_eq(target_of(&w), 8 * PAGE);
	cr_assert(!readable(fd));
	set_driver(&w, 0, 0);
	cr_assert(readable(fd));
	cr_assert_eq(target_of(&w), 0);
	world_close(&w, 0);
	cr_assert_eq(fcntl(fd, F_GETFD), -1);
}

Test(balloon, a_descriptor_that_cannot_be_had_is_an_error)
{
	struct rlimit had, none = { 0 };
	struct world w;

	world_open(&w, (struct plan){ 0 });
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &had), 0);
	none.rlim_max = had.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	expect_error("fd", ovc_vm_balloon_fd(w.vm), -EMFILE, "eventfd");
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &had), 0);
	cr_assert_geq(ovc_vm_balloon_fd(w.vm), 0);
	world_close(&w, 0);
}

Test(balloon, a_guest_out_of_memory_lowers_the_target_at_once)
{
	uint32_t pfns[60];
	uint64_t pages = 0;
	struct world w;
	int fd;

	world_open(&w, (struct plan){ .len = 100 * PAGE });
	set_driver(&w, OVC_BALLOON_DRIVER | OVC_BALLOON_DEFLATE_ON_OOM, 0);
	frames_from(pfns, 0, 60, 1);
	inflate(&w, pfns, 60);
	cr_assert_eq(ovc_vm_balloon_ask(w.vm, 60 * PAGE), 0);
	ovc_balloon_set_target(w.vm, 65 * PAGE);
	fd = ovc_vm_balloon_fd(w.vm);
	cr_assert_eq(target_of(&w), 65 * PAGE);
	cr_assert_eq(ovc_vm_balloon_oom(w.vm, 10 * PAGE - 1, &pages), 0);
	cr_assert_eq(pages, 10);
	cr_assert(readable(fd));
	cr_assert_eq(target_of(&w), 50 * PAGE);
	/* Not let go yet: no more than before. */
	cr_assert_eq(ovc_vm_balloon_oom(w.vm, 10 * PAGE, &pages), 0);
	cr_assert_eq(target_of(&w), 50 * PAGE);
	deflate(&w, pfns, 10);
	cr_assert_eq(ovc_vm_balloon_oom(w.vm, UINT64_MAX, &pages), 0);
	cr_assert_eq(pages, 50);
	cr_assert_eq(target_of(&w), 0);
	world_close(&w, 0);
}

Test(balloon, what_the_guest_says_is_kept_unless_it_cannot_be)
{
	struct ovc_balloon_stat stats[] = {
		{ OVC_BALLOON_S_MEMFREE, 10 }, { OVC_BALLOON_S_MEMTOT, 100 },
		{ OVC_BALLOON_S_SWAP_IN, 1 },  { OVC_BALLOON_S_HTLB_PGFAIL, 2 },
		{ OVC_BALLOON_S_ALL, 77 },     { UINT16_MAX, 78 },
		{ OVC_BALLOON_S_AVAIL, 100 },
	};
	struct ovc_balloon_stat bad[] = { { OVC_BALLOON_S_SWAP_IN, 9 },
					  { OVC_BALLOON_S_MEMFREE, 101 } };
	struct ovc_vm_stats s;
	struct world w;

	world_open(&w, (struct plan){ 0 });
	set_driver(&w, OVC_BALLOON_DRIVER, 0);
	for (int i = 0; i < OVC_BALLOON_S_NR; i++)
		cr_assert_eq(vm_stats(&w).guest[i], OVC_UNKNOWN);
	cr_assert_eq(ovc_vm_balloon_stats(w.vm, stats, 7), 0, "%s",
		     ovc_error());
	s = vm_stats(&w);
	cr_assert_eq(s.guest[OVC_BALLOON_S_MEMFREE], 10);
	cr_assert_eq(s.guest[OVC_BALLOON_S_MEMTOT], 100);
	cr_assert_eq(s.guest[OVC_BALLOON_S_SWAP_IN], 1);
	cr_assert_eq(s.guest[OVC_BALLOON_S_HTLB_PGFAIL], 2);
	cr_assert_eq(s.guest[OVC_BALLOON_S_AVAIL], 100);
	cr_assert_eq(s.guest[OVC_BALLOON_S_CACHES], OVC_UNKNOWN);
	for (uint16_t tag = OVC_BALLOON_S_MEMFREE; tag <= OVC_BALLOON_S_CACHES;
	     tag++) {
		bad[1].tag = tag;
		if (tag == OVC_BALLOON_S_MEMTOT)
			continue;
		expect_error("stats", ovc_vm_balloon_stats(w.vm, bad, 2),
			     -EINVAL, "cannot be");
		cr_assert_eq(vm_stats(&w).guest[OVC_BALLOON_S_SWAP_IN], 1);
	}
	bad[1] = (struct ovc_balloon_stat){ OVC_BALLOON_S_MEMTOT, 99 };
	expect_error("stats", ovc_vm_balloon_stats(w.vm, bad, 2), -EINVAL,
		     "cannot be");
	bad[1].value = OVC_UNKNOWN;
	cr_assert_eq(ovc_vm_balloon_stats(w.vm, bad, 2), 0);
	cr_assert_eq(ovc_vm_balloon_reached(w.vm, 7 * PAGE), 0);
	cr_assert_eq(vm_stats(&w).balloon_reached, 7 * PAGE);
	set_driver(&w, 0, 0);
	cr_assert_eq(vm_stats(&w).balloon_reached, 0);
	cr_assert_eq(vm_stats(&w).guest[OVC_BALLOON_S_SWAP_IN], OVC_UNKNOWN);
	world_close(&w, 0);
}

/* As Linux 6.12 sends them: sixteen, and not in the order of their numbers. */
Test(balloon, all_sixteen_statistics_are_taken_in_any_order)
{
	static const uint16_t order[] = { 0,  1,  2, 3, 10, 11, 12, 13,
					  14, 15, 8, 9, 4,  5,	6,  7 };
	struct ovc_balloon_stat stats[OVC_BALLOON_S_ALL];
	struct ovc_vm_stats s;
	struct world w;

	world_open(&w, (struct plan){ 0 });
	set_driver(&w, OVC_BALLOON_DRIVER, 0);
	s = vm_stats(&w);
	for (unsigned i = 0; i < OVC_BALLOON_S_ALL; i++)
		cr_assert_eq(OVC_VM_STATS_GUEST(&s, i), OVC_UNKNOWN);
	for (unsigned i = 0; i < OVC_BALLOON_S_ALL; i++)
		stats[i] =
			(struct ovc_balloon_stat){ order[i], 100 + order[i] };
	stats[13].value = 1000; /* in all */
	cr_assert_eq(ovc_vm_balloon_stats(w.vm, stats, OVC_BALLOON_S_ALL), 0,
		     "%s", ovc_error());
	s = vm_stats(&w);
	for (unsigned i = 0; i < OVC_BALLOON_S_ALL; i++)
		cr_assert_eq(OVC_VM_STATS_GUEST(&s, i),
			     i == OVC_BALLOON_S_MEMTOT ? 1000 : 100 + i,
			     "tag %u", i);
	cr_assert_eq(s.guest_more[OVC_BALLOON_S_OOM_KILL - OVC_BALLOON_S_NR],
		     110);
	set_driver(&w, 0, 0);
	s = vm_stats(&w);
	for (unsigned i = 0; i < OVC_BALLOON_S_ALL; i++)
		cr_assert_eq(OVC_VM_STATS_GUEST(&s, i), OVC_UNKNOWN);
	world_close(&w, 0);
}

/* A driver's first buffer comes before it says that it is ready. */
Test(balloon, statistics_that_come_before_the_driver_are_kept)
{
	struct ovc_balloon_stat stats[] = { { OVC_BALLOON_S_MEMFREE, 10 },
					    { OVC_BALLOON_S_MEMTOT, 100 } };
	struct world w;

	world_open(&w, (struct plan){ 0 });
	cr_assert_eq(ovc_vm_balloon_stats(w.vm, stats, 2), 0, "%s",
		     ovc_error());
	cr_assert_eq(vm_stats(&w).guest[OVC_BALLOON_S_MEMFREE], 10);
	set_driver(&w, OVC_BALLOON_DRIVER, 0);
	cr_assert_eq(vm_stats(&w).guest[OVC_BALLOON_S_MEMFREE], 10);
	set_driver(&w, 0, 0);
	cr_assert_eq(vm_stats(&w).guest[OVC_BALLOON_S_MEMFREE], OVC_UNKNOWN);
	world_close(&w, 0);
}

/* ---- by address ---------------------------------------------------------------- */

ParameterizedTestParameters(balloon, ranges_are_counted_as_frames_are)
{
	way_params();
}

ParameterizedTest(struct balloon_way *b, balloon,
		  ranges_are_counted_as_frames_are)
{
	struct ovc_region_options o = { .size = sizeof(o),
					.len = 32 * PAGE,
					.gpa = OVC_GPA_NONE };
	struct ovc_donation d = { .size = sizeof(d) };
	struct ovc_deflation back = { .size = sizeof(back) };
	struct ovc_range range[4];
	struct world w;
	char *mem, *none;
	int fd;

	open_full(&w, b);
	o.addr = mem = map_memory(b->way.kind, o.len, &o.memfd);
	none = map_memory(ANON, 8 * PAGE, &fd);
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	fill_pages(mem, 0, 32, 2);
	fill_pages(none, 0, 8, 3);
	/* Only whole pages count; another region; memory that is nobody's. */
	range[0] = (struct ovc_range){ w.mem + 8 * PAGE - 1, 4 * PAGE + 2 };
	range[1] = (struct ovc_range){ mem, 32 * PAGE };
	range[2] = (struct ovc_range){ none, 8 * PAGE };
	range[3] = (struct ovc_range){ w.mem + 10 * PAGE, 4 * PAGE };
	cr_assert_eq(ovc_vm_balloon_inflate_ranges(w.vm, range, 4, &d), 0, "%s",
		     ovc_error());
	cr_assert_eq(d.given, 4 + 32 + 2, "%s: %u", name_of(b),
		     (unsigned)d.given);
	cr_assert_eq(d.again, 2);
	cr_assert_eq(d.outside, 8);
	cr_assert_eq(vm_stats(&w).ballooned, 38 * PAGE);
	cr_assert_eq(vm_stats(&w).inflated_bytes, 38 * PAGE);
	cr_assert_eq(vm_stats(&w).balloon_refused, 8);
	cr_assert_eq(check_pages(none, 0, 8, 3), -1);
	cr_assert_eq(check_pages(w.mem, 0, 8, 1), -1);
	cr_assert_eq(check_pages(w.mem, 14, PAGES - 14, 1), -1);
	/* Taken back by number or by address, as it comes. */
	cr_assert_eq(deflate(&w, (uint32_t[]){ FRAME(8), FRAME(9) }, 2).taken,
		     2);
	range[0] = (struct ovc_range){ w.mem + 8 * PAGE, 6 * PAGE };
	cr_assert_eq(ovc_vm_balloon_deflate_ranges(w.vm, range, 3, &back), 0);
	cr_assert_eq(back.taken, 4 + 32);
	cr_assert_eq(back.refused, 2);
	cr_assert_eq(back.outside, 8);
	cr_assert_eq(vm_stats(&w).ballooned, 0);
	cr_assert_eq(vm_stats(&w).deflated_bytes, 38 * PAGE);
	expect_zero(&w, 8, 6);
	for (size_t i = 0; i < 32; i++)
		cr_assert(is_zero(mem + i * PAGE));
	world_close(&w, 0);
}

Test(balloon, a_pinned_page_of_a_range_stays)
{
	struct balloon_way b = { both_kinds[0], true };
	struct ovc_donation d = { .size = sizeof(d) };
	struct ovc_range range;
	struct world w;

	open_full(&w, &b);
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem + 3 * PAGE, PAGE), 0);
	range = (struct ovc_range){ w.mem, 8 * PAGE };
	cr_assert_eq(ovc_vm_balloon_inflate_ranges(w.vm, &range, 1, &d), 0);
	cr_assert_eq(d.given, 7);
	cr_assert_eq(d.pinned, 1);
	cr_assert_eq(check_pages(w.mem, 3, 1, 1), -1);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem + 3 * PAGE, PAGE), 0);
	world_close(&w, 0);
}

/* page_reporting_order=0: each free page by itself. */
ParameterizedTestParameters(balloon, reports_of_single_pages_are_taken)
{
	way_params();
}

ParameterizedTest(struct balloon_way *b, balloon,
		  reports_of_single_pages_are_taken)
{
	struct ovc_donation d = { .size = sizeof(d) };
	struct ovc_range range[32];
	struct world w;

	open_full(&w, b);
	for (size_t i = 0; i < 32; i++)
		range[i] =
			(struct ovc_range){ w.mem + (2 * i + 1) * PAGE, PAGE };
	cr_assert_eq(ovc_vm_balloon_report(w.vm, range, 32, &d), 0);
	cr_assert_eq(d.given, 32);
	cr_assert_eq(vm_stats(&w).reported_bytes, 32 * PAGE);
	cr_assert_eq(vm_stats(&w).ballooned, 0);
	for (uint64_t i = 0; i < 64; i++)
		cr_assert_eq(is_zero(w.mem + i * PAGE), i % 2, "page %u",
			     (unsigned)i);
	world_close(&w, 0);
}

/* ---- a driver that goes ---------------------------------------------------------- */

struct told {
	_Atomic uint64_t reached, ballooned;
	_Atomic unsigned decisions;
};

static void note_told(const struct ovc_policy_snapshot *s,
		      const struct ovc_policy_decision *d, void *opaque)
{
	struct told *told = opaque;

	(void)d;
	if (s->nr_vms != 1)
		return;
	atomic_store(&told->reached, s->vms[0].balloon_reached);
	atomic_store(&told->ballooned, s->vms[0].ballooned);
	atomic_fetch_add(&told->decisions, 1);
}

static void next_decision(struct told *told)
{
	unsigned was = atomic_load(&told->decisions);

	for (int i = 0; i < 4000 && atomic_load(&told->decisions) < was + 2;
	     i++)
		usleep(5000);
	cr_assert_geq(atomic_load(&told->decisions), was + 2);
}

/* Unbound or suspended, it deflates all, and says so at the end. What it said before
 * is no lie meanwhile. */
Test(balloon, what_a_driver_said_before_a_deflation_is_not_held_against_it)
{
	struct told told = { 0 };
	struct ovc_host_options h = { .size = sizeof(h),
				      .budget = 16 * MIB,
				      .share = OVC_SHARE_NEVER,
				      .policy_period = 10,
				      .policy_trace = note_told,
				      .opaque = &told };
	struct ovc_balloon_options driver = { .size = sizeof(driver),
					      .flags = OVC_BALLOON_DRIVER };
	struct ovc_region_options r = { .size = sizeof(r), .len = 32 * MIB };
	struct ovc_host *host;
	struct ovc_vm *vm;
	uint32_t pfns[256];

	need_userfaultfd();
	for (uint32_t i = 0; i < 256; i++)
		pfns[i] = i;
	r.addr = map_memory(ANON, r.len, &r.memfd);
	cr_assert_eq(ovc_host_create(&h, &host), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_create(host, NULL, &vm), 0);
	cr_assert_eq(ovc_vm_add_region(vm, &r), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_balloon_set(vm, &driver), 0);
	cr_assert_eq(ovc_vm_balloon_inflate(vm, pfns, 256, NULL), 0);
	cr_assert_eq(ovc_vm_balloon_reached(vm, 256 * PAGE), 0);
	next_decision(&told);
	cr_assert_eq(atomic_load(&told.reached), 256 * PAGE);
	cr_assert_eq(ovc_vm_balloon_deflate(vm, pfns, 128, NULL), 0);
	next_decision(&told);
	cr_assert_eq(atomic_load(&told.ballooned), 128 * PAGE);
	cr_assert_eq(atomic_load(&told.reached), OVC_POLICY_UNKNOWN);
	cr_assert_eq(ovc_vm_balloon_deflate(vm, pfns + 128, 128, NULL), 0);
	cr_assert_eq(ovc_vm_balloon_reached(vm, 0), 0);
	next_decision(&told);
	cr_assert_eq(atomic_load(&told.reached), 0);
	cr_assert_eq(atomic_load(&told.ballooned), 0);
	ovc_vm_destroy(&vm, OVC_THROW_AWAY);
	ovc_host_destroy(&host);
}

Test(balloon, a_driver_that_goes_empties_the_balloon)
{
	uint32_t pfns[64];
	struct world w;

	world_open(&w, (struct plan){ 0 });
	set_driver(&w, OVC_BALLOON_DRIVER, 0);
	frames_from(pfns, 0, 64, 1);
	inflate(&w, pfns, 64);
	cr_assert_eq(ovc_vm_balloon_ask(w.vm, 64 * PAGE), 0);
	cr_assert_eq(ovc_vm_balloon_set(w.vm, NULL), 0);
	cr_assert_eq(vm_stats(&w).ballooned, 0);
	cr_assert_eq(target_of(&w), 0);
	cr_assert_eq(deflate(&w, pfns, 64).refused, 64);
	set_driver(&w, OVC_BALLOON_DRIVER, 0);
	cr_assert_eq(target_of(&w), 0); /* asked of the one that went */
	cr_assert_eq(inflate(&w, pfns, 64).given, 64);
	world_close(&w, 0);
}

/* ---- all at once --------------------------------------------------------------------- */

#define OWNED 16 /* pages to a lot: with the guest, or in the balloon */

struct storm {
	struct world w;
	uint64_t lots;
	_Atomic int *state; /* of each lot */
	unsigned *seed;	    /* what its pages hold; 0: zeros */
	_Atomic bool stop;
	_Atomic uint64_t wrong, rounds, refused;
};

enum { WITH_GUEST, BUSY };

static void *storm_guest(void *arg)
{
	struct storm *s = arg;
	unsigned rnd = (unsigned)(uintptr_t)&rnd, seed = 1;
	uint32_t pfns[OWNED];

	while (!atomic_load(&s->stop)) {
		uint64_t lot = (uint64_t)rand_r(&rnd) % s->lots;
		int with = WITH_GUEST;

		if (!atomic_compare_exchange_strong(&s->state[lot], &with,
						    BUSY))
			continue;
		for (uint64_t i = lot * OWNED; i < (lot + 1) * OWNED; i++)
			atomic_fetch_add(&s->wrong,
					 s->seed[lot] ?
						 !is_page(s->w.mem + i * PAGE,
							  i, s->seed[lot]) :
						 !is_zero(s->w.mem + i * PAGE));
		frames_from(pfns, lot * OWNED, OWNED, 1);
		shuffle(pfns, OWNED, 1);
		switch (rand_r(&rnd) % 4) {
		case 0:
			atomic_fetch_add(&s->refused,
					 ovc_vm_balloon_inflate(s->w.vm, pfns,
								OWNED,
								NULL) != 0);
			s->seed[lot] = 0;
			if (rand_r(&rnd) % 4)
				ovc_vm_balloon_deflate(s->w.vm, pfns, OWNED,
						       NULL);
			break;
		case 1:
			break;
		default:
			s->seed[lot] = ++seed;
			fill_pages(s->w.mem, lot * OWNED, OWNED, seed);
		}
		atomic_fetch_add(&s->rounds, 1);
		atomic_store(&s->state[lot], WITH_GUEST);
	}
	return NULL;
}

/* A guest that gives what it goes on using, and takes what it never gave: it harms
 * nobody but itself. */
static void *storm_liar(void *arg)
{
	struct storm *s = arg;
	uint64_t from = s->lots * OWNED, nr = s->w.len / PAGE - from;
	unsigned rnd = 7;
	uint32_t pfns[256];

	while (!atomic_load(&s->stop)) {
		for (int i = 0; i < 256; i++) {
			pfns[i] = FRAME(from + (uint64_t)rand_r(&rnd) % nr);
			s->w.mem[(from + (uint64_t)rand_r(&rnd) % nr) * PAGE] =
				1;
		}
		ovc_vm_balloon_inflate(s->w.vm, pfns, 256, NULL);
		ovc_vm_balloon_deflate(s->w.vm, pfns + 100, 100, NULL);
	}
	return NULL;
}

ParameterizedTestParameters(balloon, guests_write_while_frames_come_and_go)
{
	static struct way ways[] = { { ANON, 0 },
				     { MEMFD, 0 },
				     { ANON, OVC_FEATURE_BATCH_ADVISE },
				     { MEMFD, OVC_FEATURE_BATCH_ADVISE } };

	return cr_make_param_array(struct way, ways, 4);
}

ParameterizedTest(struct way *way, balloon,
		  guests_write_while_frames_come_and_go)
{
	struct storm *s = calloc(1, sizeof(*s));
	static uint32_t pfns[16384];
	pthread_t thread[4];
	void *states;
	uint64_t nr;

	world_open(&s->w, (struct plan){ .way = *way,
					 .budget = 24 * MIB,
					 .len = 48 * MIB });
	nr = s->w.len / PAGE;
	s->lots = nr / OWNED * 3 / 4;
	s->state = states = calloc(s->lots, sizeof(*s->state));
	s->seed = calloc(s->lots, sizeof(*s->seed));
	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL,
					    i ? storm_guest : storm_liar, s),
			     0);
	for (int i = 0; i < 30; i++) {
		usleep(100000);
		ovc_vm_reclaim(s->w.vm, s->w.mem, s->w.len / 4);
	}
	atomic_store(&s->stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(atomic_load(&s->refused), 0);
	cr_assert_eq(atomic_load(&s->wrong), 0, "%s: %llu pages",
		     way_name(*way), (unsigned long long)s->wrong);
	cr_assert_gt(atomic_load(&s->rounds), 100);
	/* All that is in the balloon is absent, and all of it goes back. */
	frames_from(pfns, 0, nr, 1);
	inflate(&s->w, pfns, nr);
	cr_assert_eq(vm_stats(&s->w).ballooned, s->w.len);
	cr_assert_eq(vm_stats(&s->w).resident, 0);
	/* A slot that is being written is free when that is done. */
	for (int i = 0; i < 1000 && vm_stats(&s->w).swap_used; i++)
		usleep(5000);
	cr_assert_eq(vm_stats(&s->w).swap_used, 0);
	cr_assert_eq(deflate(&s->w, pfns, nr).taken, nr);
	cr_assert_eq(vm_stats(&s->w).ballooned, 0);
	world_close(&s->w, 0);
	free(states);
	free(s->seed);
	free(s);
}
