/* SPDX-License-Identifier: Apache-2.0 */
/* Where threads belong: the nodes' CPUs, as far as this process may use them, and binding to them. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

struct node {
	unsigned cpu[CPU_SETSIZE];
	unsigned cpus, id;
};

struct place {
	unsigned nodes, cpus;
	int node_of[CPU_SETSIZE]; /* index into node[]; -1: none */
	struct node node[NODES_MAX];
};

static void node_cpu_add(struct place *place, unsigned cpu, const cpu_set_t *allowed)
{
	struct node *node = &place->node[place->nodes];

	if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, allowed) || place->node_of[cpu] >= 0)
		return;
	node->cpu[node->cpus++] = cpu;
	place->node_of[cpu] = (int)place->nodes;
	place->cpus++;
}

/* "0-3,8" of one node; false: there is no such node. A node without CPUs that we may use is none. */
static bool node_read(struct place *place, unsigned id, const cpu_set_t *allowed)
{
	char path[64], text[1024], *at = text;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", id);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = 0;
	fclose(file);
	while (*at >= '0' && *at <= '9') {
		unsigned long first = strtoul(at, &at, 10), last = first;

		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		for (unsigned long cpu = first; cpu <= last && cpu < CPU_SETSIZE; cpu++)
			node_cpu_add(place, (unsigned)cpu, allowed);
		at += *at == ',';
	}
	place->node[place->nodes].id = id;
	place->nodes += place->node[place->nodes].cpus > 0;
	return true;
}

struct place *place_read(void)
{
	struct place *place = calloc(1, sizeof(*place));
	cpu_set_t allowed;

	if (!place || sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
		perror("pangea-kernels: cannot read which CPUs there are");
		exit(1);
	}
	team_openmp_cpus(&allowed);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		place->node_of[cpu] = -1;
	for (unsigned id = 0; place->nodes < NODES_MAX && id < 1024; id++)
		node_read(place, id, &allowed);
	if (!place->nodes) {
		for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
			node_cpu_add(place, cpu, &allowed);
		place->nodes = 1;
	}
	return place;
}

unsigned place_cpus(const struct place *place)
{
	return place->cpus;
}

unsigned place_nodes(const struct place *place)
{
	return place->nodes;
}

/* The CPU, counted over all nodes, that is thread self's. */
static unsigned slot_of(const struct place *place, unsigned self, unsigned threads)
{
	return (unsigned)((uint64_t)self * place->cpus / threads);
}

static unsigned node_of_slot(const struct place *place, unsigned *slot)
{
	unsigned node = 0;

	while (*slot >= place->node[node].cpus)
		*slot -= place->node[node++].cpus;
	return node;
}

unsigned place_node(const struct place *place, unsigned self, unsigned threads)
{
	unsigned slot = slot_of(place, self, threads);

	return node_of_slot(place, &slot);
}

int place_bind(const struct place *place, unsigned self, unsigned threads)
{
	unsigned slot = slot_of(place, self, threads);
	const struct node *node = &place->node[node_of_slot(place, &slot)];
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned i = 0; i < node->cpus; i++)
		if (i == slot || threads > place->cpus)
			CPU_SET(node->cpu[i], &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

unsigned place_here(const struct place *place)
{
	int cpu = sched_getcpu();

	if (cpu < 0 || cpu >= CPU_SETSIZE || place->node_of[cpu] < 0)
		return 0;
	return (unsigned)place->node_of[cpu];
}
