/* SPDX-License-Identifier: Apache-2.0 */
/* mg: Poisson's equation on a periodic cube by multigrid, with the operators of MG of the NAS parallel
 * benchmarks (RNR-94-007). Threads have slabs; small grids, on which a barrier would cost more than
 * the work, are the first thread's alone. */
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

#define LEVELS_MAX   10
#define ALONE_MAX    16u /* points in a row of a grid that one thread does alone */
#define CHARGES	     20	 /* half of them +1, half -1 */
#define FALL_A_CYCLE 0.5 /* of the residual, at least */
#define FALL_END     1e-11

struct grid {
	unsigned n; /* points in a row, a power of two */
	double *u, *r;
};

struct problem {
	unsigned levels, rounds, threads;
	struct grid grid[LEVELS_MAX]; /* [levels - 1] is the finest */
	double *v;
	double *line[THREADS_MAX]; /* two rows of sums, each thread its own */
	double first, last;	   /* the residual's norm, before and after */
};

static const double operator_a[4] = {-8.0 / 3, 0, 1.0 / 6, 1.0 / 12};
static const double operator_s[4] = {-3.0 / 8, 1.0 / 32, -1.0 / 64, 0};

static bool size_good(unsigned long size)
{
	return (size & (size - 1)) == 0;
}

static size_t bytes_of(unsigned n)
{
	return (size_t)n * n * n * sizeof(double);
}

static void *make(unsigned long size, unsigned rounds, unsigned threads)
{
	struct problem *p = memory_take(sizeof(*p));

	p->rounds = rounds;
	p->threads = threads;
	while (2ul << p->levels <= size) {
		struct grid *g = &p->grid[p->levels];

		g->n = 2u << p->levels++;
		g->u = memory_take(bytes_of(g->n));
		g->r = memory_take(bytes_of(g->n));
	}
	p->v = memory_take(bytes_of((unsigned)size));
	for (unsigned i = 0; i < threads; i++)
		p->line[i] = memory_take(2 * size * sizeof(double));
	return p;
}

/* Planes of a grid that are this thread's. */
static struct share planes_of(const struct problem *p, const struct grid *g, unsigned self)
{
	if (g->n <= ALONE_MAX)
		return self ? (struct share){0, 0} : (struct share){0, g->n};
	return share_of(g->n, self, p->threads);
}

static void planes_zero(double *grid, unsigned n, struct share planes)
{
	memset(grid + planes.first * n * n, 0,
	       (planes.end - planes.first) * n * n * sizeof(double));
}

static void fill(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	const struct grid *top = &p->grid[p->levels - 1];
	struct share planes = planes_of(p, top, self);

	(void)team;
	for (unsigned level = 0; level < p->levels; level++) {
		struct share mine = planes_of(p, &p->grid[level], self);

		planes_zero(p->grid[level].u, p->grid[level].n, mine);
		planes_zero(p->grid[level].r, p->grid[level].n, mine);
	}
	planes_zero(p->v, top->n, planes);
	for (unsigned i = 0; i < CHARGES; i++) {
		/* A place of its own for each: they are strata of the cube. */
		size_t all = (size_t)top->n * top->n * top->n,
		       at = all * i / CHARGES + random_at(7, i) % (all / CHARGES);

		if (at / top->n / top->n >= planes.first && at / top->n / top->n < planes.end)
			p->v[at] = i % 2 ? 1 : -1;
	}
}

/* The rows around row (z, y): [0] is itself, by plane and row, periodic. */
static const double *row_at(const double *grid, unsigned n, size_t z, size_t y)
{
	return grid + ((z & (n - 1)) * n + (y & (n - 1))) * n;
}

