/* SPDX-License-Identifier: MIT */
/*
 * Hosts and VMs: what creation refuses and how it says so, options and
 * statistics of other versions of the header, and that both go without a trace.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "support.h"

TestSuite(host, .timeout = 60 * PATIENCE);

/* ---- wrong arguments ------------------------------------------------------ */

static const struct {
	struct ovc_host_options o;
	const char *word;
} bad_hosts[] = {
	{ { .size = 0, .budget = 64 << 20 }, "size" },
	{ { .size = 8, .budget = 64 << 20 }, "size" },
	{ { .budget = 0 }, "budget" },
	{ { .budget = (8 << 20) - 1 }, "budget" },
	{ { .budget = 64 << 20, .reserve = 32 << 20 }, "reserve" },
	{ { .budget = 64 << 20, .reserve = 1ull << 40 }, "reserve" },
	{ { .budget = 64 << 20, .reserve = UINT64_MAX }, "reserve" },
	{ { .budget = 64 << 20, .reserve = 1ull << 63 }, "reserve" },
	{ { .budget = 64 << 20, .flags = 2 }, "flags" },
	{ { .budget = 64 << 20, .fault_threads = 65 }, "fault_threads" },
	{ { .budget = 64 << 20, .without = 1u << 31 }, "without" },
	{ { .budget = 64 << 20, .userfaultfd = -1 }, "userfaultfd" },
	{ { .budget = 64 << 20, .userfaultfd = 4711 }, "userfaultfd" },
	{ { .budget = 64 << 20, .share = OVC_SHARE_ALWAYS + 1 }, "share" },
	{ { .budget = 64 << 20, .share = UINT32_MAX }, "share" },
	{ { .budget = 64 << 20, .share_cpu = 101 }, "share_cpu" },
};

Test(host, a_bad_option_is_refused_by_name_and_nothing_is_left)
{
	struct ovc_host *host = (struct ovc_host *)&host;
	struct belongings before, after;

	need_userfaultfd();
	before = belongings();
	for (size_t i = 0; i < sizeof(bad_hosts) / sizeof(bad_hosts[0]); i++) {
		struct ovc_host_options o = bad_hosts[i].o;
		int got;

		if (i > 1)
			o.size = sizeof(o);
		got = ovc_host_create(&o, &host);
		cr_assert(got < 0, "row %zu", i);
		/* A descriptor that is none is the kernel's to refuse. */
		if (o.userfaultfd != 4711)
			cr_assert_eq(got, -EINVAL, "row %zu: %d", i, got);
		expect_error("host_create", got, got, bad_hosts[i].word);
		cr_assert_eq((void *)host, (void *)&host, "row %zu", i);
	}
	after = belongings();
	cr_assert_eq(before.fds, after.fds);
	cr_assert_eq(before.threads, after.threads);
}

Test(host, null_arguments_are_refused_by_name)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = 64 << 20 };
	struct ovc_host *host = NULL;
	struct ovc_host_stats stats = { .size = sizeof(stats) };
	struct ovc_vm *vm = NULL;

	expect_error("create", ovc_host_create(NULL, &host), -EINVAL,
		     "options");
	expect_error("create", ovc_host_create(&o, NULL), -EINVAL, "hostp");
	expect_error("budget", ovc_host_set_budget(NULL, 64 << 20), -EINVAL,
		     "host");
	expect_error("stats", ovc_host_stats(NULL, &stats), -EINVAL, "host");
	expect_error("fd", ovc_host_fd(NULL), -EINVAL, "host");
	expect_error("dispatch", ovc_host_dispatch(NULL), -EINVAL, "host");
	expect_error("vm", ovc_vm_create(NULL, NULL, &vm), -EINVAL, "host");
	expect_error("limit", ovc_vm_set_limit(NULL, 0), -EINVAL, "vm");
	expect_error("share", ovc_host_set_share(NULL, OVC_SHARE_NEVER, 0),
		     -EINVAL, "host");
	cr_assert_null(host);
	cr_assert_null(vm);
	ovc_host_destroy(NULL);
	ovc_host_destroy(&host);
	ovc_vm_destroy(NULL, 0);
	ovc_vm_destroy(&vm, 0);
}

