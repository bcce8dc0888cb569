/* SPDX-License-Identifier: MIT */
/*
 * The library carries an allocator of its own for its metadata. The program
 * that links the library must nevertheless go on with glibc's: malloc and its
 * relatives are looked up as the program's code would, and must be libc's.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "overcommit.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int is_in_libc(const char *name, void *address)
{
	Dl_info info;

	if (dladdr(address, &info) && strstr(info.dli_fname, "/libc.so"))
		return 1;
	printf("%s is not libc's but in %s\n", name, info.dli_fname);
	return 0;
}

int main(void)
{
	if (SANITIZED) {
		puts("skipped: the sanitizer brings a malloc of its own");
		return 77;
	}
	printf("libovercommit %s\n", ovc_version());
	return !(is_in_libc("malloc", (void *)malloc) &
		 is_in_libc("calloc", (void *)calloc) &
		 is_in_libc("realloc", (void *)realloc) &
		 is_in_libc("free", (void *)free));
}
