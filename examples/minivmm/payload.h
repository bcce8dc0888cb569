/* SPDX-License-Identifier: MIT */
/*
 * What the guests' payload and the VMM agree on. The payload is built twice
 * from one source: freestanding, for a KVM guest, where addresses are guest
 * physical, and hosted, for a thread of the VMM, where they are its own.
 */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <stdint.h>

#define PAYLOAD_ENTRY  0x10000 /* guest physical address, as in payload.lds */
#define PORT_CONSOLE   0xe9    /* takes characters */
#define PORT_HYPERCALL 0x5c    /* takes addresses of a struct report */
#define PORT_BALLOON   0x60    /* takes addresses of a struct balloon_queue */

enum phase {
	PHASE_BOOT,
	PHASE_COMMON, /* pages that all VMs have, at a gentle pace */
	PHASE_SETTLE, /* halted, while the host finds what is common */
	PHASE_FILL,   /* the other pages get their first bytes */
	PHASE_RANDOM, /* read, check, change pages, some far more than others */
	PHASE_SCAN,   /* read and check pages in order, each fourth */
	PHASE_IDLE,   /* halted */
	PHASE_VERIFY, /* read and check all: it must still be there */
	PHASE_DONE,
};

/* What a guest of the scenario is to do until it is told otherwise. */
enum order {
	ORDER_WORK,   /* PHASE_RANDOM, over all pages */
	ORDER_IDLE,   /* give the heap back, PHASE_IDLE */
	ORDER_FINISH, /* go on to PHASE_VERIFY */
};

/* The VMM's orders, the same for all vCPUs of a VM. */
struct boot {
	uint64_t pages;	    /* address of the first page to work on */
	uint64_t nr_pages;  /* divided evenly among the vCPUs */
	uint64_t first_pfn; /* guest frame number of the first page */
	uint64_t ledger;    /* address of one checksum for each page, ... */
	uint64_t where;	    /* ... of one frame's number, ... */
	uint64_t frames; /* ... of one struct frame, and some for each vCPU */
	uint64_t queues; /* address of the first vCPU's balloon_queue */
	uint64_t queue_size; /* bytes from one to the next; 0: no balloon */
	uint64_t nr_vcpus;
	uint64_t seed;	    /* another one for each VM */
	uint64_t common;    /* percent of the pages that all VMs have */
	uint64_t files;	    /* percent: files of its own, only read */
	uint64_t heap;	    /* percent: freed when it is told to be idle */
	uint64_t scenario;  /* not 0: struct report's orders count */
	uint64_t common_ns; /* duration of PHASE_COMMON, at least */
	uint64_t random_ns; /* duration of PHASE_RANDOM */
	uint64_t idle_ns;   /* duration of PHASE_SETTLE and PHASE_IDLE */
};

/* The hypercall: a vCPU says where it is, the VMM answers. */
struct report {
	uint64_t phase; /* enum phase */
	uint64_t done;	/* progress in the phase, out of `total` */
	uint64_t total;
	uint64_t filled;   /* pages that have got their first bytes */
	uint64_t checks;   /* pages read and compared with the ledger so far */
	uint64_t errors;   /* of these, pages that were wrong */
	uint64_t verified; /* pages found right in PHASE_VERIFY */
	uint64_t words;	   /* to use of each page; answer: the first vCPU's */
	uint64_t now_ns;   /* answer: the time */
	uint64_t stop;	   /* answer: not 0 to give up */
	uint64_t order;	   /* answer: enum order */
	uint64_t target;   /* answer: frames that its balloon should hold */
};

/*
 * The balloon device: virtio-balloon's requests in one queue, which each vCPU has
 * for the memory that it looks after. The driver fills buffers, counts them in
 * `avail` and rings; the device handles them and counts them in `used`.
 */
#define BALLOON_BUFFERS 4
#define BALLOON_FRAMES	256
#define BALLOON_STATS	8
#define REPORT_FRAMES	64 /* of each block that is reported free */

enum balloon_request {
	BALLOON_INFLATE, /* frames: the host may have them */
	BALLOON_DEFLATE, /* frames: the guest wants them back */
	BALLOON_REPORT, /* first frames of blocks: free, and stay the guest's */
	BALLOON_STATISTICS,
};

struct balloon_statistic {
	uint64_t tag; /* VIRTIO_BALLOON_S_*, enum ovc_balloon_tag */
	uint64_t value;
};

struct balloon_buffer {
	uint32_t request; /* enum balloon_request */
	uint32_t nr;
	union {
		uint32_t frame[BALLOON_FRAMES]; /* guest frame numbers */
		struct balloon_statistic statistic[BALLOON_STATS];
	};
};

struct balloon_queue {
	uint32_t driver;      /* 1: there is one */
	uint32_t actual;      /* frames that the balloon holds */
	uint32_t avail, used; /* buffers, ever */
	struct balloon_buffer buffer[BALLOON_BUFFERS];
};

/*
 * What the payload keeps free for itself, of so many pages of a vCPU: it works on
 * the others, and all of those are verified at the end.
 */
static inline uint64_t payload_reserve(uint64_t pages)
{
	return pages / 16 < 32 ? pages / 16 : 32;
}

/* Which pages are a vCPU's: from this one to before the next one's. */
static inline uint64_t payload_first(const struct boot *boot, uint64_t vcpu)
{
	return boot->nr_pages * vcpu / boot->nr_vcpus;
}

/* Runs all phases on a vCPU's share of the pages. */
void payload(const struct boot *boot, uint64_t vcpu);

/* The machine under it: instructions in a guest, functions in a thread. */
void machine_console(char c);
void machine_hypercall(struct report *report);
void machine_balloon(struct balloon_queue *queue);
void machine_halt(void);

#endif /* PAYLOAD_H */
