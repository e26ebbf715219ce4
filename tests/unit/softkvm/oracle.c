/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind /dev/kvm, what it does not execute, and where it is known to be wrong. */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/softkvm/softkvm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define FLAG_IF	  UINT64_C(0x200)
#define FLAG_IOPL UINT64_C(0x3000)
#define FLAG_AC	  UINT64_C(0x40000)
/* 32-bit code of CPL 3, which is emulated like CPL 0. */
#define IN_NARROW3 (IN(MODE_COMPAT3) | IN(MODE_PROT3))
#define FLAG_NT	   UINT64_C(0x4000)
#define TCG	   BY(ORACLE_SVM_TCG)
#define TCG_ABORTS                                                                                 \
	"QEMU aborts when a nested guest's event leaves CPL 3 without long mode (invalid tss "     \
	"type)"
/* Where RFLAGS lie in the frame that an exception with an error code pushes at RSP0. */
#define FLAGS_SLOT "[197e8]"
#define EMULATED   BY(ORACLE_EMULATOR)

/* CPUID: 1.ECX VMX, 80000001.ECX SVM; the hypervisor's name. */
enum oracle oracle_find(void)
{
	unsigned a, b, c, d;

	__cpuid(1, a, b, c, d);
	if (c >> 5 & 1)
		return ORACLE_VMX;
	__cpuid(0x80000001, a, b, c, d);
	if (!(c >> 2 & 1))
		return ORACLE_EMULATOR;
	__cpuid(0x40000000, a, b, c, d);
	return b == 0x54474354 ? ORACLE_SVM_TCG : ORACLE_SVM; /* "TCGT" */
}

const char *oracle_name(enum oracle oracle)
{
	static const char *const names[ORACLE_COUNT] = {
		"KVM without VT-x and SVM: its emulator, CPL 3 natively", "SVM", "SVM by QEMU",
		"VT-x"};

	return names[oracle];
}

/* ---- What it does not execute ---------------------------------------------------------------- */

struct lack {
	unsigned oracles;
	const char *form; /* NULL: all */
	unsigned modes;
	const char *reason;
};

#define NO_OPCODE  "not in the instruction emulator"
#define NO_OPCODE3 "not in the instruction emulator, which makes it #UD at CPL 3"
#define NO_FRAME   "IRET takes frames of 64 bits only"
#define HOST_CALL  "64-bit CPL 3 runs natively: the host takes the call"
#define NO_UD	   "where it is undefined the emulator gives up instead of raising #UD"
#define NO_EVENT   "the emulator delivers software interrupts in real mode only"
#define NO_DROP	   "IRET to CPL 3 leaves segments of CPL 0 in DS, ES, FS, GS"
#define NO_UPPER   "in compatibility mode system descriptors are taken for 8 bytes"
#define NO_ALIGN   "32-bit CPL 3 is emulated, without alignment checks"
#define NO_RESUME  "the fault of DR7.GD pushes RFLAGS without RF"
#define NO_CHECK   "a gate's type, target and code segment are not checked"
#define NO_PAGING  "there is no paging without long mode"
#define HOST_GDT   "64-bit CPL 3 runs natively: the processor looks into the host's descriptor table"
#define HOST_SEL   "64-bit CPL 3 runs natively: with the host's selectors"
#define HOST_FLAG  "64-bit CPL 3 runs natively: with the host's IF, IOPL 0, AC and NT clear"
#define HOST_HALF  "64-bit CPL 3 runs natively: the upper half is the host's"
#define HOST_CR	   "64-bit CPL 3 runs natively: with the host's CR0 and CR4"
#define HOST_IDT   "64-bit CPL 3 runs natively: the processor looks into the host's IDT"

