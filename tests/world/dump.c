/* SPDX-License-Identifier: MIT */
/*
 * Core dumps: of guests there is in them what the VMM's own mappings have, unless it
 * advised against that, and nothing through the library's.
 */
#include "world.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define LEN (32 * MIB)
#define ROW 16 /* words in a row that are no chance */

TestSuite(dump, .timeout = 120);

struct crash {
	enum kind kind;
	bool dump; /* the VMM has nothing against it */
	pid_t pid; /* out */
	int step;  /* out: how far it came */
};

/* Computed, so that no page of the program has it. */
static uint64_t mark(void)
{
	static volatile uint64_t seed = 0x1234567;

	return seed * 0x9e3779b97f4a7c15;
}

static void mark_pages(char *mem)
{
	uint64_t *word = (uint64_t *)(void *)mem, m = mark();

	for (size_t i = 0; i < LEN / sizeof(*word); i++)
		word[i] = m;
	/* Half of them differ, in their last word. */
	for (size_t i = 0; i < LEN / PAGE; i += 2)
		word[i * 512 + 511] = i;
}

static int crash(void *arg)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	struct ovc_host_options h = { .size = sizeof(h),
				      .budget = 16 * MIB,
				      .share = OVC_SHARE_ALWAYS,
				      .share_cpu = 100 };
	struct ovc_vm_options v = { .size = sizeof(v), .swap = swap_dir() };
	struct ovc_region_options r = { .size = sizeof(r),
					.len = LEN,
					.flags = OVC_REGION_UNSHARED_MEMFD };
	struct ovc_host_stats s = { .size = sizeof(s) };
	struct crash *c = arg;
	struct ovc_host *host;
	struct ovc_vm *vm;
	char copy[2 * PAGE];

	c->pid = getpid();
	if (setrlimit(RLIMIT_CORE, &all))
		return 1;
	r.addr = map_memory(c->kind, LEN, &r.memfd);
	if (!c->dump)
		madvise(r.addr, LEN, MADV_DONTDUMP);
	c->step = 1;
	if (ovc_host_create(&h, &host) || ovc_vm_create(host, &v, &vm) ||
	    ovc_vm_add_region(vm, &r))
		return 1;
	c->step = 2;
	mark_pages(r.addr);
	for (unsigned i = 0; i < 2000 && s.shared_bytes < LEN / 4; i++) {
		usleep(5000);
		ovc_host_stats(host, &s);
	}
	c->step = 3;
	/* Through the caller's stack, and back by read-ahead. */
	if (ovc_vm_read(vm, (char *)r.addr + 100, copy, PAGE))
		return 1;
	explicit_bzero(copy, sizeof(copy));
	ovc_vm_reclaim(vm, r.addr, LEN);
	for (size_t i = 0; i < LEN / 4; i += PAGE)
		(void)*(volatile char *)((char *)r.addr + i);
	c->step = 4;
	signal(SIGABRT, SIG_DFL);
	abort();
}

/* Rows of the mark in a file, holes left out. */
static uint64_t count_rows(int fd, off_t size)
{
	const uint64_t *word =
		mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	uint64_t rows = 0, m = mark();

	cr_assert_neq(word, MAP_FAILED);
	for (off_t at = 0, end; at < size; at = end) {
		unsigned same = 0;

		at = lseek(fd, at, SEEK_DATA);
		if (at < 0)
			break;
		end = lseek(fd, at, SEEK_HOLE);
		for (off_t i = at / 8; i < end / 8; i++) {
			same = word[i] == m ? same + 1 : 0;
			rows += same == ROW;
		}
	}
	munmap((void *)(uintptr_t)word, (size_t)size);
	return rows;
}

