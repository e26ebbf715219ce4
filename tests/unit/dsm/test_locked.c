/* SPDX-License-Identifier: Apache-2.0 */
/* LOCKed accesses across pages and cache lines: none is lost, against each other nor others. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/unit/dsm/engine_rig.h"

#define THREADS_MAX 6
#define PAGE	    PANGEA_PAGE_SIZE

static struct rig rig; /* each test runs in a process of its own */

struct worker {
	pthread_t thread;
	unsigned id, slice;
	uint64_t did, sum;
	_Atomic unsigned went;
	int err;
};

static struct worker workers[THREADS_MAX];
static unsigned rounds;
static _Atomic bool stop;

static void worker_start(unsigned i, void *(*body)(void *))
{
	workers[i] = (struct worker){.id = i, .slice = i % rig.slices};
	cr_assert_eq(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
}

static void worker_join(unsigned i)
{
	pthread_join(workers[i].thread, NULL);
	cr_assert_eq(workers[i].err, 0, "thread %u: error %d", i, workers[i].err);
}

static void workers_start(unsigned count, void *(*body)(void *))
{
	for (unsigned i = 0; i < count; i++)
		worker_start(i, body);
}

static void workers_join(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		worker_join(i);
}

/* size bytes at gpa, cut where the page ends. */
static struct locked_access access_at(uint64_t gpa, unsigned size)
{
	unsigned left = PAGE - (unsigned)(gpa % PAGE);
	struct locked_access a = {.part = {{gpa, size < left ? size : left}}};

	if (size > left)
		a.part[1] = (struct locked_part){gpa + left, size - left};
	return a;
}

static uint64_t locked(struct worker *w, uint64_t gpa, enum locked_type type, uint64_t operand,
		       uint64_t expected)
{
	struct locked_access a = access_at(gpa, 8);
	int err;

	a.type = type;
	a.operand[0] = operand;
	a.expected[0] = expected;
	err = engine_locked(rig.slice[w->slice].engine, &a);
	if (err)
		w->err = err;
	return a.old[0];
}

static uint64_t bytes_get(unsigned slice, uint64_t gpa)
{
	uint64_t value;

	memcpy(&value, engine_ram(rig.slice[slice].engine) + gpa, sizeof(value));
	return value;
}

static void bytes_set(unsigned slice, uint64_t gpa, uint64_t value)
{
	memcpy(engine_ram(rig.slice[slice].engine) + gpa, &value, sizeof(value));
}

/* ---- Nobody else has the page ---------------------------------------------------------------- */

static _Atomic unsigned performed, mapped_meanwhile;
static int pagemap_fd;

/* Is the page mapped for the threads of this slice? (proc_pid_pagemap(5), bit 63) */
static bool page_mapped(unsigned slice, uint64_t gpa)
{
	uint64_t address = (uint64_t)(uintptr_t)(engine_ram(rig.slice[slice].engine) + gpa);
	uint64_t entry;

	if (pread(pagemap_fd, &entry, sizeof(entry), (off_t)(address / PAGE * 8)) != sizeof(entry))
		return true;
	return entry >> 63;
}

void __real_locked_perform(struct locked_access *access, uint8_t *const place[2]);
void __wrap_locked_perform(struct locked_access *access, uint8_t *const place[2]);

/* In the engine's place (the linker's --wrap): the engine thread is about to change the bytes. */
void __wrap_locked_perform(struct locked_access *access, uint8_t *const place[2])
{
	for (unsigned i = 0; i < rig.slices; i++)
		for (unsigned k = 0; k < 2; k++)
			if (access->part[k].bytes && page_mapped(i, access->part[k].gpa))
				atomic_fetch_add(&mapped_meanwhile, 1);
	__real_locked_perform(access, place);
	atomic_fetch_add(&performed, 1);
}

/* ---- The operations -------------------------------------------------------------------------- */

static void expect_apply(enum locked_type type, unsigned size, uint64_t old, uint64_t operand,
			 uint64_t expected, uint64_t result)
{
	struct locked_access a = access_at(0, size);
	uint64_t was[2] = {old, 7}, is[2];

	a.type = type;
	a.operand[0] = operand;
	a.operand[1] = 9;
	a.expected[0] = expected;
	a.expected[1] = 7;
	locked_apply(&a, was, is);
	cr_expect_eq(is[0], result, "type %u, %u bytes: %lx", type, size, is[0]);
	if (size == 16)
		cr_expect_eq(is[1], type == LOCKED_COMPARE && old != expected ? 7 : 9);
}

Test(locked, operations)
{
	expect_apply(LOCKED_SET, 4, 1, 0x123456789a, 0, 0x3456789a);
	expect_apply(LOCKED_ADD, 1, 0xff, 2, 0, 1);
	expect_apply(LOCKED_ADD, 8, 1, UINT64_MAX, 0, 0);
	expect_apply(LOCKED_AND, 2, 0xffff, ~UINT64_C(8), 0, 0xfff7);
	expect_apply(LOCKED_OR, 8, 1, UINT64_C(1) << 63, 0, UINT64_C(1) << 63 | 1);
	expect_apply(LOCKED_XOR, 4, 5, UINT64_MAX, 0, 0xfffffffa);
	expect_apply(LOCKED_NEG, 2, 1, 0, 0, 0xffff);
	expect_apply(LOCKED_COMPARE, 2, 0x1234, 5, 0xff1234, 5);
	expect_apply(LOCKED_COMPARE, 2, 0x1235, 5, 0x1234, 0x1235);
	expect_apply(LOCKED_SET, 16, 1, 2, 0, 2);
	expect_apply(LOCKED_COMPARE, 16, 1, 2, 1, 2);
	expect_apply(LOCKED_COMPARE, 16, 1, 2, 3, 1);
}

Test(locked, what_cannot_be_is_refused)
{
	struct engine *e;
	struct locked_access a = access_at(PAGE - 4, 8);

	rig_up(&rig, 1);
	e = rig.slice[0].engine;
	cr_expect_eq(engine_locked(e, &a), 0);
	a.part[1].gpa = RIG_SLICE_BYTES;
	cr_expect_eq(engine_locked(e, &a), -EFAULT);
	a.part[1].gpa = UINT64_MAX - 8;
	cr_expect_eq(engine_locked(e, &a), -EFAULT);
	a = access_at(PAGE - 4, 8);
	a.part[0].bytes = 5;
	cr_expect_eq(engine_locked(e, &a), -EINVAL);
	a = access_at(0, 3);
	cr_expect_eq(engine_locked(e, &a), -EINVAL);
	a = access_at(0, 16);
	a.type = LOCKED_ADD;
	cr_expect_eq(engine_locked(e, &a), -EINVAL);
	a = access_at(0, 8);
	a.type = LOCKED_TYPES;
	cr_expect_eq(engine_locked(e, &a), -EINVAL);
	rig_down(&rig);
}

/* ---- Counting -------------------------------------------------------------------------------- */

/*
 * The word that is counted lies across a boundary, here a page's (of two homes, where there are
 * several), and begins so that its carry crosses it at once. Beside it, in the aligned words that
 * it overlaps, threads count with plain instructions: they would write back what they saw of it.
 */
static uint64_t boundary, count_gpa;
#define COUNT_START UINT64_C(0xfffffffffffffff0)

static void *count_split_main(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < rounds; i++)
		w->sum += locked(w, count_gpa, LOCKED_ADD, 1, 0);
	return NULL;
}