/* near[x]: the four rows beside (z, y); far[x]: the four across its edges. */
static void rows_sum(const double *grid, unsigned n, size_t z, size_t y, double *restrict near,
		     double *restrict far)
{
	const double *south = row_at(grid, n, z, y - 1), *north = row_at(grid, n, z, y + 1);
	const double *below = row_at(grid, n, z - 1, y), *above = row_at(grid, n, z + 1, y);
	const double *bs = row_at(grid, n, z - 1, y - 1), *bn = row_at(grid, n, z - 1, y + 1);
	const double *as = row_at(grid, n, z + 1, y - 1), *an = row_at(grid, n, z + 1, y + 1);

	for (unsigned x = 0; x < n; x++) {
		near[x] = south[x] + north[x] + below[x] + above[x];
		far[x] = bs[x] + bn[x] + as[x] + an[x];
	}
}

/* The operator with weights w (centre, faces, edges, corners) at x of a row. */
static double stencil(const double w[4], const double *row, const double *near, const double *far,
		      unsigned x, unsigned left, unsigned right)
{
	return w[0] * row[x] + w[1] * (row[left] + row[right] + near[x]) +
	       w[2] * (far[x] + near[left] + near[right]) + w[3] * (far[left] + far[right]);
}

/* r = v - A u, or u += S r: out = base + sign * (w applied to `in`). */
static void apply(const double w[4], double sign, const double *in, const double *base, double *out,
		  unsigned n, struct share planes, double *line)
{
	double *near = line, *far = line + n;

	for (size_t z = planes.first; z < planes.end; z++)
		for (size_t y = 0; y < n; y++) {
			const double *row = row_at(in, n, z, y);
			size_t at = (z * n + y) * n;

			rows_sum(in, n, z, y, near, far);
			out[at] = base[at] + sign * stencil(w, row, near, far, 0, n - 1, 1 % n);
			for (unsigned x = 1; x + 1 < n; x++)
				out[at + x] = base[at + x] +
					      sign * stencil(w, row, near, far, x, x - 1, x + 1);
			out[at + n - 1] = base[at + n - 1] +
					  sign * stencil(w, row, near, far, n - 1, n - 2, 0);
		}
}

/* The coarse residual: a half of the point, a quarter of faces, an eighth of edges, a 16th of corners. */
static void restrict_to(const struct grid *fine, const struct grid *coarse, struct share planes,
			double *line)
{
	static const double weight[4] = {0.5, 0.25, 0.125, 0.0625};
	unsigned n = fine->n;
	double *near = line, *far = line + n;

	for (size_t z = planes.first; z < planes.end; z++)
		for (size_t y = 0; y < coarse->n; y++) {
			const double *row = row_at(fine->r, n, 2 * z, 2 * y);

			rows_sum(fine->r, n, 2 * z, 2 * y, near, far);
			for (unsigned x = 0; x < coarse->n; x++)
				coarse->r[(z * coarse->n + y) * coarse->n + x] =
					stencil(weight, row, near, far, 2 * x,
						(2 * x + n - 1) & (n - 1), 2 * x + 1);
		}
}

/* fine.u += coarse.u between its points by trilinear interpolation; planes of the fine grid. */
static void prolong(const struct grid *coarse, const struct grid *fine, struct share planes)
{
	unsigned n = coarse->n;

	for (size_t z = planes.first; z < planes.end; z++)
		for (size_t y = 0; y < fine->n; y++) {
			const double *a = row_at(coarse->u, n, z / 2, y / 2);
			const double *b = row_at(coarse->u, n, z / 2, (y + 1) / 2);
			const double *c = row_at(coarse->u, n, (z + 1) / 2, y / 2);
			const double *d = row_at(coarse->u, n, (z + 1) / 2, (y + 1) / 2);
			double *out = fine->u + (z * fine->n + y) * fine->n;
			double here = 0.25 * (a[0] + b[0] + c[0] + d[0]);

			for (unsigned x = 0; x < n; x++) {
				unsigned right = (x + 1) & (n - 1);
				double next = 0.25 * (a[right] + b[right] + c[right] + d[right]);

				out[2 * x] += here;
				out[2 * x + 1] += 0.5 * (here + next);
				here = next;
			}
		}
}

