/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of host/ share: a report that is being made, and files below the root. */
#ifndef HOST_HOST_PARTS_H
#define HOST_HOST_PARTS_H

#include <stddef.h>

#include "host/host.h"

struct host_judge {
	const char *root;
	const struct host_live *live;
	struct host_report *report;
};

/* A new item; its sentence and what was found are still to be said. */
struct host_item *host_item_add(struct host_judge *j, const char *name, enum host_matters matters);
void host_item_found(struct host_item *item, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void host_item_say(struct host_item *item, const char *sentence, const char *mend);

/* A file below the root, its last newline cut; false if it cannot be read. */
bool host_file_read(const struct host_judge *j, const char *path, char *text, size_t size);
bool host_file_there(const struct host_judge *j, const char *path);

/* host_devices.c: the programs for disks and networks. */
void host_devices_judge(struct host_judge *j);
/* host_rdma.c: the items of RDMA devices. */
void host_rdma_judge(struct host_judge *j);
/* Whether there is one. */
bool host_rdma_any(const struct host_judge *j);

#endif