static const struct {
	struct ovc_vm_options o;
	int error;
	const char *word;
} bad_vms[] = {
	{ { .size = 0 }, -EINVAL, "size" },
	{ { .size = 8 }, -EINVAL, "size" },
	{ { .name = "" }, -EINVAL, "name" },
	{ { .name = "a/b" }, -EINVAL, "name" },
	{ { .name = "." }, -EINVAL, "name" },
	{ { .name = ".." }, -EINVAL, "name" },
	{ { .name = "sp ace" }, -EINVAL, "name" },
	{ { .name = "\xc3\xa4" }, -EINVAL, "name" },
	{ { .name = "0123456789012345678901234567890123456789"
		    "012345678901234567890123" },
	  -EINVAL,
	  "name" },
	{ { .name = "guest" }, -EEXIST, "guest" },
	{ { .swap = "" }, -EINVAL, "swap" },
	{ { .swap_size = 4096 }, -EINVAL, "swap_size" },
	{ { .limit = 4096 }, -EINVAL, "limit" },
	{ { .limit = (1 << 20) - 1 }, -EINVAL, "limit" },
	{ { .flags = 8 }, -EINVAL, "flags" },
	{ { .flags = OVC_VM_NO_SHARE | 1u << 31 }, -EINVAL, "flags" },
	{ { .domain = "" }, -EINVAL, "domain" },
	{ { .domain = "0123456789012345678901234567890123456789"
		      "012345678901234567890123" },
	  -EINVAL,
	  "domain" },
	{ { .swap = "/nonexistent/directory/file" }, -ENOENT, "nonexistent" },
	{ { .swap = "/dev/null" }, -EINVAL, "/dev/null" },
};

Test(host, a_bad_vm_option_is_refused_by_name_and_no_vm_is_made)
{
	struct world w;
	struct belongings before;

	world_open(&w, (struct plan){ .no_swap = true });
	before = belongings();
	for (size_t i = 0; i < sizeof(bad_vms) / sizeof(bad_vms[0]); i++) {
		struct ovc_vm_options o = bad_vms[i].o;
		struct ovc_vm *vm = (struct ovc_vm *)&o;

		if (i > 1)
			o.size = sizeof(o);
		expect_error(o.name ? o.name : "vm_create",
			     ovc_vm_create(w.host, &o, &vm), bad_vms[i].error,
			     bad_vms[i].word);
		cr_assert_eq((void *)vm, (void *)&o);
		cr_assert_eq(host_stats(&w).vms, 1);
	}
	expect_error("vm_create", ovc_vm_create(w.host, NULL, NULL), -EINVAL,
		     "vmp");
	cr_assert_eq(belongings().fds, before.fds);
	world_close(&w, 0);
}

Test(host, a_name_of_63_characters_and_no_options_at_all_are_accepted)
{
	static const char longest[] = "0123456789_-.ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwx";
	struct ovc_vm_options o = { .size = sizeof(o), .name = longest };
	struct ovc_vm *a = NULL, *b = NULL;
	struct world w;

	cr_assert_eq(strlen(longest), 63);
	world_open(&w, (struct plan){ .no_swap = true });
	cr_assert_eq(ovc_vm_create(w.host, &o, &a), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_create(w.host, NULL, &b), 0, "%s", ovc_error());
	cr_assert_eq(host_stats(&w).vms, 3);
	world_close(&w, 0);
}

