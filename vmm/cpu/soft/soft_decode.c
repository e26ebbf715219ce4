/* SPDX-License-Identifier: Apache-2.0 */
/* The instruction decoder: prefixes, modrm, displacement, immediate; then the part's selection. */
#include <string.h>

#include "vmm/cpu/soft/soft_int.h"

/* SDM 2A 2.3.11: more is #GP(0). */
#define INSN_BYTES_MAX 15

/* The bytes being decoded. Reading beyond the end gives zeroes and is remembered. */
struct decode_cursor {
	const uint8_t *bytes;
	unsigned len, pos;
	bool over;
};

static uint8_t cursor_u8(struct decode_cursor *cur)
{
	if (cur->pos >= cur->len) {
		cur->over = true;
		return 0;
	}
	return cur->bytes[cur->pos++];
}

/* n bytes, little endian, zero-extended. */
static uint64_t cursor_uint(struct decode_cursor *cur, unsigned n)
{
	uint64_t value = 0;

	for (unsigned k = 0; k < n; k++)
		value |= (uint64_t)cursor_u8(cur) << k * 8;
	return value;
}

static uint64_t cursor_int(struct decode_cursor *cur, unsigned n)
{
	return int_sign_extend(cursor_uint(cur, n), n);
}

const struct insn *soft_op_ud(struct soft_cpu *c, const struct insn *i)
{
	soft_raise(c, i, VEC_UD);
}

static const struct insn *op_too_long(struct soft_cpu *c, const struct insn *i)
{
	soft_raise_error(c, i, VEC_GP, 0);
}

/* Everything about one instruction while it is decoded. */
struct decode_state {
	struct decode_cursor cur;
	struct soft_decode d;
	uint32_t attr;
	bool prefix_67, rip_relative;
	bool vex_invalid; /* prefixes before VEX that it forbids */
	int segment;	  /* override, or -1 */
};

/* ---- Prefixes -------------------------------------------------------------------------------- */

static void decode_segment_prefix(struct decode_state *s, int segment)
{
	/* In 64-bit mode the prefixes of CS, SS, DS and ES are ignored. */
	if (s->d.mode != 64 || segment >= SEG_FS)
		s->segment = segment;
}

/* True if byte is a legacy prefix; records it. The last of F2 and F3 wins. */
static bool decode_legacy_prefix(struct decode_state *s, uint8_t byte)
{
	switch (byte) {
	case 0x26:
		decode_segment_prefix(s, SEG_ES);
		return true;
	case 0x2e:
		decode_segment_prefix(s, SEG_CS);
		return true;
	case 0x36:
		decode_segment_prefix(s, SEG_SS);
		return true;
	case 0x3e:
		decode_segment_prefix(s, SEG_DS);
		return true;
	case 0x64:
		decode_segment_prefix(s, SEG_FS);
		return true;
	case 0x65:
		decode_segment_prefix(s, SEG_GS);
		return true;
	case 0x66:
		s->d.prefix_66 = true;
		return true;
	case 0x67:
		s->prefix_67 = true;
		return true;
	case 0xf0:
		s->d.prefix_lock = true;
		return true;
	case 0xf2:
	case 0xf3:
		s->d.prefix_rep = byte;
		return true;
	default:
		return false;
	}
}

/* ---- VEX (SDM 2A, 2.3) ----------------------------------------------------------------------- */

/* Features whose instructions have VEX prefixes; without any, C4 and C5 are what they were before. */
#define VEX_FEATURES (CPU_BIT(CPU_BMI1) | CPU_BIT(CPU_BMI2) | CPU_BIT(CPU_AVX))

/*
 * Outside of 64-bit mode LES and LDS with a register operand, which would be invalid. The software CPU knows
 * no VEX in 16-bit code, whether real mode's, where there is none, or protected mode's, where nobody has it.
 */
static bool decode_is_vex(const struct decode_state *s, uint8_t byte)
{
	const struct decode_cursor *cur = &s->cur;

	if ((byte != 0xc4 && byte != 0xc5) || !(s->d.features & VEX_FEATURES) || s->d.mode == 16)
		return false;
	return s->d.mode == 64 || (cur->pos < cur->len && cur->bytes[cur->pos] >= 0xc0);
}