/* Waits where the grid just written, or the one read next, is not one thread's alone. */
static void level_wait(const struct problem *p, struct team *team, unsigned self, unsigned level)
{
	if (p->grid[level].n > ALONE_MAX)
		team_wait(team, self);
}

/* From the finest grid's residual to its correction: RNR-94-007, 2.4, "V-cycle multigrid". */
static void cycle(struct problem *p, struct team *team, unsigned self)
{
	unsigned top = p->levels - 1;

	for (unsigned level = top; level-- > 0;) {
		restrict_to(&p->grid[level + 1], &p->grid[level],
			    planes_of(p, &p->grid[level], self), p->line[self]);
		level_wait(p, team, self, level + 1);
	}
	for (unsigned level = 0; level <= top; level++) {
		const struct grid *g = &p->grid[level];
		struct share planes = planes_of(p, g, self);

		if (level < top)
			planes_zero(g->u, g->n, planes);
		if (level > 0) {
			prolong(g - 1, g, planes);
			level_wait(p, team, self, level);
			apply(operator_a, -1, g->u, level == top ? p->v : g->r, g->r, g->n, planes,
			      p->line[self]);
			level_wait(p, team, self, level);
		}
		apply(operator_s, 1, g->r, g->u, g->u, g->n, planes, p->line[self]);
		/* The next grid may be everybody's. */
		if (level < top)
			level_wait(p, team, self, level + 1);
	}
}

static double norm_of(const double *grid, unsigned n, struct share planes)
{
	double sum = 0;

	for (size_t i = planes.first * n * n; i < planes.end * n * n; i++)
		sum += grid[i] * grid[i];
	return sum;
}

static void residual_take(struct problem *p, struct team *team, unsigned self, double *norm)
{
	const struct grid *g = &p->grid[p->levels - 1];
	struct share planes = planes_of(p, g, self);
	double sum;

	team_wait(team, self);
	apply(operator_a, -1, g->u, p->v, g->r, g->n, planes, p->line[self]);
	sum = team_sum(team, self, norm_of(g->r, g->n, planes));
	if (self == 0)
		*norm = sqrt(sum);
}

static void solve(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;

	residual_take(p, team, self, &p->first);
	for (unsigned round = 0; round < p->rounds; round++) {
		cycle(p, team, self);
		residual_take(p, team, self, &p->last);
	}
}

/* The residual is that of the solution to the last bit, and small. */
static const char *check(void *problem)
{
	struct problem *p = problem;
	const struct grid *g = &p->grid[p->levels - 1];
	double *again = memory_take(bytes_of(g->n)), least = FALL_END;
	bool same;

	apply(operator_a, -1, g->u, p->v, again, g->n, (struct share){0, g->n}, p->line[0]);
	same = memcmp(again, g->r, bytes_of(g->n)) == 0;
	memory_free(again, bytes_of(g->n));
	if (!same)
		return "the residual is not the solution's";
	least = fmax(least, pow(FALL_A_CYCLE, p->rounds));
	return p->last <= least * p->first ? NULL : "the residual did not fall as it must";
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	const struct grid *g = &p->grid[p->levels - 1];

	return checksum_reals(0, g->u, bytes_of(g->n) / sizeof(double));
}

static void spoil(void *problem)
{
	struct problem *p = problem;

	p->grid[p->levels - 1].u[1] += 1;
}

const struct kernel kernel_mg = {
	.name = "mg",
	.about = "Poisson's equation on a cube by multigrid",
	.size_what = "points in a row of the cube, a power of two",
	.size_min = 8,
	.size_default = 128,
	.size_max = 512,
	.size_good = size_good,
	.rounds_what = "cycles",
	.rounds_default = 3,
	.make = make,
	.fill = fill,
	.solve = solve,
	.check = check,
	.checksum = checksum,
	.spoil = spoil,
};
