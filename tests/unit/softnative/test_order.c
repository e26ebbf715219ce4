/* SPDX-License-Identifier: Apache-2.0 */
/* Which differences between two processors the comparison accepts: the order of an instruction's accesses,
 * and nothing else. Outcomes are written by hand, so the answer does not depend on this processor. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/softnative/softnative.h"

#define GOOD_VA	   (DATA_VA + 0x100)
#define ABSENT_VA  (DATA_VA - 0x800)
#define ABSENT2_VA (READONLY_VA + PAGE_BYTES + 0x10)
#define RDONLY_VA  (READONLY_VA + 0x20)
#define OUTSIDE_VA UINT64_C(0x0000900000000010)
#define READ_ERR   4u
#define WRITE_ERR  6u
#define RDONLY_ERR 7u

static struct test_case t;

/* An instruction with these RSI, RDI and RSP. */
static void instruction(const char *bytes, unsigned len, uint64_t rsi, uint64_t rdi, uint64_t rsp)
{
	static const struct form form = {.name = "by hand", .class = CLASS_STRING};

	memset(&t, 0, sizeof(t));
	t.form = &form;
	t.mode = 64;
	t.len = len;
	memcpy(t.code, bytes, len);
	t.in.rip = CODE_VA;
	t.in.rflags = 2;
	t.in.gpr[RSI] = rsi;
	t.in.gpr[RDI] = rdi;
	t.in.gpr[RSP] = rsp;
	t.in.gpr[RCX] = 7;
}

static struct outcome fault(int vector, uint32_t error, uint64_t cr2)
{
	return (struct outcome){.image = t.in, .vector = vector, .error = error, .cr2 = cr2};
}

static bool accepted(struct outcome native, struct outcome soft)
{
	return fault_order_free(&t, &native, &soft) && fault_order_free(&t, &soft, &native);
}

#define CMPSB "\xa6"
#define MOVSB "\xa4"
#define PUSH  "\xff\x36" /* push qword [rsi] */

Test(order, either_operand_of_cmps_may_fault_first)
{
	instruction(CMPSB, 1, ABSENT_VA, ABSENT2_VA, GOOD_VA);
	cr_expect(accepted(fault(14, READ_ERR, ABSENT_VA), fault(14, READ_ERR, ABSENT2_VA)));
	instruction("\xf3" CMPSB, 2, ABSENT_VA, ABSENT2_VA, GOOD_VA);
	cr_expect(accepted(fault(14, READ_ERR, ABSENT_VA), fault(14, READ_ERR, ABSENT2_VA)));
	instruction(CMPSB, 1, ABSENT_VA, OUTSIDE_VA, GOOD_VA);
	cr_expect(accepted(fault(14, READ_ERR, ABSENT_VA), fault(13, 0, 0)));
	/* A read that is taken for a write, another address, a page that is there. */
	cr_expect_not(accepted(fault(14, WRITE_ERR, ABSENT_VA), fault(13, 0, 0)));
	cr_expect_not(accepted(fault(14, READ_ERR, ABSENT_VA + 1), fault(13, 0, 0)));
	instruction(CMPSB, 1, ABSENT_VA, GOOD_VA, GOOD_VA);
	cr_expect_not(accepted(fault(14, READ_ERR, ABSENT_VA), fault(14, READ_ERR, GOOD_VA)));
	cr_expect_not(accepted(fault(14, READ_ERR, ABSENT_VA), fault(13, 0, 0)));
	cr_expect_not(accepted(fault(14, READ_ERR, ABSENT_VA), fault(3, 0, 0)));
}

Test(order, either_operand_of_movs_may_fault_first)
{
	instruction(MOVSB, 1, ABSENT_VA, RDONLY_VA, GOOD_VA);
	cr_expect(accepted(fault(14, READ_ERR, ABSENT_VA), fault(14, RDONLY_ERR, RDONLY_VA)));
	cr_expect_not(accepted(fault(14, READ_ERR, ABSENT_VA), fault(14, WRITE_ERR, RDONLY_VA)));
	instruction(MOVSB, 1, RDONLY_VA, ABSENT_VA, GOOD_VA);
	cr_expect_not(accepted(fault(14, WRITE_ERR, ABSENT_VA), fault(14, RDONLY_ERR, RDONLY_VA)));
}

Test(order, the_operand_or_the_stack_of_a_push_may_fault_first)
{
	instruction(PUSH, 2, ABSENT_VA, GOOD_VA, DATA_VA);
	cr_expect(accepted(fault(14, READ_ERR, ABSENT_VA), fault(14, WRITE_ERR, DATA_VA - 8)));
	cr_expect_not(accepted(fault(14, READ_ERR, ABSENT_VA), fault(14, WRITE_ERR, DATA_VA)));
	instruction(PUSH, 2, ABSENT_VA, GOOD_VA, GOOD_VA);
	cr_expect_not(accepted(fault(14, READ_ERR, ABSENT_VA), fault(14, WRITE_ERR, GOOD_VA - 8)));
}

/* A push alone has one access: its fault is known. */
Test(order, what_has_one_access_has_one_fault)
{
	instruction("\x56", 1, GOOD_VA, GOOD_VA, ABSENT_VA); /* push rsi */
	cr_expect_not(
		accepted(fault(14, WRITE_ERR, ABSENT_VA - 8), fault(14, READ_ERR, ABSENT_VA - 8)));
	cr_expect_not(accepted(fault(14, WRITE_ERR, ABSENT_VA - 8), fault(12, 0, 0)));
	instruction("\x01\x3e", 2, ABSENT_VA, GOOD_VA, GOOD_VA); /* add [rsi], edi */
	cr_expect_not(accepted(fault(14, WRITE_ERR, ABSENT_VA), fault(14, READ_ERR, ABSENT_VA)));
	/* But of two pages that are both away either may come. */
	instruction("\x48\x01\x3e", 3, REGION_VA + 0x1ffc - 0x1000, GOOD_VA, GOOD_VA);
	cr_expect(accepted(fault(14, WRITE_ERR, REGION_VA + 0xffc),
			   fault(14, WRITE_ERR, REGION_VA + 0x1000)));
}
