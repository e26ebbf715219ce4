/* SPDX-License-Identifier: Apache-2.0 */
/* What processors of different models do differently, and manuals leave open or tell of each vendor's own: the
 * software CPU does one of it, and the host may do another. Each kind has its own narrow description here. */
#include "tests/unit/softnative/softnative.h"

#include <string.h>

#define ARITHMETIC_FLAGS 0x8d5u
#define SW_SUMMARY	 0x80u
#define NO_FAULT	 3 /* the breakpoint behind the case */
#define FAULT_BR	 5
#define FAULT_UD	 6
#define FAULT_SS	 12
#define FAULT_GP	 13
#define FAULT_PF	 14
#define FAULT_AC	 17
#define FAULT_XM	 19
#define ERROR_FETCH	 0x10u

/* An instruction of the case, taken apart as far as is needed here. */
struct insn {
	const uint8_t *opcode; /* behind the prefixes */
	unsigned left;	       /* bytes of the case from there on */
	bool address_32, operand_16, repeat, wide;
};

static bool insn_at(const struct test_case *t, uint64_t rip, struct insn *out)
{
	unsigned at = (unsigned)(rip - t->in.rip);

	memset(out, 0, sizeof(*out));
	if (rip < t->in.rip || at >= t->len)
		return false;
	for (; at < t->len; at++) {
		uint8_t byte = t->code[at];

		out->address_32 |= byte == 0x67;
		out->operand_16 |= byte == 0x66;
		out->repeat |= byte == 0xf2 || byte == 0xf3;
		if (t->mode == 64 && (byte & 0xf0) == 0x40)
			out->wide = byte & 8;
		else if (!byte || !strchr("\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3", byte))
			break;
	}
	out->opcode = t->code + at;
	out->left = t->len - at;
	return out->left > 0;
}

static bool data_fault(int vector)
{
	return (vector >= FAULT_SS && vector <= FAULT_PF) || vector == FAULT_AC;
}

static uint16_t status_word(const struct outcome *o)
{
	uint16_t sw;

	memcpy(&sw, o->image.fx + FX_SW, 2);
	return sw;
}

/* ---- which of two faults comes ---- */

/* A store to memory of the x87 unit: FST, FSTP, FIST, FISTP, FISTTP, FBSTP. */
static bool x87_store(const struct insn *i)
{
	unsigned ext, escape = i->opcode[0];

	if (i->left < 2 || (escape & 0xf8) != 0xd8 || i->opcode[1] >= 0xc0)
		return false;
	ext = i->opcode[1] >> 3 & 7;
	switch (escape) {
	case 0xd9:
		return ext == 2 || ext == 3;
	case 0xdb:
		return (ext >= 1 && ext <= 3) || ext == 7;
	case 0xdd:
		return ext >= 1 && ext <= 3;
	case 0xdf:
		return (ext >= 1 && ext <= 3) || ext >= 6;
	default:
		return false;
	}
}

/* A store of a value that raises an unmasked exception is not made; not all processors look at its address then. */
static bool store_not_made(const struct test_case *t, const struct outcome *native,
			   const struct outcome *soft)
{
	struct insn i;

	return data_fault(soft->vector) && insn_at(t, soft->image.rip, &i) && x87_store(&i) &&
	       native->image.rip > soft->image.rip && (status_word(native) & SW_SUMMARY);
}

/* MOVSXD to 16 bits reads two bytes or four (AMD's manual, volume 3, MOVSXD; Intel's, volume 2B). */
static bool movsxd_16(const struct test_case *t, const struct outcome *native,
		      const struct outcome *soft)
{
	struct insn i;

	return data_fault(soft->vector) && t->mode == 64 && insn_at(t, soft->image.rip, &i) &&
	       i.opcode[0] == 0x63 && i.operand_16 && !i.wide &&
	       native->image.rip > soft->image.rip;
}

/* BOUND below the lower bound needs no look at the upper one, which may lie on a page that is not there. */
static bool bound_short(const struct test_case *t, const struct outcome *native,
			const struct outcome *soft)
{
	struct insn i;

	return native->vector == FAULT_BR && data_fault(soft->vector) && t->mode == 32 &&
	       insn_at(t, soft->image.rip, &i) && i.opcode[0] == 0x62 &&
	       native->image.rip == soft->image.rip;
}

