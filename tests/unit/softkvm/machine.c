/* SPDX-License-Identifier: Apache-2.0 */
/* The guest of a case: its memory with all tables, its first state, and one run of it on an engine.
 */
#include "tests/unit/softkvm/softkvm.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "base/clock.h"
#include "vmm/cpu/cpuid.h"
#include "vmm/cpu/kvm/kvm.h"

#define P   UINT64_C(0x001)
#define W   UINT64_C(0x002)
#define U   UINT64_C(0x004)
#define AD  UINT64_C(0x060) /* accessed and dirty from the start: nobody has a reason to write */
#define PS  UINT64_C(0x080)
#define NX  (UINT64_C(1) << 63)
#define RSV (UINT64_C(1) << 51) /* beyond every width of physical addresses */
#define ALL (P | W | U | AD)

/* A case that does not end by itself in this time is cut off. */
#define RUN_LIMIT_US 2000000

/* ---- Memory ---------------------------------------------------------------------------------- */

static void put(uint8_t *ram, uint64_t gpa, unsigned size, uint64_t value)
{
	memcpy(ram + gpa, &value, size);
}

/* The rights of page n of a zoo region: every combination of P, W, U and NX, then with a reserved
 * bit. */
static uint64_t zoo_entry(unsigned n)
{
	uint64_t frame = GPA_FRAMES + n % ZOO_FRAMES * 0x1000;
	uint64_t rights = (n & 1 ? 0 : P) | (n & 2 ? 0 : W) | (n & 4 ? 0 : U) | (n & 8 ? NX : 0);

	return frame | AD | rights | (n & 16 ? RSV : 0);
}

/* What the level above gives the zoo's regions. */
static uint64_t zoo_directory(unsigned region)
{
	static const uint64_t entry[ZOO_REGIONS] = {
		GPA_PT_ZOO | ALL,      GPA_PT_ZOO | P | U | AD,	       GPA_PT_ZOO | P | W | AD,
		GPA_PT_ZOO | ALL | NX, GPA_PT_ZOO | ALL | RSV,	       GPA_PT_ZOO | W | U,
		GPA_LARGE | ALL | PS,  GPA_LARGE | ALL | PS | 0x2000u, /* a reserved bit of large
									  pages */
	};

	return entry[region];
}

static void tables_wide(uint8_t *ram)
{
	put(ram, GPA_PML4, 8, GPA_PDPT | ALL);
	put(ram, GPA_PML4 + 8, 8, GPA_PDPT | ALL | PS); /* PS is reserved there */
	put(ram, GPA_PML4 + 16, 8, GPA_PDPT | P | U | AD);
	put(ram, GPA_PML4 + 256 * 8, 8, GPA_PDPT | ALL | NX);
	put(ram, GPA_PML4 + 511 * 8, 8, GPA_PDPT | P | W | AD);
	put(ram, GPA_PDPT, 8, GPA_PD | ALL);
	put(ram, GPA_PDPT + 8, 8, ALL | PS); /* 1 GiB pages are not of this model */
	put(ram, GPA_PDPT + 511 * 8, 8, GPA_PD | ALL);
	put(ram, GPA_PAE, 8, GPA_PD | P);
	put(ram, GPA_PD, 8, GPA_PT_LOW | ALL);
	for (unsigned n = 0; n < ZOO_REGIONS; n++)
		put(ram, GPA_PD + (ZOO_VA / ZOO_VA_REGION + n) * 8, 8, zoo_directory(n));
	for (unsigned n = 0; n < IMAGE_BYTES >> 12; n++)
		put(ram, GPA_PT_LOW + n * 8, 8, n << 12 | ALL);
	for (unsigned n = 0; n < ZOO_PAGES; n++)
		put(ram, GPA_PT_ZOO + n * 8, 8, zoo_entry(n));
}

/* 32-bit paging has neither NX nor reserved bits but those of 4 MiB pages. */
static void tables_narrow(uint8_t *ram)
{
	uint32_t directory = ZOO_VA >> 22;

	put(ram, GPA_PD32, 4, GPA_PT32 | ALL);
	for (unsigned n = 0; n < IMAGE_BYTES >> 12; n++)
		put(ram, GPA_PT32 + n * 4, 4, n << 12 | ALL);
	/* The zoo's entries lie in the same table, beyond the image's. */
	for (unsigned n = 0; n < ZOO_PAGES; n++)
		put(ram, GPA_PT32 + (512 + n) * 4, 4, (uint32_t)zoo_entry(n));
	put(ram, GPA_PD32 + directory * 4, 4, GPA_PT32 | ALL);
	put(ram, GPA_PD32 + (directory + 1) * 4, 4, GPA_PT32 | P | U | AD);
	put(ram, GPA_PD32 + (directory + 2) * 4, 4, GPA_LARGE | ALL | PS);
	put(ram, GPA_PD32 + (directory + 3) * 4, 4, GPA_LARGE | ALL | PS | 1u << 21);
}

