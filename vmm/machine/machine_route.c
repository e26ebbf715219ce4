/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts and messages between vCPUs, devices and slices: who gets what, here or over there. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "vmm/machine/machine_parts.h"

/* ---- sending ---- */

int machine_post(struct machine *m, unsigned to, const struct wire_msg *msg, const void *payload)
{
	int err, none = 0;

	if (atomic_load(&m->ended))
		return -ECANCELED;
	err = m->callbacks.post(m->callbacks.ctx, to, msg, payload);
	if (!err || err == -ENOTCONN)
		return err;
	if (atomic_compare_exchange_strong(&m->post_error, &none, err)) {
		atomic_store(&m->post_error_slice, to);
		timer_set(&m->timer, MACHINE_TIMER_SLOT, 0);
	}
	return err;
}

void machine_post_failed(struct machine *m)
{
	char sentence[MACHINE_SENTENCE_MAX];

	if (!atomic_load(&m->post_error))
		return;
	snprintf(sentence, sizeof(sentence), "a message for slice %u could not be sent: %s",
		 atomic_load(&m->post_error_slice), error_text(atomic_load(&m->post_error)));
	machine_end(m, EXIT_ERROR, sentence);
}

/* ---- interrupts ---- */

static void deliver_local(struct machine *m, const struct ipi *ipi)
{
	struct machine_vcpu *v;
	unsigned i;

	if (!ipi->logical && ipi->dest != IPI_BROADCAST) {
		v = machine_vcpu_find(m, shape_vcpu_of_apic_id(&m->shape, ipi->dest));
		if (v && apic_matches(v->apic.id, ipi))
			apic_deliver(&v->apic, ipi);
		return;
	}
	for (i = 0; i < m->vcpus_count; i++)
		if (apic_matches(m->vcpus[i].apic.id, ipi))
			apic_deliver(&m->vcpus[i].apic, ipi);
}

/* To a CPU that is meant, if it is on another slice; gives the slices as a bit set. */
static uint64_t post_remote(struct machine *m, unsigned id, const struct ipi *ipi)
{
	if (id >= m->shape.vcpus || m->slice_of[id] == m->self ||
	    !apic_matches(m->apic_id[id], ipi))
		return 0;
	machine_pending_add(m, id, ipi);
	return UINT64_C(1) << m->slice_of[id];
}

/* To all CPUs of other slices that are meant; gives these slices as a bit set. */
static uint64_t deliver_remote(struct machine *m, const struct ipi *ipi)
{
	uint64_t slices = 0;
	unsigned id;

	if (!m->pending)
		return 0;
	if (!ipi->logical && ipi->dest != IPI_BROADCAST)
		slices = post_remote(m, shape_vcpu_of_apic_id(&m->shape, ipi->dest), ipi);
	else
		for (id = 0; id < m->shape.vcpus; id++)
			slices |= post_remote(m, id, ipi);
	if (slices)
		m->callbacks.ring(m->callbacks.ctx);
	return slices;
}

static bool local_meant(const struct machine *m, const struct ipi *ipi)
{
	unsigned i;

	for (i = 0; i < m->vcpus_count; i++)
		if (apic_matches(m->vcpus[i].apic.id, ipi))
			return true;
	return false;
}

/* Lowest priority: any one of those meant will do; the first is always the same one. */
static bool lowest_resolve(const struct machine *m, struct ipi *ipi)
{
	unsigned id;

	for (id = 0; id < m->shape.vcpus; id++) {
		if (!apic_matches(m->apic_id[id], ipi))
			continue;
		ipi->dest = m->apic_id[id];
		ipi->logical = false;
		ipi->delivery = IPI_FIXED;
		return true;
	}
	return false;
}

