/* SPDX-License-Identifier: MIT */
/*
 * Reads of swap that callers ask the fault threads for: see ask.c.
 */
#ifndef OVC_ASK_H
#define OVC_ASK_H

#include "core/internal.h"

void ovc_asks_init(struct ovc_host *host);

/*
 * Has a fault thread read the pages of `what`, which the caller made READING; waits for at
 * most ns. Where `to` is set, the bytes are copied there, and the pages stay the caller's.
 *  0             they were brought in, or what could not be read of them is lost; copied
 *  -EAGAIN       nothing was read, for there is too much under way; they are the caller's
 *  -ETIMEDOUT    likewise: nobody took it
 *  -EINPROGRESS  the disk does not answer. What is to be brought in is the fault thread's
 *  else          (with `to`) the disk's word
 */
int ovc_ask_read(const struct ovc_asked *what, uint64_t ns);

/* For fault threads: the next ask, NULL if there is none. It is answered once. */
struct ovc_ask *ovc_ask_take(struct ovc_host *host);

/* False: nobody waits any more. */
bool ovc_ask_answer(struct ovc_ask *ask, int error, const char *bytes);

#endif