static void descriptors_put(uint8_t *ram)
{
	static const uint64_t gdt[SEL_ZOO / 8] = {
		[SEL_KCODE64 / 8] = UINT64_C(0x00af9b000000ffff),
		[SEL_KDATA / 8] = UINT64_C(0x00cf93000000ffff),
		[SEL_UCODE32 / 8] = UINT64_C(0x00cffb000000ffff),
		[SEL_UDATA / 8] = UINT64_C(0x00cff3000000ffff),
		[SEL_UCODE64 / 8] = UINT64_C(0x00affb000000ffff),
		[SEL_TSS / 8] = UINT64_C(0x00008b0000000087) | (uint64_t)GPA_TSS << 16,
		[SEL_KCODE32 / 8] = UINT64_C(0x00cf9b000000ffff),
		[SEL_KCODE16 / 8] = UINT64_C(0x00009b010000ffff),
		[SEL_DATA16 / 8] = UINT64_C(0x000093010000ffff),
		[SEL_LDT / 8] = UINT64_C(0x0000820000000000) | LDT_LIMIT | (uint64_t)GPA_LDT << 16,
		[SEL_UCODE16 / 8] = UINT64_C(0x0000fb010000ffff),
		[SEL_UDATA16 / 8] = UINT64_C(0x0000f3010000ffff),
		[SEL_SYSCALL / 8] = UINT64_C(0x00af9b000000ffff),
		[SEL_SYSCALL / 8 + 1] = UINT64_C(0x00cf93000000ffff),
		[SEL_SYSRET / 8] = UINT64_C(0x00cffb000000ffff),
		[SEL_SYSRET / 8 + 1] = UINT64_C(0x00cff3000000ffff),
		[SEL_SYSRET / 8 + 2] = UINT64_C(0x00affb000000ffff),
	};

	memcpy(ram + GPA_GDT, gdt, sizeof(gdt));
}

static void gates_put(uint8_t *ram)
{
	for (unsigned v = 0; v < 256; v++) {
		uint64_t stub = GPA_HALT + v;
		uint64_t dpl = v == 3 || v == 4 || v >= 0x80 ? 3 : 0;
		uint64_t gate =
			(stub & 0xffff) | (UINT64_C(0x8e) | dpl << 5) << 40 | (stub >> 16) << 48;

		put(ram, GPA_IDT + v * 16, 8, gate | SEL_KCODE64 << 16);
		put(ram, GPA_IDT + v * 16 + 8, 8, 0);
		put(ram, GPA_IDT32 + v * 8, 8, gate | SEL_KCODE32 << 16);
		put(ram, GPA_IVT + v * 4, 4, (GPA_HALT >> 4) << 16 | v);
	}
}

/* One layout serves both: a 64-bit TSS's RSP0 lies where a 32-bit one has ESP0 and SS0. */
static void tss_put(uint8_t *ram, bool wide)
{
	for (unsigned n = 0; n < 3; n++) {
		put(ram, GPA_TSS + 4 + n * 8, 8, GPA_RSP0 + n * 0x200);
		if (!wide)
			put(ram, GPA_TSS + 8 + n * 8, 4, SEL_KDATA);
	}
	for (unsigned n = 1; wide && n <= 7; n++)
		put(ram, GPA_TSS + 0x24 + (n - 1) * 8, 8, GPA_IST + n * 0x200);
	put(ram, GPA_TSS + 0x66, 2, 0x68);
	/* The map covers ports 0..0xef; every other eight of them are allowed. */
	for (unsigned n = 0; n < 0x1e; n++)
		put(ram, GPA_TSS + 0x68 + n, 1, n & 1 ? 0xff : 0);
	put(ram, GPA_TSS + 0x86, 2, 0xffff);
}

