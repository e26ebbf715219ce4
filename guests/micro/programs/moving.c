/* SPDX-License-Identifier: Apache-2.0 */
/* moving: every CPU computes for some seconds in all kinds of registers, so that its state can be
 * taken out and put back meanwhile; the results are checked against closed forms.
 * Arguments: seconds= (3). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "moving";

#define SECONDS_DEFAULT 3
#define CHUNK		20000u
#define LCG_MUL		6364136223846793005ul /* Knuth's MMIX */
#define LCG_ADD		1442695040888963407ul
#define STEP		0xfedcba9876543210ul /* its multiples carry into the high word */

/* What goes from chunk to chunk in memory, and within one in registers. */
struct sums {
	uint64_t lcg, low, high;
	double sse;
	double x87;
};

struct result {
	struct sums sums;
	uint64_t chunks, seed;
};

struct state {
	uint64_t seconds;
	struct result *result[CPUS_MAX];
	volatile uint64_t *shared; /* counts the chunks of all, on the last node */
};

/*
 * An LCG in RAX; a 128-bit sum, whose carry lives in RFLAGS between two instructions; sums of ones
 * in XMM0 and on the x87 stack.
 */
static void chunk_run(struct sums *s)
{
	uint64_t n = CHUNK;
	double one = 1.0;

	__asm__ volatile("fldl %[x87]\n\t"
			 "1:\n\t"
			 "imulq %[mul], %[lcg]\n\t"
			 "addq %[add], %[lcg]\n\t"
			 "addsd %[one], %[sse]\n\t"
			 "fld1\n\t"
			 "addq %[step], %[low]\n\t"
			 "movq %[low], %%r11\n\t"
			 "adcq $0, %[high]\n\t"
			 "faddp\n\t"
			 "decq %[n]\n\t"
			 "jnz 1b\n\t"
			 "fstpl %[x87]"
			 : [lcg] "+a"(s->lcg), [low] "+r"(s->low), [high] "+r"(s->high),
			   [sse] "+x"(s->sse), [n] "+r"(n), [x87] "+m"(s->x87)
			 : [mul] "r"(LCG_MUL), [add] "r"(LCG_ADD), [step] "r"(STEP), [one] "x"(one)
			 : "r11", "st", "st(1)", "cc", "memory");
}

/* Registers that nothing changes must not change either. */
static void still_check(unsigned self)
{
	uint64_t pattern = 0x0123456789abcdeful ^ (uint64_t)self << 56, bad, n = CHUNK;

	__asm__ volatile("movq %[p], %%r8\n\t"
			 "leaq 1(%[p]), %%r9\n\t"
			 "movq %[p], %%xmm7\n\t"
			 "movq %%r9, %%xmm15\n\t"
			 "punpcklqdq %%xmm7, %%xmm15\n\t"
			 "1: decq %[n]\n\t"
			 "jnz 1b\n\t"
			 "xorq %[p], %%r8\n\t"
			 "subq $1, %%r9\n\t"
			 "xorq %[p], %%r9\n\t"
			 "orq %%r8, %%r9\n\t"
			 "movq %%xmm15, %%r8\n\t"
			 "subq $1, %%r8\n\t"
			 "xorq %[p], %%r8\n\t"
			 "orq %%r8, %%r9\n\t"
			 "psrldq $8, %%xmm15\n\t"
			 "movq %%xmm15, %%r8\n\t"
			 "xorq %[p], %%r8\n\t"
			 "orq %%r8, %%r9\n\t"
			 "movq %%r9, %[bad]"
			 : [bad] "=r"(bad), [n] "+r"(n)
			 : [p] "r"(pattern)
			 : "r8", "r9", "xmm7", "xmm15", "cc");
	if (bad)
		fail("CPU %u: a register changed by itself (%lx)", self, bad);
}

static void compute(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;
	struct result *r = s->result[self];
	uint64_t start = ticks_now(), now = start, before, told = 0;

	(void)n;
	do {
		before = now;
		chunk_run(&r->sums);
		still_check(self);
		r->chunks++;
		__asm__ volatile("lock incq %0" : "+m"(*s->shared)::"memory", "cc");
		now = ticks_now();
		if (now < before)
			fail("CPU %u: time went back by %lu ns", self, ticks_ns(before - now));
		if (self == 0 && (now - start) / machine.tsc_hz > told) {
			told++;
			print("%lu s\n", told);
		}
	} while (now - start < s->seconds * machine.tsc_hz);
}

/* x -> a x + c, n times, by squaring. */
static uint64_t lcg_jump(uint64_t x, uint64_t n)
{
	uint64_t a = LCG_MUL, c = LCG_ADD;

	for (; n; n >>= 1) {
		if (n & 1)
			x = a * x + c;
		c += a * c;
		a *= a;
	}
	return x;
}

static void result_check(unsigned cpu, const struct result *r)
{
	uint64_t n = r->chunks * CHUNK;
	unsigned __int128 sum = (unsigned __int128)STEP * n;

	if (r->sums.lcg != lcg_jump(r->seed, n))
		fail("CPU %u: the sequence ends with %lx, not %lx", cpu, r->sums.lcg,
		     lcg_jump(r->seed, n));
	if (r->sums.low != (uint64_t)sum || r->sums.high != (uint64_t)(sum >> 64))
		fail("CPU %u: the 128-bit sum is wrong", cpu);
	if (r->sums.sse != (double)n)
		fail("CPU %u: the SSE sum is wrong", cpu);
	if (r->sums.x87 != (double)n)
		fail("CPU %u: the x87 sum is wrong", cpu);
	print("CPU %u: %lu rounds, all right\n", cpu, n);
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));
	uint64_t chunks = 0;

	s->seconds = arg_number("seconds", SECONDS_DEFAULT);
	s->shared = node_alloc(machine.nodes - 1, PAGE);
	for (unsigned i = 0; i < machine.cpus; i++) {
		s->result[i] = node_alloc(machine.node_of[i], PAGE);
		s->result[i]->seed = s->result[i]->sums.lcg = i * 0x9e3779b97f4a7c15ul + 1;
	}
	team_run(machine.cpus, compute, s);
	for (unsigned i = 0; i < machine.cpus; i++) {
		result_check(i, s->result[i]);
		chunks += s->result[i]->chunks;
	}
	if (*s->shared != chunks)
		fail("the CPUs counted %lu chunks together, and %lu each for itself", *s->shared,
		     chunks);
	return 0;
}
