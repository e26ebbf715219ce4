/* SPDX-License-Identifier: Apache-2.0 */
/* fft: a complex FFT in six steps: three transposes, in which every CPU reads from every other, and
 * two rounds of FFTs over rows. Arguments: m= log2 of the points (14), even; cpus= (all). */
#include "guests/micro/programs/splash.h"

const char guest_name[] = "fft";

#define M_DEFAULT 14
#define M_MAX	  22
#define BINS	  3 /* compared with the definition */
#define ERROR_MAX 1e-7
#define PI	  3.14159265358979323846

struct complex {
	double re, im;
};

struct problem {
	unsigned m, rows; /* rows = columns = 2^(m/2) */
	struct spread data[2];
	struct complex *roots[CPUS_MAX]; /* e^(-2 pi i k / rows), each CPU its own */
	struct barrier barrier;
};

static unsigned m_get(void)
{
	uint64_t m = arg_number("m", M_DEFAULT);

	if (m < 4 || m > M_MAX || m % 2)
		fail("m= must be even, 4 to %u", M_MAX);
	return (unsigned)m;
}

static void *make(unsigned n)
{
	struct problem *p = node_alloc(0, sizeof(*p));

	p->m = m_get();
	p->rows = 1u << p->m / 2;
	for (unsigned i = 0; i < 2; i++)
		spread_make(&p->data[i], 1ul << p->m, sizeof(struct complex), n);
	for (unsigned i = 0; i < n; i++)
		p->roots[i] = node_alloc(machine.node_of[i], p->rows * sizeof(struct complex));
	barrier_init(&p->barrier, n);
	return p;
}

static struct complex *at(const struct spread *s, const struct problem *p, unsigned i, unsigned j)
{
	return spread_at(s, (uint64_t)i * p->rows + j);
}

static struct complex times(struct complex a, struct complex b)
{
	return (struct complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static struct complex root(uint64_t k, uint64_t n)
{
	double angle = -2 * PI * (double)(k % n) / (double)n;

	return (struct complex){real_cos(angle), real_sin(angle)};
}

static struct complex sample(uint64_t i)
{
	struct random r = {i * 0x8cb92ba72f3d8dd7ul};
	double re = (double)(random_next(&r) >> 11) / 9007199254740992.0 - 0.5;

	return (struct complex){re, (double)(random_next(&r) >> 11) / 9007199254740992.0 - 0.5};
}

static void fill(void *problem, unsigned self, unsigned n)
{
	struct problem *p = problem;
	struct share mine = share_of(1ul << p->m, self, n);

	for (uint64_t i = mine.first; i < mine.end; i++)
		*(struct complex *)spread_at(&p->data[0], i) = sample(i);
	for (unsigned k = 0; k < p->rows; k++)
		p->roots[self][k] = root(k, p->rows);
}

static void transpose(struct problem *p, unsigned from, struct share mine)
{
	for (uint64_t i = mine.first; i < mine.end; i++)
		for (unsigned j = 0; j < p->rows; j++)
			*at(&p->data[1 - from], p, (unsigned)i, j) =
				*at(&p->data[from], p, j, (unsigned)i);
}

static void row_swap(struct problem *p, unsigned which, unsigned row)
{
	for (unsigned i = 0, j = 0; i < p->rows; i++) {
		struct complex *a = at(&p->data[which], p, row, i);
		struct complex *b = at(&p->data[which], p, row, j);

		if (i < j) {
			struct complex t = *a;

			*a = *b;
			*b = t;
		}
		for (unsigned bit = p->rows >> 1; (j ^= bit) < bit && bit; bit >>= 1)
			;
	}
}

static void row_transform(struct problem *p, unsigned which, unsigned row,
			  const struct complex *roots)
{
	row_swap(p, which, row);
	for (unsigned half = 1; half < p->rows; half *= 2)
		for (unsigned i = 0; i < p->rows; i++) {
			struct complex *a, *b, t;

			if (i & half)
				continue;
			a = at(&p->data[which], p, row, i);
			b = at(&p->data[which], p, row, i + half);
			t = times(*b, roots[(i & (half - 1)) * (p->rows / 2 / half)]);
			*b = (struct complex){a->re - t.re, a->im - t.im};
			*a = (struct complex){a->re + t.re, a->im + t.im};
		}
}

/* Element j of row i times e^(-2 pi i i j / points). */
static void row_twiddle(struct problem *p, unsigned which, unsigned row)
{
	struct complex step = root(row, 1ul << p->m), w = {1, 0};

	for (unsigned j = 0; j < p->rows; j++) {
		struct complex *a = at(&p->data[which], p, row, j);

		*a = times(*a, w);
		w = times(w, step);
	}
}

/* Bailey: FFTs in External or Hierarchical Memory, 1990. The result is in data[1]. */
static void solve(void *problem, unsigned self, unsigned n)
{
	struct problem *p = problem;
	struct share mine = share_of(p->rows, self, n);

	transpose(p, 0, mine);
	for (uint64_t i = mine.first; i < mine.end; i++) {
		row_transform(p, 1, (unsigned)i, p->roots[self]);
		row_twiddle(p, 1, (unsigned)i);
	}
	barrier_wait(&p->barrier);
	transpose(p, 1, mine);
	for (uint64_t i = mine.first; i < mine.end; i++)
		row_transform(p, 0, (unsigned)i, p->roots[self]);
	barrier_wait(&p->barrier);
	transpose(p, 0, mine);
	barrier_wait(&p->barrier);
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < 1ul << p->m; i++) {
		struct complex *c = spread_at(&p->data[1], i);

		sum = checksum_add(checksum_add(sum, real_bits(c->re)), real_bits(c->im));
	}
	return sum;
}

/* Some bins, by the definition. */
static void check(void *problem)
{
	struct problem *p = problem;
	uint64_t points = 1ul << p->m;

	for (uint64_t bin = 1; bin <= BINS; bin++) {
		uint64_t k = bin * 0x9e3779b97f4a7c15ul % points;
		struct complex step = root(k, points), w = {1, 0}, sum = {0, 0}, *found;

		for (uint64_t i = 0; i < points; i++) {
			struct complex t = times(sample(i), w);

			sum.re += t.re;
			sum.im += t.im;
			w = times(w, step);
		}
		found = spread_at(&p->data[1], k);
		if (real_abs(found->re - sum.re) > ERROR_MAX * (double)points ||
		    real_abs(found->im - sum.im) > ERROR_MAX * (double)points)
			fail("bin %lu is not the sum that defines it", k);
	}
}

int main(void)
{
	const struct splash_kernel kernel = {"points", 1ul << m_get(), make, fill,
					     solve,    checksum,       check};

	splash_run(&kernel);
	return 0;
}
