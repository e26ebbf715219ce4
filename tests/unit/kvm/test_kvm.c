/* SPDX-License-Identifier: Apache-2.0 */
/* The kvm engine's exits, events and kicks, by tiny guests on this host's /dev/kvm. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "tests/unit/kvm/kvm_guest.h"
#include "vmm/clock/clock.h"
#include "vmm/cpu/cpuid.h"

/* ---- accesses ---- */

Test(kvm, ports)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	memcpy(g.ram + DATA, "hello", 5);
	guest_kernel(&g, LABEL(ports));
	guest_put(&g);
	g.bus.logged = 0;
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_assert_eq(guest_accesses(&g, 'o'), 7);
	for (unsigned i = 0; i < 7; i++) {
		const struct bus_access *a = guest_access(&g, 'o', i);

		cr_expect_eq(a->address, 0xe9);
		cr_expect_eq(a->size, 1);
		cr_expect_eq(a->value, (uint64_t)"hihello"[i]);
	}
	cr_expect_eq(g.s.gpr[RBX] & 0xff, 0xf8);
	cr_expect_eq(g.s.gpr[R8], 0xa0000600);
	cr_expect_eq(guest_accesses(&g, 'i'), 5);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(((uint32_t *)(g.ram + DATA + 0x100))[i], 0xa00003f8);
	cr_expect_eq(g.s.gpr[RCX], 0);
	guest_close(&g);
}

Test(kvm, mmio)
{
	static const struct bus_access writes[] = {{'w', 1, MMIO_GPA, 0x11},
						   {'w', 2, MMIO_GPA + 2, 0x2222},
						   {'w', 4, MMIO_GPA + 4, 0x33333333},
						   {'w', 8, MMIO_GPA + 8, 0x4444444455555555}};
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_kernel(&g, LABEL(mmio));
	guest_put(&g);
	g.bus.logged = 0;
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	for (unsigned i = 0; i < 4; i++) {
		const struct bus_access *a = guest_access(&g, 'w', i);

		cr_expect_eq(a->size, writes[i].size);
		cr_expect_eq(a->address, writes[i].address);
		cr_expect_eq(a->value, writes[i].value);
	}
	cr_expect_eq(g.s.gpr[RBX], 0x88);
	cr_expect_eq(g.s.gpr[RCX], 0x1122334455667788);
	cr_expect_eq(g.s.gpr[RDX], 0x55667788);
	cr_expect_eq(guest_accesses(&g, 'r'), 3);
	guest_close(&g);
}

Test(kvm, msrs)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_kernel(&g, LABEL(msrs));
	guest_put(&g);
	g.bus.logged = 0;
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RBX], 0xfee00802);
	cr_expect_eq(g.s.gpr[R8], 0xfee00d00);
	cr_expect_eq(guest_access(&g, 'n', 0)->address, 0x80b);
	cr_expect_eq(guest_access(&g, 'n', 0)->value, 0x567800001234);
	/* Both refusals of 0x80f, the MSR that nobody knows, and KVM's clock. */
	cr_expect_eq(g.s.gpr[R12], 5, "%lu #GP", (unsigned long)g.s.gpr[R12]);
	guest_close(&g);
}

Test(kvm, cr8)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	g.bus.cr8 = 9;
	guest_kernel(&g, LABEL(cr8));
	guest_put(&g);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RBX], 9);
	cr_expect_eq(g.s.gpr[RCX], 5);
	cr_expect_eq(g.bus.cr8, 5);
	guest_close(&g);
}

/* KVM without VT-x or SVM shows guests more than it was told; never less. */
Test(kvm, cpuid)
{
	struct guest g;
	struct vcpu_cpuid model;
	struct kvm_features can;
	struct kvm_tsc_report report;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_kernel(&g, LABEL(cpuid));
	guest_put(&g);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_assert_eq(kvm_supported_features(&can), 0);
	cr_assert_eq(kvm_tsc_probe(&report), 0);
	cr_expect_eq(g.s.gpr[R8], 0x4b4d564b); /* KVMKVMKVM */
	cr_expect_eq(g.s.gpr[R9], 0x564b4d56);
	cr_expect_eq(g.s.gpr[R10], 0x4d);
	guest_cpuid(NULL, 3, 1, 0, &model);
	cr_expect_eq(g.s.gpr[R11] & model.ecx, model.ecx & can.leaf1_ecx);
	if (report.offset_works)
		cr_expect_eq(g.s.gpr[R11] & ~(uint64_t)model.ecx, 0);
	cr_expect(g.s.gpr[R11] & 1u << 21, "x2APIC is offered");
	cr_expect_eq(g.s.gpr[R12] >> 24, 3);
	cr_expect_eq(g.s.gpr[RDX], 3); /* leaf 0xb: the x2APIC id */
	cr_expect_eq(g.s.gpr[RCX], 0x201);
	guest_close(&g);
}

