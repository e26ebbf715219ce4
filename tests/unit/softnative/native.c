/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a case on the host's processor, in this process; a signal ends it and tells the state. */
#include "tests/unit/softnative/softnative.h"

#include <asm/prctl.h>
#include <assert.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ALTSTACK_BYTES 65536

/* What the assembly loads; each test process has one thread. */
struct native_frame {
	uint64_t gpr[16];
	uint64_t rip, rflags;
	_Alignas(16) uint8_t fx[512];
	uint16_t data; /* selector for DS and ES */
	uint16_t unused[3];
	uint32_t far_offset; /* where native_far jumps to */
	uint16_t far_selector;
	uint16_t unused2;
	_Alignas(16) uint8_t ymm[16][16];
};
static bool native_has_avx;
struct native_frame native_frame;
static sigjmp_buf native_escape;
static struct outcome *native_outcome;

_Noreturn void native_enter(void);
_Noreturn void native_enter_avx(void); /* with the upper halves of YMM */

/* Offsets: gpr 0 (RSP 32), rip 128, rflags 136, fx 144, ymm 672. RSP is the last but the jump. No C comes between the upper
 * halves, which FXRSTOR leaves, and the case: a library's function may clear them. */
__asm__(".text\n"
	".type native_enter_avx, @function\n"
	"native_enter_avx:\n"
	".set n, 0\n"
	".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	vinsertf128 $1, 672+16*n+native_frame(%rip), %ymm\\r, %ymm\\r\n"
	".set n, n + 1\n"
	".endr\n"
	"	jmp native_enter\n"
	".size native_enter_avx, . - native_enter_avx\n"
	".type native_enter, @function\n"
	"native_enter:\n"
	"	fxrstor64 144+native_frame(%rip)\n"
	"	movzwl 656+native_frame(%rip), %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	pushq 136+native_frame(%rip)\n"
	"	popfq\n"
	"	movq 0+native_frame(%rip), %rax\n"
	"	movq 8+native_frame(%rip), %rcx\n"
	"	movq 16+native_frame(%rip), %rdx\n"
	"	movq 24+native_frame(%rip), %rbx\n"
	"	movq 40+native_frame(%rip), %rbp\n"
	"	movq 48+native_frame(%rip), %rsi\n"
	"	movq 56+native_frame(%rip), %rdi\n"
	"	movq 64+native_frame(%rip), %r8\n"
	"	movq 72+native_frame(%rip), %r9\n"
	"	movq 80+native_frame(%rip), %r10\n"
	"	movq 88+native_frame(%rip), %r11\n"
	"	movq 96+native_frame(%rip), %r12\n"
	"	movq 104+native_frame(%rip), %r13\n"
	"	movq 112+native_frame(%rip), %r14\n"
	"	movq 120+native_frame(%rip), %r15\n"
	"	movq 32+native_frame(%rip), %rsp\n"
	"	jmp *128+native_frame(%rip)\n"
	"native_far:\n"
	"	ljmpl *664+native_frame(%rip)\n"
	".size native_enter, . - native_enter\n");
static_assert(offsetof(struct native_frame, fx) == 144, "the offsets in native_enter");
static_assert(offsetof(struct native_frame, data) == 656, "the same");
static_assert(offsetof(struct native_frame, far_offset) == 664, "the same");
static_assert(offsetof(struct native_frame, ymm) == 672, "the same");
extern const char native_far[];

/* The kernel's frame is an XSAVE image, if its words at 464 say so (struct _fpx_sw_bytes). */
static void native_ymm_take(const mcontext_t *m, struct outcome *out)
{
	const uint8_t *image = (const uint8_t *)m->fpregs;
	uint32_t magic;
	uint64_t parts;

	memcpy(&magic, image + 464, sizeof(magic));
	memcpy(&parts, image + 512, sizeof(parts));
	if (native_has_avx && magic == 0x46505853 && (parts & 4))
		memcpy(out->image.ymm, image + 576, sizeof(out->image.ymm));
	else
		memset(out->image.ymm, 0, sizeof(out->image.ymm));
}

