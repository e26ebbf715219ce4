/* SPDX-License-Identifier: Apache-2.0 */
/* What may carry the messages between slices, and what does: the words for it. */
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

/* What does carry them, to one peer. */
enum link_kind {
	LINK_NONE, /* the peer is not up; or nothing that has a name */
	LINK_TCP,  /* in clear */
	LINK_SHM,
	LINK_TLS,  /* over TCP, in user space */
	LINK_KTLS, /* over TCP; the kernel makes and opens the records */
	LINK_RDMA,
	LINK_KINDS,
};

/* "tcp", "shm", "tls", "tls(kernel)", "rdma"; "" for LINK_NONE. */
const char *link_kind_word(enum link_kind kind);

#endif
