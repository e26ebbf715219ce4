/* SPDX-License-Identifier: Apache-2.0 */
/* fft: a complex FFT in six steps (Bailey: FFTs in External or Hierarchical Memory, 1990): three
 * transposes, in which every thread reads from every other, and two rounds of FFTs over rows. */
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

#define BINS	  3 /* compared with the definition */
#define ERROR_MAX 1e-9
#define TILE	  8u /* rows that a transpose reads at a time */

struct complex {
	double re, im;
};

struct problem {
	unsigned m, rows, rounds; /* rows = columns = 2^(m / 2) */
	/* Each transpose of the first round writes to an array that nobody has read, so that no copy is
	 * taken back. */
	struct complex *data[4];
	struct complex *roots[THREADS_MAX]; /* e^(-2 pi i k / rows), each thread its own */
};

static bool size_good(unsigned long size)
{
	return size % 2 == 0;
}

static void *make(unsigned long size, unsigned rounds, unsigned threads)
{
	struct problem *p = memory_take(sizeof(*p));

	p->m = (unsigned)size;
	p->rounds = rounds;
	p->rows = 1u << p->m / 2;
	for (unsigned i = 0; i < 4; i++)
		p->data[i] = memory_take(sizeof(struct complex) << p->m);
	for (unsigned i = 0; i < threads; i++)
		p->roots[i] = memory_take(p->rows * sizeof(struct complex));
	return p;
}

static struct complex times(struct complex a, struct complex b)
{
	return (struct complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static struct complex root(uint64_t k, uint64_t n)
{
	double angle = -2 * M_PI * (double)(k % n) / (double)n;

	return (struct complex){cos(angle), sin(angle)};
}

static struct complex sample(uint64_t i)
{
	return (struct complex){random_real(2, 2 * i) - 0.5, random_real(2, 2 * i + 1) - 0.5};
}

static void fill(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share mine = share_of(p->rows, self, team_threads(team));

	for (size_t i = mine.first * p->rows; i < mine.end * p->rows; i++) {
		p->data[0][i] = sample(i);
		for (unsigned k = 1; k < 4; k++)
			p->data[k][i] = (struct complex){0, 0};
	}
	for (unsigned k = 0; k < p->rows; k++)
		p->roots[self][k] = root(k, p->rows);
}

/* Row by row of what is read, in few rows at a time: pages of other nodes come one after another. */
static void transpose(const struct problem *p, unsigned from, struct share mine)
{
	const struct complex *source = p->data[from];
	struct complex *target = p->data[from + 1];

	for (unsigned j = 0; j < p->rows; j += TILE)
		for (size_t i = mine.first; i < mine.end; i++)
			for (unsigned k = j; k < j + TILE && k < p->rows; k++)
				target[i * p->rows + k] = source[(size_t)k * p->rows + i];
}

static void row_swap(struct complex *row, unsigned count)
{
	for (unsigned i = 0, j = 0; i < count; i++) {
		if (i < j) {
			struct complex t = row[i];

			row[i] = row[j];
			row[j] = t;
		}
		for (unsigned bit = count >> 1; (j ^= bit) < bit && bit; bit >>= 1)
			;
	}
}

static void row_transform(struct complex *row, unsigned count, const struct complex *roots)
{
	row_swap(row, count);
	for (unsigned half = 1, step = count / 2; half < count; half *= 2, step /= 2)
		for (unsigned base = 0; base < count; base += 2 * half)
			for (unsigned k = 0; k < half; k++) {
				struct complex *a = &row[base + k], *b = a + half;
				struct complex t = times(*b, roots[k * step]);

				*b = (struct complex){a->re - t.re, a->im - t.im};
				*a = (struct complex){a->re + t.re, a->im + t.im};
			}
}

/* Element j of row i times e^(-2 pi i i j / points). */
static void row_twiddle(struct complex *row, unsigned count, struct complex step)
{
	struct complex w = {1, 0};

	for (unsigned j = 0; j < count; j++) {
		row[j] = times(row[j], w);
		w = times(w, step);
	}
}

/* From data[0] to data[3]. */
static void forward(struct problem *p, struct team *team, unsigned self, struct share mine)
{
	transpose(p, 0, mine);
	for (size_t i = mine.first; i < mine.end; i++) {
		row_transform(&p->data[1][i * p->rows], p->rows, p->roots[self]);
		row_twiddle(&p->data[1][i * p->rows], p->rows, root(i, 1ul << p->m));
	}
	team_wait(team, self);
	transpose(p, 1, mine);
	for (size_t i = mine.first; i < mine.end; i++)
		row_transform(&p->data[2][i * p->rows], p->rows, p->roots[self]);
	team_wait(team, self);
	transpose(p, 2, mine);
	team_wait(team, self);
}

static void solve(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share mine = share_of(p->rows, self, team_threads(team));

	for (unsigned round = 0; round < p->rounds; round++)
		forward(p, team, self, mine);
}

/* One bin by the definition. */
static bool bin_right(const struct problem *p, uint64_t bin)
{
	uint64_t points = 1ul << p->m;
	struct complex step = root(bin, points), w = {1, 0}, sum = {0, 0}, found;

	for (uint64_t i = 0; i < points; i++) {
		struct complex t = times(sample(i), w);

		sum.re += t.re;
		sum.im += t.im;
		/* Exact again now and then: rounding would grow with the points. */
		w = i % 1024 == 1023 ? root(bin * (i + 1) % points, points) : times(w, step);
	}
	found = p->data[3][bin];
	return fabs(found.re - sum.re) <= ERROR_MAX * (double)points &&
	       fabs(found.im - sum.im) <= ERROR_MAX * (double)points;
}

/* Some bins; and Parseval: the squares of all bins are those of all samples. */
static const char *check(void *problem)
{
	struct problem *p = problem;
	uint64_t points = 1ul << p->m;
	double before = 0, after = 0;

	for (uint64_t i = 0; i < points; i++) {
		struct complex in = sample(i), out = p->data[3][i];

		before += in.re * in.re + in.im * in.im;
		after += out.re * out.re + out.im * out.im;
	}
	if (!(fabs(after / (double)points - before) <= ERROR_MAX * before))
		return "the bins' squares are not those of the samples";
	for (uint64_t i = 1; i <= BINS; i++)
		if (!bin_right(p, i * UINT64_C(0x9e3779b97f4a7c15) % points))
			return "a bin is not the sum that defines it";
	return NULL;
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;

	return checksum_reals(0, &p->data[3]->re, 2ul << p->m);
}

static void spoil(void *problem)
{
	struct problem *p = problem;

	p->data[3][(1ul << p->m) - 1].re += 1;
}

const struct kernel kernel_fft = {
	.name = "fft",
	.about = "a complex FFT in six steps",
	.size_what = "the binary logarithm of the points, even",
	.size_min = 4,
	.size_default = 20,
	.size_max = 24,
	.size_good = size_good,
	.rounds_what = "transforms",
	.rounds_default = 3,
	.make = make,
	.fill = fill,
	.solve = solve,
	.check = check,
	.checksum = checksum,
	.spoil = spoil,
};
