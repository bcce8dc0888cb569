/* SPDX-License-Identifier: MIT */
/*
 * Without io_uring, a disk that does not answer holds its own I/Os only.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "sys/ring.h"

#define LEN	4096
#define NR	16 /* I/Os of the disk that answers */
#define SECONDS 20 /* after which the other is thawed, whatever happens */

static char bytes[LEN];
static struct iovec iov = { bytes, LEN };

static int open_file(const char *dir)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/written", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	unlink(path);
	return fd;
}

static void write_block(struct ovc_ring *ring, int fd, unsigned disk,
			uint64_t user)
{
	struct ovc_ring_io io = { .write = true,
				  .fd = fd,
				  .iov = &iov,
				  .nr_iov = 1,
				  .disk = disk,
				  .offset = user * LEN,
				  .user = user };

	cr_assert(ovc_ring_queue(ring, &io));
	cr_assert_eq(ovc_ring_submit(ring), 0);
}

/* Collects up to `most`, for a while. Returns how many ended; 0 if one failed. */
static unsigned collect(struct ovc_ring *ring, unsigned most, int ms)
{
	struct pollfd p = { .fd = ovc_ring_fd(ring), .events = POLLIN };
	struct ovc_ring_done done;
	unsigned nr = 0;

	while (nr < most && poll(&p, 1, ms) == 1)
		while (ovc_ring_reap(ring, &done, 1)) {
			if (done.result != LEN)
				return 0;
			nr++;
		}
	return nr;
}

TestSuite(standin, .timeout = 150);

Test(standin, a_frozen_disk_does_not_stop_the_others)
{
	struct ovc_ring_options o = { .depth = NR + 2 };
	struct ovc_ring *ring;
	unsigned others, early;
	const char *dir;
	int frozen, good, at;

	machine_lock();
	dir = machine_mount("ext4", 32, "-q");
	frozen = open_file(dir);
	good = open_file(own_dir());
	at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(ovc_ring_create(&o, &ring), 0);
	/* Who waits there for a write cannot end: another thaws it in any case. */
	machine_undo("fsfreeze -u %s 2>/dev/null; true", dir);
	cr_assert_eq(machine_run("(sleep %u; fsfreeze -u %s) & true", SECONDS,
				 dir),
		     0);
	if (ioctl(at, FIFREEZE, 0))
		cr_skip_test("%s cannot be frozen: %s", dir, strerror(errno));
	write_block(ring, frozen, 0, 0);
	write_block(ring, frozen, 0, 1);
	for (unsigned i = 0; i < NR; i++)
		write_block(ring, good, i % 3 + 1, i);
	others = collect(ring, NR, 3000);
	early = collect(ring, 1, 200);
	ioctl(at, FITHAW, 0);
	cr_assert_eq(others, NR);
	cr_assert_eq(early, 0, "it was not frozen");
	cr_assert_eq(collect(ring, 2, 5000), 2);
	ovc_ring_destroy(&ring);
	close(at);
	close(frozen);
	close(good);
}
