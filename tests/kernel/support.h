/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the running kernel share: a world of one host, one VM and one
 * region; pages whose bytes follow from their index; events that were reported;
 * what a process has open.
 */
#ifndef KERNEL_SUPPORT_H
#define KERNEL_SUPPORT_H

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "overcommit.h"

#define PAGE ((size_t)OVC_PAGE_SIZE)
#define MIB  ((size_t)1 << 20)

/* A sanitizer maps, and touches, memory of its own: what counts a process's mappings
 * or memory to the page, or limits its address space, means nothing then. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* How many times longer than on a usual machine a test may wait: where all is emulated
 * (scripts/kernels) nothing is wrong that takes ten times as long. */
#ifndef PATIENCE
#define PATIENCE (SANITIZED ? 4 : 1)
#endif

#define skip_sanitized()                                               \
	do {                                                           \
		if (SANITIZED)                                         \
			cr_skip_test("the sanitizer maps memory too"); \
	} while (0)

enum kind { ANON, MEMFD };

/* Which memory, and what the library does without. */
struct way {
	enum kind kind;
	uint32_t without;
};

extern struct way both_kinds[2];

/* Both kinds with all features, with each one forced off, and with all off. */
#define WAYS_MAX 32
size_t all_ways(struct way ways[WAYS_MAX]);
const char *way_name(struct way way);

/* What is wanted of a world; zero is the default. */
struct plan {
	struct way way;
	uint64_t budget;  /* default: 256 MiB, plenty */
	size_t len;	  /* of the region; default: 4 MiB */
	const char *swap; /* default: the swap directory */
	bool no_swap;
	uint64_t swap_size;
	uint64_t limit;
	uint32_t vm_flags, host_flags;
	int32_t userfaultfd;
	uint32_t share; /* default: OVC_SHARE_NEVER */
	uint32_t share_cpu, region_flags;
	uint64_t share_mappings;
	const char *domain;
};

struct seen_event {
	int type, error;
	const struct ovc_vm *vm;
	void *addr;
	uint64_t gpa;
	size_t len;
	bool has_text;
	char vm_name[64];
	uint32_t cause;
	uint64_t count;
	char text[512];
};

#define EVENTS_MAX 256

struct world {
	struct ovc_host *host;
	struct ovc_vm *vm;
	char *mem;
	size_t len;
	int memfd; /* 0: anonymous */
	pthread_mutex_t lock;
	bool asks; /* for events: dispatch mode */
	unsigned nr_events;
	struct seen_event events[EVENTS_MAX];
	char logged[4096]; /* warnings, a line each */
};

#define WORLD_GPA ((uint64_t)1 << 32)

/* Fails the test where it cannot, skips it without userfaultfd. */
void world_open(struct world *w, struct plan plan);
void world_close(struct world *w, uint32_t flags);
struct ovc_vm_stats vm_stats(const struct world *w);
struct ovc_host_stats host_stats(const struct world *w);

/* Waits up to ten seconds for an event; false if there was none. */
bool world_event(struct world *w, int type, struct seen_event *event);
unsigned world_count_events(struct world *w, int type);

/* Was there a warning that has the word? */
bool world_logged(struct world *w, const char *word);

/* Fresh memory of a kind; *memfd is 0 for anonymous. */
char *map_memory(enum kind kind, size_t len, int *memfd);

/* A test that cannot run here ends with the reason. */
void need_userfaultfd(void);
int open_userfaultfd(void); /* one of the test's own */
void need_root(void);

/* Pages whose bytes follow from (idx, seed). check_pages() looks through the
 * mapping and returns the first wrong page, or -1. */
void make_page(void *page, uint64_t idx, unsigned seed);
bool is_page(const void *page, uint64_t idx, unsigned seed);
void fill_pages(char *mem, uint64_t idx, uint64_t nr, unsigned seed);
long check_pages(const char *mem, uint64_t idx, uint64_t nr, unsigned seed);
bool is_zero(const void *page);

/* Asserts -errno, and a sentence that has the word. */
void expect_error(const char *what, int got, int error, const char *word);

/* Directories and what is in them. Made ones are removed at exit. */
const char *swap_dir(void);
const char *own_dir(void);
unsigned count_files(const char *dir);

/* What the process has. */
struct belongings {
	unsigned fds, threads, mappings;
};
struct belongings belongings(void);

/* The number of a line "Name:  123 kB" of smaps of the mapping at addr, in
 * bytes; and whether its VmFlags has the flag. */
size_t smaps_bytes(const void *addr, const char *name);
bool smaps_flag(const void *addr, const char *flag);
size_t present_pages(const void *addr, size_t len);

/* Touches a page and says which signal that gave (0: none), with its code. */
int touch_signal(volatile char *addr, int *code, void **where);

/* From now on this system call fails. False where seccomp is refused. */
bool deny_syscall(int nr, int error);

/* A file system of its own for this process: a tmpfs of so many bytes. Skips
 * the test where that is refused. */
const char *own_tmpfs(size_t bytes);
void resize_tmpfs(const char *dir, size_t bytes);

#endif