/* An opcode that is not defined raises #UD, or a fault of the page that its operand would lie on. */
static bool undefined_at_page_end(const struct outcome *native, const struct outcome *soft)
{
	return soft->vector == FAULT_UD && native->vector == FAULT_PF &&
	       (native->error & ERROR_FETCH) && native->image.rip == soft->image.rip &&
	       native->cr2 - native->image.rip < 15;
}

/* The SHA instructions want their operand in memory aligned (Intel's manual, volume 2B), or do not (AMD's processors). */
static bool sha_unaligned(const struct test_case *t, const struct outcome *native,
			  const struct outcome *soft)
{
	struct insn i;

	if (soft->vector != FAULT_GP || !insn_at(t, soft->image.rip, &i) || i.left < 4 ||
	    i.opcode[0] != 0x0f || i.operand_16 || i.repeat || i.opcode[3] >= 0xc0)
		return false;
	if (native->image.rip == soft->image.rip && native->vector != FAULT_PF)
		return false;
	return (i.opcode[1] == 0x38 && i.opcode[2] >= 0xc8 && i.opcode[2] <= 0xcd) ||
	       (i.opcode[1] == 0x3a && i.opcode[2] == 0xcc);
}

/* The opcode behind a VEX prefix of three bytes with opcode map 3 and 66, or -1. */
static int vex3_66_opcode(const struct insn *i)
{
	if (i->left < 5 || i->opcode[0] != 0xc4 || (i->opcode[1] & 0x1f) != 3 ||
	    (i->opcode[2] & 3) != 1)
		return -1;
	return i->opcode[3];
}

/* VPERMQ and VPERMPD are of VEX.W1 (Intel's manual, volume 2C); some processors do not look at W. */
static bool permutation_without_w(const struct test_case *t, const struct outcome *native,
				  const struct outcome *soft)
{
	struct insn i;
	int opcode;

	if (soft->vector != FAULT_UD || !insn_at(t, soft->image.rip, &i))
		return false;
	opcode = vex3_66_opcode(&i);
	return (opcode == 0 || opcode == 1) && !(i.opcode[2] & 0x80) &&
	       (native->image.rip > soft->image.rip || data_fault(native->vector));
}

/* VCVTPS2PH to memory that cannot be written: its exception, or the page's; and MXCSR tells of what it met, or not. */
static bool half_store_faults(const struct insn *i, const struct outcome *native)
{
	return vex3_66_opcode(i) == 0x1d && i->opcode[4] < 0xc0 && data_fault(native->vector);
}

static bool half_store_order(const struct test_case *t, const struct outcome *native,
			     const struct outcome *soft)
{
	struct insn i;

	return soft->vector == FAULT_XM && insn_at(t, soft->image.rip, &i) &&
	       half_store_faults(&i, native) && native->image.rip == soft->image.rip;
}

static void half_store_flags(const struct insn *i, const struct outcome *native,
			     struct outcome *soft)
{
	if (half_store_faults(i, native) && native->image.rip == soft->image.rip)
		memcpy(soft->image.fx + FX_MXCSR, native->image.fx + FX_MXCSR, 4);
}

bool vendor_vector_free(const struct test_case *t, const struct outcome *native,
			const struct outcome *soft)
{
	return store_not_made(t, native, soft) || bound_short(t, native, soft) ||
	       movsxd_16(t, native, soft) || undefined_at_page_end(native, soft) ||
	       sha_unaligned(t, native, soft) || permutation_without_w(t, native, soft) ||
	       half_store_order(t, native, soft);
}

/* ---- what else differs: made equal in soft ---- */

/* With a prefix for 32-bit addresses a string instruction that is broken off, or has nothing to do, keeps the upper
 * halves of its registers or has cleared them. */
