/* SPDX-License-Identifier: MIT */
/*
 * Event functions that do what those of VMMs do: wait for a lock, call the library,
 * never return; and VMs that go while events about them are under way.
 */
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "world.h"

TestSuite(events, .timeout = 120);

static struct ovc_host *
create_host(size_t budget, void (*event)(const struct ovc_event *, void *),
	    void *opaque)
{
	struct ovc_host_options o = { .size = sizeof(o),
				      .budget = budget,
				      .event = event,
				      .opaque = opaque,
				      .share = OVC_SHARE_NEVER };
	struct ovc_host *host;

	need_userfaultfd();
	cr_assert_eq(ovc_host_create(&o, &host), 0, "%s", ovc_error());
	return host;
}

static struct ovc_vm *create_vm(struct ovc_host *host, const char *name,
				const char *swap)
{
	struct ovc_vm_options o = { .size = sizeof(o),
				    .name = name,
				    .swap = swap };
	struct ovc_vm *vm;

	cr_assert_eq(ovc_vm_create(host, &o, &vm), 0, "%s", ovc_error());
	return vm;
}

static char *add(struct ovc_vm *vm, size_t len, uint64_t gpa)
{
	int memfd;
	struct ovc_region_options o = { .size = sizeof(o),
					.addr = map_memory(ANON, len, &memfd),
					.len = len,
					.gpa = gpa };

	cr_assert_eq(ovc_vm_add_region(vm, &o), 0, "%s", ovc_error());
	return o.addr;
}

/* Overwrites a swap file: each page that is read back is lost. */
static void spoil(const char *path, size_t len)
{
	char *junk = malloc(len);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	memset(junk, 0x5a, len);
	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	cr_assert_eq(pwrite(fd, junk, len, 0), (ssize_t)len);
	close(fd);
	free(junk);
}

static const char *own_file(const char *name)
{
	static char path[600];

	snprintf(path, sizeof(path), "%s/%s", own_dir(), name);
	return path;
}

static bool await(atomic_uint *what, unsigned least)
{
	for (unsigned i = 0; i < 4000 && *what < least; i++)
		usleep(5000);
	return *what >= least;
}

/* ---- waiting in the function ------------------------------------------------ */

static struct {
	pthread_mutex_t big; /* a VMM's big lock */
	atomic_uint called, got;
	char *mem;
	size_t len;
	atomic_bool done;
} vmm = { .big = PTHREAD_MUTEX_INITIALIZER };

static void take_big_lock(const struct ovc_event *event, void *opaque)
{
	(void)event;
	(void)opaque;
	vmm.called++;
	pthread_mutex_lock(&vmm.big);
	vmm.got++;
	pthread_mutex_unlock(&vmm.big);
}

/* Device emulation: touches guest memory with the lock held. */
static void *touch_with_big_lock(void *arg)
{
	pthread_mutex_lock(&vmm.big);
	for (size_t at = 0; at < vmm.len; at += PAGE)
		vmm.mem[at] = 1;
	pthread_mutex_unlock(&vmm.big);
	vmm.done = true;
	return arg;
}

Test(events, a_function_may_take_a_lock_whose_holder_waits_for_memory)
{
	struct ovc_host *host = create_host(32 * MIB, take_big_lock, NULL);
	struct ovc_vm *vm = create_vm(host, "a", NULL);
	pthread_t guest;

	vmm.len = 64 * MIB;
	vmm.mem = add(vm, vmm.len, 0);
	pthread_create(&guest, NULL, touch_with_big_lock, NULL);
	cr_assert(await(&vmm.called, 1), "nobody says that the guest waits");
	cr_assert_not(vmm.done);
	cr_assert_eq(ovc_host_set_budget(host, 128 * MIB), 0);
	pthread_join(guest, NULL);
	cr_assert(await(&vmm.got, 1));
	ovc_vm_destroy(&vm, OVC_THROW_AWAY);
	ovc_host_destroy(&host);
}

#define PINNED 1024 /* pages: more than the reserve */

static struct {
	char *mem, *busy;
	atomic_uint calls, turns;
	atomic_bool stop;
	int pin, read, reclaim, discard, stats;
	char page[PAGE];
} called;

