/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder against Zydis: lengths, validity and memory operands of random instructions. */
#include <Zydis/Zydis.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "vmm/soft/soft_int.h"

#define INSN_MAX 15
#define TRIES	 400000

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Prefixes sometimes, then an opcode of any map, then noise. */
static void random_insn(uint64_t *seed, unsigned mode, uint8_t bytes[INSN_MAX])
{
	static const uint8_t prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26,
					   0x2e, 0x36, 0x3e, 0x64, 0x65};
	unsigned n = 0;

	for (unsigned k = 0; k < INSN_MAX; k++)
		bytes[k] = (uint8_t)random_next(seed);
	while (n < 3 && random_next(seed) % 3 == 0)
		bytes[n++] = prefixes[random_next(seed) % sizeof(prefixes)];
	if (mode == 64 && random_next(seed) % 3 == 0)
		bytes[n++] = 0x40 | (random_next(seed) & 15);
	if (random_next(seed) % 2)
		bytes[n] = 0x0f;
}

static void hex(char *text, const uint8_t *bytes)
{
	for (unsigned k = 0; k < INSN_MAX; k++)
		sprintf(text + k * 3, "%02x ", bytes[k]);
}

/* What the CPU model has: x86-64-v1. */
static bool set_expected(ZydisISASet set)
{
	switch (set) {
	case ZYDIS_ISA_SET_CMOV:
	case ZYDIS_ISA_SET_CMPXCHG16B:
	case ZYDIS_ISA_SET_FAT_NOP:
	case ZYDIS_ISA_SET_FCMOV:
	case ZYDIS_ISA_SET_FXSAVE:
	case ZYDIS_ISA_SET_FXSAVE64:
	case ZYDIS_ISA_SET_I186:
	case ZYDIS_ISA_SET_I286PROTECTED:
	case ZYDIS_ISA_SET_I286REAL:
	case ZYDIS_ISA_SET_I386:
	case ZYDIS_ISA_SET_I486:
	case ZYDIS_ISA_SET_I486REAL:
	case ZYDIS_ISA_SET_I86:
	case ZYDIS_ISA_SET_LAHF:
	case ZYDIS_ISA_SET_LONGMODE:
	case ZYDIS_ISA_SET_PAUSE:
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_PENTIUMREAL:
	case ZYDIS_ISA_SET_PPRO:
	case ZYDIS_ISA_SET_PREFETCH_NOP:
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSEMXCSR:
	case ZYDIS_ISA_SET_SSE_PREFETCH:
	case ZYDIS_ISA_SET_X87:
		return true;
	default:
		return false;
	}
}

/* Instructions that are of those sets, but that we rightly raise #UD for. */
static bool mnemonic_excepted(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_SALC || m == ZYDIS_MNEMONIC_RSM || m == ZYDIS_MNEMONIC_UD0 ||
	       m == ZYDIS_MNEMONIC_UD1 || m == ZYDIS_MNEMONIC_UD2 || m == ZYDIS_MNEMONIC_GETSEC ||
	       m == ZYDIS_MNEMONIC_SYSENTER || m == ZYDIS_MNEMONIC_SYSEXIT;
}

static int reg_number(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return REG_ZERO;
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return REG_RIP;
	return ZydisRegisterGetId(reg);
}

/* The explicit memory operand, or NULL. */
static const ZydisDecodedOperand *memory_operand(const ZydisDecodedInstruction *z,
						 const ZydisDecodedOperand *operands)
{
	for (unsigned k = 0; k < z->operand_count_visible; k++)
		if (operands[k].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    operands[k].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			return &operands[k];
	return NULL;
}

static bool memory_matches(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op,
			   const struct insn *i)
{
	const int base = reg_number(op->mem.base), index = reg_number(op->mem.index);
	const unsigned scale = op->mem.scale > 1 ? (unsigned)__builtin_ctz(op->mem.scale) : 0;
	int32_t disp = (int32_t)op->mem.disp.value;

	if (base == REG_RIP)
		disp += z->length;
	return base == i->base && index == i->index && disp == i->disp &&
	       (index == REG_ZERO || scale == i->scale) &&
	       (op->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||      /* LEA has no segment */
		(z->attributes & ZYDIS_ATTRIB_HAS_NOTRACK) || /* DS to us */
		op->mem.segment - ZYDIS_REGISTER_ES == i->seg);
}

/* False, with a line printed, if the two decoders disagree about bytes. */
static bool compare(const ZydisDecoder *decoder, unsigned mode, const uint8_t *bytes)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	char text[INSN_MAX * 3 + 1];
	struct insn ours;
	bool end, valid, invalid;

	cr_assert(soft_decode_insn(bytes, INSN_MAX, (uint8_t)mode, &ours, &end));
	valid = ours.fn != soft_op_ud;
	invalid = !ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, bytes, INSN_MAX, &z, operands));
	hex(text, bytes);
	if (invalid)
		return true; /* Zydis and processors differ about reserved forms of hint NOPs */
	if (z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || !set_expected(z.meta.isa_set) ||
	    mnemonic_excepted(z.mnemonic))
		return true;
	if (!valid || ours.len != z.length) {
		printf("mode %u: %s %s: length %u, ours %u%s\n", mode, text,
		       ZydisMnemonicGetString(z.mnemonic), z.length, ours.len,
		       valid ? "" : " (invalid)");
		return false;
	}
	const ZydisDecodedOperand *memory = memory_operand(&z, operands);

	if (memory && (z.attributes & ZYDIS_ATTRIB_HAS_MODRM) &&
	    (!(ours.flags & INSN_MEM) || !memory_matches(&z, memory, &ours))) {
		printf("mode %u: %s %s: memory operand differs\n", mode, text,
		       ZydisMnemonicGetString(z.mnemonic));
		return false;
	}
	return true;
}

