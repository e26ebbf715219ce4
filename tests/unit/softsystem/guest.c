/* SPDX-License-Identifier: Apache-2.0 */
/* Building tiny guests: tables, descriptors, and the recording bus. */
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/cpu_feature.h"
#include "tests/unit/softsystem/guest.h"

static void cpuid(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf, struct vcpu_cpuid *out)
{
	const struct guest *g = ctx;
	uint32_t regs[4] = {0};

	cpu_features_tell(g->features, leaf, regs);
	*out = (struct vcpu_cpuid){regs[0], regs[1], regs[2], regs[3]};
	if (leaf == 0 && g->amd)
		*out = (struct vcpu_cpuid){1, 0x68747541, 0x444d4163, 0x69746e65};
	if (leaf == 0x80000001 && g->huge_pages)
		out->edx |= 1u << 26;
	if (leaf == 0x12345)
		*out = (struct vcpu_cpuid){vcpu, subleaf, 0xcccc, 0xdddd};
}

/* ---- Memory ---------------------------------------------------------------------------------- */

uint64_t *guest_u64(struct guest *g, uint64_t gpa)
{
	return (uint64_t *)(g->ram + gpa);
}

uint32_t *guest_u32(struct guest *g, uint64_t gpa)
{
	return (uint32_t *)(g->ram + gpa);
}

uint64_t *guest_pte(struct guest *g, uint64_t linear)
{
	return guest_u64(g, (linear < 0x200000 ? PT0 : PT1) + (linear >> 12 & 511) * 8);
}

void guest_gate(struct guest *g, unsigned vector, uint64_t handler, unsigned dpl, unsigned ist)
{
	uint64_t low = (handler & 0xffff) | SEL_KCODE << 16 | (uint64_t)ist << 32 |
		       UINT64_C(0x8e) << 40 | (uint64_t)dpl << 45 | (handler >> 16 & 0xffff) << 48;

	*guest_u64(g, IDT + vector * 16) = low;
	*guest_u64(g, IDT + vector * 16 + 8) = handler >> 32;
}

void guest_map_mmio(struct guest *g)
{
	/* 3..4 GiB is PDPT entry 3; one page directory with the one large page of MMIO_GPA. */
	*guest_u64(g, PDPT + 3 * 8) = 0x25000 | ALL;
	*guest_u64(g, 0x25000 + (MMIO_GPA >> 21 & 511) * 8) = MMIO_GPA | ALL | PS;
}

static void make_tables(struct guest *g)
{
	*guest_u64(g, PML4) = PDPT | ALL;
	*guest_u64(g, PDPT) = PD | ALL;
	*guest_u64(g, PD) = PT0 | ALL;
	*guest_u64(g, PD + 8) = PT1 | ALL;
	for (unsigned n = 0; n < 512; n++)
		*guest_u64(g, PT0 + n * 8) = n << 12 | ALL;
}

static void make_gdt(struct guest *g)
{
	static const uint64_t gdt[(GDT_LIMIT + 1) / 8] = {
		[SEL_KCODE / 8] = 0x00af9b000000ffff,
		[SEL_KDATA / 8] = 0x00cf93000000ffff,
		[SEL_UCODE32 / 8] = 0x00cffb000000ffff,
		[SEL_UDATA / 8] = 0x00cff3000000ffff,
		[SEL_UCODE / 8] = 0x00affb000000ffff,
		[SEL_TSS / 8] = 0x0000890000000000 | (uint64_t)TSS << 16 | 0x87,
		[SEL_KCODE32 / 8] = 0x00cf9b000000ffff,
		[SEL_KCODE16 / 8] = 0x00009b000000ffff | (uint64_t)CODE << 16,
		[SEL_DATA16 / 8] = 0x000093000000ffff,
		[SEL_ABSENT / 8] = 0x00cf13000000ffff,
		[SEL_LDT / 8] = 0x0000820000000017 | (uint64_t)(DATA + 0x800) << 16,
		[SEL_RODATA / 8] = 0x00cf91000000ffff,
		[SEL_STALE / 8] = 0x00cf92000000ffff,
	};

	memcpy(g->ram + GDT, gdt, sizeof(gdt));
}

static void make_idt(struct guest *g)
{
	for (unsigned n = 0; n < 256; n++)
		guest_gate(g, n, LABEL(stubs) + n * 16, 0, 0);
	*guest_u64(g, TSS + 4) = STACK_RSP0;
	*guest_u64(g, TSS + 0x24) = STACK_IST1;
	*guest_u32(g, TSS + 0x64) = 0x68u << 16;
}

/* ---- State ----------------------------------------------------------------------------------- */

static struct vcpu_segment flat(uint16_t selector, uint16_t attr)
{
	return (struct vcpu_segment){.selector = selector, .attr = attr, .limit = UINT32_MAX};
}

static void state_long(struct vcpu_state *s)
{
	vcpu_state_reset(s);
	s->cr0 = 0x80010033;
	s->cr3 = PML4;
	s->cr4 = 0x6a0; /* PAE, PGE, OSFXSR, OSXMMEXCPT */
	s->efer = 0xd01;
	for (unsigned n = 0; n < SEG_COUNT; n++)
		s->seg[n] = flat(SEL_KDATA, 0xc93);
	s->seg[SEG_CS] = flat(SEL_KCODE, 0xa9b);
	s->tr = (struct vcpu_segment){
		.selector = SEL_TSS, .attr = 0x8b, .base = TSS, .limit = 0x87};
	s->gdtr = (struct vcpu_table){.base = GDT, .limit = GDT_LIMIT};
	s->idtr = (struct vcpu_table){.base = IDT, .limit = 0xfff};
	s->gpr[RSP] = STACK;
	s->star = (uint64_t)0x1b << 48 | (uint64_t)SEL_KCODE << 32;
}

