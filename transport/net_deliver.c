/* SPDX-License-Identifier: Apache-2.0 */
/* What has been received, checked and handed to the owner; the same for every carrier. */
#include "base/error.h"
#include "transport/net_parts.h"

bool header_decode(struct conn *conn, const uint8_t *bytes, struct wire_msg *msg)
{
	int err = wire_msg_decode(bytes, WIRE_HEADER_SIZE, msg);

	if (err)
		conn_close(conn, err, "slice %u sent nonsense: %s (type %u, length %u)", conn->peer,
			   error_text(err), msg->type, msg->payload_len);
	return !err;
}

void message_refused(struct conn *conn, const struct wire_msg *msg, int err)
{
	conn_close(conn, err, "slice %u sent a message (%s) that was refused: %s", conn->peer,
		   wire_type_name(msg->type), error_text(err));
}

void message_deliver(struct conn *conn, const struct wire_msg *msg, void *payload)
{
	struct net *net = conn->net;
	int err;

	net->stats.msgs_received++;
	net->stats.bytes_received += WIRE_HEADER_SIZE + msg->payload_len;
	err = net->config.callbacks.on_msg(net->config.callbacks.ctx, conn->peer, msg, payload);
	if (err < 0)
		message_refused(conn, msg, err);
}
