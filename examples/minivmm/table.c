/* SPDX-License-Identifier: MIT */
/*
 * Standard output: a table that is redrawn in place on a terminal, and printed
 * every 5 seconds elsewhere; with --json the same as lines; and the summary.
 * Standard error, above the table: messages and the guests' consoles.
 */
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm.h"

/* Of the terminal. The library is never called with it: it may log. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned lines; /* that the table takes on the terminal */
static uint64_t shown; /* when */

/* When no guest had anything yet but what all have in common. */
static struct ovc_host_stats common;
static uint64_t common_pages; /* that they had filled */

static const char *const phases[] = {
	"boot", "common", "settle", "fill", "random",
	"scan", "idle",	  "verify", "done",
};

static void erase_table(void)
{
	if (lines)
		printf("\033[%uA\033[J", lines);
	fflush(stdout);
	lines = 0;
}

void table_lock(void)
{
	pthread_mutex_lock(&lock);
	erase_table(); /* until it is shown again */
}

void table_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

double seconds_now(void)
{
	return vmm.began ? (double)(now_ns() - vmm.began) / 1e9 : 0;
}

void say(const char *who, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	table_lock();
	fprintf(stderr, "%s: %s\n", who ? who : "ovc-minivmm", text);
	table_unlock();
}

/* One line of what stays below `width`: one that wraps cannot be erased. */
__attribute__((format(printf, 2, 3))) static void
print_line(unsigned width, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("%.*s\n", (int)width, text);
}

/* The widest, and what has room in 80 columns: without targt and p50. */
#define WIDE	  89
#define UNLIMITED 255

#define HEADER                                                         \
	"MiB, us           entit activ resid shared  swap ball targt " \
	"flt/s  in/s out/s   p50   p99"
#define ROW_TABLE                                                      \
	"%-4s %-7s %3.0f%% %5.0f %5.0f %5.0f %6.0f %5.0f %4.0f %5.0f " \
	"%5.0f %5.0f %5.0f %5.0f %5.0f"
#define HEADER_NARROW                                            \
	"MiB, us           entit activ resid shared  swap ball " \
	"flt/s  in/s out/s   p99"
#define ROW_NARROW                                               \
	"%-4s %-7s %3.0f%% %5.0f %5.0f %5.0f %6.0f %5.0f %4.0f " \
	"%5.0f %5.0f %5.0f %5.0f"
#define ROW_JSON                                                         \
	"{\"vm\":\"%s\",\"state\":\"%s\",\"percent\":%.0f,"              \
	"\"resident_mib\":%.2f,\"shared_mib\":%.2f,\"broken_mib\":%.2f," \
	"\"swapped_mib\":%.2f,\"zero_mib\":%.2f,\"faults_per_s\":%.0f,"  \
	"\"swap_in_mib_per_s\":%.2f,\"swap_out_mib_per_s\":%.2f,"        \
	"\"fault_p50_us\":%.1f,\"fault_p99_us\":%.1f,\"time\":%.2f,"     \
	"\"charged_mib\":%.2f,\"ballooned_mib\":%.2f,"                   \
	"\"target_mib\":%.2f,\"reported_mib\":%.2f,\"active_mib\":%.2f," \
	"\"entitlement_mib\":%.2f,\"checks\":%ju}\n"

static void print_row_json(const struct vm *vm, const struct report *report,
			   const char *state, double percent, double seconds)
{
	const struct ovc_vm_stats *now = &vm->now, *before = &vm->before;

	printf(ROW_JSON, vm->name, state, percent, MIB(now->resident),
	       MIB(now->shared_bytes), MIB(now->broken_bytes),
	       MIB(now->swapped), MIB(now->zero),
	       (double)(now->faults - before->faults) / seconds,
	       MIB(now->swap_in_bytes - before->swap_in_bytes) / seconds,
	       MIB(now->swap_out_bytes - before->swap_out_bytes) / seconds,
	       (double)now->fault_p50_ns / 1e3, (double)now->fault_p99_ns / 1e3,
	       (double)(shown - vmm.began) / 1e9, MIB(now->charged_bytes),
	       MIB(now->ballooned), MIB(now->balloon_target),
	       MIB(now->reported_bytes), MIB(now->active),
	       MIB(now->entitlement), report->checks);
}

