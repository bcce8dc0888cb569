/* SPDX-License-Identifier: MIT */
/*
 * libovercommit: promise guests together more memory than the host spends.
 *
 * A virtual machine monitor (VMM) creates one host (a budget), one vm per
 * guest (its swap file, its limit), and adds the guest's memory as regions.
 * While memory is plentiful nothing happens. When the budget gets short, the
 * library takes cold pages out of the guests, writes them to the guest's own
 * swap file, and brings them back on the touch that needs them. Guests are
 * never paused.
 *
 * Conventions
 *   - Every call that can fail returns 0 or a negative errno; ovc_error() then
 *     has the reason in words, for the calling thread.
 *   - Addresses (`addr`) are host virtual addresses, lengths (`len`) are bytes.
 *     Both are multiples of the page size, 4096, unless the call says otherwise.
 *   - Option and statistics structs begin with `size`, which the caller sets to
 *     sizeof the struct. Zero is the default of every option.
 *   - Thread classes: [control] calls are made one at a time for one host;
 *     [any] calls are made from any thread at any time between creation and
 *     destruction of what they name.
 *   - fork(): a host belongs to the process that created it. In a child each call on
 *     it or on its VMs returns -EPERM; the destructors set the pointer to NULL and do
 *     nothing else. A child can create a host of its own: a daemon creates its host
 *     after it forked. vfork() or fork() and exec, posix_spawn(): at any time; the
 *     child of vfork() makes no call.
 *   - The library does not look at environment variables, installs no signal
 *     handlers and keeps no state outside its handles, but for the sentence
 *     of ovc_error().
 */
#ifndef OVERCOMMIT_H
#define OVERCOMMIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OVC_PAGE_SIZE 4096

/* Handles. All are opaque; what creates one owns it until it destroys it. */
struct ovc_host;
struct ovc_vm;

/* The library's version, "major.minor.patch". [any] */
const char *ovc_version(void);

/*
 * The calling thread's last failure in words: what, where, why, what to do.
 * Never NULL; "" before the first failure. Valid until the thread's next call
 * into the library. [any]
 */
const char *ovc_error(void);

/* ---- Kernel features ------------------------------------------------- */

/*
 * What the library uses of the kernel. Each has a fallback; what was chosen is
 * in ovc_host_stats.features. Set bits in ovc_host_options.without to do
 * without a feature (to test a fallback, or to avoid a kernel's bug).
 */
#define OVC_FEATURE_MOVE	 (1u << 0) /* UFFDIO_MOVE; else mremap */
#define OVC_FEATURE_PAGEMAP_SCAN (1u << 1) /* else /proc/self/pagemap */
#define OVC_FEATURE_WP_ASYNC	 (1u << 2) /* else clean pages are rewritten */
#define OVC_FEATURE_POISON	 (1u << 3) /* else lost pages are unmapped */
#define OVC_FEATURE_MINOR	 (1u << 4) /* shmem minor faults; else no memfd */
#define OVC_FEATURE_BATCH_ADVISE (1u << 5)  /* process_madvise on oneself */
#define OVC_FEATURE_IO_URING	 (1u << 6)  /* else pread and pwrite */
#define OVC_FEATURE_DIRECT_IO	 (1u << 7)  /* O_DIRECT; else page cache */
#define OVC_FEATURE_TMPFILE	 (1u << 8)  /* O_TMPFILE; else unlinked file */
#define OVC_FEATURE_JEMALLOC	 (1u << 9)  /* built in; else calloc */
#define OVC_FEATURE_FIXED_BUFS	 (1u << 10) /* registered ring buffers */
#define OVC_FEATURE_FIXED_FILES	 (1u << 11) /* registered ring files */

/* The name of one OVC_FEATURE_ bit, NULL where the bit is unknown. [any] */
const char *ovc_feature_name(unsigned feature);

/* ---- Policy ---------------------------------------------------------- */

/*
 * Who may hold how much: a snapshot in, decisions out. While faults are tracked the host
 * takes a snapshot of itself and of its VMs every policy_period, and asks its policy
 * what each VM is entitled to, and how what a VM holds beyond that is to come back: by
 * its balloon, or by force. The library's own policy does it as VMware ESX does (shares
 * with an idle memory tax: Waldspurger, OSDI 2002, section 5); lib/policy/balance.c is
 * meant to be read. Most programs set its options, if anything.
 *
 * Figures are in bytes, shares of something in hundredths of a percent (10,000 is all
 * of it), times in nanoseconds of a clock that does not go back.
 */

/* A figure that nobody knows. */
#define OVC_POLICY_UNKNOWN	UINT64_MAX
#define OVC_POLICY_UNKNOWN_RATE UINT32_MAX

#define OVC_POLICY_ALL 10000u /* hundredths of a percent */
#define OVC_POLICY_NO_TAX \
	UINT32_MAX /* idle_tax: none, where 0 is the default */

/* Zero is the default of every field. */
struct ovc_policy_options {
	size_t size; /* sizeof(struct ovc_policy_options) */

	/* What an idle page costs its VM: 1 / (1 - tax) times an active one.
	 * 1 to 9900 hundredths of a percent, or OVC_POLICY_NO_TAX. Default:
	 * 7500, so that four active pages cost as much as one idle page. */
	uint32_t idle_tax;

	/* The host's states, by the share of the budget that is free: it is
	 * in `clear` below the first, in `soft` below the second, and so on.
	 * 1 to 10000, each above the next. Default: 300, 200, 100, 50. */
	uint32_t clear, soft, hard, low;

	/* How much more must be free to leave a state than to enter it, at
	 * most 2000. Default: 50. Under pressure soft + hysteresis of the
	 * budget is kept free. */
	uint32_t hysteresis;

	/* Stalls of the whole machine for want of memory (PSI's avg10) that
	 * make the state soft (`some`) and hard (`full`); half of that ends it.
	 * 1 to 10000, UINT32_MAX to ignore them. Default: 1000 and 500. They
	 * do not count while a quarter of the machine is available. */
	uint32_t psi_some, psi_full;

	/* The most that a balloon may hold, of its VM's memory: 1 to 9000.
	 * Default: 6500. */
	uint32_t balloon_cap;

	/* How far a balloon's target may be ahead of what it holds, of its
	 * VM's memory: 10 to 10000. Default: 625. */
	uint32_t balloon_step;

	/* What is not worth a change, of the VM's memory: 1 to 1000. Default:
	 * 25. */
	uint32_t dead_band;

	/* What must stay available inside of a guest that says what is, of
	 * its memory: 1 to 9000. Default: 500. */
	uint32_t guest_floor;

	/* The time in which a balloon has to bring a step. What is missing
	 * then is taken by force. A driver that brought less than half is left
	 * alone for six times as long. Default: 5 s. */
	uint64_t balloon_timeout;

	/* Sampling of working sets, for who samples: pages of a VM at a time,
	 * 10 to 100,000, and how long they are watched. Default: 100, 30 s. */
	uint32_t samples;
	uint32_t reserved;
	uint64_t sample_period;
};

/*
 * Copies options (NULL: all defaults) with the defaults filled in.
 *  -EINVAL  out of range or out of order; *out is as it was
 */
int ovc_policy_options_fill(const struct ovc_policy_options *options,
			    struct ovc_policy_options *out);

/* ovc_policy_vm.flags */
#define OVC_POLICY_VM_ESTIMATED (1u << 0) /* `active` is known */
#define OVC_POLICY_VM_GROWING	(1u << 1) /* will want more than it holds */
#define OVC_POLICY_VM_BALLOON	(1u << 2) /* its guest has a balloon driver */
#define OVC_POLICY_VM_NO_SWAP	(1u << 3) /* no swap: none, full, or failing */

