/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three things that a processor does exactly: a single step stops after each iteration of a REP
 * string instruction; an access that begins in the canonical half and ends beyond it is #GP, not
 * #PF; a data breakpoint set by ptrace fires.
 */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <setjmp.h>

static volatile int steps, at_rep;
static volatile uintptr_t rep_at;
static sigjmp_buf out;
static int failed;
static volatile int trap_no;

static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig, (void)info;
	steps++;
	at_rep += (uintptr_t)u->uc_mcontext.gregs[REG_RIP] == rep_at;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig, (void)info;
	trap_no = (int)u->uc_mcontext.gregs[REG_TRAPNO];
	siglongjmp(out, 1);
}

static void step_trial(void)
{
	static char from[8], to[8];
	struct sigaction act = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	void *d = to, *s = from;
	unsigned long n = 4;

	sigaction(SIGTRAP, &act, NULL);
	__asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %3\n"
			 "pushfq; orl $0x100, (%%rsp); popfq\n"
			 "1: rep movsb\n"
			 "pushfq; andl $~0x100, (%%rsp); popfq\n"
			 : "+D"(d), "+S"(s), "+c"(n), "=m"(rep_at)
			 :
			 : "rax", "memory", "cc");
	/* After popfq no trap comes before the next instruction; then one an iteration, 3 of them
	 * still at the instruction itself. */
	failed |= at_rep != 3 && at_rep != 4;
	printf("tf_rep_movsb %s at_rep=%d\n", at_rep == 3 || at_rep == 4 ? "ok" : "FAIL", at_rep);
}

static void canonical_trial(void)
{
	struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	uint64_t value;

	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	if (!sigsetjmp(out, 1))
		__asm__ volatile("mov (%1), %0" : "=r"(value) : "r"(0x00007ffffffffffeull));
	failed |= trap_no != 13;
	printf("noncanonical_cross %s trap=%d\n", trap_no == 13 ? "ok" : "FAIL", trap_no);
}

static volatile long watched;

static void watch_trial(void)
{
	bool fired;
	int status;
	pid_t child = fork();

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		watched = 7;
		_exit(0);
	}
	waitpid(child, &status, 0);
	long bad = ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), &watched);
	bad |= ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]),
		      (void *)(1ul | 1ul << 16 | 3ul << 18));
	ptrace(PTRACE_CONT, child, 0, 0);
	waitpid(child, &status, 0);
	fired = WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
	failed |= !fired;
	printf("data_breakpoint %s set=%s\n", fired ? "ok" : "FAIL", bad ? "no" : "yes");
	if (WIFSTOPPED(status))
		ptrace(PTRACE_KILL, child, 0, 0);
}

int main(void)
{
	step_trial();
	canonical_trial();
	watch_trial();
	return failed;
}
