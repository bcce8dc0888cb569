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

#define MIB(bytes) ((double)(bytes) / 1048576)

/* Of the terminal. The library is never called with it: it may log. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned lines;	      /* that the table takes on the terminal */
static uint64_t began, shown; /* times */

static const char *const phases[] = {
	"boot", "fill", "random", "scan", "idle", "verify", "done",
};

static void erase_table(void)
{
	if (lines)
		printf("\033[%uA\033[J", lines);
	fflush(stdout);
	lines = 0;
}

void say(const char *who, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	pthread_mutex_lock(&lock);
	erase_table(); /* until it is shown again */
	fprintf(stderr, "%s: %s\n", who ? who : "ovc-minivmm", text);
	pthread_mutex_unlock(&lock);
}

static void print_bar(uint64_t part, uint64_t whole, unsigned width)
{
	unsigned i, full = whole ? (unsigned)(part * width / whole) : 0;

	for (i = 0; i < width; i++)
		putchar(i < full ? '#' : '.');
	putchar('\n');
}

#define HEADER \
	"MiB, us            resid  swap  zero  flt/s  in/s out/s   p50   p99"

/* The same values in the same order, for people and for programs. */
#define ROW_TABLE \
	"%-5s %-7s %3.0f%% %6.0f %5.0f %5.0f %6.0f %5.0f %5.0f %5.0f %5.0f "
#define ROW_JSON                                                        \
	"{\"vm\":\"%s\",\"state\":\"%s\",\"percent\":%.0f,"             \
	"\"resident_mib\":%.2f,\"swapped_mib\":%.2f,\"zero_mib\":%.2f," \
	"\"faults_per_s\":%.0f,\"swap_in_mib_per_s\":%.2f,"             \
	"\"swap_out_mib_per_s\":%.2f,\"fault_p50_us\":%.1f,"            \
	"\"fault_p99_us\":%.1f,\"time\":%.2f}\n"

static void print_row(struct vm *vm, double seconds, unsigned width)
{
	const struct ovc_vm_stats *now = &vm->now, *before = &vm->before;
	struct report report = vm_report(vm);
	double percent = 100;

	if (report.total && report.done < report.total)
		percent = 100.0 * (double)report.done / (double)report.total;
	printf(vmm.json ? ROW_JSON : ROW_TABLE, vm->name,
	       vm->failed ? "failed" : phases[report.phase], percent,
	       MIB(now->resident), MIB(now->swapped), MIB(now->zero),
	       (double)(now->faults - before->faults) / seconds,
	       MIB(now->swap_in_bytes - before->swap_in_bytes) / seconds,
	       MIB(now->swap_out_bytes - before->swap_out_bytes) / seconds,
	       (double)now->fault_p50_ns / 1e3, (double)now->fault_p99_ns / 1e3,
	       (double)(shown - began) / 1e9);
	if (!vmm.json)
		print_bar(now->resident, now->configured, width);
}

#define HOST_TABLE \
	"host: %.1f of %.0f MiB used, %.1f staged, %.1f own, %.0f swapped\n"
#define HOST_JSON                                                    \
	"{\"host\":true,\"used_mib\":%.2f,\"budget_mib\":%.2f,"      \
	"\"staged_mib\":%.2f,\"own_mib\":%.2f,\"swapped_mib\":%.2f," \
	"\"time\":%.2f}\n"

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

void table_show(void)
{
	bool live = !vmm.json && isatty(STDOUT_FILENO);
	struct winsize window = { .ws_col = 100 };
	struct ovc_host_stats host;
	uint64_t now = now_ns();
	unsigned i, width, rows = vmm.vms;
	double seconds;

	if (!began)
		began = shown = now;
	seconds = (double)(now - shown) / 1e9;
	if (seconds < (live || vmm.json ? 0.1 : 5))
		return;
	sample(&host);
	shown = now;
	if (live)
		ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
	if (window.ws_row > 5 && rows > window.ws_row - 5u)
		rows = window.ws_row - 5u; /* what scrolls off stays there */
	width = window.ws_col < 80 ? 10 : window.ws_col - 70u;

	pthread_mutex_lock(&lock);
	erase_table();
	if (!vmm.json)
		puts(HEADER);
	for (i = 0; i < rows; i++)
		print_row(&vmm.vm[i], seconds, width);
	printf(vmm.json ? HOST_JSON : HOST_TABLE, MIB(host.used),
	       MIB(host.budget), MIB(host.staged),
	       MIB(host.metadata + host.buffers), MIB(host.swapped),
	       (double)(shown - began) / 1e9);
	if (!vmm.json)
		print_bar(host.used, host.budget, width + 67);
	fflush(stdout);
	lines = live ? rows + 3 : 0;
	pthread_mutex_unlock(&lock);
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

#define RESULT_TABLE \
	"\n%s: %u VMs with %.0f MiB together, budget %.0f MiB, %.1f s\n"
#define RESULT_JSON                                          \
	"{\"result\":\"%s\",\"vms\":%u,\"guests_mib\":%.2f," \
	"\"budget_mib\":%.2f,\"seconds\":%.1f}\n"

bool table_summary(void)
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
	right = all[1] == all[0] && !all[3];
	printf(vmm.json ? RESULT_JSON : RESULT_TABLE,
	       right  ? "every page was right" :
	       all[3] ? "PAGES WERE WRONG" :
			"not all pages were verified",
	       vmm.vms, MIB(vmm.mem) * vmm.vms, MIB(vmm.budget),
	       (double)(now_ns() - began) / 1e9);
	fflush(stdout);
	lines = 0; /* what is on the terminal stays */
	pthread_mutex_unlock(&lock);
	return right;
}
