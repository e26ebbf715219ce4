/* SPDX-License-Identifier: Apache-2.0 */
/* lu: factors a dense matrix into L and U by blocks, without pivoting. A block is two whole pages, and
 * blocks are dealt out to the threads in two dimensions, as SPLASH-2 does it. */
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

#define B	  32 /* rows of a block */
#define ROWS_MAX  4096
#define ERROR_MAX 1e-6

struct problem {
	unsigned n, blocks;	 /* rows; blocks in a row */
	unsigned threads, width; /* of the grid of threads over which blocks are dealt */
	double *block[ROWS_MAX / B][ROWS_MAX / B];
};

static unsigned owner(const struct problem *p, unsigned i, unsigned j)
{
	return i % (p->threads / p->width) * p->width + j % p->width;
}

/* Diagonally dominant: needs no pivots. */
static double element(unsigned n, unsigned i, unsigned j)
{
	return random_real(1, (uint64_t)i << 32 | j) + (i == j ? n : 0);
}

static bool size_good(unsigned long size)
{
	return size % B == 0;
}

static void *make(unsigned long size, unsigned rounds, unsigned threads)
{
	struct problem *p = memory_take(sizeof(*p));

	(void)rounds;
	p->n = (unsigned)size;
	p->blocks = p->n / B;
	p->threads = threads;
	for (p->width = 1; (p->width + 1) * (p->width + 1) <= threads; p->width++)
		;
	while (threads % p->width)
		p->width--;
	return p;
}

/* A thread's blocks lie together, on its node. */
static void fill(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	double *next;
	size_t count = 0;

	(void)team;
	for (unsigned i = 0; i < p->blocks; i++)
		for (unsigned j = 0; j < p->blocks; j++)
			count += owner(p, i, j) == self;
	next = memory_take(count * B * B * sizeof(double));
	for (unsigned i = 0; i < p->blocks; i++)
		for (unsigned j = 0; j < p->blocks; j++) {
			if (owner(p, i, j) != self)
				continue;
			p->block[i][j] = next;
			for (unsigned e = 0; e < B * B; e++)
				next[e] = element(p->n, i * B + e / B, j * B + e % B);
			next += B * B;
		}
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
static void column_solve(double *restrict a, const double *restrict diagonal)
{
	for (unsigned i = 0; i < B; i++)
		for (unsigned k = 0; k < B; k++) {
			a[i * B + k] /= diagonal[k * B + k];
			for (unsigned j = k + 1; j < B; j++)
				a[i * B + j] -= a[i * B + k] * diagonal[k * B + j];
		}
}

/* a = L^-1 a: a block to the right of the diagonal one. */
static void row_solve(double *restrict a, const double *restrict diagonal)
{
	for (unsigned k = 0; k < B; k++)
		for (unsigned i = k + 1; i < B; i++)
			for (unsigned j = 0; j < B; j++)
				a[i * B + j] -= diagonal[i * B + k] * a[k * B + j];
}

static void inner_update(double *restrict a, const double *restrict left,
			 const double *restrict top)
{
	for (unsigned i = 0; i < B; i++)
		for (unsigned k = 0; k < B; k++)
			for (unsigned j = 0; j < B; j++)
				a[i * B + j] -= left[i * B + k] * top[k * B + j];
}

/*
 * Two barriers a step: each waits for what others read next. The next step begins without one, since
 * a block is written by nobody but its owner.
 */
static void solve(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;

	for (unsigned k = 0; k < p->blocks; k++) {
		if (owner(p, k, k) == self)
			diagonal_factor(p->block[k][k]);
		team_wait(team, self);
		for (unsigned i = k + 1; i < p->blocks; i++) {
			if (owner(p, i, k) == self)
				column_solve(p->block[i][k], p->block[k][k]);
			if (owner(p, k, i) == self)
				row_solve(p->block[k][i], p->block[k][k]);
		}
		team_wait(team, self);
		for (unsigned i = k + 1; i < p->blocks; i++)
			for (unsigned j = k + 1; j < p->blocks; j++)
				if (owner(p, i, j) == self)
					inner_update(p->block[i][j], p->block[i][k],
						     p->block[k][j]);
	}
}

static double at(const struct problem *p, unsigned i, unsigned j)
{
	return p->block[i / B][j / B][i % B * B + j % B];
}

/* L (U 1) must be A 1, row by row. */
static const char *check(void *problem)
{
	struct problem *p = problem;
	double *u = memory_take(p->n * sizeof(double));

	for (unsigned i = 0; i < p->n; i++)
		for (unsigned j = i; j < p->n; j++)
			u[i] += at(p, i, j);
	for (unsigned i = 0; i < p->n; i++) {
		double product = u[i], expected = 0;

		for (unsigned j = 0; j < p->n; j++) {
			expected += element(p->n, i, j);
			product += j < i ? at(p, i, j) * u[j] : 0;
		}
		if (!(fabs(product - expected) <= ERROR_MAX * expected))
			return "L times U is not the matrix";
	}
	return NULL;
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = 0;

	for (unsigned i = 0; i < p->blocks; i++)
		for (unsigned j = 0; j < p->blocks; j++)
			sum = checksum_reals(sum, p->block[i][j], B * B);
	return sum;
}

static void spoil(void *problem)
{
	struct problem *p = problem;

	p->block[p->blocks - 1][0][B + 1] += 1;
}

const struct kernel kernel_lu = {
	.name = "lu",
	.about = "factors a dense matrix by blocks",
	.size_what = "rows, a multiple of 32",
	.size_min = B,
	.size_default = 1024,
	.size_max = ROWS_MAX,
	.size_good = size_good,
	.make = make,
	.fill = fill,
	.solve = solve,
	.check = check,
	.checksum = checksum,
	.spoil = spoil,
};