/* A VM. */
struct ovc_policy_vm {
	uint64_t id;	/* no other VM of the host ever has the same */
	uint32_t index; /* its place in the host, the same while it lives */
	uint32_t flags; /* OVC_POLICY_VM_* */

	uint32_t shares;	 /* 1 to 1,000,000; 0 is 1000 */
	uint32_t faults_waiting; /* for memory, now */
	uint64_t min;		 /* that it is guaranteed */
	uint64_t limit;		 /* that it may hold at most, 0: no limit */
	uint64_t memory; /* that its guest has been given: its regions */

	uint64_t resident; /* charged to it now, its part of shared pages too */
	uint64_t pinned;   /* of these, what cannot be taken */
	uint64_t swapped;  /* that only its swap file holds */
	uint64_t active;   /* estimate of its working set */
	uint64_t swap_in;  /* that came from its swap file, a second */

	uint64_t ballooned;	  /* that its balloon holds, as the host saw */
	uint64_t balloon_target;  /* asked last, 0: nothing yet */
	uint64_t balloon_reached; /* as its driver says, or unknown */

	/* The guest's own statistics; each may be unknown. */
	uint64_t guest_free, guest_available, guest_total;

	uint64_t reserved[4]; /* 0 */
};

/* The host, and its VMs. */
struct ovc_policy_snapshot {
	size_t size; /* of this struct, as who took it has it */

	uint64_t now;	   /* ns */
	uint64_t budget;   /* that guests and library may hold, above 0 */
	uint64_t used;	   /* of it, everything counted */
	uint64_t overhead; /* of it, what no VM can be charged for: metadata,
			      buffers, reserves */
	uint64_t shared;   /* frames of the sharing store, each once, as far as
			      they are in no VM's `resident` */

	/* /proc/meminfo: MemAvailable and MemTotal, both or unknown. */
	uint64_t mem_available, mem_total;
	/* /proc/pressure/memory: avg10, hundredths of a percent, or
	 * OVC_POLICY_UNKNOWN_RATE. */
	uint32_t psi_some, psi_full;

	const struct ovc_policy_vm *vms;
	size_t nr_vms;

	/* Of the memory cgroup that the process is in: what it leaves to guests
	 * and library (`budget` is no more than that), UINT64_MAX for all; its
	 * own stalls, avg10 of memory.pressure, or OVC_POLICY_UNKNOWN_RATE
	 * (version 1 of cgroups has none). */
	uint64_t cgroup_limit;
	uint32_t cgroup_psi_some, cgroup_psi_full;
};

/* What the host does, each on top of what it does in the state before. */
enum ovc_policy_state {
	OVC_POLICY_HIGH = 0,  /* nothing */
	OVC_POLICY_CLEAR = 1, /* shares harder */
	OVC_POLICY_SOFT = 2,  /* balloons; swaps where that is not possible */
	OVC_POLICY_HARD = 3,  /* swaps what balloons do not bring at once */
	OVC_POLICY_LOW = 4,   /* the greediest waits where others go short */
};

/* What decided on the state. */
enum ovc_policy_cause {
	OVC_POLICY_BY_BUDGET = 0,    /* what is free of the budget */
	OVC_POLICY_BY_AVAILABLE = 1, /* what the machine has available */
	OVC_POLICY_BY_PSI_SOME = 2,  /* stalls of some of its tasks */
	OVC_POLICY_BY_PSI_FULL = 3,  /* stalls of all of them */
};

/* What decided on an entitlement. */
enum ovc_policy_bound {
	OVC_POLICY_BY_SHARES = 0, /* its shares, and the tax on what is idle */
	OVC_POLICY_BY_WANT = 1,	  /* it has no use for more */
	OVC_POLICY_BY_LIMIT = 2,  /* its limit, or all of its memory */
	OVC_POLICY_BY_MIN = 3,	  /* its guarantee, or what is pinned */
	OVC_POLICY_BY_PART = 4,	  /* of its guarantee: all do not fit */
};

/* Why a VM has to give memory back in this way, or need not. */
enum ovc_policy_why {
	OVC_POLICY_WITHIN = 0,	    /* holds what it is entitled to, or less */
	OVC_POLICY_ROOM = 1,	    /* holds more, but there is room */
	OVC_POLICY_NEAR = 2,	    /* holds more, but not worth a change */
	OVC_POLICY_DEFLATE = 3,	    /* may have memory back from its balloon */
	OVC_POLICY_BALLOON = 4,	    /* its balloon brings it */
	OVC_POLICY_NO_DRIVER = 5,   /* swap: it has no balloon */
	OVC_POLICY_DRIVER_LATE = 6, /* swap: the driver does not follow */
	OVC_POLICY_DRIVER_LIES = 7, /* swap: it says it did, and did not */
	OVC_POLICY_GUEST_NEEDS = 8, /* swap: the guest has none to spare */
	OVC_POLICY_CAP = 9,	  /* swap: the balloon is as large as it may */
	OVC_POLICY_PRESSURE = 10, /* swap: the host cannot wait */
	OVC_POLICY_NO_SWAP = 11,  /* would be swapped, and cannot be */
};

/* ovc_policy_vm_decision.flags */
#define OVC_POLICY_BAD_GUEST   (1u << 0) /* contradictory guest statistics */
#define OVC_POLICY_BAD_BALLOON (1u << 1) /* a balloon larger than memory */
#define OVC_POLICY_GAVE_UP     (1u << 2) /* on its driver, for now */

struct ovc_policy_vm_decision {
	uint64_t entitlement; /* that it should hold */
	uint64_t balloon;     /* that its balloon should hold */
	uint64_t swap;	      /* that must be taken by force now */
	uint32_t throttle;    /* 1: its faults wait for memory of its own */

	/* The figures that led to it, for a trace. */
	uint32_t why;	/* enum ovc_policy_why */
	uint32_t bound; /* enum ovc_policy_bound */
	uint32_t flags; /* OVC_POLICY_BAD_*, _GAVE_UP */
	double rho;	/* adjusted shares per page that it holds now */
	double active;	/* fraction of what it holds, 0 to 1 */

	uint64_t reserved[4];
};

struct ovc_policy_decision {
	size_t size; /* set by the caller, who also sets vms */

	uint32_t state; /* enum ovc_policy_state */
	uint32_t cause; /* enum ovc_policy_cause */
	/* How much harder to look for equal pages: times the usual CPU. */
	uint32_t share_factor;
	uint32_t reserved;
	uint64_t capacity; /* that was divided among the VMs */

	struct ovc_policy_vm_decision *vms; /* one for each of the snapshot's */
};

/* The word for a value of the enums above; NULL where it is none of them. */
const char *ovc_policy_state_name(uint32_t state);
const char *ovc_policy_cause_name(uint32_t cause);
const char *ovc_policy_bound_name(uint32_t bound);
const char *ovc_policy_why_name(uint32_t why);

/*
 * What a host asks. All calls for one state are made one at a time; none may
 * call the library, block or take long.
 */
struct ovc_policy {
	size_t size; /* sizeof(struct ovc_policy) */
	const char *name;

	/* Bytes of state for VMs whose index is below `vms`. */
	size_t (*state_bytes)(uint32_t vms);

	/* `state` is that many zeroed bytes, aligned to 16, which stay the
	 * caller's. Options may be NULL. 0, or -EINVAL: out of range. */
	int (*start)(void *state, uint32_t vms,
		     const struct ovc_policy_options *options);

	/* Nobody will ask any more. May be NULL. */
	void (*stop)(void *state);