static void image_build(uint8_t *ram)
{
	memset(ram, 0, IMAGE_BYTES);
	memset(ram + GPA_HALT, 0xf4, 0x8000);
	tables_wide(ram);
	tables_narrow(ram);
	descriptors_put(ram);
	gates_put(ram);
	for (unsigned n = GPA_DATA; n < IMAGE_BYTES; n++)
		ram[n] = (uint8_t)(n * 37 + (n >> 8));
}

/* ---- State ----------------------------------------------------------------------------------- */

static struct vcpu_segment flat(uint16_t selector, uint16_t attr)
{
	return (struct vcpu_segment){.selector = selector, .attr = attr, .limit = UINT32_MAX};
}

static void segments_base(struct vcpu_state *s, enum run_mode mode)
{
	bool user = mode == MODE_LONG3 || mode == MODE_COMPAT3 || mode == MODE_PROT3;

	for (unsigned n = 0; n < SEG_COUNT; n++)
		s->seg[n] = user ? flat(SEL_UDATA, 0xcf3) : flat(SEL_KDATA, 0xc93);
	if (mode == MODE_LONG0 || mode == MODE_LONG3)
		s->seg[SEG_CS] = user ? flat(SEL_UCODE64, 0xafb) : flat(SEL_KCODE64, 0xa9b);
	else
		s->seg[SEG_CS] = user ? flat(SEL_UCODE32, 0xcfb) : flat(SEL_KCODE32, 0xc9b);
	s->gpr[RSP] = user ? GPA_USTACK : GPA_STACK;
}

static void state_real(struct vcpu_state *s)
{
	for (unsigned n = 0; n < SEG_COUNT; n++)
		s->seg[n] = (struct vcpu_segment){
			.base = 0x10000, .limit = 0xffff, .selector = 0x1000, .attr = 0x93};
	s->seg[SEG_CS].attr = 0x9b;
	s->seg[SEG_DS].base = s->seg[SEG_ES].base = GPA_DATA;
	s->seg[SEG_DS].selector = s->seg[SEG_ES].selector = GPA_DATA >> 4;
	s->gpr[RSP] = GPA_STACK - 0x10000;
	s->rip = GPA_CODE - 0x10000;
	s->idtr = (struct vcpu_table){.base = GPA_IVT, .limit = 0x3ff};
	s->cr0 = 0x30;
	s->cr4 = 0x600;
	s->efer = 0;
}

void state_base(struct vcpu_state *s, enum run_mode mode)
{
	bool wide = IN(mode) & IN_PAGED;

	vcpu_state_reset(s);
	s->cr0 = wide ? 0x80010033 : 0x33; /* PG WP NE ET MP PE */
	s->cr3 = GPA_PML4;
	s->cr4 = 0x6a0;			/* PAE PGE OSFXSR OSXMMEXCPT */
	s->efer = wide ? 0xd01 : 0x801; /* NXE LMA LME SCE */
	segments_base(s, mode);
	s->tr = (struct vcpu_segment){
		.selector = SEL_TSS, .attr = 0x8b, .base = GPA_TSS, .limit = 0x87};
	s->ldtr = (struct vcpu_segment){
		.selector = SEL_LDT, .attr = 0x82, .base = GPA_LDT, .limit = LDT_LIMIT};
	s->gdtr = (struct vcpu_table){.base = GPA_GDT, .limit = GDT_LIMIT};
	s->idtr = (struct vcpu_table){.base = wide ? GPA_IDT : GPA_IDT32,
				      .limit = wide ? 0xfff : 0x7ff};
	s->rip = GPA_CODE;
	s->star = (uint64_t)(SEL_SYSRET | 3) << 48 | (uint64_t)SEL_SYSCALL << 32;
	s->lstar = GPA_TARGETS + 0x100;
	s->cstar = GPA_TARGETS + 0x200;
	s->sfmask = 0x47700;
	s->sysenter_cs = SEL_SYSCALL;
	s->sysenter_esp = GPA_RSP0;
	s->sysenter_eip = GPA_TARGETS + 0x300;
	if (mode == MODE_REAL)
		state_real(s);
}

/* ---- Bus ------------------------------------------------------------------------------------- */

static void bus_pio_read(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t *value)
{
	(void)ctx, (void)vcpu;
	*value = 0xa0b0c000u + port;
	if (size < 4)
		*value &= (1u << size * 8) - 1;
}

static void bus_pio_write(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t value)
{
	(void)ctx, (void)vcpu, (void)port, (void)size, (void)value;
}

static void bus_mmio_read(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t *value)
{
	(void)ctx, (void)vcpu, (void)gpa;
	*value = size < 8 ? (UINT64_C(1) << (size * 8)) - 1 : UINT64_MAX;
}

