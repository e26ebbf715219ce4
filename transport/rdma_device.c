/* SPDX-License-Identifier: Apache-2.0 */
/* The RDMA device of a slice's data address: whether there is one that serves, and what all links share. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* What the steps below share: the device so far, and why it will not do. */
struct opening {
	struct net *net;
	struct rdma_net *rdma;
	char *why;
};

/* Says why, and answers -1. */
static int will_not_do(struct opening *o, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int will_not_do(struct opening *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->why, NET_WHY_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

static int descriptor_tune(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
			       fcntl(fd, F_SETFD, FD_CLOEXEC) < 0
		       ? -errno
		       : 0;
}

/* Asked first: without any device rdma_cm's library is left alone. */
static int devices_look(struct opening *o)
{
	int count = 0;
	struct ibv_device **list = ibv_get_device_list(&count);

	/* ENOSYS: the kernel knows of no RDMA at all, as on most hosts. */
	if (!list && errno != ENOSYS)
		return will_not_do(o, "this host's RDMA devices cannot be listed: %s",
				   error_text(-errno));
	if (list)
		ibv_free_device_list(list);
	return count > 0 ? 0 : will_not_do(o, "this host has no RDMA device");
}

static int channel_open(struct opening *o)
{
	int err;

	o->rdma->events = rdma_create_event_channel();
	if (!o->rdma->events)
		return will_not_do(o,
				   "the connection manager /dev/infiniband/rdma_cm cannot be "
				   "opened: %s",
				   error_text(-errno));
	err = descriptor_tune(o->rdma->events->fd);
	return err ? will_not_do(o, "its events cannot be polled: %s", error_text(err)) : 0;
}

/* The address without its port, which is TCP's. */
static struct sockaddr_storage address_any_port(const struct sockaddr_storage *address)
{
	struct sockaddr_storage out = *address;

	if (out.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&out)->sin6_port = 0;
	else
		((struct sockaddr_in *)&out)->sin_port = 0;
	return out;
}

/* An id that is bound to the data address; its device is the one that has the address. */
static struct rdma_cm_id *id_bound(struct rdma_net *rdma)
{
	struct rdma_cm_id *id;

	if (rdma_create_id(rdma->events, &id, NULL, RDMA_PS_TCP) < 0)
		return NULL;
	if (rdma_bind_addr(id, (struct sockaddr *)&rdma->address) == 0)
		return id;
	int err = errno;

	rdma_destroy_id(id);
	errno = err;
	return NULL;
}

static int device_find(struct opening *o)
{
	struct rdma_net *rdma = o->rdma;
	char name[NET_NAME_MAX];

	rdma->anchor = id_bound(rdma);
	if (!rdma->anchor && errno != ENODEV && errno != EADDRNOTAVAIL)
		return will_not_do(o, "the data address cannot be used: %s", error_text(-errno));
	if (!rdma->anchor || !rdma->anchor->verbs) {
		address_print(&rdma->address, name, sizeof(name));
		*strrchr(name, ':') = '\0';
		return will_not_do(o, "no RDMA device has the data address %s", name);
	}
	rdma->verbs = rdma->anchor->verbs;
	rdma->port = rdma->anchor->port_num;
	return 0;
}

/* Is it the one that this node's option names? */
static int device_matches(struct opening *o)
{
	const struct rdma_option *option = &o->net->config.rdma;
	const char *name = ibv_get_device_name(o->rdma->verbs->device);
	union ibv_gid gid;

	o->rdma->gid_index = option->gid_index;
	if (option->device[0] && strcmp(option->device, name) != 0)
		return will_not_do(o, "the data address belongs to device %s, and %s was asked for",
				   name, option->device);
	if (option->port && option->port != o->rdma->port)
		return will_not_do(o,
				   "the data address belongs to port %u of device %s, and port %u "
				   "was asked for",
				   o->rdma->port, name, option->port);
	if (option->gid_index < 0)
		return 0;
	if (ibv_query_gid(o->rdma->verbs, (uint8_t)o->rdma->port, option->gid_index, &gid) != 0 ||
	    memcmp(&gid, &o->rdma->anchor->route.addr.addr.ibaddr.sgid, sizeof(gid)) != 0)
		return will_not_do(o, "GID %d of device %s does not stand for the data address",
				   option->gid_index, name);
	return 0;
}

/* Most bytes of a packet: the port's, or what was asked for. */
static int mtu_choose(struct opening *o, const struct ibv_port_attr *port)
{
	unsigned wanted = o->net->config.rdma.mtu;

	if (wanted && !rdma_mtu_valid(wanted))
		return will_not_do(o, "an MTU of %u bytes was asked for, which is none of RDMA's",
				   wanted);
	if (port->active_mtu < IBV_MTU_256 || port->active_mtu > IBV_MTU_4096)
		return will_not_do(o, "the port has no MTU that is one of RDMA's");
	o->rdma->mtu = RDMA_MTU_MIN << (port->active_mtu - IBV_MTU_256);
	if (wanted && wanted < o->rdma->mtu)
		o->rdma->mtu = wanted;
	return 0;
}

/* Completions that may be there at once: all that every link has posted, and one that is gone. */
static unsigned completions_max(const struct net *net)
{
	return net->config.hello.slices * (RDMA_SENDS + RDMA_RECEIVES);
}

static int device_serves(struct opening *o)
{
	struct rdma_net *rdma = o->rdma;
	const char *name = ibv_get_device_name(rdma->verbs->device);
	struct ibv_device_attr attr;
	struct ibv_port_attr port;

	/* iWARP has neither immediate data nor the same way to connect. */
	if (rdma->verbs->device->transport_type != IBV_TRANSPORT_IB)
		return will_not_do(o, "device %s is neither InfiniBand nor RoCE", name);
	if (ibv_query_device(rdma->verbs, &attr) != 0 ||
	    ibv_query_port(rdma->verbs, (uint8_t)rdma->port, &port) != 0)
		return will_not_do(o, "device %s does not say what it can", name);
	if (port.state != IBV_PORT_ACTIVE)
		return will_not_do(o, "port %u of device %s is not active (%s)", rdma->port, name,
				   ibv_port_state_str(port.state));
	if (attr.max_cqe < (int)completions_max(o->net) || attr.max_qp_wr < (int)RDMA_SENDS)
		return will_not_do(o, "device %s is too small for %u slices", name,
				   o->net->config.hello.slices);
	return mtu_choose(o, &port);
}

static int queues_create(struct opening *o)
{
	struct rdma_net *rdma = o->rdma;

	rdma->pd = ibv_alloc_pd(rdma->verbs);
	if (!rdma->pd)
		return will_not_do(o, "no protection domain: %s", error_text(-errno));
	rdma->channel = ibv_create_comp_channel(rdma->verbs);
	if (!rdma->channel || descriptor_tune(rdma->channel->fd) < 0)
		return will_not_do(o, "no completion channel: %s", error_text(-errno));
	rdma->cq = ibv_create_cq(rdma->verbs, (int)completions_max(o->net), NULL, rdma->channel, 0);
	if (!rdma->cq)
		return will_not_do(o, "no completion queue: %s", error_text(-errno));
	return 0;
}

static int listener_open(struct opening *o)
{
	struct rdma_net *rdma = o->rdma;

	rdma->listener = id_bound(rdma);
	if (!rdma->listener || rdma_listen(rdma->listener, NET_STRANGERS_MAX) < 0)
		return will_not_do(o, "nobody can be listened for: %s", error_text(-errno));
	rdma->listen_port = ntohs(rdma_get_src_port(rdma->listener));
	return 0;
}

static int loop_start(struct opening *o)
{
	int err;

	/* From here on it is freed with net, for a handle of it may be open. */
	o->net->rdma = o->rdma;
	err = rdma_loop_start(o->net);
	return err ? will_not_do(o, "the loop cannot watch it: %s", error_text(err)) : 0;
}

/* Is there anybody to reach by RDMA, and may it be? */
static bool rdma_wanted(struct net *net)
{
	enum transport_wish wish = net->config.wish;

	if (net->config.hello.slices < 2 || (wish != TRANSPORT_AUTO && wish != TRANSPORT_RDMA))
		return false;
	if (!net->config.rdma.allowed && wish == TRANSPORT_RDMA)
		snprintf(net->rdma_why, sizeof(net->rdma_why), "this node allows none");
	return net->config.rdma.allowed;
}

void rdma_open(struct net *net, const struct sockaddr_storage *address)
{
	static int (*const steps[])(struct opening *) = {
		devices_look,  channel_open,  device_find,   device_matches,
		device_serves, queues_create, listener_open, loop_start};
	struct opening o = {.net = net, .why = net->rdma_why};

	if (!rdma_wanted(net))
		return;
	o.rdma = calloc(1, sizeof(*o.rdma));
	if (!o.rdma) {
		will_not_do(&o, "%s", error_text(-ENOMEM));
		return;
	}
	o.rdma->address = address_any_port(address);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (steps[i](&o) == 0)
			continue;
		/* Of a device that is there, or was asked for, one wants to know why. */
		log_line(net->config.rdma.device[0] || i > 0 ? LOG_INFO : LOG_DEBUG,
			 "RDMA is not used: %s", net->rdma_why);
		if (!net->rdma)
			rdma_free(o.rdma);
		return;
	}
	log_info("RDMA is offered by device %s, port %u, packets of up to %u bytes",
		 ibv_get_device_name(o.rdma->verbs->device), o.rdma->port, o.rdma->mtu);
}

void rdma_listener_close(struct net *net)
{
	if (!net->rdma || !net->rdma->listener)
		return;
	rdma_destroy_id(net->rdma->listener);
	net->rdma->listener = NULL;
}

void rdma_free(struct rdma_net *rdma)
{
	if (!rdma)
		return;
	if (rdma->listener)
		rdma_destroy_id(rdma->listener);
	if (rdma->cq)
		ibv_destroy_cq(rdma->cq);
	if (rdma->channel)
		ibv_destroy_comp_channel(rdma->channel);
	if (rdma->pd)
		ibv_dealloc_pd(rdma->pd);
	if (rdma->anchor)
		rdma_destroy_id(rdma->anchor);
	if (rdma->events)
		rdma_destroy_event_channel(rdma->events);
	free(rdma);
}