	/* Fills in *decision. 0, or -EINVAL where the snapshot is impossible:
	 * *decision and the state are then as they were. */
	int (*decide)(void *state, const struct ovc_policy_snapshot *snapshot,
		      struct ovc_policy_decision *decision);
};

/* The library's own: see balance.c. */
const struct ovc_policy *ovc_policy_builtin(void);

/*
 * May a VM be guaranteed `min`? `id` is that of the VM which is to get another
 * guarantee, or one that no VM has, for a new VM. `needed` is the sum of all
 * guarantees then, `available` what the budget has for them; each may be NULL.
 * 0, or -ENOMEM: more is needed than available.
 */
int ovc_policy_admit(const struct ovc_policy_snapshot *snapshot, uint64_t id,
		     uint64_t min, uint64_t *needed, uint64_t *available);

/* ---- Host ------------------------------------------------------------ */

/*
 * What happened that the VMM should know: told to ovc_host_options.event, or asked for
 * with ovc_host_next_event(). The same thing (type, VM, error and cause) is told at most
 * once a second, with a count; up to 16 lost pages of a VM a second are told each.
 */
enum ovc_event_type {
	/* A page's bytes are lost: its next touch is a SIGBUS (BUS_MCEERR_AR
	 * where the kernel can), which a VMM turns into a machine check. */
	OVC_EVENT_POISONED = 1,
	/* Writing to the swap file failed; the pages stay in memory. */
	OVC_EVENT_WRITE_FAILED = 2,
	/* Writing to the swap file works again. */
	OVC_EVENT_WRITE_RECOVERED = 3,
	/* Guests wait for memory, and for a second none was freed that they
	 * could have had: `cause` says why. Repeated each second until it
	 * ends. Of a VM that waits at its own limit, or at what it may hold
	 * while its swap takes no writes, `vm` is that VM; else it is the one
	 * that `cause` is about most. */
	OVC_EVENT_STUCK = 4,
	/* A page could not be taken from or given to the guest, for a reason
	 * that the kernel gave in `error`. The page stays where it was. Of a
	 * whole region, with ENOENT: it was unregistered from our userfaultfd
	 * by somebody else, so that what was out may have been read as
	 * zeros. */
	OVC_EVENT_MEMORY_FAILED = 5,
	/* More is held than the budget allows, by `len` bytes, and for a
	 * second none of it was freed: `cause` says why. Nobody need wait.
	 * Repeated each second until it ends. */
	OVC_EVENT_OVER_BUDGET = 6,
};

/* Why the kernel does not let memory be taken from a guest, or be freed. */
enum ovc_untaken {
	OVC_UNTAKEN_LOCKED = 0,	    /* mlock, mlockall */
	OVC_UNTAKEN_SHARED = 1,	    /* with a child of fork() */
	OVC_UNTAKEN_MERGED = 2,	    /* with equal pages, by the kernel (KSM) */
	OVC_UNTAKEN_REGISTERED = 3, /* with another userfaultfd */
	OVC_UNTAKEN_SEALED = 4,	    /* its memfd, against writing */
	OVC_UNTAKEN_PINNED = 5,	    /* by direct I/O or a device, not by
				       ovc_vm_pin() */
	OVC_UNTAKEN_REFUSED = 6,    /* otherwise */
	OVC_UNTAKEN_NR = 7,
};
#define OVC_UNTAKEN_ROOM 12 /* in statistics: later causes fit in */

/* What keeps memory from being freed. Later versions may know more. */
enum ovc_cause {
	OVC_CAUSE_UNKNOWN = 0,
	OVC_CAUSE_NO_SWAP = 1,	   /* a VM without swap has it */
	OVC_CAUSE_SWAP_FULL = 2,   /* no space, a quota, or swap_size reached:
				      `error` */
	OVC_CAUSE_SWAP_FAILED = 3, /* writing fails otherwise: `error` */
	OVC_CAUSE_SWAP_SILENT = 4, /* I/O is not answered for over a second */
	OVC_CAUSE_PINNED = 5,	   /* by ovc_vm_pin() */
	OVC_CAUSE_GUARANTEED = 6,  /* by ovc_vm_options.min */
	OVC_CAUSE_LIMIT = 7,	   /* none of these: the VM may hold no more */
	OVC_CAUSE_UNTAKEN = 16,	   /* and above: plus an enum ovc_untaken */
};

struct ovc_event {
	size_t size;	     /* of this struct, as the library has it */
	int type;	     /* enum ovc_event_type */
	int error;	     /* errno, EBADMSG for a checksum mismatch, or 0 */
	struct ovc_vm *vm;   /* NULL for events of the host, and where the VM is
				 gone or going */
	const char *vm_name; /* NULL for events of the host */
	void *addr;	     /* first byte concerned, NULL where unknown */
	uint64_t gpa;	     /* its guest physical address, OVC_GPA_NONE where
				its region has none */
	size_t len;	     /* bytes concerned */
	const char *text;    /* the same as a sentence */
	uint64_t events_lost; /* events dropped since the last one */

	uint64_t vm_id; /* ovc_vm_stats.id of the VM, which no other VM of the host
			   ever has; 0 for events of the host */
	uint64_t count; /* how many such events this one stands for; addr, gpa and
			   len are those of all of them where they lie together,
			   else of the last */
	uint32_t cause; /* enum ovc_cause, of STUCK and OVER_BUDGET */
	uint32_t reserved;
};

enum ovc_log_level {
	OVC_LOG_ERROR = 1,
	OVC_LOG_WARNING = 2,
	OVC_LOG_INFO = 3,
	OVC_LOG_DEBUG = 4,
};

/* ovc_host_options.flags */

/* No threads: the VMM polls ovc_host_fd() and calls ovc_host_dispatch(). For a thread
 * that does nothing else. A main loop that also emulates devices is a trap: it touches
 * guest memory, the page is absent, and who would bring it is the one that waits for it,
 * for ever. So does whoever holds a lock that the loop takes. Without the flag the library
 * has threads of its own, and no such rule. */
#define OVC_HOST_DISPATCH (1u << 0)

/* When equal pages are looked for, to be kept once. */
enum ovc_share_mode {
	OVC_SHARE_UNDER_PRESSURE = 0, /* once faults are tracked */
	OVC_SHARE_NEVER = 1,	      /* what is shared already stays so */
	OVC_SHARE_ALWAYS = 2,	      /* at once, which tracks faults, too */
};

struct ovc_host_options {
	size_t size; /* sizeof(struct ovc_host_options) */

	/* Bytes of memory that all guests together may hold, the library's
	 * own memory included. Required, at least 8 MiB. Where all regions
	 * together are no more than that, they are left alone: the library's
	 * own memory, under 1 MiB then, is not made room for. */
	uint64_t budget;

	/* Bytes of the budget kept free so that faults proceed while reclaim
	 * works. Default: 1/64 of the budget, within 2 to 256 MiB. Must be
	 * under half of the budget. */
	uint64_t reserve;

	uint32_t flags; /* OVC_HOST_* */

	/* Threads that serve faults, 0 to 64. Default: one for each CPU that
	 * the process may use, at most 8, each bound to its CPU. */
	uint32_t fault_threads;

	/* OVC_FEATURE_ bits not to use even where the kernel has them.
	 * (JEMALLOC is chosen when the library is built.) */
	uint32_t without;

	/* A userfaultfd that this process opened before it gave up its rights,
	 * and on which no UFFDIO_API was called, above 0; it must not be of
	 * user mode only, and cannot be another process's, which is tried out.
	 * It is made nonblocking and close-on-exec. The host takes ownership
	 * when creation succeeds. Default: the library opens /dev/userfaultfd,
	 * or calls userfaultfd(2). It opens one more to map shared pages; they
	 * are not mapped where it may not. */
	int32_t userfaultfd;