static void compare_many(unsigned mode, ZydisMachineMode machine, ZydisStackWidth width)
{
	ZydisDecoder decoder;
	uint64_t seed = 0x5eed0000 + mode;
	unsigned wrong = 0;

	printf("seed %#llx\n", (unsigned long long)seed);
	cr_assert(ZYAN_SUCCESS(ZydisDecoderInit(&decoder, machine, width)));
	for (unsigned n = 0; n < TRIES && wrong < 40; n++) {
		uint8_t bytes[INSN_MAX];

		random_insn(&seed, mode, bytes);
		wrong += !compare(&decoder, mode, bytes);
	}
	cr_assert_eq(wrong, 0);
}

Test(softdecode, long_mode)
{
	compare_many(64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

Test(softdecode, protected_mode)
{
	compare_many(32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
}

Test(softdecode, mode_16)
{
	compare_many(16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
}

/* Every proper beginning of an instruction asks for more, or is already known to be invalid. */
Test(softdecode, too_few_bytes)
{
	uint64_t seed = 0x5eed;

	for (unsigned n = 0; n < 20000; n++) {
		uint8_t bytes[INSN_MAX];
		struct insn whole, part;
		bool end;

		random_insn(&seed, 64, bytes);
		cr_assert(soft_decode_insn(bytes, INSN_MAX, 64, &whole, &end));
		for (unsigned len = 0; len < whole.len; len++)
			cr_assert_not(soft_decode_insn(bytes, len, 64, &part, &end));
		cr_assert(soft_decode_insn(bytes, whole.len, 64, &part, &end) || whole.len == 15);
	}
}

/* Fifteen prefixes and an opcode are too long: a handler that raises, not a wrong length. */
Test(softdecode, too_long)
{
	uint8_t bytes[16];
	struct insn out;
	bool end = false;

	memset(bytes, 0x66, sizeof(bytes));
	bytes[15] = 0x90;
	cr_assert(soft_decode_insn(bytes, sizeof(bytes), 64, &out, &end));
	cr_assert(end);
	cr_assert_neq((void *)out.fn, (void *)soft_op_ud);
}

/* LOCK is legal on few opcodes, with a memory destination only. */
Test(softdecode, lock)
{
	static const struct {
		uint8_t bytes[INSN_MAX];
		bool legal;
	} cases[] = {
		{{0xf0, 0x01, 0x18}, true},	   /* add [rax], ebx */
		{{0xf0, 0x01, 0xd8}, false},	   /* add eax, ebx */
		{{0xf0, 0x03, 0x18}, false},	   /* add ebx, [rax] */
		{{0xf0, 0x39, 0x18}, false},	   /* cmp [rax], ebx */
		{{0xf0, 0x83, 0x38, 0x01}, false}, /* cmp dword [rax], 1 */
		{{0xf0, 0x83, 0x30, 0x01}, true},  /* xor dword [rax], 1 */
		{{0xf0, 0xff, 0x08}, true},	   /* dec dword [rax] */
		{{0xf0, 0xff, 0x30}, false},	   /* push [rax] */
		{{0xf0, 0x0f, 0xab, 0x08}, true},  /* bts [rax], ecx */
		{{0xf0, 0x0f, 0xa3, 0x08}, false}, /* bt [rax], ecx */
		{{0xf0, 0x0f, 0xc7, 0x08}, true},  /* cmpxchg8b [rax] */
		{{0xf0, 0x89, 0x18}, false},	   /* mov [rax], ebx */
		{{0xf0, 0x90}, false},		   /* nop */
	};

	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		struct insn out;
		bool end;

		cr_assert(soft_decode_insn(cases[n].bytes, INSN_MAX, 64, &out, &end));
		cr_expect_eq(out.fn != soft_op_ud, cases[n].legal, "case %u", n);
	}
}
