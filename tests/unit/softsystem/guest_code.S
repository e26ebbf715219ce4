/* SPDX-License-Identifier: Apache-2.0 */
/* The code of the tiny guests: loaded as a whole at 0x10000 (CODE in guest.h). */
	.intel_syntax noprefix
	.section .rodata
	.balign 4096
	.globl guest_code, guest_code_end
guest_code:
	.set BASE, 0x10000
#define ADDR(label) (label - guest_code + BASE)

	.macro entry name
	.balign 16
	.globl gc_\name
gc_\name:
	.endm

/* ---- Real mode to long mode (starts by SIPI with vector 10h) --------------------------------- */
	.code16
entry boot
	cli
	mov ax, cs
	mov ds, ax
	data32 lgdt [boot_gdtr - guest_code]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	data32 ljmp 0x40, offset ADDR(boot32)
	.code32
boot32:
	mov ax, 0x10
	mov ds, ax
	mov ss, ax
	mov esp, 0x48000
	mov eax, cr4
	or eax, 0x20
	mov cr4, eax
	mov eax, 0x20000
	mov cr3, eax
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x901
	wrmsr
	mov eax, cr0
	or eax, 0x80010000
	mov cr0, eax
	ljmp 0x08, offset ADDR(boot64)
	.code64
boot64:
	movabs rax, 0x123456789abcdef0
	push rax
	pop rbx
	mov ecx, 0xc0000080
	rdmsr
	hlt
	.balign 4
boot_gdtr:
	.word 0x7f
	.long 0x30000

/* ---- Exceptions end here: r8 vector, r9 error, r10 CR2, r11 rip of the frame ------------------ */
entry stop
	pop r8
	pop r9
	mov r10, cr2
	mov r11, [rsp]
	hlt
	ud2

entry stubs
	.set vector, 0
	.rept 256
	.balign 16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
	push 0
	.endif
	push vector
	jmp gc_stop
	.set vector, vector + 1
	.endr

/* The same for 32-bit handlers: esi vector, edi error, ebp rip; eax ss:esp's esp slot if any. */
	.code32
stop32:
	pop esi
	pop edi
	mov ebp, [esp]
	hlt
	ud2
entry stubs32
	.set vector, 0
	.rept 256
	.balign 16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
	push 0
	.endif
	push vector
	jmp stop32
	.set vector, vector + 1
	.endr

/* ---- 64-bit snippets -------------------------------------------------------------------------- */
	.code64
entry hlt
	hlt

entry handler_count			/* an interrupt handler */
	inc r12
	mov r13, [rsp]
	mov r14, [rsp + 16]
	mov r15, rsp
	iretq

entry handler_skip			/* skips a 1-byte instruction; for faults with error code */
	inc r12
	add rsp, 8
	inc qword ptr [rsp]
	iretq

entry load				/* rax = [rbx] */
	mov rax, [rbx]
	hlt

entry load_user
	mov rax, [rbx]
	int 0x40

entry store
	mov [rbx], rax
	hlt

entry add_mem
	add [rbx], rax
	hlt

entry call_rbx
	call rbx
	hlt

entry load_store_load			/* after INVLPG or a CR3 reload (rdi) sees new mappings */
	mov rax, [rbx]
	mov rcx, [rbx]
	mov [rsi], rdi			/* changes a PTE */
	mov rdx, [rbx]
	hlt
entry reload_invlpg
	mov rax, [rbx]
	mov [rsi], rdi
	invlpg [rbx]
	mov rdx, [rbx]
	hlt
entry reload_cr3
	mov rax, [rbx]
	mov [rsi], rdi
	mov rcx, cr3
	mov cr3, rcx
	mov rdx, [rbx]
	mov rcx, cr4			/* toggling PGE flushes global pages */
	btr ecx, 7
	mov cr4, rcx
	mov rbp, [rbx]
	hlt

entry int_round
	int 0x40
	hlt

entry int_41
	int 0x41
	hlt
entry int3
	int3
	hlt

entry syscall_user			/* user: twice into the kernel and back */
	mov r12d, 0
	syscall
	mov rbp, rcx
	syscall
	mov ax, ds
	int 0x40
entry syscall_kernel
	inc r12
	swapgs
	mov rbx, gs:[0]
	swapgs
	pushfq
	pop r14
	sysretq
entry sysret_compat			/* kernel: to 32-bit user code at ecx */
	sysretd
	.code32
entry compat_user
	mov eax, 0xffffffff
	inc eax
	mov ebx, 0x1234
	push ebx
	pop edx
	int 0x40
	.code64
entry iret_frame			/* rsp: a frame */
	iretq
entry iretd_frame
	iretd

entry sti_window
	nop
	sti
	inc rax
	inc rax
	inc rax
	hlt
entry sti_hlt
	sti
	hlt
	inc rax
	cli
	hlt
entry popf_window
	push 0x202
	popfq
	inc rax
	hlt
entry mov_ss
	mov ss, ecx
	inc rax
	inc rax
	hlt

entry nmi_handler			/* counts in r12; calls for a second NMI while blocked: r13 at iret */
	inc r12
	mov dx, 0x80
	out dx, al
	inc r13
	iretq
entry nmi_main
	nop
	nop
	hlt

