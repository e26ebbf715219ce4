/* SPDX-License-Identifier: Apache-2.0 */
/* Guest code in real mode: two CPUs take turns; each notes its time, and whether it went back. */

/* Guest memory: whose turn it is; the last stamp; the furthest way back and the turns, by CPU. */
#define TURN  0x8000
#define STAMP 0x8008
#define BACK  0x8010
#define TURNS 0x8018

	.section .rodata
	.code16

	.macro stamps me
0:	cmpl	$\me, TURN
	jne	0b
	rdtsc
	movl	%eax, %ebx
	movl	%edx, %ecx
	subl	STAMP, %eax
	sbbl	STAMP + 4, %edx
	jns	2f
	/* Back by more than 32 bits tell: all ones. */
	negl	%eax
	cmpl	$-1, %edx
	je	1f
	movl	$-1, %eax
1:	cmpl	BACK + 4 * \me, %eax
	jbe	2f
	movl	%eax, BACK + 4 * \me
2:	movl	%ebx, STAMP
	movl	%ecx, STAMP + 4
	incl	TURNS + 4 * \me
	movl	$1 - \me, TURN
	jmp	0b
	.endm

	.global	stamps_first, stamps_second, stamps_end
stamps_first:
	stamps	0
stamps_second:
	stamps	1
stamps_end:

	.section .note.GNU-stack, "", @progbits
