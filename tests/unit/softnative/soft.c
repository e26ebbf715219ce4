/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a case on the software CPU: long mode at CPL 3, the region mapped as it is natively. */
#include "tests/unit/softnative/softnative.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cpu_feature.h"

/* Guest physical layout. The kernel's part is also mapped at KERNEL_VA, for the supervisor. */
#define RAM_BYTES     0x100000u
#define GPA_PML4      0x1000u
#define GPA_PDPT_LOW  0x2000u
#define GPA_PD_LOW    0x3000u
#define GPA_PT	      0x4000u
#define GPA_PDPT_HIGH 0x5000u
#define GPA_PD_HIGH   0x6000u
#define GPA_GDT	      0x7000u
#define GPA_IDT	      0x8000u
#define GPA_TSS	      0x9000u
#define GPA_STUBS     0xa000u /* one HLT a vector */
#define GPA_STACK_TOP 0xc000u
#define GPA_CODE      0x10000u
#define GPA_DATA      0x12000u
#define KERNEL_VA     UINT64_C(0xffffffff80000000)
#define KERNEL_CS     0x10

#define PTE_P	 UINT64_C(0x001)
#define PTE_RW	 UINT64_C(0x002)
#define PTE_US	 UINT64_C(0x004)
#define PTE_PS	 UINT64_C(0x080)
#define PTE_NX	 (UINT64_C(1) << 63)
#define PTE_USER (PTE_P | PTE_RW | PTE_US)

static struct {
	uint8_t *ram;
	void *shared;
	struct vcpu *vcpu;
	struct vcpu_state base;
} soft;

static void put64(uint64_t gpa, uint64_t value)
{
	memcpy(soft.ram + gpa, &value, 8);
}

static void page_tables_build(void)
{
	unsigned index = (unsigned)(REGION_VA >> 21 & 511);

	put64(GPA_PML4, GPA_PDPT_LOW | PTE_USER);
	put64(GPA_PML4 + 511 * 8, GPA_PDPT_HIGH | PTE_P | PTE_RW);
	put64(GPA_PDPT_LOW + (REGION_VA >> 30) * 8, GPA_PD_LOW | PTE_USER);
	put64(GPA_PDPT_HIGH + 510 * 8, GPA_PD_HIGH | PTE_P | PTE_RW);
	put64(GPA_PD_LOW + index * 8u, GPA_PT | PTE_USER);
	put64(GPA_PD_HIGH, 0 | PTE_P | PTE_RW | PTE_PS);
	for (unsigned n = 0; n < 2; n++) {
		uint64_t code = (CODE_VA - REGION_VA) / PAGE_BYTES + n;
		uint64_t data = (DATA_VA - REGION_VA) / PAGE_BYTES + n;

		put64(GPA_PT + code * 8, (GPA_CODE + n * PAGE_BYTES) | PTE_USER);
		put64(GPA_PT + data * 8, (GPA_DATA + n * PAGE_BYTES) | PTE_USER | PTE_NX);
	}
	put64(GPA_PT + (READONLY_VA - REGION_VA) / PAGE_BYTES * 8,
	      (GPA_DATA + DATA_BYTES) | PTE_P | PTE_US | PTE_NX);
}

/* The selectors are Linux': 10 kernel code, 18 kernel data, 23 and 33 user code, 2b user data. */
static void descriptors_build(void)
{
	put64(GPA_GDT + 0x10, UINT64_C(0x00af9b000000ffff));
	put64(GPA_GDT + 0x18, UINT64_C(0x00cf93000000ffff));
	put64(GPA_GDT + 0x20, UINT64_C(0x00cffb000000ffff));
	put64(GPA_GDT + 0x28, UINT64_C(0x00cff3000000ffff));
	put64(GPA_GDT + 0x30, UINT64_C(0x00affb000000ffff));
	for (unsigned v = 0; v < 256; v++) {
		uint64_t stub = KERNEL_VA + GPA_STUBS + v;
		uint64_t type = v == 3 || v == 4 ? 0xee : 0x8e;

		put64(GPA_IDT + 16 * v,
		      (stub & 0xffff) | KERNEL_CS << 16 | type << 40 | (stub >> 16 & 0xffff) << 48);
		put64(GPA_IDT + 16 * v + 8, stub >> 32);
	}
	put64(GPA_TSS + 4, KERNEL_VA + GPA_STACK_TOP);
	soft.ram[GPA_TSS + 0x66] = 0x68; /* no I/O permission bitmap */
	memset(soft.ram + GPA_STUBS, 0xf4, 256);
	memset(soft.ram + GPA_CODE, 0xcc, CODE_BYTES);
}

static struct vcpu_segment segment(uint16_t selector, uint64_t base, uint32_t limit, uint16_t attr)
{
	return (struct vcpu_segment){
		.selector = selector, .base = base, .limit = limit, .attr = attr};
}

static void state_build(struct vcpu_state *s)
{
	memset(s, 0, sizeof(*s));
	s->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	s->cr3 = GPA_PML4;
	s->cr4 = 0x406a0; /* PAE PGE OSFXSR OSXMMEXCPT OSXSAVE */
	s->xcr0 = 7;
	s->efer = 0xd01; /* NXE LMA LME SCE */
	s->dr6 = 0xffff0ff0;
	s->dr7 = 0x400;
	s->gdtr = (struct vcpu_table){.base = KERNEL_VA + GPA_GDT, .limit = 0x37};
	s->idtr = (struct vcpu_table){.base = KERNEL_VA + GPA_IDT, .limit = 0xfff};
	s->tr = segment(0x40, KERNEL_VA + GPA_TSS, 0x67, 0x8b);
	s->seg[SEG_CS] = segment(USER_CS, 0, 0xffffffff, 0xafb);
	s->seg[SEG_SS] = segment(USER_SS, 0, 0xffffffff, 0xcf3);
	s->seg[SEG_GS] = segment(0, GS_BASE, 0, 0);
	s->pat = UINT64_C(0x0007040600070406);
	s->misc_enable = 1;
}