static void print_row_text(const struct vm *vm, const char *state,
			   double percent, double seconds, unsigned width)
{
	const struct ovc_vm_stats *now = &vm->now, *before = &vm->before;
	double entitled = MIB(now->entitlement), active = MIB(now->active);
	double held = MIB(now->resident + now->charged_bytes);
	double shared = MIB(now->shared_bytes), swapped = MIB(now->swapped);
	double balloon = MIB(now->ballooned);
	double faults = (double)(now->faults - before->faults) / seconds;
	double in = MIB(now->swap_in_bytes - before->swap_in_bytes) / seconds;
	double out =
		MIB(now->swap_out_bytes - before->swap_out_bytes) / seconds;
	double p50 = (double)now->fault_p50_ns / 1e3;
	double p99 = (double)now->fault_p99_ns / 1e3;

	if (width >= WIDE)
		print_line(width, ROW_TABLE, vm->name, state, percent, entitled,
			   active, held, shared, swapped, balloon,
			   MIB(now->balloon_target), faults, in, out, p50, p99);
	else
		print_line(width, ROW_NARROW, vm->name, state, percent,
			   entitled, active, held, shared, swapped, balloon,
			   faults, in, out, p99);
}

static void print_row(struct vm *vm, double seconds, unsigned width)
{
	struct report report = vm_report(vm);
	const char *state = vm->failed ? "failed" : phases[report.phase];
	double percent = 100;

	if (report.total && report.done < report.total)
		percent = 100.0 * (double)report.done / (double)report.total;
	if (vmm.json)
		print_row_json(vm, &report, state, percent, seconds);
	else
		print_row_text(vm, state, percent, seconds, width);
}

#define HOST_TABLE                                             \
	"host: %.1f of %.0f MiB used, %.1f staged, %.1f own, " \
	"%.0f swapped, %.0f saved, memory is %s"
#define HOST_NARROW                                                     \
	"host: %.0f of %.0f MiB, %.0f staged, %.0f own, %.0f swapped, " \
	"%.0f saved, %s"
#define HOST_JSON                                                    \
	"{\"host\":true,\"used_mib\":%.2f,\"budget_mib\":%.2f,"      \
	"\"staged_mib\":%.2f,\"own_mib\":%.2f,\"swapped_mib\":%.2f," \
	"\"saved_mib\":%.2f,\"memory\":\"%s\",\"time\":%.2f}\n"

/* What guests have beyond what it takes: it may be less than nothing for once, but
 * is not shown as -0. */
static double saved_mib(const struct ovc_host_stats *host)
{
	double saved = MIB(host->shared_bytes) - MIB(host->store_bytes);

	return saved < 0 && saved > -0.5 ? 0 : saved;
}

static void print_host(const struct ovc_host_stats *host, unsigned width)
{
	const char *state = ovc_policy_state_name(host->policy_state);
	double used = MIB(host->used), budget = MIB(host->budget);
	double staged = MIB(host->staged), swapped = MIB(host->swapped);
	double own = MIB(host->metadata + host->buffers);
	double saved = saved_mib(host);

	if (vmm.json)
		printf(HOST_JSON, used, budget, staged, own, swapped, saved,
		       state, (double)(shown - vmm.began) / 1e9);
	else
		print_line(width, width >= WIDE ? HOST_TABLE : HOST_NARROW,
			   used, budget, staged, own, swapped, saved, state);
}

static void sample(struct ovc_host_stats *host)
{
	unsigned i;

	*host = (struct ovc_host_stats){ .size = sizeof(*host) };
	ovc_host_stats(vmm.host, host);
	for (i = 0; i < vmm.vms; i++) {
		struct vm *vm = &vmm.vm[i];

		vm->before = vm->now;
		vm->now = (struct ovc_vm_stats){ .size = sizeof(vm->now) };
		ovc_vm_stats(vm->ovc, &vm->now);
	}
}

/* Guests do not wait for each other: the last look counts that is good. */
static void note_common(void)
{
	uint64_t pages = 0;
	unsigned i;

	for (i = 0; i < vmm.vms; i++) {
		struct report report = vm_report(&vmm.vm[i]);

		if (report.phase > PHASE_SETTLE)
			return;
		pages += report.filled;
	}
	common_pages = pages;
	common.size = sizeof(common);
	ovc_host_stats(vmm.host, &common);
}

