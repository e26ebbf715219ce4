/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O APIC: edge and level pins, masks, remote IRR, both EOIs, and wide destinations. */
#include <criterion/criterion.h>
#include <string.h>

#include "vmm/apic/ioapic.h"

struct bench {
	struct ioapic io;
	unsigned sent;
	struct ipi ipi;
};

static void bench_send(void *ctx, const struct ipi *ipi)
{
	struct bench *b = ctx;

	b->sent++;
	b->ipi = *ipi;
}

static void bench_init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	cr_assert_eq(ioapic_init(&b->io, bench_send, b), 0);
}

static void reg_write(struct bench *b, unsigned reg, uint32_t value)
{
	ioapic_write(&b->io, IOAPIC_REGSEL, reg);
	ioapic_write(&b->io, IOAPIC_WINDOW, value);
}

static uint32_t reg_read(struct bench *b, unsigned reg)
{
	ioapic_write(&b->io, IOAPIC_REGSEL, reg);
	return ioapic_read(&b->io, IOAPIC_WINDOW);
}

static void rte_write(struct bench *b, unsigned pin, uint64_t rte)
{
	reg_write(b, IOAPIC_REG_RTE + 2 * pin + 1, (uint32_t)(rte >> 32));
	reg_write(b, IOAPIC_REG_RTE + 2 * pin, (uint32_t)rte);
}

static uint64_t rte_read(struct bench *b, unsigned pin)
{
	return reg_read(b, IOAPIC_REG_RTE + 2 * pin) |
	       (uint64_t)reg_read(b, IOAPIC_REG_RTE + 2 * pin + 1) << 32;
}

Test(ioapic, registers)
{
	struct bench b;
	unsigned pin;

	bench_init(&b);
	cr_assert_eq(reg_read(&b, IOAPIC_REG_VERSION), 0x170020);
	reg_write(&b, IOAPIC_REG_ID, 0x0f000000);
	cr_assert_eq(reg_read(&b, IOAPIC_REG_ID), 0x0f000000);
	for (pin = 0; pin < LAYOUT_IOAPIC_PINS; pin++)
		cr_assert_eq(rte_read(&b, pin), RTE_MASKED);
	cr_assert_eq(reg_read(&b, 0x40), 0, "no such register");
	reg_write(&b, 0xff, 0xffffffff);
	cr_assert_eq(ioapic_read(&b.io, 0x30), 0);
}

Test(ioapic, edge)
{
	struct bench b;

	bench_init(&b);
	rte_write(&b, 4, UINT64_C(3) << 56 | 0x34);
	ioapic_line(&b.io, 4, true);
	cr_assert_eq(b.sent, 1);
	cr_assert_eq(b.ipi.dest, 3);
	cr_assert_eq(b.ipi.vector, 0x34);
	cr_assert_not(b.ipi.level);
	cr_assert_not(b.ipi.logical);
	ioapic_line(&b.io, 4, true);
	cr_assert_eq(b.sent, 1, "no edge");
	ioapic_line(&b.io, 4, false);
	cr_assert_eq(b.sent, 1);
	ioapic_line(&b.io, 4, true);
	cr_assert_eq(b.sent, 2);
	ioapic_eoi(&b.io, 0x34);
	cr_assert_eq(b.sent, 2, "an edge is not sent again");
}

Test(ioapic, masked_edge_is_kept)
{
	struct bench b;

	bench_init(&b);
	rte_write(&b, 4, RTE_MASKED | 0x34);
	ioapic_line(&b.io, 4, true);
	ioapic_line(&b.io, 4, false);
	cr_assert_eq(b.sent, 0);
	rte_write(&b, 4, 0x34);
	cr_assert_eq(b.sent, 1);
	rte_write(&b, 4, RTE_MASKED | 0x34);
	rte_write(&b, 4, 0x34);
	cr_assert_eq(b.sent, 1);
}

Test(ioapic, level)
{
	struct bench b;

	bench_init(&b);
	rte_write(&b, 9, RTE_LEVEL | 0x51);
	ioapic_line(&b.io, 9, true);
	cr_assert_eq(b.sent, 1);
	cr_assert(b.ipi.level);
	cr_assert(rte_read(&b, 9) & RTE_REMOTE_IRR);
	ioapic_line(&b.io, 9, false);
	ioapic_line(&b.io, 9, true);
	cr_assert_eq(b.sent, 1, "remote IRR holds it back");
	ioapic_eoi(&b.io, 0x50);
	cr_assert_eq(b.sent, 1, "another vector");
	ioapic_eoi(&b.io, 0x51);
	cr_assert_eq(b.sent, 2, "still active");
	ioapic_line(&b.io, 9, false);
	ioapic_eoi(&b.io, 0x51);
	cr_assert_eq(b.sent, 2);
	cr_assert_not(rte_read(&b, 9) & RTE_REMOTE_IRR);
}

Test(ioapic, level_masked)
{
	struct bench b;

	bench_init(&b);
	ioapic_line(&b.io, 9, true);
	rte_write(&b, 9, RTE_LEVEL | 0x51);
	cr_assert_eq(b.sent, 1, "active when unmasked");
	rte_write(&b, 9, RTE_LEVEL | RTE_MASKED | 0x51);
	cr_assert(rte_read(&b, 9) & RTE_REMOTE_IRR, "read-only bits stay");
	ioapic_eoi(&b.io, 0x51);
	cr_assert_eq(b.sent, 1);
	rte_write(&b, 9, RTE_LEVEL | RTE_REMOTE_IRR | 0x51);
	cr_assert_eq(b.sent, 2, "remote IRR cannot be written");
}

Test(ioapic, eoi_register_and_mode_switch)
{
	struct bench b;

	bench_init(&b);
	rte_write(&b, 9, RTE_LEVEL | 0x51);
	ioapic_line(&b.io, 9, true);
	ioapic_write(&b.io, IOAPIC_EOIR, 0x51);
	cr_assert_eq(b.sent, 2);
	reg_write(&b, IOAPIC_REG_RTE + 18, 0x51 | RTE_MASKED);
	cr_assert_not(rte_read(&b, 9) & RTE_REMOTE_IRR, "edge mode ends it");
	reg_write(&b, IOAPIC_REG_RTE + 18, 0x51 | RTE_LEVEL);
	cr_assert_eq(b.sent, 3);
}

Test(ioapic, destinations)
{
	struct bench b;

	bench_init(&b);
	rte_write(&b, 1, UINT64_C(0x12) << 56 | UINT64_C(0x01) << 49 | 0x40);
	ioapic_line(&b.io, 1, true);
	cr_assert_eq(b.ipi.dest, 0x112, "bits 14:8 from the extension");
	rte_write(&b, 2, UINT64_C(0x06) << 56 | RTE_LOGICAL | 0x100 | 0x41);
	ioapic_line(&b.io, 2, true);
	cr_assert(b.ipi.logical);
	cr_assert_eq(b.ipi.delivery, IPI_LOWEST);
	rte_write(&b, 3, 0x700 | 0x42);
	ioapic_line(&b.io, 3, true);
	cr_assert_eq(b.sent, 2, "ExtINT has nobody to go to");
}
