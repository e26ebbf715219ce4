/* SPDX-License-Identifier: Apache-2.0 */
/* Operands: registers, addresses, immediates, sizes and prefixes of one instruction, compared. */
#include <string.h>

#include "tests/unit/softdecode/compare.h"

static int address_register(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return REG_ZERO;
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return REG_RIP;
	return ZydisRegisterGetId(reg);
}

static bool segment_matches(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op,
			    const struct insn *ours)
{
	return op->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||	     /* LEA has no segment */
	       (z->attributes & ZYDIS_ATTRIB_HAS_NOTRACK) || /* DS to us */
	       op->mem.segment - ZYDIS_REGISTER_ES == ours->seg;
}

/* Zydis 4.0.0 gives 32-bit addresses in 64-bit mode a base of R13D where SIB.base is 101 with REX.B
 * and mod is 0. The SDM (2A, table 2-3) and processors (softnative has such cases) know none. */
static bool base_mistaken(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	return z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && z->address_width == 32 &&
	       op->mem.base == ZYDIS_REGISTER_R13D && z->raw.modrm.mod == 0 &&
	       z->raw.modrm.rm == 4 && z->raw.sib.base == 5;
}

/* Byte registers are offsets in the register file: AH is byte 1. */
static int register_number(ZydisRegister reg)
{
	int id = ZydisRegisterGetId(reg);

	if (ZydisRegisterGetClass(reg) != ZYDIS_REGCLASS_GPR8)
		return id;
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return (reg - ZYDIS_REGISTER_AH) * 8 + 1;
	if (reg >= ZYDIS_REGISTER_SPL)
		return (reg - ZYDIS_REGISTER_SPL + 4) * 8;
	return (reg - ZYDIS_REGISTER_AL) * 8;
}

/* The operand of modrm. RIP-relative displacements count from the block's start, here the
 * instruction's. */
static const char *memory_differs(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op,
				  const struct insn *ours)
{
	const int base = base_mistaken(z, op) ? REG_ZERO : address_register(op->mem.base);
	const bool gather = op->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
	const int index = gather ? REG_ZERO : address_register(op->mem.index);
	const unsigned scale = op->mem.scale > 1 ? (unsigned)__builtin_ctz(op->mem.scale) : 0;
	int64_t disp = base_mistaken(z, op) ? z->raw.disp.value : op->mem.disp.value;

	if (!(ours->flags & INSN_MEM))
		return "memory operand";
	if (base == REG_RIP)
		disp += z->length;
	if (base != ours->base || (index != ours->index && ours->index != REG_FAR))
		return "base or index";
	if (gather && register_number(op->mem.index) != ours->rm)
		return "index of a gather";
	if ((index != REG_ZERO || gather) && scale != ours->scale)
		return "scale";
	if ((int32_t)disp != ours->disp)
		return "displacement";
	/* A sum beyond 31 bits is brought back by 2^32 as index. */
	if ((disp != (int32_t)disp && base == REG_RIP) != (ours->index == REG_FAR))
		return "far displacement";
	return segment_matches(z, op, ours) ? NULL : "segment";
}

/* Between registers "r, r/m" and "r/m, r" of arithmetic and MOV have one handler: the destination
 * is the record's rm. */
static bool record_swapped(const ZydisDecodedInstruction *z)
{
	if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || z->raw.modrm.mod != 3)
		return false;
	return (z->opcode < 0x40 && (z->opcode & 6) == 2) || (z->opcode & 0xfe) == 0x8a;
}

static const char *register_differs(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op,
				    const struct insn *ours)
{
	const int number = register_number(op->reg.value);
	const bool swapped = record_swapped(z);
	/* REX.R and REX.B mean nothing to MMX: its handlers take the low three bits. */
	const int mask = ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_MMX ? 7 : 0xff;

	switch (op->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		return number == ((swapped ? ours->rm : ours->reg) & mask)
			       ? NULL
			       : "register of modrm.reg";
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		/* The host executes x87 instructions, with modrm from imm. */
		if (ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_X87)
			return NULL;
		if (ours->flags & INSN_MEM)
			return "register operand";
		return number == ((swapped ? ours->reg : ours->rm) & mask) ? NULL
									   : "register of modrm.rm";
	case ZYDIS_OPERAND_ENCODING_NDSNDD: /* VEX.vvvv */
		return number == ours->opcode ? NULL : "register of vvvv";
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		return number == ours->rm ? NULL : "register of the opcode";
	default:
		return NULL;
	}
}

