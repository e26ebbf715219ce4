/* SPDX-License-Identifier: Apache-2.0 */
/* What a home knows of the use of its pages by the slices: copies, moves, and which pages are hot.
 */
#ifndef DSM_PAGE_COUNTS_H
#define DSM_PAGE_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/*
 * Disco replicated pages that were read and migrated pages that were written. The protocol does the
 * same fault by fault, and the home of a page sees each fault that takes another slice: from what
 * it answers the engine learns here what becomes of the page.
 *
 * Every homed page that another slice has asked for has a record of 16 bytes, in a lazily backed
 * array: pages that only their home uses cost nothing. Beside them a table of fixed size finds the
 * pages that most of the recent faults are for.
 *
 * Threads: one owner (the engine thread), which neither allocates nor locks nor makes a system
 * call. page_counts_page and page_counts_hottest are for any thread: what they read is stored by atomics,
 * word for word, and each answer may be one fault behind in one of its counters.
 */
struct page_counts;

/* Recent faults count half after each 2^35 ns, 34 s: a boot, or a phase of a program, is seen as
 * one whole, and what was hot is gone after some minutes of faults on other pages. */
#define PAGE_COUNTS_HALF_SHIFT 35
/*
 * A page that comes back to the slice that gave it up within 16 units of 2^20 ns (17 ms) is a
 * ping-pong: the two remote faults of such a round are about a hundredth of that time and more.
 */
#define PAGE_COUNTS_UNIT_SHIFT	    20
#define PAGE_COUNTS_PING_PONG_UNITS 16u
/* Counters of a page stop here, at an hour of 16,000 faults a second and more. */
#define PAGE_COUNTS_READS_MAX  ((UINT64_C(1) << 26) - 1)
#define PAGE_COUNTS_MOVES_MAX  ((UINT64_C(1) << 26) - 1)
#define PAGE_COUNTS_PINGS_MAX  ((UINT64_C(1) << 24) - 1)
#define PAGE_COUNTS_GRANTS_MAX ((UINT64_C(1) << 24) - 1)
/*
 * The table of hot pages: sets of one cache line of tags and counts. A page is surely in it while
 * it takes more than an eighth of the recent faults that fall into its set. A page is called hot if
 * it takes a hundredth of all: more than all cold pages of its set together, which are a part in
 * 128 of them all.
 */
#define PAGE_COUNTS_SETS      128u
#define PAGE_COUNTS_WAYS      8u
#define PAGE_COUNTS_HOT_SHARE 100u
/* Fewer faults than this make no page hot, whatever their share. */
#define PAGE_COUNTS_HOT_LEAST 64u

/* What is known of one page. */
struct page_counts_page {
	uint64_t reads;	     /* copies made for a reader, at the home or at the owner */
	uint64_t moves;	     /* the right to write went to another slice than had it last */
	uint64_t ping_pongs; /* moves back to the slice that had given it up just before */
	uint64_t upgrades;   /* writes by one that had a copy: no page was sent */
	unsigned owner;	     /* who was given the right to write last; at first the home */
};

/* One of the hottest pages. */
struct page_counts_hot {
	uint64_t gfn;
	uint64_t recent; /* faults, at least, older ones counting less */
	bool hot;	 /* PAGE_COUNTS_HOT_SHARE, PAGE_COUNTS_HOT_LEAST */
	/* The slice but the home that asked for most of them, if one asked for more than half;
	 * PAGE_COUNTS_NOBODY: only the home did. */
	unsigned other;
	struct page_counts_page page;
};
#define PAGE_COUNTS_NOBODY 0xffu

struct page_counts_list {
	unsigned count;	    /* pages listed, the hottest first */
	unsigned hot_count; /* pages that are hot */
	uint64_t recent;    /* all faults, older ones counting less */
	struct page_counts_hot page[HOT_PAGES_MAX];
};

/* Of all pages homed here, since the start. */
struct page_counts_totals {
	uint64_t faults; /* that took another slice than the one that faulted */
	uint64_t reads, moves, ping_pongs, upgrades;
};

/* For pages below gfns (at most 2^32 - 1); self is their home. NULL: no memory. */
struct page_counts *page_counts_create(uint64_t gfns, unsigned self);
void page_counts_destroy(struct page_counts *counts);

/* The owner's. gfn: homed here, below gfns; slice: who faulted, below SLICES_MAX. */
/* A copy is made for slice to read. */
void page_counts_read(struct page_counts *counts, uint64_t gfn, unsigned slice, uint64_t now_ns);
/* slice is given the right to write; had_copy: it could read the page already. */
void page_counts_write(struct page_counts *counts, uint64_t gfn, unsigned slice, bool had_copy,
		       uint64_t now_ns);
/* The home writes without asking anybody: no fault between slices, but it owns the page now. */
void page_counts_write_alone(struct page_counts *counts, uint64_t gfn, uint64_t now_ns);
struct page_counts_totals page_counts_totals(const struct page_counts *counts);

/* Any thread. */
void page_counts_page(const struct page_counts *counts, uint64_t gfn, struct page_counts_page *out);
/* The records, for who wants to know how much of them is in memory. */
void page_counts_memory(const struct page_counts *counts, void **mem, size_t *bytes);
/* The hottest pages as of now_ns, by the clock of the calls above. */
void page_counts_hottest(const struct page_counts *counts, uint64_t now_ns,
			 struct page_counts_list *out);

#endif
