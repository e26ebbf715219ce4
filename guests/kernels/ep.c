/* SPDX-License-Identifier: Apache-2.0 */
/* ep: pairs of Gaussian deviates by the polar method, counted by their size: EP of the NAS parallel
 * benchmarks (RNR-94-007, 2.1). Threads share nothing until the end. */
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

#define A	   UINT64_C(1220703125) /* 5^13 */
#define SEED	   UINT64_C(271828183)
#define MASK	   ((UINT64_C(1) << 46) - 1)
#define BLOCK_LOG  12 /* pairs of a block */
#define ANNULI	   10
#define DEVIATIONS 6.0 /* standard deviations that a sum may be off */

/* A block's sums; eight to a cache line would be shared, a thread's blocks lie on its own pages. */
struct block {
	double sum_x, sum_y;
	uint32_t count[ANNULI];
};

struct problem {
	unsigned m;
	size_t blocks;
	struct block *block;
	double sum_x, sum_y;
	uint64_t count[ANNULI];
};

static void *make(unsigned long size, unsigned rounds, unsigned threads)
{
	struct problem *p = memory_take(sizeof(*p));

	(void)rounds, (void)threads;
	p->m = (unsigned)size;
	p->blocks = (size_t)1 << (p->m - BLOCK_LOG);
	p->block = memory_take(p->blocks * sizeof(*p->block));
	return p;
}

static struct share blocks_of(const struct problem *p, struct team *team, unsigned self)
{
	return share_of(p->blocks, self, team_threads(team));
}

static void fill(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share mine = blocks_of(p, team, self);

	memset(p->block + mine.first, 0, (mine.end - mine.first) * sizeof(*p->block));
}

/* a^n of the generator, by squares. */
static uint64_t power(uint64_t a, uint64_t n)
{
	uint64_t result = 1;

	for (; n; n >>= 1, a = a * a & MASK)
		if (n & 1)
			result = result * a & MASK;
	return result;
}

static void block_make(struct block *block, size_t index)
{
	uint64_t x = SEED * power(A, (uint64_t)index << (BLOCK_LOG + 1)) & MASK;

	for (unsigned i = 0; i < 1u << BLOCK_LOG; i++) {
		double u, v, square, factor, largest;

		x = x * A & MASK;
		u = (double)(int64_t)x * 0x1p-45 - 1;
		x = x * A & MASK;
		v = (double)(int64_t)x * 0x1p-45 - 1;
		square = u * u + v * v;
		if (square > 1)
			continue;
		factor = sqrt(-2 * log(square) / square);
		u *= factor;
		v *= factor;
		largest = fabs(u) > fabs(v) ? fabs(u) : fabs(v);
		block->count[(unsigned)largest]++;
		block->sum_x += u;
		block->sum_y += v;
	}
}

static void solve(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share mine = blocks_of(p, team, self);

	for (size_t i = mine.first; i < mine.end; i++) {
		struct block block = {0};

		block_make(&block, i);
		p->block[i] = block;
	}
	team_wait(team, self);
	if (self != 0)
		return;
	for (size_t i = 0; i < p->blocks; i++) {
		p->sum_x += p->block[i].sum_x;
		p->sum_y += p->block[i].sum_y;
		for (unsigned k = 0; k < ANNULI; k++)
			p->count[k] += p->block[i].count[k];
	}
}

static bool near(double value, double expected, double deviation)
{
	return fabs(value - expected) <= DEVIATIONS * deviation;
}

/* The sums that are published for classes S and W, else what is likely: mean 0, deviation 1, and pi/4
 * of the pairs in the circle. */
static const char *check(void *problem)
{
	static const struct {
		unsigned m;
		double sum_x, sum_y;
	} published[] = {
		{24, -3.247834652034740e+3, -6.958407078382297e+3},
		{25, -2.863319731645753e+3, -6.320053679109499e+3},
	};
	struct problem *p = problem;
	double pairs = ldexp(1, (int)p->m), inside = 0;

	for (unsigned k = 0; k < ANNULI; k++)
		inside += (double)p->count[k];
	for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++)
		if (p->m == published[i].m && !(fabs(p->sum_x / published[i].sum_x - 1) < 1e-8 &&
						fabs(p->sum_y / published[i].sum_y - 1) < 1e-8))
			return "the sums are not those that are published";
	if (!near(inside, pairs * M_PI_4, sqrt(pairs * M_PI_4 * (1 - M_PI_4))))
		return "too many pairs, or too few, are in the circle";
	/* Two in three are within one deviation of 0, so 0.466 of the pairs' larger ones are. */
	if (!near((double)p->count[0], inside * 0.46606, sqrt(inside * 0.46606 * 0.53394)))
		return "the innermost ring has not its share of the pairs";
	if (!near(p->sum_x, 0, sqrt(inside)) || !near(p->sum_y, 0, sqrt(inside)))
		return "the deviates' mean is not zero";
	return NULL;
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = checksum_reals(checksum_reals(0, &p->sum_x, 1), &p->sum_y, 1);

	for (unsigned k = 0; k < ANNULI; k++)
		sum = checksum_add(sum, p->count[k]);
	return sum;
}

static void spoil(void *problem)
{
	struct problem *p = problem;

	p->sum_y += DEVIATIONS * 2 * sqrt(ldexp(1, (int)p->m));
}

const struct kernel kernel_ep = {
	.name = "ep",
	.about = "Gaussian deviates, counted",
	.size_what = "the binary logarithm of the pairs",
	.size_min = BLOCK_LOG + 2,
	.size_default = 23,
	.size_max = 36,
	.make = make,
	.fill = fill,
	.solve = solve,
	.check = check,
	.checksum = checksum,
	.spoil = spoil,
};
