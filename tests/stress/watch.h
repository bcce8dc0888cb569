/* SPDX-License-Identifier: MIT */
/*
 * Who is doing what, and a watchdog that says so and aborts when one of them has
 * made no progress for WATCH_SECONDS.
 */
#ifndef STRESS_WATCH_H
#define STRESS_WATCH_H

#include <stddef.h>

#define WATCH_SECONDS 100

struct watched;

void watch_start(void);
void watch_stop(void);

/* Called by the thread to be watched, when it begins and ends. */
struct watched *watch_join(const char *who, unsigned n);
void watch_leave(struct watched *w);

/* The thread begins to do something: `what` must be a literal. */
void watch(struct watched *w, const char *what, const void *addr);

#endif
