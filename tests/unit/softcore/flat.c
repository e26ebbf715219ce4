/* SPDX-License-Identifier: Apache-2.0 */
/* Making the flat environment: memory, page tables, CPUs. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/softcore/flat.h"

#define PML4 0x1000u
#define PDPT 0x2000u
#define PD   0x3000u
#define PT   0x4000u /* two tables */

static void cpuid_none(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
		       struct vcpu_cpuid *out)
{
	(void)ctx;
	(void)vcpu;
	(void)leaf;
	(void)subleaf;
	*out = (struct vcpu_cpuid){0};
}

static void put64(struct flat *f, uint64_t gpa, uint64_t value)
{
	flat_put(f, gpa, &value, 8);
}

void flat_map(struct flat *f)
{
	put64(f, PML4, PDPT | 3);
	put64(f, PDPT, PD | 3);
	put64(f, PD, PT | 3);
	put64(f, PD + 8, (PT + 0x1000) | 3);
	for (uint64_t n = 0; n < 1024; n++)
		put64(f, PT + n * 8, n << 12 | 3);
	put64(f, PT + (FLAT_ALIAS >> 12) * 8, FLAT_CODE | 3);
	put64(f, PT + (FLAT_HOLE >> 12) * 8, 0);
}

void flat_make_cpus(struct flat *f, uint8_t *ram)
{
	struct vcpu_config config = {
		.vcpus = FLAT_CPUS, .ram_end = FLAT_RAM, .cpuid = cpuid_none, .tsc_hz = 1000000000};

	f->ram = ram;
	cr_assert_eq(vcpu_soft_ops.shared_create(f->ram, FLAT_RAM, &f->shared), 0);
	config.ram = f->ram;
	config.shared = f->shared;
	for (unsigned n = 0; n < FLAT_CPUS; n++) {
		struct vcpu *v;

		config.id = n;
		cr_assert_eq(vcpu_soft_ops.create(&config, &v), 0);
		f->cpu[n] = (struct soft_cpu *)v;
	}
}

void flat_make(struct flat *f)
{
	void *ram =
		mmap(NULL, FLAT_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(ram, MAP_FAILED);
	flat_make_cpus(f, ram);
	flat_map(f);
}

void flat_free_cpus(struct flat *f)
{
	for (unsigned n = 0; n < FLAT_CPUS; n++)
		vcpu_soft_ops.destroy(&f->cpu[n]->vcpu);
	vcpu_soft_ops.shared_destroy(f->shared);
}

void flat_free(struct flat *f)
{
	flat_free_cpus(f);
	munmap(f->ram, FLAT_RAM);
}

void flat_reset_mode(struct flat *f, unsigned cpu, uint64_t rip, unsigned mode)
{
	struct vcpu_state s;

	vcpu_state_reset(&s);
	s.cr0 = mode == 64 ? 0x80050033 : 0x33;
	s.cr3 = PML4;
	s.cr4 = 0x20;
	s.efer = mode == 64 ? 0x500 : 0;
	for (unsigned n = 0; n < SEG_COUNT; n++)
		s.seg[n] = (struct vcpu_segment){0, 0xffffffff, 0x10, 0xc93};
	s.seg[SEG_CS] = (struct vcpu_segment){0, 0xffffffff, 0x08, 0x89b};
	s.seg[SEG_CS].attr |= mode == 64 ? 0x200 : mode == 32 ? 0x400 : 0;
	s.idtr = (struct vcpu_table){FLAT_IDT, 0};
	s.rip = rip;
	s.rflags = 2;
	memset(s.gpr, 0, sizeof(s.gpr));
	s.gpr[RSP] = FLAT_STACK;
	cr_assert_eq(vcpu_soft_ops.state_set(&f->cpu[cpu]->vcpu, &s), 0);
}

void flat_reset(struct flat *f, unsigned cpu, uint64_t rip)
{
	flat_reset_mode(f, cpu, rip, 64);
}

void flat_put(struct flat *f, uint64_t gpa, const void *bytes, size_t n)
{
	cr_assert(gpa + n <= FLAT_RAM);
	memcpy(f->ram + gpa, bytes, n);
	vcpu_soft_ops.memory_changed(f->shared, gpa, n);
}

uint64_t flat_get64(const struct flat *f, uint64_t gpa)
{
	uint64_t value;

	memcpy(&value, f->ram + gpa, 8);
	return value;
}

enum vcpu_exit_reason flat_run(struct flat *f, unsigned cpu)
{
	struct vcpu_exit exit;

	vcpu_soft_ops.run(&f->cpu[cpu]->vcpu, &exit);
	return exit.reason;
}
