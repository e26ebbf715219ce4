/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC's registers as MSRs (SDM 3A 11.12): every reserved bit is a #GP. */
#include <errno.h>

#include "vmm/apic/apic_parts.h"
#include "vmm/boot/layout.h"

/* Version 0x14, six LVT entries (the field holds the last index), no EOI-broadcast suppression. */
#define VERSION (0x14u | (APIC_LVTS - 1) << 16)

#define LVT_STATUS     (1u << 12) /* read-only: ignored when written */
#define LVT_REMOTE_IRR (1u << 14) /* likewise */

#define ICR_BUSY	 (1u << 12)
#define ICR_LOGICAL	 (1u << 11)
#define ICR_ASSERT	 (1u << 14)
#define ICR_LEVEL	 (1u << 15)
#define ICR_WRITABLE	 (0xffffffff00000000ull | 0xc0000u | 0xcfffu | ICR_BUSY)
#define ICR_DELIVERY(v)	 ((v) >> 8 & 7)
#define ICR_SHORTHAND(v) ((v) >> 18 & 3)

enum shorthand {
	SHORTHAND_NONE,
	SHORTHAND_SELF,
	SHORTHAND_ALL,
	SHORTHAND_OTHERS
};

/* The bits of each LVT entry that may be written, in register order. */
static const uint32_t lvt_bits[APIC_LVTS] = {
	0xffu | LVT_STATUS | APIC_LVT_MASKED | APIC_LVT_PERIODIC, /* timer: no TSC deadline */
	0x7ffu | LVT_STATUS | APIC_LVT_MASKED,			  /* thermal */
	0x7ffu | LVT_STATUS | APIC_LVT_MASKED,			  /* performance */
	0x7ffu | LVT_STATUS | 0x2000 | LVT_REMOTE_IRR | 0x8000 | APIC_LVT_MASKED, /* LINT0 */
	0x7ffu | LVT_STATUS | 0x2000 | LVT_REMOTE_IRR | 0x8000 | APIC_LVT_MASKED, /* LINT1 */
	0xffu | LVT_STATUS | APIC_LVT_MASKED,					  /* error */
};

static bool enabled(const struct apic *a)
{
	return atomic_load(&a->svr) & APIC_SVR_ENABLE;
}

/* ---- ICR ---- */

static bool icr_valid(uint64_t value)
{
	switch (ICR_DELIVERY(value)) {
	case IPI_FIXED:
	case IPI_LOWEST:
	case 2: /* SMI: goes nowhere */
	case IPI_NMI:
	case IPI_INIT:
	case IPI_SIPI:
		return !(value & ~ICR_WRITABLE);
	default:
		return false;
	}
}

static void icr_destination(const struct apic *a, uint64_t value, struct ipi *ipi)
{
	ipi->exclude = IPI_NOBODY;
	ipi->logical = false;
	switch ((enum shorthand)ICR_SHORTHAND(value)) {
	case SHORTHAND_NONE:
		ipi->dest = (uint32_t)(value >> 32);
		ipi->logical = value & ICR_LOGICAL;
		return;
	case SHORTHAND_SELF:
		ipi->dest = a->id;
		return;
	case SHORTHAND_ALL:
		ipi->dest = IPI_BROADCAST;
		return;
	case SHORTHAND_OTHERS:
		ipi->dest = IPI_BROADCAST;
		ipi->exclude = a->id;
		return;
	}
}

static void ipi_send(struct apic *a, const struct ipi *ipi)
{
	bool has_vector = ipi->delivery == IPI_FIXED || ipi->delivery == IPI_LOWEST;

	if (has_vector && ipi->vector < APIC_VECTOR_FIRST)
		apic_error(a, APIC_ESR_SEND_ILLEGAL);
	else
		a->env->ipi(a->env->ctx, a->vcpu, ipi);
}

static int icr_write(struct apic *a, uint64_t value)
{
	struct ipi ipi = {.vector = value & 0xff, .delivery = ICR_DELIVERY(value)};

	if (!icr_valid(value))
		return -EINVAL;
	a->icr = value & ~(uint64_t)ICR_BUSY;
	icr_destination(a, value, &ipi);
	if (ipi.delivery == 2)
		return 0;
	/* INIT level de-assert does nothing since the Pentium 4. IPIs are edge-triggered. */
	if (ipi.delivery == IPI_INIT && (value & ICR_LEVEL) && !(value & ICR_ASSERT))
		return 0;
	ipi_send(a, &ipi);
	return 0;
}

static void self_ipi(struct apic *a, uint8_t vector)
{
	struct ipi ipi = {.dest = a->id, .exclude = IPI_NOBODY, .vector = vector};

	ipi_send(a, &ipi);
}

/* ---- 32-bit registers ---- */

static int lvt_write(struct apic *a, unsigned index, uint32_t value)
{
	if (value & ~lvt_bits[index])
		return -EINVAL;
	value &= ~(LVT_STATUS | LVT_REMOTE_IRR);
	if (!enabled(a))
		value |= APIC_LVT_MASKED;
	atomic_store(&a->lvt[index], value);
	return 0;
}