/* ---- whose processor it is ---- */

static void other_cpuid(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
			struct vcpu_cpuid *out)
{
	guest_cpuid(ctx, vcpu, leaf, subleaf, out);
	if (leaf != 0)
		return;
	if (kvm_vendor_can(CPU_VENDOR_INTEL))
		*out = (struct vcpu_cpuid){out->eax, 0x68747541, 0x444d4163, 0x69746e65};
	else
		*out = (struct vcpu_cpuid){out->eax, 0x756e6547, 0x6c65746e, 0x49656e69};
}

/* Else a kernel that is told so leaves open what the processor has: SYSCALL with CSTAR zero. */
Test(kvm, the_wrong_vendor_is_refused)
{
	struct vcpu_config config;
	struct vcpu *v = NULL;
	struct guest g;

	if (kvm_vendor_can(CPU_VENDOR_INTEL) && kvm_vendor_can(CPU_VENDOR_AMD))
		cr_skip_test("neither VT-x nor SVM: any vendor will do");
	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	config = guest_config(&g);
	config.id = 2;
	config.cpuid = other_cpuid;
	cr_expect_eq(g.ops->create(&config, &v), -ENOTSUP);
	guest_close(&g);
}

/* 32-bit user code's SYSCALL: into the kernel by CSTAR with AMD, #UD with Intel; never to 0. */
Test(kvm, syscall_in_compatibility_mode)
{
	static const uint8_t code[] = {0x0f, 0x05, 0xf4};
	bool amd = !kvm_vendor_can(CPU_VENDOR_INTEL);
	struct guest g;

	if (!amd && kvm_vendor_can(CPU_VENDOR_AMD))
		cr_skip_test("neither VT-x nor SVM: what it does is not the processor's");
	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	memset(g.ram, 0xf4, 16); /* HLT: what would run there at CPL 0 is seen */
	memcpy(g.ram + DATA + 0x100, code, sizeof(code));
	guest_user(&g, DATA + 0x100);
	g.s.seg[SEG_CS].selector = 0x1b;
	g.s.seg[SEG_CS].attr = 0xcfb;
	g.s.cstar = amd ? LABEL(finish) : 0;
	g.s.gpr[RAX] = 77;
	guest_put(&g);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_gt(g.s.rip, LABEL(finish), "rip %llx", (unsigned long long)g.s.rip);
	cr_expect_eq(*guest_u64(&g, DATA), 77);
	cr_expect_eq(g.s.seg[SEG_CS].selector, SEL_KCODE);
	if (amd)
		cr_expect_eq(g.s.gpr[RCX], DATA + 0x102);
	guest_close(&g);
}

/* ---- interrupts ---- */

Test(kvm, halt_and_interrupt)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_kernel(&g, LABEL(halt_loop));
	guest_put(&g);
	cr_expect_not(g.ops->interrupt_ready(g.v));
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect(g.s.halted);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT, "it stays halted");
	cr_expect_eq(g.s.gpr[RBX], 0);
	for (unsigned i = 1; i <= 20; i++) {
		cr_assert(g.ops->interrupt_ready(g.v));
		g.ops->interrupt(g.v, 0x50);
		cr_expect_not(g.ops->interrupt_ready(g.v));
		cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.gpr[R12], i);
		cr_expect_eq(g.s.gpr[RBX], i);
	}
	guest_close(&g);
}

Test(kvm, irq_window)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_kernel(&g, LABEL(window));
	guest_put(&g);
	g.ops->irq_window(g.v, true);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_IRQ_WINDOW);
	cr_expect_eq(g.s.gpr[RBX], 1, "not before STI");
	cr_expect(g.ops->interrupt_ready(g.v));
	g.ops->irq_window(g.v, false);
	g.ops->interrupt(g.v, 0x50);
	g.ops->irq_window(g.v, true);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_IRQ_WINDOW);
	cr_expect_eq(g.s.gpr[R12], 1);
	guest_close(&g);
}

Test(kvm, nmi_wakes)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_gate(&g, 2, LABEL(count), 0);
	guest_kernel(&g, LABEL(halt_loop));
	guest_put(&g);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	g.ops->nmi(g.v);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[R12], 1);
	cr_expect_eq(g.s.gpr[RBX], 1);
	cr_expect_not(g.s.nmi_blocked);
	guest_close(&g);
}

Test(kvm, triple_fault)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_kernel(&g, 0x800000000000 - 0x1000); /* not mapped */
	g.s.idtr.limit = 0;
	guest_put(&g);
	cr_expect_eq(guest_run(&g), VCPU_EXIT_SHUTDOWN);
	cr_expect_eq(guest_run(&g), VCPU_EXIT_SHUTDOWN);
	guest_close(&g);
}

