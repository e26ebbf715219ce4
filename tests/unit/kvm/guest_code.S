/* SPDX-License-Identifier: Apache-2.0 */
/* Tiny guests for the kvm engine, 64-bit and position-independent; copied to CODE as a whole. */
	.section .rodata
	.balign 4096
	.global kvm_guest_code, kvm_guest_code_end
kvm_guest_code:

#define LABEL(name) .global kvm_guest_##name; kvm_guest_##name

/* ---- ports: one by one, a string out, a string in ---- */
LABEL(ports):
	mov	$'h', %al
	out	%al, $0xe9
	mov	$'i', %al
	out	%al, $0xe9
	mov	$0x3f8, %dx
	in	%dx, %al
	mov	%eax, %ebx
	mov	$0x600, %dx
	in	%dx, %eax
	mov	%rax, %r8
	cld
	mov	$0xe9, %dx
	mov	$0x60000, %esi
	mov	$5, %ecx
	rep outsb
	mov	$0x3f8, %dx
	mov	$0x60100, %edi
	mov	$3, %ecx
	rep insl
	hlt

/* ---- MMIO: all widths; a read and write of one location ---- */
LABEL(mmio):
	mov	$0xd0000000, %r8d
	movb	$0x11, (%r8)
	movw	$0x2222, 2(%r8)
	movl	$0x33333333, 4(%r8)
	mov	$0x4444444455555555, %rax
	mov	%rax, 8(%r8)
	movzbl	16(%r8), %ebx
	mov	24(%r8), %rcx
	mov	32(%r8), %edx
	hlt

/* ---- MSRs: the APIC's, and one that is refused ---- */
LABEL(msrs):
	mov	$0x802, %ecx
	rdmsr
	mov	%eax, %ebx
	mov	$0x80b, %ecx
	mov	$0x1234, %eax
	mov	$0x5678, %edx
	wrmsr
	mov	$0x1b, %ecx
	rdmsr
	mov	%eax, %r8d
	mov	$0x80f, %ecx
	rdmsr			/* #GP: 2 bytes */
	mov	$0x80f, %ecx
	wrmsr			/* #GP */
	mov	$0x12345678, %ecx
	rdmsr			/* #GP */
	mov	$0x4b564d01, %ecx
	mov	$0x60001, %eax
	xor	%edx, %edx
	wrmsr			/* #GP: KVM's clock, which is not offered */
	mov	$0x12, %ecx
	wrmsr			/* #GP: the same, older */
	hlt
/* Skips a two-byte instruction that faults with an error code. */
LABEL(skip_gp):
	inc	%r12
	addq	$2, 8(%rsp)
	add	$8, %rsp
	iretq

/* ---- interrupts ---- */
LABEL(halt_loop):
	sti
1:	hlt
	inc	%rbx
	jmp	1b
LABEL(count):
	inc	%r12
	iretq
/* Interrupts are off for a while, then on. */
LABEL(window):
	mov	$200, %ecx
1:	dec	%ecx
	jnz	1b
	mov	$1, %ebx
	sti
	nop
2:	inc	%rax
	jmp	2b

/* ---- CR8: what the guest sets goes out, what the machine sets comes in ---- */
LABEL(cr8):
	mov	%cr8, %rbx
	mov	$5, %eax
	mov	%rax, %cr8
	mov	%cr8, %rcx
	hlt

LABEL(cpuid):
	mov	$0x40000000, %eax
	cpuid
	mov	%ebx, %r8d
	mov	%ecx, %r9d
	mov	%edx, %r10d
	mov	$1, %eax
	xor	%ecx, %ecx
	cpuid
	mov	%ecx, %r11d
	mov	%ebx, %r12d
	mov	$0xb, %eax
	mov	$1, %ecx
	cpuid
	hlt

/* ---- user code ---- */
LABEL(user_spin):
	inc	%rax
	jmp	kvm_guest_user_spin

LABEL(user_tsc):
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	ud2

/*
 * A computation at CPL 3, entered from CPL 0 by IRETQ: r9 rounds of a multiplicative hash over the
 * r10 words at r11 (which it changes), with a sum of SSE doubles beside it. The kernel's part of
 * the end stores the hash (rax) and the sum, and halts. User code ends by UD2, not by INT, which
 * one kind of KVM (PVM) cannot deliver from CPL 3.
 */
LABEL(compute):
	pushq	$0x23
	pushq	$0x50000
	pushq	$0x202
	pushq	$0x2b
	lea	1f(%rip), %rax
	pushq	%rax
	iretq
1:	mov	$0x9e3779b97f4a7c15, %r8
	xor	%eax, %eax
	mov	$1, %ecx
	cvtsi2sd %rcx, %xmm1
	pxor	%xmm0, %xmm0
2:	xor	%ecx, %ecx
3:	add	(%r11,%rcx,8), %rax
	imul	%r8, %rax
	mov	%rax, %rdx
	shr	$29, %rdx
	xor	%rdx, %rax
	lock xadd %rax, (%r11,%rcx,8)
	addsd	%xmm1, %xmm0
	inc	%rcx
	cmp	%r10, %rcx
	jb	3b
	dec	%r9
	jnz	2b
	cvttsd2si %xmm0, %rbx
	ud2
LABEL(finish):
	mov	%rax, 0x60000
	mov	%rbx, 0x60008
	cli
	hlt
/* User code adds one to the first word of each of the r10 pages from r11, r9 times; rax: their sum. */
LABEL(pages):
	xor	%eax, %eax
1:	mov	%r11, %rsi
	mov	%r10, %rcx
2:	lock incq (%rsi)
	add	(%rsi), %rax
	add	$4096, %rsi
	dec	%rcx
	jnz	2b
	dec	%r9
	jnz	1b
	ud2
kvm_guest_code_end:
	.section .note.GNU-stack, "", @progbits
