/* SPDX-License-Identifier: Apache-2.0 */
/* The code of the tiny guests: loaded as a whole at 0x10000 (CODE in guest.h). */
	.intel_syntax noprefix
	.section .rodata
	.balign 4096
	.globl guest_code, guest_code_end
guest_code:
	.set BASE, 0x10000
#define ADDR(label) (label - guest_code + BASE)

	.macro label name			/* within a snippet */
	.globl gc_\name
gc_\name:
	.endm
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

entry xadd_locked
	lock xadd [rbx], rax
	hlt

entry movs
	rep movsb
	hlt

entry movups_store
	movups [rbx], xmm0
	movups xmm1, [rbx]
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

/* ---- Debug traps -------------------------------------------------------------------------------- */

entry trap_log				/* logs rip, DR6 and flags of each #DB at r15 */
	push rax
	mov rax, [rsp + 8]
	mov [r15], rax
	mov rax, dr6
	mov [r15 + 8], rax
	mov rax, [rsp + 24]
	mov [r15 + 16], rax
	xor eax, eax
	mov dr6, rax
	add r15, 24
	pop rax
	iretq
entry trap_resume			/* the same, and the return is with RF */
	or dword ptr [rsp + 16], 0x10000
	jmp gc_trap_log

	.macro step_string name, instruction:vararg
entry \name
	push 0x102
	popfq
	\instruction
	push 2
	popfq
	hlt
	.endm
	step_string step_movs, rep movsb
	step_string step_stos, rep stosd
	step_string step_lods, rep lodsw
	step_string step_scas, repne scasb
	step_string step_cmps, repe cmpsq
	step_string step_ins, rep insb
	step_string step_outs, rep outsb

/* Each is followed by an instruction of one byte, so that it can be seen where the trap came. */
entry watch_store
	mov [rbx], rax
	nop
	nop
	hlt
entry watch_store8
	mov [rbx], al
	nop
	hlt
entry watch_load
	mov rcx, [rbx]
	nop
	hlt
entry watch_add
	add [rbx], rax
	nop
	hlt
entry watch_lock
	lock add [rbx], rax
	nop
	hlt
entry watch_push
	push rax
	nop
	hlt
entry watch_call
	call gc_watch_called
	nop
	hlt
entry watch_called
	nop
	ret
entry watch_ret
	ret
entry watch_movups
	movups [rbx], xmm0
	nop
	hlt
entry watch_fxsave
	fxsave64 [rbx]
	nop
	hlt
entry watch_rep
	rep movsb
	nop
	hlt
entry watch_mov_ss
	mov ss, [rbx]
	nop
	nop
	hlt
entry watch_later			/* a loop that is linked well before it is watched */
	mov [rbx], rcx
	dec ecx
	jnz gc_watch_later
	mov dr0, rbx
	mov dr7, rdx
	mov [rbx], rcx
	nop
	mov dr7, rcx
	mov [rbx], rcx
	nop
	hlt
entry watch_int
	int 0x40
	hlt
entry watch_handler
	nop
	iretq

entry break_at
	inc rax
label break_at_2
	inc rax
	inc rax
	hlt
entry break_loop			/* ecx rounds; rdx into DR7 when esi are left */
	inc rax
	cmp ecx, esi
	jne 1f
	mov dr7, rdx
1:	dec ecx
	jnz gc_break_loop
	hlt
entry break_mov_ss
	mov ss, ecx
label break_after_ss
	inc rax
	hlt
entry break_port
	in al, 0x61
	nop
	out 0x62, al
	nop
	mov dx, 0x5f
	in eax, dx
	nop
	hlt

/* ---- Edges and checks ---------------------------------------------------------------------------- */

entry edge_pop
	pop rax
	hlt
entry edge_lock
	lock inc qword ptr [rbx]
	hlt
entry edge_bp				/* by RBP: the stack's fault */
	mov rax, [rbp]
	hlt
entry edge_fxrstor
	fxrstor64 [rbx]
	hlt
entry edge_fld
	fld tbyte ptr [rbx]
	hlt
entry edge_scas
	mov eax, 0
	repe scasb
	hlt

	.macro aligned name, instruction:vararg
entry \name
	\instruction
	int 0x40
	.endm
	aligned align_load2, mov ax, [rbx]
	aligned align_load4, mov eax, [rbx]
	aligned align_load8, mov rax, [rbx]
	aligned align_store8, mov [rbx], rax
	aligned align_add4, add [rbx], eax
	aligned align_lock4, lock add [rbx], eax
	aligned align_movups, movups xmm0, [rbx]
	aligned align_movaps, movaps xmm0, [rbx]
	aligned align_fld, fld tbyte ptr [rbx]
	aligned align_fxsave, fxsave64 [rbx]
	aligned align_movsd, rep movsd
	aligned align_byte, mov al, [rbx]
	aligned align_push, push rax
entry align_popf			/* on, off again */
	push 0x40002
	popfq
	mov rax, [rbx + 1]
	int 0x40
entry align_off
	push 2
	popfq
	mov rax, [rbx + 1]
	int 0x40

	.code32
entry checked_store_cs
	mov cs:[ebx], eax
	mov [ebx], eax
	hlt
entry checked_load_cs
	mov eax, cs:[ebx]
	hlt
entry checked_load_fs
	mov eax, fs:[ebx]
	hlt
entry checked_load_flat			/* the check of one segment leaves that of others alone */
	mov eax, es:[ebx]
	mov ecx, [ebx + 0x10000]
	mov edx, es:[ebx + 4]
	hlt
entry checked_add
	add dword ptr [ebx], 1
	hlt
entry checked_lock
	lock add dword ptr [ebx], 1
	hlt
entry checked_push
	push eax
	hlt
entry checked_pop
	pop eax
	hlt
entry checked_movs
	rep movsd
	hlt
entry checked_fxsave
	fxsave [ebx]
	hlt
entry checked_jmp
	jmp gc_checked_target
entry checked_call
	call gc_checked_target
entry checked_ret
	ret
entry checked_loop
	loop gc_checked_target
entry checked_fall
	nop
	nop
	mov eax, 0x12345678
	hlt
	.balign 64
entry checked_target
	hlt

	.code16
entry real_word
	mov ax, [bx]
	hlt
entry real_push
	push ax
	hlt
	.code64

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
entry reload_invlpg32
	mov eax, [ebx]
	mov ecx, [edi]
	mov [esi], ebp
	invlpg [ebx]
	mov eax, [ebx]
	mov edx, [edi]
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
