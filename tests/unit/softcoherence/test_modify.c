/* SPDX-License-Identifier: Apache-2.0 */
/* What a read-modify-write asks for on a page that is not there: once, and for writing. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/limits.h"
#include "tests/unit/softcore/flat.h"
#include "tests/unit/softcore/modify_forms.h"
#include "vmm/cpu/soft/soft_flags.h"

#define PAGES	2
#define ABSENT	(FLAT_DATA + 0x10000) /* PAGES of them, given by the test's own fault thread */
#define PRESENT (FLAT_DATA + 0x20000) /* the same bytes, there from the start */

/* What is taken away comes back as it was in bytes: writable to a write, else for reading. */
static struct {
	struct flat flat;
	int uffd, stop;
	pthread_t thread;
	uint8_t bytes[PAGES * PANGEA_PAGE_SIZE];
	_Atomic unsigned reads, writes, upgrades;
} t;

/* ---- The fault thread ------------------------------------------------------------------------ */

/* Nobody else could wake the CPU. */
static void fault_ioctl(unsigned long request, void *arg)
{
	if (ioctl(t.uffd, request, arg) < 0) {
		perror("userfaultfd");
		abort();
	}
}

static void fault_give(uint64_t at, bool writable)
{
	struct uffdio_copy copy = {
		.dst = at,
		.src = (uint64_t)(uintptr_t)t.bytes +
		       (at - (uint64_t)(uintptr_t)t.flat.ram - ABSENT),
		.len = PANGEA_PAGE_SIZE,
		.mode = writable ? 0 : UFFDIO_COPY_MODE_WP,
	};

	fault_ioctl(UFFDIO_COPY, &copy);
}

static void fault_unprotect(uint64_t at)
{
	struct uffdio_writeprotect wp = {.range = {at, PANGEA_PAGE_SIZE}};

	fault_ioctl(UFFDIO_WRITEPROTECT, &wp);
}

static void fault_resolve(const struct uffd_msg *msg)
{
	const uint64_t flags = msg->arg.pagefault.flags;
	const uint64_t at = msg->arg.pagefault.address & ~(uint64_t)(PANGEA_PAGE_SIZE - 1);

	if (flags & UFFD_PAGEFAULT_FLAG_WP) {
		t.upgrades++;
		fault_unprotect(at);
	} else if (flags & UFFD_PAGEFAULT_FLAG_WRITE) {
		t.writes++;
		fault_give(at, true);
	} else {
		t.reads++;
		fault_give(at, false);
	}
}

static void *fault_main(void *arg)
{
	struct pollfd fds[2] = {{.fd = t.uffd, .events = POLLIN}, {.fd = t.stop, .events = POLLIN}};
	struct uffd_msg msg;

	(void)arg;
	while (poll(fds, 2, -1) > 0 && !fds[1].revents)
		if (read(t.uffd, &msg, sizeof(msg)) == sizeof(msg))
			fault_resolve(&msg);
	return NULL;
}

static void pages_take(void)
{
	cr_assert_eq(madvise(t.flat.ram + ABSENT, sizeof(t.bytes), MADV_DONTNEED), 0);
	t.reads = t.writes = t.upgrades = 0;
}

static void setup(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING |
						UFFDIO_REGISTER_MODE_WP};

	flat_make(&t.flat);
	t.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (t.uffd < 0 || ioctl(t.uffd, UFFDIO_API, &api) < 0)
		cr_skip_test("userfaultfd is not available here: %s", strerror(errno));
	range.range =
		(struct uffdio_range){(uint64_t)(uintptr_t)t.flat.ram + ABSENT, sizeof(t.bytes)};
	cr_assert_eq(ioctl(t.uffd, UFFDIO_REGISTER, &range), 0);
	t.stop = eventfd(0, EFD_CLOEXEC);
	cr_assert_geq(t.stop, 0);
	for (unsigned n = 0; n < sizeof(t.bytes); n++)
		t.bytes[n] = (uint8_t)(n * 7 + n / 256);
	cr_assert_eq(pthread_create(&t.thread, NULL, fault_main, NULL), 0);
}

static void teardown(void)
{
	cr_assert_eq(eventfd_write(t.stop, 1), 0);
	pthread_join(t.thread, NULL);
	close(t.stop);
	flat_free(&t.flat);
	close(t.uffd);
}

TestSuite(softmodify, .init = setup, .fini = teardown, .timeout = 100);

/* ---- The forms: all with [RSI] --------------------------------------------------------------- */

#define SHIFT(name, op)                                                                            \
	{name " m, 1", 0, 0xd0, op, 0, 0}, {name " m, cl", 0, 0xd2, op, 0, 0},                     \
		{name " m, i", 0, 0xc0, op, 1, 0}

static const struct modify_form forms[] = {
	FORMS_LOCKABLE,
	SHIFT("rol", 0),
	SHIFT("ror", 1),
	SHIFT("rcl", 2),
	SHIFT("rcr", 3),
	SHIFT("shl", 4),
	SHIFT("shr", 5),
	SHIFT("sar", 7),
	{"shld m, r, i", 0x0f, 0xa4, RCX, 1, FORM_WIDE},
	{"shld m, r, cl", 0x0f, 0xa5, RCX, 0, FORM_WIDE},
	{"shrd m, r, i", 0x0f, 0xac, RCX, 1, FORM_WIDE},
	{"shrd m, r, cl", 0x0f, 0xad, RCX, 0, FORM_WIDE},
	{"cmpxchg8b, 16b", 0x0f, 0xc7, 1, 0, FORM_LOCKABLE | FORM_ALONE | FORM_WIDE | FORM_HIGHER},
};

