/* SPDX-License-Identifier: Apache-2.0 */
/* What may carry the messages between slices: the user's word for it. */
#ifndef TRANSPORT_WISH_H
#define TRANSPORT_WISH_H

enum transport_wish {
	TRANSPORT_AUTO, /* shared memory where the peer is on this host, else RDMA, else TCP */
	TRANSPORT_SHM,	/* a peer that cannot be reached by shared memory is lost */
	TRANSPORT_TCP,
	TRANSPORT_RDMA, /* a peer that cannot be reached by RDMA is lost, also on this host */
};

/* "auto", "shm", "tcp" or "rdma". Returns 0 or -EINVAL. */
int transport_wish_parse(const char *word, enum transport_wish *out);

#endif
