/* SPDX-License-Identifier: Apache-2.0 */
/* The architectural state in KVM's structures: reading all of it, and checking and setting it. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "vmm/cpu/kvm/kvm_parts.h"

#define FLAG_IF	   (1u << 9)
#define FLAG_FIXED (1u << 1)

#define CR0_ET (1u << 4)

#define ATTR_DPL(attr) ((attr) >> 5 & 3)
#define ATTR_P	       (1u << 7)

/* FXSAVE's image: the processor's part, then room that is software's. */
#define FXSAVE_USED   416u
#define MXCSR_AT      24u
#define MXCSR_MASK_AT 28u
/* What every x86-64 processor's MXCSR has. */
#define MXCSR_MASK 0xffffu
/* The XSAVE header's first word: which parts are not in their initial state. */
#define XSAVE_HEADER_AT 512u
#define XSAVE_X87_SSE	3u
#define XSAVE_AVX	4u
#define XSAVE_AVX_AT	576u /* upper halves of YMM */

/* ---- segments ---- */

static struct kvm_segment segment_to_kvm(const struct vcpu_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & 0xf,
		.s = s->attr >> 4 & 1,
		.dpl = ATTR_DPL(s->attr),
		.present = s->attr >> 7 & 1,
		.avl = s->attr >> 8 & 1,
		.l = s->attr >> 9 & 1,
		.db = s->attr >> 10 & 1,
		.g = s->attr >> 11 & 1,
		.unusable = !(s->attr & ATTR_P),
	};
}

/* Of a segment that cannot be used processors keep different things; only the privilege counts. */
static struct vcpu_segment segment_from_kvm(const struct kvm_segment *k)
{
	unsigned attr = (unsigned)k->type | (unsigned)k->s << 4 | (unsigned)k->dpl << 5 |
			(unsigned)k->present << 7 | (unsigned)k->avl << 8 | (unsigned)k->l << 9 |
			(unsigned)k->db << 10 | (unsigned)k->g << 11;

	if (k->unusable || !k->present)
		attr = (unsigned)k->dpl << 5;
	return (struct vcpu_segment){.base = k->base,
				     .limit = k->limit,
				     .selector = k->selector,
				     .attr = (uint16_t)attr};
}

/* vcpu.h's order of segments. */
static void segments_to_kvm(const struct vcpu_state *s, struct kvm_sregs *k)
{
	struct kvm_segment *const to[SEG_COUNT] = {&k->es, &k->cs, &k->ss, &k->ds, &k->fs, &k->gs};

	for (unsigned n = 0; n < SEG_COUNT; n++)
		*to[n] = segment_to_kvm(&s->seg[n]);
	k->ldt = segment_to_kvm(&s->ldtr);
	k->tr = segment_to_kvm(&s->tr);
	k->gdt.base = s->gdtr.base;
	k->gdt.limit = s->gdtr.limit;
	k->idt.base = s->idtr.base;
	k->idt.limit = s->idtr.limit;
}

static void segments_from_kvm(const struct kvm_sregs *k, struct vcpu_state *s)
{
	const struct kvm_segment *const from[SEG_COUNT] = {&k->es, &k->cs, &k->ss,
							   &k->ds, &k->fs, &k->gs};

	for (unsigned n = 0; n < SEG_COUNT; n++)
		s->seg[n] = segment_from_kvm(from[n]);
	s->ldtr = segment_from_kvm(&k->ldt);
	s->tr = segment_from_kvm(&k->tr);
	s->gdtr = (struct vcpu_table){.base = k->gdt.base, .limit = k->gdt.limit};
	s->idtr = (struct vcpu_table){.base = k->idt.base, .limit = k->idt.limit};
}

/* ---- general registers ---- */

static void regs_to_kvm(const struct vcpu_state *s, struct kvm_regs *k)
{
	const uint64_t *r = s->gpr;

	*k = (struct kvm_regs){
		.rax = r[RAX],
		.rbx = r[RBX],
		.rcx = r[RCX],
		.rdx = r[RDX],
		.rsi = r[RSI],
		.rdi = r[RDI],
		.rsp = r[RSP],
		.rbp = r[RBP],
		.r8 = r[R8],
		.r9 = r[R9],
		.r10 = r[R10],
		.r11 = r[R11],
		.r12 = r[R12],
		.r13 = r[R13],
		.r14 = r[R14],
		.r15 = r[R15],
		.rip = s->rip,
		.rflags = s->rflags | FLAG_FIXED,
	};
}

