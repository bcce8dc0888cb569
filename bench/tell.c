/* SPDX-License-Identifier: MIT */
/* What all cases share with the program: its voice, its end, its sizes. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "bench.h"

volatile int interrupted;

void say(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr,
		isatty(STDERR_FILENO) ? "\r\033[Kovc-bench: " : "ovc-bench: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

size_t case_bytes(const struct options *options, size_t otherwise)
{
	size_t bytes = options->bytes ? options->bytes : otherwise;

	return bytes & -(4 * MIB);
}

int fail(struct trial *trial, enum verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(trial->out->why, sizeof(trial->out->why), format, args);
	va_end(args);
	trial->out->verdict = verdict;
	return -1;
}
