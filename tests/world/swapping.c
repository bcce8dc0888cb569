/* SPDX-License-Identifier: MIT */
/* See swapping.h. */
#include "swapping.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

void refuse_swap(struct world *w, const char *path, int error, const char *word)
{
	struct ovc_vm_options o = { .size = sizeof(o), .swap = path };
	struct ovc_vm *vm = NULL;
	unsigned fds = belongings().fds;

	expect_error(path, ovc_vm_create(w->host, &o, &vm), error, word);
	cr_assert_null(vm);
	cr_assert_eq(host_stats(w).vms, 1);
	cr_assert_eq(belongings().fds, fds);
}

static void live_until_killed(const char *path, size_t len, unsigned seed,
			      int ready)
{
	struct world w;

	world_open(&w, (struct plan){ .swap = path, .len = len });
	fill_pages(w.mem, 0, len / PAGE, seed);
	if (ovc_vm_reclaim(w.vm, w.mem, len) || write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

void swap_and_be_killed(const char *path, size_t len, unsigned seed)
{
	int ends[2];
	pid_t pid;
	char c;

	need_userfaultfd();
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		live_until_killed(path, len, seed, ends[1]);
	}
	close(ends[1]);
	cr_assert_eq(read(ends[0], &c, 1), 1, "it did not swap");
	close(ends[0]);
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

unsigned pages_left(const char *path, size_t len, unsigned seed)
{
	_Alignas(4096) char page[PAGE];
	uint64_t nr = len / PAGE, *first = malloc(nr * sizeof(*first));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned left = 0;

	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	for (uint64_t i = 0; i < nr; i++) {
		make_page(page, i, seed);
		memcpy(&first[i], page, sizeof(*first));
	}
	while (read(fd, page, PAGE) == (ssize_t)PAGE)
		for (uint64_t i = 0; i < nr; i++)
			left += !memcmp(&first[i], page, sizeof(*first)) &&
				is_page(page, i, seed);
	close(fd);
	free(first);
	return left;
}

long first_byte(const char *path)
{
	static char buf[1 << 16];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long at = 0, found = -1;
	ssize_t got;

	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	while (found < 0 && (got = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; found < 0 && i < got; i++)
			if (buf[i])
				found = at + i;
		at += got;
	}
	close(fd);
	return found;
}

void go_there_and_back(struct world *w, unsigned seed)
{
	uint64_t nr = w->len / PAGE;

	fill_pages(w->mem, 0, nr, seed);
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, w->len), 0, "%s",
		     ovc_error());
	cr_assert_eq(vm_stats(w).swapped, w->len);
	cr_assert_eq(check_pages(w->mem, 0, nr, seed), -1);
}

const char *own_path(const char *name)
{
	static char paths[4][600];
	static unsigned nr;
	char *path = paths[nr++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", own_dir(), name);
	return path;
}
