/* SPDX-License-Identifier: Apache-2.0 */
/* The hello on a connection: who says to be there, does it belong to this VM, and may it stay. */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* So many refusals are logged one by one; a flood of them, only at powers of two. */
#define REFUSALS_LOGGED 32u

/* A fresh socket's buffer holds far more than a hello: less than all of it is a failure. */
int conn_say(struct conn *conn, const void *bytes, size_t len)
{
	struct iovec iov = {(void *)bytes, len};
	ssize_t n = conn->tls ? tls_write(conn->tls, conn->fd, &iov, 1)
			      : send(conn->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	return n == (ssize_t)len ? 0 : -PANGEA_EPEERLOST;
}

/* Each connection has a nonce of its own, so that what was said on another proves nothing here. */
static int hello_send(struct conn *conn)
{
	struct wire_hello hello = conn->net->config.hello;

	hello.takes =
		(conn->tls ? WIRE_TAKES_KEY_UPDATE : 0) | (rdma_offers(conn) ? WIRE_TAKES_RDMA : 0);
	invariant(getrandom(hello.nonce, sizeof(hello.nonce), 0) == (ssize_t)sizeof(hello.nonce));
	wire_hello_encode(&hello, conn->sent);
	return conn_say(conn, conn->sent, sizeof(conn->sent));
}

void hello_begin(struct conn *conn)
{
	if (hello_send(conn) < 0) {
		conn_close_transient(conn, -PANGEA_EPEERLOST, "slice %u at %s hung up", conn->peer,
				     conn->from);
		return;
	}
	conn->state = CONN_HELLO;
	conn_watch(conn, UV_READABLE);
}

void refusal_count(struct net *net, const char *from, const char *why)
{
	uint64_t count = ++net->stats.refused;

	if (count <= REFUSALS_LOGGED || (count & (count - 1)) == 0)
		log_warn("refused a connection from %s (%llu so far): %s", from,
			 (unsigned long long)count, why);
	snprintf(net->refused, sizeof(net->refused), "%.95s: %.158s", from, why);
}

void conn_refuse(struct conn *conn, int err, const char *why)
{
	if (conn->accepted)
		refusal_count(conn->net, conn->from, why);
	conn_close(conn, err, "%s: %s", conn->from, why);
}

/* A caller is told with whom it speaks, so that it can say itself what does not fit. */
static void hello_refuse(struct conn *conn, int err, const char *why)
{
	if (conn->accepted && err != -PANGEA_EPEERMAGIC)
		(void)hello_send(conn);
	conn_refuse(conn, err, why);
}

/* Why the codec refused it, as a sentence. */
static void codec_refusal(int err, const struct wire_hello *hello, char *why, size_t size)
{
	if (err == -PANGEA_EPEERVERSION)
		snprintf(why, size,
			 "the peer speaks version %u of the protocol, this is version %u",
			 hello->version, WIRE_VERSION);
	else if (err == -PANGEA_EPEERFEATURES)
		snprintf(why, size, "the peer has features 0x%x, this version knows 0x%x",
			 hello->features, WIRE_FEATURES);
	else
		snprintf(why, size, "%s", error_text(err));
}

static const char *encryption_word(const struct wire_hello *hello)
{
	return hello->features & WIRE_FEATURE_TLS ? "encrypted"
						  : "not encrypted (--plaintext-data)";
}

/* Does the hello fit this VM? Returns 0 or a code with its sentence. */
static int hello_check(const struct net *net, const struct wire_hello *hello, char *why,
		       size_t size)
{
	const struct wire_hello *ours = &net->config.hello;

	if (hello->features != ours->features) {
		snprintf(why, size, "the peer's connections are %s, this slice's are %s",
			 encryption_word(hello), encryption_word(ours));
		return -PANGEA_EPEERFEATURES;
	}
	if (hello->vm != ours->vm)
		snprintf(why, size, "%s", error_text(-PANGEA_EPEERVM));
	else if (hello->epoch != ours->epoch)
		snprintf(why, size, "the peer is in epoch %u, this slice in epoch %u", hello->epoch,
			 ours->epoch);
	else if (hello->slices != ours->slices)
		snprintf(why, size, "the peer's VM has %u slices, ours %u", hello->slices,
			 ours->slices);
	else if (hello->ram_end != ours->ram_end)
		snprintf(why, size, "the peer's guest memory ends at 0x%llx, ours at 0x%llx",
			 (unsigned long long)hello->ram_end, (unsigned long long)ours->ram_end);
	else
		return 0;
	return -PANGEA_EPEERVM;
}

/* The same for who has shown the pair's key. Without TLS it has our hello already. */
static void proven_refuse(struct conn *conn, int err, const char *why)
{
	if (conn->encrypted)
		hello_refuse(conn, err, why);
	else
		conn_refuse(conn, err, why);
}

/* The caller has proved to be this slice, which is awaited: its connection is that peer's now. */
static bool caller_adopt(struct conn *conn, unsigned slice)
{
	struct net *net = conn->net;
	const struct wire_hello *ours = &net->config.hello;

	if (slice <= ours->slice || slice >= ours->slices ||
	    net->peers[slice].state != PEER_WAITING)
		return false;
	conn->peer = slice;
	net->strangers--;
	net->peers[slice].conn = conn;
	net->peers[slice].state = PEER_OPENING;
	return true;
}

static void unexpected_say(const struct conn *conn, unsigned slice, char *why, size_t size)
{
	snprintf(why, size, "slice %u is not expected to call slice %u (again)", slice,
		 conn->net->config.hello.slice);
}

void caller_proven(struct conn *conn)
{
	struct wire_hello hello;
	char why[NET_WHY_MAX];
	int err;

	invariant(wire_hello_decode(conn->hello, WIRE_HELLO_SIZE, &hello) == 0);
	if (!caller_adopt(conn, hello.slice)) {
		unexpected_say(conn, hello.slice, why, sizeof(why));
		proven_refuse(conn, -PANGEA_EPEERVM, why);
		return;
	}
	err = hello_check(conn->net, &hello, why, sizeof(why));
	if (err)
		proven_refuse(conn, err, why);
	else if (conn->local)
		local_offer(conn);
	else if (conn->encrypted ? hello_send(conn) : proof_send(conn))
		conn_close_transient(conn, -PANGEA_EPEERLOST, "slice %u hung up", conn->peer);
	else
		peer_proven(conn);
}

/* A caller whose hello has been read; by TLS it has proved its number, else it has said it only. */
static void caller_identified(struct conn *conn, const struct wire_hello *hello)
{
	const struct wire_hello *ours = &conn->net->config.hello;
	char why[NET_WHY_MAX];
	int err = hello_check(conn->net, hello, why, sizeof(why));

	if (conn->encrypted && hello->slice != conn->claimed) {
		snprintf(why, sizeof(why), "it has the key of slice %u and says to be slice %u",
			 conn->claimed, hello->slice);
		hello_refuse(conn, -PANGEA_EPEERVM, why);
	} else if (conn->encrypted) {
		caller_proven(conn);
	} else if (err && (hello->vm != ours->vm || hello->features != ours->features)) {
		hello_refuse(conn, err, why);
	} else if (hello->slice <= ours->slice || hello->slice >= ours->slices) {
		unexpected_say(conn, hello->slice, why, sizeof(why));
		hello_refuse(conn, -PANGEA_EPEERVM, why);
	} else if (hello_send(conn) < 0) {
		conn_close(conn, -PANGEA_EPEERLOST, "%s hung up", conn->from);
	} else {
		/* What else does not fit is said to who proves to be that slice. */
		conn->state = CONN_PROOF;
	}
}

/* The one that we called answers: it fits. */
static void callee_identified(struct conn *conn)
{
	if (conn->encrypted)
		peer_proven(conn);
	else if (proof_send(conn) < 0)
		conn_close_transient(conn, -PANGEA_EPEERLOST, "slice %u hung up", conn->peer);
	else
		conn->state = CONN_PROOF;
}

static void callee_check(struct conn *conn, const struct wire_hello *hello)
{
	const struct wire_hello *ours = &conn->net->config.hello;
	char why[NET_WHY_MAX];
	int err = hello_check(conn->net, hello, why, sizeof(why));

	if (err) {
		/* It shall know that it was its peer that called. */
		if (hello->vm == ours->vm && hello->slice == conn->peer && !conn->encrypted)
			(void)proof_send(conn);
		hello_refuse(conn, err, why);
	} else if (hello->slice == ours->slice) {
		/* TCP can connect a port to itself while nobody listens there yet. */
		conn_close_transient(conn, -ECONNREFUSED, "slice %u at %s: reached ourselves",
				     conn->peer, conn->from);
	} else if (hello->slice != conn->peer) {
		snprintf(why, sizeof(why), "slice %u answers there instead of slice %u",
			 hello->slice, conn->peer);
		hello_refuse(conn, -PANGEA_EPEERVM, why);
	} else {
		callee_identified(conn);
	}
}

static void hello_complete(struct conn *conn)
{
	struct wire_hello hello = {0};
	char why[NET_WHY_MAX];
	int err = wire_hello_decode(conn->hello, conn->hello_have, &hello);

	if (err == -EAGAIN)
		return;
	if (!err && conn->tls && (hello.takes & WIRE_TAKES_KEY_UPDATE))
		tls_rekey_allow(conn->tls, TLS_REKEY_RECORDS);
	if (err == -PANGEA_EPEERMAGIC && conn->hello[0] == TLS_RECORD_HANDSHAKE) {
		hello_refuse(conn, -PANGEA_EPEERFEATURES,
			     "it encrypts, and this VM's connections are not encrypted "
			     "(--plaintext-data)");
	} else if (err) {
		codec_refusal(err, &hello, why, sizeof(why));
		hello_refuse(conn, err, why);
	} else if (conn->accepted) {
		caller_identified(conn, &hello);
	} else {
		callee_check(conn, &hello);
	}
}

ssize_t conn_hear(struct conn *conn, void *to, size_t room)
{
	struct iovec iov = {to, room};
	ssize_t n;

	if (conn->tls)
		return tls_read(conn->tls, conn->fd, &iov, 1, true);
	n = conn->local ? local_receive(conn, to, room) : recv(conn->fd, to, room, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

void hello_receive(struct conn *conn)
{
	/* Never beyond the hello: what follows belongs to the receiver. */
	ssize_t n =
		conn_hear(conn, conn->hello + conn->hello_have, WIRE_HELLO_SIZE - conn->hello_have);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		conn_close_transient(conn, -PANGEA_EPEERLOST,
				     "%s closed the connection after %u of %u bytes of its hello",
				     conn->from, conn->hello_have, WIRE_HELLO_SIZE);
		return;
	}
	conn->hello_have += (unsigned)n;
	hello_complete(conn);
}
