/* SPDX-License-Identifier: Apache-2.0 */
/* A link's queue pair and its slots: made, brought to where it sends and receives, and destroyed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* In the shortest encoding of such a time, 0.64 ms: it is asked of no peer that keeps to its credits. */
#define RNR_TIMER 12
/* Bytes that a message may have to go without being fetched from its slot: a header, and room. */
#define INLINE_WANTED 64u

static const char *memory_limit(char *out, size_t size)
{
	struct rlimit limit = {0};

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		snprintf(out, size, " (at most %llu KiB may be locked)",
			 (unsigned long long)limit.rlim_cur / 1024);
	else
		out[0] = '\0';
	return out;
}

static int memory_register(struct conn *conn, char *why, size_t size)
{
	struct rdma_link *link = conn->rdma;
	char limit[64];
	void *mem = mmap(NULL, RDMA_LINK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	int err;

	if (mem == MAP_FAILED) {
		err = -errno;
		snprintf(why, size, "%s", error_text(err));
		return err;
	}
	/* Guest pages lie in it: in no core dump. */
	madvise(mem, RDMA_LINK_BYTES, MADV_DONTDUMP);
	link->memory = mem;
	/* The device itself writes there, and nobody by it: there is no remote right. */
	link->mr = ibv_reg_mr(conn->net->rdma->pd, mem, RDMA_LINK_BYTES, IBV_ACCESS_LOCAL_WRITE);
	if (link->mr)
		return 0;
	err = -errno;
	snprintf(why, size, "%u KiB of memory cannot be registered: %s%s", RDMA_LINK_BYTES / 1024,
		 error_text(err), memory_limit(limit, sizeof(limit)));
	return err;
}

static struct ibv_qp *pair_create(struct rdma_net *rdma, unsigned *inline_max)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = rdma->cq,
		.recv_cq = rdma->cq,
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = RDMA_SENDS,
			.max_recv_wr = RDMA_RECEIVES,
			.max_send_sge = 1,
			.max_recv_sge = 1,
			.max_inline_data = *inline_max},
	};
	struct ibv_qp *qp = ibv_create_qp(rdma->pd, &attr);

	*inline_max = attr.cap.max_inline_data;
	return qp;
}

static int pair_init(struct conn *conn)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT};
	int mask = 0;

	if (rdma_init_qp_attr(conn->rdma->id, &attr, &mask) < 0)
		return -errno;
	attr.qp_access_flags = 0;
	return -ibv_modify_qp(conn->rdma->qp, &attr, mask | IBV_QP_ACCESS_FLAGS);
}

static int receives_post(struct conn *conn)
{
	int err = 0;

	for (unsigned slot = 0; slot < RDMA_RECEIVES && !err; slot++)
		err = rdma_receive_post(conn, slot);
	return err;
}

int rdma_receive_post(struct conn *conn, unsigned slot)
{
	struct rdma_link *link = conn->rdma;
	struct rdma_work work = {.receive = true,
				 .peer = (uint8_t)conn->peer,
				 .number = (uint16_t)slot,
				 .link = link->number};
	struct ibv_sge sge = {.addr = (uintptr_t)(link->memory +
						  (RDMA_SENDS + slot) * RDMA_SLOT_SIZE +
						  RDMA_SLOT_HEADER),
			      .length = WIRE_HEADER_SIZE + WIRE_PAYLOAD_MAX,
			      .lkey = link->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = rdma_work_encode(&work), .sg_list = &sge, .num_sge = 1},
			   *bad;

	return -ibv_post_recv(link->qp, &wr, &bad);
}

int rdma_qp_create(struct conn *conn, char *why, size_t size)
{
	struct rdma_link *link = conn->rdma;
	int err = memory_register(conn, why, size);

	if (err)
		return err;
	link->inline_max = INLINE_WANTED;
	link->qp = pair_create(conn->net->rdma, &link->inline_max);
	if (!link->qp) {
		/* Some devices have none. */
		link->inline_max = 0;
		link->qp = pair_create(conn->net->rdma, &link->inline_max);
	}
	if (!link->qp) {
		err = -errno;
		snprintf(why, size, "no queue pair: %s", error_text(err));
		return err;
	}
	err = pair_init(conn);
	if (!err)
		err = receives_post(conn);
	if (err)
		snprintf(why, size, "the queue pair cannot be prepared: %s", error_text(err));
	link->credits = RDMA_SLOTS;
	return err;
}

static enum ibv_mtu mtu_code(unsigned bytes)
{
	return (enum ibv_mtu)(IBV_MTU_256 + __builtin_ctz(bytes / RDMA_MTU_MIN));
}

static int pair_receive(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTR};
	enum ibv_mtu agreed = mtu_code(link->mtu);
	int mask = 0;

	if (rdma_init_qp_attr(link->id, &attr, &mask) < 0)
		return -errno;
	/* The path's MTU came to both sides by the same request, so both take the same one. */
	if (agreed < attr.path_mtu)
		attr.path_mtu = agreed;
	link->mtu = RDMA_MTU_MIN << (attr.path_mtu - IBV_MTU_256);
	attr.min_rnr_timer = RNR_TIMER;
	attr.max_dest_rd_atomic = 0;
	if (conn->net->rdma->gid_index >= 0)
		attr.ah_attr.grh.sgid_index = (uint8_t)conn->net->rdma->gid_index;
	return -ibv_modify_qp(link->qp, &attr, mask);
}

static int pair_send(struct conn *conn)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS};
	int mask = 0;

	if (rdma_init_qp_attr(conn->rdma->id, &attr, &mask) < 0)
		return -errno;
	attr.timeout = RDMA_TIMEOUT;
	attr.retry_cnt = RDMA_RETRIES;
	attr.rnr_retry = RDMA_RNR_TRIES;
	attr.max_rd_atomic = 0;
	return -ibv_modify_qp(conn->rdma->qp, &attr,
			      mask | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY);
}

int rdma_qp_connect(struct conn *conn, char *why, size_t size)
{
	int err = pair_receive(conn);

	if (!err)
		err = pair_send(conn);
	if (err)
		snprintf(why, size, "the queue pair cannot be connected: %s", error_text(err));
	conn->rdma->usable = !err;
	return err;
}

/*
 * The queue pair goes first: then the device touches the slots no more. Completions that are in the
 * queue still name this link's number, which nobody has any more.
 */
void rdma_link_destroy(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;

	if (!link)
		return;
	if (link->qp)
		ibv_destroy_qp(link->qp);
	if (link->id)
		rdma_destroy_id(link->id);
	if (link->mr)
		ibv_dereg_mr(link->mr);
	if (link->memory)
		munmap(link->memory, RDMA_LINK_BYTES);
	free(link);
	conn->rdma = NULL;
}
