/* SPDX-License-Identifier: Apache-2.0 */
/* Building tiny guests: tables, descriptors, and the recording bus; the skip where there is no KVM.
 */
#include "base/cpu_feature.h"
#include "tests/unit/kvm/kvm_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "vmm/cpu/cpuid.h"

#define P  0x001u
#define W  0x002u
#define U  0x004u
#define PS 0x080u
/* Accessed and dirty from the start: no processor has a reason to write the tables. */
#define ALL (P | W | U | 0x060u)

/* Before any test runner starts: a machine without KVM skips all of them. */
__attribute__((constructor)) static void skip_without_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("skipped: cannot open /dev/kvm: %s\n", strerror(errno));
		fflush(stdout);
		_exit(EXIT_SKIP);
	}
	close(fd);
}

/* ---- what it did ---- */

const struct bus_access *guest_access(const struct guest *g, char kind, unsigned n)
{
	for (unsigned i = 0; i < g->bus.logged; i++)
		if (g->bus.log[i].kind == kind && n-- == 0)
			return &g->bus.log[i];
	cr_assert(false, "too few accesses of kind %c", kind);
	return NULL;
}

unsigned guest_accesses(const struct guest *g, char kind)
{
	unsigned count = 0;

	for (unsigned i = 0; i < g->bus.logged; i++)
		count += g->bus.log[i].kind == kind;
	return count;
}

/* ---- memory ---- */

static void put_u64(uint8_t *ram, uint64_t gpa, uint64_t value)
{
	memcpy(ram + gpa, &value, sizeof(value));
}

uint64_t *guest_u64(struct guest *g, uint64_t gpa)
{
	return (uint64_t *)(g->ram + gpa);
}

static void gate_put(uint8_t *ram, unsigned vector, uint64_t handler, unsigned dpl)
{
	uint64_t low = (handler & 0xffff) | SEL_KCODE << 16 | UINT64_C(0x8e) << 40 |
		       (uint64_t)dpl << 45 | (handler >> 16 & 0xffff) << 48;

	put_u64(ram, IDT + vector * 16, low);
	put_u64(ram, IDT + vector * 16 + 8, handler >> 32);
}

void guest_gate(struct guest *g, unsigned vector, uint64_t handler, unsigned dpl)
{
	gate_put(g->ram, vector, handler, dpl);
}

static void tables_put(uint8_t *ram)
{
	put_u64(ram, PML4, PDPT | ALL);
	put_u64(ram, PDPT, PD_LOW | ALL);
	put_u64(ram, PDPT + 3 * 8, PD_HIGH | ALL);
	for (unsigned n = 0; n < GUEST_RAM >> 21; n++)
		put_u64(ram, PD_LOW + n * 8, (uint64_t)n << 21 | ALL | PS);
	put_u64(ram, PD_HIGH + (MMIO_GPA >> 21 & 511) * 8, MMIO_GPA | ALL | PS);
}

void guest_fill(uint8_t *ram)
{
	static const uint64_t gdt[] = {
		[SEL_KCODE / 8] = 0x00af9b000000ffff,
		[SEL_KDATA / 8] = 0x00cf93000000ffff,
		[SEL_UDATA / 8] = 0x00cff3000000ffff,
		[SEL_UCODE / 8] = 0x00affb000000ffff,
		[SEL_TSS / 8] = 0x00008b0000000000 | (uint64_t)TSS << 16 | 0x87,
		[SEL_TSS / 8 + 1] = 0,
	};
	const uint32_t no_io_map = 0x68u << 16;

	memcpy(ram + CODE, kvm_guest_code, (size_t)(kvm_guest_code_end - kvm_guest_code));
	tables_put(ram);
	memcpy(ram + GDT, gdt, sizeof(gdt));
	put_u64(ram, TSS + 4, STACK_RSP0);
	memcpy(ram + TSS + 0x64, &no_io_map, sizeof(no_io_map));
	gate_put(ram, 13, LABEL(skip_gp), 0);
	gate_put(ram, 0x50, LABEL(count), 0);
	gate_put(ram, 6, LABEL(finish), 0);
}

/* ---- state ---- */

static struct vcpu_segment flat(uint16_t selector, uint16_t attr)
{
	return (struct vcpu_segment){.selector = selector, .attr = attr, .limit = UINT32_MAX};
}

