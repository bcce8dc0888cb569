/* SPDX-License-Identifier: MIT */
/*
 * Fills and verifies 1 GiB of memory while holding no more than 256 MiB of it:
 *	ovc-touch [SWAP-DIRECTORY]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <overcommit.h>

#define MIB   ((size_t)1 << 20)
#define SIZE  (1024 * MIB)
#define WORDS (SIZE / sizeof(uint64_t))

/* Calls return 0 or a negative errno; ovc_error() says what was wrong. */
static void check(int result)
{
	if (result < 0) {
		fprintf(stderr, "ovc-touch: %s\n", ovc_error());
		exit(1);
	}
}

int main(int argc, char **argv)
{
	/* Memory as anybody gets it. */
	uint64_t *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("ovc-touch: mmap");
		return 1;
	}

	/* How much of it we want to hold, ... */
	struct ovc_host_options host_options = {
		.size = sizeof(host_options),
		.budget = 256 * MIB,
	};
	struct ovc_host *host;
	check(ovc_host_create(&host_options, &host));

	/* ... where the rest of it goes, an unnamed file in a directory, ... */
	struct ovc_vm_options vm_options = {
		.size = sizeof(vm_options),
		.swap = argc > 1 ? argv[1] : ".",
	};
	struct ovc_vm *vm;
	check(ovc_vm_create(host, &vm_options, &vm));

	/* ... and where it is. From here on, it is just memory. */
	struct ovc_region_options region_options = {
		.size = sizeof(region_options),
		.addr = memory,
		.len = SIZE,
	};
	check(ovc_vm_add_region(vm, &region_options));

	size_t i, wrong = 0;
	for (i = 0; i < WORDS; i++)
		memory[i] = i * 0x9e3779b97f4a7c15;
	for (i = 0; i < WORDS; i++)
		wrong += memory[i] != i * 0x9e3779b97f4a7c15;

	struct ovc_vm_stats stats = { .size = sizeof(stats) };
	check(ovc_vm_stats(vm, &stats));
	printf("%zu wrong words; %zu MiB in memory, %zu MiB written, "
	       "%zu MiB read\n",
	       wrong, stats.resident / MIB, stats.swap_out_bytes / MIB,
	       stats.swap_in_bytes / MIB);

	/* Throw the memory away; else it would all be brought back first. */
	ovc_vm_destroy(&vm, OVC_THROW_AWAY);
	ovc_host_destroy(&host);
	return wrong != 0;
}