static const struct lack lacks[] = {
	{TCG, NULL, IN(MODE_PROT3), TCG_ABORTS},
	{TCG, "retf", IN(MODE_PROT0), TCG_ABORTS},
	{TCG, "retf_imm", IN(MODE_PROT0), TCG_ABORTS},
	{TCG, "iret", IN(MODE_PROT0), TCG_ABORTS},
	{TCG, "sysret", IN(MODE_PROT0), TCG_ABORTS},
	{TCG, "sysexit", IN(MODE_PROT0), TCG_ABORTS},
	{EMULATED, "int_n", IN_CPL0, NO_EVENT},
	{EMULATED, "int3", IN_CPL0, NO_EVENT},
	{EMULATED, "into", IN_CPL0, NO_EVENT},
	{EMULATED, "gate_int", IN_CPL0, NO_EVENT},
	{EMULATED, "limit_int", IN_CPL0, NO_EVENT},
	{EMULATED, "int1", IN_KERNEL, NO_OPCODE},
	{EMULATED, "verr", IN_KERNEL, NO_OPCODE},
	{EMULATED, "verw", IN_KERNEL, NO_OPCODE},
	{EMULATED, "lar", IN_KERNEL, NO_OPCODE},
	{EMULATED, "lsl", IN_KERNEL, NO_OPCODE},
	{EMULATED, "lar_system", IN_KERNEL, NO_OPCODE},
	{EMULATED, "lsl_system", IN_KERNEL, NO_OPCODE},
	{EMULATED, "arpl", IN_KERNEL, NO_OPCODE},
	{EMULATED, "rdtscp", IN_KERNEL, NO_OPCODE},
	{EMULATED, "monitor", IN_KERNEL, NO_OPCODE},
	{EMULATED, "jmp_far_mem64", IN(MODE_LONG0), NO_OPCODE},
	{EMULATED, "sysenter", IN(MODE_LONG0), NO_OPCODE},
	{EMULATED, "no_fpu_fwait", IN_CPL0, NO_OPCODE},
	{EMULATED, "tss_exception", IN_PROT, "events are delivered without a look at TR's limit"},
	{EMULATED, "int_n", IN(MODE_REAL), "the emulator repeats it for ever"},
	{EMULATED, "iret", IN(MODE_COMPAT0) | IN(MODE_PROT0), NO_FRAME},
	{EMULATED, "stack_exception", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_load", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_store", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_modify", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_locked", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_push", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_pop", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_movs", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_execute", IN_LEGACY, NO_PAGING},
	{EMULATED, "page_descriptor", IN_LEGACY, NO_PAGING},
	{EMULATED, "swapgs", IN(MODE_REAL), NO_UD},
	{EMULATED, "ud2", IN(MODE_REAL), NO_UD},
	{EMULATED, "rsm", IN(MODE_REAL), NO_UD},
	{EMULATED, "sysret", IN(MODE_REAL), NO_UD},
	{EMULATED, "verr", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "verw", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "lar", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "lsl", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "lar_system", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "lsl_system", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "arpl", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "int_n", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "int3", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "int1", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "into", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "gate_int", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "limit_int", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "rdtscp", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "no_fpu_fwait", IN_NARROW3, NO_OPCODE3},
	{EMULATED, "iret", IN_NARROW3, NO_FRAME},
	{EMULATED, "verr", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "verw", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "lar", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "lsl", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "lar_system", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "lsl_system", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "mov_to_es", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "mov_to_ss", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "mov_to_ds", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "mov_to_fs", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "mov_to_gs", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "mov_to_ds_mem", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "mov_to_ss_mem", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "pop_fs", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "pop_gs", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "lss", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "lfs", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "lgs", IN(MODE_LONG3), HOST_GDT},
	{EMULATED, "mov_from_cs", IN(MODE_LONG3), HOST_SEL},
	{EMULATED, "mov_from_ss", IN(MODE_LONG3), HOST_SEL},
	{EMULATED, "mov_from_gs", IN(MODE_LONG3), HOST_SEL},
	{EMULATED, "push_fs", IN(MODE_LONG3), HOST_SEL},
	{EMULATED, "popf", IN(MODE_LONG3), HOST_FLAG},
	{EMULATED, "popf16", IN(MODE_LONG3), HOST_FLAG},
	{EMULATED, "pushf", IN(MODE_LONG3), HOST_FLAG},
	{EMULATED, "pushf16", IN(MODE_LONG3), HOST_FLAG},
	{EMULATED, "step", IN(MODE_LONG3), HOST_FLAG},
	{EMULATED, "step_popf", IN(MODE_LONG3), HOST_FLAG},
	{EMULATED, "rdtscp", IN(MODE_LONG3), HOST_CR},
	{EMULATED, "misaligned_load", IN(MODE_LONG3), HOST_CR},
	{EMULATED, "misaligned_store", IN(MODE_LONG3), HOST_CR},
	{EMULATED, "misaligned_movs", IN(MODE_LONG3), HOST_CR},
	{EMULATED, "no_fpu_fninit", IN(MODE_LONG3), HOST_CR},
	{EMULATED, "no_fpu_fwait", IN(MODE_LONG3), HOST_CR},
	{EMULATED, "no_fpu_movaps", IN(MODE_LONG3), HOST_CR},
	{EMULATED, "no_fpu_movq", IN(MODE_LONG3), HOST_CR},
	{EMULATED, "int_n", IN(MODE_LONG3), HOST_IDT},
	{EMULATED, "int3", IN(MODE_LONG3), HOST_IDT},
	{EMULATED, "int1", IN(MODE_LONG3), HOST_IDT},
	{EMULATED, "gate_int", IN(MODE_LONG3), HOST_IDT},
	{EMULATED, "limit_int", IN(MODE_LONG3), HOST_IDT},
	{EMULATED, "syscall", IN(MODE_LONG3), HOST_CALL},
	{EMULATED, "sysenter", IN(MODE_LONG3), HOST_CALL},
	{EMULATED, "iret_nested", IN(MODE_LONG3), "IRET at CPL 3 does not look at NT"},
};

