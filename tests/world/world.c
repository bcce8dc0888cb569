/* SPDX-License-Identifier: MIT */
/*
 * See world.h. Who puts the machine back is a shell that reads its commands from a
 * pipe, the end of which is the end of the test's process: so a test that crashes, or is
 * killed by a time limit, leaves nothing behind. It runs in a session of its own.
 *
 * The lock is a file's, held by that shell, too, until all is put back.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define LOCK "/tmp/.ovc-machine.lock"

/* Commands for the end, in a file, the last first: what the shell runs. */
static int undo_pipe = -1;

/* Reads commands, a line each, until the pipe closes; then runs them backwards. */
static const char keeper[] =
	"n=0; while IFS= read -r line; do n=$((n+1)); eval \"c$n=\\$line\"; done; "
	"while [ $n -gt 0 ]; do eval \"eval \\\"\\$c$n\\\"\"; n=$((n-1)); done";

static void start_keeper(int lock)
{
	int ends[2], null;

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	if (fork()) {
		close(ends[0]);
		close(lock);
		undo_pipe = ends[1];
		return;
	}
	setsid();
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	null = open("/dev/null", O_RDWR);
	dup2(ends[0], 0);
	dup2(null, 1);
	dup2(null, 2);
	/* The lock's descriptor, which the shell is to hold, survives. */
	fcntl(lock, F_SETFD, 0);
	close(ends[1]);
	execl("/bin/sh", "sh", "-c", keeper, (char *)NULL);
	_exit(127);
}

