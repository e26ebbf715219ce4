/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, selectors and vectors that the assembly and the C parts of the library share. */
#ifndef GUESTS_MICRO_LIB_LAYOUT_H
#define GUESTS_MICRO_LIB_LAYOUT_H

/*
 * Each CPU has one block, aligned to its size, in its own node's memory: struct cpu first, then
 * the stack of CPL0, then that of CPL3. Whoever has a stack pointer knows its CPU.
 */
#define CPU_BLOCK_SIZE	 0x10000
#define CPU_DATA_SIZE	 0x2000
#define KERNEL_STACK_TOP 0x6000
#define USER_STACK_TOP	 0xfff0

/* Selectors. */
#define SEL_KERNEL_CODE 0x08
#define SEL_KERNEL_DATA 0x10
#define SEL_USER_DATA	0x1b
#define SEL_USER_CODE	0x23
#define SEL_TSS		0x28

/*
 * Vectors. Those of senders name who sent an IPI, as the APIC does not: CPU n sends
 * VECTOR_SENDER + n, and whoever takes it answers n with VECTOR_ECHO, from its handler.
 */
#define VECTOR_WAKE	0x30
#define VECTOR_TIMER	0x31
#define VECTOR_ECHO	0x32
#define VECTOR_SENDER	0x40
#define VECTORS_SENDERS 64
#define VECTOR_SPURIOUS 0xff

/* The page, below 1 MiB, in which a CPU begins after its start-up IPI. */
#define TRAMPOLINE	  0x8000
#define TRAMPOLINE_VECTOR 0x08

#define EFER_LME  0x100
#define CR0_FLAGS 0x80000033 /* PG, NE, ET, MP, PE */
#define CR4_FLAGS 0x620	     /* PAE, OSFXSR, OSXMMEXCPT */

#define MSR_APIC_BASE	 0x1b
#define MSR_X2APIC_ID	 0x802
#define MSR_APIC_EOI	 0x80b
#define MSR_APIC_SVR	 0x80f
#define MSR_APIC_ICR	 0x830
#define MSR_APIC_TIMER	 0x832
#define MSR_APIC_INITIAL 0x838
#define MSR_APIC_DIVIDE	 0x83e
#define MSR_EFER	 0xc0000080

#endif
