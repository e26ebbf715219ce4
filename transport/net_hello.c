/* SPDX-License-Identifier: Apache-2.0 */
/* The hello on a connection: who is there, does it belong to this VM, and may it stay. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* A fresh socket's buffer holds far more than a hello: less than all of it is a failure. */
static int hello_send(struct conn *conn, const struct wire_hello *hello)
{
	uint8_t buf[WIRE_HELLO_SIZE];

	wire_hello_encode(hello, buf);
	if (send(conn->fd, buf, sizeof(buf), MSG_NOSIGNAL) == (ssize_t)sizeof(buf))
		return 0;
	return -PANGEA_EPEERLOST;
}

void hello_begin(struct conn *conn)
{
	if (hello_send(conn, &conn->net->config.hello) < 0) {
		conn_close_transient(conn, -PANGEA_EPEERLOST, "slice %u at %s hung up", conn->peer,
				     conn->from);
		return;
	}
	conn->state = CONN_HELLO;
	conn_watch(conn, UV_READABLE);
}

/*
 * Refuses the other side. One that we called was meant to be our peer, so this is its loss. Of one
 * that called us we know nothing, unless it has shown the VM's key: it is told (without our key)
 * and sent away, and the peer that should have come is awaited further.
 */
static void hello_refuse(struct conn *conn, int err, const char *why)
{
	struct net *net = conn->net;
	struct wire_hello answer = net->config.hello;

	if (conn->accepted) {
		log_warn("refused a connection from %s: %s", conn->from, why);
		snprintf(net->refused, sizeof(net->refused), "%s: %s", conn->from, why);
		if (conn->peer == SLICES_MAX)
			answer.vm_key = 0;
		if (err != -PANGEA_EPEERMAGIC)
			(void)hello_send(conn, &answer);
	}
	conn_close(conn, err, "%s: %s", conn->from, why);
}

/* A caller with the VM's key is the slice that it says; false if that slice is not awaited. */
static bool caller_adopt(struct conn *conn, const struct wire_hello *hello)
{
	struct net *net = conn->net;
	const struct wire_hello *ours = &net->config.hello;

	if (hello->vm_key != ours->vm_key || hello->slice <= ours->slice ||
	    hello->slice >= ours->slices || net->peers[hello->slice].state != PEER_WAITING)
		return false;
	conn->peer = hello->slice;
	net->strangers--;
	net->peers[conn->peer].conn = conn;
	net->peers[conn->peer].state = PEER_OPENING;
	return true;
}

/* Why the codec refused it, as a sentence. */
static void codec_refusal(int err, const struct wire_hello *hello, char *why, size_t size)
{
	if (err == -PANGEA_EPEERVERSION)
		snprintf(why, size,
			 "the peer speaks version %u of the protocol, this is version %u",
			 hello->version, WIRE_VERSION);
	else if (err == -PANGEA_EPEERFEATURES)
		snprintf(why, size, "the peer has features 0x%x, 0x%x are required",
			 hello->features, WIRE_FEATURES);
	else
		snprintf(why, size, "%s", error_text(err));
}

/* Does the hello fit this VM? Returns 0 or a code with its sentence. */
static int hello_check(const struct net *net, const struct wire_hello *hello, char *why,
		       size_t size)
{
	const struct wire_hello *ours = &net->config.hello;

	if (hello->vm_key != ours->vm_key)
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

/* A caller whose hello has been read; err and why tell what is wrong with it, if anything. */
static void caller_identified(struct conn *conn, const struct wire_hello *hello, int err,
			      const char *why)
{
	bool adopted = caller_adopt(conn, hello);
	char text[NET_WHY_MAX];

	if (err) {
		hello_refuse(conn, err, why);
	} else if (!adopted) {
		snprintf(text, sizeof(text), "slice %u is not expected to call slice %u (again)",
			 hello->slice, conn->net->config.hello.slice);
		hello_refuse(conn, -PANGEA_EPEERVM, text);
	} else if (conn->local) {
		local_offer(conn);
	} else if (hello_send(conn, &conn->net->config.hello) < 0) {
		conn_close_transient(conn, -PANGEA_EPEERLOST, "slice %u hung up", conn->peer);
	} else {
		peer_up(conn);
	}
}

/* The one that we called answers. */
static void callee_identified(struct conn *conn, const struct wire_hello *hello)
{
	unsigned self = conn->net->config.hello.slice;
	char why[NET_WHY_MAX];

	if (hello->slice == self) {
		/* TCP can connect a port to itself while nobody listens there yet. */
		conn_close_transient(conn, -ECONNREFUSED, "slice %u at %s: reached ourselves",
				     conn->peer, conn->from);
	} else if (hello->slice != conn->peer) {
		snprintf(why, sizeof(why), "slice %u answers there instead of slice %u",
			 hello->slice, conn->peer);
		hello_refuse(conn, -PANGEA_EPEERVM, why);
	} else if (conn->local) {
		local_take(conn);
	} else {
		peer_up(conn);
	}
}

static void hello_complete(struct conn *conn)
{
	struct wire_hello hello = {0};
	char why[NET_WHY_MAX];
	int err = wire_hello_decode(conn->hello, conn->hello_have, &hello);

	if (err == -EAGAIN)
		return;
	if (err) {
		codec_refusal(err, &hello, why, sizeof(why));
		hello_refuse(conn, err, why);
		return;
	}
	err = hello_check(conn->net, &hello, why, sizeof(why));
	if (conn->accepted)
		caller_identified(conn, &hello, err, why);
	else if (err)
		hello_refuse(conn, err, why);
	else
		callee_identified(conn, &hello);
}

void hello_receive(struct conn *conn)
{
	/* Never beyond the hello: what follows belongs to the receiver. */
	uint8_t *to = conn->hello + conn->hello_have;
	size_t room = WIRE_HELLO_SIZE - conn->hello_have;
	ssize_t n = conn->local ? local_receive(conn, to, room)
				: recv(conn->fd, to, room, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
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