void table_show(void)
{
	bool live = !vmm.json && isatty(STDOUT_FILENO);
	struct winsize window = { 0 };
	struct ovc_host_stats host;
	uint64_t now = now_ns();
	unsigned i, rows = vmm.vms, width = UNLIMITED;
	double seconds;

	if (!shown)
		shown = now;
	note_common();
	seconds = (double)(now - shown) / 1e9;
	if (seconds < (live || vmm.json ? 0.1 : 5))
		return;
	sample(&host);
	shown = now;
	if (live)
		ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
	if (window.ws_row > 4 && rows > window.ws_row - 4u)
		rows = window.ws_row - 4u; /* what scrolls off stays there */
	if (live && window.ws_col < UNLIMITED)
		width = (window.ws_col ? window.ws_col : 80u) - 1;

	table_lock();
	if (!vmm.json)
		print_line(width, "%s", width >= WIDE ? HEADER : HEADER_NARROW);
	for (i = 0; i < rows; i++)
		print_row(&vmm.vm[i], seconds, width);
	print_host(&host, width);
	fflush(stdout);
	lines = live ? rows + 2 : 0;
	table_unlock();
}

#define SUMMARY                                                        \
	"\nVM         pages  verified     checks  errors     MiB read" \
	"  MiB written"
#define TOTAL_TABLE "%-6s %9ju %9ju %10ju %7ju %12.0f %12.0f\n"
#define TOTAL_JSON                                                           \
	"{\"summary\":\"%s\",\"pages\":%ju,\"verified\":%ju,\"checks\":%ju," \
	"\"errors\":%ju,\"swap_in_mib\":%.2f,\"swap_out_mib\":%.2f}\n"

/* Pages, verified, checks, errors, bytes read and written. */
static void print_total(const char *name, const uint64_t total[6])
{
	printf(vmm.json ? TOTAL_JSON : TOTAL_TABLE, name, total[0], total[1],
	       total[2], total[3], MIB(total[4]), MIB(total[5]));
}

#define SHARING_TABLE                                                         \
	"\nafter the common phase: %.0f MiB of guests in %.0f MiB, "          \
	"swapped %.0f MiB\n"                                                  \
	"at the end: %.0f MiB of guests shared in %.0f MiB, saved %.0f MiB, " \
	"%.0f MiB private again\n"
#define SHARING_JSON                                                    \
	"{\"common_phase\":true,\"filled_mib\":%.2f,\"used_mib\":%.2f," \
	"\"swap_out_mib\":%.2f}\n"                                      \
	"{\"sharing\":true,\"shared_mib\":%.2f,\"store_mib\":%.2f,"     \
	"\"saved_mib\":%.2f,\"broken_mib\":%.2f}\n"

#define RESULT_TABLE "%s: %u VM%s with %.0f MiB%s, budget %.0f MiB, %.1f s\n"
#define RESULT_JSON                                          \
	"{\"result\":\"%s\",\"vms\":%u,\"guests_mib\":%.2f," \
	"\"budget_mib\":%.2f,\"seconds\":%.1f}\n"

static void print_result(const char *result)
{
	double mib = MIB(vmm.mem) * vmm.vms, budget = MIB(vmm.budget);
	bool many = vmm.vms != 1;

	if (vmm.json)
		printf(RESULT_JSON, result, vmm.vms, mib, budget,
		       seconds_now());
	else
		printf(RESULT_TABLE, result, vmm.vms, many ? "s" : "", mib,
		       many ? " together" : "", budget, seconds_now());
}

bool table_summary(bool interrupted)
{
	struct ovc_host_stats host;
	uint64_t all[6] = { 0 };
	unsigned i, j;
	bool right;

	sample(&host);
	pthread_mutex_lock(&lock);
	if (!vmm.json)
		puts(SUMMARY);
	for (i = 0; i < vmm.vms; i++) {
		struct vm *vm = &vmm.vm[i];
		struct ovc_vm_stats *s = &vm->now;
		struct report r = vm_report(vm);
		uint64_t one[6] = { vm->nr_pages,     r.verified,
				    r.checks,	      r.errors,
				    s->swap_in_bytes, s->swap_out_bytes };

		print_total(vm->name, one);
		for (j = 0; j < 6; j++)
			all[j] += one[j];
	}
	print_total("total", all);
	printf(vmm.json ? SHARING_JSON : SHARING_TABLE,
	       MIB(common_pages * OVC_PAGE_SIZE), MIB(common.used),
	       MIB(common.swap_out_bytes), MIB(host.shared_bytes),
	       MIB(host.store_bytes), saved_mib(&host), MIB(host.broken_bytes));
	right = all[1] == all[0] && !all[3];
	print_result(right	 ? "every page was right" :
		     all[3]	 ? "PAGES WERE WRONG" :
		     interrupted ? "interrupted, no page was wrong so far" :
				   "not all pages were verified");
	fflush(stdout);
	lines = 0; /* what is on the terminal stays */
	pthread_mutex_unlock(&lock);
	return right;
}
