/* SPDX-License-Identifier: MIT */
/*
 * ovc-bench: what every file of it shares.
 *
 * A case is one or more contests. In a contest the library, with each kind of
 * memory, and a peer do the same work in turns, round after round; a round of
 * one side is a trial. Each trial runs in a child process of its own, forked
 * from a parent that has no threads: so that the peer can be put into a memory
 * cgroup, that CPU seconds are those of the trial alone, and that a trial that
 * hangs or dies leaves the parent to clean up. The child writes its figures
 * into memory shared with the parent.
 *
 *   main.c      options, the table of cases, signals
 *   contest.c   rounds, children, medians
 *   output.c    JSON lines or a table
 *   arena.c     memory, its content, ways to go through it
 *   touch.c     threads that touch pages and time each touch
 *   ours.c      a host and a VM of the library's for a trial
 *   guests.c    guests that have pages in common, for both sides
 *   zipf.c      threads that work on memory as many programs do
 *   workers.c   threads that write everywhere in memory
 *   settings.c  settings of the kernel that are changed and put back
 *   peer_swap.c, peer_swap_side.c, peer_uffd.c, peer_ksm.c   the peers
 */
#ifndef OVC_BENCH_H
#define OVC_BENCH_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <overcommit.h>

#define PAGE ((size_t)OVC_PAGE_SIZE)
#define MIB  ((size_t)1 << 20)
#define GIB  ((size_t)1 << 30)

/* ---- Options (main.c) ------------------------------------------------- */

enum side { SIDE_ANON, SIDE_MEMFD, SIDE_PEER, NR_SIDES };

struct options {
	size_t bytes;	  /* --size, 0: the case's own */
	unsigned seconds; /* of measuring where a case measures for a time */
	unsigned rounds;
	bool side[NR_SIDES];
	const char *swap_dir; /* absolute */
	bool json;
};

/* The signal that asked us to end, or 0. */
extern volatile int interrupted;

/* Says a line on stderr, with the program's name before it. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- Contests (contest.c, output.c) ----------------------------------- */

enum metric {
	P50_US,
	P99_US,
	P999_US,
	PER_S,
	GB_PER_S,
	CPU_US_PER_PAGE,
	WALL_SECONDS,
	CPU_SECONDS,  /* "seconds" with "cpu" in its param */
	HALF_SECONDS, /* with "50", to half of what can be had */
	MOST_SECONDS, /* with "90", to most of it */
	BYTES_PER_GIB,
	BYTES_WRITTEN,
	UP_POINTS,   /* "error_points" with "up" */
	DOWN_POINTS, /* and with "down" */
	NR_METRICS,
};

#define BIT(n) (1u << (n))
/* CPU time stands beside every throughput. */
#define CPU (BIT(CPU_US_PER_PAGE) | BIT(CPU_SECONDS))

enum verdict {
	TRIAL_OK,
	TRIAL_INVALID,	   /* did not measure what it should: try again */
	TRIAL_UNAVAILABLE, /* cannot run on this machine, for this user */
	TRIAL_FAILED,	   /* a bug, ours or the case's */
};

/* What a trial hands to the parent. Lives in shared memory. */
struct outcome {
	int verdict; /* enum verdict */
	double value[NR_METRICS];
	char why[240]; /* or, of a trial that is OK, what it did not get */
};

struct contest;

struct trial {
	const struct options *options;
	const struct contest *contest;
	enum side side;
	unsigned kills; /* how often the kernel killed this side for memory */
	struct outcome *out;
};

