/* SPDX-License-Identifier: MIT */
/*
 * What the files of the stress program share: options, the host under test, and the
 * places where guests work.
 */
#ifndef STRESS_STRESS_H
#define STRESS_STRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "overcommit.h"
#include "shadow.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature) /* clang's way to say it */
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define MIB	((size_t)1 << 20)
#define VMS	2
#define REGIONS 2

struct place {
	struct shadow mem;
	struct ovc_vm *vm;
	/* Held for reading by calls on the range, for writing by removal. */
	pthread_rwlock_t calls;
};

struct options {
	unsigned threads, scale;
	unsigned long iters, seed;
	bool anon, memfd, dispatch, sparse, unshared;
	bool compact, pageout, snapshot;
	unsigned long slow_us;
	uint32_t without;
	uint32_t share;		/* enum ovc_share_mode */
	unsigned long mappings; /* that sharing may use; 0: the default */
	const char *dir;
};

extern struct options o;
extern struct ovc_host *host;
extern struct ovc_vm *vms[VMS];
extern struct place places[VMS * REGIONS];
extern uint64_t budget;
extern pthread_mutex_t control; /* for control calls */
extern atomic_bool done;
extern _Atomic uint64_t next_tag;
extern _Atomic unsigned failures, stuck, refused, moves_failed;

/* Prints what failed, and ovc_error(); the run ends soon. */
void fail(const char *what, long is);

uint64_t random_next(uint64_t *state);
uint64_t random_state(unsigned n);

/* ---- work.c: threads ----------------------------------------------------- */

extern atomic_bool dispatch_stop;

void *guest(void *arg);
void *caller(void *arg);
void *controller(void *arg);
void *dispatcher(void *arg);
void on_event(const struct ovc_event *e, void *opaque);

int add_region(struct ovc_vm *vm, const struct shadow *s, uint64_t gpa);
struct ovc_vm *create_vm(bool apart);

/* ---- actors.c: what the machine does ------------------------------------- */

#define ACTORS 3

/* The threads that were asked for; returns how many. */
unsigned actors(void *(*fn[ACTORS])(void *arg));

/* What the machine lacks for them; and, afterwards, whether they did nothing. NULL, or a
 * sentence. */
const char *actors_lack(void);
const char *actors_idle(void);

/* ---- rest.c, walk.c: checks ---------------------------------------------- */

/* At rest: the statistics add up, and fit what the kernel says. */
void check_rest(void);

/* One look at every page word, the ring and the store; NULL, or what is wrong, which
 * may be that something is still under way. */
const char *walk(void);

struct left {
	unsigned fds, threads, mappings;
};

/* What the process has, and that it is no more than before. */
struct left what_is_left(void);
void check_left(struct left before);

#endif