static void call_back(const struct ovc_event *event, void *opaque)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };

	(void)opaque;
	if (called.calls || event->type != OVC_EVENT_POISONED)
		return;
	/* What is in swap, while memory is short: others must work for it. */
	called.pin = ovc_vm_pin(event->vm, called.mem, PINNED * PAGE);
	called.read = ovc_vm_read(event->vm, called.mem + PINNED * PAGE,
				  called.page, PAGE);
	ovc_vm_unpin(event->vm, called.mem, PINNED * PAGE);
	called.reclaim = ovc_vm_reclaim(event->vm, called.mem, PINNED * PAGE);
	called.discard = ovc_vm_discard(event->vm, called.mem, PAGE);
	called.stats = ovc_vm_stats(event->vm, &s);
	called.calls++;
}

static void *touch_all(void *arg)
{
	const size_t *len = arg;

	for (; !called.stop; called.turns++)
		for (size_t at = 0; at < *len && !called.stop; at += PAGE)
			called.busy[at]++;
	return NULL;
}

/* Spoils the end of a swap file alone. */
static void spoil_end(const char *path, size_t len)
{
	static char junk[64 * PAGE];
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	memset(junk, 0x5a, sizeof(junk));
	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	cr_assert_eq(pwrite(fd, junk, sizeof(junk),
			    (off_t)(len + PAGE -
				    sizeof(junk))), /* a page is the mark */
		     (ssize_t)sizeof(junk));
	close(fd);
}

Test(events, a_function_may_call_what_waits_for_memory)
{
	struct ovc_host *host = create_host(32 * MIB, call_back, NULL);
	const char *path = own_file("swap");
	struct ovc_vm *vm = create_vm(host, "a", path);
	struct ovc_vm *b = create_vm(host, "b", swap_dir());
	size_t len = 8 * MIB, busy = 64 * MIB;
	pthread_t guest;

	called.mem = add(vm, len, 0);
	called.busy = add(b, busy, (uint64_t)1 << 40);
	fill_pages(called.mem, 0, len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(vm, called.mem, len), 0);
	spoil_end(path, len);
	pthread_create(&guest, NULL, touch_all, &busy);
	cr_assert(await(&called.turns, 1));
	cr_assert_eq(ovc_vm_pin(vm, called.mem + len - PAGE, PAGE), -EIO);
	cr_assert(await(&called.calls, 1), "the function does not return");
	called.stop = true;
	pthread_join(guest, NULL);
	cr_assert_eq(called.pin, 0);
	cr_assert_eq(called.read, 0);
	cr_assert(is_page(called.page, PINNED, 1));
	cr_assert_eq(called.reclaim, 0);
	cr_assert_eq(called.discard, 0);
	cr_assert_eq(called.stats, 0);
	ovc_vm_destroy(&b, OVC_THROW_AWAY);
	ovc_vm_destroy(&vm, OVC_THROW_AWAY);
	ovc_host_destroy(&host);
}

static sem_t entered, leave;

static void stay(const struct ovc_event *event, void *opaque)
{
	(void)event;
	(void)opaque;
	sem_post(&entered);
	sem_wait(&leave);
}

Test(events, a_function_that_does_not_return_holds_nobody_up)
{
	struct ovc_host *host = create_host(32 * MIB, stay, NULL);
	const char *path = own_file("swap");
	struct ovc_vm *a = create_vm(host, "a", path), *b;
	char *mem = add(a, 4 * MIB, 0);

	sem_init(&entered, 0, 0);
	sem_init(&leave, 0, 0);
	fill_pages(mem, 0, 1024, 1);
	cr_assert_eq(ovc_vm_reclaim(a, mem, 4 * MIB), 0);
	spoil(path, 4 * MIB);
	cr_assert_eq(ovc_vm_pin(a, mem, PAGE), -EIO);
	sem_wait(&entered);
	/* Three times the budget, through swap. */
	b = create_vm(host, "b", swap_dir());
	mem = add(b, 96 * MIB, 0);
	fill_pages(mem, 0, 96 * MIB / PAGE, 2);
	cr_assert_eq(check_pages(mem, 0, 96 * MIB / PAGE, 2), -1);
	ovc_vm_destroy(&b, OVC_THROW_AWAY);
	for (unsigned i = 0; i < 100; i++)
		sem_post(&leave);
	ovc_vm_destroy(&a, OVC_THROW_AWAY);
	ovc_host_destroy(&host);
}

