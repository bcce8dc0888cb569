/* SPDX-License-Identifier: MIT */
/*
 * Who may hold how much: a snapshot in, decisions out. Pure.
 *
 * From time to time the host takes a snapshot of itself and of its VMs and asks
 * its policy. The policy says what each VM is entitled to, and how what a VM
 * holds beyond that is to come back: by its balloon, or by force. It makes no
 * system call, takes no lock, allocates nothing and reads no clock; what it
 * remembers is in memory that its caller gave it.
 *
 * Figures are in bytes, shares of something in hundredths of a percent (10,000
 * is all of it), times in nanoseconds of a clock that does not go back.
 */
#ifndef OVC_POLICY_POLICY_H
#define OVC_POLICY_POLICY_H

#include <stddef.h>
#include <stdint.h>

/* A figure that nobody knows. */
#define OVC_POLICY_UNKNOWN	UINT64_MAX
#define OVC_POLICY_UNKNOWN_RATE UINT32_MAX

/* ---- Settings -------------------------------------------------------- */

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
	 * 1 to 10000, each above the next. Default: 600, 400, 200, 100. */
	uint32_t clear, soft, hard, low;

	/* How much more must be free to leave a state than to enter it, at
	 * most 2000. Default: 100. Under pressure soft + hysteresis of the
	 * budget is kept free. */
	uint32_t hysteresis;

	/* Stalls of the whole machine for want of memory (PSI's avg10) that
	 * make the state soft (`some`) and hard (`full`); half of that ends it.
	 * 1 to 10000, UINT32_MAX to ignore them. Default: 1000 and 500. */
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

/* ---- Snapshot -------------------------------------------------------- */

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
};

/* ---- Decision -------------------------------------------------------- */

/* What the host does, each on top of what it does in the state before. */
enum ovc_policy_state {
	OVC_POLICY_HIGH = 0,  /* nothing */
	OVC_POLICY_CLEAR = 1, /* shares harder */
	OVC_POLICY_SOFT = 2,  /* balloons; swaps where that is not possible */
	OVC_POLICY_HARD = 3,  /* swaps what balloons do not bring at once */
	OVC_POLICY_LOW = 4,   /* lets the greediest VM's faults wait */
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

/* ---- Policy ---------------------------------------------------------- */

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

/* ---- Admission ------------------------------------------------------- */

/*
 * May a VM be guaranteed `min`? `id` is that of the VM which is to get another
 * guarantee, or one that no VM has, for a new VM. `needed` is the sum of all
 * guarantees then, `available` what the budget has for them; each may be NULL.
 * 0, or -ENOMEM: more is needed than available.
 */
int ovc_policy_admit(const struct ovc_policy_snapshot *snapshot, uint64_t id,
		     uint64_t min, uint64_t *needed, uint64_t *available);

#endif