Test(host, a_domain_of_63_characters_of_any_kind_is_accepted)
{
	static const char longest[] = "a domain/has no rules: 0123456789_-."
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ ";
	struct ovc_vm_options o = { .size = sizeof(o), .domain = longest };
	struct ovc_vm *a = NULL, *b = NULL;
	struct world w;

	cr_assert_eq(strlen(longest), 63);
	world_open(&w, (struct plan){ .no_swap = true });
	cr_assert_eq(ovc_vm_create(w.host, &o, &a), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_create(w.host, &o, &b), 0, "%s", ovc_error());
	ovc_vm_destroy(&a, 0);
	cr_assert_eq(ovc_vm_create(w.host, &o, &a), 0, "%s", ovc_error());
	world_close(&w, 0);
}

Test(host, a_name_is_free_again_when_its_vm_is_gone)
{
	struct ovc_vm_options o = { .size = sizeof(o), .name = "twice" };
	struct ovc_vm *vm = NULL;
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(ovc_vm_create(w.host, &o, &vm), 0);
		ovc_vm_destroy(&vm, 0);
	}
	world_close(&w, 0);
}

Test(host, a_bad_budget_or_limit_is_refused_and_the_old_one_stays)
{
	struct world w;

	world_open(&w, (struct plan){ .budget = 64 << 20,
				      .limit = 16 << 20,
				      .no_swap = true });
	expect_error("set_budget", ovc_host_set_budget(w.host, 0), -EINVAL,
		     "budget");
	expect_error("set_budget", ovc_host_set_budget(w.host, (8 << 20) - 1),
		     -EINVAL, "budget");
	cr_assert_eq(host_stats(&w).budget, 64 << 20);
	expect_error("set_limit", ovc_vm_set_limit(w.vm, 1), -EINVAL, "limit");
	cr_assert_eq(vm_stats(&w).limit, 16 << 20);
	cr_assert_eq(ovc_vm_set_limit(w.vm, 0), 0);
	cr_assert_eq(vm_stats(&w).limit, 0);
	world_close(&w, 0);
}

Test(host, a_bad_way_of_sharing_is_refused_by_name)
{
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	expect_error("set_share",
		     ovc_host_set_share(w.host, OVC_SHARE_ALWAYS + 1, 5),
		     -EINVAL, "share");
	expect_error("set_share",
		     ovc_host_set_share(w.host, OVC_SHARE_ALWAYS, 101), -EINVAL,
		     "share_cpu");
	/* The bad one did not come half into force. */
	usleep(50000);
	cr_assert_eq(vm_stats(&w).tracked, 0);
	cr_assert_eq(ovc_host_set_share(w.host, OVC_SHARE_NEVER, 0), 0);
	cr_assert_eq(ovc_host_set_share(w.host, OVC_SHARE_UNDER_PRESSURE, 100),
		     0);
	cr_assert_eq(vm_stats(&w).tracked, 0);
	world_close(&w, 0);
}

Test(host, a_budget_of_which_the_given_reserve_is_half_is_refused)
{
	struct ovc_host_options o = { .size = sizeof(o),
				      .budget = 64 << 20,
				      .reserve = 16 << 20 };
	struct ovc_host_stats s = { .size = sizeof(s) };
	struct ovc_host *host;

	need_userfaultfd();
	cr_assert_eq(ovc_host_create(&o, &host), 0, "%s", ovc_error());
	expect_error("set_budget", ovc_host_set_budget(host, 32 << 20), -EINVAL,
		     "reserve");
	cr_assert_eq(ovc_host_stats(host, &s), 0);
	cr_assert_eq(s.budget, 64 << 20);
	cr_assert_eq(s.reserve, 16 << 20);
	ovc_host_destroy(&host);
}