static void regs_from_kvm(const struct kvm_regs *k, struct vcpu_state *s)
{
	const uint64_t gpr[16] = {k->rax, k->rcx, k->rdx, k->rbx, k->rsp, k->rbp, k->rsi, k->rdi,
				  k->r8,  k->r9,  k->r10, k->r11, k->r12, k->r13, k->r14, k->r15};

	memcpy(s->gpr, gpr, sizeof(gpr));
	s->rip = k->rip;
	s->rflags = k->rflags;
}

/* ---- MSRs ---- */

/* In both directions in this order. The last two may be refused for a guest that does not know
 * them: their values are then kept here. */
static const uint32_t msr_index[] = {MSR_STAR,	       MSR_LSTAR,	   MSR_CSTAR,
				     MSR_SFMASK,       MSR_KERNEL_GS_BASE, MSR_SYSENTER_CS,
				     MSR_SYSENTER_ESP, MSR_SYSENTER_EIP,   MSR_PAT,
				     MSR_TSC_AUX,      MSR_MISC_ENABLE};
#define MSRS	      (sizeof(msr_index) / sizeof(msr_index[0]))
#define MSRS_REQUIRED (MSRS - 2)

struct msr_list {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[MSRS];
};

static void msr_fields(struct vcpu_state *s, uint64_t *field[MSRS])
{
	uint64_t *const fields[MSRS] = {&s->star,	  &s->lstar,	      &s->cstar,
					&s->sfmask,	  &s->kernel_gs_base, &s->sysenter_cs,
					&s->sysenter_esp, &s->sysenter_eip,   &s->pat,
					&s->tsc_aux,	  &s->misc_enable};

	memcpy(field, fields, sizeof(fields));
}

static int msrs_set(struct kvm_cpu *c, const struct vcpu_state *state)
{
	struct vcpu_state copy = *state;
	struct msr_list list = {.head.nmsrs = MSRS};
	uint64_t *field[MSRS];
	int done;

	msr_fields(&copy, field);
	for (unsigned i = 0; i < MSRS; i++)
		list.entry[i] = (struct kvm_msr_entry){.index = msr_index[i], .data = *field[i]};
	done = ioctl(c->fd, KVM_SET_MSRS, &list);
	if (done < 0)
		return -errno;
	if ((unsigned)done == MSRS_REQUIRED) {
		/* TSC_AUX is not known: go on with what follows. */
		list.entry[0] = list.entry[MSRS - 1];
		list.head.nmsrs = 1;
		(void)ioctl(c->fd, KVM_SET_MSRS, &list);
	}
	c->tsc_aux = state->tsc_aux;
	c->misc_enable = state->misc_enable;
	return (unsigned)done < MSRS_REQUIRED ? -EINVAL : 0;
}

static int msrs_get(struct kvm_cpu *c, struct vcpu_state *s)
{
	struct msr_list list = {.head.nmsrs = MSRS};
	uint64_t *field[MSRS];
	int done;

	msr_fields(s, field);
	s->tsc_aux = c->tsc_aux;
	s->misc_enable = c->misc_enable;
	for (unsigned i = 0; i < MSRS; i++)
		list.entry[i].index = msr_index[i];
	done = ioctl(c->fd, KVM_GET_MSRS, &list);
	if (done < 0)
		return -errno;
	for (unsigned i = 0; i < (unsigned)done; i++)
		*field[i] = list.entry[i].data;
	return (unsigned)done < MSRS_REQUIRED ? -EIO : 0;
}

/* ---- x87 and SSE ---- */

static uint32_t image_u32(const uint8_t *image, unsigned at)
{
	uint32_t value;

	memcpy(&value, image + at, sizeof(value));
	return value;
}

/* An area as KVM_GET_XSAVE of a guest without larger features has it: one page. */
union xsave_area {
	struct kvm_xsave kvm;
	uint8_t bytes[PANGEA_PAGE_SIZE];
};

/* XCR0 of a model that has XSAVE; of others KVM knows none, and it is 1. */
static int xcr0_set(struct kvm_cpu *c, uint64_t xcr0)
{
	struct kvm_xcrs k = {.nr_xcrs = 1};

	if (!kvm_model_has(c, CPU_XSAVE))
		return 0;
	k.xcrs[0].value = xcr0;
	return ioctl(c->fd, KVM_SET_XCRS, &k) < 0 ? -errno : 0;
}