	/* Called for each event, one at a time, from a thread of the library's
	 * that does nothing else and that nobody waits for, but for
	 * ovc_vm_destroy() of the event's VM and ovc_host_destroy(). So it may
	 * make calls that wait, and take locks, if no one destroys with them
	 * held; until it returns no other event is told. The call that met
	 * with what it is told of may not have returned yet: who destroys the
	 * VM here waits for it first, as for any other. It must not destroy
	 * the host. Strings and event->vm are valid until it returns.
	 * Not together with OVC_HOST_DISPATCH. Default: the VMM asks with
	 * ovc_host_next_event(), or is not interested. */
	void (*event)(const struct ovc_event *event, void *opaque);

	/* Called for each log line, from any thread of the library's and from
	 * inside calls. Must not call the library, nor wait for who waits for
	 * guest memory. Default: no log. */
	void (*log)(int level, const char *line, void *opaque);
	void *opaque; /* passed to both */

	uint32_t share; /* enum ovc_share_mode */

	/* Percent of one CPU that looking for equal pages may take at most,
	 * 1 to 100, or of what the process gets where that is less (a limit of
	 * its cgroup, a busy machine); what it costs guests to write pages that are watched counts
	 * as well. Less is taken while passes find little. Default: 5. */
	uint32_t share_cpu;

	/* Mappings of the process that sharing may use; each run of shared
	 * pages that a guest still reads takes up to two. Default: what
	 * vm.max_map_count allows, less a quarter for the VMM. */
	uint64_t share_mappings;

	/* What decides who may hold how much, which must outlive the host.
	 * Default: ovc_policy_builtin() with the options, of which NULL are
	 * all defaults; they are copied. */
	const struct ovc_policy *policy;
	const struct ovc_policy_options *policy_options;

	/* Milliseconds between two decisions, 10 to 60,000. Default: 250. */
	uint32_t policy_period;
	uint32_t reserved;

	/* Called for each decision with what led to it, from the thread that
	 * reclaims, with a lock held: it must not call the library, nor take
	 * long. `opaque` is passed. Default: no trace. */
	void (*policy_trace)(const struct ovc_policy_snapshot *snapshot,
			     const struct ovc_policy_decision *decision,
			     void *opaque);
};

struct ovc_host_stats {
	size_t size; /* set by the caller */

	uint64_t budget;   /* bytes */
	uint64_t reserve;  /* bytes */
	uint64_t used;	   /* bytes counted against the budget, all in all */
	uint64_t resident; /* bytes that guests have mapped (an estimate while
			      untracked) */
	uint64_t staged;   /* bytes taken from guests and not yet settled */
	uint64_t metadata; /* bytes of the library's own */
	uint64_t buffers;  /* bytes of its I/O buffers */
	uint64_t swapped;  /* bytes that only swap files hold */

	uint64_t faults;	  /* userfaultfd messages answered */
	uint64_t faults_waited;	  /* of these, times a fault found no memory */
	uint64_t swap_in_bytes;	  /* read from swap files */
	uint64_t swap_out_bytes;  /* written to swap files */
	uint64_t clean_bytes;	  /* dropped unwritten: slot was still good */
	uint64_t zero_bytes;	  /* dropped unwritten: all zero */
	uint64_t put_back_bytes;  /* touched while staged */
	uint64_t readahead_bytes; /* read before they were asked for */

	uint32_t features; /* OVC_FEATURE_ bits in use */
	uint32_t vms;
	uint32_t tracked;	/* 1: faults are tracked (there was pressure) */
	uint32_t fault_threads; /* 0 in dispatch mode */
	uint64_t fault_p50_ns;	/* service time of faults, read to resolved */
	uint64_t fault_p99_ns;

	uint64_t shared_bytes; /* of guests, that the sharing store holds */
	uint64_t store_bytes;  /* what the store takes for them: counted once */
	uint64_t mapped_bytes; /* of shared_bytes, those that guests have mapped */
	uint64_t merged_bytes; /* all that was ever shared */
	uint64_t broken_bytes; /* of these, what was touched and is private again */
	uint64_t share_zero_bytes; /* all-zero pages that sharing gave back */
	uint64_t scanned_bytes;	   /* looked at for equal pages */
	uint64_t hashed_bytes;	   /* of these, read and hashed */
	uint64_t volatile_bytes; /* of scanned_bytes, written since the last pass */
	uint64_t collisions; /* pages whose hash was equal, but not the bytes */
	uint64_t share_passes;	       /* over all memory of all VMs */
	uint64_t share_cpu_ns;	       /* CPU time of looking and merging */
	uint64_t share_mappings;       /* in use for sharing */
	uint64_t share_mappings_limit; /* that sharing may use */
	uint64_t share_unmapped; /* times the limit kept a page from being mapped */
	uint64_t spared_bytes; /* dropped unwritten: the swap had them already */

	uint32_t policy_state; /* enum ovc_policy_state */
	uint32_t reserved;
	uint64_t decisions;	   /* that the policy took */
	uint64_t promised_bytes;   /* of mapped_bytes, that guests may write
				      without asking: kept free for that */
	uint64_t guaranteed_bytes; /* the sum of all VMs' min */

	uint64_t swap_memory; /* the sum of all VMs' swap_memory */

	/* What cannot be taken from guests: the sums of all VMs'. */
	uint64_t untaken[OVC_UNTAKEN_ROOM];
	uint64_t refusals;

	/* What is kept to: `budget`, or what the process's memory cgroup (and
	 * those above it) leaves, less a part for what it counts beside guests;
	 * looked at each second. */
	uint64_t budget_effective;
};

/*
 * Creates a host with a budget. *hostp is set on success only.
 *  -EINVAL  an option is out of range or of an unknown size; the userfaultfd
 *           that was passed is none, is another process's, or was used before
 *  -EPERM   userfaultfd not permitted: be root, have CAP_SYS_PTRACE, open
 *           /dev/userfaultfd, or pass a descriptor; one that was passed is of
 *           user mode only
 *  -ENOSYS  the kernel has no userfaultfd
 *  -ENOMEM, -EMFILE, -EAGAIN as the kernel gives them
 * [control]
 */
int ovc_host_create(const struct ovc_host_options *options,
		    struct ovc_host **hostp);

/*
 * Destroys the host and, first, each of its VMs as ovc_vm_destroy() with no
 * flags does; but nothing is pushed out any more, and what came back counts until the
 * end, so that all of them together get no more than the budget. Who wants all of it back
 * raises the budget first; who wants none destroys the VMs with OVC_THROW_AWAY. A disk that
 * does not answer is waited for as there, and five seconds more: what is left of the host
 * then stays in memory, and is logged. Events that wait are told to the event function, which is waited for.
 * Sets *hostp to NULL. NULL and a pointer to NULL are accepted. From inside of the event
 * function it does nothing: ovc_error() says so, and *hostp stays.
 * [control]
 */
void ovc_host_destroy(struct ovc_host **hostp);

/*
 * Sets the budget, in bytes. Shrinking returns at once and converges as fast as
 * the disks allow; new faults wait meanwhile.
 *  -EINVAL  below 8 MiB, or the reserve would be half of it or more
 * [control]
 */
int ovc_host_set_budget(struct ovc_host *host, uint64_t budget);

/*
 * Fills in *stats, as much of it as stats->size covers.
 *  -EINVAL  NULL, or stats->size is too small
 * [any]
 */
int ovc_host_stats(struct ovc_host *host, struct ovc_host_stats *stats);

/*
 * Without an event function: a descriptor that polls readable while events wait. It
 * belongs to the host. Only poll it.
 *  -EINVAL  host is NULL, or has an event function
 * [any]
 */
