/* SPDX-License-Identifier: Apache-2.0 */
/* cg: the least eigenvalue of a sparse matrix by inverse iteration, each step a system that conjugate
 * gradients solve, after CG of the NAS parallel benchmarks. Half of each row is a band, half lies far
 * away: every thread reads all of a vector that every thread writes a part of. */
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

#define NEAR	     32u /* entries on each side of the diagonal in the band, and beyond it */
#define ROW_MAX	     (4 * NEAR + 1)
#define STEPS	     25 /* of conjugate gradients for one system */
#define RESIDUAL_MAX 1e-6
#define PER_PAGE     (PAGE_BYTES / sizeof(double))
#define SHIFT	     10.0 /* of the diagonal over the sum of its row */

struct part {
	struct share rows;
	uint32_t *column; /* ROW_MAX of each row: those that are there, in order */
	double *value;
};

struct problem {
	unsigned n, rounds, offsets, per_row;
	uint32_t offset[2 * NEAR];
	double *x, *z, *r, *p, *q;
	struct part *part; /* a page of its own for each thread's would save nothing: read only */
	unsigned threads;
	double residual, shift; /* of the last system; its eigenvalue */
};

static void *make(unsigned long size, unsigned rounds, unsigned threads)
{
	struct problem *p = memory_take(sizeof(*p));
	double **vector[] = {&p->x, &p->z, &p->r, &p->p, &p->q};

	p->n = (unsigned)size;
	p->rounds = rounds;
	p->threads = threads;
	p->offsets = 2 * NEAR;
	for (uint32_t i = 0; i < NEAR; i++) {
		p->offset[i] = i + 1;
		/* Far ones, in strata so that all differ. */
		p->offset[NEAR + i] = (uint32_t)(NEAR + 1 +
						 (uint64_t)(p->n / 2 - NEAR - 2) *
							 (i + random_real(4, i)) / NEAR);
	}
	for (size_t i = 0; i < sizeof(vector) / sizeof(vector[0]); i++)
		*vector[i] = memory_take(p->n * sizeof(double));
	p->part = memory_take(threads * sizeof(*p->part));
	return p;
}

/* Of i and j, whichever comes first: the matrix is symmetric. In (-1, 0). */
static double element(unsigned i, unsigned j)
{
	return -random_real(5, i < j ? (uint64_t)i << 32 | j : (uint64_t)j << 32 | i);
}

static void row_fill(const struct problem *p, unsigned i, uint32_t *column, double *value)
{
	double sum = 0;

	for (unsigned k = 0; k < p->offsets; k++) {
		column[2 * k] = (i + p->offset[k]) % p->n;
		column[2 * k + 1] = (i + p->n - p->offset[k]) % p->n;
		value[2 * k] = element(i, column[2 * k]);
		value[2 * k + 1] = element(i, column[2 * k + 1]);
		sum -= value[2 * k] + value[2 * k + 1];
	}
	column[2 * p->offsets] = i;
	value[2 * p->offsets] = sum + SHIFT;
}

static void fill(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct part *part = &p->part[self];
	size_t rows;

	part->rows = share_pages(p->n, PER_PAGE, self, team_threads(team));
	rows = part->rows.end - part->rows.first;
	part->column = memory_take(rows * ROW_MAX * sizeof(uint32_t));
	part->value = memory_take(rows * ROW_MAX * sizeof(double));
	for (size_t i = 0; i < rows; i++)
		row_fill(p, (unsigned)(part->rows.first + i), part->column + i * ROW_MAX,
			 part->value + i * ROW_MAX);
	for (size_t i = part->rows.first; i < part->rows.end; i++) {
		p->x[i] = random_real(6, i);
		p->z[i] = p->r[i] = p->p[i] = p->q[i] = 0;
	}
}

/* The row of the part's rows with number i, times a vector. */
static double row_times(const struct part *part, size_t i, const double *vector)
{
	const uint32_t *column = part->column + (i - part->rows.first) * ROW_MAX;
	const double *value = part->value + (i - part->rows.first) * ROW_MAX;
	double sum = 0;

	for (unsigned k = 0; k < ROW_MAX; k++)
		sum += value[k] * vector[column[k]];
	return sum;
}

static double dot(struct share rows, const double *a, const double *b)
{
	double sum = 0;

	for (size_t i = rows.first; i < rows.end; i++)
		sum += a[i] * b[i];
	return sum;
}

/* A z = x by conjugate gradients: three barriers a step, two of which carry a sum. */
static void system_solve(struct problem *p, struct team *team, unsigned self)
{
	const struct part *part = &p->part[self];
	struct share rows = part->rows;
	double rho;

	for (size_t i = rows.first; i < rows.end; i++) {
		p->z[i] = 0;
		p->r[i] = p->p[i] = p->x[i];
	}
	rho = team_sum(team, self, dot(rows, p->r, p->r));
	for (unsigned step = 0; step < STEPS && rho > 0; step++) {
		double alpha, beta, before = rho;

		for (size_t i = rows.first; i < rows.end; i++)
			p->q[i] = row_times(part, i, p->p);
		alpha = rho / team_sum(team, self, dot(rows, p->p, p->q));
		for (size_t i = rows.first; i < rows.end; i++) {
			p->z[i] += alpha * p->p[i];
			p->r[i] -= alpha * p->q[i];
		}
		rho = team_sum(team, self, dot(rows, p->r, p->r));
		beta = rho / before;
		for (size_t i = rows.first; i < rows.end; i++)
			p->p[i] = p->r[i] + beta * p->p[i];
		team_wait(team, self);
	}
}

/* The eigenvalue from z; the next x is z with length 1. In the last round x stays for the check. */
static void solve(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share rows = p->part[self].rows;

	for (unsigned round = 0; round < p->rounds; round++) {
		double along, square;

		system_solve(p, team, self);
		along = team_sum(team, self, dot(rows, p->x, p->z));
		square = team_sum(team, self, dot(rows, p->z, p->z));
		if (self == 0)
			p->shift = along / square;
		for (size_t i = rows.first; round + 1 < p->rounds && i < rows.end; i++)
			p->x[i] = p->z[i] / sqrt(square);
	}
}

/* A z must be x. */
static const char *check(void *problem)
{
	struct problem *p = problem;
	double wrong = 0, all = 0;

	for (unsigned t = 0; t < p->threads; t++)
		for (size_t i = p->part[t].rows.first; i < p->part[t].rows.end; i++) {
			double miss = p->x[i] - row_times(&p->part[t], i, p->z);

			wrong += miss * miss;
			all += p->x[i] * p->x[i];
		}
	if (!(sqrt(wrong / all) <= RESIDUAL_MAX))
		return "the solution does not solve the system";
	return p->shift >= SHIFT * 0.999 ? NULL : "the eigenvalue is below the least that can be";
}

static void spoil(void *problem)
{
	struct problem *p = problem;

	p->z[p->n / 2] += 1;
}

const struct kernel kernel_cg = {
	.name = "cg",
	.about = "conjugate gradients on a sparse matrix",
	.size_what = "rows",
	.size_min = 256,
	.size_default = 14336,
	.size_max = 1ul << 20,
	.rounds_what = "systems, of 25 steps each",
	.rounds_default = 4,
	.make = make,
	.fill = fill,
	.solve = solve,
	.check = check,
	.spoil = spoil,
};
