/* SPDX-License-Identifier: Apache-2.0 */
/* ocean: relaxes a grid, red points and black ones in turn; neighbours share the rows at the borders
 * of their parts. Rows are whole pages where the size allows. */
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

struct problem {
	unsigned n, rounds, width; /* inner rows and columns; doubles in a row */
	double *grid;
	double first, last; /* mean change of a point in the first sweep and in the last one */
};

static void *make(unsigned long size, unsigned rounds, unsigned threads)
{
	struct problem *p = memory_take(sizeof(*p));

	(void)threads;
	p->n = (unsigned)size;
	p->width = p->n + 2;
	p->rounds = rounds;
	p->grid = memory_take((size_t)p->width * p->width * sizeof(double));
	return p;
}

static double *row_at(const struct problem *p, size_t i)
{
	return p->grid + i * p->width;
}

/* Inner rows, from 1; the border is the first and the last thread's. */
static struct share rows_of(const struct problem *p, unsigned self, unsigned n)
{
	struct share rows = share_of(p->n, self, n);

	return (struct share){rows.first + 1, rows.end + 1};
}

static void fill(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share rows = rows_of(p, self, team_threads(team));

	if (self == 0)
		rows.first = 0;
	if (self + 1 == team_threads(team))
		rows.end = p->width;
	for (size_t i = rows.first; i < rows.end; i++)
		for (size_t j = 0; j < p->width; j++)
			row_at(p, i)[j] = random_real(3, i * p->width + j);
}

static double mean_of(const double *row, size_t width, size_t j)
{
	return 0.25 * (row[j - width] + row[j + width] + row[j - 1] + row[j + 1]);
}

/* Points of one colour in one row; how much they changed. */
static double row_relax(const struct problem *p, size_t i, unsigned colour)
{
	double *row = row_at(p, i), change = 0;

	for (size_t j = 1 + (i + 1 + colour) % 2; j <= p->n; j += 2) {
		double value = mean_of(row, p->width, j);

		change += fabs(value - row[j]);
		row[j] = value;
	}
	return change;
}

static void solve(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share rows = rows_of(p, self, team_threads(team));

	for (unsigned round = 0; round < p->rounds; round++) {
		double change = 0;

		for (unsigned colour = 0; colour < 2; colour++) {
			for (size_t i = rows.first; i < rows.end; i++)
				change += row_relax(p, i, colour);
			if (!colour)
				team_wait(team, self);
		}
		change = team_sum(team, self, change) / p->n / p->n;
		if (self != 0)
			continue;
		p->last = change;
		if (round == 0)
			p->first = change;
	}
}

/* What was relaxed last is the mean of its neighbours to the last bit, and no mean is outside of what
 * it is the mean of; and the grid must come to rest. */
static const char *check(void *problem)
{
	struct problem *p = problem;

	for (size_t i = 1; i <= p->n; i++)
		for (size_t j = 1; j <= p->n; j++) {
			const double *row = row_at(p, i);

			if (!(row[j] >= 0 && row[j] <= 1))
				return "a point left the range of the start values";
			if ((i + j) % 2 == 1 && row[j] != mean_of(row, p->width, j))
				return "a point is not the mean of its neighbours";
		}
	if (p->rounds > 1 && !(p->last < p->first))
		return "the grid does not come to rest";
	return NULL;
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;

	return checksum_reals(0, p->grid, (size_t)p->width * p->width);
}

static void spoil(void *problem)
{
	struct problem *p = problem;

	row_at(p, p->n)[1] *= 0.5;
}

const struct kernel kernel_ocean = {
	.name = "ocean",
	.about = "relaxes a grid, red points and black ones in turn",
	.size_what = "inner rows and columns",
	.size_min = 2,
	.size_default = 1022,
	.size_max = 8190,
	.rounds_what = "sweeps",
	.rounds_default = 60,
	.make = make,
	.fill = fill,
	.solve = solve,
	.check = check,
	.checksum = checksum,
	.spoil = spoil,
};