const char *oracle_lacks(enum oracle oracle, const struct form *f, enum run_mode mode)
{
	for (unsigned n = 0; n < COUNT(lacks); n++)
		if ((lacks[n].oracles & BY(oracle)) && (lacks[n].modes & IN(mode)) &&
		    (!lacks[n].form || strcmp(lacks[n].form, f->name) == 0))
			return lacks[n].reason;
	return NULL;
}

/* What it cannot have at a case's beginning: IOPL at CPL 3 is the host's, and there is no paging
 * without long mode. */
void oracle_adapt(enum oracle oracle, struct test_case *t)
{
	if (oracle != ORACLE_EMULATOR)
		return;
	if (IN(t->mode) & IN_CPL3)
		t->in.rflags &= ~FLAG_IOPL;
	if (IN(t->mode) & IN_LEGACY)
		t->in.cr0 &= ~UINT64_C(0x80000000);
}

/* ---- Where it is wrong ----------------------------------------------------------------------- */

/* A difference in one field, and how both ended. */
struct difference {
	const struct test_case *t;
	const char *field;
	uint64_t soft, kvm;
	const struct outcome *soft_out, *kvm_out;
};

/* A rule excuses a difference if everything that it names fits. */
struct rule {
	unsigned oracles;
	const char *form; /* how its name begins, or NULL */
	unsigned modes;
	const char *field; /* how it begins, or NULL */
	bool (*fits)(const struct difference *d);
	const char *reason;
};

/* The value of the first move in the case's code. */
static uint64_t loaded(const struct difference *d)
{
	uint64_t value = 0;

	if (IN(d->t->mode) & IN_LONG)
		memcpy(&value, d->t->code + 2, 8);
	else
		memcpy(&value, d->t->code + (d->t->mode == MODE_REAL ? 2 : 1), 4);
	return value;
}

static bool upper_half(const struct difference *d)
{
	return loaded(d) >> 32;
}

static bool user_flags(const struct difference *d)
{
	uint64_t other = d->soft ^ d->kvm;

	return (other & ~(FLAG_IOPL | FLAG_AC | FLAG_IF | FLAG_NT)) == 0;
}

/* After an event AC is clear. */
static bool ac_cleared(const struct difference *d)
{
	return (d->soft ^ d->kvm) == FLAG_AC && !(d->kvm & FLAG_AC);
}

static bool vectors_13_and_6(const struct difference *d)
{
	return d->kvm_out->s.rip == GPA_HALT + 14 && d->soft_out->s.rip == GPA_HALT + 7;
}

static bool not_emulated(const struct difference *d)
{
	const char *name = d->t->form->name;

	return d->kvm_out->s.rip == GPA_HALT + 7 && d->soft_out->s.rip != GPA_HALT + 7 &&
	       (strstr(name, "_far_") || strstr(name, "ret"));
}

static bool debug_bit_11(const struct difference *d)
{
	return (d->soft ^ d->kvm) == 0x800;
}