void guest_kernel(struct guest *g, uint64_t rip)
{
	struct vcpu_state *s = &g->s;

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
	s->gdtr = (struct vcpu_table){.base = GDT, .limit = SEL_TSS + 15};
	s->idtr = (struct vcpu_table){.base = IDT, .limit = 0xfff};
	s->gpr[RSP] = STACK;
	s->star = (uint64_t)0x1b << 48 | (uint64_t)SEL_KCODE << 32;
	s->rip = rip;
}

void guest_user(struct guest *g, uint64_t rip)
{
	guest_kernel(g, rip);
	g->s.seg[SEG_CS] = flat(SEL_UCODE, 0xafb);
	for (unsigned n = 0; n < SEG_COUNT; n++)
		if (n != SEG_CS)
			g->s.seg[n] = flat(SEL_UDATA, 0xcf3);
	g->s.gpr[RSP] = STACK_USER;
	g->s.rflags = 0x202;
}

void guest_put(struct guest *g)
{
	/* Tests write memory as they like. */
	if (g->ops->memory_changed)
		g->ops->memory_changed(g->shared, 0, g->ram_end);
	cr_assert_eq(g->ops->state_set(g->v, &g->s), 0);
}

enum vcpu_exit_reason guest_run(struct guest *g)
{
	g->ops->run(g->v, &g->exit);
	g->ops->state_get(g->v, &g->s);
	return g->exit.reason;
}

/* ---- life ---- */

static uint64_t host_tsc_hz(void)
{
	static uint64_t hz;
	struct kvm_tsc_report report;

	if (!hz) {
		cr_assert_eq(kvm_tsc_probe(&report), 0);
		hz = report.host_hz;
	}
	return hz;
}

uint64_t guest_features(void)
{
	static uint64_t features;
	struct kvm_features f;

	if (features)
		return features;
	cr_assert_eq(kvm_supported_features(&f), 0);
	features = cpu_features_take(1, (const uint32_t[]){0, 0, f.leaf1_ecx, f.leaf1_edx});
	features |=
		cpu_features_take(7, (const uint32_t[]){0, f.leaf7_ebx, f.leaf7_ecx, f.leaf7_edx});
	features |= cpu_features_take(0x80000001, (const uint32_t[]){0, 0, f.ext1_ecx, f.ext1_edx});
	features &= cpu_features_soft();
	return features;
}

void guest_cpuid(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf, struct vcpu_cpuid *out)
{
	struct cpuid_model model = {.tsc_hz = host_tsc_hz(),
				    .features = guest_features(),
				    .vendor = kvm_vendor_can(CPU_VENDOR_INTEL) ? CPU_VENDOR_INTEL
									       : CPU_VENDOR_AMD};

	(void)ctx;
	cpuid_read(&model, vcpu, leaf, subleaf, out);
}

struct vcpu_config guest_config(struct guest *g)
{
	return (struct vcpu_config){
		.id = 3,
		.vcpus = 4,
		.ram = g->ram,
		.ram_end = g->ram_end,
		.bus = bus_record_bus(&g->bus),
		.cpuid = guest_cpuid,
		.tsc_hz = host_tsc_hz(),
		.tsc_origin_ns = clock_now_ns(),
		.shared = g->shared,
	};
}

void guest_open(struct guest *g, const struct vcpu_ops *ops, uint8_t *ram, uint64_t ram_end)
{
	struct vcpu_config config;

	memset(g, 0, sizeof(*g));
	g->ops = ops;
	g->ram_end = ram_end;
	g->ram_owned = !ram;
	g->ram = ram;
	if (!ram) {
		g->ram = mmap(NULL, GUEST_RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			      -1, 0);
		cr_assert_neq(g->ram, MAP_FAILED);
		guest_fill(g->ram);
	}
	cr_assert_eq(ops->shared_create(g->ram, g->ram_end, &g->shared), 0);
	config = guest_config(g);
	cr_assert_eq(ops->create(&config, &g->v), 0);
	g->bus.logged = 0;
}

void guest_close(struct guest *g)
{
	g->ops->destroy(g->v);
	g->ops->shared_destroy(g->shared);
	if (g->ram_owned)
		munmap(g->ram, GUEST_RAM);
}
