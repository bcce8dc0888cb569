/* SPDX-License-Identifier: MIT */
/*
 * What the machine says of its memory: /proc/meminfo, /proc/pressure/memory. What cannot
 * be read is unknown.
 */
#include "sys/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool find_kib(const char *text, const char *key, uint64_t *bytes)
{
	const char *at = strstr(text, key);
	unsigned long long kib;

	if (!at || sscanf(at + strlen(key), " %llu", &kib) != 1)
		return false;
	*bytes = kib * 1024;
	return true;
}

static bool find_avg10(const char *text, const char *key, uint32_t *hundredths)
{
	const char *at = strstr(text, key);
	unsigned whole, part;

	if (!at ||
	    sscanf(at + strlen(key), " avg10=%u.%2u", &whole, &part) != 2)
		return false;
	*hundredths = whole * 100 + part;
	return true;
}

void ovc_machine_stalls(const char *text, uint32_t *some, uint32_t *full)
{
	if (!find_avg10(text, "some", some) || !find_avg10(text, "full", full))
		*some = *full = UINT32_MAX;
}

void ovc_machine_look(const struct ovc_proc *p, struct ovc_machine *m)
{
	char text[2048];

	ovc_proc_text(p->meminfo, "read meminfo", text, sizeof(text));
	if (!find_kib(text, "MemAvailable:", &m->available) ||
	    !find_kib(text, "MemTotal:", &m->total))
		m->available = m->total = UINT64_MAX;
	ovc_proc_text(p->pressure, "read pressure", text, sizeof(text));
	ovc_machine_stalls(text, &m->some, &m->full);
}

bool ovc_machine_merged(const struct ovc_proc *p)
{
	char text[64];

	return ovc_proc_text(p->merging, "read ksm", text, sizeof(text)) &&
	       strtoull(text, NULL, 10);
}