struct contest {
	const struct options *options;
	const char *name;	/* of the case */
	const char *param;	/* what else was varied, "" for nothing */
	const char *peer;	/* its name, NULL where there is none */
	const char *peer_memfd; /* contest_run_kinds(): with a memfd, if other */
	unsigned threads;
	unsigned metrics; /* BIT() of enum metric */
	size_t bytes;	  /* of guest memory */
	uint64_t budget;  /* bytes that a side may hold, where it matters */
	double number;	  /* for the case's own use */
	unsigned rounds;  /* at most, 0: as many as asked for */
	unsigned seconds; /* that a trial may take beyond the usual */
	bool swaps;	  /* the peer wants the kernel's swap file */
	bool ksm;	  /* the peer is KSM */
	bool warms_up;	  /* each trial does, no round needs to */
	bool no_memory;	  /* no guest has any: there is only SIDE_ANON */
	/* One trial; returns 0 or what fail() returned. */
	int (*ours)(struct trial *trial);
	int (*theirs)(struct trial *trial);
};

/* Runs all rounds and prints the result: 0, or 1 where ours did not do it. */
int contest_run(const struct contest *contest);

/* The same for each kind of memory that is asked for, a contest each: where the peer
 * has memory of the same kind, or is another for each. */
int contest_run_kinds(const struct contest *contest);

/* The kind of memory of such a contest, for both sides. */
enum side kind_of_memory(const struct trial *trial);

