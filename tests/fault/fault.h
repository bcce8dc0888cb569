/* SPDX-License-Identifier: MIT */
/*
 * A guest whose every byte is known, and what is left behind by a library that
 * has gone.
 */
#ifndef FAULT_FAULT_H
#define FAULT_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE ((size_t)4096)

/* ---- guest.c ---------------------------------------------------------- */

struct guest {
	char *addr;
	size_t nr; /* pages */
	int fd;	   /* -1: anonymous */
	uint64_t *tags;
};

/* What a look at a page, or a write to it, came to. */
enum outcome { PAGE_GOOD, PAGE_LOST, PAGE_WRONG };

void guest_init(void);
int guest_create(struct guest *g, size_t nr, bool memfd);
void guest_destroy(struct guest *g);

static inline char *guest_page(const struct guest *g, size_t idx)
{
	return g->addr + idx * PAGE;
}

/* A page's bytes follow from its tag; 0 is all zero. PAGE_LOST is a SIGBUS. */
enum outcome guest_write(struct guest *g, size_t idx, uint64_t tag);
enum outcome guest_verify(const struct guest *g, size_t idx);
bool guest_is(const struct guest *g, size_t idx, const void *bytes);

/* ---- leaks.c ----------------------------------------------------------- */

struct held {
	unsigned fds, threads;
	unsigned mappings; /* that fork() does not copy: the library's are so */
	uint64_t bytes;	   /* of the library's own allocator */
};

void held_now(struct held *held);

/* True when there is no more than before; gives threads a moment to end. */
bool held_no_more(const struct held *before);

/* ---- scenario.c --------------------------------------------------------- */

struct scenario {
	const char *name;
	size_t pages;	  /* of each of two regions */
	uint64_t budget;  /* bytes */
	bool named;	  /* swap is a file with a name, else a directory */
	bool dispatch;	  /* the VMM's thread does the library's work */
	bool share;	  /* all the time, between two VMs */
	uint32_t without; /* OVC_FEATURE_ bits */
	double seconds;	  /* for which to fail calls; 0: all */
};

/* What is being done, for who finds it hanging; each call is a sign of life. */
void step(const char *what);
const char *step_now(void);
unsigned long step_count(void);

/* Touches that were a SIGBUS, since the last time. */
unsigned long pages_lost(void);

/* The injected failure that there was, if any, is ovc_sys_fail_what(). Returns false
 * and has said why if anything was lost, leaked, or failed without cause. */
bool scenario_run(const struct scenario *s, const char *dir, int error);

#endif