static int xcr0_get(struct kvm_cpu *c, uint64_t *xcr0)
{
	struct kvm_xcrs k;

	*xcr0 = 1;
	if (!kvm_model_has(c, CPU_XSAVE))
		return 0;
	if (ioctl(c->fd, KVM_GET_XCRS, &k) < 0)
		return -errno;
	for (uint32_t n = 0; n < k.nr_xcrs; n++)
		if (k.xcrs[n].xcr == 0)
			*xcr0 = k.xcrs[n].value;
	return 0;
}

static int fpu_set(struct kvm_cpu *c, const struct vcpu_state *s)
{
	union xsave_area area;
	uint64_t parts = XSAVE_X87_SSE;
	int err = xcr0_set(c, s->xcr0);

	if (err)
		return err;
	memset(&area, 0, sizeof(area));
	memcpy(area.bytes, s->fxsave, FXSAVE_USED);
	if (kvm_model_has(c, CPU_AVX)) {
		parts |= XSAVE_AVX;
		memcpy(area.bytes + XSAVE_AVX_AT, s->ymm_high, sizeof(s->ymm_high));
	}
	memcpy(area.bytes + XSAVE_HEADER_AT, &parts, sizeof(parts));
	return ioctl(c->fd, KVM_SET_XSAVE, &area.kvm) < 0 ? -errno : 0;
}

static int fpu_get(struct kvm_cpu *c, struct vcpu_state *s)
{
	const uint32_t mask = MXCSR_MASK;
	union xsave_area area;
	uint64_t parts;

	if (ioctl(c->fd, KVM_GET_XSAVE, &area.kvm) < 0)
		return -errno;
	memcpy(s->fxsave, area.bytes, FXSAVE_USED);
	memcpy(s->fxsave + MXCSR_MASK_AT, &mask, sizeof(mask));
	memcpy(&parts, area.bytes + XSAVE_HEADER_AT, sizeof(parts));
	if (parts & XSAVE_AVX) /* else they are zero */
		memcpy(s->ymm_high, area.bytes + XSAVE_AVX_AT, sizeof(s->ymm_high));
	return xcr0_get(c, &s->xcr0);
}

/* ---- system registers ---- */

static int sregs_set(struct kvm_cpu *c, const struct vcpu_state *s)
{
	struct kvm_sregs k;
	uint64_t apic_base = 0;

	/* KVM's copy only tells its CPUID that there is an APIC. */
	if (c->config.bus.msr_read(c->config.bus.ctx, c->vcpu.id, MSR_APIC_BASE, &apic_base))
		return -EINVAL;
	memset(&k, 0, sizeof(k));
	segments_to_kvm(s, &k);
	k.cr0 = s->cr0 | CR0_ET;
	k.cr2 = s->cr2;
	k.cr3 = s->cr3;
	k.cr4 = s->cr4;
	k.cr8 = c->config.bus.cr8_read(c->config.bus.ctx, c->vcpu.id);
	k.efer = s->efer;
	k.apic_base = apic_base;
	return ioctl(c->fd, KVM_SET_SREGS, &k) < 0 ? -errno : 0;
}

static int sregs_get(struct kvm_cpu *c, struct vcpu_state *s)
{
	struct kvm_sregs k;

	if (ioctl(c->fd, KVM_GET_SREGS, &k) < 0)
		return -errno;
	segments_from_kvm(&k, s);
	s->cr0 = k.cr0;
	s->cr2 = k.cr2;
	s->cr3 = k.cr3;
	s->cr4 = k.cr4;
	s->efer = k.efer;
	return 0;
}

static int debug_set(struct kvm_cpu *c, const struct vcpu_state *s)
{
	struct kvm_debugregs k = {.dr6 = s->dr6, .dr7 = s->dr7};

	memcpy(k.db, s->dr, sizeof(k.db));
	return ioctl(c->fd, KVM_SET_DEBUGREGS, &k) < 0 ? -errno : 0;
}

static int debug_get(struct kvm_cpu *c, struct vcpu_state *s)
{
	struct kvm_debugregs k;

	if (ioctl(c->fd, KVM_GET_DEBUGREGS, &k) < 0)
		return -errno;
	memcpy(s->dr, k.db, sizeof(k.db));
	s->dr6 = k.dr6;
	s->dr7 = k.dr7;
	return 0;
}

/* ---- events ---- */

/* STI's shadow cannot be with interrupts off: VT-x refuses such a guest. Then it is MOV SS's. */
static uint8_t shadow_to_kvm(const struct vcpu_state *s)
{
	if (!s->irq_shadow)
		return 0;
	return s->rflags & FLAG_IF ? KVM_X86_SHADOW_INT_STI : KVM_X86_SHADOW_INT_MOV_SS;
}

