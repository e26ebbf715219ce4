/* SPDX-License-Identifier: Apache-2.0 */
/* hello: says what machine this is; passes if every CPU started on a node that exists. */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "hello";

static void greet(unsigned self, unsigned n, void *arg)
{
	volatile uint32_t *seen = arg;

	(void)n;
	seen[self] = self + 1;
}

int main(void)
{
	volatile uint32_t *seen = node_alloc(0, CPUS_MAX * sizeof(*seen));

	print("%u CPUs, %u nodes, TSC %lu Hz%s\n", machine.cpus, machine.nodes, machine.tsc_hz,
	      machine.tsc_known ? "" : " (a guess)");
	for (unsigned i = 0; i < machine.nodes; i++)
		print("node %u: %lu MiB\n", i, machine.node_bytes[i] >> 20);
	print("arguments: '%s'\n", machine.cmdline);
	team_run(machine.cpus, greet, (void *)seen);
	for (unsigned i = 0; i < machine.cpus; i++) {
		if (seen[i] != i + 1)
			fail("CPU %u did not answer", i);
		print("CPU %u: x2APIC id %u, node %u\n", i, machine.apic_id[i], machine.node_of[i]);
	}
	return 0;
}
