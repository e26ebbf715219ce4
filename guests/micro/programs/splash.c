/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a SPLASH-like kernel serially and in parallel and compares: sums, times. */
#include "guests/micro/programs/splash.h"

#define BLOCK_SHIFT_MIN 12 /* a block is a page at least */

void spread_make(struct spread *s, uint64_t elements, size_t element, unsigned owners)
{
	uint64_t blocks;

	s->element = element;
	s->shift = 0;
	while (((uint64_t)element << s->shift) < (1ul << BLOCK_SHIFT_MIN) ||
	       (elements >> s->shift) >= SPREAD_BLOCKS_MAX)
		s->shift++;
	s->mask = (1ul << s->shift) - 1;
	blocks = (elements + s->mask) >> s->shift;
	for (uint64_t i = 0; i < blocks; i++) {
		unsigned owner = (unsigned)((i << s->shift) * owners / elements);

		s->block[i] = node_alloc(machine.node_of[owner], element << s->shift);
	}
}

struct run {
	const struct splash_kernel *kernel;
	void *problem;
};

static void team_fill(unsigned self, unsigned n, void *arg)
{
	struct run *r = arg;

	r->kernel->fill(r->problem, self, n);
}

static void team_solve(unsigned self, unsigned n, void *arg)
{
	struct run *r = arg;

	r->kernel->solve(r->problem, self, n);
}

/* Returns the time that the solution took, in ns. */
static uint64_t run_on(struct run *r, unsigned n)
{
	uint64_t start;

	r->problem = r->kernel->make(n);
	team_run(n, team_fill, r);
	start = ticks_now();
	team_run(n, team_solve, r);
	return ticks_ns(ticks_now() - start);
}

void splash_run(const struct splash_kernel *kernel)
{
	struct run *r = node_alloc(0, sizeof(*r));
	unsigned n = (unsigned)arg_number("cpus", machine.cpus);
	uint64_t serial_ns, serial_sum, ns, sum;
	char a[24], b[24], c[24];

	if (!n || n > machine.cpus)
		fail("cpus= must be 1 to %u", machine.cpus);
	r->kernel = kernel;
	serial_ns = run_on(r, 1);
	serial_sum = kernel->checksum(r->problem);
	kernel->check(r->problem);
	ns = run_on(r, n);
	sum = kernel->checksum(r->problem);
	if (sum != serial_sum)
		fail("the checksum is %lx, that of the serial run %lx", sum, serial_sum);
	kernel->check(r->problem);
	print("%s %s %lu: %u CPUs, %u nodes: serial %s ms, parallel %s ms, speed-up %s, checksum "
	      "%lx\n",
	      guest_name, kernel->unit, kernel->size, n, machine.nodes,
	      milli_text(a, serial_ns / 1000), milli_text(b, ns / 1000),
	      milli_text(c, serial_ns * 1000 / (ns ? ns : 1)), sum);
}