/* Notes how a trial ended and why; always returns -1. */
int fail(struct trial *trial, enum verdict verdict, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Notes why a trial that is fine has no value for a metric. */
void remark(struct trial *trial, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Kills the running trial, if there is one; `wait`: until it is gone, which is
 * for those who are about to end. Async-signal-safe. */
void contest_kill(bool wait);

/* What became of one side of a contest. */
struct result {
	bool known[NR_METRICS];
	double median[NR_METRICS];
};

void output_begin(const struct options *options);
void output_lines(const struct contest *contest,
		  const struct result results[NR_SIDES]);

/* Bytes for a case: what --size says, or the case's own; whole chunks. */
size_t case_bytes(const struct options *options, size_t otherwise);

/* ---- Memory (arena.c) ------------------------------------------------- */

struct arena {
	char *addr; /* on a 2 MiB boundary */
	size_t len; /* a multiple of 2 MiB */
	int memfd;  /* 0 for private anonymous memory */
};

/* -errno where there is no memory. Nothing is touched. */
int arena_map(struct arena *arena, size_t len, bool memfd);
void arena_unmap(struct arena *arena);

/* Drops what is there, as QEMU's balloon does: madvise(MADV_DONTNEED) and, for a
 * memfd, a hole punched. Nonzero where the kernel does not. */
int arena_drop(const struct arena *arena, size_t at, size_t len);

/* Fills all of it with bytes that do not compress, no two pages alike. */
void arena_fill(const struct arena *arena);

/* The first word of page idx after arena_fill(). */
uint64_t arena_word(size_t idx);

/* A page as arena_fill() makes page `id`; is it still that page? */
void page_fill(void *page, size_t id);
bool page_is(const void *page, size_t id);

/* The first word of page idx now: touches the page. */
static inline uint64_t *arena_page(const struct arena *arena, size_t idx)
{
	return (uint64_t *)(void *)(arena->addr + idx * PAGE);
}

/*
 * Touches and frees `len` bytes, so that the frames that a trial is going to
 * get are not ones that this machine, where it is a virtual one, has given
 * back to its own host (getting one of those costs 11 us).
 */
void warm_frames(size_t len);

/* An array of 0 to nr - 1 in random, but always the same, order. Its memory
 * is touched. NULL without memory; free() it. */
uint32_t *shuffled(size_t nr);
/* The same of `first` to first + nr - 1, in runs of `unit`, of which nr is a multiple:
 * within each they are in order. */
uint32_t *shuffled_runs(size_t first, size_t nr, size_t unit);

static inline uint64_t xorshift(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

/* ---- Time and touches (touch.c) --------------------------------------- */

uint64_t now_ns(void);
void nap_ms(unsigned ms);

/* User and system time of this process so far, all its threads together. */
double cpu_seconds(void);

/* A histogram of ns whose buckets are at most 1/256 wide: 57 KiB. */
#define HIST_SUB     256
#define HIST_BUCKETS (HIST_SUB * 40)

struct hist {
	uint64_t nr;
	uint32_t count[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t ns);
void hist_merge(struct hist *into, const struct hist *from);
double hist_us(const struct hist *hist, double quantile);

/* Pages to touch, each once, by how many threads. */
struct touching {
	const struct arena *arena;
	const uint32_t *order; /* page indices; NULL: in order from first */
	size_t first;
	size_t nr;
	unsigned threads; /* each takes an equal run of `order` */
	bool write;
	bool zero; /* the content must be zero, else arena_fill()'s */
};

/* Touches them, and puts the latencies, the throughputs and the CPU time into the
 * outcome; fails the trial where a byte was wrong. 0 or what fail() returned. */
int touch_pages(struct trial *trial, const struct touching *touching);

/* Puts the throughput and the CPU time of work on so many bytes into the outcome;
 * `begin` and `cpu`: what now_ns() and cpu_seconds() were before it. */
void report_bytes(struct trial *trial, size_t bytes, uint64_t begin,
		  double cpu);

/* ---- A Zipf workload (zipf.c) ------------------------------------------ */

struct zipf {
	double nr;
	double zeta;
	double alpha;
	double eta;
	double second; /* up to here it is rank 1 */
};

struct workload {
	const struct arena *arena; /* after arena_fill() */
	unsigned threads;	   /* at most 8 */
	unsigned warm_ms;	   /* before operations are counted */
	/* zipf.c's own */
	uint32_t *order;
	struct zipf zipf;
	int phase;
};

/* What the workload needs beside its memory, for so many pages. All of these: 0
 * or what fail() returned. */
int zipf_open(struct trial *trial, struct workload *load, size_t pages);
/* Works, and puts operations, latencies and CPU time into the outcome. */
int zipf_run(struct trial *trial, struct workload *load);
void zipf_close(struct workload *load);

/* ---- Threads that write everywhere (workers.c) ------------------------- */

#define WORKERS 2

/* Lets them work for a warm-up and then for as long as is measured, and puts the
 * operations into the outcome. 0 or what fail() returned. */
int workers_run(struct trial *trial, const struct arena *arena,
		unsigned warm_ms);

/* ---- Ours (ours.c) ---------------------------------------------------- */

struct ours {
	struct ovc_host *host;
	struct ovc_vm *vm;
	struct arena arena;
};

/* A host with this budget, a VM, all of an untouched arena as its region,
 * with the swap file or without. All of these: 0 or what fail() returned. */
int ours_open(struct trial *trial, struct ours *ours, uint64_t budget,
	      bool swap);
/* The same with swap and an ample budget, and the arena filled. */
int ours_open_filled(struct trial *trial, struct ours *ours);
/* And all of it pushed out. */
int ours_open_out(struct trial *trial, struct ours *ours);

/* Pushed out, to begin tracking: the first bytes of an arena. */
#define AWAY MIB

/* With swap and an ample budget, and faults tracked: nothing of the arena is touched
 * but what is away. */
int ours_open_tracked(struct trial *trial, struct ours *ours);
void ours_close(struct ours *ours);

/* The same, with these options of the host, so much memory, and this swap file
 * or NULL. */
int ours_open_with(struct trial *trial, struct ours *ours,
		   const struct ovc_host_options *options, size_t len,
		   const char *swap);
/* One more VM on a host of somebody else's, which is to be closed after it. */
int ours_join(struct trial *trial, struct ours *ours, struct ovc_host *host,
	      size_t len, const char *swap);

/* A host alone, that looks for no equal pages until it is told to; or with
 * other options. */
int ours_host(struct trial *trial, uint64_t budget, struct ovc_host **hostp);
int ours_host_with(struct trial *trial, const struct ovc_host_options *options,
		   struct ovc_host **hostp);

/* A budget under which nothing of `len` bytes is ever pushed out. */
uint64_t ample_budget(size_t len);

/* ovc_vm_reclaim() of [from, from + len) of the arena. */
int ours_reclaim(struct trial *trial, struct ours *ours, size_t from,
		 size_t len);
/* Checks that only the swap file holds (nearly) all of the arena. */
int ours_check_out(struct trial *trial, struct ours *ours);
/* Both, for all of the arena. */
int ours_push_out(struct trial *trial, struct ours *ours);

int ours_host_stats(struct trial *trial, struct ours *ours,
		    struct ovc_host_stats *stats);

#define NR_SWAPS 2u

/* A swap file's path, the same in each round, as is the peer's file. */
const char *ours_swap_path(const struct options *options, unsigned which);
/* Async-signal-safe. */
void ours_remove_swap(void);

/* ---- Peer: the kernel's swap (peer_swap.c, peer_swap_side.c) ---------- */

/*
 * Makes a swap file of at least `bytes` in the swap directory, swaps on it and
 * makes the memory cgroup; keeps what is there if it will do. On failure
 * returns -errno and leaves the reason in `why`.
 */
int peer_swap_start(const struct options *options, size_t bytes, char *why,
		    size_t why_size);
/* Undoes it. Async-signal-safe; does nothing the second time. */
void peer_swap_stop(void);
/* Removes what a killed run left: swap files, cgroups, our own swap files. */
void peer_swap_sweep(const char *dir);

/* The parent's, for the side that runs in the child. */
struct peer_cgroup {
	char path[256];
	bool v2;
};
extern struct peer_cgroup peer_cgroup;

/* In the child: joins the cgroup, with a limit or 0 for none. What was touched
 * before stays charged elsewhere. */
int peer_swap_enter(struct trial *trial, uint64_t limit);
/* What the cgroup holds now; lowers its limit to so much, which the kernel makes
 * room for before the call returns. */
uint64_t peer_swap_usage(void);
int peer_swap_limit(struct trial *trial, uint64_t limit);
/* madvise(MADV_PAGEOUT). */
int peer_swap_page_out(struct trial *trial, const struct arena *arena);
/* Frees the swap cache behind it; invalid unless the pages are really gone. */
int peer_swap_settle(struct trial *trial, const struct arena *arena);

/* Maps an arena, enters without a limit, fills the arena. */
int peer_swap_open_filled(struct trial *trial, struct arena *arena);
/* And pages all of it out. */
int peer_swap_open_out(struct trial *trial, struct arena *arena);

/* Pages that the system read from and wrote to swap, and this process's
 * major faults. */
struct peer_counts {
	uint64_t in;
	uint64_t out;
	uint64_t major_faults;
};
void peer_swap_counts(struct peer_counts *counts);
/* Invalid unless at least `pages` came from the disk since `before`, and at
 * least `faults` touches waited for it. */
int peer_swap_check_in(struct trial *trial, const struct peer_counts *before,
		       uint64_t pages, uint64_t faults);

/* ---- Peer: the smallest userfaultfd loop (peer_uffd.c) ----------------- */

/* Registers the arena and starts the handlers. They end with the process. */
int peer_uffd_start(struct trial *trial, const struct arena *arena);

/* How faults are answered from now on: with UFFDIO_COPY of a zeroed page, else,
 * and in the beginning, with UFFDIO_ZEROPAGE. Not while a fault is under way. */
void peer_uffd_copy(bool copy);

/* ---- Kernel settings (settings.c) ------------------------------------- */

/* Notes what a setting's file says, to put it back: 0 or -errno. */
int setting_save(const char *path);
/* 0 or -errno. Async-signal-safe. */
int setting_write(const char *path, const char *word);
/* -1 where it cannot be read. */
long setting_number(const char *path);
/* Puts back all that was saved. Async-signal-safe. */
void settings_restore(void);

/* ---- Peer: KSM (peer_ksm.c) ------------------------------------------- */

enum ksm_pace {
	KSM_FASTEST,	 /* 100,000 pages, no sleep */
	KSM_FASTEST_ALL, /* and looks at all pages in each pass */
	KSM_DEFAULT,	 /* the kernel's: 100 pages, 20 ms of sleep */
	KSM_ADVISOR,	 /* what its advisor makes of that */
};

/* Saves its settings, or -errno and the reason in `why`. */
int peer_ksm_start(char *why, size_t why_size);
/* Unmerges, and puts the settings back. Async-signal-safe; does nothing the
 * second time. */
void peer_ksm_stop(void);

/* In the child: nothing is merged and KSM stands still. */
int peer_ksm_open(struct trial *trial, enum ksm_pace pace);
int peer_ksm_offer(struct trial *trial, const struct arena *arena);
/* Lets it run, or stand still with what it has merged. */
int peer_ksm_run(struct trial *trial, bool on);
void peer_ksm_close(void);

/* Bytes that merging saves now. */
int peer_ksm_saved(struct trial *trial, uint64_t *bytes);
uint64_t peer_ksm_passes(void);
/* Seconds of its thread so far, NaN where that cannot be seen. */
double peer_ksm_cpu(void);

/* ---- Guests that have pages in common (guests.c) ----------------------- */

#define MAX_GUESTS 4

struct guests {
	enum side side;
	unsigned nr;
	struct arena arena[MAX_GUESTS];
	uint32_t *id[MAX_GUESTS]; /* what each page is; NULL: its index */
	/* ours, all VMs in one domain and without swap */
	struct ovc_host *host;
	struct ovc_vm *vm[MAX_GUESTS];
};

/* So many guests of equal size, for the side whose turn it is. Nothing is
 * shared until guests_share(). All of these: 0 or what fail() returned. */
int guests_open(struct trial *trial, struct guests *guests, unsigned nr,
		enum ksm_pace pace);
void guests_fill(const struct guests *guests);
/* Begins to look for equal pages, ours with so many percent of a CPU. */
int guests_share(struct trial *trial, struct guests *guests, unsigned cpu);
/* Looks no more; what is shared stays shared. */
int guests_pause(struct trial *trial, struct guests *guests);
/* Bytes saved so far. */
int guests_saved(struct trial *trial, struct guests *guests, uint64_t *bytes);
/* Waits until so many are; not forever. */
int guests_wait(struct trial *trial, struct guests *guests, uint64_t bytes);
/* CPU seconds of sharing so far: of the process, but for the calling thread,
 * and of the peer's thread. */
double guests_cpu(const struct guests *guests);
/* Checks every byte of a guest. */
int guests_check(struct trial *trial, const struct guests *guests,
		 unsigned guest);
void guests_close(struct guests *guests);

/* ---- Cases ------------------------------------------------------------ */

int case_idle_overhead(const struct options *options);
int case_fault_zero(const struct options *options);
int case_swap_in_random(const struct options *options);
int case_swap_in_seq(const struct options *options);
int case_swap_out(const struct options *options);
int case_swap_out_clean(const struct options *options);
int case_overcommit(const struct options *options);
int case_metadata(const struct options *options);
int case_share_merge(const struct options *options);
int case_share_scattered(const struct options *options);
int case_share_scan(const struct options *options);
int case_share_break(const struct options *options);
int case_share_converge(const struct options *options);
int case_share_slowdown(const struct options *options);
int case_policy(const struct options *options);
int case_balloon_inflate(const struct options *options);
int case_balloon_inflate_huge(const struct options *options);
int case_balloon_deflate(const struct options *options);
int case_rebalance(const struct options *options);
int case_tax(const struct options *options);
int case_working_set(const struct options *options);

#endif /* OVC_BENCH_H */
