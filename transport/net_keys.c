/* SPDX-License-Identifier: Apache-2.0 */
/* Where a slice's keys lie while its connections are made: a page of their own, in no core dump. */
#include <string.h>
#include <sys/mman.h>

#include "transport/net_parts.h"

struct pair_keys *net_keys_keep(const struct pair_keys *keys)
{
	struct pair_keys *kept = mmap(NULL, sizeof(*kept), PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (kept == MAP_FAILED)
		return NULL;
	madvise(kept, sizeof(*kept), MADV_DONTDUMP);
	memcpy(kept, keys, sizeof(*kept));
	return kept;
}

void net_keys_forget(struct net *net)
{
	if (!net->keys)
		return;
	pair_wipe(net->keys, sizeof(*net->keys));
	munmap(net->keys, sizeof(*net->keys));
	net->keys = NULL;
}