int ovc_host_event_fd(struct ovc_host *host);

/*
 * Without an event function: takes the next event that is to be told. Fills in as much of
 * *event as event->size covers. Its strings are valid until the calling thread's next
 * ovc_host_next_event(). event->vm is the VM's handle at that moment: who may destroy
 * VMs at the same time compares vm_id instead.
 * Returns 1 where there was one, 0 where there is none.
 *  -EINVAL  NULL, event->size is too small, or the host has an event function
 * [any]
 */
int ovc_host_next_event(struct ovc_host *host, struct ovc_event *event);

/*
 * Dispatch mode: a descriptor that polls readable when ovc_host_dispatch()
 * has work. It belongs to the host. Events have a descriptor of their own:
 * ovc_host_event_fd().
 *  -EINVAL  the host has threads of its own
 * [any]
 */
int ovc_host_fd(struct ovc_host *host);

/*
 * Dispatch mode: does what is ready (faults, reads, reclaim), without
 * blocking. The thread that calls it must never touch guest memory, itself or by a
 * system call, nor wait for a thread that does: nobody else would bring the page.
 * It is made by one thread, beside any other call but ovc_host_destroy(): range calls
 * and [control] calls of other threads wait until it has done their work; made by that thread itself, they do
 * it. Before the first call that is the thread which created the host. Another one that
 * calls it takes its place; what the earlier one began to read or write may take until
 * that one runs.
 *  -EINVAL  the host has threads of its own
 */
int ovc_host_dispatch(struct ovc_host *host);

/*
 * Changes how equal pages are looked for: enum ovc_share_mode, and percent of one
 * CPU (0: the default).
 *  -EINVAL  out of range
 * [control]
 */
int ovc_host_set_share(struct ovc_host *host, uint32_t mode, uint32_t cpu);

/* ---- VM -------------------------------------------------------------- */

/* What a guest says of itself: the tags of virtio-balloon's statistics. */
enum ovc_balloon_tag {
	OVC_BALLOON_S_SWAP_IN = 0,	/* bytes */
	OVC_BALLOON_S_SWAP_OUT = 1,	/* bytes */
	OVC_BALLOON_S_MAJFLT = 2,	/* major faults */
	OVC_BALLOON_S_MINFLT = 3,	/* minor faults */
	OVC_BALLOON_S_MEMFREE = 4,	/* bytes unused */
	OVC_BALLOON_S_MEMTOT = 5,	/* bytes in all */
	OVC_BALLOON_S_AVAIL = 6,	/* bytes to be had without swapping */
	OVC_BALLOON_S_CACHES = 7,	/* bytes of file caches */
	OVC_BALLOON_S_HTLB_PGALLOC = 8, /* hugetlb pages allocated */
	OVC_BALLOON_S_HTLB_PGFAIL = 9,	/* and not to be had */
	OVC_BALLOON_S_NR = 10,		/* of those above: ovc_vm_stats.guest */

	/* Since Linux 6.12 (ovc_vm_stats.guest_more) */
	OVC_BALLOON_S_OOM_KILL = 10,	   /* processes killed for memory */
	OVC_BALLOON_S_ALLOC_STALL = 11,	   /* allocations that waited */
	OVC_BALLOON_S_ASYNC_SCAN = 12,	   /* bytes scanned by kswapd */
	OVC_BALLOON_S_DIRECT_SCAN = 13,	   /* bytes scanned by who allocates */
	OVC_BALLOON_S_ASYNC_RECLAIM = 14,  /* bytes reclaimed by kswapd */
	OVC_BALLOON_S_DIRECT_RECLAIM = 15, /* bytes, by who allocates */
	OVC_BALLOON_S_ALL = 16,		   /* how many there are */
};

/* A figure that nobody told. */
#define OVC_UNKNOWN UINT64_MAX

/* ovc_vm_options.flags */

/* Do not preallocate the swap file, and give the space of freed slots back to
 * the file system in pieces of 1 MiB: a full disk is then found when memory is
 * short. The default preallocates a file (where the file system cannot, by writing
 * zeros). A device that can discard has its free slots given back always. Either is
 * done, some 250 ms after a piece was freed, by a thread of the VM's (in dispatch mode,
 * too), for it may take any time. */
#define OVC_VM_SPARSE_SWAP (1u << 0)

/* Share no pages of this VM. */
#define OVC_VM_NO_SHARE (1u << 1)

/* Do not look for pages of this VM that are all zero: that a page is zero could
 * be told, from outside, by the time its next touch takes. Memory that must be
 * reclaimed is still looked at. */
#define OVC_VM_NO_ZERO_SHARE (1u << 2)

struct ovc_vm_options {
	size_t size; /* sizeof(struct ovc_vm_options) */

	/* 1 to 63 characters out of A-Z a-z 0-9 . _ -, not "." or "..";
	 * unique in the host. Copied. Default: "vm" and a number. */
	const char *name;

	/* Where pages go. A directory: an unnamed file in it, which is gone when
	 * the process is. A block device, exclusively. Another path, which does
	 * not end in a slash: a file, created with mode 0600 where missing,
	 * locked, and left in place, empty, afterwards. NULL: no swap, only
	 * all-zero pages can be reclaimed. Copied.
	 *
	 * What is somebody else's is not overwritten. A file is refused where it is a
	 * symbolic link, in use by another VM of any process, owned by another
	 * user, has several names (hard links), or may be read or written by
	 * others (any bit of 077). A file that is not empty, and a device that has
	 * any signature known to libblkid or any byte but zero in its first or last
	 * MiB, is refused unless it has the mark of a swap that a killed VMM
	 * left behind. Such a one is wiped and taken; until then it has the
	 * guest's memory in it. Else all that the guest's memory was written
	 * to is wiped by ovc_vm_destroy().
	 *
	 * What each file system does, and which to choose: docs/filesystems.md.
	 * A log line warns where swap is memory of the host, goes through its
	 * page cache, or may meet a full disk although it is preallocated. */
	const char *swap;

	/* Bytes of pages that the swap may hold, its quota: a multiple of 1 MiB. A
	 * named file is a page longer; a device has its first and last MiB
	 * beside that. Default: as much as the VM's regions, growing as they
	 * are added, and an eighth more so that writes stay contiguous. A
	 * device that has less gives what it has. */
	uint64_t swap_size;

	/* Bytes that the VM may have resident, 0 for no limit of its own. At
	 * least 1 MiB. */
	uint64_t limit;

	uint32_t flags; /* OVC_VM_* */

	/* The sharing domain: pages of VMs with the same domain are shared
	 * among each other, and never with those of another. 1 to 63
	 * characters. Copied. Default: a domain of its own, in which the VM's
	 * equal pages are shared. */
	const char *domain;

	/* The VM's part of the budget when there is not enough, beside those
	 * of the others: 1 to 1,000,000. Default: 1000. */
	uint32_t shares;
	uint32_t reserved;

	/* Bytes that the VM is guaranteed: not reclaimed while it holds no
	 * more, as long as the budget has room for all such guarantees. At
	 * most `limit`, where there is one. Default: 0. */
	uint64_t min;
};

struct ovc_vm_stats {
	size_t size; /* set by the caller */

	uint64_t configured; /* bytes of all regions */
	uint64_t resident;   /* bytes mapped by the guest (an estimate while
				untracked) */
	uint64_t staged;     /* bytes taken out and not yet settled */
	uint64_t swapped;    /* bytes that only the swap file holds */
	uint64_t zero;	     /* bytes that are absent and read as zero */
	uint64_t poisoned;   /* bytes lost */
	uint64_t pinned;     /* bytes pinned */
	uint64_t limit;	     /* bytes, 0 for none */