/* The bytes behind C4 or C5, and the opcode. A prefix that VEX stands for itself makes it invalid. */
static void decode_vex(struct decode_state *s, uint8_t byte)
{
	static const uint8_t rep[4] = {0, 0, 0xf3, 0xf2};
	struct soft_decode *d = &s->d;
	uint8_t first = cursor_u8(&s->cur), last = first;

	s->vex_invalid = d->rex || d->prefix_66 || d->prefix_rep || d->prefix_lock;
	d->vex = true;
	d->rex = 0x40 | (first & 0x80 ? 0 : 4);
	d->map = 1;
	if (byte == 0xc4) {
		last = cursor_u8(&s->cur);
		d->map = first & 31;
		d->rex |= (first & 0x40 ? 0 : 2) | (first & 0x20 ? 0 : 1) | (last & 0x80 ? 8 : 0);
	}
	d->vex_v = ~last >> 3 & 15;
	d->vex_l = last >> 2 & 1;
	d->prefix_66 = (last & 3) == 1;
	d->prefix_rep = rep[last & 3];
	d->vex_w = byte == 0xc4 && (last & 0x80);
	if (d->mode != 64)
		d->rex = 0x40; /* eight registers; W chooses no wide general ones */
	d->opcode = cursor_u8(&s->cur);
}

/* Reads prefixes and the opcode. A REX counts only right before the opcode. */
static void decode_opcode(struct decode_state *s)
{
	uint8_t byte = cursor_u8(&s->cur);

	while (!s->cur.over) {
		if (s->d.mode == 64 && (byte & 0xf0) == 0x40)
			s->d.rex = byte;
		else if (decode_legacy_prefix(s, byte))
			s->d.rex = 0;
		else
			break;
		byte = cursor_u8(&s->cur);
	}
	if (decode_is_vex(s, byte)) {
		decode_vex(s, byte);
		return;
	}
	if (byte == 0x0f) {
		byte = cursor_u8(&s->cur);
		s->d.map = 1;
		if (byte == 0x38 || byte == 0x3a) {
			s->d.map = byte == 0x38 ? 2 : 3;
			byte = cursor_u8(&s->cur);
		}
	}
	s->d.opcode = byte;
}

/* ---- Attributes and sizes -------------------------------------------------------------------- */

/* 0F 38 F0 and F1 are of general registers: MOVBE, and CRC32 with F2, of which F0 takes a byte; 82 is INVPCID. */
static uint32_t decode_attr_0f38(const struct soft_decode *d)
{
	if (d->opcode == 0x82)
		return PART_SYSTEM | ATTR_MODRM;
	if ((d->opcode & 0xfe) != 0xf0)
		return PART_FP | ATTR_MODRM;
	if (d->opcode == 0xf0 && d->prefix_rep == 0xf2)
		return PART_EXTRA | ATTR_MODRM | ATTR_BYTE_RM;
	return PART_EXTRA | ATTR_MODRM;
}

static uint32_t decode_attr_vex(const struct soft_decode *d)
{
	const uint8_t op = d->opcode;

	if (d->map == 1 && op == 0x77) /* VZEROUPPER */
		return PART_VEX;
	if (d->map == 3 || (d->map == 1 && ((op >= 0x70 && op <= 0x73) || op == 0xc2 ||
					    (op >= 0xc4 && op <= 0xc6))))
		return PART_VEX | ATTR_MODRM | ATTR_IMM_SET(IMM_8);
	return PART_VEX | ATTR_MODRM;
}

static uint32_t decode_attr(const struct soft_decode *d)
{
	uint32_t attr;

	if (d->vex)
		return decode_attr_vex(d);

	switch (d->map) {
	case 0:
		attr = decode_attr_one[d->opcode];
		break;
	case 1:
		attr = decode_attr_0f[d->opcode];
		break;
	case 2:
		attr = decode_attr_0f38(d);
		break;
	default:
		attr = PART_FP | ATTR_MODRM | ATTR_IMM_SET(IMM_8);
	}
	if (d->map == 0 && d->opcode == 0x63 && d->mode != 64)
		attr = PART_SYSTEM | ATTR_MODRM; /* ARPL */
	return attr;
}