static bool debug_bit_16(const struct difference *d)
{
	return (d->soft ^ d->kvm) == 0x10000;
}

/* IRET's flags: of CPL 3 only those that the host leaves alone. */
static bool raw_flags(const struct difference *d)
{
	uint64_t real = UINT64_C(0x200dd5);

	if (d->t->mode == MODE_LONG0 && (d->t->patch[1].value & 3) == 0)
		real |= FLAG_NT | FLAG_AC | FLAG_IF;
	return ((d->soft ^ d->kvm) & real) == 0;
}

static bool error_lost(const struct difference *d)
{
	return d->kvm == 0 && d->soft <= 0xffff && (d->soft & 3) == 0;
}

/* In 32-bit code a word of the frame holds EIP too. */
static bool ltr_error_lost(const struct difference *d)
{
	return (d->kvm & 0xffff) == 0 && (d->soft & 4) && d->kvm >> 32 == d->soft >> 32;
}

static bool sysenter_cs_null(const struct difference *d)
{
	return d->t->in.sysenter_cs && d->t->in.sysenter_cs < 4;
}

/* Is there a gate of a type that none has, with a target that cannot be, or to another segment? */
static bool gate_bad(const struct difference *d)
{
	const struct test_case *t = d->t;
	bool wide = IN(t->mode) & IN_PAGED;

	for (unsigned n = 0; n < t->patches; n++) {
		const struct patch *p = &t->patch[n];
		unsigned type = p->value >> 40 & 0x1f;

		if (p->gpa < GPA_IDT || p->gpa >= GPA_IDT32 + 0x800 || p->size != 8)
			continue;
		if (wide && (p->gpa & 8)) {
			if (p->value != 0)
				return true;
		} else if ((type != 0xe && type != 0xf) ||
			   (p->value >> 16 & 0xffff) != (wide ? SEL_KCODE64 : SEL_KCODE32)) {
			return true;
		}
	}
	return false;
}

static bool soft_shutdown(const struct difference *d)
{
	return d->soft_out->reason == VCPU_EXIT_SHUTDOWN;
}

static bool double_fault(const struct difference *d)
{
	return d->soft_out->s.rip == GPA_HALT + 9 || d->soft_out->s.rip > GPA_TARGETS;
}

static bool null_stack(const struct difference *d)
{
	return d->soft_out->s.seg[SEG_SS].selector < 4;
}

static bool guarded(const struct difference *d)
{
	return (d->t->in.dr7 & 0x2000) && upper_half(d);
}

static bool locked_swapgs(const struct difference *d)
{
	return d->t->code[3] == 0xf8;
}

static bool unknown_cr4(const struct difference *d)
{
	return (loaded(d) ^ d->t->in.cr4) & ~UINT64_C(0x7ff);
}

static bool features_leaf(const struct difference *d)
{
	return loaded(d) == 1 || loaded(d) == 7;
}

static bool crosses_page(const struct difference *d)
{
	return d->soft_out->s.rip == GPA_HALT + 15 && d->kvm_out->s.rip == GPA_HALT + 15 &&
	       ((d->soft_out->s.cr2 & 0xfff) > 0xff8 || (d->kvm_out->s.cr2 & 0xfff) == 0);
}

static bool msr_is(const struct difference *d, uint32_t first, uint32_t last)
{
	return d->soft_out->s.gpr[RCX] >= first && d->soft_out->s.gpr[RCX] <= last;
}

static bool msr_pat(const struct difference *d)
{
	return msr_is(d, 0x277, 0x277);
}

static bool msr_sysenter(const struct difference *d)
{
	return msr_is(d, 0x175, 0x176);
}

/* A host with five levels of page tables takes addresses of 57 bits into the MSRs that hold one. */
static bool canonical(uint64_t value, unsigned bits)
{
	return (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits)) == value;
}

static bool msr_address_57(const struct difference *d)
{
	uint64_t value = d->soft_out->s.gpr[RDX] << 32 | (uint32_t)d->soft_out->s.gpr[RAX];

	return (msr_is(d, 0xc0000082, 0xc0000083) || msr_is(d, 0xc0000100, 0xc0000102)) &&
	       d->soft_out->s.rip == GPA_HALT + 14 && canonical(value, 57) && !canonical(value, 48);
}

