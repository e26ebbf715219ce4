/* SPDX-License-Identifier: Apache-2.0 */
/* CPUs, NUMA nodes and memory placement, by raw system calls (there is no libnuma in the guest). */
#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "selftest.h"

#define NODE_MASK_WORDS (NODES_MAX / (8 * sizeof(unsigned long)))

/* Reads a list such as "0-3,7" from a file of sysfs; returns how many numbers, at most max. */
static int list_read(const char *path, unsigned *out, unsigned max)
{
	char text[1024];
	FILE *file = fopen(path, "r");
	if (!file)
		return -errno;
	bool any = fgets(text, sizeof(text), file) != NULL;
	fclose(file);
	unsigned count = 0;
	for (char *p = text; any && *p >= '0' && *p <= '9';) {
		unsigned long first = strtoul(p, &p, 10), last = first;
		if (*p == '-')
			last = strtoul(p + 1, &p, 10);
		for (unsigned long n = first; n <= last && count < max; n++)
			out[count++] = (unsigned)n;
		if (*p == ',')
			p++;
	}
	return (int)count;
}

static int cpus_read(struct topology *topo)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return -errno;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && topo->cpus < CPUS_MAX; cpu++)
		if (CPU_ISSET(cpu, &set))
			topo->cpu[topo->cpus++] = cpu;
	return 0;
}

/* Fills cpu_node[] from each node's list of CPUs; nodes without memory count here too. */
static void cpu_nodes_read(struct topology *topo)
{
	unsigned node[NODES_MAX], cpu[CPUS_MAX];
	int nodes = list_read("/sys/devices/system/node/online", node, NODES_MAX);
	for (int n = 0; n < nodes; n++) {
		char path[64];
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node[n]);
		int count = list_read(path, cpu, CPUS_MAX);
		for (int i = 0; i < count; i++)
			for (unsigned k = 0; k < topo->cpus; k++)
				if (topo->cpu[k] == cpu[i])
					topo->cpu_node[k] = node[n];
	}
}

int topology_read(struct topology *topo)
{
	memset(topo, 0, sizeof(*topo));
	int err = cpus_read(topo);
	if (err < 0)
		return err;
	int nodes = list_read("/sys/devices/system/node/has_memory", topo->node, NODES_MAX);
	topo->numa = nodes > 0 && syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0) == 0;
	topo->nodes = topo->numa ? (unsigned)nodes : 1;
	if (topo->numa)
		cpu_nodes_read(topo);
	return 0;
}

void *topology_map(const struct topology *topo, size_t bytes, unsigned node)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return NULL;
	if (node == NODE_ANY || !topo->numa)
		return mem;
	unsigned long mask[NODE_MASK_WORDS + 1] = {0};
	mask[node / (8 * sizeof(long))] = 1ul << (node % (8 * sizeof(long)));
	/* The kernel takes maxnode to be one more than the number of bits. */
	long err = syscall(SYS_mbind, mem, bytes, MPOL_BIND, mask, NODES_MAX + 1, MPOL_MF_STRICT);
	return err < 0 ? NULL : mem;
}

int topology_node_of(const struct topology *topo, const void *addr)
{
	int node = 0;
	if (!topo->numa)
		return 0;
	long err = syscall(SYS_get_mempolicy, &node, NULL, 0, addr, MPOL_F_NODE | MPOL_F_ADDR);
	return err < 0 ? -errno : node;
}