void machine_lock(void)
{
	int lock;

	need_root();
	if (undo_pipe >= 0)
		return;
	lock = open(LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(lock >= 0, "%s: %s", LOCK, strerror(errno));
	cr_assert_eq(flock(lock, LOCK_EX), 0);
	start_keeper(lock);
}

void machine_undo(const char *format, ...)
{
	char line[1024];
	va_list list;
	int n;

	cr_assert(undo_pipe >= 0, "machine_lock() comes first");
	va_start(list, format);
	n = vsnprintf(line, sizeof(line) - 1, format, list);
	va_end(list);
	cr_assert(n > 0 && n < (int)sizeof(line) - 1);
	line[n++] = '\n';
	cr_assert_eq(write(undo_pipe, line, (size_t)n), n);
}

int machine_run(const char *format, ...)
{
	char command[1024], quiet[1100];
	va_list list;
	int status;

	va_start(list, format);
	vsnprintf(command, sizeof(command), format, list);
	va_end(list);
	snprintf(quiet, sizeof(quiet),
		 "PATH=$PATH:/sbin:/usr/sbin; { %s; } >/dev/null 2>&1",
		 command);
	status = system(quiet);
	return status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, value, strlen(value)) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

bool machine_set(const char *path, const char *value)
{
	char old[256], *begin = old, *end;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return false;
	got = read(fd, old, sizeof(old) - 1);
	close(fd);
	if (got <= 0)
		return false;
	old[got] = '\0';
	old[strcspn(old, "\n")] = '\0';
	/* "always [madvise] never" */
	if (strchr(old, '[')) {
		begin = strchr(old, '[') + 1;
		end = strchr(begin, ']');
		if (end)
			*end = '\0';
	}
	machine_undo("echo '%s' >%s", begin, path);
	return put(path, value);
}

const char *machine_mount(const char *type, unsigned mib, const char *options)
{
	static char dirs[8][128];
	static unsigned nr;
	const char *own = own_dir();
	char *dir = dirs[nr % 8], image[160];

	machine_lock();
	snprintf(dir, 128, "%s/mnt%u", own, nr);
	snprintf(image, sizeof(image), "%s/image%u", own, nr++);
	if (machine_run("command -v mkfs.%s", type))
		cr_skip_test("no mkfs.%s here", type);
	if (mkdir(dir, 0755) ||
	    machine_run("fallocate -l %uM %s || truncate -s %uM %s", mib, image,
			mib, image))
		cr_skip_test("no room for an image of %u MiB", mib);
	machine_undo("rm -f %s; rmdir %s; rmdir %s", image, dir, own);
	if (machine_run("mkfs.%s %s %s", type, options ? options : "", image))
		cr_skip_test("mkfs.%s %s fails here", type,
			     options ? options : "");
	if (machine_run("mount -o loop %s %s", image, dir))
		cr_skip_test("this kernel does not mount %s on a loop device",
			     type);
	machine_undo("umount %s || umount -l %s", dir, dir);
	return dir;
}

void machine_swap_on(unsigned mib)
{
	char file[160];

	machine_lock();
	snprintf(file, sizeof(file), "%s/swapfile", own_dir());
	if (machine_run("fallocate -l %uM %s && chmod 600 %s && mkswap %s", mib,
			file, file, file))
		cr_skip_test("no room for %u MiB of swap", mib);
	machine_undo("rm -f %s; rmdir %s", file, own_dir());
	if (machine_run("swapon %s", file))
		cr_skip_test("swapon is refused here");
	machine_undo("swapoff %s", file);
}

size_t machine_page_out(char *mem, size_t len)
{
	cr_assert_eq(madvise(mem, len, MADV_PAGEOUT), 0, "pageout: %s",
		     strerror(errno));
	return len / PAGE - present_pages(mem, len);
}

int lock_memory(const void *mem, size_t len)
{
	return (int)syscall(SYS_mlock, mem, len);
}

int unlock_memory(const void *mem, size_t len)
{
	return (int)syscall(SYS_munlock, mem, len);
}

/* A process with I/O under way there cannot end, so that who puts the machine back would
 * wait for ever: a child thaws it in time, and when the test's process ends. */
static pid_t thawer;

/* One whose threads are in the kernel still is there, and is a zombie. */
static bool has_ended(pid_t pid)
{
	char path[64], state = 'Z';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 'Z';
	if (f)
		fclose(f);
	return state == 'Z';
}

static void thaw_in_time(int fd, unsigned seconds)
{
	pid_t parent = getppid();

	dup2(fd, 0);
	close_range(1, ~0u, 0);
	setsid();
	for (unsigned i = 0; i < 10 * seconds && !has_ended(parent); i++)
		usleep(100000);
	ioctl(0, FITHAW, 0);
	_exit(0);
}

void machine_freeze(const char *dir, unsigned seconds)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert(fd >= 0);
	thawer = fork();
	if (!thawer)
		thaw_in_time(fd, seconds);
	if (ioctl(fd, FIFREEZE, 0)) {
		kill(thawer, SIGKILL);
		cr_skip_test("%s cannot be frozen: %s", dir, strerror(errno));
	}
	close(fd);
}

void machine_thaw(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	kill(thawer, SIGKILL);
	waitpid(thawer, NULL, 0);
	cr_assert(fd >= 0 && (!ioctl(fd, FITHAW, 0) || errno == EINVAL));
	close(fd);
}

void hide_from_us(void)
{
	struct __user_cap_header_struct who = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct caps[2];

	need_root();
	cr_assert_eq(syscall(SYS_capget, &who, caps), 0);
	caps[0].effective &= ~(1u << CAP_SYS_ADMIN);
	caps[0].permitted &= ~(1u << CAP_SYS_ADMIN);
	cr_assert_eq(syscall(SYS_capset, &who, caps), 0);
}

int in_child(int (*fn)(void *arg), void *arg, unsigned seconds)
{
	const struct timespec nap = { .tv_nsec = 20000000 };
	int status = 0;
	pid_t pid = fork();

	cr_assert(pid >= 0);
	if (!pid) {
		int result = fn(arg);

		fflush(stdout);
		_exit(result);
	}
	for (unsigned i = 0; i < seconds * 50; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) :
						   128 + WTERMSIG(status);
		nanosleep(&nap, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}