static bool table_address_57(const struct difference *d)
{
	uint64_t base =
		d->t->form->name[1] == 'g' ? d->kvm_out->s.gdtr.base : d->kvm_out->s.idtr.base;

	return d->soft_out->s.rip == GPA_HALT + 14 && canonical(base, 57) && !canonical(base, 48);
}

static bool from_ldt(const struct difference *d)
{
	return d->kvm_out->s.ldtr.selector & 4;
}

static bool short_tss(const struct difference *d)
{
	return (d->kvm_out->s.tr.attr & 0xf) == 3;
}

/* #UD, whose gate is not there. */
static bool benign_absent(const struct difference *d)
{
	const struct patch *gate = &d->t->patch[IN(d->t->mode) & IN_PAGED ? 2 : 1];

	return d->t->code[0] == 0x0f && d->t->code[1] == 0x0b && !(gate->value >> 47 & 1);
}

/* The first two patches are a far pointer, or a frame. */
static bool host_code(const struct difference *d)
{
	unsigned cs = d->t->patch[1].value & 0xfffc;

	return cs == 0x20 || cs == 0x30;
}

static bool upper_address(const struct difference *d)
{
	return d->kvm_out->s.rip == GPA_HALT + 15 && d->kvm_out->s.cr2 >> 63;
}

static bool misaligned(const struct difference *d)
{
	return d->soft_out->s.rip == GPA_HALT + 18;
}

static bool leaves_half(const struct difference *d)
{
	return d->soft_out->s.rip == GPA_HALT + 14 && d->kvm_out->s.rip == GPA_HALT + 15 &&
	       d->kvm_out->s.cr2 >> 47 == 0 && d->kvm_out->s.cr2 >= UINT64_C(0x7ffffffffff1);
}

static bool iret_narrow(const struct difference *d)
{
	return d->t->code[d->t->len - 2] != 0x48;
}

static bool selector_plain(uint64_t selector)
{
	return selector >= 8 && selector < SEL_ZOO && selector != SEL_TSS && selector != SEL_LDT;
}

/* Does the frame lead to segments that are not what they should be? */
static bool iret_segments(const struct difference *d)
{
	const struct patch *p = d->t->patch;
	unsigned cs = p[1].value & 0xffff, ss = p[4].value & 0xffff;
	bool data = ss == SEL_KDATA || ss == SEL_UDATA || ss == SEL_DATA16 || ss == SEL_UDATA16;

	return !selector_plain(cs) || !data || (cs & 3) != (ss & 3);
}

static bool iret_outer(const struct difference *d)
{
	return (d->t->patch[1].value & 3) == 3;
}

static bool iret_target(const struct difference *d)
{
	uint64_t rip = d->t->patch[0].value, cs = d->t->patch[1].value & 0xfffc;

	if (cs == (SEL_KCODE16 & ~3u) || cs == (SEL_UCODE16 & ~3u))
		return rip > UINT16_MAX;
	return (uint64_t)((int64_t)(rip << 16) >> 16) != rip || rip > UINT32_MAX;
}

static bool enables_paging(const struct difference *d)
{
	return loaded(d) >> 31;
}

static bool resume_flag(const struct difference *d)
{
	uint64_t other = d->soft ^ d->kvm;

	/* In 32-bit code two words of the frame are one field. */
	return (other == 0x10000 || other == UINT64_C(0x1000000000000)) && (d->soft & other);
}