static int events_set(struct kvm_cpu *c, const struct vcpu_state *s)
{
	struct kvm_vcpu_events k = {
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
		.interrupt.shadow = shadow_to_kvm(s),
		.nmi.masked = s->nmi_blocked,
		.nmi.pending = s->nmi_pending,
	};

	if (s->event == VCPU_EVENT_INTERRUPT) {
		k.interrupt.injected = 1;
		k.interrupt.nr = s->event_vector;
	} else if (s->event == VCPU_EVENT_EXCEPTION) {
		k.exception.injected = 1;
		k.exception.nr = s->event_vector;
		k.exception.has_error_code = s->event_has_error;
		k.exception.error_code = s->event_error;
	}
	return ioctl(c->fd, KVM_SET_VCPU_EVENTS, &k) < 0 ? -errno : 0;
}

/* An NMI whose delivery was interrupted is latched and not yet blocking: it is delivered again. */
static int events_get(struct kvm_cpu *c, struct vcpu_state *s)
{
	struct kvm_vcpu_events k;

	if (ioctl(c->fd, KVM_GET_VCPU_EVENTS, &k) < 0)
		return -errno;
	s->irq_shadow = k.interrupt.shadow != 0;
	s->nmi_pending = k.nmi.pending || k.nmi.injected;
	s->nmi_blocked = k.nmi.masked && !k.nmi.injected;
	if (k.exception.injected || k.exception.pending) {
		s->event = VCPU_EVENT_EXCEPTION;
		s->event_vector = k.exception.nr;
		s->event_has_error = k.exception.has_error_code;
		s->event_error = k.exception.has_error_code ? k.exception.error_code : 0;
	} else if (k.interrupt.injected) {
		s->event = VCPU_EVENT_INTERRUPT;
		s->event_vector = k.interrupt.nr;
	}
	return 0;
}

/* ---- all ---- */

void kvm_state_get(const struct vcpu *v, struct vcpu_state *out)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	struct kvm_regs regs;
	int err;

	memset(out, 0, sizeof(*out));
	err = ioctl(c->fd, KVM_GET_REGS, &regs) < 0 ? -errno : 0;
	if (!err) {
		regs_from_kvm(&regs, out);
		err = sregs_get(c, out);
	}
	if (!err)
		err = debug_get(c, out);
	if (!err)
		err = msrs_get(c, out);
	if (!err)
		err = fpu_get(c, out);
	if (!err)
		err = events_get(c, out);
	if (err) {
		/* None of these calls fails on a vCPU that exists; run must not go on if one does.
		 */
		log_error("vCPU %u: KVM does not tell its state: %s", v->id, error_text(err));
		c->error = err;
	}
	out->tsc_offset = c->tsc_offset;
	out->halted = c->halted;
}

static bool event_valid(const struct vcpu_state *s)
{
	switch (s->event) {
	case VCPU_EVENT_NONE:
		return true;
	case VCPU_EVENT_INTERRUPT: /* else nobody could have injected it */
		return (s->rflags & FLAG_IF) && !s->irq_shadow;
	case VCPU_EVENT_EXCEPTION:
		return s->event_vector < 32 && s->event_vector != 2;
	default:
		return false;
	}
}

/* What no sequence of instructions could have made; the rest KVM checks. */
static bool state_valid(const struct vcpu_state *s)
{
	return vcpu_state_possible(s) && event_valid(s) &&
	       !(image_u32(s->fxsave, MXCSR_AT) & ~MXCSR_MASK);
}

/* MSRs after EFER and CR4 (in sregs), events last: the others clear a shadow. */
static int state_put(struct kvm_cpu *c, const struct vcpu_state *s)
{
	struct kvm_regs regs;
	int err = sregs_set(c, s);

	regs_to_kvm(s, &regs);
	if (!err && ioctl(c->fd, KVM_SET_REGS, &regs) < 0)
		err = -errno;
	if (!err)
		err = debug_set(c, s);
	if (!err)
		err = msrs_set(c, s);
	if (!err)
		err = fpu_set(c, s);
	return err ? err : events_set(c, s);
}

int kvm_state_set(struct vcpu *v, const struct vcpu_state *s)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	int err;

	if (!state_valid(s))
		return -EINVAL;
	err = state_put(c, s);
	if (err)
		return err;
	c->tsc_offset = s->tsc_offset;
	c->halted = s->halted && !s->event && !(s->nmi_pending && !s->nmi_blocked);
	c->shut_down = false;
	c->error = 0;
	c->ready = (s->rflags & FLAG_IF) && !s->irq_shadow && !s->event;
	return kvm_tsc_apply(c);
}
