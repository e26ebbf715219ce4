/* SPDX-License-Identifier: Apache-2.0 */
/* Learns from what homes answer: copies, moves and ping-pongs of each page, and the hottest pages.
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"
#include "dsm/engine/page_counts.h"

/* Fields of the words below: where they begin, how wide they are. */
#define READS	   0, 26
#define MOVES	   26, 26
#define OWNER	   52, 6
#define PREVIOUS   58, 6
#define PING_PONGS 0, 24
#define UPGRADES   24, 24
#define MOVED_AT   48, 16

#define FAULTS	  0, 32
#define TAG	  32, 32
#define CANDIDATE 0, 8
#define VOTES	  8, 24
#define ERROR	  32, 32

/*
 * A page's record. Slices in it are relative to the home, so that all zero is a page that nobody
 * has asked for and that its home owns. PREVIOUS gave the page up at MOVED_AT, in units of 2^20 ns:
 * that wraps after 69 s, and one in 4,000 of the moves back that come later is taken for a
 * ping-pong.
 */
struct record {
	_Atomic uint64_t low;  /* READS, MOVES, OWNER, PREVIOUS */
	_Atomic uint64_t high; /* PING_PONGS, UPGRADES, MOVED_AT */
};
static_assert(SLICES_MAX <= 1u << 6, "a slice fits its fields");

#define PLACES (PAGE_COUNTS_SETS * PAGE_COUNTS_WAYS)

/*
 * Each set of the table is one of Space-Saving (Metwally, Agrawal and El Abbadi 2005): a page that
 * is not there takes the place of the one with the fewest faults and counts on from these, and they
 * are noted as ERROR, since none of them need be its own. The other slice most seen is the one that
 * Boyer and Moore's vote finds: a fault of the candidate is a vote for it, one of another slice is
 * one against it, and who comes when there are none left becomes the candidate.
 */
struct page_counts {
	unsigned self;
	uint64_t gfns;
	size_t record_bytes;
	struct record *records;	 /* by gfn, lazily backed */
	uint8_t *chunks;	 /* of HOME_CHUNK_SIZE: has any page of it a record in use? */
	_Atomic uint64_t tick;	 /* half-lives that the table's counts have seen */
	_Atomic uint64_t recent; /* faults, halved as the table's are */
	struct page_counts_totals totals;
	/* FAULTS, TAG (gfn + 1; 0: free); sets of ways */
	_Alignas(64) _Atomic uint64_t count[PLACES];
	_Atomic uint64_t more[PLACES]; /* CANDIDATE, VOTES, ERROR */
};
static_assert(PAGE_COUNTS_WAYS * sizeof(uint64_t) == 64, "a set's counts are one cache line");

#define CHUNK_SHIFT (HOME_CHUNK_SHIFT - PAGE_SHIFT)

