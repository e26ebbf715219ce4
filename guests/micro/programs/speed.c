/* SPDX-License-Identifier: Apache-2.0 */
/* speed: instructions a second at CPL3 on CPU 0, by loops whose instructions are counted.
 * Arguments: millions= of instructions a run (20); runs= of each loop (5). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "speed";

#define MILLIONS_DEFAULT 20
#define MILLIONS_MAX	 100000
#define RUNS_DEFAULT	 5
#define RUNS_MAX	 100
#define LCG_MUL		 6364136223846793005ul /* Knuth's MMIX */
#define LCG_ADD		 1442695040888963407ul
#define BUFFER_WORDS	 4096ul /* 32 KiB: a first-level cache's */
#define BUFFER_STEP	 517ul	/* odd: visits all words */

/* What a loop computes from; the same loop in C, the model, must come to the same. */
struct work {
	uint64_t x, sum;
	uint64_t *buffer;
};

struct mix {
	const char *name;
	unsigned instructions; /* of one round of the loop, whichever way its branches go */
	void (*run)(struct work *w, uint64_t rounds);
	void (*model)(struct work *w, uint64_t rounds);
};

static void integer_run(struct work *w, uint64_t rounds)
{
	uint64_t t = 0;

	__asm__ volatile(".balign 64\n\t"
			 "1: imulq %[mul], %[x]\n\t"
			 "addq %[add], %[x]\n\t"
			 "movq %[x], %[t]\n\t"
			 "shrq $29, %[t]\n\t"
			 "xorq %[t], %[sum]\n\t"
			 "leaq 7(%[sum],%[x]), %[sum]\n\t"
			 "decq %[n]\n\t"
			 "jnz 1b"
			 : [x] "+r"(w->x), [sum] "+r"(w->sum), [t] "+r"(t), [n] "+r"(rounds)
			 : [mul] "r"(LCG_MUL), [add] "r"(LCG_ADD)
			 : "cc");
}

static void integer_model(struct work *w, uint64_t rounds)
{
	for (; rounds; rounds--) {
		w->x = w->x * LCG_MUL + LCG_ADD;
		w->sum = (w->sum ^ w->x >> 29) + w->x + 7;
	}
}

static void memory_run(struct work *w, uint64_t rounds)
{
	uint64_t t = 0;

	__asm__ volatile(
		".balign 64\n\t"
		"1: movq (%[buffer],%[x],8), %[t]\n\t"
		"addq %[n], %[t]\n\t"
		"movq %[t], (%[buffer],%[x],8)\n\t"
		"addq %[t], %[sum]\n\t"
		"addq %[step], %[x]\n\t"
		"andq %[mask], %[x]\n\t"
		"decq %[n]\n\t"
		"jnz 1b"
		: [x] "+r"(w->x), [sum] "+r"(w->sum), [t] "+r"(t), [n] "+r"(rounds)
		: [buffer] "r"(w->buffer), [step] "r"(BUFFER_STEP), [mask] "r"(BUFFER_WORDS - 1)
		: "cc", "memory");
}

static void memory_model(struct work *w, uint64_t rounds)
{
	for (; rounds; rounds--) {
		w->sum += w->buffer[w->x] += rounds;
		w->x = (w->x + BUFFER_STEP) % BUFFER_WORDS;
	}
}

/* The sign of a random number decides; both ways have two instructions. */
static void branch_run(struct work *w, uint64_t rounds)
{
	__asm__ volatile("jmp 1f\n\t"
			 ".balign 64\n\t"
			 "1: imulq %[mul], %[x]\n\t"
			 "addq %[add], %[x]\n\t"
			 "testq %[x], %[x]\n\t"
			 "js 2f\n\t"
			 "addq $3, %[sum]\n\t"
			 "jmp 3f\n\t"
			 "2: subq $5, %[sum]\n\t"
			 "xorq %[x], %[sum]\n\t"
			 "3: call 4f\n\t"
			 "decq %[n]\n\t"
			 "jnz 1b\n\t"
			 "jmp 5f\n\t"
			 "4: ret\n\t"
			 "5:"
			 : [x] "+r"(w->x), [sum] "+r"(w->sum), [n] "+r"(rounds)
			 : [mul] "r"(LCG_MUL), [add] "r"(LCG_ADD)
			 : "cc", "memory");
}