entry single_step
	push 0x102
	popfq
	inc rax
	inc rax
	inc rax
	pushfq
	and dword ptr [rsp], 0xfffffeff
	popfq
	hlt
entry step_handler
	inc r12
	mov r13, dr6
	xor r14, r14
	mov dr6, r14
	iretq

entry spin
	jmp gc_spin
entry spin_load				/* with a body */
	inc rax
	mov rcx, [rbx]
	jmp gc_spin_load

entry mov_dr4
	.byte 0x0f, 0x21, 0xe0		/* mov rax, dr4 */
	hlt
entry rdmsr
	rdmsr
	hlt
entry wrmsr
	wrmsr
	hlt
entry rdtsc
	rdtsc
	shl rdx, 32
	or rax, rdx
	mov rbx, rax
	rdtsc
	shl rdx, 32
	or rax, rdx
	hlt
entry cpuid
	cpuid
	hlt
entry cr8
	mov rax, cr8
	mov cr8, rbx
	hlt
entry mov_cr0
	mov cr0, rax
	hlt
entry mov_cr3
	mov cr3, rax
	hlt
entry mov_cr4
	mov cr4, rax
	hlt
entry mov_dr
	mov dr0, rax
	mov dr7, rbx
	mov rcx, dr7
	mov rdx, dr0
	hlt

entry mmio
	mov eax, [rbx]
	mov [rbx + 8], ecx
	mov rdx, [rbx + 16]
	mov byte ptr [rbx + 24], 7
	hlt
entry mmio_cross			/* 8 bytes, 4 of them RAM */
	mov rax, [rbx]
	hlt
entry pio
	in al, 0x61
	mov dx, 0x3f8
	in eax, dx
	out 0x80, al
	mov eax, 0x12345678
	out dx, ax
	hlt
entry ins
	rep insb
	hlt
entry outs
	rep outsw
	hlt
entry out_user
	mov al, 1
	out dx, al
	int 0x40

entry descriptors
	lar eax, ecx
	setz bl
	lsl edx, ecx
	setz bh
	verw cx
	setz cl
	hlt
entry mov_ds
	mov ds, ecx
	mov ax, ds
	hlt
entry mov_fs
	mov fs, ecx
	hlt
entry lldt
	lldt cx
	sldt eax
	hlt
entry ltr
	ltr cx
	str eax
	hlt
entry tables
	sgdt [rbx]
	lgdt [rbx]
	sidt [rbx + 16]
	lidt [rbx + 16]
	hlt
entry far_call
	push rcx			/* selector for the far return */
	lea rax, [rip + 1f]
	push rax
	.byte 0x48, 0xcb		/* lretq */
1:	mov eax, 77
	hlt
entry far_jump_mem
	.byte 0x48, 0xff, 0x2b		/* ljmp, 64-bit offset */
entry far_call_mem
	call fword ptr [rbx]
	hlt
entry far_target
	mov r12d, 5
	.byte 0xcb			/* lret, 32-bit */

entry ud2
	ud2
entry hlt_user
	hlt
entry cli_user
	cli
entry sysenter
	sysenter
entry sysexit
	.byte 0x48, 0x0f, 0x35

/* rewrites the immediate of the mov behind it: the block must end and be decoded anew */
entry self_modify
	mov byte ptr [rip + 1f + 1], 9
1:	mov al, 1
	hlt

entry xlock				/* LOCKed add across a page */
	lock add qword ptr [rbx], 1
	hlt

/* ---- 32-bit ------------------------------------------------------------------------------------ */
	.code32
entry int32_round
	int 0x40
	hlt
entry handler32
	inc ecx
	mov edx, [esp + 4]
	iretd
entry load32
	mov eax, [ebx]
	hlt
entry store32
	mov [ebx], eax
	hlt
entry iret32_user			/* esp: a frame to CPL 3 */
	iretd
entry user32
	mov eax, 0x55
	mov dx, ss
	int 0x40
entry jump16				/* to a 16-bit segment and back */
	ljmp 0x48, offset (back16 - guest_code)
back32:	mov ebx, 0x77
	hlt
	.code16
back16:	mov ax, 0x1234
	data32 ljmp 0x40, offset ADDR(back32)
	.code32
entry pushes32
	push ds
	push 0x1234
	pop eax
	pop es
	pushfd
	pop ebx
	les ecx, [esi]
	bound edi, [esi]
	hlt

entry push_ds32
	push ds
	hlt

/* ---- 16-bit, real mode --------------------------------------------------------------------------- */
	.code16
entry real_int
	int 0x21
	hlt
entry real_handler
	mov bx, 0x4321
	iret
entry real_call
	lcall 0x1100, 0x10
	hlt
entry real_big				/* big real mode: a segment loaded in protected mode keeps its limit */
	mov ax, cs
	mov ds, ax
	data32 lgdt [boot_gdtr - guest_code]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	mov cx, 0x10
	mov ds, cx
	and al, 0xfe
	mov cr0, eax
	xor cx, cx
	mov ds, cx
	mov ebx, 0x300000
	mov eax, [ebx]
	hlt
	.balign 16
guest_code_end:
	.byte 0
	.section .note.GNU-stack,"",@progbits
