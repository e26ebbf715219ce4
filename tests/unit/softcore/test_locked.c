/* SPDX-License-Identifier: Apache-2.0 */
/* Every LOCKed form on an operand that no host atomic may take: the same as on an aligned one. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/locked.h"
#include "tests/unit/softcore/flat.h"
#include "tests/unit/softcore/modify_forms.h"
#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_parts.h"

static struct flat flat;
static struct locked_access last;
static unsigned calls;
static int answer;

/* The machine in vcpu_config.locked's place. */
static int on_locked(void *ctx, unsigned vcpu, struct locked_access *access)
{
	uint8_t *const place[2] = {flat.ram + access->part[0].gpa, flat.ram + access->part[1].gpa};

	(void)ctx;
	(void)vcpu;
	calls++;
	last = *access;
	if (!answer)
		locked_perform(access, place);
	return answer;
}

static void setup(void)
{
	flat_make(&flat);
	flat.cpu[0]->config.locked = on_locked;
	calls = 0;
	answer = 0;
}

static void teardown(void)
{
	flat_free(&flat);
}

TestSuite(softlocked, .init = setup, .fini = teardown);

/* ---- The forms ------------------------------------------------------------------------------- */

static const struct modify_form forms[] = {FORMS_LOCKABLE};

/* The instruction with [RBX] and a HLT behind it, at FLAT_CODE. */
static void form_put(const struct modify_form *f, unsigned size, bool lock)
{
	uint8_t code[FORM_BYTES_MAX];

	flat_put(&flat, FLAT_CODE, code, modify_form_bytes(f, size, lock, RBX, RAX, 0x9d, code));
}

struct outcome {
	uint64_t memory, before, behind;
	uint64_t reg[16], flags;
};

/* One execution on size bytes at linear, from these values. */
static struct outcome form_run(uint64_t linear, unsigned size, uint64_t memory, uint64_t rax,
			       uint64_t flags)
{
	struct soft_cpu *c = flat.cpu[0];
	uint8_t *at = flat.ram + linear;
	struct outcome out = {0};

	memset(at - 8, 0x55, 24);
	memcpy(at, &memory, size);
	flat_reset(&flat, 0, FLAT_CODE);
	c->reg[RAX] = rax;
	c->reg[RBX] = linear;
	c->reg[RCX] = 0x8877665544332211;
	c->reg[RDX] = 11;
	soft_flags_set(c, flags | 2);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	memcpy(&out.memory, at, size);
	memcpy(&out.before, at - 8, 8);
	memcpy(&out.behind, at + size, 8);
	memcpy(out.reg, c->reg, sizeof(out.reg));
	out.reg[RBX] = 0;
	out.flags = soft_flags_get(c);
	return out;
}

static void form_compare(const struct modify_form *f, unsigned size, uint64_t split, unsigned parts)
{
	static const uint64_t memories[] = {0, 0x123456789abcdef0, UINT64_MAX, 0x8000800080008080};
	static const uint64_t raxs[] = {1, 0x123456789abcdef0, UINT64_MAX};

	for (unsigned n = 0; n < 4 * 3 * 2; n++) {
		uint64_t memory = memories[n % 4], rax = raxs[n / 4 % 3];
		uint64_t flags = n < 12 ? 0 : FLAG_CF;
		struct outcome aligned, crossing;

		calls = 0;
		aligned = form_run(FLAT_DATA + 64, size, memory, rax, flags);
		cr_assert_eq(calls, 0, "%s, %u bytes, aligned", f->name, size);
		crossing = form_run(split, size, memory, rax, flags);
		cr_assert_eq(calls, 1, "%s, %u bytes at %lx", f->name, size, split);
		cr_assert_eq((last.part[1].bytes != 0) + 1, parts);
		cr_assert_eq(locked_size(&last), size);
		cr_assert_arr_eq(&aligned, &crossing, sizeof(aligned),
				 "%s, %u bytes of %lx, rax %lx at %lx: %lx, not %lx", f->name, size,
				 memory, rax, split, crossing.memory, aligned.memory);
	}
}

Test(softlocked, every_form_and_size)
{
	for (unsigned k = 0; k < sizeof(forms) / sizeof(forms[0]); k++)
		for (unsigned size = forms[k].kind & FORM_WIDE ? 2 : 1; size <= 8; size *= 2) {
			form_put(&forms[k], size, true);
			for (unsigned first = 1; first < size; first++) {
				form_compare(&forms[k], size, FLAT_DATA + 0x1000 - first, 2);
				form_compare(&forms[k], size, FLAT_DATA + 128 - first, 1);
			}
		}
}

