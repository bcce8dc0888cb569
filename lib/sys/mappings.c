/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of mappings, and of the process's memory as a whole: smaps, maps,
 * statm, from descriptors that were opened in time (proc.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sys/fail.h"
#include "sys/pages.h"

#define PAGE ((size_t)4096)

/* One mapping of /proc/self/smaps, as far as it matters here. */
struct area {
	unsigned long long start, end, offset, inode;
	unsigned major, minor;
	char perms[8];
};

static void add_area(struct ovc_mapping *m, const struct area *a,
		     unsigned long long at, unsigned long long begin)
{
	unsigned long long offset = a->offset + (at - a->start);

	if (at == begin) {
		m->inode = a->inode;
		m->device = makedev(a->major, a->minor);
		m->offset = offset;
		m->readable = m->writable = m->straight = true;
	}
	m->readable &= a->perms[0] == 'r';
	m->writable &= a->perms[1] == 'w';
	m->exec |= a->perms[2] == 'x';
	m->shared |= a->perms[3] == 's';
	m->private |= a->perms[3] == 'p';
	m->file |= a->inode != 0;
	m->straight &= a->inode == m->inode &&
		       makedev(a->major, a->minor) == m->device &&
		       offset - m->offset == at - begin;
}

static unsigned traits_of(const char *line)
{
	return (strstr(line, " nr") ? OVC_MAP_NORESERVE : 0) |
	       (strstr(line, " hg") ? OVC_MAP_HUGE : 0) |
	       (strstr(line, " nh") ? OVC_MAP_NOHUGE : 0) |
	       (strstr(line, " dd") ? OVC_MAP_DONTDUMP : 0) |
	       (strstr(line, " dc") ? OVC_MAP_DONTFORK : 0);
}

static void add_traits(struct ovc_mapping *m, unsigned traits)
{
	if (m->some && (m->traits & OVC_MAP_ALL) != traits)
		m->traits |= OVC_MAP_MIXED;
	m->traits |= traits;
	m->some = true;
}

struct mapping_search {
	struct ovc_mapping *m;
	struct area a;
	unsigned long long begin, at, end;
	bool inside;
};

static bool look_at_line(const char *line, void *arg)
{
	struct mapping_search *s = arg;
	struct area *a = &s->a;

	if (sscanf(line, "%llx-%llx %7s %llx %x:%x %llu", &a->start, &a->end,
		   a->perms, &a->offset, &a->major, &a->minor,
		   &a->inode) == 7) {
		s->inside = a->start <= s->at && s->at < a->end &&
			    s->at < s->end;
		if (s->inside) {
			add_area(s->m, a, s->at, s->begin);
			s->at = a->end;
		}
		return a->start < s->end;
	}
	if (s->inside && !strncmp(line, "VmFlags:", 8)) {
		s->m->hugetlb |= strstr(line, " ht") != NULL;
		s->m->locked |= strstr(line, " lo") != NULL;
		add_traits(s->m, traits_of(line));
	}
	return true;
}

/*
 * smaps and not maps, for only it has the VmFlags line, whose "ht" is the one
 * sure sign of hugetlb.
 */
int ovc_pages_mapping(const struct ovc_proc *proc, const void *addr, size_t len,
		      struct ovc_mapping *m)
{
	struct mapping_search s = {
		.m = m,
		.begin = (uintptr_t)addr,
		.at = (uintptr_t)addr,
		.end = (uintptr_t)addr + len,
	};
	int error;

	memset(m, 0, sizeof(*m));
	error = ovc_proc_lines(proc->smaps, "read smaps", look_at_line, &s);
	m->mapped = s.at >= s.end;
	return error;
}

struct traits_search {
	unsigned long long from, to, begin, end;
	void (*fn)(void *arg, const void *end, unsigned traits);
	void *arg;
};

static bool look_at_traits(const char *line, void *arg)
{
	struct traits_search *s = arg;
	unsigned long long from, to;

	if (sscanf(line, "%llx-%llx ", &from, &to) == 2) {
		s->from = from;
		s->to = to;
		return from < s->end;
	}
	if (s->to > s->begin && !strncmp(line, "VmFlags:", 8))
		s->fn(s->arg,
		      (const void *)(uintptr_t)(s->to < s->end ? s->to :
								 s->end),
		      traits_of(line));
	return true;
}

int ovc_pages_traits(const struct ovc_proc *proc, const void *addr, size_t len,
		     void (*fn)(void *arg, const void *end, unsigned traits),
		     void *arg)
{
	struct traits_search s = { .begin = (uintptr_t)addr,
				   .end = (uintptr_t)addr + len,
				   .fn = fn,
				   .arg = arg };

	return ovc_proc_lines(proc->smaps, "read smaps", look_at_traits, &s);
}

struct piece_search {
	uintptr_t begin, end;
	void (*fn)(void *arg, char *from, size_t len);
	void *arg;
};

static bool look_at_piece(const char *line, void *arg)
{
	const struct piece_search *s = arg;
	unsigned long from, to;

	if (sscanf(line, "%lx-%lx", &from, &to) != 2)
		return true;
	from = from > s->begin ? from : s->begin;
	to = to < s->end ? to : s->end;
	if (from < to)
		s->fn(s->arg, (char *)from, to - from);
	return true;
}

int ovc_pages_each_mapping(const struct ovc_proc *proc, const void *addr,
			   size_t len,
			   void (*fn)(void *arg, char *from, size_t len),
			   void *arg)
{
	struct piece_search s = { .begin = (uintptr_t)addr,
				  .end = (uintptr_t)addr + len,
				  .fn = fn,
				  .arg = arg };

	return ovc_proc_lines(proc->maps, "read maps", look_at_piece, &s);
}

struct hole {
	char *from, *to;
	bool closed;
};

static void find_hole(void *arg, char *from, size_t len)
{
	struct hole *h = arg;

	if (h->closed)
		return;
	if (from == h->from) {
		h->from += len;
	} else {
		h->to = from;
		h->closed = true;
	}
}

/* MS_ASYNC does nothing but look whether all is mapped. */
bool ovc_pages_hole(const struct ovc_proc *proc, const void *addr, size_t len,
		    char **hole, size_t *hole_len)
{
	char *base = (char *)(uintptr_t)addr;
	struct hole h = { .from = base, .to = base + len };

	if (ovc_sys_fail("msync") || !msync(base, len, MS_ASYNC) ||
	    errno != ENOMEM)
		return false;
	if (ovc_pages_each_mapping(proc, addr, len, find_hole, &h) ||
	    h.from >= h.to)
		h = (struct hole){ .from = base, .to = base + len };
	*hole = h.from;
	*hole_len = (size_t)(h.to - h.from);
	return true;
}

/* Of statm: pages resident, and of these, those of files and shmem. */
static bool read_statm(const struct ovc_proc *proc,
		       unsigned long long *resident, unsigned long long *files)
{
	unsigned long long total;
	char text[128];

	return ovc_proc_text(proc->statm, "read statm", text, sizeof(text)) &&
	       sscanf(text, "%llu %llu %llu", &total, resident, files) == 3;
}

uint64_t ovc_pages_process_resident(const struct ovc_proc *proc)
{
	unsigned long long resident, files;

	return read_statm(proc, &resident, &files) ? resident * PAGE :
						     UINT64_MAX;
}

uint64_t ovc_pages_max_mappings(void)
{
	int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
	char text[64];
	bool known =
		ovc_proc_text(fd, "read max_map_count", text, sizeof(text));

	if (fd >= 0)
		close(fd);
	return known ? strtoull(text, NULL, 10) : 0;
}

struct counted {
	const char *name;
	uint64_t nr;
};

static bool count_line(const char *line, void *arg)
{
	struct counted *c = arg;

	c->nr += strstr(line, c->name) != NULL;
	return true;
}

uint64_t ovc_pages_mappings_of(const struct ovc_proc *proc, const char *name)
{
	struct counted c = { .name = name };

	if (ovc_proc_lines(proc->maps, "read maps", count_line, &c))
		return UINT64_MAX;
	return c.nr;
}

uint64_t ovc_pages_mappings(const struct ovc_proc *proc)
{
	return ovc_pages_mappings_of(proc, "");
}
