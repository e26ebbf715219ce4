/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.3 on one connection: OpenSSL makes the handshake; it, or the kernel, the records. */
#ifndef TRANSPORT_TLS_LINK_H
#define TRANSPORT_TLS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/pair_keys.h"

/* The first byte of a handshake (RFC 8446, 5.1). */
#define TLS_RECORD_HANDSHAKE 22
/* Most plaintext of one record (RFC 8446, 5.1), and what a record adds to it. */
#define TLS_PLAIN_MAX	 16384u
#define TLS_RECORD_EXTRA 512u
/* What a caller may send before the handshake is over: ours takes some 500 bytes. */
#define TLS_HANDSHAKE_MAX 4096u
#define TLS_WHY_MAX	  160
/* AES-GCM's limit is 2^24.5 records of 16 KiB by one key (RFC 8446, 5.5); ours are mostly shorter. */
#define TLS_REKEY_RECORDS (UINT64_C(1) << 24)

struct tls_context;
struct tls_link;

/* Who is to be at both ends: what the key's name says, and what is compared with it. */
struct tls_ends {
	uint64_t vm;
	uint32_t epoch;
	unsigned caller, callee;
};

/* What a callee decides about the name that a caller gives for its key. */
struct tls_callee {
	void *ctx;
	/* The key of these ends; NULL: it is refused, and why (TLS_WHY_MAX) says why. */
	const uint8_t *(*key)(void *ctx, const struct tls_ends *ends, char *why);
};

/* tls_context.c */
/* What all connections of a transport share. 0 or -ENOMEM; -EIO: this OpenSSL lacks TLS 1.3. */
int tls_context_create(struct tls_context **out);
void tls_context_destroy(struct tls_context *context);
/* Why records are not the kernel's; of use after a handshake. Static storage. */
const char *tls_kernel_why(const struct tls_context *context);
/* Nobody is to try the kernel from now on. */
void tls_kernel_refuse(struct tls_context *context, const char *why);

/* A connection that we made, with the key of its ends. NULL: no memory. */
struct tls_link *tls_call(struct tls_context *context, const struct tls_ends *ends,
			  const uint8_t key[PAIR_KEY_SIZE]);
/* One that was accepted. NULL: no memory. */
struct tls_link *tls_answer(struct tls_context *context, const struct tls_callee *callee);
void tls_link_destroy(struct tls_link *link);

/*
 * Goes on with the handshake. 0: it is over, and the other side has the key; -EAGAIN: more is to come,
 * or to go if tls_unsent; negative: it failed, and why (TLS_WHY_MAX) is a sentence. The other side
 * has been told as far as TLS tells.
 */
int tls_handshake(struct tls_link *link, int fd, char *why);
/* Who is at the ends; once the handshake is over. */
const struct tls_ends *tls_ends(const struct tls_link *link);

/*
 * Gives the connection's keys to the kernel, right after the handshake: then the socket is read and
 * written in plaintext, and the link is of no more use. 0: done. Else nothing has changed
 * (-ENOENT, -EOPNOTSUPP: the kernel cannot, and tls_kernel_why says it), or the connection is of no more
 * use (-EPROTO).
 */
int tls_kernel_take(struct tls_link *link, int fd);

/*
 * Reads as readv does: how much; 0: the end; -EAGAIN: nothing; -EBADMSG: a record that is not the
 * other side's, or an alert; or the socket's negative errno. Less than there is room for: the socket is
 * empty. Without more, the socket is not asked.
 */
ssize_t tls_read(struct tls_link *link, int fd, const struct iovec *iov, int count, bool more);
/* Writes as writev does, one record: how much was taken (it may still be unsent), or -EAGAIN. */
ssize_t tls_write(struct tls_link *link, int fd, const struct iovec *iov, unsigned count);
/* The other side takes key updates: each so many records that are sent the key is replaced. */
void tls_rekey_allow(struct tls_link *link, uint64_t records);
/* Is there something made that the socket did not take? */
bool tls_unsent(const struct tls_link *link);
/* Sends it: 0, -EAGAIN, or the socket's negative errno. */
int tls_flush(struct tls_link *link, int fd);

#endif
