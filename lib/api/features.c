/* SPDX-License-Identifier: MIT */
/* Names of what the kernel and the process's limits let the library use. */
#include "core/internal.h"

const char *ovc_feature_name(unsigned feature)
{
	static const char *const names[] = {
		"move",	   "pagemap-scan", "wp-async",	 "poison",
		"minor",   "batch-advise", "io-uring",	 "direct-io",
		"tmpfile", "jemalloc",	   "fixed-bufs", "fixed-files",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (feature == 1u << i)
			return names[i];
	return NULL;
}
