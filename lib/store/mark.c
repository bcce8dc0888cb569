/* SPDX-License-Identifier: MIT */
/* See mark.h. */
#include "store/mark.h"

#include <errno.h>
#include <string.h>

#include "sys/hash.h"

#define PAGE	((uint64_t)4096)
#define MIB	((uint64_t)1 << 20)
#define VERSION 1

static const char magic[24] = "libovercommit swap\n";

/* All of page 0, as it is on the disk (x86-64: little endian). What changes while it is
 * in use is in one sector, so that a power failure leaves the old or the new. */
struct mark {
	char magic[24];
	uint32_t version;
	uint32_t reserved;
	uint64_t bytes; /* from the beginning, that may hold guests' memory */
	uint64_t sum;	/* of all the page, with a sum of 0 */
	char text[256]; /* for people who look at it */
	char zeros[4096 - 24 - 8 - 16 - 256];
};

_Static_assert(sizeof(struct mark) == 4096, "a mark is a page");

static const char text[] =
	"This is the swap of a virtual machine. While it runs, and after its VMM "
	"was killed, what follows is the guest's memory. The next VMM that is "
	"given it wipes it.\n";

uint64_t ovc_mark_head(const struct ovc_file *f)
{
	if (f->kind == OVC_FILE_UNNAMED)
		return 0;
	return f->kind == OVC_FILE_DEVICE ? MIB / PAGE : 1;
}

uint64_t ovc_mark_tail(const struct ovc_file *f)
{
	return f->kind == OVC_FILE_DEVICE ? MIB / PAGE : 0;
}

static uint64_t sum_of(struct mark *m)
{
	uint64_t was = m->sum, sum;

	m->sum = 0;
	sum = ovc_hash_sum(m, sizeof(*m));
	m->sum = was;
	return sum;
}

static bool is_mark(struct mark *m)
{
	return !memcmp(m->magic, magic, sizeof(magic)) &&
	       m->version == VERSION && m->sum == sum_of(m);
}

static int claim_file(const struct ovc_file *f, struct mark *m,
		      struct ovc_why *why)
{
	if (!f->size)
		return 0;
	if (!is_mark(m))
		return ovc_because(why, -ENOTEMPTY,
				   "the file is not empty, and is no swap that "
				   "a VMM left behind; remove it if nobody "
				   "needs it, or choose another path");
	return ovc_file_wipe(f, 0, 0);
}

static int claim_device(const struct ovc_file *f, const char *path,
			struct mark *m, struct ovc_why *why)
{
	uint64_t bytes = m->bytes;
	bool ours = is_mark(m);
	int error;

	if (f->size < 3 * MIB)
		return ovc_because(why, -ENOSPC,
				   "the device has %llu KiB, and swap takes at "
				   "least 3 MiB",
				   (unsigned long long)f->size / 1024);
	error = ovc_file_blank(f, path, ours ? PAGE : 0, MIB, MIB, why);
	if (error || !ours)
		return error;
	if (bytes > f->size - MIB)
		bytes = (f->size - MIB) & ~(PAGE - 1);
	return ovc_mark_wipe(f, bytes);
}

int ovc_mark_claim(const struct ovc_file *f, const char *path,
		   struct ovc_why *why)
{
	_Alignas(4096) struct mark m = { .version = 0 };
	int error = 0;

	if (f->kind == OVC_FILE_UNNAMED)
		return 0;
	if (f->size >= sizeof(m))
		error = ovc_file_read(f, &m, sizeof(m), 0);
	if (error)
		return error;
	return f->kind == OVC_FILE_NAMED ? claim_file(f, &m, why) :
					   claim_device(f, path, &m, why);
}

int ovc_mark_set(const struct ovc_file *f, uint64_t bytes, struct ovc_why *why)
{
	_Alignas(4096) struct mark m = { .version = VERSION, .bytes = bytes };
	int error;

	if (f->kind == OVC_FILE_UNNAMED)
		return 0;
	memcpy(m.magic, magic, sizeof(magic));
	memcpy(m.text, text, sizeof(text));
	m.sum = sum_of(&m);
	error = ovc_file_write_page(f, &m, 0);
	if (error == -EIO || error == -ENXIO)
		ovc_because(why, error, "its first page cannot be written");
	return error;
}

int ovc_mark_wipe(const struct ovc_file *f, uint64_t bytes)
{
	uint64_t head = ovc_mark_head(f) * PAGE;
	int error = 0;

	if (f->kind != OVC_FILE_DEVICE)
		return ovc_file_wipe(f, 0, 0);
	if (bytes > head)
		error = ovc_file_wipe(f, head, bytes - head);
	return error ? error : ovc_file_wipe(f, 0, PAGE);
}
