/* SPDX-License-Identifier: Apache-2.0 */
/* The words for what may carry messages, and for what does. */
#include "transport/wish.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

int transport_wish_parse(const char *word, enum transport_wish *out)
{
	static const char *const words[] = {[TRANSPORT_AUTO] = "auto",
					    [TRANSPORT_SHM] = "shm",
					    [TRANSPORT_TCP] = "tcp",
					    [TRANSPORT_RDMA] = "rdma"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(word, words[i]) != 0)
			continue;
		*out = (enum transport_wish)i;
		return 0;
	}
	return -EINVAL;
}

const char *link_kind_word(enum link_kind kind)
{
	static const char *const words[LINK_KINDS] = {
		[LINK_NONE] = "",   [LINK_TCP] = "tcp",		 [LINK_SHM] = "shm",
		[LINK_TLS] = "tls", [LINK_KTLS] = "tls(kernel)", [LINK_RDMA] = "rdma"};

	return words[kind];
}