/* A plain thread counts so far up and down again: what is left of its word below the split one holds the sum of
 * all of them, however long they count. */
#define PLAIN_TOP 10000u

static uint64_t plain_low(uint64_t did)
{
	uint64_t at = did % (2 * PLAIN_TOP);

	return at < PLAIN_TOP ? at : 2 * PLAIN_TOP - at;
}

static void *count_plain_main(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop)) {
		__atomic_fetch_add(rig_word(&rig, w->slice, boundary - 8),
				   plain_low(w->did + 1) - plain_low(w->did), __ATOMIC_SEQ_CST);
		__atomic_fetch_add(rig_word(&rig, w->slice, boundary), UINT64_C(1) << 56,
				   __ATOMIC_SEQ_CST);
		w->did++;
	}
	return NULL;
}

static void counts_expect(unsigned slice, uint64_t at, unsigned before, uint64_t split,
			  uint64_t plain, uint64_t below)
{
	uint64_t counted = bytes_get(slice, at - before) - COUNT_START;
	uint64_t low = (UINT64_C(1) << (8 - before) * 8) - 1;

	cr_assert_eq(counted, split, "%u before: slice %u counts %lu of %lu", before, slice,
		     counted, split);
	cr_assert_eq(rig_read(&rig, slice, at - 8) & low, below);
	cr_assert_eq(rig_read(&rig, slice, at) >> 56, plain & 0xff);
}

