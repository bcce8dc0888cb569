/* SPDX-License-Identifier: MIT */
/*
 * The mini-VMM: several guests in one process that together have more memory
 * than the process spends on them. What a VMM has to do for that is in vm.c,
 * register_memory(): allocate as always, and tell libovercommit.
 *
 *	main.c      from start to end
 *	options.c   the command line
 *	vm.c        one VM: memory, library, vCPU threads
 *	balloon.c   the balloon device
 *	kvm.c       /dev/kvm: vCPUs, exits; ../kvm/ has 64-bit mode, and how fast it is
 *	scenario.c  guests that become idle, wake up, come, and a budget that shrinks
 *	table.c     the live table, the lines of --json, the summary
 *	trace.c     what the policy decided, and why
 *	payload*.c  what the guests run: see payload_parts.h
 */
#ifndef VMM_H
#define VMM_H

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
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
	bool driver;	      /* its part of the balloon; all under vm->lock */
	uint32_t actual;      /* frames that it says are in it */
	uint64_t statistic[OVC_BALLOON_S_ALL];
};

struct vm {
	char name[16];
	unsigned id; /* its place among all, too */
	struct ovc_vm *ovc;
	char *memory;
	int memfd;	   /* 0: private anonymous memory */
	int kvm_fd;	   /* 0: the vCPUs are host threads */
	uint64_t nr_pages; /* that the payload works on */
	struct vcpu *vcpus;
	atomic_bool failed; /* a vCPU could not go on */
	pthread_mutex_t lock;
	struct ovc_vm_stats now, before; /* for the rates in the table */

	atomic_uint running;	/* vCPUs */
	atomic_int order;	/* enum order, for the payload */
	atomic_uint target;	/* frames that its balloon should hold */
	_Atomic uint64_t given; /* bytes of memory that donations freed */
	pthread_t device;	/* which waits for new targets */
	atomic_bool has_device;
};

#define MOST_VMS 1000

/* A list of figures for VMs: the last one is for all others, too. */
struct figures {
	unsigned nr;
	uint64_t figure[MOST_VMS];
};

/* The program: its options, and what runs. */
extern struct vmm {
	unsigned vms, vcpus; /* vcpus of each VM */
	uint64_t mem;	     /* bytes of each VM */
	uint64_t budget;
	uint64_t seconds; /* of the random phase; of the scenario, see there */
	uint64_t common, files, heap; /* percent of each VM's memory */
	uint64_t seed;
	struct figures shares, min, limit;
	uint64_t tax; /* percent */
	const char *swap_dir, *trace;
	bool memfd, share, want_kvm, no_kvm, json, balloon, scenario;
	bool slow; /* KVM emulates the CPU, and is used all the same */

	struct ovc_host *host;
	int kvm_fd; /* /dev/kvm, or -1 */
	struct vm *vm;
	uint64_t began;		/* time */
	atomic_uint running;	/* vCPUs */
	_Atomic uint64_t words; /* of each page that the payloads use */
	atomic_bool stopping;
} vmm;

/* The vCPU whose thread this is, or NULL. */
extern _Thread_local struct vcpu *current;

/* Guest physical addresses; see vm.c and payload.h. */
#define GUEST_PML4   0x1000
#define GUEST_PDPT   0x2000
#define GUEST_BOOT   0x3000
#define GUEST_STACKS 0x20000
#define GUEST_STACK  0x4000 /* the size of one */
#define GUEST_QUEUE  0x2000 /* likewise, behind the stacks */

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

/* balloon.c; reset when the VM's vCPUs have ended. */
void balloon_create(struct vm *vm);
void balloon_reset(struct vm *vm);
void balloon_destroy(struct vm *vm);
uint64_t balloon_target(const struct vcpu *vcpu); /* frames, its part */

/* main.c: lets so much time pass, shows the table; false: interrupted. */
bool tick(unsigned ms);

/* options.c: ends the program where an option is wrong. */
void options_parse(int argc, char **argv);
uint64_t figure_of(const struct figures *figures, unsigned id);

/* scenario.c */
struct ovc_policy_options; /* shorter periods, for an impatient audience */
void scenario_options(struct ovc_policy_options *policy);
bool scenario_run(bool *interrupted); /* false: it could not be set up */
bool scenario_ok(void); /* budget kept, nobody starved, nothing was late */

/* trace.c */
bool trace_open(void);
void trace_decision(const struct ovc_policy_snapshot *snapshot,
		    const struct ovc_policy_decision *decision, void *opaque);
void trace_print(void);
void trace_close(void);

/* What the policy saw and decided last of a VM. False: nothing yet. */
bool trace_last(unsigned id, struct ovc_policy_vm *vm,
		struct ovc_policy_vm_decision *decision);

/* table.c */
void table_show(void);
bool table_summary(bool interrupted); /* whether every page was right */
void table_lock(void); /* around other output: the table is not there then */
void table_unlock(void);
double seconds_now(void); /* since the guests began */
__attribute__((format(printf, 2, 3))) void say(const char *who,
					       const char *format, ...);

#define MIB(bytes) ((double)(bytes) / 1048576)

#endif /* VMM_H */
