/* SPDX-License-Identifier: MIT */
/*
 * The mini-VMM: several guests in one process that together have more memory
 * than the process spends on them. What a VMM has to do for that is in vm.c,
 * register_memory(): allocate as always, and tell libovercommit.
 *
 *	main.c      the command line; from start to end
 *	vm.c        one VM: memory, library, vCPU threads
 *	kvm.c       /dev/kvm: 64-bit mode, exits
 *	table.c     the live table, the lines of --json, the summary
 *	payload.c   what the guests run
 */
#ifndef VMM_H
#define VMM_H

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <overcommit.h>

#include "payload.h"

struct vcpu {
	struct vm *vm;
	unsigned id;
	pthread_t thread;
	bool started;
	int kvm_fd;
	struct kvm_run *run; /* NULL on a host thread */
	size_t run_size;
	sigjmp_buf lost; /* where the thread goes on after a SIGBUS */
	char line[80];	 /* of the console, so far */
	unsigned line_length;
	struct report report; /* the last one, for main, under vm->lock */
};

struct vm {
	char name[16];
	struct ovc_vm *ovc;
	char *memory;
	int memfd;	   /* 0: private anonymous memory */
	int kvm_fd;	   /* 0: the vCPUs are host threads */
	uint64_t nr_pages; /* that the payload works on */
	struct vcpu *vcpus;
	atomic_bool failed; /* a vCPU could not go on */
	pthread_mutex_t lock;
	struct ovc_vm_stats now, before; /* for the rates in the table */
};

/* The program: its options, and what runs. */
extern struct vmm {
	unsigned vms, vcpus; /* vcpus of each VM */
	uint64_t mem;	     /* bytes of each VM */
	uint64_t budget;
	uint64_t seconds; /* of the random phase */
	uint64_t common;  /* percent of each VM's memory */
	uint64_t seed;
	const char *swap_dir;
	bool memfd, share, no_kvm, json;

	struct ovc_host *host;
	int kvm_fd; /* /dev/kvm, or -1 */
	struct vm *vm;
	atomic_uint running;	/* vCPUs */
	_Atomic uint64_t words; /* of each page that the payloads use */
	atomic_bool stopping;
} vmm;

/* Guest physical addresses; see vm.c and payload.h. */
#define GUEST_PML4   0x1000
#define GUEST_PDPT   0x2000
#define GUEST_BOOT   0x3000
#define GUEST_STACKS 0x20000
#define GUEST_STACK  0x4000 /* the size of one */

/* vm.c; those that return a bool have said what failed. */
bool vm_create(struct vm *vm, unsigned id);
bool vm_start(struct vm *vm);
void vm_stop(struct vm *vm); /* waits for the vCPUs; set `stopping` before */
void vm_destroy(struct vm *vm);
struct report vm_report(struct vm *vm); /* the sum; phase of the slowest */
bool vcpu_fail(struct vcpu *vcpu, const char *what, uint64_t detail);
uint64_t now_ns(void);

/* kvm.c */
bool kvm_vm_create(struct vm *vm);
bool kvm_vcpu_create(struct vcpu *vcpu);
void kvm_vcpu_run(struct vcpu *vcpu);
void kvm_vcpu_destroy(struct vcpu *vcpu);

/* table.c */
void table_show(void);
bool table_summary(void); /* whether every page was right */
__attribute__((format(printf, 2, 3))) void say(const char *who,
					       const char *format, ...);

#endif /* VMM_H */