/* The word begins `before` bytes (1 to 6) before the boundary; one thread in three is plain. */
static void counters_check(uint64_t at, unsigned before, unsigned threads)
{
	uint64_t split = 0, plain = 0, below = 0, sum = 0;

	boundary = at;
	count_gpa = at - before;
	rig_write(&rig, 0, at - 8, 0);
	rig_write(&rig, 0, at, 0);
	bytes_set(0, count_gpa, COUNT_START);
	stop = false;
	for (unsigned i = 0; i < threads; i++)
		worker_start(i, i % 3 == 2 ? count_plain_main : count_split_main);
	for (unsigned i = 0; i < threads; i++) {
		if (i % 3 == 2)
			continue;
		worker_join(i);
		split += rounds;
		sum += workers[i].sum;
	}
	atomic_store(&stop, true);
	for (unsigned i = 2; i < threads; i += 3) {
		worker_join(i);
		plain += workers[i].did;
		below += plain_low(workers[i].did);
	}
	for (unsigned i = 0; i < rig.slices; i++)
		counts_expect(i, at, before, split, plain, below);
	cr_assert_eq(sum, split * COUNT_START + split * (split - 1) / 2, "values came twice");
}

/* Below the boundary between the memory of slice 0 and that of slice 1. */
static uint64_t page_boundary(void)
{
	return rig.slices > 1 ? RIG_SLICE_BYTES : 3 * PAGE;
}

static void counts_on(unsigned slices, unsigned threads, unsigned count)
{
	rounds = count;
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	cr_assert_geq(pagemap_fd, 0);
	rig_up(&rig, slices);
	rig_write(&rig, 0, page_boundary(), 1);
	cr_assert(page_mapped(0, page_boundary()));
	counters_check(page_boundary(), 4, threads);
	counters_check(page_boundary(), 3, threads);
	counters_check(page_boundary(), 5, threads);
	counters_check(5 * PAGE + 64, 4, threads);
	cr_assert_eq(performed, 4 * rounds * (threads - threads / 3));
	cr_assert_eq(mapped_meanwhile, 0, "a page was mapped while it was changed");
	rig_down(&rig);
}

Test(locked, counts_on_one_slice)
{
	counts_on(1, 3, 1000);
}

Test(locked, counts_on_two_slices)
{
	counts_on(2, 6, 200);
}

Test(locked, counts_on_three_slices)
{
	counts_on(3, 6, 150);
}

Test(locked, counts_with_turns)
{
	rig_init(&rig, 3);
	rig.config.walks_write = true;
	rig.config.hold_ns = 20000;
	counts_on(3, 6, 100);
}

Test(locked, counts_with_little_room)
{
	rig_init(&rig, 2);
	rig.config.hold_ns = 20000;
	rig.config.cache_bytes = engine_cache_min_bytes(rig.config.faulters_max);
	counts_on(2, 6, 100);
}

/* ---- Other forms ----------------------------------------------------------------------------- */

struct forms {
	uint64_t compared, bits, taken;
};

static uint64_t form_gpa(unsigned n)
{
	return rig_page(n % rig.slices, 10 + 2 * n) - 3;
}

static void *forms_main(void *arg)
{
	struct worker *w = arg;
	uint64_t bit = UINT64_C(1) << (w->id * 9), seen, was;

	for (unsigned i = 0; i < rounds && !w->err; i++) {
		seen = locked(w, form_gpa(0), LOCKED_ADD, 0, 0);
		while ((was = locked(w, form_gpa(0), LOCKED_COMPARE, seen + 1, seen)) != seen)
			seen = was;
		/* Nobody else has a hand in this bit. */
		if (locked(w, form_gpa(1), LOCKED_OR, bit, 0) & bit)
			w->err = -EILSEQ;
		if (!(locked(w, form_gpa(1), LOCKED_AND, ~bit, 0) & bit))
			w->err = -EILSEQ;
		locked(w, form_gpa(1), LOCKED_XOR, bit << 1, 0);
		/* Each value that is put in comes out once. */
		w->did += i + 1;
		w->sum += locked(w, form_gpa(2), LOCKED_SET, i + 1, 0);
	}
	return NULL;
}

