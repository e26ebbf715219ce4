/* SPDX-License-Identifier: Apache-2.0 */
/* Loads the drivers of RDMA devices. */
#include <infiniband/verbs.h>
#include <stddef.h>

#include "transport/rdma.h"

void rdma_preload(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	if (list)
		ibv_free_device_list(list);
}
