/* SPDX-License-Identifier: Apache-2.0 */
/* Compares how two machines ended a case, field by field, and prints a case that differs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/softkvm/softkvm.h"

#define DIFFERENCES_PRINTED 12u
#define ATTR_P		    0x80u

struct judge {
	enum oracle oracle;
	const struct test_case *t;
	const struct outcome *soft, *kvm;
	bool print;
	unsigned found; /* differences that nothing excuses */
};

static void state_print(const struct judge *j);

static void differ(struct judge *j, const char *field, uint64_t soft, uint64_t kvm)
{
	if (oracle_excuses(j->oracle, j->t, field, soft, kvm, j->soft, j->kvm))
		return;
	if (j->print && !j->found)
		state_print(j);
	if (j->print && j->found < DIFFERENCES_PRINTED)
		printf("    %-12s soft %lx, kvm %lx\n", field, (unsigned long)soft,
		       (unsigned long)kvm);
	j->found++;
}

static void number(struct judge *j, const char *field, uint64_t soft, uint64_t kvm)
{
	if (soft != kvm)
		differ(j, field, soft, kvm);
}

/* ---- Segments -------------------------------------------------------------------------------- */

static void part(struct judge *j, const char *name, const char *suffix, uint64_t soft, uint64_t kvm)
{
	char field[24];

	snprintf(field, sizeof(field), "%s.%s", name, suffix);
	number(j, field, soft, kvm);
}

/* Of a register that holds no segment only the selector counts, the privilege that SS tells, and
 * the base of FS and GS. */
static void segment(struct judge *j, const char *name, const struct vcpu_segment *soft,
		    const struct vcpu_segment *kvm)
{
	bool used = (soft->attr | kvm->attr) & ATTR_P;

	part(j, name, "selector", soft->selector, kvm->selector);
	if (used || name[0] == 'f' || name[0] == 'g')
		part(j, name, "base", soft->base, kvm->base);
	if (used)
		part(j, name, "limit", soft->limit, kvm->limit);
	if (used)
		part(j, name, "attr", soft->attr, kvm->attr);
	else if (strcmp(name, "ss") == 0)
		part(j, name, "dpl", soft->attr >> 5 & 3, kvm->attr >> 5 & 3);
}

static void segments(struct judge *j)
{
	static const char *const names[SEG_COUNT] = {"es", "cs", "ss", "ds", "fs", "gs"};
	const struct vcpu_state *a = &j->soft->s, *b = &j->kvm->s;

	for (unsigned n = 0; n < SEG_COUNT; n++)
		segment(j, names[n], &a->seg[n], &b->seg[n]);
	segment(j, "ldtr", &a->ldtr, &b->ldtr);
	segment(j, "tr", &a->tr, &b->tr);
	number(j, "gdtr.base", a->gdtr.base, b->gdtr.base);
	number(j, "gdtr.limit", a->gdtr.limit, b->gdtr.limit);
	number(j, "idtr.base", a->idtr.base, b->idtr.base);
	number(j, "idtr.limit", a->idtr.limit, b->idtr.limit);
}

/* ---- Registers ------------------------------------------------------------------------------- */

static void general(struct judge *j)
{
	static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
					      "rsi", "rdi", "r8",  "r9",  "r10", "r11",
					      "r12", "r13", "r14", "r15"};

	number(j, "rip", j->soft->s.rip, j->kvm->s.rip);
	number(j, "rflags", j->soft->s.rflags, j->kvm->s.rflags);
	for (unsigned n = 0; n < 16; n++)
		number(j, names[n], j->soft->s.gpr[n], j->kvm->s.gpr[n]);
}

#define SYSTEM_FIELDS(X)                                                                           \
	X(cr0)                                                                                     \
	X(cr2)                                                                                     \
	X(cr3)                                                                                     \
	X(cr4)                                                                                     \
	X(efer)                                                                                    \
	X(dr6)                                                                                     \
	X(dr7)                                                                                     \
	X(star)                                                                                    \
	X(lstar)                                                                                   \
	X(cstar)                                                                                   \
	X(sfmask)                                                                                  \
	X(kernel_gs_base)                                                                          \
	X(sysenter_cs)                                                                             \
	X(sysenter_esp)                                                                            \
	X(sysenter_eip)                                                                            \
	X(pat)                                                                                     \
	X(tsc_aux)                                                                                 \
	X(misc_enable)                                                                             \
	X(irq_shadow)                                                                              \
	X(nmi_blocked)                                                                             \
	X(halted)                                                                                  \
	X(event)