Test(host, events_are_asked_for_where_there_is_no_function_for_them)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = 64 * MIB };
	struct ovc_event e = { .size = sizeof(e) };
	struct ovc_host *host;
	struct world w;

	world_open(&w, (struct plan){ 0 });
	expect_error("fd", ovc_host_event_fd(w.host), -EINVAL,
		     "event function");
	expect_error("next", ovc_host_next_event(w.host, &e), -EINVAL,
		     "event function");
	world_close(&w, 0);
	expect_error("fd", ovc_host_event_fd(NULL), -EINVAL, "host");
	expect_error("next", ovc_host_next_event(NULL, &e), -EINVAL, "host");
	cr_assert_eq(ovc_host_create(&o, &host), 0);
	expect_error("next", ovc_host_next_event(host, NULL), -EINVAL, "event");
	e.size = offsetof(struct ovc_event, events_lost);
	expect_error("next", ovc_host_next_event(host, &e), -EINVAL, "size");
	e.size = sizeof(e);
	cr_assert_eq(ovc_host_next_event(host, &e), 0);
	ovc_host_destroy(&host);
}

Test(host, the_dispatch_calls_are_refused_where_the_host_has_threads)
{
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	expect_error("fd", ovc_host_fd(w.host), -EINVAL, "OVC_HOST_DISPATCH");
	expect_error("dispatch", ovc_host_dispatch(w.host), -EINVAL,
		     "OVC_HOST_DISPATCH");
	world_close(&w, 0);
}

/* ---- other versions of the header ---------------------------------------- */

struct newer_host_options {
	struct ovc_host_options o;
	char more[64];
};

Test(host, longer_options_are_accepted_while_what_is_new_is_zero)
{
	struct newer_host_options n = {
		.o = { .size = sizeof(n), .budget = 64 << 20 },
	};
	struct ovc_host *host = NULL;

	need_userfaultfd();
	cr_assert_eq(ovc_host_create(&n.o, &host), 0, "%s", ovc_error());
	ovc_host_destroy(&host);
	n.more[63] = 1;
	expect_error("host_create", ovc_host_create(&n.o, &host), -EINVAL,
		     "does not know");
	cr_assert_null(host);
}

Test(host, shorter_options_have_the_defaults_for_the_rest)
{
	struct ovc_host_options o = {
		.size = offsetof(struct ovc_host_options, reserve),
		.budget = 64 << 20,
		.reserve = 1, /* these lie behind what the caller knows */
		.flags = ~0u,
	};
	struct ovc_host_stats s = { .size = sizeof(s) };
	struct ovc_host *host = NULL;

	need_userfaultfd();
	cr_assert_eq(ovc_host_create(&o, &host), 0, "%s", ovc_error());
	cr_assert_eq(ovc_host_stats(host, &s), 0);
	cr_assert_eq(s.reserve, 2 << 20);
	cr_assert_gt(s.fault_threads, 0);
	ovc_host_destroy(&host);
}

/* What a caller has who was built before there was sharing. */
#define OLD(type, first_new) offsetof(struct type, first_new)

Test(host, who_knows_nothing_of_sharing_has_its_defaults)
{
	struct ovc_host_options o = {
		.size = OLD(ovc_host_options, share),
		.budget = 64 << 20,
		.share = UINT32_MAX, /* these are somebody else's bytes */
		.share_cpu = UINT32_MAX,
		.share_mappings = UINT64_MAX,
	};
	struct ovc_vm_options v = { .size = OLD(ovc_vm_options, domain),
				    .name = "older",
				    .domain = "" };
	struct ovc_host_stats s = { .size = sizeof(s) };
	struct ovc_host *host = NULL;
	struct ovc_vm *vm = NULL;

	need_userfaultfd();
	cr_assert_eq(ovc_host_create(&o, &host), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_create(host, &v, &vm), 0, "%s", ovc_error());
	cr_assert_eq(ovc_host_stats(host, &s), 0);
	cr_assert_gt(s.share_mappings_limit, 0);
	cr_assert_eq(s.shared_bytes, 0);
	ovc_host_destroy(&host);
}

