/* SPDX-License-Identifier: Apache-2.0 */
/* One CPU's registers and tables, and how the others are started. Runs at CPL0. */
#include "guests/micro/lib/kernel.h"

#define APIC_ENABLE	  0x100
#define APIC_DIVIDE_BY_1  0xb
#define ICR_INIT	  0x4500ul /* INIT, assert */
#define ICR_SIPI	  0x4600ul
#define GATE_INTERRUPT	  0x8e00ul
#define TRAP_STUB_SIZE	  16
#define CPUID_FEATURES	  0x1
#define CPUID_TSC	  0x15
#define CPUID_VM_TIME	  0x40000010
#define CPUID_1_ECX_CX16  (1u << 13)
#define TSC_HZ_OTHERWISE  1000000000ul
#define SIPI_PAUSE_CYCLES 1000000ul

struct gate {
	uint64_t low, high;
};

struct table_register {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

struct cpu *cpus[CPUS_MAX] PAGE_ALIGNED;
uint64_t node_cr3[NODES_MAX];
static struct gate idt[256] PAGE_ALIGNED;

void idt_make(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t stub = (uint64_t)trap_stubs + (uint64_t)i * TRAP_STUB_SIZE;

		idt[i].low = (stub & 0xffff) | (uint64_t)SEL_KERNEL_CODE << 16 |
			     GATE_INTERRUPT << 32 | (stub >> 16 & 0xffff) << 48;
		idt[i].high = stub >> 32;
	}
}

/* The TSC's frequency: leaf 0x15, or the hypervisor's timing leaf. Else a guess, marked as such. */
void machine_features_read(void)
{
	uint32_t leaf[4];

	cpuid_get(CPUID_FEATURES, leaf);
	machine.has_cx16 = leaf[2] & CPUID_1_ECX_CX16;
	machine.tsc_known = true;
	cpuid_get(0, leaf);
	if (leaf[0] >= CPUID_TSC) {
		cpuid_get(CPUID_TSC, leaf);
		if (leaf[0] && leaf[1] && leaf[2]) {
			machine.tsc_hz = (uint64_t)leaf[2] * leaf[1] / leaf[0];
			return;
		}
	}
	cpuid_get(0x40000000, leaf);
	if (leaf[0] >= CPUID_VM_TIME && leaf[0] < CPUID_VM_TIME + 0x100) {
		cpuid_get(CPUID_VM_TIME, leaf);
		if (leaf[0]) {
			machine.tsc_hz = (uint64_t)leaf[0] * 1000;
			return;
		}
	}
	machine.tsc_known = false;
	machine.tsc_hz = TSC_HZ_OTHERWISE;
}

/* The block of a CPU, on its node, with its GDT and TSS. */
void cpu_make(unsigned index)
{
	static const uint64_t flat[5] = {0, 0x00af9b000000ffff, /* kernel code */
					 0x00cf93000000ffff,	/* kernel data */
					 0x00cff3000000ffff,	/* user data */
					 0x00affb000000ffff};	/* user code */
	struct cpu *cpu = block_alloc(machine.node_of[index], CPU_BLOCK_SIZE, CPU_BLOCK_SIZE);
	uint64_t base, limit = sizeof(struct tss) - 1;

	if (!cpu)
		panic("no memory for a CPU");
	cpus[index] = cpu;
	cpu->index = index;
	cpu->node = machine.node_of[index];
	memcpy(cpu->gdt, flat, sizeof(flat));
	base = (uint64_t)&cpu->tss;
	cpu->gdt[5] = limit | (base & 0xffffff) << 16 | 0x89ul << 40 | (base >> 24 & 0xff) << 56;
	cpu->gdt[6] = base >> 32;
	cpu->tss.rsp[0] = (uint64_t)cpu + KERNEL_STACK_TOP;
	cpu->tss.io_map = sizeof(struct tss);
}

static void apic_enable(void)
{
	msr_write(MSR_APIC_SVR, APIC_ENABLE | VECTOR_SPURIOUS);
	msr_write(MSR_APIC_DIVIDE, APIC_DIVIDE_BY_1);
	msr_write(MSR_APIC_TIMER, VECTOR_TIMER);
}

static void tables_load(struct cpu *cpu)
{
	struct table_register gdtr = {sizeof(cpu->gdt) - 1, (uint64_t)cpu->gdt};
	struct table_register idtr = {sizeof(idt) - 1, (uint64_t)idt};

	__asm__ volatile("lgdt %0\n\t"
			 "lidt %1\n\t"
			 "ltr %w2\n\t"
			 "movl %3, %%ss\n\t"
			 "movl %4, %%ds\n\t"
			 "movl %4, %%es\n\t"
			 "movl %5, %%fs\n\t"
			 "movl %5, %%gs"
			 :
			 : "m"(gdtr), "m"(idtr), "r"(SEL_TSS), "r"(SEL_KERNEL_DATA),
			   "r"(SEL_USER_DATA), "r"(0)
			 : "memory");
}

/* From the CPU's first instructions to CPL3. */
void cpu_enter(struct cpu *cpu, void (*user)(void))
{
	__asm__ volatile("movq %0, %%cr4" ::"r"((uint64_t)CR4_FLAGS));
	__asm__ volatile("movq %0, %%cr0" ::"r"((uint64_t)CR0_FLAGS));
	__asm__ volatile("movq %0, %%cr3" ::"r"(node_cr3[cpu->node]) : "memory");
	tables_load(cpu);
	apic_enable();
	/* As after a call: 8 off a multiple of 16. */
	user_enter(user, (uint64_t)cpu + USER_STACK_TOP - 8);
}

/* Where the trampoline ends, on the new CPU's own stack. */
void ap_main(void)
{
	struct cpu *cpu = (struct cpu *)((uint64_t)__builtin_frame_address(0) &
					 ~(uint64_t)(CPU_BLOCK_SIZE - 1));

	cpu_enter(cpu, user_team);
}

static uint64_t *trampoline_word(uint64_t *word)
{
	return (uint64_t *)(TRAMPOLINE + ((uint8_t *)word - trampoline_start));
}

static uint64_t tsc_read(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* SDM 3A, 9.4.4.1: INIT, then the start-up IPI twice; the second finds a CPU that runs already. */
void cpu_start(unsigned index)
{
	uint64_t dest = (uint64_t)machine.apic_id[index] << 32, until;

	memcpy((void *)TRAMPOLINE, trampoline_start, (size_t)(trampoline_end - trampoline_start));
	*trampoline_word(&trampoline_cr3) = node_cr3[0];
	*trampoline_word(&trampoline_cpu) = (uint64_t)cpus[index];
	__asm__ volatile("mfence" ::: "memory");
	msr_write(MSR_APIC_ICR, dest | ICR_INIT);
	msr_write(MSR_APIC_ICR, dest | ICR_SIPI | TRAMPOLINE_VECTOR);
	until = tsc_read() + SIPI_PAUSE_CYCLES;
	while (!cpus[index]->online && tsc_read() < until)
		cpu_pause();
	if (!cpus[index]->online)
		msr_write(MSR_APIC_ICR, dest | ICR_SIPI | TRAMPOLINE_VECTOR);
}