/* Plain moves: the owner alone stores. */
static uint64_t word_get(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void word_set(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

/* Bits [at, at + width) of a word. */
static uint64_t bits_get(uint64_t word, unsigned at, unsigned width)
{
	return word >> at & ((UINT64_C(1) << width) - 1);
}

static uint64_t bits_set(uint64_t word, unsigned at, unsigned width, uint64_t value)
{
	uint64_t mask = ((UINT64_C(1) << width) - 1) << at;

	return (word & ~mask) | value << at;
}

/* One more, but never beyond the field. */
static uint64_t bits_count(uint64_t word, unsigned at, unsigned width)
{
	uint64_t value = bits_get(word, at, width);

	return value == (UINT64_C(1) << width) - 1 ? word : bits_set(word, at, width, value + 1);
}

static void field_count(_Atomic uint64_t *word, unsigned at, unsigned width)
{
	word_set(word, bits_count(word_get(word), at, width));
}

struct page_counts *page_counts_create(uint64_t gfns, unsigned self)
{
	struct page_counts *counts;
	size_t chunks = (size_t)(gfns >> CHUNK_SHIFT) + 1;
	void *records;

	counts = aligned_alloc(64, (sizeof(*counts) + 63) / 64 * 64);
	if (!counts)
		return NULL;
	memset(counts, 0, sizeof(*counts));
	counts->self = self;
	counts->gfns = gfns;
	counts->record_bytes = (size_t)gfns * sizeof(struct record);
	counts->chunks = calloc(chunks, 1);
	records = counts->chunks ? mmap(NULL, counts->record_bytes, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
				 : MAP_FAILED;
	if (records == MAP_FAILED) {
		free(counts->chunks);
		free(counts);
		return NULL;
	}
	/* As for the directory: a huge page for a few records in use would be a waste. */
	madvise(records, counts->record_bytes, MADV_NOHUGEPAGE);
	counts->records = records;
	return counts;
}

void page_counts_destroy(struct page_counts *counts)
{
	if (!counts)
		return;
	munmap(counts->records, counts->record_bytes);
	free(counts->chunks);
	free(counts);
}

/* A count after so many half-lives. */
static uint32_t count_halve(uint32_t count, uint64_t times)
{
	return times < 32 ? count >> times : 0;
}

/* The same for what may be too much: upwards, so that what is left over is not more than was. */
static uint32_t error_halve(uint32_t error, uint64_t times)
{
	return times < 32 ? (uint32_t)((error + (UINT64_C(1) << times) - 1) >> times) : 0;
}

static uint64_t ticks_missing(const struct page_counts *counts, uint64_t now_ns)
{
	uint64_t tick = now_ns >> PAGE_COUNTS_HALF_SHIFT, seen = word_get(&counts->tick);

	return tick > seen ? tick - seen : 0; /* events of one moment may come in either order */
}

/* Once each half-life: about a microsecond. */
static void table_decay(struct page_counts *counts, uint64_t times)
{
	for (unsigned i = 0; i < PLACES; i++) {
		uint64_t count = word_get(&counts->count[i]), more = word_get(&counts->more[i]);
		uint32_t heat = count_halve((uint32_t)bits_get(count, FAULTS), times);
		uint32_t error = error_halve((uint32_t)bits_get(more, ERROR), times);

		word_set(&counts->more[i], bits_set(more, ERROR, error < heat ? error : heat));
		word_set(&counts->count[i], bits_set(count, FAULTS, heat));
	}
	word_set(&counts->recent, times < 64 ? word_get(&counts->recent) >> times : 0);
	word_set(&counts->tick, word_get(&counts->tick) + times);
}

static uint64_t vote(uint64_t more, unsigned slice)
{
	uint64_t votes = bits_get(more, VOTES);

	if (votes == 0)
		return bits_set(bits_set(more, VOTES, 1), CANDIDATE, slice);
	if (bits_get(more, CANDIDATE) == slice)
		return bits_count(more, VOTES);
	return bits_set(more, VOTES, votes - 1);
}

/* The place of a page in its set; if it has none yet, that of the page with the fewest faults. */
static unsigned place_find(const struct page_counts *counts, uint64_t gfn)
{
	unsigned set = hash_u64(gfn) % PAGE_COUNTS_SETS;
	unsigned first = set * PAGE_COUNTS_WAYS, fewest = first;
	uint64_t least = UINT64_MAX;

	for (unsigned at = first; at < first + PAGE_COUNTS_WAYS; at++) {
		uint64_t count = word_get(&counts->count[at]);

		if (bits_get(count, TAG) == gfn + 1)
			return at;
		if (bits_get(count, FAULTS) < least) {
			least = bits_get(count, FAULTS);
			fewest = at;
		}
	}
	return fewest;
}

/* One more fault of slice on gfn. */
static void table_count(struct page_counts *counts, uint64_t gfn, unsigned slice, uint64_t now_ns)
{
	uint64_t times = ticks_missing(counts, now_ns), count, more;
	unsigned at;

	if (times)
		table_decay(counts, times);
	at = place_find(counts, gfn);
	count = word_get(&counts->count[at]);
	more = word_get(&counts->more[at]);
	if (bits_get(count, TAG) != gfn + 1) {
		more = bits_set(bits_set(0, CANDIDATE, PAGE_COUNTS_NOBODY), ERROR,
				bits_get(count, FAULTS));
		count = bits_set(count, TAG, gfn + 1);
	}
	if (slice != counts->self)
		more = vote(more, slice);
	word_set(&counts->more[at], more);
	/* Who reads that the page is here must read what belongs to it: `more` is stored before. */
	atomic_store_explicit(&counts->count[at], bits_count(count, FAULTS), memory_order_release);
	word_set(&counts->recent, word_get(&counts->recent) + 1);
}

static struct record *record_use(struct page_counts *counts, uint64_t gfn)
{
	invariant(gfn < counts->gfns);
	counts->chunks[gfn >> CHUNK_SHIFT] = 1;
	return &counts->records[gfn];
}

static unsigned relative(const struct page_counts *counts, unsigned slice)
{
	return (slice - counts->self) % SLICES_MAX;
}

/* slice owns the page from now on. False: it did before. Else *age is how long ago the page changed
 * hands last, in units, and *back whether it was this slice that gave it up then. */
static bool owner_set(const struct page_counts *counts, struct record *record, unsigned slice,
		      uint64_t now_ns, unsigned *age, bool *back)
{
	uint64_t low = word_get(&record->low), owner = bits_get(low, OWNER),
		 who = relative(counts, slice);
	uint64_t now = (now_ns >> PAGE_COUNTS_UNIT_SHIFT) & 0xffff;

	if (owner == who)
		return false;
	*age = (unsigned)(now - bits_get(word_get(&record->high), MOVED_AT)) & 0xffff;
	*back = bits_get(low, PREVIOUS) == who;
	word_set(&record->low, bits_set(bits_set(low, OWNER, who), PREVIOUS, owner));
	word_set(&record->high, bits_set(word_get(&record->high), MOVED_AT, now));
	return true;
}

void page_counts_read(struct page_counts *counts, uint64_t gfn, unsigned slice, uint64_t now_ns)
{
	struct record *record = record_use(counts, gfn);

	field_count(&record->low, READS);
	counts->totals.reads++;
	counts->totals.faults++;
	table_count(counts, gfn, slice, now_ns);
}

void page_counts_write(struct page_counts *counts, uint64_t gfn, unsigned slice, bool had_copy,
		       uint64_t now_ns)
{
	struct record *record = record_use(counts, gfn);
	unsigned age = 0;
	bool back = false;

	if (had_copy) {
		field_count(&record->high, UPGRADES);
		counts->totals.upgrades++;
	}
	if (owner_set(counts, record, slice, now_ns, &age, &back)) {
		field_count(&record->low, MOVES);
		counts->totals.moves++;
		if (back && age <= PAGE_COUNTS_PING_PONG_UNITS) {
			field_count(&record->high, PING_PONGS);
			counts->totals.ping_pongs++;
		}
	}
	counts->totals.faults++;
	table_count(counts, gfn, slice, now_ns);
}

void page_counts_write_alone(struct page_counts *counts, uint64_t gfn, uint64_t now_ns)
{
	unsigned age;
	bool back;

	invariant(gfn < counts->gfns);
	/* Most such writes are of pages that no other slice ever had: their records stay untouched.
	 */
	if (counts->chunks[gfn >> CHUNK_SHIFT])
		owner_set(counts, &counts->records[gfn], counts->self, now_ns, &age, &back);
}

struct page_counts_totals page_counts_totals(const struct page_counts *counts)
{
	return counts->totals;
}

void page_counts_page(const struct page_counts *counts, uint64_t gfn, struct page_counts_page *out)
{
	const struct record *record = &counts->records[gfn];
	uint64_t low = word_get(&record->low), high = word_get(&record->high);

	*out = (struct page_counts_page){
		.reads = bits_get(low, READS),
		.moves = bits_get(low, MOVES),
		.ping_pongs = bits_get(high, PING_PONGS),
		.upgrades = bits_get(high, UPGRADES),
		.owner = (unsigned)(bits_get(low, OWNER) + counts->self) % SLICES_MAX,
	};
}

void page_counts_memory(const struct page_counts *counts, void **mem, size_t *bytes)
{
	*mem = counts->records;
	*bytes = counts->record_bytes;
}

/* Entry i of the table, `times` half-lives later; false: it is free or has cooled down. */
static bool entry_read(const struct page_counts *counts, unsigned i, uint64_t times,
		       struct page_counts_hot *out)
{
	uint64_t count = atomic_load_explicit(&counts->count[i], memory_order_acquire);
	uint64_t more = word_get(&counts->more[i]);
	uint32_t heat = count_halve((uint32_t)bits_get(count, FAULTS), times);
	uint32_t error = error_halve((uint32_t)bits_get(more, ERROR), times);

	if (bits_get(count, TAG) == 0 || heat <= error)
		return false;
	out->gfn = bits_get(count, TAG) - 1;
	out->recent = heat - error;
	out->other = (unsigned)bits_get(more, CANDIDATE);
	return true;
}

/* Into the list if it is among the hottest so far. */
static void list_insert(struct page_counts_list *list, const struct page_counts_hot *page)
{
	unsigned at = list->count;

	while (at > 0 && list->page[at - 1].recent < page->recent)
		at--;
	if (at == HOT_PAGES_MAX)
		return;
	list->count += list->count < HOT_PAGES_MAX;
	memmove(&list->page[at + 1], &list->page[at], (list->count - at - 1) * sizeof(*page));
	list->page[at] = *page;
}

void page_counts_hottest(const struct page_counts *counts, uint64_t now_ns,
			 struct page_counts_list *out)
{
	uint64_t times = ticks_missing(counts, now_ns);

	out->count = out->hot_count = 0;
	out->recent = times < 64 ? word_get(&counts->recent) >> times : 0;
	for (unsigned i = 0; i < PLACES; i++) {
		struct page_counts_hot page = {0};

		if (!entry_read(counts, i, times, &page))
			continue;
		page.hot = page.recent >= PAGE_COUNTS_HOT_LEAST &&
			   page.recent * PAGE_COUNTS_HOT_SHARE >= out->recent;
		out->hot_count += page.hot;
		list_insert(out, &page);
	}
	for (unsigned i = 0; i < out->count; i++)
		page_counts_page(counts, out->page[i].gfn, &out->page[i].page);
}

/* What the home of a page tells a requester, or an owner for it, is what becomes of the page. */
static void msg_learn(struct page_counts *counts, const struct wire_msg *msg, uint64_t now_ns)
{
	unsigned who = msg->requester;

	switch (msg->type) {
	case MSG_DATA:
		if (msg->flags & MSG_FLAG_EXCLUSIVE)
			page_counts_write(counts, msg->gfn, who, false, now_ns);
		else
			page_counts_read(counts, msg->gfn, who, now_ns);
		break;
	case MSG_GRANT:
		page_counts_write(counts, msg->gfn, who, true, now_ns);
		break;
	case MSG_FWD_S:
		page_counts_read(counts, msg->gfn, who, now_ns);
		break;
	case MSG_FWD_M:
		/* Our own writes count when they are mapped: not all of them need a FWD. */
		if (who != counts->self)
			page_counts_write(counts, msg->gfn, who, false, now_ns);
		break;
	default:
		break;
	}
}

static void action_learn(struct engine *e, const struct protocol_event *event,
			 const struct protocol_action *action)
{
	bool sent = action->type == ACTION_SEND || action->type == ACTION_SEND_PAGE;
	bool upgraded = action->type == ACTION_MAP_UPGRADE;
	bool faulted = event->type == EVENT_FAULT_READ || event->type == EVENT_FAULT_WRITE;

	if (!sent && !upgraded && action->type != ACTION_MAP_EXCLUSIVE)
		return;
	if (!engine_home_is_self(e, action->gfn))
		return;
	if (sent)
		msg_learn(e->page_counts, &action->msg, event->now_ns);
	else if (faulted) /* and served in the same step */
		page_counts_write_alone(e->page_counts, action->gfn, event->now_ns);
	else
		page_counts_write(e->page_counts, action->gfn, e->config.self, upgraded,
				  event->now_ns);
}

void engine_page_counts_learn(struct engine *e, const struct protocol_event *event)
{
	for (unsigned i = 0; i < e->actions.count; i++)
		action_learn(e, event, &e->actions.list[i]);
}

void engine_hot_pages(struct engine *e, struct page_counts_list *out)
{
	page_counts_hottest(e->page_counts, clock_now_ns(), out);
}