static void bus_mmio_write(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t value)
{
	(void)ctx, (void)vcpu, (void)gpa, (void)size, (void)value;
}

static int bus_msr_read(void *ctx, unsigned vcpu, uint32_t msr, uint64_t *value)
{
	(void)ctx, (void)vcpu;
	*value = msr == 0x1b ? 0xfee00d00 : 0xfee00000u + msr;
	return msr & 1 || msr == 0x802 ? 0 : -EINVAL;
}

static int bus_msr_write(void *ctx, unsigned vcpu, uint32_t msr, uint64_t value)
{
	(void)ctx, (void)vcpu, (void)value;
	return msr & 1 ? 0 : -EINVAL;
}

static uint64_t bus_cr8_read(void *ctx, unsigned vcpu)
{
	(void)vcpu;
	return ((struct machine *)ctx)->cr8;
}

static void bus_cr8_write(void *ctx, unsigned vcpu, uint64_t value)
{
	(void)vcpu;
	((struct machine *)ctx)->cr8 = value;
}

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

static void bus_cpuid(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
		      struct vcpu_cpuid *out)
{
	struct cpuid_model model = {.tsc_hz = host_tsc_hz()};

	(void)ctx;
	cpuid_read(&model, vcpu, leaf, subleaf, out);
}

/* ---- Life and run ---------------------------------------------------------------------------- */

void machine_open(struct machine *m, const struct vcpu_ops *ops)
{
	struct vcpu_config config = {
		.vcpus = 1,
		.ram_end = RAM_BYTES,
		.bus = {m, bus_pio_read, bus_pio_write, bus_mmio_read, bus_mmio_write, bus_msr_read,
			bus_msr_write, bus_cr8_read, bus_cr8_write},
		.cpuid = bus_cpuid,
		.tsc_hz = host_tsc_hz(),
		.tsc_origin_ns = clock_now_ns(),
	};

	m->ops = ops;
	m->cr8 = 0;
	m->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(m->ram, MAP_FAILED);
	config.ram = m->ram;
	cr_assert_eq(ops->shared_create(m->ram, RAM_BYTES, &m->shared), 0);
	config.shared = m->shared;
	cr_assert_eq(ops->create(&config, &m->vcpu), 0);
}

void machine_close(struct machine *m)
{
	m->ops->destroy(m->vcpu);
	m->ops->shared_destroy(m->shared);
	munmap(m->ram, RAM_BYTES);
}

static void image_load(struct machine *m, const struct test_case *t)
{
	static uint8_t image[IMAGE_BYTES];
	uint64_t code = t->in.rip + (t->mode == MODE_REAL ? t->in.seg[SEG_CS].base : 0);

	if (!image[GPA_HALT])
		image_build(image);
	memcpy(m->ram, image, IMAGE_BYTES);
	memcpy(m->ram + GPA_LARGE, image + GPA_PD, LARGE_BYTES);
	zoo_fill(t, m->ram);
	tss_put(m->ram, IN(t->mode) & IN_PAGED);
	memcpy(m->ram + code, t->code, t->len);
	for (unsigned n = 0; n < t->patches; n++)
		put(m->ram, t->patch[n].gpa, t->patch[n].size, t->patch[n].value);
}

/* The vCPU that runs; the alarm's handler kicks it. */
static struct vcpu *volatile running;

static void alarm_kick(int signal)
{
	(void)signal;
	if (running)
		running->ops->kick(running);
}

static void alarm_set(long us)
{
	struct itimerval timer = {.it_value = {.tv_sec = us / 1000000, .tv_usec = us % 1000000}};
	struct sigaction action = {.sa_handler = alarm_kick};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

void machine_run(struct machine *m, const struct test_case *t, struct outcome *out)
{
	struct vcpu_exit exit = {0};

	memset(out, 0, sizeof(*out));
	out->reason = -1;
	image_load(m, t);
	m->cr8 = t->cr8;
	if (m->ops->memory_changed)
		m->ops->memory_changed(m->shared, 0, RAM_BYTES);
	if (m->ops->state_set(m->vcpu, &t->in))
		return;
	running = m->vcpu;
	alarm_set(RUN_LIMIT_US);
	m->ops->run(m->vcpu, &exit);
	alarm_set(0);
	running = NULL;
	m->ops->state_get(m->vcpu, &out->s);
	out->reason = exit.reason;
	out->cr8 = m->cr8;
}