/* ---- kicks ---- */

struct kicker {
	struct guest *g;
	_Atomic bool stop;
	_Atomic unsigned kicks;
	long pause_ns;
};

static void *kicker_thread(void *arg)
{
	struct kicker *k = arg;

	while (!atomic_load(&k->stop)) {
		nanosleep(&(struct timespec){.tv_nsec = k->pause_ns}, NULL);
		k->g->ops->kick(k->g->v);
		atomic_fetch_add(&k->kicks, 1);
	}
	return NULL;
}

Test(kvm, kick_latched)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_user(&g, LABEL(user_spin));
	guest_put(&g);
	g.ops->kick(g.v);
	g.ops->kick(g.v);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_KICKED);
	cr_expect_eq(g.s.gpr[RAX], 0);
	g.s.halted = 1;
	guest_put(&g);
	g.ops->kick(g.v);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_KICKED);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	guest_close(&g);
}

/* Every run ends by a kick, and not one is lost: else this hangs until the test's time is up. */
Test(kvm, kicks_from_threads, .timeout = 60)
{
	struct guest g;
	struct kicker k[2] = {{.g = &g, .pause_ns = 100000}, {.g = &g, .pause_ns = 170000}};
	pthread_t thread[2];

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_user(&g, LABEL(user_spin));
	guest_put(&g);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, kicker_thread, &k[i]), 0);
	for (unsigned i = 0; i < 1000; i++) {
		g.ops->run(g.v, &g.exit);
		cr_assert_eq(g.exit.reason, VCPU_EXIT_KICKED);
	}
	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&k[i].stop, true);
		pthread_join(thread[i], NULL);
	}
	g.ops->state_get(g.v, &g.s);
	cr_expect_gt(g.s.gpr[RAX], 0);
	guest_close(&g);
}

/* ---- memory ---- */

Test(kvm, private_slot)
{
	const uint64_t gpa = 0xd0000000;
	const size_t size = 0x200000;
	struct guest g;
	uint8_t *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(host, MAP_FAILED);
	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	cr_expect_eq(kvm_vm_private_slot(g.shared, 1, host, size), -EINVAL);
	cr_expect_eq(kvm_vm_private_slot(g.shared, 0, host, size), -EEXIST);
	cr_expect_eq(kvm_vm_private_slot(g.shared, 0xfffbe000, host, 4096), -EEXIST);
	cr_assert_eq(kvm_vm_private_slot(g.shared, gpa, host, size), 0);
	cr_expect_eq(kvm_vm_private_slot(g.shared, gpa + size - 4096, host, 4096), -EEXIST);
	/* What was MMIO is memory now. */
	guest_kernel(&g, LABEL(mmio));
	guest_put(&g);
	g.bus.logged = 0;
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(guest_accesses(&g, 'w'), 0);
	cr_expect_eq(((uint64_t *)host)[1], 0x4444444455555555);
	guest_close(&g);
	munmap(host, size);
}