/* ---- VMs that go ------------------------------------------------------------- */

#define CYCLES 300

static struct {
	atomic_uint told, wrong, with_handle;
} cycles;

/* The name, the guest address and the statistics must be of one VM. */
static void look_at(const struct ovc_event *event, void *opaque)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };
	unsigned nr = 0;
	bool ok;

	(void)opaque;
	cycles.told++;
	ok = event->vm_name && sscanf(event->vm_name, "cycle%u", &nr) == 1 &&
	     event->gpa >> 32 == nr + 1 && event->vm_id == nr + 1;
	if (event->vm) {
		cycles.with_handle++;
		usleep(nr % 4 * 500); /* while it is destroyed */
		ok = ok && !ovc_vm_stats(event->vm, &s) && s.id == nr + 1;
	}
	cycles.wrong += !ok;
	usleep(nr % 3 * 1000); /* others wait in the queue */
}

Test(events, no_event_is_told_of_another_vm)
{
	struct ovc_host *host = create_host(64 * MIB, look_at, NULL);
	const char *path = own_file("swap");

	for (unsigned i = 0; i < CYCLES; i++) {
		struct ovc_vm *vm;
		char name[32], *mem;

		snprintf(name, sizeof(name), "cycle%u", i);
		unlink(path);
		vm = create_vm(host, name, path);
		mem = add(vm, MIB, (uint64_t)(i + 1) << 32);
		fill_pages(mem, 0, 256, i);
		cr_assert_eq(ovc_vm_reclaim(vm, mem, MIB), 0);
		spoil(path, MIB);
		for (unsigned k = 0; k < 8; k++)
			cr_assert_eq(ovc_vm_pin(vm, mem + 16 * k * PAGE, PAGE),
				     -EIO);
		if (i % 2)
			usleep(1000);
		ovc_vm_destroy(&vm, OVC_THROW_AWAY);
		munmap(mem, MIB);
	}
	ovc_host_destroy(&host);
	cr_assert_eq(cycles.wrong, 0, "%u of %u", cycles.wrong, cycles.told);
	cr_assert_geq(cycles.told, CYCLES);
	cr_assert_gt(cycles.with_handle, 0);
	cr_assert_lt(cycles.with_handle, cycles.told);
}

static struct {
	struct ovc_host *host;
	struct ovc_vm *vm;
	atomic_uint done;
	atomic_bool idle; /* no call on the VM is under way */
	bool refused;
} own;

static void destroy_all(const struct ovc_event *event, void *opaque)
{
	struct ovc_host *host = own.host;

	(void)opaque;
	if (event->vm != own.vm || own.done)
		return;
	while (!own.idle)
		usleep(1000);
	ovc_vm_destroy(&own.vm, OVC_THROW_AWAY);
	ovc_host_destroy(&host);
	own.refused = host && strstr(ovc_error(), "event function");
	own.done++;
}

Test(events, a_function_may_destroy_the_vm_but_not_the_host)
{
	const char *path = own_file("swap");
	char *mem;

	own.host = create_host(64 * MIB, destroy_all, NULL);
	own.vm = create_vm(own.host, "a", path);
	mem = add(own.vm, MIB, 0);
	fill_pages(mem, 0, 256, 1);
	cr_assert_eq(ovc_vm_reclaim(own.vm, mem, MIB), 0);
	spoil(path, MIB);
	cr_assert_eq(ovc_vm_pin(own.vm, mem, PAGE), -EIO);
	own.idle = true;
	cr_assert(await(&own.done, 1), "the function does not return");
	cr_assert_null(own.vm);
	cr_assert(own.refused);
	ovc_host_destroy(&own.host);
	cr_assert_null(own.host);
}