static void string_halves(const struct insn *i, const struct outcome *native, struct outcome *soft)
{
	static const unsigned registers[] = {RCX, RSI, RDI};
	bool string = (i->opcode[0] >= 0xa4 && i->opcode[0] <= 0xa7) ||
		      (i->opcode[0] >= 0xaa && i->opcode[0] <= 0xaf);

	for (unsigned n = 0; string && i->address_32 && n < 3; n++) {
		uint64_t *to = &soft->image.gpr[registers[n]],
			 from = native->image.gpr[registers[n]];

		if (from == (uint32_t)*to)
			*to = from;
	}
}

/* CMPS and SCAS that fault in a later round leave the flags of the round before it, or those from before the
 * instruction (Intel's manual, volume 2B, REP). */
static void compare_flags(const struct test_case *t, const struct insn *i,
			  const struct outcome *native, struct outcome *soft)
{
	bool compare = (i->opcode[0] & 0xfe) == 0xa6 || (i->opcode[0] & 0xfe) == 0xae;

	if (compare && i->repeat && data_fault(native->vector) && soft->image.rip == t->in.rip &&
	    ((native->image.rflags ^ t->in.rflags) & ARITHMETIC_FLAGS) == 0)
		soft->image.rflags = (soft->image.rflags & ~(uint64_t)ARITHMETIC_FLAGS) |
				     (native->image.rflags & ARITHMETIC_FLAGS);
}

/*
 * An MMX instruction makes TOP 0. One whose store faults is run again, and some processors have made it 0 by then: the
 * registers are where they were, and FXSAVE shows them from another one on.
 */
static void mmx_top(const struct insn *i, const struct outcome *native, struct outcome *soft)
{
	uint16_t sw_soft = status_word(soft), sw_native = status_word(native);
	unsigned top = sw_soft >> 11 & 7;
	uint8_t turned[8][16];

	if (i->left < 2 || i->opcode[0] != 0x0f || !strchr("\x7e\x7f\xe7\xf7", i->opcode[1]) ||
	    !i->opcode[1] || !data_fault(soft->vector) || (sw_native ^ sw_soft) != top << 11)
		return;
	for (unsigned n = 0; n < 8; n++)
		memcpy(turned[n], soft->image.fx + FX_ST + 16 * ((n - top) & 7), 16);
	memcpy(soft->image.fx + FX_ST, turned, sizeof(turned));
	memcpy(soft->image.fx + FX_SW, &sw_native, 2);
}

void vendor_settle(const struct test_case *t, const struct outcome *native, struct outcome *soft)
{
	struct insn i;

	if (!insn_at(t, soft->image.rip, &i))
		/* It has ended: its last instruction is the form's own. */
		if (soft->vector != NO_FAULT || !insn_at(t, t->in.rip, &i))
			return;
	string_halves(&i, native, soft);
	if (native->vector != soft->vector)
		return;
	compare_flags(t, &i, native, soft);
	mmx_top(&i, native, soft);
	half_store_flags(&i, native, soft);
}

/* A CALL whose target is not canonical is #GP before its return address is stored, or after; RSP stays. */
static bool call_stored(const struct insn *i, const struct outcome *soft, uint64_t address)
{
	return soft->vector == 13 && i->opcode[0] == 0xff && (i->opcode[1] >> 3 & 7) == 2 &&
	       address < soft->image.gpr[RSP] && soft->image.gpr[RSP] - address <= 8;
}

/* Ten bytes of the x87 unit are stored at once, or as eight and two; the second page may be absent. */
static bool ten_bytes_stored(const struct insn *i, const struct outcome *soft, uint64_t address)
{
	uint64_t page = soft->cr2 & ~UINT64_C(0xfff);
	bool ten = (i->opcode[0] == 0xdb && (i->opcode[1] >> 3 & 7) == 7) ||
		   (i->opcode[0] == 0xdf && (i->opcode[1] >> 3 & 7) == 6);

	return ten && i->opcode[1] < 0xc0 && soft->vector == FAULT_PF && address < page &&
	       page - address <= 10;
}

bool vendor_stored(const struct test_case *t, const struct outcome *soft, uint64_t address)
{
	struct insn i;

	return insn_at(t, soft->image.rip, &i) && i.left >= 2 &&
	       (call_stored(&i, soft, address) || ten_bytes_stored(&i, soft, address));
}