static void decode_sizes(struct decode_state *s)
{
	struct insn *out = s->d.out;
	const uint8_t mode = s->d.mode;

	if (mode == 64)
		out->adsize = s->prefix_67 ? 4 : 8;
	else
		out->adsize = (mode == 32) != s->prefix_67 ? 4 : 2;

	if (s->d.vex)
		out->opsize = s->d.rex & 8 ? 8 : 4;
	else if (s->attr & ATTR_BYTE)
		out->opsize = 1;
	else if (mode != 64)
		out->opsize = (mode == 32) != s->d.prefix_66 ? 4 : 2;
	else if ((s->attr & ATTR_F64) || (s->d.rex & 8))
		out->opsize = 8; /* 66 is ignored, on near branches as Intel does */
	else if (s->d.prefix_66)
		out->opsize = 2;
	else
		out->opsize = s->attr & ATTR_D64 ? 8 : 4;
}

/* ---- ModRM ----------------------------------------------------------------------------------- */

static bool decode_is_gather(const struct soft_decode *d)
{
	return d->vex && d->map == 2 && d->opcode >= 0x90 && d->opcode <= 0x93;
}

static void decode_sib(struct decode_state *s)
{
	struct insn *out = s->d.out;
	const uint8_t sib = cursor_u8(&s->cur);
	const uint8_t index = (sib >> 3 & 7) | (s->d.rex & 2) << 2;

	out->scale = sib >> 6;
	out->index = index == RSP ? REG_ZERO : index;
	if (decode_is_gather(&s->d)) { /* the index is a vector register, any of them */
		out->rm = index;
		out->index = REG_ZERO;
	}
	if ((sib & 7) == 5 && s->d.mod == 0) {
		out->base = REG_ZERO;
		out->disp = (int32_t)cursor_uint(&s->cur, 4);
	} else {
		out->base = (sib & 7) | (s->d.rex & 1) << 3;
	}
}

static void decode_address(struct decode_state *s)
{
	struct insn *out = s->d.out;

	out->index = REG_ZERO;
	if (s->d.rm3 == 4) {
		decode_sib(s);
	} else if (s->d.rm3 == 5 && s->d.mod == 0) {
		s->rip_relative = s->d.mode == 64;
		out->base = s->rip_relative ? REG_RIP : REG_ZERO;
		out->disp = (int32_t)cursor_uint(&s->cur, 4);
	} else {
		out->base = s->d.rm3 | (s->d.rex & 1) << 3;
	}
	if (s->d.mod == 1)
		out->disp = (int8_t)cursor_u8(&s->cur);
	else if (s->d.mod == 2)
		out->disp = (int32_t)cursor_uint(&s->cur, 4);
}

