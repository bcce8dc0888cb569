/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous reads and writes of swap files: io_uring, or where that is refused
 * (seccomp, sysctl, old kernel) threads with preadv and pwritev. A ring belongs to
 * the thread that first submits to it, or that says so: what io_uring has done, the kernel
 * tells when the thread that submitted it leaves the kernel next, whatever keeps it there.
 * A submit by another thread is a bug and aborts. ovc_ring_set_file() may be called from
 * any thread, and what says so.
 */
#ifndef OVC_SYS_RING_H
#define OVC_SYS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct ovc_ring;

struct ovc_ring_options {
	unsigned depth; /* I/Os that can be in flight */
	void *buffers;	/* memory to register, or NULL */
	size_t buffers_len;
	unsigned files; /* size of the table of files */
	bool io_uring, fixed_buffers, fixed_files; /* may use */
};

struct ovc_ring_io {
	bool write;
	bool fixed;	   /* iov[0] lies in the registered buffers */
	unsigned file;	   /* index given to ovc_ring_set_file() */
	int fd;		   /* the same file */
	struct iovec *iov; /* valid until the I/O is done */
	unsigned nr_iov;
	unsigned disk; /* I/Os of one number are on one disk, and may wait for
			* each other, where there is no io_uring; small */
	uint64_t offset;
	uint64_t user;
};

struct ovc_ring_done {
	uint64_t user;
	int result; /* bytes, or a negative errno */
};

int ovc_ring_create(const struct ovc_ring_options *options,
		    struct ovc_ring **ringp);
void ovc_ring_destroy(struct ovc_ring **ringp);

/*
 * Registers the buffers, which takes their memory: at creation it is only found out
 * whether that works. Once is enough; where it fails, they are used unregistered.
 * Any thread, one at a time.
 */
void ovc_ring_use_buffers(struct ovc_ring *ring);

/* What it came out as. io_uring may be refused later, too: then it fell back.
 * Any thread. */
bool ovc_ring_is_uring(const struct ovc_ring *ring);
bool ovc_ring_fell_back(const struct ovc_ring *ring);
bool ovc_ring_has_buffers(const struct ovc_ring *ring);
bool ovc_ring_has_files(const struct ovc_ring *ring);

/* Polls readable when something is done: ask for it before each poll. The lasting one
 * stays the same, and costs a little more. */
int ovc_ring_fd(const struct ovc_ring *ring);
int ovc_ring_lasting_fd(const struct ovc_ring *ring);

/* Makes fd (or nothing, -1) known under an index. Any thread. */
void ovc_ring_set_file(struct ovc_ring *ring, unsigned index, int fd);

/* Queues an I/O. False when the ring is full. */
bool ovc_ring_queue(struct ovc_ring *ring, const struct ovc_ring_io *io);

/* From now on the ring is the calling thread's. What an earlier owner submitted ends when
 * that one runs. One thread at a time. */
void ovc_ring_own(struct ovc_ring *ring);

/* Is it the calling thread's? Any thread. */
bool ovc_ring_is_mine(const struct ovc_ring *ring);

/* Starts what is queued. 0 or -errno; what could not start stays queued. */
int ovc_ring_submit(struct ovc_ring *ring);

/* Whether something is queued that could not be started yet: try again soon,
 * the descriptor will not tell. */
bool ovc_ring_behind(const struct ovc_ring *ring);

/* Collects up to `max` finished I/Os; never blocks. */
unsigned ovc_ring_reap(struct ovc_ring *ring, struct ovc_ring_done *done,
		       unsigned max);

/* Submits, and waits until one is done, at most `ms` milliseconds. */
void ovc_ring_wait(struct ovc_ring *ring, int ms);

#endif