/* The instruction and a HLT at FLAT_CODE. */
static void form_put(const struct modify_form *f, unsigned size, bool lock)
{
	uint8_t code[FORM_BYTES_MAX];

	flat_put(&t.flat, FLAT_CODE, code, modify_form_bytes(f, size, lock, RSI, RCX, 0x1d, code));
}

struct outcome {
	uint8_t memory[PAGES * PANGEA_PAGE_SIZE];
	uint64_t reg[16], flags;
};

/* On the operand at linear, whose pages begin at base. The TLB keeps what it knows. */
static void form_run(uint64_t base, uint64_t linear, struct outcome *out)
{
	struct soft_cpu *c = t.flat.cpu[0];

	c->rip = FLAT_CODE;
	c->halted = false;
	memset(c->reg, 0, sizeof(out->reg));
	c->reg[RAX] = 0x0123456789abcdef;
	c->reg[RBX] = 0x1122334455667788;
	c->reg[RCX] = 0x8877665544332211;
	c->reg[RDX] = 5;
	c->reg[RSI] = linear;
	soft_flags_set(c, FLAG_CF | 2);
	cr_assert_eq(flat_run(&t.flat, 0), VCPU_EXIT_HLT);
	memcpy(out->reg, c->reg, sizeof(out->reg));
	out->reg[RSI] = 0;
	out->flags = soft_flags_get(c);
	memcpy(out->memory, t.flat.ram + base, sizeof(out->memory));
}

/* What it does to the same bytes on pages that are there. */
static void form_expect(unsigned offset, struct outcome *out)
{
	memcpy(t.flat.ram + PRESENT, t.bytes, sizeof(t.bytes));
	form_run(PRESENT, PRESENT + offset, out);
}

/* Takes the pages away and runs: so many faults for writing, and no other but those. */
static void form_count(const struct modify_form *f, unsigned size, unsigned offset, unsigned writes)
{
	static struct outcome expected, found;
	uint64_t both;

	form_expect(offset, &expected);
	pages_take();
	form_run(ABSENT, ABSENT + offset, &found);
	both = (uint64_t)t.reads << 32 | t.upgrades;
	cr_assert_arr_eq(&found, &expected, sizeof(found), "%s, %u bytes at %x", f->name, size,
			 offset);
	/* The test itself reads the page that the instruction did not touch. */
	cr_assert_eq(t.writes, writes, "%s, %u bytes at %x: %u faults for writing", f->name, size,
		     offset, t.writes);
	cr_assert_eq(both, writes == PAGES ? 0 : UINT64_C(1) << 32,
		     "%s, %u bytes at %x: %u for reading, %u upgrades", f->name, size, offset,
		     t.reads, t.upgrades);
}

static bool form_has(const struct modify_form *f, unsigned size, bool lock)
{
	if (lock && !(f->kind & FORM_LOCKABLE))
		return false;
	return size >= (f->kind & FORM_HIGHER ? 4u : f->kind & FORM_WIDE ? 2u : 1u);
}

/* Bytes of the operand. */
static unsigned form_bytes(const struct modify_form *f, unsigned size)
{
	return f->kind & FORM_HIGHER ? size * 2 : size;
}

typedef void (*form_check)(const struct modify_form *f, unsigned size, bool lock);

static void forms_each(form_check check)
{
	for (unsigned k = 0; k < sizeof(forms) / sizeof(forms[0]); k++)
		for (unsigned size = 1; size <= 8; size *= 2)
			for (unsigned lock = 0; lock < 2; lock++)
				if (form_has(&forms[k], size, lock)) {
					form_put(&forms[k], size, lock);
					check(&forms[k], size, lock);
				}
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void check_unknown(const struct modify_form *f, unsigned size, bool lock)
{
	(void)lock;
	flat_reset(&t.flat, 0, FLAT_CODE);
	form_count(f, size, 0x340, 1);
}

/* Pages that the TLB does not know. */
Test(softmodify, pages_unknown)
{
	forms_each(check_unknown);
}

static void check_known(const struct modify_form *f, unsigned size, bool lock)
{
	if (!lock && !(f->kind & FORM_ALONE))
		return;
	flat_reset(&t.flat, 0, FLAT_CODE);
	form_count(f, size, 0x340, 1);
	form_count(f, size, 0x340, 1);
}

/* Pages that were taken away behind the TLB's back. */
Test(softmodify, pages_taken)
{
	forms_each(check_known);
}

/* Across a cache line or two pages; LOCKed ones are the machine's (unit.locked). */
static void check_across(const struct modify_form *f, unsigned size, bool lock)
{
	const unsigned bytes = form_bytes(f, size);

	if (lock || bytes == 1 || bytes == 16 || !strcmp(f->name, "xchg"))
		return;
	flat_reset(&t.flat, 0, FLAT_CODE);
	form_count(f, size, PANGEA_PAGE_SIZE - 1, 2);
	form_count(f, size, PANGEA_PAGE_SIZE - 1, 2);
	flat_reset(&t.flat, 0, FLAT_CODE);
	form_count(f, size, 0x33f, 1);
}

Test(softmodify, across)
{
	forms_each(check_across);
}

/* Some stores later the page would count as one of data again: so its code runs before each form. */
static void check_with_code(const struct modify_form *f, unsigned size, bool lock)
{
	(void)lock;
	flat_reset(&t.flat, 0, ABSENT + 0x800);
	cr_assert_eq(flat_run(&t.flat, 0), VCPU_EXIT_HLT);
	form_count(f, size, 0x340, 1);
	form_count(f, size, 0x340, 1);
}

/* A page with code, whose stores are made the slow way. */
Test(softmodify, pages_with_code)
{
	t.bytes[0x800] = 0xf4;
	forms_each(check_with_code);
}
