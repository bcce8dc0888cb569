/* SPDX-License-Identifier: MIT */
/*
 * What the tests of files and devices share: a path that must be refused, a VMM that
 * is killed with its guest in swap, and a look for what is left.
 */
#ifndef SWAPPING_H
#define SWAPPING_H

#include "world.h"

/* ovc_vm_create() with that path is -errno and a sentence with the word. */
void refuse_swap(struct world *w, const char *path, int error,
		 const char *word);

/* A VMM that swaps a guest of so many bytes out to the path, all its pages of `seed`,
 * and is killed. Skips the test without userfaultfd. */
void swap_and_be_killed(const char *path, size_t len, unsigned seed);

/* How many pages of that guest the file or device still has. */
unsigned pages_left(const char *path, size_t len, unsigned seed);

/* The first byte that is not zero, -1 where all are. */
long first_byte(const char *path);

/* Fills a world's memory, swaps it out, and checks what comes back. */
void go_there_and_back(struct world *w, unsigned seed);

/* A file in own_dir(); up to four at a time. */
const char *own_path(const char *name);

#endif