Test(host, who_knows_nothing_of_sharing_gets_no_statistics_of_it)
{
	struct ovc_host_stats h;
	struct ovc_vm_stats v;
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	memset(&h, 0xff, sizeof(h));
	memset(&v, 0xff, sizeof(v));
	h.size = OLD(ovc_host_stats, shared_bytes);
	v.size = OLD(ovc_vm_stats, shared_bytes);
	cr_assert_eq(ovc_host_stats(w.host, &h), 0);
	cr_assert_eq(ovc_vm_stats(w.vm, &v), 0);
	cr_assert_eq(h.vms, 1);
	cr_assert_eq(h.fault_p99_ns, 0);
	cr_assert_eq(v.regions, 1);
	for (size_t i = h.size; i < sizeof(h); i++)
		cr_assert_eq(((unsigned char *)&h)[i], 0xff, "byte %zu", i);
	for (size_t i = v.size; i < sizeof(v); i++)
		cr_assert_eq(((unsigned char *)&v)[i], 0xff, "byte %zu", i);
	world_close(&w, 0);
}

Test(host, vm_and_region_options_may_be_longer_or_shorter_too)
{
	struct {
		struct ovc_vm_options o;
		char more[32];
	} v = { .o = { .size = sizeof(v), .name = "newer" } };
	struct {
		struct ovc_region_options o;
		char more[32];
	} r = { .o = { .size = sizeof(r), .len = 16 * PAGE } };
	struct ovc_vm *vm = NULL;
	struct world w;
	int memfd;

	world_open(&w, (struct plan){ .no_swap = true });
	v.more[0] = 1;
	expect_error("vm", ovc_vm_create(w.host, &v.o, &vm), -EINVAL,
		     "does not know");
	v.more[0] = 0;
	cr_assert_eq(ovc_vm_create(w.host, &v.o, &vm), 0, "%s", ovc_error());
	r.o.addr = map_memory(ANON, r.o.len, &memfd);
	r.more[31] = 1;
	expect_error("region", ovc_vm_add_region(vm, &r.o), -EINVAL,
		     "does not know");
	r.more[31] = 0;
	cr_assert_eq(ovc_vm_add_region(vm, &r.o), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_remove_region(vm, r.o.addr, 0), 0);
	r.o.size = offsetof(struct ovc_region_options, gpa);
	r.o.gpa = 1; /* unknown to this caller */
	cr_assert_eq(ovc_vm_add_region(vm, &r.o), 0, "%s", ovc_error());
	r.o.size = 0;
	expect_error("region", ovc_vm_add_region(vm, &r.o), -EINVAL, "size");
	world_close(&w, 0);
}

Test(host, statistics_fill_as_much_as_the_caller_knows_and_zero_the_rest)
{
	struct {
		struct ovc_host_stats s;
		char more[32];
	} h;
	struct {
		struct ovc_vm_stats s;
		char more[32];
	} v;
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	memset(&h, 0xff, sizeof(h));
	h.s.size = offsetof(struct ovc_host_stats, reserve);
	cr_assert_eq(ovc_host_stats(w.host, &h.s), 0);
	cr_assert_eq(h.s.budget, 256 * MIB);
	cr_assert_eq(h.s.reserve, UINT64_MAX);
	memset(&h, 0xff, sizeof(h));
	h.s.size = sizeof(h);
	cr_assert_eq(ovc_host_stats(w.host, &h.s), 0);
	cr_assert_eq(h.s.size, sizeof(h));
	cr_assert_eq(h.s.vms, 1);
	for (size_t i = 0; i < sizeof(h.more); i++)
		cr_assert_eq(h.more[i], 0);
	memset(&v, 0xff, sizeof(v));
	v.s.size = offsetof(struct ovc_vm_stats, resident);
	cr_assert_eq(ovc_vm_stats(w.vm, &v.s), 0);
	cr_assert_eq(v.s.configured, w.len);
	cr_assert_eq(v.s.resident, UINT64_MAX);
	memset(&v, 0xff, sizeof(v));
	v.s.size = sizeof(v);
	cr_assert_eq(ovc_vm_stats(w.vm, &v.s), 0);
	cr_assert_eq(v.s.regions, 1);
	for (size_t i = 0; i < sizeof(v.more); i++)
		cr_assert_eq(v.more[i], 0);
	world_close(&w, 0);
}