void guest_user(struct guest *g)
{
	g->s.seg[SEG_CS] = flat(SEL_UCODE, 0xafb);
	g->s.seg[SEG_SS] = g->s.seg[SEG_DS] = flat(SEL_UDATA, 0xcf3);
	g->s.gpr[RSP] = STACK_USER;
}

void guest_protected(struct guest *g)
{
	for (unsigned n = 0; n < 256; n++) {
		uint64_t handler = LABEL(stubs32) + n * 16;

		*guest_u64(g, IDT + n * 8) = (handler & 0xffff) | SEL_KCODE32 << 16 |
					     UINT64_C(0x8e) << 40 | (handler >> 16) << 48;
	}
	g->s.cr0 = 0x33;
	g->s.cr4 = 0;
	g->s.efer = 0;
	g->s.seg[SEG_CS] = flat(SEL_KCODE32, 0xc9b);
	*guest_u32(g, TSS + 4) = STACK_RSP0;
	*guest_u32(g, TSS + 8) = SEL_KDATA;
}

void guest_put(struct guest *g)
{
	/* Tests write memory as they like. */
	vcpu_soft_ops.memory_changed(g->shared, 0, GUEST_RAM);
	cr_assert_eq(g->v->ops->state_set(g->v, &g->s), 0);
}

void guest_get(struct guest *g)
{
	g->v->ops->state_get(g->v, &g->s);
}

enum vcpu_exit_reason guest_run(struct guest *g)
{
	g->v->ops->run(g->v, &g->exit);
	guest_get(g);
	return g->exit.reason;
}

enum vcpu_exit_reason guest_run_at(struct guest *g, uint64_t rip)
{
	g->s.rip = rip;
	g->s.halted = 0;
	guest_put(g);
	return guest_run(g);
}

void guest_expect(struct guest *g, uint64_t rip, unsigned vector, uint64_t error)
{
	cr_assert_eq(guest_run_at(g, rip), VCPU_EXIT_HLT);
	cr_assert_eq(STOP_VECTOR(g), vector, "vector %lu, not %u (error %lx, cr2 %lx, rip %lx)",
		     STOP_VECTOR(g), vector, STOP_ERROR(g), STOP_CR2(g), STOP_RIP(g));
	cr_assert_eq(STOP_ERROR(g), error, "error %lx, not %lx", STOP_ERROR(g), error);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* As a slice has it: one file, mapped for reading where the guest sees it; here for writing elsewhere, too. */
static void image_open(struct guest *g)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, IMAGE_SIZE), 0);
	g->image = mmap(NULL, IMAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(g->image, MAP_FAILED);
	cr_assert_neq(
		mmap(g->ram + IMAGE_GPA, IMAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0),
		MAP_FAILED);
	close(fd);
	cr_assert_eq(vcpu_soft_ops.image_add(g->shared, IMAGE_GPA, IMAGE_SIZE), 0);
}

static void open_as(struct guest *g, bool amd, uint64_t features, bool image)
{
	struct vcpu_config config = {
		.id = 3,
		.vcpus = 4,
		.ram_end = GUEST_RAM,
		.bus = bus_record_bus(&g->bus),
		.cpuid = cpuid,
		.cpuid_ctx = g,
		.tsc_hz = 1000000000,
		.tsc_origin_ns = now_ns(),
	};

	memset(g, 0, sizeof(*g));
	g->amd = amd;
	g->features = features;
	g->ram = mmap(NULL, IMAGE_GPA + IMAGE_SIZE, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cr_assert_neq(g->ram, MAP_FAILED);
	cr_assert_eq(mprotect(g->ram, GUEST_RAM, PROT_READ | PROT_WRITE), 0);
	config.ram = g->ram;
	cr_assert_eq(vcpu_soft_ops.shared_create(g->ram, GUEST_RAM, &g->shared), 0);
	if (image)
		image_open(g);
	config.shared = g->shared;
	cr_assert_eq(vcpu_soft_ops.create(&config, &g->v), 0);
	memcpy(g->ram + CODE, guest_code, (size_t)(guest_code_end - guest_code));
	make_tables(g);
	make_gdt(g);
	make_idt(g);
	state_long(&g->s);
}

void guest_open(struct guest *g)
{
	open_as(g, false, 0, false);
}

void guest_open_amd(struct guest *g)
{
	open_as(g, true, 0, false);
}

void guest_open_newer(struct guest *g)
{
	open_as(g, false, CPU_FEATURES_MASK, false);
}

void guest_open_image(struct guest *g)
{
	open_as(g, false, 0, true);
}

void guest_close(struct guest *g)
{
	vcpu_soft_ops.destroy(g->v);
	vcpu_soft_ops.shared_destroy(g->shared);
	munmap(g->ram, IMAGE_GPA + IMAGE_SIZE);
	if (g->image)
		munmap(g->image, IMAGE_SIZE);
}
