/* SPDX-License-Identifier: Apache-2.0 */
/* What this node's slices may use of RDMA: the options, and how slices are told. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "node/node.h"

/* The kernel numbers ports of a device from 1, and paths carry a GID's index in a byte. */
#define PORT_MAX 255
#define GID_MAX	 255

int node_rdma_parse(const char *text, struct node_rdma *rdma)
{
	size_t len = strcspn(text, ":");
	unsigned port = 0;

	if (text[len] && control_uint_parse(text + len + 1, 1, PORT_MAX, &port) < 0)
		return -EINVAL;
	if (len >= sizeof(rdma->device))
		return -EINVAL;
	memcpy(rdma->device, text, len);
	rdma->device[len] = '\0';
	if (!control_device_valid(rdma->device))
		return -EINVAL;
	rdma->port = port;
	rdma->allowed = strcmp(rdma->device, "none") != 0;
	if (rdma->allowed && strcmp(rdma->device, "auto") != 0)
		return 0;
	/* Words, which have no ports. */
	rdma->device[0] = '\0';
	return port ? -EINVAL : 0;
}

int node_rdma_gid_parse(const char *text, struct node_rdma *rdma)
{
	unsigned index;

	if (control_uint_parse(text, 0, GID_MAX, &index) < 0)
		return -EINVAL;
	rdma->gid_index = (int)index;
	return 0;
}

int node_rdma_mtu_parse(const char *text, struct node_rdma *rdma)
{
	static const unsigned sizes[] = {256, 512, 1024, 2048, 4096};
	unsigned mtu;

	if (control_uint_parse(text, 256, 4096, &mtu) < 0)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (sizes[i] == mtu) {
			rdma->mtu = mtu;
			return 0;
		}
	return -EINVAL;
}

json_t *node_rdma_json(const struct node_rdma *rdma)
{
	json_t *out;

	if (!rdma->allowed)
		return NULL;
	out = json_pack("{s:s, s:i, s:i}", "device", rdma->device, "port", (int)rdma->port, "mtu",
			(int)rdma->mtu);
	if (out && rdma->gid_index >= 0)
		json_object_set_new(out, "gid_index", json_integer(rdma->gid_index));
	return out;
}