Test(host, statistics_without_a_struct_or_with_a_size_of_zero_are_refused)
{
	struct ovc_host_stats h = { .size = 0 };
	struct ovc_vm_stats v = { .size = 8 };
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	expect_error("host", ovc_host_stats(w.host, NULL), -EINVAL, "stats");
	expect_error("host", ovc_host_stats(w.host, &h), -EINVAL, "size");
	expect_error("vm", ovc_vm_stats(w.vm, NULL), -EINVAL, "stats");
	expect_error("vm", ovc_vm_stats(w.vm, &v), -EINVAL, "size");
	cr_assert_eq(h.budget, 0);
	cr_assert_eq(v.configured, 0);
	world_close(&w, 0);
}

/* ---- words --------------------------------------------------------------- */

Test(host, there_is_no_error_before_the_first_and_it_is_the_threads_own)
{
	cr_assert_str_empty(ovc_error());
	ovc_host_set_budget(NULL, 0);
	cr_assert_str_not_empty(ovc_error());
}

Test(host, each_feature_has_a_name_and_unknown_ones_have_none)
{
	for (unsigned i = 0; i < 12; i++)
		cr_assert_not_null(ovc_feature_name(1u << i));
	cr_assert_null(ovc_feature_name(1u << 12));
	cr_assert_null(ovc_feature_name(0));
	cr_assert_null(ovc_feature_name(3));
	cr_assert_str_not_empty(ovc_version());
}

/* ---- userfaultfd --------------------------------------------------------- */

/* What an ordinary user's process is; one that changed its user is watched. */
static void become_nobody(void)
{
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534) ||
	    prctl(PR_SET_DUMPABLE, 1))
		cr_skip_test("cannot become nobody: %s", strerror(errno));
}

static bool anybody_may(void)
{
	FILE *f = fopen("/proc/sys/vm/unprivileged_userfaultfd", "re");
	int c = f ? fgetc(f) : '0';

	if (f)
		fclose(f);
	return c == '1' || !access("/dev/userfaultfd", R_OK | W_OK);
}

Test(host, userfaultfd_not_permitted_is_eperm_and_says_what_to_do)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = 64 << 20 };
	struct ovc_host *host = NULL;
	struct belongings before;

	need_root();
	become_nobody();
	if (anybody_may())
		cr_skip_test("everybody may use userfaultfd here");
	before = belongings();
	expect_error("host_create", ovc_host_create(&o, &host), -EPERM,
		     "userfaultfd");
	cr_assert_null(host);
	cr_assert_eq(before.fds, belongings().fds);
}

Test(host, a_descriptor_of_a_privileged_launcher_works_for_nobody)
{
	struct world w;
	int fd;

	need_root();
	fd = open_userfaultfd();
	become_nobody();
	world_open(&w, (struct plan){ .userfaultfd = fd, .swap = "/tmp" });
	fill_pages(w.mem, 0, 64, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, 64 * PAGE), 0, "%s",
		     ovc_error());
	cr_assert_eq(check_pages(w.mem, 0, 64, 1), -1);
	world_close(&w, 0);
	cr_assert_eq(fcntl(fd, F_GETFD), -1, "the host owned it");
}

Test(host, a_given_descriptor_stays_the_callers_when_creation_fails)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = 1 };
	struct rlimit limit, few;
	struct ovc_host *host;
	int error;

	need_userfaultfd();
	o.userfaultfd = open_userfaultfd();
	cr_assert_eq(ovc_host_create(&o, &host), -EINVAL);
	cr_assert_geq(fcntl(o.userfaultfd, F_GETFD), 0);
	o.budget = 64 << 20;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = (struct rlimit){ 3, limit.rlim_max };
	setrlimit(RLIMIT_NOFILE, &few);
	error = ovc_host_create(&o, &host);
	setrlimit(RLIMIT_NOFILE, &limit);
	cr_assert_eq(error, -EMFILE, "%d", error);
	cr_assert_geq(fcntl(o.userfaultfd, F_GETFD), 0);
}

