/* SPDX-License-Identifier: Apache-2.0 */
/* Page memory in one process: a thread touches G, the test plays the engine on the other side. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dsm/pages/pages.h"

#define RAM_END (UINT64_C(64) << 20)

/* A thread that does one access. */
struct toucher {
	pthread_t thread;
	uint8_t *at;
	bool write;
	uint8_t value;
	_Atomic int done;
};

static void *touch_main(void *arg)
{
	struct toucher *t = arg;

	if (t->write)
		__atomic_store_n(t->at, t->value, __ATOMIC_SEQ_CST);
	else
		t->value = __atomic_load_n(t->at, __ATOMIC_SEQ_CST);
	atomic_store(&t->done, 1);
	return NULL;
}

static void touch_start(struct toucher *t, struct pages *pages, uint64_t gpa, bool write,
			uint8_t value)
{
	*t = (struct toucher){.at = pages_ram(pages) + gpa, .write = write, .value = value};
	cr_assert_eq(pthread_create(&t->thread, NULL, touch_main, t), 0);
}

static bool fault_waits(struct pages *pages, int timeout_ms)
{
	struct pollfd pfd = {.fd = pages_fault_fd(pages), .events = POLLIN};

	return poll(&pfd, 1, timeout_ms) == 1;
}

/*
 * A fault that poll tells of may be gone when it is read: its thread stands in the queue before it looks whether the
 * page has come meanwhile (handle_userfault in fs/userfaultfd.c).
 */
static struct page_fault fault_next(struct pages *pages)
{
	struct page_fault faults[PAGE_FAULTS_MAX];
	int count;

	do {
		cr_assert(fault_waits(pages, 10000), "no fault came");
		count = pages_read_faults(pages, faults);
	} while (count == 0);
	cr_assert_eq(count, 1);
	return faults[0];
}

/* The thread's access goes through; one that waits for ever is a failure, not a hang. */
static void thread_end(struct pages *pages, pthread_t thread)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	if (pthread_timedjoin_np(thread, NULL, &until) == 0)
		return;
	if (fault_waits(pages, 0))
		cr_assert_fail("an access waits in a fault on page 0x%lx",
			       (unsigned long)fault_next(pages).gfn);
	cr_assert_fail("an access waits in a fault that was answered");
}

static uint8_t touch_end(struct pages *pages, struct toucher *t)
{
	thread_end(pages, t->thread);
	return t->value;
}

static struct pages *pages_new(uint64_t ram_end)
{
	struct pages *pages = NULL;
	int err = pages_create(ram_end, 0, PAGES_USER, &pages);

	if (err == -EPERM || err == -ENOSYS)
		cr_skip_test("userfaultfd is not available here");
	cr_assert_eq(err, 0);
	return pages;
}

/* An access that must go through without any fault. */
static uint8_t touch_free(struct pages *pages, uint64_t gpa, bool write, uint8_t value)
{
	struct toucher t;

	touch_start(&t, pages, gpa, write, value);
	value = touch_end(pages, &t);
	cr_assert(!fault_waits(pages, 0), "an unexpected fault");
	return value;
}

/* Alone, a page is told of only while it is unmapped; what was written stays. */
Test(pages, alone)
{
	struct pages *pages = NULL;
	struct page_fault fault;
	struct toucher t;
	int err = pages_create(RAM_END, 0, PAGES_USER | PAGES_ALONE, &pages);

	if (err == -EPERM || err == -ENOSYS)
		cr_skip_test("userfaultfd is not available here");
	cr_assert_eq(err, 0);
	touch_free(pages, 9 * 4096, true, 0x42);
	cr_assert_eq(pages_frame(pages, 9)[0], 0x42);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(pages_unmap(pages, 9), 0);
		cr_assert_eq(pages_unmap(pages, 10), 0);
		cr_assert_eq(pages_unmap(pages, 9), 0, "once more changes nothing");
		touch_start(&t, pages, 9 * 4096, true, 0x50);
		fault = fault_next(pages);
		cr_assert_eq(fault.gfn, 9);
		cr_assert_eq(pages_frame(pages, 9)[0], 0x42 + i);
		pages_frame(pages, 9)[1] = (uint8_t)i;
		cr_assert_eq(pages_map_exclusive(pages, 9), 0);
		touch_end(pages, &t);
		cr_assert_eq(touch_free(pages, 9 * 4096, false, 0), 0x50);
		cr_assert_eq(touch_free(pages, 9 * 4096 + 1, false, 0), i);
		touch_free(pages, 9 * 4096, true, (uint8_t)(0x43 + i));
		cr_assert_eq(pages_map_exclusive(pages, 9), 0, "mapped already");
		cr_assert_eq(pages_map_exclusive(pages, 10), 0);
		touch_free(pages, 10 * 4096, true, 1);
	}
	pages_destroy(pages);
}

