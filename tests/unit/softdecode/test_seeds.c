/* SPDX-License-Identifier: Apache-2.0 */
/* The comparison itself: a record that is wrong in one field, or has another's handler, is seen. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/softdecode/compare.h"

struct decoded {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct insn ours;
};

static void decode(struct decoded *d, const uint8_t bytes[INSN_MAX])
{
	ZydisDecoder decoder;
	bool end;

	model_decoder_init(&decoder, 64, CPU_FEATURES_MASK);
	cr_assert(ZYAN_SUCCESS(
		ZydisDecoderDecodeFull(&decoder, bytes, INSN_MAX, &d->z, d->operands)));
	cr_assert(soft_decode_insn(bytes, INSN_MAX, 64, CPU_FEATURES_MASK, &d->ours, &end));
}

static const char *differ(const struct decoded *d, const struct insn *ours)
{
	return operands_differ(&d->z, d->operands, ours);
}

/* Expects the change of one field to be seen, and undoes it. */
#define SEEN(d, field, value)                                                                      \
	do {                                                                                       \
		struct insn wrong = (d)->ours;                                                     \
                                                                                                   \
		wrong.field = (value);                                                             \
		cr_expect_null(differ((d), &(d)->ours));                                           \
		cr_expect_not_null(differ((d), &wrong), #field);                                   \
	} while (0)

Test(softseeds, memory_and_immediate)
{
	/* lock add qword gs:[r9 + rcx * 4 + 0x12345678], 0x11 */
	static const uint8_t bytes[INSN_MAX] = {0x65, 0xf0, 0x49, 0x83, 0x84, 0x89,
						0x78, 0x56, 0x34, 0x12, 0x11};
	struct decoded d;

	decode(&d, bytes);
	SEEN(&d, base, RCX);
	SEEN(&d, index, REG_ZERO);
	SEEN(&d, scale, 3);
	SEEN(&d, disp, 0x12345679);
	SEEN(&d, seg, SEG_DS);
	SEEN(&d, imm, 0x12);
	SEEN(&d, opsize, 4);
	SEEN(&d, adsize, 4);
	SEEN(&d, flags, d.ours.flags & ~INSN_LOCK);
	SEEN(&d, flags, d.ours.flags & ~INSN_MEM);
}

Test(softseeds, registers)
{
	static const uint8_t bytes[INSN_MAX] = {0x45, 0x0f, 0xaf, 0xc1}; /* imul r8d, r9d */
	static const uint8_t byte[INSN_MAX] = {0x88, 0xe3};		 /* mov bl, ah */
	static const uint8_t plus[INSN_MAX] = {0x41, 0x54};		 /* push r12 */
	struct decoded d;

	decode(&d, bytes);
	SEEN(&d, reg, 9);
	SEEN(&d, rm, 1);
	decode(&d, byte);
	SEEN(&d, reg, RSP * 8); /* SPL instead of AH */
	decode(&d, plus);
	SEEN(&d, rm, RSP);
}

Test(softseeds, targets_and_prefixes)
{
	static const uint8_t call[INSN_MAX] = {0xe8, 0x10, 0, 0, 0};
	static const uint8_t rip[INSN_MAX] = {0x8b, 0x05, 0x10, 0, 0, 0};
	static const uint8_t movs[INSN_MAX] = {0xf3, 0x64, 0xa4}; /* rep movsb, fs */
	struct decoded d;

	decode(&d, call);
	SEEN(&d, imm, 0x10); /* of the instruction's start instead of its end */
	decode(&d, rip);
	SEEN(&d, disp, 0x10);
	SEEN(&d, index, REG_FAR);
	decode(&d, movs);
	SEEN(&d, flags, d.ours.flags & ~INSN_REP);
	SEEN(&d, seg, SEG_DS);
}

Test(softseeds, handlers)
{
	static const uint8_t add[INSN_MAX] = {0x01, 0xd8}; /* add eax, ebx */
	static const uint8_t jz[INSN_MAX] = {0x74, 0x10};
	static const uint8_t shld[INSN_MAX] = {0x0f, 0xa5, 0xd8}; /* shld eax, ebx, cl */
	static const uint8_t fadd[INSN_MAX] = {0xd8, 0xc1};
	static const uint8_t retf[INSN_MAX] = {0xcb};
	struct decoded d;

	decode(&d, add);
	cr_expect(handler_matches("add_rr32", &d.z, &d.ours));
	cr_expect_not(handler_matches("adc_rr32", &d.z, &d.ours));
	cr_expect_not(handler_matches("add_rr64", &d.z, &d.ours));
	cr_expect_not(handler_matches("sse_addps", &d.z, &d.ours));
	decode(&d, jz);
	cr_expect(handler_matches("jcc4", &d.z, &d.ours));
	cr_expect_not(handler_matches("jcc5", &d.z, &d.ours));
	cr_expect_not(handler_matches("set4_r", &d.z, &d.ours));
	decode(&d, shld);
	cr_expect(handler_matches("shift_double_cl", &d.z, &d.ours));
	d.ours.opcode = 0xad;
	cr_expect_not(handler_matches("shift_double_cl", &d.z, &d.ours));
	decode(&d, fadd);
	cr_expect(handler_matches("x87_register", &d.z, &d.ours));
	d.ours.imm ^= 1;
	cr_expect_not(handler_matches("x87_register", &d.z, &d.ours));
	decode(&d, retf);
	cr_expect(handler_matches("op_retf", &d.z, &d.ours));
	cr_expect_not(handler_matches("ret", &d.z, &d.ours));
}