	uint64_t swap_size; /* bytes that the swap may take */
	uint64_t swap_used; /* bytes of it that hold pages */

	uint64_t faults;
	uint64_t swap_in_bytes;
	uint64_t swap_out_bytes;
	uint64_t clean_bytes;
	uint64_t zero_bytes;
	uint64_t put_back_bytes;
	uint64_t readahead_bytes;
	uint64_t read_errors;
	uint64_t write_errors;

	uint64_t fault_p50_ns; /* service time of faults, read to resolved */
	uint64_t fault_p99_ns;

	uint32_t tracked; /* 1: registered with userfaultfd */
	uint32_t regions;

	uint64_t shared_bytes;	/* that the sharing store holds */
	uint64_t charged_bytes; /* the VM's part of what the store takes: all
				   pages shared in a domain pay alike */
	uint64_t mapped_bytes;	/* of shared_bytes, those mapped by the guest */
	uint64_t merged_bytes;	/* all that was ever shared */
	uint64_t broken_bytes;	/* of these, what is private again */
	uint64_t volatile_bytes; /* looked at, and written since the last pass */
	uint64_t spared_bytes; /* dropped unwritten: the swap had them already */

	uint64_t ballooned;	    /* bytes in the balloon now */
	uint64_t balloon_target;    /* bytes that should be */
	uint64_t balloon_reached;   /* bytes that the driver says there are */
	uint64_t inflated_bytes;    /* all that was ever given */
	uint64_t deflated_bytes;    /* of these, what was asked back */
	uint64_t deflated_by_touch; /* bytes of them that were touched instead,
				       as far as faults are tracked */
	uint64_t reported_bytes;    /* ever reported free */
	uint64_t balloon_refused; /* frames refused: no page of the VM, pinned,
				     or taken back and not in the balloon */
	uint64_t huge_broken;	  /* pages of 2 MiB that donations broke */
	uint64_t guest[OVC_BALLOON_S_NR]; /* by enum ovc_balloon_tag, or
					     OVC_UNKNOWN; see
					     OVC_VM_STATS_GUEST() */

	uint32_t shares;
	uint32_t throttled;   /* 1: its faults wait for memory of its own */
	uint64_t min;	      /* bytes, guaranteed */
	uint64_t entitlement; /* bytes that it should hold now, by the policy;
				 all of its memory before the first decision */
	uint64_t active;      /* bytes of its working set, estimated; all while
				 that is not known */
	uint64_t id;	      /* in snapshots for policies and in traces */

	uint64_t swap_memory; /* bytes of the host's memory that the swap takes, as
				 far as known, for it is on tmpfs, zram or the
				 like; not part of the budget */

	/* What cannot be taken from the guest, by enum ovc_untaken: bytes that the
	 * kernel refused to take, or to free, when that was last tried. It is tried
	 * again after 10 ms, and later each time, up to ten seconds. */
	uint64_t untaken[OVC_UNTAKEN_ROOM];
	uint64_t refusals;     /* pages that it ever refused */
	uint32_t refused_with; /* its last errno, 0 for none */
	uint32_t reserved;

	/* guest[] went on: by tag less OVC_BALLOON_S_NR, or OVC_UNKNOWN. */
	uint64_t guest_more[OVC_BALLOON_S_ALL - OVC_BALLOON_S_NR];
};

/* The figure of a tag below OVC_BALLOON_S_ALL, wherever in *stats it is. */
#define OVC_VM_STATS_GUEST(stats, tag) \
	((tag) < OVC_BALLOON_S_NR ?    \
		 (stats)->guest[tag] : \
		 (stats)->guest_more[(tag)-OVC_BALLOON_S_NR])

/*
 * Creates a VM without memory. *vmp is set on success only.
 *  -EINVAL   an option is out of range or of an unknown size; bad name; min
 *            above limit
 *  -ENOMEM   the budget has no room for min beside what is guaranteed to others;
 *            or no memory for the library
 *  -EEXIST   the name is taken in this host
 *  -ENOENT, -EACCES, -ELOOP, ...  the swap could not be opened
 *  -EINVAL   (too) it cannot be swap: a pipe, a file of hugetlbfs, ...
 *  -EPERM    the swap file is not the caller's alone: its owner, names or mode
 *  -ENOTEMPTY the swap file or device has contents that are not ours
 *  -EBUSY    the swap file or device is in use
 *  -EROFS    the device or file system is read-only
 *  -ENOSPC   the disk is full, or the device has under 3 MiB; or the host has 1,000
 *            VMs
 *  -EDQUOT   a quota of the file system is used up
 *  -EFBIG    swap_size is more than RLIMIT_FSIZE, or the file system, allows
 * Takes as long as the disk takes to allocate swap_size, and to wipe what a killed
 * VMM left. [control]
 */
int ovc_vm_create(struct ovc_host *host, const struct ovc_vm_options *options,
		  struct ovc_vm **vmp);

/* ovc_vm_destroy() and ovc_vm_remove_region() flags */

/* The memory is being thrown away: bring nothing back. Threads that fault on it
 * are released; what they then read is undefined. */
#define OVC_THROW_AWAY (1u << 0)

/*
 * Removes all regions as ovc_vm_remove_region() does, wipes and gives up the swap
 * file and frees the VM; sets *vmp to NULL. What the budget has no room for, or what
 * cannot be read, is poisoned, and logged: it never reads as zero. (The VM's own limit
 * ends with it.) Memory is waited for as long as some is freed, of anybody's, and half a
 * minute at most for a page. A disk that does not answer is waited for as it is there, but what it
 * has is then poisoned; its file is wiped when it does answer. No call on the VM may be under way. An event
 * function that is being told of this VM is waited for, unless it is the one who
 * destroys; later events have no handle of it.
 * NULL and a pointer to NULL are accepted. [control]
 */
void ovc_vm_destroy(struct ovc_vm **vmp, uint32_t flags);

/*
 * Sets the VM's limit of resident bytes; 0 takes it away.
 *  -EINVAL  under 1 MiB, or under what is guaranteed
 * [control]
 */
int ovc_vm_set_limit(struct ovc_vm *vm, uint64_t limit);

/*
 * Sets the VM's shares (0: the default) and what it is guaranteed.
 *  -EINVAL  shares above 1,000,000; min above the VM's limit
 *  -ENOMEM  the budget has no room for min beside what is guaranteed to others
 * [control]
 */
int ovc_vm_set_shares(struct ovc_vm *vm, uint32_t shares, uint64_t min);

/* The guest physical address of a region that needs none. */
#define OVC_GPA_NONE UINT64_MAX

struct ovc_region_options {
	size_t size; /* sizeof(struct ovc_region_options) */

	/* A mapping, readable and writable, of pages of 4 KiB (transparent
	 * huge pages are welcome): private anonymous, or all shared from one
	 * memfd. Must stay mapped as it is until the region is removed. */
	void *addr;
	size_t len; /* up to 1 TiB */

	/* Where the guest has it: the guest physical address, which finds the
	 * frames of its balloon and is told in events; page aligned. Regions of
	 * a VM do not overlap, so that only one of them can have the default,
	 * 0. OVC_GPA_NONE: it has none, and frame numbers do not find it. */
	uint64_t gpa;

	/* The memfd, above 0, of which `addr` maps `memfd_offset` onwards;
	 * the library duplicates it. 0 or -1: private anonymous memory.
	 * Another mapping of it (a vhost-user or device process) reads zeros
	 * where pages are out, and what it reads or writes there is memory
	 * that nobody counts, or that a page's return overwrites: pin
	 * (ovc_vm_pin()) what others use, while they do. */
	int32_t memfd;
	uint32_t flags; /* OVC_REGION_* */
	uint64_t memfd_offset;
};

