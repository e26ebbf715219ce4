/* SPDX-License-Identifier: Apache-2.0 */
/* The doors between the processor and the library: entry, trampoline, traps. */
#include "guests/micro/lib/layout.h"

/* Tells the loader that this program ends through the debug-exit port. */
	.section .note.pangea, "a", @note
	.align 4
	.long 7, 0, 1
	.asciz "Pangea"
	.align 4

/* ---- CPU 0: 64-bit mode, RSI = boot_params, all below 4 GiB mapped ---- */

	.section .text.entry, "ax"
	.globl entry
entry:
	leaq boot_stack_top(%rip), %rsp
	movq %rsi, %rdi
	call boot_main

	.bss
	.align 16
	.skip 8192
boot_stack_top:

/* ---- other CPUs: real mode at TRAMPOLINE, where cpu_start has copied this ---- */

#define AT(label) (label - trampoline_start + TRAMPOLINE)
	.data
	.align 8
	.globl trampoline_start, trampoline_end, trampoline_cr3, trampoline_cpu
trampoline_start:
	.code16
	cli
	xorw %ax, %ax
	movw %ax, %ds
	lgdtl AT(trampoline_gdtr)
	movl $CR4_FLAGS, %eax
	movl %eax, %cr4
	movl AT(trampoline_cr3), %eax
	movl %eax, %cr3
	movl $MSR_EFER, %ecx
	movl $EFER_LME, %eax
	xorl %edx, %edx
	wrmsr
	/* Straight from real mode into long mode: paging and protection at once. */
	movl $CR0_FLAGS, %eax
	movl %eax, %cr0
	ljmpl $SEL_KERNEL_CODE, $AT(trampoline_long)
	.code64
trampoline_long:
	movl $SEL_KERNEL_DATA, %eax
	movl %eax, %ss
	movq AT(trampoline_cpu), %rsp
	addq $KERNEL_STACK_TOP, %rsp
	movq $ap_main, %rax
	call *%rax
	.align 8
trampoline_gdt:
	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
trampoline_gdtr:
	.word . - trampoline_gdt - 1
	.long AT(trampoline_gdt)
	.align 8
trampoline_cr3:
	.quad 0
trampoline_cpu:
	.quad 0
trampoline_end:

/* ---- traps: 256 stubs of 16 bytes, which make the frames alike ---- */

	.text
	.align 16
	.globl trap_stubs
trap_stubs:
	.set vector, 0
	.rept 256
	.align 16
	/* Exceptions with an error code: 8, 10-14, 17, 21. */
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	pushq $0
	.endif
	pushq $vector
	jmp trap_common
	.set vector, vector + 1
	.endr

trap_common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	cld
	movq %rsp, %rdi
	call trap
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

/*
 * uint64_t call(number, a, b), at CPL3. UD2 is the one trap that every CPU engine delivers: where
 * KVM emulates CPL0, SYSCALL does not leave CPL3, and INT n is unknown. See trap().
 */
	.globl call
call:
	ud2
	ret

/* user_enter(rip, rsp): to CPL3, interrupts on. */
	.globl user_enter
user_enter:
	pushq $SEL_USER_DATA
	pushq %rsi
	pushq $0x202
	pushq $SEL_USER_CODE
	pushq %rdi
	iretq

	.section .note.GNU-stack, "", @progbits
