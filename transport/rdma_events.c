/* SPDX-License-Identifier: Apache-2.0 */
/* What rdma_cm tells: who connects, how far an attempt of ours is, and the ends of connections. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* Events that are handled before the loop looks at its other handles. */
#define EVENTS_PER_TURN 16

/* An event, copied: rdma_cm's own must be given back before its id can be destroyed. */
struct cm_event {
	enum rdma_cm_event_type type;
	int status;
	struct rdma_cm_id *id;
	uint8_t data[RDMA_REQUEST_SIZE];
	size_t data_len;
};

static bool event_take(struct rdma_net *rdma, struct cm_event *out)
{
	struct rdma_cm_event *event;
	const struct rdma_conn_param *param;

	if (rdma_get_cm_event(rdma->events, &event) < 0)
		return false;
	out->type = event->event;
	out->status = event->status;
	out->id = event->id;
	out->data_len = 0;
	param = &event->param.conn;
	if (event->event == RDMA_CM_EVENT_CONNECT_REQUEST && param->private_data) {
		out->data_len = param->private_data_len < sizeof(out->data)
					? param->private_data_len
					: sizeof(out->data);
		memcpy(out->data, param->private_data, out->data_len);
	}
	rdma_ack_cm_event(event);
	return true;
}

/* Why an attempt ended, as far as rdma_cm says. */
static void reason_say(const struct cm_event *event, char *why, size_t size)
{
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_ERROR:
		snprintf(why, size, "its address leads to no RDMA device: %s",
			 error_text(event->status));
		break;
	case RDMA_CM_EVENT_ROUTE_ERROR:
		snprintf(why, size, "there is no path to it: %s", error_text(event->status));
		break;
	case RDMA_CM_EVENT_UNREACHABLE:
		snprintf(why, size, "it does not answer by RDMA: %s", error_text(event->status));
		break;
	case RDMA_CM_EVENT_REJECTED:
		snprintf(why, size, "it refused (reason %d; its log says why)", event->status);
		break;
	default:
		snprintf(why, size, "%s (%d)", rdma_event_str(event->type), event->status);
		break;
	}
}

/* The connection of a link that is up has ended; what has arrived counts. */
static void link_ended(struct conn *conn, const struct cm_event *event)
{
	rdma_loop_drain(conn->net);
	if (conn->state != CONN_UP)
		return;
	if (event->type == RDMA_CM_EVENT_DISCONNECTED)
		conn_close(conn, -PANGEA_EPEERLOST, "slice %u closed the connection", conn->peer);
	else
		conn_close(conn, -PANGEA_EPEERLOST, "the RDMA connection to slice %u ended: %s",
			   conn->peer, rdma_event_str(event->type));
}

static void connection_ended(struct conn *conn, const struct cm_event *event)
{
	char why[NET_WHY_MAX / 2];

	if (conn->state == CONN_UP) {
		link_ended(conn, event);
	} else if (conn->state == CONN_RDMA) {
		reason_say(event, why, sizeof(why));
		rdma_meet_failed(conn, "%s", why);
	}
}

/* Of the listener or the anchor: they have no connection. */
static void device_event(struct net *net, const struct cm_event *event)
{
	if (event->type != RDMA_CM_EVENT_DEVICE_REMOVAL)
		return;
	log_warn("the RDMA device was removed");
	rdma_listener_close(net);
}

static void event_handle(struct net *net, const struct cm_event *event)
{
	struct conn *conn = event->id->context;

	if (event->type == RDMA_CM_EVENT_CONNECT_REQUEST) {
		rdma_called(net, event->id, event->data, event->data_len);
		return;
	}
	if (!conn) {
		device_event(net, event);
		return;
	}
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		rdma_address_resolved(conn);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		rdma_route_resolved(conn);
		break;
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		rdma_answered(conn);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:	  /* the caller's word over TCP counts */
	case RDMA_CM_EVENT_ADDR_CHANGE:	  /* what stands, stands */
	case RDMA_CM_EVENT_TIMEWAIT_EXIT: /* our end of it is gone by then */
		break;
	default:
		connection_ended(conn, event);
		break;
	}
}

void rdma_events(struct net *net)
{
	struct cm_event event;

	for (int i = 0; i < EVENTS_PER_TURN && net->rdma->running; i++) {
		if (!event_take(net->rdma, &event))
			return;
		event_handle(net, &event);
	}
}
