/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An RDMA device of this process alone, in place of libibverbs and librdmacm: address 127.0.0.77, queue
 * pairs that deliver at once, and a connection manager. So the whole of RDMA but the device runs in
 * tests on every machine. One thread, and no memory is given back that a careful caller still names.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/unit/transport/fake_rdma.h"

#define FAKE_ADDRESS  "127.0.0.77"
#define FAKE_PAIRS    256u
#define FAKE_RECEIVES 64u
#define FAKE_IDS      256u
#define PRIVATE_SIZE  56u

struct fake_cq {
	struct ibv_cq cq;
	struct ibv_wc *ring; /* cq.cqe of them */
	unsigned head, count;
	bool armed;
};

struct fake_receive {
	uint64_t wr_id;
	struct ibv_sge sge;
};

/* A send that is delayed. */
struct fake_send {
	struct ibv_send_wr wr;
	struct ibv_sge sge;
};

struct fake_pair {
	struct ibv_qp qp;
	enum ibv_qp_state state;
	uint32_t dest;
	struct fake_receive receives[FAKE_RECEIVES];
	unsigned head, count, max;
	struct fake_send delayed[FAKE_RECEIVES];
	unsigned delayed_count;
};

struct fake_event {
	struct rdma_cm_event event;
	uint8_t data[PRIVATE_SIZE];
	struct fake_event *next;
};

struct fake_channel {
	struct rdma_event_channel channel;
	struct fake_event *first;
};

struct fake_id {
	struct rdma_cm_id id;
	bool listens;
	struct fake_id *other;
	uint32_t other_pair; /* of which it was told */
};

struct fake_faults fake_faults;

static struct fake_pair *pairs[FAKE_PAIRS]; /* by number */
static struct fake_id *ids[FAKE_IDS];
static uint16_t port_next = 40000;
static unsigned events_given; /* of completions, and not acknowledged */

static struct ibv_device device = {
	.transport_type = IBV_TRANSPORT_IB, .node_type = IBV_NODE_CA, .name = "fake0"};
static struct ibv_device *devices[] = {&device, NULL};
static struct verbs_context verbs;

/* The tests' device, before main. */
__attribute__((constructor)) static void fake_announce(void)
{
	setenv("PANGEA_TEST_RDMA_ADDRESS", FAKE_ADDRESS, 1);
}

/* The device. */

struct ibv_device **ibv_get_device_list(int *count)
{
	if (count)
		*count = 1;
	return devices;
}

void ibv_free_device_list(struct ibv_device **list)
{
	(void)list;
}

const char *ibv_get_device_name(struct ibv_device *of)
{
	return of->name;
}

int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	(void)context;
	*attr = (struct ibv_device_attr){.max_cqe = 100000, .max_qp_wr = 1000};
	return 0;
}

#undef ibv_query_port
int ibv_query_port(struct ibv_context *context, uint8_t port, struct _compat_ibv_port_attr *attr)
{
	struct ibv_port_attr *full = (struct ibv_port_attr *)attr;

	(void)context;
	full->state = port == 1 ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
	full->active_mtu = IBV_MTU_4096;
	return 0;
}

int ibv_query_gid(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid)
{
	(void)context;
	(void)port;
	memset(gid, 0, sizeof(*gid));
	return index <= 1 ? 0 : -1;
}

const char *ibv_port_state_str(enum ibv_port_state state)
{
	return state == IBV_PORT_ACTIVE ? "active" : "down";
}

const char *ibv_wc_status_str(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
		return "transport retry counter exceeded";
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return "RNR retry counter exceeded";
	case IBV_WC_WR_FLUSH_ERR:
		return "Work Request Flushed Error";
	default:
		return "some error";
	}
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	invariant(pd);
	pd->context = context;
	return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	free(pd);
	return 0;
}

#undef ibv_reg_mr
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *mem, size_t len, int access)
{
	struct ibv_mr *mr;

	if (fake_faults.registers_nothing) {
		errno = ENOMEM;
		return NULL;
	}
	mr = calloc(1, sizeof(*mr));
	invariant(mr && access == IBV_ACCESS_LOCAL_WRITE);
	mr->pd = pd;
	mr->addr = mem;
	mr->length = len;
	mr->lkey = 77;
	return mr;
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	free(mr);
	return 0;
}

/* Completions. */

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context)
{
	struct ibv_comp_channel *channel = calloc(1, sizeof(*channel));

	invariant(channel);
	channel->context = context;
	channel->fd = eventfd(0, EFD_SEMAPHORE);
	return channel;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	invariant(channel->refcnt == 0);
	close(channel->fd);
	free(channel);
	return 0;
}