/* A run is mapped whole, with and without frames, and where one of its pages is mapped already. */
Test(pages, runs)
{
	struct pages *pages = pages_new(RAM_END);

	pages_frame(pages, 3)[0] = 0x33;
	cr_assert_eq(pages_map_run(pages, 2, 5), 0, "without frames");
	for (unsigned gfn = 8; gfn < 18; gfn++)
		pages_touch_frame(pages, gfn);
	cr_assert_eq(pages_map_shared(pages, 15), 0);
	cr_assert_eq(pages_map_run(pages, 8, 20), 0);
	for (unsigned gfn = 2; gfn < 28; gfn++)
		if (gfn != 7)
			touch_free(pages, gfn * 4096 + 1, true, (uint8_t)gfn);
	cr_assert_eq(pages_frame(pages, 3)[0], 0x33);
	cr_assert_eq(pages_frame(pages, 27)[1], 27);
	pages_destroy(pages);
}

Test(pages, a_read_of_a_hole_waits_and_gets_zeroes)
{
	struct pages *pages = pages_new(RAM_END);
	struct toucher t;
	struct page_fault fault;

	touch_start(&t, pages, 5 * 4096 + 123, false, 0xff);
	fault = fault_next(pages);
	cr_assert_eq(fault.gfn, 5);
	cr_assert(!fault.write);
	cr_assert_eq(atomic_load(&t.done), 0);
	cr_assert_eq(pages_map_shared(pages, 5), 0);
	cr_assert_eq(touch_end(pages, &t), 0);
	pages_destroy(pages);
}

Test(pages, every_transition)
{
	struct pages *pages = pages_new(RAM_END);
	struct toucher t;
	struct page_fault fault;

	/* Invalid -> shared: the bytes put into the frame are read; a write faults. */
	pages_frame(pages, 9)[7] = 0x41;
	touch_start(&t, pages, 9 * 4096 + 7, false, 0);
	cr_assert(!fault_next(pages).write);
	cr_assert_eq(pages_map_shared(pages, 9), 0);
	cr_assert_eq(touch_end(pages, &t), 0x41);
	cr_assert_eq(touch_free(pages, 9 * 4096 + 7, false, 0), 0x41);
	/* Shared -> exclusive. */
	touch_start(&t, pages, 9 * 4096 + 7, true, 0x42);
	fault = fault_next(pages);
	cr_assert(fault.write && fault.gfn == 9);
	cr_assert_eq(pages_upgrade(pages, 9), 0);
	touch_end(pages, &t);
	cr_assert_eq(pages_frame(pages, 9)[7], 0x42);
	touch_free(pages, 9 * 4096 + 7, true, 0x43);
	/* Exclusive -> shared. */
	cr_assert_eq(pages_protect(pages, 9), 0);
	cr_assert_eq(touch_free(pages, 9 * 4096 + 7, false, 0), 0x43);
	touch_start(&t, pages, 9 * 4096 + 7, true, 0x44);
	cr_assert(fault_next(pages).write);
	/* Shared -> invalid while a writer waits; the frame keeps its bytes. */
	cr_assert_eq(pages_unmap(pages, 9), 0);
	cr_assert_eq(pages_frame(pages, 9)[7], 0x43);
	/* Invalid -> exclusive. */
	cr_assert_eq(pages_map_exclusive(pages, 9), 0);
	touch_end(pages, &t);
	touch_free(pages, 9 * 4096 + 7, true, 0x45);
	cr_assert_eq(pages_frame(pages, 9)[7], 0x45);
	/* Exclusive -> invalid. */
	cr_assert_eq(pages_unmap(pages, 9), 0);
	touch_start(&t, pages, 9 * 4096 + 7, false, 0);
	cr_assert(!fault_next(pages).write);
	cr_assert_eq(pages_map_exclusive(pages, 9), 0);
	cr_assert_eq(touch_end(pages, &t), 0x45);
	pages_destroy(pages);
}

Test(pages, a_write_to_an_invalid_page_is_a_write_fault)
{
	struct pages *pages = pages_new(RAM_END);
	struct toucher t;

	touch_start(&t, pages, 0, true, 7);
	cr_assert(fault_next(pages).write);
	cr_assert_eq(pages_map_exclusive(pages, 0), 0);
	touch_end(pages, &t);
	cr_assert_eq(pages_frame(pages, 0)[0], 7);
	pages_destroy(pages);
}