/* An image, where the private slot above was: loads see it, stores come out as accesses to a device. */
Test(kvm, image_is_read_only)
{
	const uint64_t gpa = 0xd0000000, size = 0x200000,
		       loaded[] = {0x1122334455667788, 0x99aabbccddeeff00};
	struct guest g;
	uint8_t *ram = mmap(NULL, gpa + size, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	cr_assert_neq(ram, MAP_FAILED);
	cr_assert_neq(mmap(ram, GUEST_RAM, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		      MAP_FAILED);
	cr_assert_eq(mprotect(ram + gpa, size, PROT_READ | PROT_WRITE), 0);
	memcpy(ram + gpa + 24, loaded, sizeof(loaded));
	cr_assert_eq(mprotect(ram + gpa, size, PROT_READ), 0);
	guest_fill(ram);
	guest_open(&g, &vcpu_kvm_ops, ram, GUEST_RAM);
	cr_expect_eq(vcpu_kvm_ops.image_add(g.shared, 0x1000, size), -EINVAL);
	cr_expect_eq(vcpu_kvm_ops.image_add(g.shared, gpa + 1, size), -EINVAL);
	cr_assert_eq(vcpu_kvm_ops.image_add(g.shared, gpa, size), 0);
	cr_expect_eq(vcpu_kvm_ops.image_add(g.shared, gpa, size), -EEXIST);
	guest_kernel(&g, LABEL(mmio));
	guest_put(&g);
	g.bus.logged = 0;
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	g.ops->state_get(g.v, &g.s);
	cr_expect_eq(guest_accesses(&g, 'w'), 4);
	cr_expect_eq(guest_accesses(&g, 'r'), 0);
	cr_expect_eq(g.s.gpr[RCX], loaded[0]);
	cr_expect_eq((uint32_t)g.s.gpr[RDX], (uint32_t)loaded[1]);
	cr_expect_eq(ram[gpa], 0);
	guest_close(&g);
	munmap(ram, gpa + size);
}

Test(kvm, bad_configurations)
{
	struct vcpu_config config;
	struct guest g;
	struct vcpu *v;
	void *shared;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	cr_expect_eq(vcpu_kvm_ops.shared_create(NULL, 4096, &shared), -EINVAL);
	cr_expect_eq(vcpu_kvm_ops.shared_create(g.ram, 4097, &shared), -EINVAL);
	config = guest_config(&g);
	config.shared = NULL;
	cr_expect_eq(vcpu_kvm_ops.create(&config, &v), -EINVAL);
	config = guest_config(&g);
	cr_expect_eq(vcpu_kvm_ops.create(&config, &v), -EEXIST, "the id is taken");
	guest_close(&g);
}

/* ---- time ---- */

/* Where the processor runs guests, their TSC counts from the origin; elsewhere it only counts. */
Test(kvm, tsc)
{
	struct kvm_tsc_report report;
	struct vcpu_config config;
	struct guest g;
	uint64_t before, after, tsc;

	cr_assert_eq(kvm_tsc_probe(&report), 0);
	printf("TSC: host %lu Hz, scaling %d, offset %d, works %d\n", (unsigned long)report.host_hz,
	       report.scaling, report.offset, report.offset_works);
	cr_expect_eq(kvm_tsc_can(report.host_hz), 0);
	cr_expect_eq(kvm_tsc_can(1), -ENOTSUP);
	if (!report.scaling)
		cr_expect_eq(kvm_tsc_can(report.host_hz + 1000000), -ENOTSUP);
	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	config = guest_config(&g);
	guest_user(&g, LABEL(user_tsc));
	guest_put(&g);
	before = clock_now_ns() - config.tsc_origin_ns;
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT, "exit %d", (int)g.exit.reason);
	/* guest_open's origin is a little older than config's. */
	after = clock_now_ns() - config.tsc_origin_ns + NS_PER_S;
	tsc = *guest_u64(&g, DATA);
	cr_expect_gt(tsc, 0);
	if (report.offset_works) {
		cr_expect_geq((double)tsc, (double)before * (double)report.host_hz / 1e9 * 0.999);
		cr_expect_leq((double)tsc, (double)after * (double)report.host_hz / 1e9 * 1.001);
	}
	guest_close(&g);
}

/* The TSC in ns as the guest reads it, between two readings of its clock by the host. */
static uint64_t tsc_between(struct guest *g, const struct guest_clock *clock, uint64_t hz,
			    bool checked)
{
	uint64_t before, after, ns;

	guest_user(g, LABEL(user_tsc));
	guest_put(g);
	before = guest_clock_now(clock);
	cr_assert_eq(guest_run(g), VCPU_EXIT_HLT);
	after = guest_clock_now(clock);
	ns = (uint64_t)((unsigned __int128)*guest_u64(g, DATA) * NS_PER_S / hz);
	if (checked) {
		cr_expect_geq(ns + 3000, before, "%lu < %lu", (unsigned long)ns,
			      (unsigned long)before);
		cr_expect_leq(ns, after + 3000, "%lu > %lu", (unsigned long)ns,
			      (unsigned long)after);
	}
	return ns;
}

/* The guest's clock is corrected to and fro as fast as it may be: the TSC follows within its
 * microsecond (and the host's own reading error), and never goes back. */
Test(kvm, tsc_follows_the_clock, .timeout = 60)
{
	struct guest_clock_source source = {0};
	struct kvm_tsc_report report;
	struct vcpu_config config;
	struct guest_clock clock;
	uint64_t last = 0;
	struct guest g;

	cr_assert_eq(kvm_tsc_probe(&report), 0);
	guest_clock_init(&clock, &source, clock_now_ns(), 5 * NS_PER_S);
	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	g.ops->destroy(g.v);
	config = guest_config(&g);
	config.id = 2;
	config.clock = &clock;
	cr_assert_eq(g.ops->create(&config, &g.v), 0);
	/* Before the first run time may jump. */
	guest_clock_step(&clock, clock_now_ns(), 9 * NS_PER_S, 0);
	for (unsigned i = 0; i < 400; i++) {
		int64_t rate = i / 50 % 2 ? GUEST_CLOCK_RATE_MAX : -GUEST_CLOCK_RATE_MAX;
		uint64_t ns;

		if (i % 50 == 0)
			(void)guest_clock_slew(&clock, rate);
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
		ns = tsc_between(&g, &clock, config.tsc_hz, report.offset_works);
		cr_expect_geq(ns, last, "run %u: back from %lu to %lu", i, (unsigned long)last,
			      (unsigned long)ns);
		last = ns;
	}
	guest_close(&g);
}
