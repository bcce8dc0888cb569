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

/* The VMM's orders, the same for all vCPUs of a VM. */
struct boot {
	uint64_t pages;	   /* address of the first page to work on */
	uint64_t nr_pages; /* divided evenly among the vCPUs */
	uint64_t ledger;   /* address of one checksum for each page */
	uint64_t nr_vcpus;
	uint64_t seed;	    /* another one for each VM */
	uint64_t common;    /* percent of the pages that all VMs have */
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
};

/* Runs all phases on a vCPU's share of the pages. */
void payload(const struct boot *boot, uint64_t vcpu);

/* The machine under it: instructions in a guest, functions in a thread. */
void machine_console(char c);
void machine_hypercall(struct report *report);
void machine_halt(void);

#endif /* PAYLOAD_H */