/* SDM 2A table 2-1. */
static void decode_address_16(struct decode_state *s)
{
	static const uint8_t base[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
	static const uint8_t index[8] = {RSI,	   RDI,	     RSI,      RDI,
					 REG_ZERO, REG_ZERO, REG_ZERO, REG_ZERO};
	struct insn *out = s->d.out;

	out->base = base[s->d.rm3];
	out->index = index[s->d.rm3];
	if (s->d.mod == 0 && s->d.rm3 == 6) {
		out->base = REG_ZERO;
		out->disp = (int16_t)cursor_uint(&s->cur, 2);
	} else if (s->d.mod == 1) {
		out->disp = (int8_t)cursor_u8(&s->cur);
	} else if (s->d.mod == 2) {
		out->disp = (int16_t)cursor_uint(&s->cur, 2);
	}
}

/* The register field n as a byte register: its offset in the register file. */
static uint8_t decode_byte_reg(const struct soft_decode *d, unsigned n)
{
	return (uint8_t)(d->rex || n < 4 ? n * 8 : (n - 4) * 8 + 1);
}

static void decode_modrm(struct decode_state *s)
{
	struct soft_decode *d = &s->d;
	struct insn *out = d->out;

	d->has_modrm = true;
	d->modrm = cursor_u8(&s->cur);
	d->mod = d->modrm >> 6;
	d->reg3 = d->modrm >> 3 & 7;
	d->rm3 = d->modrm & 7;
	out->reg = d->reg3 | (d->rex & 4) << 1;
	if (s->attr & ATTR_BYTE_REG)
		out->reg = decode_byte_reg(d, out->reg);
	if (d->mod == 3 || (s->attr & ATTR_REG_RM)) {
		out->rm = d->rm3 | (d->rex & 1) << 3;
		if (s->attr & ATTR_BYTE_RM)
			out->rm = decode_byte_reg(d, out->rm);
		return;
	}
	out->flags |= INSN_MEM;
	if (out->adsize == 2)
		decode_address_16(s);
	else
		decode_address(s);
}

/* Opcodes without modrm: the register is in the opcode. */
static void decode_opcode_reg(struct decode_state *s)
{
	struct insn *out = s->d.out;

	out->rm = (s->d.opcode & 7) | (s->d.rex & 1) << 3;
	if (s->attr & ATTR_BYTE_RM)
		out->rm = decode_byte_reg(&s->d, out->rm);
}

/* The segment of the memory operand, and whether the address needs the slow form. */
static void decode_segment(struct decode_state *s)
{
	struct insn *out = s->d.out;
	const bool stack = (out->flags & INSN_MEM) && (out->base == RSP || out->base == RBP);

	out->seg = stack ? SEG_SS : SEG_DS;
	if (s->segment >= 0)
		out->seg = (uint8_t)s->segment;
	if (out->seg == SEG_SS)
		out->flags |= INSN_STACK;
	if (s->d.mode != 64 || out->adsize != 8 || out->seg >= SEG_FS)
		out->flags |= INSN_EA_SLOW;
}

/* ---- Immediates ------------------------------------------------------------------------------ */

static void decode_imm(struct decode_state *s)
{
	struct insn *out = s->d.out;
	enum decode_imm kind = ATTR_IMM(s->attr);
	const unsigned z = out->opsize == 2 ? 2 : 4;

	if (kind == IMM_GROUP3)
		kind = s->d.reg3 > 1 ? IMM_NONE : out->opsize == 1 ? IMM_8 : IMM_Z;
	switch (kind) {
	case IMM_NONE:
	case IMM_GROUP3:
		break;
	case IMM_8:
	case REL_8:
		out->imm = cursor_int(&s->cur, 1);
		break;
	case IMM_16:
		out->imm = cursor_uint(&s->cur, 2);
		break;
	case IMM_Z:
	case REL_Z:
		out->imm = cursor_int(&s->cur, z);
		break;
	case IMM_V:
		out->imm = cursor_int(&s->cur, out->opsize);
		break;
	case IMM_16_8:
		out->imm = cursor_uint(&s->cur, 3);
		break;
	case IMM_MOFFS:
		out->imm = cursor_uint(&s->cur, out->adsize);
		break;
	case IMM_FAR:
		out->imm = cursor_uint(&s->cur, z);
		out->disp = (int32_t)cursor_uint(&s->cur, 2);
		break;
	}
}

/* Makes what counts from the instruction's end count from the block's start. */
static void decode_relative(struct decode_state *s, unsigned off)
{
	struct insn *out = s->d.out;
	const enum decode_imm kind = ATTR_IMM(s->attr);

	if (kind == REL_8 || kind == REL_Z)
		out->imm += off + out->len;
	if (!s->rip_relative)
		return;
	if (__builtin_add_overflow(out->disp, (int32_t)(off + out->len), &out->disp)) {
		/* The wrapped sum is 2^32 too small: REG_FAR brings it back. */
		out->index = REG_FAR;
	}
}

/* ---- Selection ------------------------------------------------------------------------------- */

/* SDM 2A, LOCK: these opcodes, and only with a memory destination. */
static bool decode_lock_legal(const struct soft_decode *d)
{
	const uint8_t op = d->opcode;

	if (!(d->out->flags & INSN_MEM))
		return false;
	if (d->map == 0) {
		if (op < 0x38)
			return (op & 7) < 2;
		if (op >= 0x80 && op <= 0x83)
			return d->reg3 != 7;
		if (op == 0xf6 || op == 0xf7)
			return d->reg3 == 2 || d->reg3 == 3;
		if (op == 0xfe || op == 0xff)
			return d->reg3 < 2;
		return op == 0x86 || op == 0x87;
	}
	if (d->map != 1)
		return false;
	if (op == 0xba)
		return d->reg3 > 4;
	if (op == 0xc7)
		return d->reg3 == 1;
	return op == 0xab || op == 0xb3 || op == 0xbb || op == 0xb0 || op == 0xb1 || op == 0xc0 ||
	       op == 0xc1;
}

static bool select_none(struct soft_decode *d)
{
	(void)d;
	return false;
}

static bool select_group3(struct soft_decode *d)
{
	return d->reg3 < 4 ? soft_select_alu(d) : soft_select_muldiv(d);
}

static bool select_group5(struct soft_decode *d)
{
	if (d->reg3 < 2)
		return soft_select_alu(d);
	if (d->opcode == 0xfe)
		return false;
	switch (d->reg3) {
	case 2:
	case 4:
		if (d->mode == 64)
			d->out->opsize = 8;
		return soft_select_branch(d);
	case 3:
	case 5:
		return soft_select_system(d);
	case 6:
		if (d->mode == 64 && d->out->opsize == 4)
			d->out->opsize = 8;
		return soft_select_stack(d);
	default:
		return false;
	}
}

/*
 * SLDT.., LAR, LSL, RDMSR lend the addresses of locals, so that the compiler calls the next
 * record instead of jumping to it. They end their block: the next record is its terminator then,
 * which returns, and the stack does not grow.
 */
static bool decode_returns(const struct soft_decode *d)
{
	if (d->map != 1)
		return false;
	return d->opcode == 0x00 || d->opcode == 0x02 || d->opcode == 0x03 || d->opcode == 0x32;
}

static bool decode_select(struct decode_state *s)
{
	static bool (*const parts[PART_COUNT])(struct soft_decode *) = {
		[PART_NONE] = select_none,	    [PART_ALU] = soft_select_alu,
		[PART_GROUP3] = select_group3,	    [PART_GROUP5] = select_group5,
		[PART_SHIFT] = soft_select_shift,   [PART_MULDIV] = soft_select_muldiv,
		[PART_BIT] = soft_select_bit,	    [PART_MOV] = soft_select_mov,
		[PART_BRANCH] = soft_select_branch, [PART_STRING] = soft_select_string,
		[PART_STACK] = soft_select_stack,   [PART_ATOMIC] = soft_select_atomic,
		[PART_SYSTEM] = soft_select_system, [PART_FP] = soft_select_fp,
		[PART_EXTRA] = soft_select_extra,   [PART_VEX] = soft_select_vex,
	};

	if (((s->attr & ATTR_INV64) && s->d.mode == 64) || s->vex_invalid)
		return false;
	if (s->d.prefix_lock && !decode_lock_legal(&s->d))
		return false;
	return parts[ATTR_PART(s->attr)](&s->d);
}

static void decode_record_flags(struct decode_state *s)
{
	struct insn *out = s->d.out;

	if (s->d.prefix_lock)
		out->flags |= INSN_LOCK;
	if (s->d.rex)
		out->flags |= INSN_REX;
	if (s->d.prefix_rep && !s->d.vex)
		out->flags |= s->d.prefix_rep == 0xf3 ? INSN_REP : INSN_REPNE;
}

bool soft_decode_at(const uint8_t *bytes, unsigned len, uint8_t mode, uint64_t features,
		    unsigned off, struct insn *out, bool *end)
{
	struct decode_state s = {
		.cur = {.bytes = bytes, .len = len < INSN_BYTES_MAX ? len : INSN_BYTES_MAX},
		.d = {.out = out, .mode = mode, .features = features},
		.segment = -1,
	};

	memset(out, 0, sizeof(*out));
	out->base = out->index = REG_ZERO;
	out->off = (uint8_t)off;
	decode_opcode(&s);
	s.attr = decode_attr(&s.d);
	out->opcode = !s.d.vex ? s.d.opcode : s.d.mode == 64 ? s.d.vex_v : s.d.vex_v & 7;
	decode_sizes(&s);
	if (s.attr & ATTR_MODRM)
		decode_modrm(&s);
	else
		decode_opcode_reg(&s);
	decode_imm(&s);
	if (s.cur.over && len < INSN_BYTES_MAX)
		return false;
	out->len = (uint8_t)s.cur.pos;
	decode_segment(&s);
	decode_record_flags(&s);
	decode_relative(&s, off);
	if (s.cur.over) {
		out->fn = op_too_long;
		s.d.end_block = true;
	} else if (!decode_select(&s)) {
		out->fn = soft_op_ud;
		s.d.end_block = true;
	}
	*end = s.d.end_block || decode_returns(&s.d);
	return true;
}

bool soft_decode_insn(const uint8_t *bytes, unsigned len, uint8_t mode, uint64_t features,
		      struct insn *out, bool *end)
{
	return soft_decode_at(bytes, len, mode, features, 0, out, end);
}