static void eventfd_add(int fd)
{
	uint64_t one = 1;

	invariant(write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

static bool eventfd_take(int fd)
{
	uint64_t one;

	return read(fd, &one, sizeof(one)) == (ssize_t)sizeof(one);
}

struct ibv_cq *ibv_create_cq(struct ibv_context *context, int cqe, void *cq_context,
			     struct ibv_comp_channel *channel, int vector)
{
	struct fake_cq *cq = calloc(1, sizeof(*cq));

	(void)vector;
	invariant(cq);
	cq->cq.context = context;
	cq->cq.cq_context = cq_context;
	cq->cq.channel = channel;
	cq->cq.cqe = cqe;
	cq->ring = calloc((size_t)cqe, sizeof(*cq->ring));
	invariant(cq->ring);
	return &cq->cq;
}

int ibv_destroy_cq(struct ibv_cq *cq)
{
	for (unsigned i = 0; i < FAKE_PAIRS; i++)
		invariant(!pairs[i] || pairs[i]->qp.send_cq != cq);
	invariant(events_given == 0);
	free(((struct fake_cq *)cq)->ring);
	free(cq);
	return 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context)
{
	if (!eventfd_take(channel->fd))
		return -1;
	events_given++;
	*cq = NULL;
	*context = NULL;
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned count)
{
	(void)cq;
	events_given -= count;
}

static void completion_add(struct ibv_cq *to, const struct ibv_wc *wc)
{
	struct fake_cq *cq = (struct fake_cq *)to;

	/* An overrun is a fault that a device does not forgive. */
	invariant(cq->count < (unsigned)to->cqe);
	cq->ring[(cq->head + cq->count++) % (unsigned)to->cqe] = *wc;
	if (cq->armed && to->channel)
		eventfd_add(to->channel->fd);
	cq->armed = false;
}

static int fake_poll_cq(struct ibv_cq *from, int max, struct ibv_wc *wc)
{
	struct fake_cq *cq = (struct fake_cq *)from;
	int n = 0;

	for (; n < max && cq->count > 0; n++) {
		wc[n] = cq->ring[cq->head];
		cq->head = (cq->head + 1) % (unsigned)from->cqe;
		cq->count--;
	}
	return n;
}

static int fake_req_notify(struct ibv_cq *cq, int solicited)
{
	invariant(!solicited);
	((struct fake_cq *)cq)->armed = true;
	return 0;
}

/* Queue pairs. */

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct fake_pair *pair;
	unsigned number = 1;

	if (fake_faults.makes_no_pairs ||
	    (fake_faults.inlines_nothing && attr->cap.max_inline_data > 0)) {
		errno = EINVAL;
		return NULL;
	}
	pair = calloc(1, sizeof(*pair));
	invariant(pair && attr->cap.max_recv_wr <= FAKE_RECEIVES);
	while (number < FAKE_PAIRS && pairs[number])
		number++;
	invariant(number < FAKE_PAIRS);
	pairs[number] = pair;
	pair->qp = (struct ibv_qp){.context = pd->context,
				   .pd = pd,
				   .send_cq = attr->send_cq,
				   .recv_cq = attr->recv_cq,
				   .qp_num = number,
				   .qp_type = attr->qp_type};
	pair->state = IBV_QPS_RESET;
	pair->max = attr->cap.max_recv_wr;
	return &pair->qp;
}

int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	struct fake_pair *pair = (struct fake_pair *)qp;

	if (fake_faults.connects_no_pairs && attr->qp_state == IBV_QPS_RTR)
		return EIO;
	invariant(mask & IBV_QP_STATE);
	invariant(attr->qp_state == pair->state + 1);
	if (attr->qp_state == IBV_QPS_INIT)
		invariant((mask & IBV_QP_ACCESS_FLAGS) && attr->qp_access_flags == 0);
	if (attr->qp_state == IBV_QPS_RTR)
		pair->dest = attr->dest_qp_num;
	if (attr->qp_state == IBV_QPS_RTS)
		invariant(attr->retry_cnt < 7 && attr->rnr_retry < 7 && attr->timeout > 0);
	pair->state = attr->qp_state;
	return 0;
}

int ibv_destroy_qp(struct ibv_qp *qp)
{
	pairs[qp->qp_num] = NULL;
	free(qp);
	return 0;
}