/* Returns how many rows of guests' bytes the dump has. */
static uint64_t dump(struct crash how, struct stat *st)
{
	struct crash *c = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char path[200];
	uint64_t rows;
	int fd;

	cr_assert_neq(c, MAP_FAILED);
	*c = how;
	cr_assert_eq(in_child(crash, c, 60), 128 + SIGABRT, "step %d: %s",
		     c->step, ovc_error());
	snprintf(path, sizeof(path), "%s/core.%d", own_dir(), (int)c->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		cr_skip_test("this machine writes no core dump here");
	cr_assert_eq(fstat(fd, st), 0);
	rows = count_rows(fd, st->st_size);
	close(fd);
	unlink(path);
	munmap(c, PAGE);
	return rows;
}

static void prepare(void)
{
	char pattern[200];

	skip_sanitized();
	need_userfaultfd();
	machine_lock();
	snprintf(pattern, sizeof(pattern), "%s/core.%%p", own_dir());
	if (strlen(pattern) > 127 ||
	    !machine_set("/proc/sys/kernel/core_pattern", pattern))
		cr_skip_test("where core dumps go cannot be set here");
	machine_undo("rm -f %s/core.*", own_dir());
}

ParameterizedTestParameters(dump,
			    has_nothing_of_a_guest_that_is_not_to_be_dumped)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, dump,
		  has_nothing_of_a_guest_that_is_not_to_be_dumped)
{
	struct stat st;

	prepare();
	cr_assert_eq(dump((struct crash){ .kind = way->kind }, &st), 0);
	/* Tables, windows, the store: they are mostly empty, and reading empty
	 * shared memory makes it memory. */
	cr_assert_leq(st.st_size, 384 * (off_t)MIB);
	cr_assert_leq(st.st_blocks * 512, 24 * (off_t)MIB);
}

/* So that the test above could fail; no page of it is there twice, either. */
ParameterizedTestParameters(dump, has_what_the_vmm_lets_be_dumped_once)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, dump, has_what_the_vmm_lets_be_dumped_once)
{
	struct stat st;
	uint64_t rows;

	prepare();
	rows = dump((struct crash){ .kind = way->kind, .dump = true }, &st);
	cr_assert_gt(rows, 0);
	cr_assert_leq(rows, LEN / PAGE);
}

/* ---- by their flags, where no dump can be had -------------------------------- */

struct seen {
	unsigned ours, dumped, store;
	char what[256];
};

/* What the library maps, children do not get; nor do they the guest's memory. */
static void look(const struct world *w, struct seen *s)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512], head[512] = "";

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;
		bool guest;

		if (sscanf(line, "%lx-%lx %*4s", &from, &to) == 2) {
			strcpy(head, line);
			continue;
		}
		if (strncmp(line, "VmFlags:", 8) || !strstr(line, " dc"))
			continue;
		sscanf(head, "%lx-%lx", &from, &to);
		guest = from < (uintptr_t)w->mem + w->len &&
			to > (uintptr_t)w->mem;
		/* The rings' descriptors and entries are not of guests. */
		if (guest || strstr(head, "io_uring"))
			continue;
		s->ours++;
		s->store += strstr(head, "memfd:") != NULL;
		if (strstr(line, " dd"))
			continue;
		s->dumped++;
		snprintf(s->what, sizeof(s->what), "%.200s", head);
	}
	fclose(f);
}

ParameterizedTestParameters(dump, no_mapping_of_the_librarys_is_dumped)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, dump, no_mapping_of_the_librarys_is_dumped)
{
	struct seen s = { 0 };
	struct world w;

	skip_sanitized();
	world_open(&w,
		   (struct plan){ .way = *way,
				  .share = OVC_SHARE_ALWAYS,
				  .share_cpu = 100,
				  .region_flags = OVC_REGION_UNSHARED_MEMFD });
	for (size_t i = 0; i < w.len; i += PAGE)
		memset(w.mem + i, 7, PAGE);
	for (int i = 0; i < 2000 && !host_stats(&w).shared_bytes; i++)
		usleep(5000);
	cr_assert_gt(host_stats(&w).shared_bytes, 0);
	look(&w, &s);
	cr_assert_geq(s.ours, 4);
	cr_assert_geq(s.store, way->kind == MEMFD ? 2 : 1);
	cr_assert_eq(s.dumped, 0, "%u, such as %s", s.dumped, s.what);
	world_close(&w, 0);
}