/* ---- the kernel's refusals ------------------------------------------------ */

Test(host, too_few_descriptors_are_emfile_and_nothing_is_left)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = 64 << 20 };
	struct belongings before, after;
	struct rlimit limit;
	struct ovc_host *host = NULL;
	int error = -EMFILE;

	need_userfaultfd();
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	before = belongings();
	/* One more each time, so that each descriptor is once the first that
	 * is missing. (Where a ring cannot be had, there is a fallback.) */
	for (rlim_t n = 3; error && n < 64; n++) {
		struct rlimit few = { n, limit.rlim_max };

		setrlimit(RLIMIT_NOFILE, &few);
		error = ovc_host_create(&o, &host);
		setrlimit(RLIMIT_NOFILE, &limit);
		if (!error)
			break;
		cr_assert_eq(error, -EMFILE, "%u descriptors: %d, %s",
			     (unsigned)n, error, ovc_error());
		cr_assert_null(host);
		after = belongings();
		cr_assert_eq(before.fds, after.fds, "%u descriptors",
			     (unsigned)n);
		cr_assert_eq(before.threads, after.threads);
	}
	cr_assert_eq(error, 0);
	ovc_host_destroy(&host);
}

Test(host, too_little_address_space_is_enomem_and_nothing_is_left)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = 1 << 30 };
	struct belongings before, after;
	struct rlimit limit, few;
	struct ovc_host *host = NULL;
	int error;

	skip_sanitized();
	need_userfaultfd();
	cr_assert_eq(ovc_host_create(&o, &host), 0); /* warms up */
	ovc_host_destroy(&host);
	cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
	before = belongings();
	few = (struct rlimit){ 64 << 20, limit.rlim_max };
	setrlimit(RLIMIT_AS, &few);
	error = ovc_host_create(&o, &host);
	setrlimit(RLIMIT_AS, &limit);
	if (!error)
		cr_skip_test("RLIMIT_AS is not enforced here");
	cr_assert_eq(error, -ENOMEM, "%d: %s", error, ovc_error());
	cr_assert_null(host);
	after = belongings();
	cr_assert_eq(before.fds, after.fds);
	cr_assert_eq(before.threads, after.threads);
}

/* ---- life ----------------------------------------------------------------- */

Test(host, destroying_the_host_destroys_its_vms_and_brings_all_back)
{
	struct world w;

	world_open(&w, (struct plan){ 0 });
	fill_pages(w.mem, 0, 256, 2);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, 256 * PAGE), 0);
	ovc_host_destroy(&w.host);
	cr_assert_null(w.host);
	cr_assert_eq(check_pages(w.mem, 0, 256, 2), -1);
}

static void live_once(void)
{
	struct world w;

	for (unsigned kind = ANON; kind <= MEMFD; kind++) {
		world_open(&w, (struct plan){ .way = { kind, 0 },
					      .len = 64 * PAGE });
		fill_pages(w.mem, 0, 64, 3);
		cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
		(void)*(volatile char *)w.mem;
		world_close(&w, kind == ANON ? OVC_THROW_AWAY : 0);
	}
}

Test(host, fifty_lives_leave_no_descriptor_mapping_or_thread)
{
	struct belongings before, after;

	skip_sanitized();
	for (int i = 0; i < 5; i++)
		live_once();
	before = belongings();
	for (int i = 0; i < 50; i++)
		live_once();
	for (int i = 0; i < 200; i++) {
		/* The kernel's own workers of a ring go a little later. */
		after = belongings();
		if (after.threads <= before.threads && after.fds <= before.fds)
			break;
		usleep(10000);
	}
	cr_assert_eq(after.fds, before.fds);
	cr_assert_leq(after.threads, before.threads);
	/* The allocator's extents may lie a little differently. */
	cr_assert_leq(after.mappings, before.mappings + 4, "%u, then %u",
		      before.mappings, after.mappings);
}