/* Nobody else has the memfd mapped, now or later (no vhost-user device, no other
 * process): its shared pages may be mapped from the sharing store, which others
 * would not see. Without it shared pages of a memfd are never mapped. */
#define OVC_REGION_UNSHARED_MEMFD (1u << 0)

/* Devices and direct reads (O_DIRECT, io_uring, vhost) may write into the region at any
 * time, and nobody pins the pages for them (ovc_vm_pin()): no page is taken that the
 * kernel says is in use by one, and none is shared. For private anonymous memory, and
 * with OVC_FEATURE_MOVE, only: otherwise nobody can tell. */
#define OVC_REGION_DIRECT_IO (1u << 1)

/*
 * Adds a region. What the memory holds already is kept. Children of fork() do not get it
 * any more (MADV_DONTFORK), and the kernel does not merge it (MADV_UNMERGEABLE); what a
 * child has of it, and what was merged, is copied. Leave both as they are.
 *  -EINVAL   not page aligned, empty, longer than 1 TiB, wraps around,
 *            hugetlb, not of the kind that was said, not writable; locked
 *            (mlock, mlockall); the memfd is sealed against writing, or of a
 *            file system on a disk
 *  -EBUSY    registered with another userfaultfd
 *  -EFAULT   (partly) not mapped
 *  -EEXIST   overlaps a region of the host: in addresses, or in the bytes of one
 *            memfd, mapped twice; or one of the VM in guest physical addresses
 *  -ENOSPC   the VM has 512 regions; or no space to grow the swap file
 *  -EDQUOT, -EFBIG  to grow the swap file is more than a quota, or RLIMIT_FSIZE or
 *            the file system, allows
 *  -ENOTSUP  memfd without shmem minor faults (before Linux 5.14);
 *            OVC_REGION_DIRECT_IO for a memfd, or without UFFDIO_MOVE (before 6.8)
 *  -ENOMEM   too: the process has as many mappings as vm.max_map_count allows
 * [control]
 */
int ovc_vm_add_region(struct ovc_vm *vm,
		      const struct ovc_region_options *options);

/*
 * Removes the region that begins at addr. All of its pages are brought back
 * into memory first, for which others are reclaimed, unless flags has OVC_THROW_AWAY;
 * pages that cannot be read back stay poisoned. Its guests, and others, run meanwhile.
 * No range call on it may be under way.
 *
 * It waits for memory, and for the VM's disk, as long as pages come back, and half a
 * minute longer. With OVC_THROW_AWAY it waits a few seconds for a disk that does not
 * answer; what is under way then keeps the frames and the file, which count, until it
 * does.
 *  -EINVAL     no region begins there
 *  -EIO        removed, but some pages were lost
 *  -ENOMEM     its pages do not fit into the budget, or the VM's limit, beside what cannot
 *              be taken from VMs (pinned, guaranteed, without swap): ovc_error() says how
 *              much is missing; nothing is changed
 *  -ETIMEDOUT  for half a minute no page came back; it is still a region
 *  -EFAULT     removed, but some of it was not mapped any more, or something else
 *              was: ovc_error() says from where to where
 * [control]
 */
int ovc_vm_remove_region(struct ovc_vm *vm, void *addr, uint32_t flags);

/*
 * Fills in *stats, as much of it as stats->size covers.
 *  -EINVAL  NULL, or stats->size is too small
 * [any]
 */
int ovc_vm_stats(struct ovc_vm *vm, struct ovc_vm_stats *stats);

/* ---- Balloon --------------------------------------------------------- */

/*
 * What the virtio-balloon device of a VMM calls: see docs/balloon.md. All of these may
 * be called from any thread; none while a region of the VM is being removed. Frames
 * are guest frame numbers of 4 KiB (guest physical address / 4096) as the driver
 * sends them, in any order; ovc_region_options.gpa says where a region's begin.
 * What the guest sends need not be checked: a frame that is no page of the VM is
 * refused, counted, and never touched.
 */

/* What came of a donation, in pages unless it says otherwise; set by the call. */
struct ovc_donation {
	size_t size; /* set by the caller */

	uint64_t given;	  /* dropped now */
	uint64_t again;	  /* were in the balloon already, or sent twice */
	uint64_t pinned;  /* refused: pinned */
	uint64_t outside; /* refused: no page of the VM's regions */
	uint64_t failed;  /* kept: the kernel did not drop them */
	uint64_t huge;	  /* pages of 2 MiB that this broke */
	uint64_t freed; /* bytes that had been in memory, and are not any more */
};

/*
 * The guest put frames into its balloon: they are dropped at once, and read as zero
 * later. Frames that are refused do not hinder the others. `result` may be NULL.
 *  -EINVAL  vm is NULL; pfns is NULL and nr is not 0; result->size is too small
 *  -ENOMEM, or another errno: some frames could not be dropped and are the
 *           guest's still; the others are done
 * [any]
 */
int ovc_vm_balloon_inflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			   struct ovc_donation *result);

/* Memory of this process. */
struct ovc_range {
	void *addr;
	size_t len;
};

/*
 * The same by address, for VMMs that have translated frames already: nr ranges, in any
 * order, of which the whole pages of 4 KiB are put into the balloon. Regions without a
 * guest physical address are found, too. Errors are those of
 * ovc_vm_balloon_inflate(). [any]
 */
int ovc_vm_balloon_inflate_ranges(struct ovc_vm *vm,
				  const struct ovc_range *ranges, size_t nr,
				  struct ovc_donation *result);

/*
 * Free page reporting, free page hinting: the guest does not use the ranges now, and
 * may touch them any time. They are dropped and not counted as ballooned. Only whole
 * pages of 4 KiB are; a range of whole 2 MiB breaks no huge page.
 * Errors are those of ovc_vm_balloon_inflate(). [any]
 */
int ovc_vm_balloon_report(struct ovc_vm *vm, const struct ovc_range *ranges,
			  size_t nr, struct ovc_donation *result);

/* What came of a deflation, in pages; set by the call. */
struct ovc_deflation {
	size_t size; /* set by the caller */

	uint64_t taken;	  /* are the guest's again */
	uint64_t refused; /* were not in the balloon: never given, sent twice,
			     or touched since */
	uint64_t outside; /* no page of the VM's regions */
	uint64_t filled;  /* of those taken, with zeros already */
};

/*
 * The guest takes frames back from its balloon. While faults are tracked and the
 * budget has room, they are filled with zeros at once, so that they cost no fault each;
 * otherwise when they are touched. `result` may be NULL.
 *  -EINVAL  vm is NULL; pfns is NULL and nr is not 0; result->size is too small
 * [any]
 */
int ovc_vm_balloon_deflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			   struct ovc_deflation *result);

/* The same by address, whole pages of nr ranges. Errors are the same. [any] */
int ovc_vm_balloon_deflate_ranges(struct ovc_vm *vm,
				  const struct ovc_range *ranges, size_t nr,
				  struct ovc_deflation *result);

/* ovc_balloon_options.flags */

/* The guest has a driver, which follows the target. */
#define OVC_BALLOON_DRIVER (1u << 0)

/* VIRTIO_BALLOON_F_DEFLATE_ON_OOM was negotiated with it. */
#define OVC_BALLOON_DEFLATE_ON_OOM (1u << 1)

struct ovc_balloon_options {
	size_t size; /* sizeof(struct ovc_balloon_options) */

	uint32_t flags; /* OVC_BALLOON_* */

	/* The most that the balloon may be asked to hold, in percent of the
	 * VM's memory, 1 to 90. Default: 65. */
	uint32_t cap;
};