/* Nothing here should leave RAM: all ones, as an empty bus reads. */
static void bus_pio_read(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t *value)
{
	(void)ctx, (void)vcpu, (void)port, (void)size;
	*value = UINT32_MAX;
}

static void bus_pio_write(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t value)
{
	(void)ctx, (void)vcpu, (void)port, (void)size, (void)value;
}

static void bus_mmio_read(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t *value)
{
	(void)ctx, (void)vcpu, (void)gpa, (void)size;
	*value = UINT64_MAX;
}

static void bus_mmio_write(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t value)
{
	(void)ctx, (void)vcpu, (void)gpa, (void)size, (void)value;
}

static void bus_cpuid(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
		      struct vcpu_cpuid *out)
{
	uint32_t regs[4] = {0};

	(void)ctx, (void)vcpu, (void)subleaf;
	cpu_features_tell(cpu_features_soft(), leaf, regs);
	*out = (struct vcpu_cpuid){regs[0], regs[1], regs[2], regs[3]};
}

void soft_init(void)
{
	struct vcpu_config config = {.vcpus = 1,
				     .ram_end = RAM_BYTES,
				     .cpuid = bus_cpuid,
				     .tsc_hz = 1000000000,
				     .bus = {.pio_read = bus_pio_read,
					     .pio_write = bus_pio_write,
					     .mmio_read = bus_mmio_read,
					     .mmio_write = bus_mmio_write}};

	soft.ram =
		mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert(soft.ram != MAP_FAILED);
	page_tables_build();
	descriptors_build();
	config.ram = soft.ram;
	cr_assert_eq(vcpu_soft_ops.shared_create(soft.ram, RAM_BYTES, &soft.shared), 0);
	config.shared = soft.shared;
	cr_assert_eq(vcpu_soft_ops.create(&config, &soft.vcpu), 0);
	state_build(&soft.base);
}

void soft_destroy(void)
{
	vcpu_soft_ops.destroy(soft.vcpu);
	vcpu_soft_ops.shared_destroy(soft.shared);
	munmap(soft.ram, RAM_BYTES);
}

const uint8_t *soft_data(void)
{
	return soft.ram + GPA_DATA;
}

/* Exceptions with an error code (SDM 3A, table 6-1). */
static bool has_error(int vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

/* The handler's HLT tells the vector, its frame the interrupted state. */
static void outcome_take(const struct vcpu_state *s, struct outcome *out)
{
	uint64_t frame[5];
	uint64_t at = s->gpr[RSP] - KERNEL_VA;

	out->vector = (int)(s->rip - (KERNEL_VA + GPA_STUBS)) - 1;
	out->error = 0;
	if (out->vector < 0 || out->vector > 255 || at >= RAM_BYTES - 48) {
		out->vector = -1;
		return;
	}
	if (has_error(out->vector)) {
		memcpy(&out->error, soft.ram + at, 4);
		at += 8;
	}
	memcpy(frame, soft.ram + at, sizeof(frame));
	memcpy(out->image.gpr, s->gpr, sizeof(out->image.gpr));
	out->image.gpr[RSP] = frame[3];
	out->image.rip = frame[0];
	out->image.rflags = frame[2];
	memcpy(out->image.fx, s->fxsave, 512);
	memcpy(out->image.ymm, s->ymm_high, sizeof(out->image.ymm));
	out->cr2 = s->cr2;
}

static void state_to_compat(struct vcpu_state *s)
{
	s->seg[SEG_CS] = segment(USER_CS_32, 0, 0xffffffff, 0xcfb);
	s->seg[SEG_DS] = segment(USER_SS, 0, 0xffffffff, 0xcf3);
	s->seg[SEG_ES] = s->seg[SEG_DS];
}

void soft_run(const struct test_case *t, struct outcome *out)
{
	size_t offset = (size_t)(t->in.rip - CODE_VA), room = CODE_BYTES - offset;
	size_t len = t->len < room ? t->len : room;
	struct vcpu_state state = soft.base;
	struct vcpu_exit exit;

	if (t->mode == 32)
		state_to_compat(&state);
	memcpy(soft.ram + GPA_DATA, t->data, DATA_BYTES);
	memcpy(soft.ram + GPA_CODE + offset, t->code, len);
	vcpu_soft_ops.memory_changed(soft.shared, GPA_CODE, CODE_BYTES);
	memcpy(state.gpr, t->in.gpr, sizeof(state.gpr));
	state.rip = t->in.rip;
	state.rflags = t->in.rflags;
	memcpy(state.fxsave, t->in.fx, 512);
	memcpy(state.ymm_high, t->in.ymm, sizeof(state.ymm_high));
	memset(out, 0, sizeof(*out));
	out->vector = -1;
	if (vcpu_soft_ops.state_set(soft.vcpu, &state))
		return;
	vcpu_soft_ops.run(soft.vcpu, &exit);
	vcpu_soft_ops.state_get(soft.vcpu, &state);
	if (exit.reason == VCPU_EXIT_HLT)
		outcome_take(&state, out);
	memset(soft.ram + GPA_CODE + offset, 0xcc, len);
}