static void system_registers(struct judge *j)
{
#define X(name) number(j, #name, j->soft->s.name, j->kvm->s.name);
	SYSTEM_FIELDS(X)
#undef X
	for (unsigned n = 0; n < 4; n++) {
		char field[] = {'d', 'r', (char)('0' + n), '\0'};

		number(j, field, j->soft->s.dr[n], j->kvm->s.dr[n]);
	}
	number(j, "cr8", j->soft->cr8, j->kvm->cr8);
}

/* x87 and SSE, but for FOP, FIP and FDP and what lies behind XMM15. */
static void vectors(struct judge *j)
{
	for (unsigned n = 0; n < 416; n++)
		if ((n < 6 || n >= 24) && j->soft->s.fxsave[n] != j->kvm->s.fxsave[n]) {
			differ(j, "fxsave", n, j->kvm->s.fxsave[n]);
			return;
		}
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void memory(struct judge *j, const uint8_t *soft, const uint8_t *kvm, uint32_t gpa,
		   uint32_t bytes)
{
	if (memcmp(soft + gpa, kvm + gpa, bytes) == 0)
		return;
	for (uint32_t at = gpa; at < gpa + bytes; at += 8) {
		uint64_t a, b;
		char field[24];

		memcpy(&a, soft + at, 8);
		memcpy(&b, kvm + at, 8);
		snprintf(field, sizeof(field), "[%x]", at);
		number(j, field, a, b);
	}
}

/* ---- Cases ----------------------------------------------------------------------------------- */

const char *mode_name(enum run_mode mode)
{
	static const char *const names[MODE_COUNT] = {"long0", "long3", "compat0", "compat3",
						      "prot0", "prot3", "real"};

	return names[mode];
}

/* Which stub's HLT it was: the vector, or -1. */
static int vector_of(const struct vcpu_state *s)
{
	uint64_t linear = s->rip + s->seg[SEG_CS].base - 1;

	return linear >= GPA_HALT && linear < GPA_HALT + 256 ? (int)(linear - GPA_HALT) : -1;
}

static void state_print(const struct judge *j)
{
	const struct test_case *t = j->t;

	printf("%s, %s, case %lx, code at %lx:", t->form->name, mode_name(t->mode),
	       (unsigned long)t->seed, (unsigned long)t->in.rip);
	for (unsigned n = 0; n < t->len; n++)
		printf(" %02x", t->code[n]);
	printf("\n    cr0 %lx cr4 %lx efer %lx rflags %lx; soft: exit %d vector %d; kvm: exit %d "
	       "vector %d\n",
	       (unsigned long)t->in.cr0, (unsigned long)t->in.cr4, (unsigned long)t->in.efer,
	       (unsigned long)t->in.rflags, j->soft->reason, vector_of(&j->soft->s), j->kvm->reason,
	       vector_of(&j->kvm->s));
}

/* What the case puts into memory. */
static void patches_print(const struct test_case *t)
{
	printf("    gdtr %lx:%x idtr %lx:%x\n", (unsigned long)t->in.gdtr.base, t->in.gdtr.limit,
	       (unsigned long)t->in.idtr.base, t->in.idtr.limit);
	for (unsigned n = 0; n < t->patches; n++)
		printf("    [%x] = %lx (%u bytes)\n", t->patch[n].gpa,
		       (unsigned long)t->patch[n].value, t->patch[n].size);
}

bool outcome_equal(enum oracle oracle, const struct test_case *t,
		   const struct machine *soft_machine, const struct machine *kvm_machine,
		   const struct outcome *soft, const struct outcome *kvm, bool print)
{
	struct judge j = {oracle, t, soft, kvm, print, 0};

	if (soft->reason != kvm->reason) {
		differ(&j, "exit", (unsigned)soft->reason, (unsigned)kvm->reason);
		if (j.found)
			number(&j, "rip", soft->s.rip, kvm->s.rip);
	}
	/* After a shutdown a processor's state is not defined. */
	if (soft->reason == kvm->reason && soft->reason == VCPU_EXIT_HLT) {
		general(&j);
		segments(&j);
		system_registers(&j);
		vectors(&j);
		memory(&j, soft_machine->ram, kvm_machine->ram, 0, IMAGE_BYTES);
		memory(&j, soft_machine->ram, kvm_machine->ram, GPA_LARGE, LARGE_BYTES);
	} else if (soft->reason == kvm->reason && soft->reason != VCPU_EXIT_SHUTDOWN) {
		differ(&j, "no end", 0, 0);
	}
	if (j.found && print && getenv("SOFTKVM_CASE"))
		patches_print(t);
	return !j.found;
}
