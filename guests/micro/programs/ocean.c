/* SPDX-License-Identifier: Apache-2.0 */
/* ocean: relaxes a grid by a five-point stencil; neighbours share the rows at their borders.
 * Arguments: n= inner rows and columns (126); sweeps= (20); cpus= of the parallel run (all). */
#include "guests/micro/programs/splash.h"

const char guest_name[] = "ocean";

#define ROWS_DEFAULT   126
#define ROWS_MAX       4094
#define SWEEPS_DEFAULT 20

struct problem {
	unsigned n;
	uint64_t sweeps;
	struct spread grid[2];		/* of (n + 2)^2 points */
	double *change[CPUS_MAX];	/* each CPU's largest change of a sweep, on its node */
	double *first_change, *largest; /* of the first sweep, and of the last one */
	struct barrier barrier;
};

static unsigned rows_count(void)
{
	uint64_t n = arg_number("n", ROWS_DEFAULT);

	if (n < 2 || n > ROWS_MAX)
		fail("n= must be 2 to %u", ROWS_MAX);
	return (unsigned)n;
}

static void *make(unsigned n)
{
	struct problem *p = node_alloc(0, sizeof(*p));

	p->n = rows_count();
	p->sweeps = arg_number("sweeps", SWEEPS_DEFAULT);
	for (unsigned i = 0; i < 2; i++)
		spread_make(&p->grid[i], (uint64_t)(p->n + 2) * (p->n + 2), sizeof(double), n);
	for (unsigned i = 0; i < n; i++)
		p->change[i] = node_alloc(machine.node_of[i], PAGE);
	p->largest = node_alloc(0, PAGE);
	p->first_change = p->largest + 1;
	barrier_init(&p->barrier, n);
	return p;
}

static double *at(const struct problem *p, unsigned which, uint64_t i, uint64_t j)
{
	return spread_real(&p->grid[which], i * (p->n + 2) + j);
}

/* The same in both grids, so that the border is there whichever is read. */
static void fill(void *problem, unsigned self, unsigned n)
{
	struct problem *p = problem;
	struct share mine = share_of((uint64_t)(p->n + 2) * (p->n + 2), self, n);

	for (uint64_t i = mine.first; i < mine.end; i++) {
		struct random r = {i * 0xa0761d6478bd642ful};
		double value = (double)(random_next(&r) >> 11) / 9007199254740992.0;

		*spread_real(&p->grid[0], i) = value;
		*spread_real(&p->grid[1], i) = value;
	}
}

static double row_sweep(const struct problem *p, unsigned from, uint64_t i)
{
	double largest = 0;

	for (unsigned j = 1; j <= p->n; j++) {
		double old = *at(p, from, i, j);
		double value = 0.25 * (*at(p, from, i - 1, j) + *at(p, from, i + 1, j) +
				       *at(p, from, i, j - 1) + *at(p, from, i, j + 1));
		double change = real_abs(value - old);

		*at(p, 1 - from, i, j) = value;
		if (change > largest)
			largest = change;
	}
	return largest;
}

static void solve(void *problem, unsigned self, unsigned n)
{
	struct problem *p = problem;
	struct share mine = share_of(p->n, self, n);

	for (uint64_t sweep = 0; sweep < p->sweeps; sweep++) {
		double largest = 0;

		for (uint64_t i = mine.first + 1; i <= mine.end; i++) {
			double change = row_sweep(p, sweep % 2, i);

			if (change > largest)
				largest = change;
		}
		*p->change[self] = largest;
		barrier_wait(&p->barrier);
		if (self == 0) {
			for (unsigned i = 1; i < n; i++)
				if (*p->change[i] > largest)
					largest = *p->change[i];
			*p->largest = largest;
			if (sweep == 0)
				*p->first_change = largest;
		}
		barrier_wait(&p->barrier);
	}
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = real_bits(*p->largest);

	for (uint64_t i = 0; i < (uint64_t)(p->n + 2) * (p->n + 2); i++)
		sum = checksum_add(sum, real_bits(*spread_real(&p->grid[p->sweeps % 2], i)));
	return sum;
}

/* A mean lies between what it is the mean of; and the grid must come to rest. */
static void check(void *problem)
{
	struct problem *p = problem;

	for (uint64_t i = 0; i < (uint64_t)(p->n + 2) * (p->n + 2); i++) {
		double value = *spread_real(&p->grid[p->sweeps % 2], i);

		if (!(value >= 0 && value <= 1))
			fail("point %lu left the range of the start values", i);
	}
	if (p->sweeps > 2 && !(*p->largest < *p->first_change))
		fail("the grid does not come to rest");
}

int main(void)
{
	const struct splash_kernel kernel = {"n", rows_count(), make, fill, solve, checksum, check};

	splash_run(&kernel);
	return 0;
}