Test(locked, every_form)
{
	uint64_t put = 0, taken = 0, bits = 0;
	unsigned threads = 4;

	rounds = 51;
	rig_up(&rig, 2);
	workers_start(threads, forms_main);
	workers_join(threads);
	for (unsigned i = 0; i < threads; i++) {
		put += workers[i].did;
		taken += workers[i].sum;
		bits |= UINT64_C(2) << (i * 9);
	}
	cr_expect_eq(bytes_get(0, form_gpa(0)), (uint64_t)threads * rounds);
	cr_expect_eq(bytes_get(1, form_gpa(1)), bits);
	cr_expect_eq(taken + bytes_get(1, form_gpa(2)), put);
	rig_down(&rig);
}

/* ---- Progress -------------------------------------------------------------------------------- */

/* Pairs of pages in a ring, each pair in the order in which the guest names it: if a slice kept
 * what it has while it waits for any other page, three would soon wait for each other. */
static uint64_t ring_page(unsigned n)
{
	return rig_page(n % 3, 20);
}

static void *ring_main(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < rounds && !w->err; i++) {
		unsigned k = (w->id + i) % 3;
		struct locked_access a = {
			.type = LOCKED_ADD,
			.part = {{ring_page(k) + PAGE - 4, 4}, {ring_page(k + 1), 4}},
			.operand = {1}};

		w->err = engine_locked(rig.slice[w->slice].engine, &a);
	}
	return NULL;
}

Test(locked, a_ring_of_pages_is_no_deadlock)
{
	uint64_t total = 0;
	uint32_t count;

	rounds = 100;
	rig_up(&rig, 3);
	workers_start(6, ring_main);
	workers_join(6);
	for (unsigned k = 0; k < 3; k++) {
		memcpy(&count, engine_ram(rig.slice[0].engine) + ring_page(k) + PAGE - 4, 4);
		total += count;
	}
	cr_expect_eq(total, 6 * rounds);
	rig_down(&rig);
}

/* Two pages of the guest may be one: the address is mapped twice, one behind the other. */
Test(locked, both_parts_on_one_page)
{
	struct locked_access a = {.type = LOCKED_ADD,
				  .part = {{2 * PAGE - 4, 4}, {PAGE, 4}},
				  .operand = {UINT64_C(0x300000001)}};

	rig_up(&rig, 2);
	bytes_set(1, 2 * PAGE - 8, UINT64_C(0xffffffff00000000));
	cr_expect_eq(engine_locked(rig.slice[0].engine, &a), 0);
	cr_expect_eq(a.old[0], 0xffffffff);
	cr_expect_eq(bytes_get(1, 2 * PAGE - 8), 0);
	cr_expect_eq(bytes_get(1, PAGE), 4);
	rig_down(&rig);
}

static void *hammer_main(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop) && !w->err) {
		if (w->id < 2)
			locked(w, count_gpa, LOCKED_ADD, 1, 0);
		else
			__atomic_fetch_add(rig_word(&rig, w->slice, count_gpa + 4), 1,
					   __ATOMIC_SEQ_CST);
		atomic_fetch_add(&w->went, 1);
	}
	return NULL;
}

/* Loops of LOCKed accesses on both slices, and loops of plain ones: all go on, for long. */
Test(locked, nobody_starves)
{
	rig_up(&rig, 2);
	count_gpa = RIG_SLICE_BYTES - 4;
	workers_start(4, hammer_main);
	for (unsigned i = 0; i < 4; i++)
		cr_assert(rig_until(&workers[i].went, 100), "thread %u did %u", i, workers[i].went);
	atomic_store(&stop, true);
	workers_join(4);
	rig_down(&rig);
}

static void *until_error_main(void *arg)
{
	struct worker *w = arg;

	while (!w->err)
		locked(w, count_gpa, LOCKED_ADD, 1, 0);
	return NULL;
}

/* The way out of the wait when the VM ends. */
Test(locked, a_loss_ends_the_wait)
{
	rig_up(&rig, 2);
	count_gpa = RIG_SLICE_BYTES - 4;
	workers[0] = (struct worker){.slice = 0};
	cr_assert_eq(pthread_create(&workers[0].thread, NULL, until_error_main, &workers[0]), 0);
	while (!bytes_get(1, count_gpa))
		;
	engine_destroy(rig.slice[1].engine);
	rig.slice[1].engine = NULL;
	pthread_join(workers[0].thread, NULL);
	cr_expect_eq(workers[0].err, -ECANCELED);
	rig_down(&rig);
}