static void count(_Atomic uint64_t *counter, unsigned n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void machine_ipi(struct machine *m, struct machine_vcpu *from, const struct ipi *ipi)
{
	struct ipi resolved = *ipi;
	uint64_t slices;

	if (resolved.delivery == IPI_LOWEST && !lowest_resolve(m, &resolved))
		return;
	if (local_meant(m, &resolved)) {
		deliver_local(m, &resolved);
		if (from)
			count(&from->ipis_local, 1);
	}
	slices = deliver_remote(m, &resolved);
	if (slices)
		count(from ? &from->ipis_remote : &m->device_ipis_remote,
		      (unsigned)__builtin_popcountll(slices));
}

/* ---- what the APICs call ---- */

static uint64_t env_now_ns(void *ctx)
{
	(void)ctx;
	return clock_now_ns();
}

static void env_kick(void *ctx, unsigned id)
{
	machine_vcpu_kick(machine_vcpu_find(ctx, id));
}

static void env_ipi(void *ctx, unsigned id, const struct ipi *ipi)
{
	machine_ipi(ctx, machine_vcpu_find(ctx, id), ipi);
}

static void env_eoi(void *ctx, unsigned id, uint8_t vector)
{
	struct machine *m = ctx;

	(void)id;
	if (m->devices) {
		ioapic_eoi(&m->devices->ioapic, vector);
	} else if (m->pending) {
		machine_pending_eoi(m, vector);
		m->callbacks.ring(m->callbacks.ctx);
	}
}

static void env_timer(void *ctx, unsigned id, uint64_t deadline_ns)
{
	struct machine *m = ctx;

	timer_set(&m->timer, id - m->first_vcpu, deadline_ns);
}

void machine_apic_env(struct machine *m, struct apic_env *env)
{
	env->ctx = m;
	env->now_ns = env_now_ns;
	env->kick = env_kick;
	env->ipi = env_ipi;
	env->eoi = env_eoi;
	env->timer = env_timer;
}

/* ---- receiving: engine thread ---- */

static int ipi_received(struct machine *m, const struct wire_msg *msg)
{
	struct ipi ipi;
	int err = ipi_decode(msg, &ipi);

	if (err)
		return err;
	deliver_local(m, &ipi);
	return 0;
}

static int eoi_received(struct machine *m, const struct wire_msg *msg)
{
	if (!m->devices || msg->payload_len || msg->gfn || msg->arg > 0xff)
		return -PANGEA_EWIRE;
	ioapic_eoi(&m->devices->ioapic, (uint8_t)msg->arg);
	return 0;
}

/* Devices' registers are quick: they are served right here, on the engine thread. What is not here is nobody's to ask
 * for, since it would have to wait. */
static bool io_request_allowed(const struct machine *m, unsigned from, const struct io_request *req)
{
	if (req->vcpu >= m->shape.vcpus || m->slice_of[req->vcpu] != from)
		return false;
	return req->mmio ? bus_claims_mmio(&m->served, req->addr)
			 : bus_claims_port(&m->served, (uint16_t)req->addr);
}

static int io_request_received(struct machine *m, unsigned from, const struct wire_msg *msg)
{
	struct io_reply reply = {0};
	struct io_request req;
	struct wire_msg answer;
	int err = io_request_decode(msg, &req);

	if (err)
		return err;
	if (!io_request_allowed(m, from, &req))
		return -PANGEA_EWIRE;
	if (req.mmio && req.write)
		bus_mmio_write(&m->served, req.vcpu, req.addr, req.size, req.value);
	else if (req.mmio)
		reply.value = (uint32_t)bus_mmio_read(&m->served, req.vcpu, req.addr, req.size);
	else if (req.write)
		bus_pio_write(&m->served, req.vcpu, (uint16_t)req.addr, req.size, req.value);
	else
		reply.value = bus_pio_read(&m->served, req.vcpu, (uint16_t)req.addr, req.size);
	count(&m->io_served, 1);
	if (req.posted)
		return 0;
	reply.vcpu = req.vcpu;
	reply.seq = req.seq;
	io_reply_encode(&reply, &answer);
	machine_post(m, from, &answer, NULL);
	return 0;
}

static int io_reply_received(struct machine *m, unsigned from, const struct wire_msg *msg)
{
	struct io_reply reply;
	int err = io_reply_decode(msg, &reply);

	if (err)
		return err;
	if (!shape_has_bridge(&m->shape, from))
		return -PANGEA_EWIRE;
	return remote_io_reply(&m->remote, from, &reply);
}

static int end_received(struct machine *m, unsigned from, const struct wire_msg *msg,
			const void *payload)
{
	char sentence[MACHINE_SENTENCE_MAX + 1];
	enum exit_code reason;
	int err = end_decode(msg, payload, &reason, sentence);

	if (err)
		return err;
	if (from != 0 && m->self != 0)
		return -PANGEA_EWIRE;
	machine_ended(m, reason, sentence[0] ? sentence : exit_text(reason), m->self == 0);
	return 0;
}

bool machine_engine_is_self(const struct machine *m)
{
	return atomic_load(&m->engine_known) &&
	       pthread_equal(atomic_load(&m->engine_thread), pthread_self());
}

/* Only the engine thread comes here. */
static void engine_remember(struct machine *m)
{
	if (atomic_load_explicit(&m->engine_known, memory_order_relaxed))
		return;
	atomic_store(&m->engine_thread, pthread_self());
	atomic_store(&m->engine_known, true);
}

int machine_msg(struct machine *m, unsigned from, const struct wire_msg *msg, const void *payload)
{
	engine_remember(m);
	if (from >= m->shape.slices || from == m->self)
		return -PANGEA_EWIRE;
	switch ((enum machine_msg_type)msg->type) {
	case MSG_MACHINE_IPI:
		return ipi_received(m, msg);
	case MSG_MACHINE_EOI:
		return eoi_received(m, msg);
	case MSG_MACHINE_IO_REQUEST:
		return io_request_received(m, from, msg);
	case MSG_MACHINE_IO_REPLY:
		return io_reply_received(m, from, msg);
	case MSG_MACHINE_END:
		return end_received(m, from, msg, payload);
	case MSG_MACHINE_PING:
	case MSG_MACHINE_PONG:
		return machine_ping_msg(m, from, msg);
	}
	return -PANGEA_EWIRE;
}
