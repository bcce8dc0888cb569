/* SPDX-License-Identifier: MIT */
/*
 * See sharing.h. Where memory may be mapped, a memfd is said to be ours alone.
 */
#include "sharing.h"

#include <sys/mman.h>

struct share_way share_ways[SHARE_WAYS] = {
	{ { ANON, 0 }, true },
	{ { MEMFD, 0 }, true },
	{ { MEMFD, 0 }, false },
};

const char *share_way_name(const struct share_way *s)
{
	static char name[300];

	snprintf(name, sizeof(name), "%s, %s", way_name(s->way),
		 s->mapped ? "mapped" : "not mapped");
	return name;
}

struct plan share_plan(const struct share_way *s)
{
	bool unshared = s->way.kind == MEMFD && s->mapped;

	return (struct plan){ .way = s->way,
			      .len = NR * PAGE,
			      .region_flags =
				      unshared ? OVC_REGION_UNSHARED_MEMFD : 0,
			      .domain = "all" };
}

void share_now(const struct world *w)
{
	cr_assert_eq(ovc_host_set_share(w->host, OVC_SHARE_ALWAYS, 100), 0);
}

struct ovc_vm *add_guest(struct ovc_host *host, const struct plan *plan,
			 const char *domain, size_t len, char **mem, int *memfd)
{
	struct ovc_vm_options v = { .size = sizeof(v),
				    .swap = plan->no_swap ? NULL : swap_dir(),
				    .flags = plan->vm_flags,
				    .domain = domain };
	struct ovc_region_options r = { .size = sizeof(r),
					.len = len,
					.flags = plan->region_flags };
	struct ovc_vm *vm;

	r.addr = map_memory(plan->way.kind, len, &r.memfd);
	cr_assert_eq(ovc_vm_create(host, &v, &vm), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_add_region(vm, &r), 0, "%s", ovc_error());
	*mem = r.addr;
	*memfd = r.memfd;
	return vm;
}

void shared_open(struct shared_world *s, struct plan plan)
{
	world_open(&s->w, plan);
	s->other = add_guest(s->w.host, &plan, plan.domain, s->w.len, &s->mem,
			     &s->memfd);
}

void shared_close(struct shared_world *s, uint32_t flags)
{
	ovc_vm_destroy(&s->other, flags);
	munmap(s->mem, s->w.len);
	if (s->memfd)
		close(s->memfd);
	world_close(&s->w, flags);
}

static uint64_t kind_of(uint64_t idx, uint64_t kinds)
{
	return kinds ? idx % kinds : idx;
}

void fill_common(char *mem, uint64_t idx, uint64_t nr, uint64_t kinds,
		 unsigned seed)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		make_page(mem + i * PAGE, kind_of(i, kinds), seed);
}

long check_common(const char *mem, uint64_t idx, uint64_t nr, uint64_t kinds,
		  unsigned seed)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		if (!is_page(mem + i * PAGE, kind_of(i, kinds), seed))
			return (long)i;
	return -1;
}

long read_common(struct ovc_vm *vm, const char *mem, uint64_t idx, uint64_t nr,
		 uint64_t kinds, unsigned seed)
{
	_Alignas(4096) char page[PAGE];

	for (uint64_t i = idx; i < idx + nr; i++) {
		cr_assert_eq(ovc_vm_read(vm, mem + i * PAGE, page, PAGE), 0,
			     "%s", ovc_error());
		if (!is_page(page, kind_of(i, kinds), seed))
			return (long)i;
	}
	return -1;
}

void wait_for_passes(const struct world *w)
{
	uint64_t from = host_stats(w).share_passes;

	wait_for(host_stats(w).share_passes >= from + 3);
}
