/* SPDX-License-Identifier: Apache-2.0 */
/* How much there is of what, in one look: for the service manager. */
#include "coordinator/coordinator_internal.h"

void coordinator_count(const struct coordinator *co, struct coordinator_counts *out)
{
	*out = (struct coordinator_counts){0};
	for (unsigned i = 0; i < NODES_MAX; i++) {
		const struct node *node = &co->node[i];

		if (!node->used)
			continue;
		out->nodes++;
		out->away += !node->peer;
		out->cpus += node->cpus;
		out->cpus_free += node->cpus_free;
		out->mem_bytes += node->mem_bytes;
		out->mem_free_bytes += node->mem_free;
	}
	for (unsigned i = 0; i < VMS_MAX; i++) {
		out->vms += co->vm[i] != NULL;
		out->running += co->vm[i] && co->vm[i]->state == VM_RUNNING;
	}
}