static void pair_fail(struct fake_pair *pair)
{
	pair->state = IBV_QPS_ERR;
	for (; pair->count > 0; pair->count--) {
		struct ibv_wc wc = {.wr_id = pair->receives[pair->head].wr_id,
				    .status = IBV_WC_WR_FLUSH_ERR,
				    .qp_num = pair->qp.qp_num};

		pair->head = (pair->head + 1) % FAKE_RECEIVES;
		completion_add(pair->qp.recv_cq, &wc);
	}
}

static int fake_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct fake_pair *pair = (struct fake_pair *)qp;

	(void)bad;
	invariant(pair->count < pair->max && wr->num_sge == 1);
	pair->receives[(pair->head + pair->count++) % FAKE_RECEIVES] =
		(struct fake_receive){wr->wr_id, *wr->sg_list};
	return 0;
}

static struct ibv_wc arrival(const struct fake_pair *to, const struct ibv_send_wr *wr, uint32_t len)
{
	bool write = wr->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	struct ibv_wc wc = {.wr_id = to->receives[to->head].wr_id,
			    .status = IBV_WC_SUCCESS,
			    .opcode = write ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV,
			    .byte_len = len,
			    .qp_num = to->qp.qp_num};

	if (wr->opcode != IBV_WR_SEND) {
		wc.wc_flags = IBV_WC_WITH_IMM;
		wc.imm_data = wr->imm_data;
	}
	return wc;
}

/* How the send ends; the receiver's completion has been added. */
static enum ibv_wc_status deliver(struct fake_pair *from, const struct ibv_send_wr *wr)
{
	struct fake_pair *to = from->dest < FAKE_PAIRS ? pairs[from->dest] : NULL;
	uint32_t len = wr->num_sge ? wr->sg_list->length : 0;
	struct ibv_wc wc;

	if (!to || to->dest != from->qp.qp_num ||
	    (to->state != IBV_QPS_RTR && to->state != IBV_QPS_RTS))
		return IBV_WC_RETRY_EXC_ERR;
	if (to->count == 0)
		return IBV_WC_RNR_RETRY_EXC_ERR;
	wc = arrival(to, wr, len);
	if (len > to->receives[to->head].sge.length)
		wc.status = IBV_WC_LOC_LEN_ERR;
	else if (len)
		memcpy((void *)(uintptr_t)to->receives[to->head].sge.addr,
		       (void *)(uintptr_t)wr->sg_list->addr, len);
	to->head = (to->head + 1) % FAKE_RECEIVES;
	to->count--;
	completion_add(to->qp.recv_cq, &wc);
	if (wc.status == IBV_WC_SUCCESS)
		return IBV_WC_SUCCESS;
	pair_fail(to);
	return IBV_WC_REM_INV_REQ_ERR;
}

/* What is to be sent stays where it lies, as with a device. */
static void send_delay(struct fake_pair *pair, const struct ibv_send_wr *wr)
{
	struct fake_send *send = &pair->delayed[pair->delayed_count++];

	invariant(pair->delayed_count < FAKE_RECEIVES);
	send->wr = *wr;
	if (wr->num_sge)
		send->sge = *wr->sg_list;
	send->wr.sg_list = &send->sge;
}

void fake_release(void)
{
	struct ibv_send_wr *bad;

	fake_faults.delays = false;
	for (unsigned i = 0; i < FAKE_PAIRS; i++)
		for (unsigned j = 0; pairs[i] && j < pairs[i]->delayed_count; j++)
			(void)ibv_post_send(&pairs[i]->qp, &pairs[i]->delayed[j].wr, &bad);
	for (unsigned i = 0; i < FAKE_PAIRS; i++)
		if (pairs[i])
			pairs[i]->delayed_count = 0;
}

static int fake_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct fake_pair *pair = (struct fake_pair *)qp;
	struct ibv_wc wc = {.wr_id = wr->wr_id, .qp_num = qp->qp_num};

	(void)bad;
	invariant(pair->state == IBV_QPS_RTS || pair->state == IBV_QPS_ERR);
	invariant(!fake_faults.inlines_nothing || !(wr->send_flags & IBV_SEND_INLINE));
	if (fake_faults.swallows)
		return 0;
	if (fake_faults.delays) {
		send_delay(pair, wr);
		return 0;
	}
	wc.status = pair->state == IBV_QPS_ERR ? IBV_WC_WR_FLUSH_ERR : deliver(pair, wr);
	if (wc.status != IBV_WC_SUCCESS || (wr->send_flags & IBV_SEND_SIGNALED))
		completion_add(qp->send_cq, &wc);
	if (wc.status != IBV_WC_SUCCESS)
		pair_fail(pair);
	return 0;
}