Test(pages, operations_may_be_repeated)
{
	struct pages *pages = pages_new(RAM_END);

	for (int i = 0; i < 2; i++) {
		cr_assert_eq(pages_unmap(pages, 3), 0);
		cr_assert_eq(pages_unmap(pages, 3), 0);
		cr_assert_eq(pages_map_shared(pages, 3), 0);
		cr_assert_eq(pages_map_shared(pages, 3), 0);
		cr_assert_eq(pages_upgrade(pages, 3), 0);
		cr_assert_eq(pages_upgrade(pages, 3), 0);
		cr_assert_eq(pages_map_exclusive(pages, 3), 0);
		touch_free(pages, 3 * 4096, true, 1);
		cr_assert_eq(pages_protect(pages, 3), 0);
		cr_assert_eq(pages_protect(pages, 3), 0);
		cr_assert_eq(pages_map_exclusive(pages, 3), 0);
		touch_free(pages, 3 * 4096, true, 2);
		cr_assert_eq(pages_wake(pages, 3), 0);
	}
	pages_destroy(pages);
}

Test(pages, a_fault_on_a_mapped_page_is_ended_by_mapping_again)
{
	struct pages *pages = pages_new(RAM_END);
	struct toucher a, b;
	struct page_fault faults[PAGE_FAULTS_MAX];

	/* Two threads wait for one page: one mapping call lets both go on. */
	touch_start(&a, pages, 4096, false, 0);
	cr_assert(fault_waits(pages, 10000));
	touch_start(&b, pages, 4096 + 8, false, 0);
	cr_assert_geq(pages_read_faults(pages, faults), 1); /* the second may be there already */
	cr_assert_eq(faults[0].gfn, 1);
	cr_assert_eq(pages_map_shared(pages, 1), 0);
	touch_end(pages, &a);
	while (!atomic_load(&b.done))
		if (fault_waits(pages, 1)) {
			cr_assert_geq(pages_read_faults(pages, faults), 0);
			cr_assert_eq(pages_map_shared(pages, 1), 0);
		}
	touch_end(pages, &b);
	pages_destroy(pages);
}

Test(pages, zeroing_and_dropping_a_frame)
{
	struct pages *pages = pages_new(RAM_END);
	uint64_t before;

	memset(pages_frame(pages, 2), 0xaa, 4096);
	cr_assert(!pages_frame_is_zero(pages, 2));
	pages_zero_frame(pages, 2);
	cr_assert(pages_frame_is_zero(pages, 2));
	for (unsigned at = 0; at < 4096; at += 511) {
		pages_frame(pages, 2)[at] = 1;
		cr_assert(!pages_frame_is_zero(pages, 2), "byte %u", at);
		pages_frame(pages, 2)[at] = 0;
	}
	pages_frame(pages, 2)[4095] = 1;
	cr_assert(!pages_frame_is_zero(pages, 2));
	before = pages_frame_bytes(pages);
	cr_assert_eq(pages_drop_frames(pages, 2, 1), 0);
	cr_assert_eq(pages_frame_bytes(pages), before - 4096);
	cr_assert(pages_frame_is_zero(pages, 2));
	pages_destroy(pages);
}

Test(pages, dropping_frames_in_a_row)
{
	struct pages *pages = pages_new(RAM_END);
	uint64_t before;

	for (unsigned gfn = 3; gfn < 9; gfn++)
		memset(pages_frame(pages, gfn), 0xaa, 4096);
	before = pages_frame_bytes(pages);
	cr_assert_eq(pages_drop_frames(pages, 4, 4), 0);
	cr_assert_eq(pages_frame_bytes(pages), before - 4 * 4096);
	for (unsigned gfn = 3; gfn < 9; gfn++)
		cr_assert_eq(pages_frame_is_zero(pages, gfn), gfn >= 4 && gfn < 8, "%u", gfn);
	pages_destroy(pages);
}

Test(pages, a_large_guest_costs_nothing_until_touched)
{
	struct pages *pages = pages_new(UINT64_C(65) << 30);
	struct toucher t;
	uint64_t gpa = (UINT64_C(65) << 30) - 1;

	cr_assert_eq(pages_frame_bytes(pages), 0);
	cr_assert(pages_is_ram(pages, 0));
	cr_assert(pages_is_ram(pages, (GPA_HOLE_START >> 12) - 1));
	cr_assert(!pages_is_ram(pages, GPA_HOLE_START >> 12));
	cr_assert(!pages_is_ram(pages, (GPA_HOLE_END >> 12) - 1));
	cr_assert(pages_is_ram(pages, GPA_HOLE_END >> 12));
	cr_assert(pages_is_ram(pages, gpa >> 12));
	cr_assert(!pages_is_ram(pages, (gpa >> 12) + 1));
	cr_assert(!pages_is_ram(pages, UINT64_MAX));
	touch_start(&t, pages, gpa, true, 9);
	cr_assert_eq(fault_next(pages).gfn, gpa >> 12);
	cr_assert_eq(pages_map_exclusive(pages, gpa >> 12), 0);
	touch_end(pages, &t);
	cr_assert_eq(pages_frame_bytes(pages), 4096);
	pages_destroy(pages);
}

