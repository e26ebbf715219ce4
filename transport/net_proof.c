/* SPDX-License-Identifier: Apache-2.0 */
/* Where there is no TLS: each side proves that it has the pair's key, before anything is believed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* The other side's index: the peer that was called, or whom the caller says to be. */
static unsigned other_slice(const struct conn *conn)
{
	struct wire_hello hello;

	if (!conn->accepted)
		return conn->peer;
	invariant(wire_hello_decode(conn->hello, WIRE_HELLO_SIZE, &hello) == 0);
	return hello.slice;
}

static const uint8_t *pair_key(const struct conn *conn)
{
	return conn->net->keys->key[other_slice(conn)];
}

/* Of the caller, or of who was called. */
static enum prover prover_of(const struct conn *conn, bool caller)
{
	if (conn->local)
		return caller ? PROVER_CALLER_LOCAL : PROVER_CALLEE_LOCAL;
	return caller ? PROVER_CALLER_TCP : PROVER_CALLEE_TCP;
}

static const uint8_t *caller_hello(const struct conn *conn)
{
	return conn->accepted ? conn->hello : conn->sent;
}

static const uint8_t *callee_hello(const struct conn *conn)
{
	return conn->accepted ? conn->sent : conn->hello;
}

void conn_prove(const struct conn *conn, uint8_t out[PROOF_SIZE])
{
	proof_make(pair_key(conn), prover_of(conn, !conn->accepted), caller_hello(conn),
		   callee_hello(conn), out);
}

int proof_send(struct conn *conn)
{
	uint8_t proof[PROOF_SIZE];

	conn_prove(conn, proof);
	return conn_say(conn, proof, sizeof(proof));
}

static void proof_wrong(struct conn *conn)
{
	static const uint8_t nothing[PROOF_SIZE];
	char why[NET_WHY_MAX];

	if (conn->accepted) {
		snprintf(why, sizeof(why), "it says to be slice %u and does not have its key",
			 other_slice(conn));
		/* No proof is that: so the caller knows that its own was not taken. */
		(void)conn_say(conn, nothing, sizeof(nothing));
	} else {
		snprintf(why, sizeof(why),
			 "who answers there for slice %u does not have the key that it shares with "
			 "slice %u",
			 conn->peer, conn->net->config.hello.slice);
	}
	conn_refuse(conn, -PANGEA_EPEERVM, why);
}

static void proof_complete(struct conn *conn)
{
	if (!proof_right(pair_key(conn), prover_of(conn, conn->accepted), caller_hello(conn),
			 callee_hello(conn), conn->proof))
		proof_wrong(conn);
	else if (conn->accepted)
		caller_proven(conn);
	else if (conn->local)
		local_take(conn);
	else
		peer_proven(conn);
}

void proof_receive(struct conn *conn)
{
	ssize_t n = conn_hear(conn, conn->proof + conn->proof_have, PROOF_SIZE - conn->proof_have);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		conn_close_transient(conn, -PANGEA_EPEERLOST,
				     "%s closed the connection before it had proved who it is",
				     conn->from);
		return;
	}
	conn->proof_have += (unsigned)n;
	if (conn->proof_have == PROOF_SIZE)
		proof_complete(conn);
}
