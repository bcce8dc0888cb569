/* SPDX-License-Identifier: MIT */
/* See why.h. */
#include "sys/why.h"

#include <stdarg.h>
#include <stdio.h>

int ovc_because(struct ovc_why *why, int error, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(why->text, sizeof(why->text), format, list);
	va_end(list);
	return error;
}