static uint64_t mask_of(unsigned bits)
{
	return bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

/* ENTER's two and the far pointer are in one record field each. */
static const char *immediates_differ(const ZydisDecodedInstruction *z, const struct insn *ours)
{
	const unsigned bits = z->raw.imm[0].size;
	uint64_t value = z->raw.imm[0].value.u;

	if (bits == 0)
		return NULL;
	if (z->mnemonic == ZYDIS_MNEMONIC_ENTER)
		value |= z->raw.imm[1].value.u << 16;
	if (z->raw.imm[0].is_relative)
		return ours->imm == (uint64_t)z->raw.imm[0].value.s + z->length ? NULL : "target";
	if (z->raw.imm[0].is_signed)
		return ours->imm == (uint64_t)z->raw.imm[0].value.s ? NULL : "signed immediate";
	if (z->mnemonic == ZYDIS_MNEMONIC_ENTER)
		return ours->imm == value ? NULL : "immediates";
	return ((ours->imm ^ value) & mask_of(bits)) == 0 ? NULL : "immediate";
}

static const char *pointer_differs(const ZydisDecodedOperand *op, const struct insn *ours)
{
	return op->ptr.offset == (uint32_t)ours->imm && op->ptr.segment == (uint16_t)ours->disp
		       ? NULL
		       : "far pointer";
}

/* MOFFS has its address in imm; of implicit operands only the source's segment may differ. */
static const char *other_memory_differs(const ZydisDecodedInstruction *z,
					const ZydisDecodedOperand *op, const struct insn *ours)
{
	const bool moffs = op->mem.base == ZYDIS_REGISTER_NONE &&
			   op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
	const unsigned base = (unsigned)address_register(op->mem.base);

	if (moffs && (((uint64_t)op->mem.disp.value ^ ours->imm) & mask_of(z->address_width)))
		return "address";
	if ((moffs || base == RSI || z->mnemonic == ZYDIS_MNEMONIC_XLAT) &&
	    !segment_matches(z, op, ours))
		return "segment";
	return NULL;
}

static const char *operand_differs(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op,
				   const struct insn *ours)
{
	switch (op->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		return register_differs(z, op, ours);
	case ZYDIS_OPERAND_TYPE_MEMORY:
		if (op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
		    op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			return memory_differs(z, op, ours);
		return other_memory_differs(z, op, ours);
	case ZYDIS_OPERAND_TYPE_POINTER:
		return pointer_differs(op, ours);
	default:
		return NULL;
	}
}

static const char *prefixes_differ(const ZydisDecodedInstruction *z, const struct insn *ours)
{
	const ZydisInstructionAttributes rep =
		ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPZ;

	if (!(z->attributes & ZYDIS_ATTRIB_HAS_LOCK) != !(ours->flags & INSN_LOCK))
		return "LOCK";
	if ((z->attributes & rep) && !(ours->flags & INSN_REP))
		return "REP";
	if ((z->attributes & (ZYDIS_ATTRIB_HAS_REPNE | ZYDIS_ATTRIB_HAS_REPNZ)) &&
	    !(ours->flags & INSN_REPNE))
		return "REPNE";
	return z->address_width == ours->adsize * 8 ? NULL : "address size";
}

/* Instructions whose operands have one size, or the mode's, whatever the record says. */
static bool size_fixed(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_XLAT:
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_INVLPG:
	case ZYDIS_MNEMONIC_SGDT:
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_LGDT:
	case ZYDIS_MNEMONIC_LIDT:
	case ZYDIS_MNEMONIC_INSD: /* 32 bits with REX.W too */
	case ZYDIS_MNEMONIC_OUTSD:
		return true;
	default: /* MOV CR, MOV DR */
		return z->opcode_map == ZYDIS_OPCODE_MAP_0F && z->opcode >= 0x20 &&
		       z->opcode <= 0x23;
	}
}

/* The handlers of x87, MMX and SSE have their operands' sizes in them, and so have a few others. */
static const char *size_differs(const ZydisDecodedInstruction *z, const struct insn *ours)
{
	/* By name: FCOMI is a set of its own in some versions of Zydis. */
	static const char *const sets[] = {
		"X87",	    "FCMOV",   "FCOMI",	    "PENTIUMMMX", "SSE",  "SSE2",   "SSE2MMX",
		"SSE3",	    "SSE3X87", "SSSE3",	    "SSSE3MMX",	  "SSE4", "SSE42",  "AES",
		"AVX",	    "AVXAES",  "AVX2",	    "AVX2GATHER", "FMA",  "F16C",   "XSAVE",
		"XSAVEOPT", "SHA",     "PCLMULQDQ", "RDPID",	  "SMAP", "RDTSCP",
	};
	const char *set = ZydisISASetGetString(z->meta.isa_set);

	if (z->operand_width == ours->opsize * 8 || size_fixed(z))
		return NULL;
	for (unsigned n = 0; n < sizeof(sets) / sizeof(sets[0]); n++)
		if (strcmp(sets[n], set) == 0)
			return NULL;
	return "operand size";
}

const char *operands_differ(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
			    const struct insn *ours)
{
	const char *what = prefixes_differ(z, ours);

	if (!what)
		what = size_differs(z, ours);
	if (!what && z->meta.isa_set != ZYDIS_ISA_SET_X87)
		what = immediates_differ(z, ours);
	for (unsigned n = 0; n < z->operand_count && !what; n++)
		what = operand_differs(z, &operands[n], ours);
	return what;
}
