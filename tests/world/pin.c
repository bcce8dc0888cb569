/* SPDX-License-Identifier: MIT */
/* A pin that can never be had is refused, at once, and nothing was brought in for it. */
#include "world.h"

TestSuite(pin, .timeout = 60);

static uint64_t room(const struct world *w)
{
	struct ovc_host_stats h = host_stats(w);

	return h.budget - h.reserve - h.metadata - h.buffers;
}

ParameterizedTestParameters(pin, what_the_library_needs_itself_is_not_promised)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

/* Less than the budget less the reserve, and more than there is. */
ParameterizedTest(struct way *way, pin,
		  what_the_library_needs_itself_is_not_promised)
{
	uint64_t before;
	struct world w;
	size_t most;

	world_open(&w, (struct plan){ .way = *way,
				      .budget = 32 * MIB,
				      .len = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	before = host_stats(&w).swap_in_bytes;
	most = (size_t)(host_stats(&w).budget - host_stats(&w).reserve);
	cr_assert_lt(room(&w), most);
	expect_error("pin", ovc_vm_pin(w.vm, w.mem, most), -ENOMEM, "missing");
	cr_assert_eq(host_stats(&w).swap_in_bytes, before);
	cr_assert_eq(vm_stats(&w).pinned, 0);
	/* And what there is can be had. */
	most = (size_t)(room(&w) - MIB) & ~(PAGE - 1);
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, most), 0, "%s", ovc_error());
	cr_assert_eq(vm_stats(&w).pinned, most);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem, most), 0);
	world_close(&w, OVC_THROW_AWAY);
}

Test(pin, what_another_vm_is_guaranteed_is_not_promised)
{
	struct ovc_vm_options v = { .size = sizeof(v),
				    .swap = swap_dir(),
				    .min = 12 * MIB };
	struct ovc_region_options r = { .size = sizeof(r),
					.len = 16 * MIB,
					.gpa = (uint64_t)1 << 40 };
	struct ovc_vm *other;
	struct world w;
	int unused;

	world_open(&w, (struct plan){ .budget = 32 * MIB, .len = 64 * MIB });
	r.addr = map_memory(ANON, r.len, &unused);
	cr_assert_eq(ovc_vm_create(w.host, &v, &other), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_add_region(other, &r), 0, "%s", ovc_error());
	fill_pages(r.addr, 0, r.len / PAGE, 2);
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	fill_pages(r.addr, 0, r.len / PAGE, 2);
	expect_error("pin", ovc_vm_pin(w.vm, w.mem, 20 * MIB), -ENOMEM,
		     "guaranteed");
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, 8 * MIB), 0, "%s", ovc_error());
	ovc_vm_destroy(&other, OVC_THROW_AWAY);
	world_close(&w, OVC_THROW_AWAY);
}