static void branch_model(struct work *w, uint64_t rounds)
{
	for (; rounds; rounds--) {
		w->x = w->x * LCG_MUL + LCG_ADD;
		if (w->x >> 63)
			w->sum = (w->sum - 5) ^ w->x;
		else
			w->sum += 3;
	}
}

static const struct mix mixes[] = {
	{"integer", 8, integer_run, integer_model},
	{"memory", 8, memory_run, memory_model},
	{"branches", 10, branch_run, branch_model},
};
#define MIXES (sizeof(mixes) / sizeof(mixes[0]))

static struct work work_make(uint64_t *buffer)
{
	for (uint64_t i = 0; i < BUFFER_WORDS; i++)
		buffer[i] = i;
	return (struct work){.x = 1, .sum = 0, .buffer = buffer};
}

static void result_check(const struct mix *mix, const struct work *got, const struct work *wanted)
{
	if (got->x != wanted->x || got->sum != wanted->sum)
		fail("%s: the loop ends with %lx and %lx, not %lx and %lx", mix->name, got->x,
		     got->sum, wanted->x, wanted->sum);
	if (memcmp(got->buffer, wanted->buffer, BUFFER_WORDS * sizeof(uint64_t)) != 0)
		fail("%s: the buffer is not what the loop leaves behind", mix->name);
}

/* Thousandths of a million instructions a second. */
static uint64_t rate(uint64_t instructions, uint64_t ns)
{
	return instructions * 1000 / (ns / 1000 ? ns / 1000 : 1);
}

/* Returns the least time of a run, in ns; adds all of them to *total_ns. */
static uint64_t mix_run(const struct mix *mix, uint64_t rounds, uint64_t runs, uint64_t *buffers[2],
			uint64_t *total_ns)
{
	struct work wanted = work_make(buffers[0]);
	uint64_t least = ~0ul;

	mix->model(&wanted, rounds);
	for (uint64_t i = 0; i < runs; i++) {
		struct work w = work_make(buffers[1]);
		uint64_t start = ticks_now(), ns;

		mix->run(&w, rounds);
		ns = ticks_ns(ticks_now() - start);
		result_check(mix, &w, &wanted);
		*total_ns += ns;
		least = ns < least ? ns : least;
	}
	return least;
}

int main(void)
{
	uint64_t millions = arg_number("millions", MILLIONS_DEFAULT), total_ns = 0, total = 0;
	uint64_t runs = arg_number("runs", RUNS_DEFAULT), least_ns = 0;
	uint64_t *buffers[2] = {node_alloc(machine.node_of[0], BUFFER_WORDS * sizeof(uint64_t)),
				node_alloc(machine.node_of[0], BUFFER_WORDS * sizeof(uint64_t))};
	char mean[24], best[24];

	if (!millions || millions > MILLIONS_MAX || !runs || runs > RUNS_MAX)
		fail("millions= must be 1 to %u, runs= 1 to %u", MILLIONS_MAX, RUNS_MAX);
	print("TSC %lu Hz%s\n", machine.tsc_hz, machine.tsc_known ? "" : " (a guess)");
	for (unsigned i = 0; i < MIXES; i++) {
		const struct mix *mix = &mixes[i];
		uint64_t rounds = millions * 1000000 / mix->instructions, ns = 0, least;
		uint64_t instructions = rounds * mix->instructions;

		least = mix_run(mix, rounds, runs, buffers, &ns);
		print("%-9s %lu runs of %lu instructions: mean %10s M/s, best %10s M/s\n",
		      mix->name, runs, instructions,
		      milli_text(mean, rate(runs * instructions, ns)),
		      milli_text(best, rate(instructions, least)));
		total += instructions;
		total_ns += ns;
		least_ns += least;
	}
	print("%-9s %lu runs of %lu instructions: mean %10s M/s, best %10s M/s\n", "all", runs,
	      total, milli_text(mean, rate(runs * total, total_ns)),
	      milli_text(best, rate(total, least_ns)));
	return 0;
}
