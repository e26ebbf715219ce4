/* SPDX-License-Identifier: Apache-2.0 */
/* lu: factors a dense matrix into L and U by blocks, without pivoting, blocks dealt out in two
 * dimensions. Arguments: n= rows (128), a multiple of 16; cpus= of the parallel run (all). */
#include "guests/micro/programs/splash.h"

const char guest_name[] = "lu";

#define ROWS_DEFAULT 128
#define ROWS_MAX     2048
#define B	     16 /* rows of a block: 2 KiB, on a page of its own */
#define BLOCKS_MAX   (ROWS_MAX / B)
#define ERROR_MAX    1e-6

struct problem {
	unsigned n, blocks; /* rows; blocks in a row */
	unsigned width;	    /* of the grid of CPUs over which blocks are dealt */
	double *block[BLOCKS_MAX][BLOCKS_MAX];
	struct barrier barrier;
};

static unsigned rows_count(void)
{
	uint64_t n = arg_number("n", ROWS_DEFAULT);

	if (n < B || n > ROWS_MAX || n % B)
		fail("n= must be a multiple of %u up to %u", B, ROWS_MAX);
	return (unsigned)n;
}

static unsigned owner(const struct problem *p, unsigned i, unsigned j)
{
	return i % (p->barrier.n / p->width) * p->width + j % p->width;
}

/* Diagonally dominant: needs no pivots. */
static double element(unsigned n, unsigned i, unsigned j)
{
	struct random r = {(uint64_t)i << 32 | j};

	return (double)(random_next(&r) >> 11) / 9007199254740992.0 + (i == j ? n : 0);
}

static void *make(unsigned n)
{
	struct problem *p = node_alloc(0, sizeof(*p));

	p->n = rows_count();
	p->blocks = p->n / B;
	barrier_init(&p->barrier, n);
	for (p->width = 1; (p->width + 1) * (p->width + 1) <= n; p->width++)
		;
	while (n % p->width)
		p->width--;
	for (unsigned i = 0; i < p->blocks; i++)
		for (unsigned j = 0; j < p->blocks; j++)
			p->block[i][j] =
				node_alloc(machine.node_of[owner(p, i, j)], B * B * sizeof(double));
	return p;
}

static void fill(void *problem, unsigned self, unsigned n)
{
	struct problem *p = problem;

	(void)n;
	for (unsigned i = 0; i < p->blocks; i++)
		for (unsigned j = 0; j < p->blocks; j++)
			for (unsigned e = 0; owner(p, i, j) == self && e < B * B; e++)
				p->block[i][j][e] = element(p->n, i * B + e / B, j * B + e % B);
}

static void diagonal_factor(double *a)
{
	for (unsigned k = 0; k < B; k++)
		for (unsigned i = k + 1; i < B; i++) {
			a[i * B + k] /= a[k * B + k];
			for (unsigned j = k + 1; j < B; j++)
				a[i * B + j] -= a[i * B + k] * a[k * B + j];
		}
}

/* a = a U^-1: a block below the diagonal one. */
static void column_solve(double *a, const double *diagonal)
{
	for (unsigned i = 0; i < B; i++)
		for (unsigned k = 0; k < B; k++) {
			a[i * B + k] /= diagonal[k * B + k];
			for (unsigned j = k + 1; j < B; j++)
				a[i * B + j] -= a[i * B + k] * diagonal[k * B + j];
		}
}

/* a = L^-1 a: a block to the right of the diagonal one. */
static void row_solve(double *a, const double *diagonal)
{
	for (unsigned k = 0; k < B; k++)
		for (unsigned i = k + 1; i < B; i++)
			for (unsigned j = 0; j < B; j++)
				a[i * B + j] -= diagonal[i * B + k] * a[k * B + j];
}

static void inner_update(double *a, const double *left, const double *top)
{
	for (unsigned i = 0; i < B; i++)
		for (unsigned k = 0; k < B; k++)
			for (unsigned j = 0; j < B; j++)
				a[i * B + j] -= left[i * B + k] * top[k * B + j];
}

static void solve(void *problem, unsigned self, unsigned n)
{
	struct problem *p = problem;

	(void)n;
	for (unsigned k = 0; k < p->blocks; k++) {
		if (owner(p, k, k) == self)
			diagonal_factor(p->block[k][k]);
		barrier_wait(&p->barrier);
		for (unsigned i = k + 1; i < p->blocks; i++) {
			if (owner(p, i, k) == self)
				column_solve(p->block[i][k], p->block[k][k]);
			if (owner(p, k, i) == self)
				row_solve(p->block[k][i], p->block[k][k]);
		}
		barrier_wait(&p->barrier);
		for (unsigned i = k + 1; i < p->blocks; i++)
			for (unsigned j = k + 1; j < p->blocks; j++)
				if (owner(p, i, j) == self)
					inner_update(p->block[i][j], p->block[i][k],
						     p->block[k][j]);
		barrier_wait(&p->barrier);
	}
}

static double at(const struct problem *p, unsigned i, unsigned j)
{
	return p->block[i / B][j / B][i % B * B + j % B];
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = 0;

	for (unsigned i = 0; i < p->n; i++)
		for (unsigned j = 0; j < p->n; j++)
			sum = checksum_add(sum, real_bits(at(p, i, j)));
	return sum;
}

/* L (U 1) must be A 1, row by row. */
static void check(void *problem)
{
	struct problem *p = problem;
	double *u = node_alloc(0, p->n * sizeof(double));

	for (unsigned i = 0; i < p->n; i++)
		for (unsigned j = i; j < p->n; j++)
			u[i] += at(p, i, j);
	for (unsigned i = 0; i < p->n; i++) {
		double product = u[i], expected = 0;

		for (unsigned j = 0; j < p->n; j++) {
			expected += element(p->n, i, j);
			product += j < i ? at(p, i, j) * u[j] : 0;
		}
		if (real_abs(product - expected) > ERROR_MAX * expected)
			fail("row %u of L U is not that of the matrix", i);
	}
}

int main(void)
{
	const struct splash_kernel kernel = {"n", rows_count(), make, fill, solve, checksum, check};

	splash_run(&kernel);
	return 0;
}
