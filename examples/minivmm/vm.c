/* SPDX-License-Identifier: MIT */
/*
 * One VM: its memory, the library's part in it, its vCPUs.
 *
 * Guest memory from address 0: an unused page, page tables and struct boot, the
 * payload, a stack and a queue for each vCPU, more page tables, the payload's
 * ledger and allocator, the pages to work on. All of it can be swapped, page
 * tables too.
 *
 * Whoever touches a page that was lost, with the disk for instance, gets a
 * SIGBUS. A real VMM would make a machine check of it; here the vCPU ends.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "payload_pages.h"
#include "vmm.h"

#define PTE_PRESENT 3 /* and writable */
#define PTE_LARGE   0x80
#define LARGE_PAGE  0x200000ull

extern const char payload_image[], payload_image_end[];

_Thread_local struct vcpu *current;

static bool allocate_memory(struct vm *vm)
{
	int flags = vmm.memfd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	void *memory = MAP_FAILED;

	if (vmm.memfd)
		vm->memfd = memfd_create(vm->name, MFD_CLOEXEC);
	if (!vmm.memfd || !ftruncate(vm->memfd, (off_t)vmm.mem))
		memory = mmap(NULL, vmm.mem, PROT_READ | PROT_WRITE,
			      flags | MAP_NORESERVE, vm->memfd, 0);
	vm->vcpus = calloc(vmm.vcpus, sizeof(*vm->vcpus));
	if (memory == MAP_FAILED || !vm->vcpus) {
		say(vm->name, "cannot allocate: %m");
		return false;
	}
	vm->memory = memory;
	/* A child process must not inherit memory that is half absent. */
	madvise(memory, vmm.mem, MADV_DONTFORK);
	return true;
}

static bool register_memory(struct vm *vm)
{
	struct ovc_vm_options options = {
		.size = sizeof(options),
		.name = vm->name,
		.swap = vmm.swap_dir,
		.domain = "minivmm", /* a cloud has one for each tenant */
		.shares = (uint32_t)figure_of(&vmm.shares, vm->id),
		.min = figure_of(&vmm.min, vm->id),
		.limit = figure_of(&vmm.limit, vm->id),
	};
	struct ovc_region_options region = {
		.size = sizeof(region),
		.addr = vm->memory,
		.len = vmm.mem,
		.memfd = vm->memfd,
		.flags = vm->memfd ? OVC_REGION_UNSHARED_MEMFD : 0,
	};
	int error;

	error = ovc_vm_create(vmm.host, &options, &vm->ovc);
	if (!error)
		error = ovc_vm_add_region(vm->ovc, &region);
	if (!error)
		return true;
	say(vm->name, "%s%s", ovc_error(),
	    !vm->ovc || error == -ENOSPC || error == -EDQUOT ||
			    error == -EFBIG ?
		    " (--swap-dir chooses another directory)" :
		    "");
	return false;
}

/* Guest virtual is guest physical, in pages of 2 MiB. */
static void write_page_tables(struct vm *vm, uint64_t tables)
{
	uint64_t *pml4 = (void *)(vm->memory + GUEST_PML4);
	uint64_t *pdpt = (void *)(vm->memory + GUEST_PDPT);
	uint64_t *entries = (void *)(vm->memory + tables);
	uint64_t i;

	pml4[0] = GUEST_PDPT | PTE_PRESENT;
	for (i = 0; i * LARGE_PAGE < vmm.mem; i++) {
		if (i % 512 == 0)
			pdpt[i / 512] = (tables + i * 8) | PTE_PRESENT;
		entries[i] = i * LARGE_PAGE | PTE_LARGE | PTE_PRESENT;
	}
}

/* Room for so many bytes; returns where the next thing is. */
static uint64_t behind(uint64_t at, uint64_t bytes)
{
	return at + (bytes + OVC_PAGE_SIZE - 1) / OVC_PAGE_SIZE * OVC_PAGE_SIZE;
}