static sigjmp_buf segv_escape;
static void *segv_at;

static void on_segv(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	segv_at = info->si_addr;
	siglongjmp(segv_escape, 1);
}

/* Whether a write there, and nothing else, is a SIGSEGV. */
static bool write_is_segv(uint8_t *at)
{
	struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO}, before;
	volatile bool faulted = true;

	cr_assert_eq(sigaction(SIGSEGV, &action, &before), 0);
	if (sigsetjmp(segv_escape, 1) == 0) {
		__atomic_store_n(at, 1, __ATOMIC_SEQ_CST);
		faulted = false;
	}
	sigaction(SIGSEGV, &before, NULL);
	return faulted && segv_at == at;
}

Test(pages, the_hole_is_a_segmentation_fault)
{
	struct pages *pages = pages_new(GPA_HOLE_END + RAM_END);

	cr_expect(write_is_segv(pages_ram(pages) + GPA_HOLE_START));
	cr_expect(write_is_segv(pages_ram(pages) + GPA_HOLE_END - 1));
	pages_destroy(pages);
}

Test(pages, beyond_the_end_is_a_segmentation_fault)
{
	struct pages *pages = pages_new(RAM_END);

	cr_expect(write_is_segv(pages_ram(pages) + RAM_END));
	cr_assert_eq(pages_map_exclusive(pages, (RAM_END >> 12) - 1), 0);
	cr_expect_not(write_is_segv(pages_ram(pages) + RAM_END - 1));
	pages_destroy(pages);
}

/* The mappings of guest memory in this process, and how many of them are left out of core dumps. */
static void mappings_count(unsigned *all, unsigned *hidden)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[512];
	bool ours = false;

	cr_assert(smaps, "no /proc/self/smaps");
	*all = *hidden = 0;
	while (fgets(line, sizeof(line), smaps)) {
		/* A mapping's own line begins with its addresses, all others with a capital. */
		if (strchr("0123456789abcdef", line[0])) {
			ours = strstr(line, "/memfd:pangea-ram") != NULL;
			*all += ours;
		}
		*hidden += ours && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " dd");
	}
	fclose(smaps);
}

Test(pages, guest_memory_is_not_in_core_dumps)
{
	/* Both sides of the hole, twice. */
	struct pages *pages = pages_new(GPA_HOLE_END + RAM_END);
	unsigned all, hidden;

	mappings_count(&all, &hidden);
	cr_expect_eq(all, 4);
	cr_expect_eq(hidden, all, "%u of %u mappings are hidden", hidden, all);
	pages_destroy(pages);
}

Test(pages, sizes_out_of_limits_are_refused)
{
	static const uint64_t bad[] = {0,
				       4095,
				       RAM_END + 1,
				       GPA_HOLE_START + 4096,
				       GPA_HOLE_END,
				       UINT64_MAX,
				       UINT64_MAX - 4095};
	struct pages *pages;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(pages_create(bad[i], 0, PAGES_USER, &pages), -EINVAL, "%u", i);
}

/* No write is seen after unmap has returned: what an invalidation's acknowledgement rests on. */
struct incrementer {
	uint64_t *word;
	_Atomic bool stop;
};

static void *increment_main(void *arg)
{
	struct incrementer *inc = arg;

	while (!atomic_load(&inc->stop))
		__atomic_fetch_add(inc->word, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

Test(pages, nothing_is_written_after_unmap_or_protect)
{
	struct pages *pages = pages_new(RAM_END);
	struct incrementer inc = {.word = (uint64_t *)(void *)(pages_ram(pages) + 4096)};
	uint64_t *frame = (uint64_t *)(void *)pages_frame(pages, 1), seen;
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, increment_main, &inc), 0);
	for (int i = 0; i < 2000; i++) {
		struct page_fault fault = fault_next(pages);

		cr_assert(fault.gfn == 1 && fault.write);
		cr_assert_eq(pages_map_exclusive(pages, 1), 0);
		for (volatile int spin = 0; spin < 100 * (i % 10); spin++)
			;
		cr_assert_eq(i % 2 ? pages_protect(pages, 1) : pages_unmap(pages, 1), 0);
		seen = __atomic_load_n(frame, __ATOMIC_SEQ_CST);
		for (volatile int spin = 0; spin < 300; spin++)
			;
		cr_assert_eq(__atomic_load_n(frame, __ATOMIC_SEQ_CST), seen, "a late write");
	}
	atomic_store(&inc.stop, true);
	cr_assert_eq(pages_map_exclusive(pages, 1), 0);
	thread_end(pages, thread);
	cr_assert_gt(*frame, 0);
	pages_destroy(pages);
}