__attribute__((constructor)) static void fake_operations(void)
{
	verbs.context.device = &device;
	verbs.context.ops.poll_cq = fake_poll_cq;
	verbs.context.ops.req_notify_cq = fake_req_notify;
	verbs.context.ops.post_send = fake_post_send;
	verbs.context.ops.post_recv = fake_post_recv;
}

/* The connection manager. */

struct rdma_event_channel *rdma_create_event_channel(void)
{
	struct fake_channel *channel = calloc(1, sizeof(*channel));

	invariant(channel);
	channel->channel.fd = eventfd(0, EFD_SEMAPHORE);
	return &channel->channel;
}

void rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	struct fake_channel *fake = (struct fake_channel *)channel;

	invariant(!fake->first);
	close(channel->fd);
	free(fake);
}

static struct fake_event *event_add(struct fake_id *id, enum rdma_cm_event_type type, int status)
{
	struct fake_channel *channel = (struct fake_channel *)id->id.channel;
	struct fake_event *event = calloc(1, sizeof(*event)), **at = &channel->first;

	invariant(event);
	event->event.id = &id->id;
	event->event.event = type;
	event->event.status = status;
	while (*at)
		at = &(*at)->next;
	*at = event;
	eventfd_add(channel->channel.fd);
	return event;
}

int rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event)
{
	struct fake_channel *fake = (struct fake_channel *)channel;
	struct fake_event *first;

	/* Events of an id that was destroyed have left their count. */
	while (eventfd_take(channel->fd)) {
		first = fake->first;
		if (!first)
			continue;
		fake->first = first->next;
		*event = &first->event;
		return 0;
	}
	errno = EAGAIN;
	return -1;
}

int rdma_ack_cm_event(struct rdma_cm_event *event)
{
	free(event);
	return 0;
}

const char *rdma_event_str(enum rdma_cm_event_type event)
{
	return event == RDMA_CM_EVENT_DISCONNECTED ? "disconnected" : "an event";
}

int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **out, void *context,
		   enum rdma_port_space space)
{
	struct fake_id *id = calloc(1, sizeof(*id));
	unsigned at = 0;

	invariant(id && space == RDMA_PS_TCP);
	while (at < FAKE_IDS && ids[at])
		at++;
	invariant(at < FAKE_IDS);
	ids[at] = id;
	id->id.channel = channel;
	id->id.context = context;
	*out = &id->id;
	return 0;
}

/* The device, once its address is known. */
static void id_device(struct fake_id *id)
{
	id->id.verbs = &verbs.context;
	id->id.port_num = 1;
	if (!id->id.pd)
		id->id.pd = ibv_alloc_pd(&verbs.context);
}

static bool address_is_ours(const struct sockaddr *address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

	return v4->sin_family == AF_INET && v4->sin_addr.s_addr == inet_addr(FAKE_ADDRESS);
}

int rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *address)
{
	if (!address_is_ours(address)) {
		errno = ENODEV;
		return -1;
	}
	id_device((struct fake_id *)id);
	id->route.addr.src_sin = *(struct sockaddr_in *)address;
	id->route.addr.src_sin.sin_port = htons(port_next++);
	return 0;
}

int rdma_listen(struct rdma_cm_id *id, int backlog)
{
	(void)backlog;
	((struct fake_id *)id)->listens = true;
	return 0;
}

__be16 rdma_get_src_port(struct rdma_cm_id *id)
{
	return id->route.addr.src_sin.sin_port;
}

int rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int ms)
{
	(void)ms;
	if (!address_is_ours(to)) {
		event_add((struct fake_id *)id, RDMA_CM_EVENT_ADDR_ERROR, -ENODEV);
		return 0;
	}
	id_device((struct fake_id *)id);
	id->route.addr.src_sin = *(struct sockaddr_in *)from;
	id->route.addr.dst_sin = *(struct sockaddr_in *)to;
	event_add((struct fake_id *)id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
	return 0;
}

int rdma_resolve_route(struct rdma_cm_id *id, int ms)
{
	(void)ms;
	if (fake_faults.finds_no_path)
		event_add((struct fake_id *)id, RDMA_CM_EVENT_ROUTE_ERROR, -EHOSTUNREACH);
	else
		event_add((struct fake_id *)id, RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
	return 0;
}

static struct fake_id *listener_at(uint16_t port)
{
	for (unsigned i = 0; i < FAKE_IDS; i++)
		if (ids[i] && ids[i]->listens && ids[i]->id.route.addr.src_sin.sin_port == port)
			return ids[i];
	return NULL;
}

int rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	struct fake_id *caller = (struct fake_id *)id, *callee;
	struct fake_id *listener = listener_at(id->route.addr.dst_sin.sin_port);
	struct rdma_cm_id *made;
	struct fake_event *event;

	if (!listener) {
		event_add(caller, RDMA_CM_EVENT_REJECTED, 8);
		return 0;
	}
	rdma_create_id(listener->id.channel, &made, listener->id.context, RDMA_PS_TCP);
	callee = (struct fake_id *)made;
	id_device(callee);
	made->route.addr.dst_sin = id->route.addr.src_sin;
	callee->other = caller;
	caller->other = callee;
	callee->other_pair = id->qp ? id->qp->qp_num : param->qp_num;
	event = event_add(callee, RDMA_CM_EVENT_CONNECT_REQUEST, 0);
	event->event.listen_id = &listener->id;
	memcpy(event->data, param->private_data, param->private_data_len);
	event->event.param.conn.private_data = event->data;
	event->event.param.conn.private_data_len = PRIVATE_SIZE;
	return 0;
}

/* Brings up the queue pair of an id that has its own. */
static void own_pair_connect(struct fake_id *id)
{
	struct fake_pair *pair = (struct fake_pair *)id->id.qp;

	pair->dest = id->other_pair;
	pair->state = IBV_QPS_RTS;
}

int rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	struct fake_id *callee = (struct fake_id *)id, *caller = callee->other;

	if (!caller || fake_faults.accepts_nobody) {
		errno = EINVAL;
		return -1;
	}
	caller->other_pair = param->qp_num;
	if (!caller->id.qp) {
		event_add(caller, RDMA_CM_EVENT_CONNECT_RESPONSE, 0);
		return 0;
	}
	own_pair_connect(caller);
	event_add(caller, RDMA_CM_EVENT_ESTABLISHED, 0);
	event_add(callee, RDMA_CM_EVENT_ESTABLISHED, 0);
	return 0;
}

int rdma_establish(struct rdma_cm_id *id)
{
	struct fake_id *other = ((struct fake_id *)id)->other;

	if (other)
		event_add(other, RDMA_CM_EVENT_ESTABLISHED, 0);
	return 0;
}

int rdma_reject(struct rdma_cm_id *id, const void *data, uint8_t len)
{
	struct fake_id *callee = (struct fake_id *)id;

	(void)data;
	(void)len;
	if (callee->other) {
		event_add(callee->other, RDMA_CM_EVENT_REJECTED, 28);
		callee->other->other = NULL;
	}
	callee->other = NULL;
	return 0;
}

int rdma_init_qp_attr(struct rdma_cm_id *id, struct ibv_qp_attr *attr, int *mask)
{
	*mask = IBV_QP_STATE;
	if (attr->qp_state == IBV_QPS_RTR) {
		attr->path_mtu = IBV_MTU_1024;
		attr->dest_qp_num = ((struct fake_id *)id)->other_pair;
	}
	return 0;
}

int rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	id->qp = ibv_create_qp(pd ? pd : id->pd, attr);
	return 0;
}

void rdma_destroy_qp(struct rdma_cm_id *id)
{
	ibv_destroy_qp(id->qp);
	id->qp = NULL;
}

void fake_device_remove(void)
{
	for (unsigned i = 0; i < FAKE_IDS; i++)
		if (ids[i] && ids[i]->id.verbs)
			event_add(ids[i], RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
}

static void events_drop(struct fake_id *id)
{
	struct fake_event **at = &((struct fake_channel *)id->id.channel)->first;

	while (*at) {
		struct fake_event *event = *at;

		if (event->event.id != &id->id) {
			at = &event->next;
			continue;
		}
		*at = event->next;
		free(event);
	}
}

int rdma_destroy_id(struct rdma_cm_id *id)
{
	struct fake_id *fake = (struct fake_id *)id;

	events_drop(fake);
	if (fake->other) {
		event_add(fake->other, RDMA_CM_EVENT_DISCONNECTED, 0);
		fake->other->other = NULL;
	}
	for (unsigned i = 0; i < FAKE_IDS; i++)
		if (ids[i] == fake)
			ids[i] = NULL;
	if (id->pd)
		ibv_dealloc_pd(id->pd);
	free(fake);
	return 0;
}
