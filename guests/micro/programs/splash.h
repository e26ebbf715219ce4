/* SPDX-License-Identifier: Apache-2.0 */
/* What the SPLASH-like kernels share: arrays spread over nodes, the serial run, the report. */
#ifndef GUESTS_MICRO_PROGRAMS_SPLASH_H
#define GUESTS_MICRO_PROGRAMS_SPLASH_H

#include "guests/micro/lib/guest.h"

/* An array in blocks of whole pages; each lies on the node of the CPU that works on it. */
#define SPREAD_BLOCKS_MAX 4096
struct spread {
	uint8_t *block[SPREAD_BLOCKS_MAX];
	unsigned shift; /* elements of a block: 1 << shift */
	uint64_t mask;
	size_t element;
};

/* owners CPUs get equal runs of the elements, in order. CPU 0 only. */
void spread_make(struct spread *s, uint64_t elements, size_t element, unsigned owners);

static inline void *spread_at(const struct spread *s, uint64_t i)
{
	return s->block[i >> s->shift] + (i & s->mask) * s->element;
}

static inline double *spread_real(const struct spread *s, uint64_t i)
{
	return (double *)(s->block[i >> s->shift]) + (i & s->mask);
}

/* What self of n does of items: [first, end). */
struct share {
	uint64_t first, end;
};
static inline struct share share_of(uint64_t items, unsigned self, unsigned n)
{
	return (struct share){items * self / n, items * (self + 1) / n};
}

/*
 * A kernel makes its problem for n CPUs, solves it as a team, and sums up the solution. The same
 * code with n = 1 on CPU 0 and its node is the serial run, whose sum must come out the same.
 */
struct splash_kernel {
	const char *unit; /* for the report: what the size counts, and the size */
	uint64_t size;
	void *(*make)(unsigned n);
	void (*fill)(void *problem, unsigned self, unsigned n);
	void (*solve)(void *problem, unsigned self, unsigned n);
	uint64_t (*checksum)(void *problem);
	void (*check)(void *problem); /* is it a solution at all? fails the program else */
};

/* Runs it serially and with cpus= CPUs (all), compares, prints times and the speed-up. */
void splash_run(const struct splash_kernel *kernel);

/* Adds a value to a sum so that places matter. */
static inline uint64_t checksum_add(uint64_t sum, uint64_t value)
{
	return (sum ^ value) * 0x9e3779b97f4a7c15ul + (sum >> 29);
}

static inline uint64_t real_bits(double x)
{
	uint64_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

#endif
