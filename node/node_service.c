/* SPDX-License-Identifier: Apache-2.0 */
/* What the service manager is told of this daemon: whether it is registered, and what runs here. */
#include <stdio.h>

#include "node/node.h"

/* Who starts the daemon waits so long for a coordinator; a machine's start does not hang on another one. */
#define READY_MS 5000

static bool state(void *user, char *status, size_t size)
{
	const struct node_daemon *node = user;
	unsigned slices = 0, vcpus = 0;
	uint64_t mem_bytes = 0;

	for (unsigned i = 0; i < NODE_SLICES_MAX; i++) {
		const struct node_slice *slice = node->slice[i];

		if (!slice || slice->over)
			continue;
		slices++;
		vcpus += slice->vcpus;
		mem_bytes += slice->mem_bytes;
	}
	snprintf(status, size, "%s %.80s; %u slices with %u of %u CPUs and %llu of %llu MiB",
		 node->registered ? "registered with" : "no coordinator at", node->opts.coordinator,
		 slices, vcpus, node->opts.cpus, (unsigned long long)(mem_bytes >> 20),
		 (unsigned long long)(node->opts.mem_bytes >> 20));
	return node->registered;
}

void node_service_start(struct node_daemon *node)
{
	service_start(&node->service, &node->loop, READY_MS, state, node);
}
