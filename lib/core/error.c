/* SPDX-License-Identifier: MIT */
/*
 * Failures in words: the calling thread's last sentence, and log lines. A sentence
 * that is too long is cut, never dropped.
 */
#include "core/internal.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char sentence[512];

const char *ovc_error(void)
{
	return sentence;
}

int ovc_fail(int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sentence, sizeof(sentence), fmt, ap);
	va_end(ap);
	return error;
}

void ovc_log(struct ovc_host *host, int level, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (!host->log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	host->log(level, line, host->opaque);
}