static void load_payload(struct vm *vm)
{
	uint64_t most = vmm.mem / OVC_PAGE_SIZE, i;
	uint64_t queues = GUEST_STACKS + (uint64_t)vmm.vcpus * GUEST_STACK;
	uint64_t tables = queues + (uint64_t)vmm.vcpus * GUEST_QUEUE;
	uint64_t ledger = tables + ((vmm.mem >> 30) + 1) * OVC_PAGE_SIZE;
	uint64_t where = behind(ledger, most * sizeof(uint64_t));
	uint64_t frames = behind(where, most * sizeof(uint32_t));
	uint64_t pages = behind(frames, (most + (uint64_t)vmm.vcpus * LISTS) *
						sizeof(struct frame));
	uint64_t base = vmm.kvm_fd < 0 ? (uintptr_t)vm->memory : 0;
	struct boot boot = {
		.pages = base + pages,
		.nr_pages = (vmm.mem - pages) / OVC_PAGE_SIZE,
		.first_pfn = pages / OVC_PAGE_SIZE,
		.ledger = base + ledger,
		.where = base + where,
		.frames = base + frames,
		.queues = base + queues,
		.queue_size = vmm.balloon ? GUEST_QUEUE : 0,
		.nr_vcpus = vmm.vcpus,
		.seed = vmm.seed * 1000 + vm->id,
		.common = vmm.common,
		.files = vmm.files,
		.heap = vmm.heap,
		.scenario = vmm.scenario,
		.common_ns = vmm.seconds * 2000000000,
		.random_ns = vmm.seconds * 1000000000,
		.idle_ns = vmm.seconds * 250000000,
	};

	memcpy(vm->memory + GUEST_BOOT, &boot, sizeof(boot));
	memcpy(vm->memory + PAYLOAD_ENTRY, payload_image,
	       (size_t)(payload_image_end - payload_image));
	write_page_tables(vm, tables);
	for (i = 0; i < vmm.vcpus; i++) {
		uint64_t nr =
			payload_first(&boot, i + 1) - payload_first(&boot, i);

		vm->nr_pages += nr - payload_reserve(nr);
	}
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* What the payload asks of its machine, by an exit or by a plain call. */

void machine_console(char c)
{
	struct vcpu *vcpu = current;

	if (c != '\n' && vcpu->line_length < sizeof(vcpu->line)) {
		vcpu->line[vcpu->line_length++] = c;
		return;
	}
	say(vcpu->vm->name, "vCPU %u: %.*s", vcpu->id, (int)vcpu->line_length,
	    vcpu->line);
	vcpu->line_length = 0;
}

void machine_hypercall(struct report *report)
{
	struct report copy = *report; /* may fault: not under the lock */
	uint64_t none = 0;

	atomic_compare_exchange_strong(&vmm.words, &none, copy.words);
	pthread_mutex_lock(&current->vm->lock);
	current->report = copy;
	pthread_mutex_unlock(&current->vm->lock);
	report->words = vmm.words;
	report->now_ns = now_ns();
	report->stop = vmm.stopping;
	report->order = (uint64_t)current->vm->order;
	report->target = balloon_target(current);
}

void machine_halt(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

/* For its side effect: it interrupts KVM_RUN. */
static void on_kick(__attribute__((unused)) int number)
{
}

static void on_sigbus(int number)
{
	if (current)
		siglongjmp(current->lost, 1);
	signal(number, SIG_DFL);
}

bool vcpu_fail(struct vcpu *vcpu, const char *what, uint64_t detail)
{
	say(vcpu->vm->name, "vCPU %u ends: %s (0x%jx)", vcpu->id, what, detail);
	vcpu->vm->failed = true;
	return false;
}

static void *vcpu_thread(void *opaque)
{
	current = opaque;
	if (sigsetjmp(current->lost, 1))
		vcpu_fail(current, "its memory was lost", 0);
	else if (vmm.kvm_fd >= 0)
		kvm_vcpu_run(current);
	else
		payload((void *)(current->vm->memory + GUEST_BOOT),
			current->id);
	if (current->vm->running-- == 1)
		balloon_reset(current->vm);
	vmm.running--;
	return NULL;
}

bool vm_create(struct vm *vm, unsigned id)
{
	bool use_kvm = vmm.kvm_fd >= 0;
	unsigned i;

	pthread_mutex_init(&vm->lock, NULL);
	vm->id = id;
	snprintf(vm->name, sizeof(vm->name), "vm%u", id);
	if (!allocate_memory(vm))
		return false;
	load_payload(vm);
	if (!register_memory(vm) || (use_kvm && !kvm_vm_create(vm)))
		return false;
	for (i = 0; i < vmm.vcpus; i++) {
		vm->vcpus[i].vm = vm;
		vm->vcpus[i].id = i;
		if (use_kvm && !kvm_vcpu_create(&vm->vcpus[i]))
			return false;
	}
	return true;
}

bool vm_start(struct vm *vm)
{
	unsigned i;

	vm->running = vmm.vcpus;
	balloon_create(vm);
	signal(SIGUSR1, on_kick);
	signal(SIGBUS, on_sigbus);
	for (i = 0; i < vmm.vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		vcpu->started =
			!pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
		if (!vcpu->started)
			return vcpu_fail(vcpu, "it has no thread", i);
	}
	return true;
}

void vm_stop(struct vm *vm)
{
	unsigned i;

	for (i = 0; i < vmm.vcpus; i++) {
		if (!vm->vcpus[i].started)
			continue;
		if (vm->vcpus[i].run)
			vm->vcpus[i].run->immediate_exit = 1;
		pthread_kill(vm->vcpus[i].thread, SIGUSR1);
		pthread_join(vm->vcpus[i].thread, NULL);
		vm->vcpus[i].started = false;
	}
	balloon_destroy(vm);
}

void vm_destroy(struct vm *vm)
{
	unsigned i;

	for (i = 0; vm->vcpus && i < vmm.vcpus; i++)
		kvm_vcpu_destroy(&vm->vcpus[i]);
	free(vm->vcpus);
	if (vm->kvm_fd > 0)
		close(vm->kvm_fd);
	ovc_vm_destroy(&vm->ovc, OVC_THROW_AWAY);
	if (vm->memory)
		munmap(vm->memory, vmm.mem);
	if (vm->memfd > 0)
		close(vm->memfd);
}

struct report vm_report(struct vm *vm)
{
	struct report all = { .phase = PHASE_DONE };
	unsigned i;

	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < vmm.vcpus; i++) {
		const struct report *one = &vm->vcpus[i].report;

		if (one->phase <= all.phase) {
			all.phase = one->phase;
			all.done = one->done;
			all.total = one->total;
		}
		all.filled += one->filled;
		all.checks += one->checks;
		all.errors += one->errors;
		all.verified += one->verified;
	}
	pthread_mutex_unlock(&vm->lock);
	return all;
}