static int svr_write(struct apic *a, uint32_t value)
{
	unsigned i;

	if (value & ~0x3ffu) /* bit 9, focus checking, does nothing */
		return -EINVAL;
	atomic_store(&a->svr, value);
	if (!(value & APIC_SVR_ENABLE))
		for (i = 0; i < APIC_LVTS; i++)
			atomic_fetch_or(&a->lvt[i], APIC_LVT_MASKED);
	return 0;
}

static int tpr_write(struct apic *a, uint32_t value)
{
	uint32_t old = a->tpr;

	if (value & ~0xffu)
		return -EINVAL;
	a->tpr = value;
	if (value < old)
		apic_recheck(a);
	return 0;
}

static int zero_write(struct apic *a, unsigned reg, uint32_t value)
{
	if (value)
		return -EINVAL;
	if (reg == APIC_EOI)
		apic_eoi(a);
	else
		a->esr = atomic_exchange(&a->esr_pending, 0);
	return 0;
}

static int register_write(struct apic *a, unsigned reg, uint32_t value)
{
	switch (reg) {
	case APIC_TPR:
		return tpr_write(a, value);
	case APIC_EOI:
	case APIC_ESR:
		return zero_write(a, reg, value);
	case APIC_SVR:
		return svr_write(a, value);
	case APIC_TIMER_INITIAL:
		apic_timer_initial_write(a, value);
		return 0;
	case APIC_TIMER_DIVIDE:
		if (value & ~0xbu)
			return -EINVAL;
		apic_timer_divide_write(a, value);
		return 0;
	case APIC_SELF_IPI:
		if (value & ~0xffu)
			return -EINVAL;
		self_ipi(a, (uint8_t)value);
		return 0;
	default:
		if (reg >= APIC_LVT_TIMER && reg < APIC_LVT_TIMER + APIC_LVTS)
			return lvt_write(a, reg - APIC_LVT_TIMER, value);
		return -EINVAL;
	}
}

static uint32_t bitmap_read(struct apic *a, unsigned reg)
{
	unsigned word = reg & 7, shift = (word & 1) * 32;

	if (reg < APIC_TMR)
		return (uint32_t)(a->isr[word / 2] >> shift);
	if (reg < APIC_IRR)
		return (uint32_t)(atomic_load(&a->tmr[word / 2]) >> shift);
	return (uint32_t)(atomic_load(&a->irr[word / 2]) >> shift);
}

static int register_read(struct apic *a, unsigned reg, uint64_t *value)
{
	switch (reg) {
	case APIC_ID:
		*value = a->id;
		return 0;
	case APIC_VERSION:
		*value = VERSION;
		return 0;
	case APIC_TPR:
		*value = a->tpr;
		return 0;
	case APIC_PPR:
		*value = apic_ppr(a);
		return 0;
	case APIC_LDR:
		*value = apic_logical_id(a->id);
		return 0;
	case APIC_SVR:
		*value = atomic_load(&a->svr);
		return 0;
	case APIC_ESR:
		*value = a->esr;
		return 0;
	case APIC_ICR:
		*value = a->icr;
		return 0;
	case APIC_TIMER_INITIAL:
		*value = apic_timer_initial_read(a);
		return 0;
	case APIC_TIMER_CURRENT:
		*value = apic_timer_current(a);
		return 0;
	case APIC_TIMER_DIVIDE:
		*value = apic_timer_divide_read(a);
		return 0;
	default:
		if (reg >= APIC_ISR && reg < APIC_ESR)
			*value = bitmap_read(a, reg);
		else if (reg >= APIC_LVT_TIMER && reg < APIC_LVT_TIMER + APIC_LVTS)
			*value = atomic_load(&a->lvt[reg - APIC_LVT_TIMER]);
		else
			return -EINVAL;
		return 0;
	}
}

/* ---- the doors ---- */

/* x2APIC mode cannot be left but for "disabled", from where only xAPIC can be reached: there is
 * no xAPIC here, so no change at all is possible. */
static uint64_t base_value(const struct apic *a)
{
	return LAYOUT_LAPIC_BASE | APIC_BASE_ENABLE | APIC_BASE_EXTD | (a->bsp ? APIC_BASE_BSP : 0);
}

int apic_msr_read(struct apic *a, uint32_t msr, uint64_t *value)
{
	if (msr == MSR_APIC_BASE) {
		*value = base_value(a);
		return 0;
	}
	if (msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST)
		return -EINVAL;
	return register_read(a, msr - MSR_X2APIC_FIRST, value);
}

int apic_msr_write(struct apic *a, uint32_t msr, uint64_t value)
{
	if (msr == MSR_APIC_BASE)
		return value == base_value(a) ? 0 : -EINVAL;
	if (msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST)
		return -EINVAL;
	if (msr == MSR_X2APIC_FIRST + APIC_ICR)
		return icr_write(a, value);
	if (value >> 32)
		return -EINVAL;
	return register_write(a, msr - MSR_X2APIC_FIRST, (uint32_t)value);
}

uint64_t apic_cr8_read(const struct apic *a)
{
	return a->tpr >> 4;
}

void apic_cr8_write(struct apic *a, uint64_t value)
{
	tpr_write(a, (uint32_t)(value & 0xf) << 4);
}