/*
 * Says what the guest's driver can do: when features were negotiated and, with no
 * OVC_BALLOON_DRIVER (NULL options: the same), when the device was reset. Without a
 * driver the target is 0, the balloon is empty and the guest's statistics are unknown.
 *  -EINVAL  vm is NULL; an option is out of range or of an unknown size;
 *           DEFLATE_ON_OOM without DRIVER
 * [any]
 */
int ovc_vm_balloon_set(struct ovc_vm *vm,
		       const struct ovc_balloon_options *options);

/*
 * A descriptor that polls readable when the target has changed, until
 * ovc_vm_balloon_target() is called. It belongs to the VM and ends with it.
 *  -EINVAL  vm is NULL
 *  -EMFILE, -ENFILE, -ENOMEM as the kernel gives them
 * [any]
 */
int ovc_vm_balloon_fd(struct ovc_vm *vm);

/*
 * Bytes that the balloon should hold now: what goes into the device's `num_pages`,
 * times 4096. 0 without a driver.
 *  -EINVAL  vm or bytes is NULL
 * [any]
 */
int ovc_vm_balloon_target(struct ovc_vm *vm, uint64_t *bytes);

/*
 * The VMM's own target: the balloon is to hold at least that, whatever the policy
 * wants; 0 takes it back. It lasts until the driver goes or the guest is out of memory.
 *  -EINVAL  vm is NULL; bytes is no multiple of 4096, or over the cap
 *  -ENODEV  the guest has no driver
 * [any]
 */
int ovc_vm_balloon_ask(struct ovc_vm *vm, uint64_t bytes);

/*
 * Bytes that the driver says its balloon holds: the device's `actual`, times 4096.
 *  -EINVAL  vm is NULL; bytes is no multiple of 4096
 *  -ENODEV  the guest has no driver
 * [any]
 */
int ovc_vm_balloon_reached(struct ovc_vm *vm, uint64_t bytes);

/* One of the guest's statistics; virtio's struct is packed, this one is not. */
struct ovc_balloon_stat {
	uint16_t tag;	/* enum ovc_balloon_tag; others are ignored */
	uint64_t value; /* OVC_UNKNOWN: not known */
};

/*
 * The guest's statistics, those that the driver sent, in any order; others stay as they
 * were. They may come before ovc_vm_balloon_set(), and end with the driver.
 *  -EINVAL  vm is NULL; stats is NULL and nr is not 0; they contradict each
 *           other (more free, available or cached than there is): all are left out
 * [any]
 */
int ovc_vm_balloon_stats(struct ovc_vm *vm,
			 const struct ovc_balloon_stat *stats, size_t nr);

/*
 * Deflate on OOM: the guest is out of memory and wants `bytes` of its balloon back (a
 * multiple of 4096 or the next one). The target is at once no more than what is left
 * then; *pages is how many frames the driver may let go.
 *  -EINVAL   vm or pages is NULL; bytes is 0
 *  -ENODEV   the guest has no driver
 *  -ENOTSUP  deflate on OOM was not negotiated
 * [any]
 */
int ovc_vm_balloon_oom(struct ovc_vm *vm, uint64_t bytes, uint64_t *pages);

/* ---- Ranges ---------------------------------------------------------- */

/*
 * All of these: the range lies in one region of the VM, or -EINVAL; nothing is
 * changed then. [any]
 */

/*
 * The guest gave the range away (balloon, free page reporting): its bytes are
 * dropped at once, memory and swap are freed, and it reads as zero later. Waits for
 * pages that are just being read from swap, or moved.
 *  -EBUSY      a page is pinned; nothing is changed
 *  -ETIMEDOUT  a page was being read by another for half a minute, and stays as it is;
 *              the rest is done
 */
int ovc_vm_discard(struct ovc_vm *vm, void *addr, size_t len);

/*
 * Pushes the range out of memory now and returns when it is done. Pages that
 * are pinned, or touched meanwhile, stay; this is not an error.
 *  -ENOSPC, -EIO, -EDQUOT, ...  some pages stay since they could not be written
 *  -EBUSY  some pages stay since the kernel does not let them be taken: locked,
 *          pinned by direct I/O, ... (enum ovc_untaken)
 *  -ETIMEDOUT  for half a minute it came no nearer to its end: the swap does not
 *              answer, or nobody calls ovc_host_dispatch()
 */
int ovc_vm_reclaim(struct ovc_vm *vm, void *addr, size_t len);

/*
 * The range will be needed soon: brings it into memory in the background, as
 * long as the budget has room. Returns at once.
 *  -EAGAIN  too many prefetches are waiting
 */
int ovc_vm_prefetch(struct ovc_vm *vm, void *addr, size_t len);

/*
 * Brings the range in and keeps it resident, for DMA, VFIO, vhost, direct reads
 * (O_DIRECT, io_uring), and other mappings of a memfd: what reaches a page by another
 * way than the guest's mapping, reading or writing, finds it only while it is pinned.
 * Pins count: each pin wants its unpin. Pinned pages are taken as written by the device.
 * Blocks while the pages are read, and while memory is made free for them; where no
 * page comes for half a minute, for want of memory or of the disk's answer, it gives up.
 *  -ENOMEM     beside what else cannot be taken (pinned, guaranteed to others, of VMs
 *              without swap) the budget less the reserve and the library's own memory,
 *              or the VM's limit, has no room for them; nothing was brought in
 *  -ETIMEDOUT  see above
 *  -EOVERFLOW  a page has 1,000 pins
 *  -EIO        a page could not be read, or is poisoned
 * On failure nothing is pinned.
 */
int ovc_vm_pin(struct ovc_vm *vm, void *addr, size_t len);

/*
 * Takes back one pin of each page.
 *  -EINVAL  a page of the range is not pinned; nothing is changed
 */
int ovc_vm_unpin(struct ovc_vm *vm, void *addr, size_t len);

/*
 * The range is about to be overwritten whole: its old bytes need not be read in.
 * What is in memory stays as it is; what is swapped out reads as zero until it is
 * written.
 */
int ovc_vm_overwrite(struct ovc_vm *vm, void *addr, size_t len);

/*
 * Whether equal pages are looked for in the range; on from the start. Switching off
 * leaves what is shared already as it is.
 *  -EINVAL  `on` is neither 0 nor 1
 */
int ovc_vm_set_sharing(struct ovc_vm *vm, void *addr, size_t len, int on);

/*
 * Gives the kernel advice, as madvise(2) does, and remembers it, as it does the advice
 * that was given before the region was added: where the library maps memory anew, it is
 * as it was advised. What is given by madvise(2) to a region may be lost. `advice` is
 * MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_DONTFORK or MADV_DOFORK;
 * the last takes effect when the region is removed, for children do not get memory that
 * is in part elsewhere. Waits for a step of reclaim at most.
 *  -EINVAL  other advice; or the kernel has no such
 *  -ENOMEM  no memory to remember it, or for the kernel to split a mapping; a part
 *           may have got it
 */
int ovc_vm_advise(struct ovc_vm *vm, void *addr, size_t len, int advice);

/*
 * Copies len bytes at addr (both of any alignment) to buf, from wherever they
 * are, without making pages resident: for snapshots and migration. Against
 * guests that write meanwhile it is as atomic as memcpy. Waits for the disk where
 * pages are in swap, for each at most half a minute.
 *  -EIO        a page could not be read, or is poisoned; buf is partly filled
 *  -ETIMEDOUT  see above; buf is partly filled
 */
int ovc_vm_read(struct ovc_vm *vm, const void *addr, void *buf, size_t len);

#ifdef __cplusplus
}
#endif

#endif /* OVERCOMMIT_H */