static const struct rule rules[] = {
	{EMULATED, "mov_to_cr0", IN_LONG, NULL, upper_half, "MOV to CR0: bits 63:32 are ignored"},
	{EMULATED, "mov_to_cr4", IN_LONG, NULL, upper_half, "MOV to CR4: bits 63:32 are ignored"},
	{EMULATED, "mov_to_dr4", IN_LONG, NULL, upper_half,
	 "MOV to DR4 as DR6: bits 63:32 are ignored"},
	{EMULATED, "mov_to_dr7", IN_ALL, "dr7", debug_bit_11, "bit 11 of DR7 (RTM) is kept"},
	{EMULATED, "mov_to_dr4", IN_ALL, "dr6", debug_bit_16, "bit 16 of DR6 (RTM) is kept"},
	{EMULATED, "mov_to_dr6", IN_ALL, "dr6", debug_bit_16, "bit 16 of DR6 (RTM) is kept"},
	{EMULATED, NULL, IN_CPL3, NULL, vectors_13_and_6,
	 "at CPL 3 a privileged instruction is #GP before it is #UD"},
	{EMULATED, "swapgs", IN_NARROW, NULL, NULL, "SWAPGS outside of 64-bit code works"},
	{EMULATED, "iret", IN_ALL, "rflags", raw_flags, "IRET: bits that RFLAGS has not are kept"},
	{EMULATED, "iret", IN_PROT, FLAGS_SLOT, raw_flags,
	 "IRET: bits that RFLAGS has not are kept"},
	{EMULATED, NULL, IN_CPL3, NULL, not_emulated,
	 "at CPL 3 what the emulator does not know becomes #UD: 16-bit code, gates, other modes"},
	{EMULATED, "ltr", IN_PROT, "[", ltr_error_lost,
	 "LTR: no error code for a selector of the LDT"},
	{EMULATED, "iret", IN_PROT, "[", error_lost, "IRET: no error code for a bad selector"},
	{EMULATED, "iret", IN_LONG, NULL, iret_narrow,
	 "IRET in 64-bit code takes no frame of 32 bits"},
	{EMULATED, "iret", IN_PROT, NULL, iret_segments, "IRET does not check CS and SS"},
	{EMULATED, "iret", IN_PROT, NULL, iret_target, "IRET does not check the target"},
	{EMULATED, "iret", IN_PROT, "es.", iret_outer, NO_DROP},
	{EMULATED, "iret", IN_PROT, "ds.", iret_outer, NO_DROP},
	{EMULATED, "iret", IN_PROT, "fs.", iret_outer, NO_DROP},
	{EMULATED, "iret", IN_PROT, "gs.", iret_outer, NO_DROP},
	{EMULATED, "mov_to_cr0", IN_LEGACY | IN(MODE_REAL), NULL, enables_paging, NO_PAGING},
	{EMULATED, "ltr", IN(MODE_LONG0) | IN(MODE_COMPAT0), NULL, short_tss,
	 "LTR takes a 16-bit TSS in long mode"},
	{EMULATED, "ltr", IN(MODE_COMPAT0), NULL, NULL, NO_UPPER},
	{EMULATED, "lldt", IN(MODE_COMPAT0), NULL, NULL, NO_UPPER},
	{EMULATED, NULL, IN_PROT, "rflags", ac_cleared, "events clear AC"},
	{EMULATED, "call_far", IN(MODE_LONG3), NULL, host_code, HOST_GDT},
	{EMULATED, "jmp_far", IN(MODE_LONG3), NULL, host_code, HOST_GDT},
	{EMULATED, "retf", IN(MODE_LONG3), NULL, host_code, HOST_GDT},
	{EMULATED, "iret", IN(MODE_LONG3), NULL, host_code, HOST_GDT},
	{EMULATED, "page_", IN(MODE_LONG3), NULL, upper_address, HOST_HALF},
	{EMULATED, "sys", IN_LONG, "[197d0]", upper_address, HOST_HALF},
	{EMULATED, "iret", IN_LONG, "[197d0]", upper_address, HOST_HALF},
	{EMULATED, NULL, IN_NARROW3, NULL, misaligned, NO_ALIGN},
	{BY_ALL, NULL, IN_LONG, NULL, leaves_half,
	 "whether an access that begins on an absent page and leaves its half is #GP or #PF is not "
	 "defined"},
	{TCG, NULL, IN_PROT, "[", resume_flag, "faults push RFLAGS without RF"},
	{EMULATED, "mov_to_dr", IN_PROT, "[", resume_flag, NO_RESUME},
	{EMULATED, "mov_from_dr", IN_PROT, "[", resume_flag, NO_RESUME},
	{EMULATED, "lldt", IN_PROT, NULL, from_ldt, "LLDT takes a descriptor of the LDT"},
	{EMULATED, "gate_", IN_PROT, NULL, benign_absent,
	 "an absent gate of a benign exception is #DF, not #NP"},
	{EMULATED, "sysret", IN_KERNEL, NULL, NULL, "SYSRET without REX.W returns to 64-bit code"},
	{EMULATED, "sysexit", IN_CPL0, NULL, sysenter_cs_null,
	 "SYSEXIT in 64-bit code: a null IA32_SYSENTER_CS of 1..3 counts as good"},
	{EMULATED, "page_descriptor", IN_LONG | IN_COMPAT, NULL, soft_shutdown, NO_CHECK},
	{EMULATED, "gate_", IN_PROT, NULL, gate_bad, NO_CHECK},
	{EMULATED, NULL, IN_PROT, "cr2", double_fault,
	 "CR2 is not set by a page fault that becomes #DF"},
	{EMULATED, NULL, IN_PROT, "ss.", null_stack, "a null SS gets a descriptor"},
	{EMULATED, "mov_to_dr", IN_ALL, NULL, guarded,
	 "MOV to DR: reserved bits are looked at before DR7.GD"},
	{EMULATED, "locked", IN_ALL, NULL, locked_swapgs, "LOCK SWAPGS is taken"},
	{EMULATED, "mov_to_cr4", IN_ALL, NULL, unknown_cr4,
	 "CR4: bits that the host has and the model has not are taken"},
	{EMULATED, "cpuid", IN_ALL, "r", features_leaf,
	 "CPUID leaves 1 and 7 have the host's features"},
	{BY_ALL, NULL, IN_PROT, NULL, crosses_page,
	 "which of two pages' faults an access across them raises is not defined"},
	{EMULATED, "wrmsr", IN_ALL, NULL, msr_pat, "PAT: memory types are not checked"},
	{EMULATED, "wrmsr", IN_ALL, NULL, msr_sysenter,
	 "SYSENTER's MSRs: made canonical instead of refused"},
	{EMULATED, "wrmsr", IN_ALL, NULL, msr_address_57,
	 "addresses in MSRs have the host's 57 bits"},
	{EMULATED, "lgdt", IN_LONG, NULL, table_address_57,
	 "addresses of tables have the host's 57 bits"},
	{EMULATED, "lidt", IN_LONG, NULL, table_address_57,
	 "addresses of tables have the host's 57 bits"},
	{EMULATED, "step_mov_ss", IN_PROT, NULL, NULL, "MOV SS does not hold the trap back"},
	{EMULATED, "iret", IN_PROT, "rflags", user_flags, HOST_FLAG},
	{EMULATED, "retf", IN_PROT, "rflags", user_flags, HOST_FLAG},
	{EMULATED, "sys", IN_PROT, "rflags", user_flags, HOST_FLAG},
	{EMULATED, "retf", IN_PROT, FLAGS_SLOT, user_flags, HOST_FLAG},
	{EMULATED, "sys", IN_PROT, FLAGS_SLOT, user_flags, HOST_FLAG},
};
static unsigned excused[COUNT(rules)];

