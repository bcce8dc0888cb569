/* SPDX-License-Identifier: MIT */
/*
 * Creates a host with the budget and the VMs in it, lets them run, and says at
 * the end whether every page was right. What cannot be set up is named, and
 * ends it with 1. Ctrl-C makes the vCPUs leave; the rest is as at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "vmm.h"

#define SHOW_NS 500000000u

struct vmm vmm = {
	.vcpus = 1,
	.tax = 75,
	.share = true,
	.balloon = true,
	.seed = 1,
	.swap_dir = ".",
	.kvm_fd = -1,
};

static sigset_t signals; /* that end it */

static void on_event(const struct ovc_event *event, void *opaque)
{
	(void)opaque;
	say(event->vm_name, "%s", event->text);
}

static bool create(void)
{
	struct ovc_policy_options policy = {
		.size = sizeof(policy),
		.idle_tax = vmm.tax ? (uint32_t)vmm.tax * 100 :
				      OVC_POLICY_NO_TAX,
	};
	struct ovc_host_options options = {
		.size = sizeof(options),
		.budget = vmm.budget,
		.event = on_event,
		.share = vmm.share ? OVC_SHARE_UNDER_PRESSURE : OVC_SHARE_NEVER,
		.policy_options = &policy,
		.policy_trace = trace_decision,
	};
	unsigned i;
	int error;

	if (vmm.scenario)
		scenario_options(&policy);
	error = ovc_host_create(&options, &vmm.host);
	if (error) {
		say(NULL, "%s%s", ovc_error(),
		    error == -EPERM || error == -ENOSYS ?
			    " (ovc-check lists what this host allows)" :
			    "");
		return false;
	}
	vmm.vm = calloc(vmm.vms + vmm.scenario, sizeof(*vmm.vm));
	if (!vmm.vm)
		say(NULL, "%m");
	for (i = 0; vmm.vm && i < vmm.vms; i++)
		if (!vm_create(&vmm.vm[i], i))
			return false;
	return vmm.vm;
}

bool tick(unsigned ms)
{
	const struct timespec time = { .tv_sec = ms / 1000,
				       .tv_nsec = ms % 1000 * 1000000 };
	static uint64_t shown;
	bool interrupted = sigtimedwait(&signals, NULL, &time) > 0;

	trace_print();
	if (now_ns() - shown >= SHOW_NS) {
		shown = now_ns();
		table_show();
	}
	return !interrupted;
}

/* Returns the exit status. */
static int run(void)
{
	bool ok = true, interrupted = false;
	unsigned i;

	vmm.began = now_ns();
	vmm.running = vmm.vms * vmm.vcpus;
	for (i = 0; ok && i < vmm.vms; i++)
		ok = vm_start(&vmm.vm[i]);
	if (ok && vmm.scenario)
		ok = scenario_run(&interrupted);
	while (ok && !interrupted && vmm.running)
		interrupted = !tick(SHOW_NS / 1000000);
	vmm.stopping = true;
	/* From here on, Ctrl-C is the kernel's. */
	pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
	for (i = 0; i < vmm.vms; i++)
		vm_stop(&vmm.vm[i]);
	ok = table_summary(interrupted) && scenario_ok() && ok;
	return ok ? 0 : interrupted ? 130 : 1;
}

/* A descriptor that is closed would be the next file's, and be written to. */
static void open_standard(void)
{
	int fd;

	for (fd = 0; fd >= 0 && fd <= STDERR_FILENO;)
		fd = open("/dev/null", O_RDWR);
	if (fd >= 0)
		close(fd);
}

/* What was printed counts for nothing where it was not written. */
static bool flush_standard(void)
{
	bool written = !fflush(stdout) && !ferror(stdout);

	if (!written)
		say(NULL, "standard output: not all of it could be written");
	return written;
}

int main(int argc, char **argv)
{
	int status = 1;
	unsigned i;

	open_standard();
	options_parse(argc, argv);

	/* For this thread alone, which takes them with sigtimedwait(). */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);

	if (trace_open() && create())
		status = run();
	for (i = 0; vmm.vm && i < vmm.vms; i++)
		vm_destroy(&vmm.vm[i]);
	free(vmm.vm);
	ovc_host_destroy(&vmm.host);
	trace_close();
	if (vmm.kvm_fd >= 0)
		close(vmm.kvm_fd);
	return flush_standard() || status ? status : 1;
}