static void native_signal(int sig, siginfo_t *info, void *context)
{
	static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
					  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
					  REG_R12, REG_R13, REG_R14, REG_R15};
	const mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
	struct outcome *out = native_outcome;

	(void)sig;
	(void)info;
	for (unsigned n = 0; n < 16; n++)
		out->image.gpr[n] = (uint64_t)m->gregs[order[n]];
	out->image.rip = (uint64_t)m->gregs[REG_RIP];
	out->image.rflags = (uint64_t)m->gregs[REG_EFL];
	out->vector = (int)m->gregs[REG_TRAPNO];
	out->error = (uint32_t)m->gregs[REG_ERR];
	out->cr2 = (uint64_t)m->gregs[REG_CR2];
	memcpy(out->image.fx, m->fpregs, 512);
	native_ymm_take(m, out);
	siglongjmp(native_escape, 1);
}

static bool native_map(void)
{
	void *region = mmap((void *)REGION_VA, REGION_BYTES, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (region != (void *)REGION_VA)
		return false;
	/* The upper guard of the code stays absent: it is never touched before it is PROT_NONE. */
	if (mprotect((void *)CODE_VA, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC) ||
	    mprotect((void *)DATA_VA, DATA_BYTES + PAGE_BYTES, PROT_READ | PROT_WRITE))
		return false;
	memset((void *)CODE_VA, 0xcc, CODE_BYTES);
	memset((void *)DATA_VA, 0, DATA_BYTES + PAGE_BYTES);
	return mprotect((void *)READONLY_VA, PAGE_BYTES, PROT_READ) == 0;
}

bool native_init(void)
{
	native_has_avx = __builtin_cpu_supports("avx");
	static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	/* High in the address space: were a case's random RSP within it, the kernel would take the
	 * signal for a nested one. */
	stack_t stack = {.ss_sp = mmap(NULL, ALTSTACK_BYTES, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			 .ss_size = ALTSTACK_BYTES};
	/* No mask is saved or restored: the handler leaves by siglongjmp. */
	struct sigaction action = {.sa_sigaction = native_signal,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

	if (stack.ss_sp == MAP_FAILED || !native_map() || sigaltstack(&stack, NULL))
		return false;
	for (unsigned n = 0; n < sizeof(signals) / sizeof(signals[0]); n++)
		if (sigaction(signals[n], &action, NULL))
			return false;
	return syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE) == 0;
}

void native_run(const struct test_case *t, struct outcome *out)
{
	static const uint32_t mxcsr = 0x1f80;
	size_t room = (size_t)(CODE_VA + CODE_BYTES - t->in.rip);
	size_t len = t->len < room ? t->len : room;

	memcpy((void *)DATA_VA, t->data, DATA_BYTES);
	memcpy((void *)t->in.rip, t->code, len);
	memcpy(native_frame.gpr, t->in.gpr, sizeof(t->in.gpr));
	/* A far jump alone changes the mode; it needs no register. */
	native_frame.rip = t->mode == 64 ? t->in.rip : (uintptr_t)native_far;
	native_frame.data = t->mode == 64 ? 0 : USER_SS;
	native_frame.far_offset = (uint32_t)t->in.rip;
	native_frame.far_selector = USER_CS_32;
	native_frame.rflags = t->in.rflags;
	memcpy(native_frame.fx, t->in.fx, 512);
	memcpy(native_frame.ymm, t->in.ymm, sizeof(t->in.ymm));
	native_outcome = out;
	if (!sigsetjmp(native_escape, 0)) {
		if (native_has_avx)
			native_enter_avx();
		native_enter();
	}
	__asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(mxcsr));
	memset((void *)t->in.rip, 0xcc, len);
}