static bool begins(const char *text, const char *with)
{
	return !with || strncmp(text, with, strlen(with)) == 0;
}

bool oracle_excuses(enum oracle oracle, const struct test_case *t, const char *field, uint64_t soft,
		    uint64_t kvm, const struct outcome *soft_out, const struct outcome *kvm_out)
{
	struct difference d = {t, field, soft, kvm, soft_out, kvm_out};

	for (unsigned n = 0; n < COUNT(rules); n++) {
		const struct rule *r = &rules[n];

		if (!(r->oracles & BY(oracle)) || !(r->modes & IN(t->mode)) ||
		    !begins(t->form->name, r->form) || !begins(field, r->field) ||
		    (r->fits && !r->fits(&d)))
			continue;
		excused[n]++;
		return true;
	}
	return false;
}

bool oracle_plain(enum oracle oracle, const struct form *f, enum run_mode mode)
{
	if (oracle_lacks(oracle, f, mode))
		return false;
	for (unsigned n = 0; n < COUNT(rules); n++)
		if (rules[n].oracles != BY_ALL && (rules[n].oracles & BY(oracle)) &&
		    (rules[n].modes & IN(mode)) && rules[n].form && begins(f->name, rules[n].form))
			return false;
	return true;
}

void oracle_report(void)
{
	for (unsigned n = 0; n < COUNT(rules); n++)
		if (excused[n])
			printf("excused %6u fields, %s: %s\n", excused[n],
			       rules[n].form ? rules[n].form : "any form", rules[n].reason);
}
