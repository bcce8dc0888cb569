/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the world around the library share: settings of the machine that
 * are put back, file systems on loop devices, swap, children with a time limit.
 *
 * A test that changes the machine calls machine_lock() first. What it changed is put
 * back by a process of its own when the test's process ends, however it ends.
 */
#ifndef WORLD_H
#define WORLD_H

#include "support.h"

/* Skips the test unless root; then waits until no other test changes the machine. */
void machine_lock(void);

/* Runs a shell command at the end of the test's process, the last one said first. */
void machine_undo(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* Runs a shell command. Returns its exit status, -1 where it has none. */
int machine_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes a setting (a file of /proc or /sys) and has its old value put back. False, and
 * nothing changed, where it cannot be written. */
bool machine_set(const char *path, const char *value);

/* An empty directory with a file system of that type, of so many MiB, on a loop device,
 * gone at the end of the test. `options` are mkfs's, NULL for none. Skips the test where
 * the kernel or the tools lack it. */
const char *machine_mount(const char *type, unsigned mib, const char *options);

/* Adds so many MiB of swap to the machine, taken away at the end of the test. Skips the
 * test where there is no room or no right. */
void machine_swap_on(unsigned mib);

/* Has the kernel put a range's pages into that swap. Returns how many of them are not
 * mapped any more. */
size_t machine_page_out(char *mem, size_t len);

/* From now on the kernel hides from this process what only administrators may see
 * (CAP_SYS_ADMIN), as from a VMM that has only what it needs. */
void hide_from_us(void);

/* mlock() and munlock(), which the sanitizers make do nothing. */
int lock_memory(const void *mem, size_t len);
int unlock_memory(const void *mem, size_t len);

/* Freezes a file system that machine_mount() made: who writes there waits. It is thawed
 * by machine_thaw(), or after so many seconds, or at the end of the test. */
void machine_freeze(const char *dir, unsigned seconds);
void machine_thaw(const char *dir);

/* Runs fn in a child process. Returns its exit status; 128 and the signal that ended it;
 * or -1 where it was killed since it had not ended after so many seconds. */
int in_child(int (*fn)(void *arg), void *arg, unsigned seconds);

#endif