/* XCHG is LOCKed without the prefix; others are not, and nothing is owed to other CPUs. */
Test(softlocked, without_the_prefix)
{
	for (unsigned k = 0; k < sizeof(forms) / sizeof(forms[0]); k++) {
		bool xchg = !strcmp(forms[k].name, "xchg");
		struct outcome locked, plain;

		form_put(&forms[k], 8, true);
		locked = form_run(FLAT_DATA + 0x1000 - 3, 8, 0x1234, 0x1234, 0);
		form_put(&forms[k], 8, false);
		calls = 0;
		plain = form_run(FLAT_DATA + 0x1000 - 3, 8, 0x1234, 0x1234, 0);
		cr_assert_eq(calls, xchg, "%s", forms[k].name);
		cr_assert_arr_eq(&locked, &plain, sizeof(plain), "%s", forms[k].name);
	}
}

/* ---- Others ---------------------------------------------------------------------------------- */

Test(softlocked, cmpxchg8b)
{
	struct soft_cpu *c = flat.cpu[0];
	const uint64_t at = FLAT_DATA + 0x1000 - 5, was = 0x1122334455667788;

	FLAT_PUT(&flat, FLAT_CODE, 0xf0, 0x0f, 0xc7, 0x0e, 0xf4); /* [RSI] */
	for (unsigned equal = 0; equal < 2; equal++) {
		flat_put(&flat, at, &was, 8);
		flat_reset(&flat, 0, FLAT_CODE);
		c->reg[RSI] = at;
		c->reg[RAX] = 0x55667788;
		c->reg[RDX] = equal ? 0x11223344 : 0x11223345;
		c->reg[RBX] = 5;
		c->reg[RCX] = 6;
		cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
		cr_expect_eq(flat_get64(&flat, at), equal ? 0x600000005 : was);
		cr_expect_eq(c->reg[RDX], 0x11223344);
		cr_expect_eq(!!(soft_flags_get(c) & FLAG_ZF), equal);
	}
	cr_expect_eq(calls, 2);
}

/* Within a line the host's own LOCK is as good as on an aligned operand. */
Test(softlocked, within_a_line)
{
	FLAT_PUT(&flat, FLAT_CODE, 0xf0, 0x48, 0xff, 0x03, 0xf4); /* lock inc qword [rbx] */
	for (unsigned at = 0; at <= 64 - 8; at++)
		cr_expect_eq(form_run(FLAT_DATA + 192 + at, 8, 41, 0, 0).memory, 42);
	cr_expect_eq(calls, 0);
}

/* Two pages that are neighbours for the guest alone; the second one holds code. */
Test(softlocked, a_page_with_code)
{
	struct soft_cpu *c = flat.cpu[0];

	/* At FLAT_CODE: inc eax, hlt, whose first byte becomes that of nop. */
	FLAT_PUT(&flat, FLAT_CODE, 0xff, 0xc0, 0xf4);
	flat_reset(&flat, 0, FLAT_CODE);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(c->reg[RAX], 1);
	/* xchg eax, [rbx]; jmp rcx */
	FLAT_PUT(&flat, FLAT_CODE2, 0x87, 0x03, 0xff, 0xe1);
	c->halted = 0;
	c->rip = FLAT_CODE2;
	c->reg[RAX] = 0xf4900000; /* nop, hlt */
	c->reg[RBX] = FLAT_ALIAS - 2;
	c->reg[RCX] = FLAT_CODE;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_expect_eq(calls, 1);
	cr_expect_eq(last.part[0].gpa, FLAT_ALIAS - 2);
	cr_expect_eq(last.part[1].gpa, FLAT_CODE);
	cr_expect_eq(c->rip, FLAT_CODE + 2);
	cr_expect_eq(c->reg[RAX], 0xc0ff0000);
}

/* The VM ends while the CPU waits: the instruction has not taken place. */
Test(softlocked, broken_off)
{
	struct soft_cpu *c = flat.cpu[0];

	FLAT_PUT(&flat, FLAT_CODE, 0x90, 0xf0, 0x48, 0x0f, 0xc1, 0x03, 0xf4); /* lock xadd */
	flat_reset(&flat, 0, FLAT_CODE);
	c->reg[RAX] = 7;
	c->reg[RBX] = FLAT_DATA + 60;
	answer = -ECANCELED;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_KICKED);
	cr_expect_eq(c->rip, FLAT_CODE + 1);
	cr_expect_eq(c->reg[RAX], 7);
	answer = 0;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_expect_eq(c->reg[RAX], 0);
	cr_expect_eq(flat_get64(&flat, FLAT_DATA + 60), 7);
}
