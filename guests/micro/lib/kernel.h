/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the library: the CPU's block, system calls, and the parts that run at CPL0. */
#ifndef GUESTS_MICRO_LIB_KERNEL_H
#define GUESTS_MICRO_LIB_KERNEL_H

#include <assert.h>

#include "guests/micro/lib/guest.h"

/* SDM 3A, figure 8-11. */
struct tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1, ist[7], reserved2;
	uint16_t reserved3, io_map;
} __attribute__((packed));

/* At the start of a CPU's block; see layout.h. */
struct cpu {
	/* the CPU itself writes; others read */
	volatile uint32_t online;
	volatile uint32_t done; /* the last generation of team work that it finished */
	volatile uint32_t taken[256];
	/* constant after its start; needed for every trap, so on a page that nobody else wants */
	uint32_t index PAGE_ALIGNED;
	uint32_t node;
	uint64_t gdt[7];
	struct tss tss;
};
static_assert(sizeof(struct cpu) <= CPU_DATA_SIZE, "the CPU's own data leaves room for stacks");

extern struct cpu *cpus[CPUS_MAX];

/* What the stubs in entry.S push, and then the processor. */
struct trap_frame {
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

static inline struct cpu *cpu_self(void)
{
	uint64_t rsp;

	__asm__ volatile("movq %%rsp, %0" : "=r"(rsp));
	return (struct cpu *)(rsp & ~(uint64_t)(CPU_BLOCK_SIZE - 1));
}

/* ---- system calls: the few things that CPL3 may not do ---- */

enum call {
	CALL_WRITE, /* (text, bytes) */
	CALL_EXIT,  /* (code) */
	CALL_IPI,   /* (cpu, vector) */
	CALL_IDLE,  /* (vector, taken): sleeps unless more interrupts of it have come */
	CALL_NAP,   /* (us): sleeps so long, or until another interrupt */
	CALL_START  /* (cpu): INIT and start-up IPIs */
};

uint64_t call(enum call number, uint64_t a, uint64_t b);

/* ---- CPL0 ---- */

/* acpi.c, boot.c */
void acpi_read(const uint8_t *boot_params);
void boot_main(const uint8_t *boot_params) __attribute__((noreturn));
/* memory.c: cuts the library's own memory out of the regions; page tables for a node. */
void regions_reserve(uint64_t start, uint64_t end);
void *block_alloc(unsigned node, size_t bytes, size_t align);
uint64_t page_tables_build(unsigned node);
/* cpu.c */
void cpu_make(unsigned index);
void cpu_enter(struct cpu *cpu, void (*user)(void)) __attribute__((noreturn));
void cpu_start(unsigned index);
void idt_make(void);
void machine_features_read(void);
extern uint64_t node_cr3[NODES_MAX];
/* trap.c */
void trap(struct trap_frame *frame);
void console_write(const char *text, size_t len);
void panic(const char *why) __attribute__((noreturn));
/* entry.S */
extern const uint8_t trap_stubs[];
extern uint8_t trampoline_start[], trampoline_end[];
extern uint64_t trampoline_cr3, trampoline_cpu;
void user_enter(void (*rip)(void), uint64_t rsp) __attribute__((noreturn));
void ap_main(void) __attribute__((noreturn));
/* link.ld */
extern uint8_t image_start[], image_end[];

/* ---- CPL3 ---- */

void user_main(void) __attribute__((noreturn));
void user_team(void) __attribute__((noreturn));
size_t text_format(char *out, size_t size, const char *fmt, va_list ap);

/* ---- instructions ---- */

static inline void port_out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline void port_out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static inline uint8_t port_in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void msr_write(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

static inline uint64_t msr_read(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void cpuid_get(uint32_t leaf, uint32_t out[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(leaf), "c"(0));
}

#endif
