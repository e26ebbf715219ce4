/* SPDX-License-Identifier: Apache-2.0 */
/* Pings between slices: round trips, and guest time, which every slice takes from slice 0. */
#include <errno.h>

#include "base/clock.h"
#include "base/lock.h"
#include "vmm/machine/machine_parts.h"

/*
 * Round trips of one burst: one after the other, each sent when the last is answered. The shortest
 * counts; after this many one has met no other work on the way, and they are over in a millisecond.
 */
#define BURST_PINGS 16u

int machine_clock_create(struct machine *m, const struct machine_config *c)
{
	const struct guest_clock_source *source = &c->host_clock;
	uint64_t now_ns = source->now_ns ? source->now_ns(source->ctx) : clock_now_ns();
	uint64_t origin_ns = c->tsc_origin_ns;

	/* Slice 0's clock is guest time; the others know nothing before they have asked. */
	if (m->self != 0 || origin_ns > now_ns)
		origin_ns = now_ns;
	guest_clock_init(&m->clock, source, origin_ns, 0);
	clock_sync_init(&m->clock_sync);
	m->clock_sync.offset_ns = -(int64_t)origin_ns;
	return lock_init(&m->clock_lock);
}

void machine_clock_destroy(struct machine *m)
{
	pthread_mutex_destroy(&m->clock_lock);
}

void machine_clock_start(struct machine *m)
{
	pthread_mutex_lock(&m->clock_lock);
	m->clock_running = true;
	pthread_mutex_unlock(&m->clock_lock);
}

void machine_clock_stats(struct machine *m, struct machine_stats *out)
{
	pthread_mutex_lock(&m->clock_lock);
	out->clock_offset_ns = m->clock_sync.offset_ns;
	out->clock_error_ns = m->clock_sync.error_ns;
	out->clock_bursts = m->clock_sync.bursts;
	out->clock_rate_ppb =
		guest_clock_rate(&m->clock) * (int64_t)NS_PER_S / GUEST_CLOCK_RATE_ONE;
	pthread_mutex_unlock(&m->clock_lock);
}

/* ---- asking ---- */

int machine_ping(struct machine *m, unsigned slice)
{
	struct wire_msg msg = {.type = MSG_MACHINE_PING, .arg = guest_clock_host_ns(&m->clock)};

	if (slice >= m->shape.slices || slice == m->self)
		return -EINVAL;
	return machine_post(m, slice, &msg, NULL);
}

uint64_t machine_ping_best(struct machine *m, unsigned slice, unsigned *answers)
{
	if (slice >= m->shape.slices)
		return 0;
	if (answers)
		*answers = atomic_load(&m->ping[slice].answers);
	return atomic_load(&m->ping[slice].best_ns);
}

/* clock_lock held. */
static int burst_close(struct machine *m)
{
	m->burst_left = 0;
	return clock_sync_close(&m->clock_sync, &m->clock, !m->clock_running);
}

int machine_clock_align(struct machine *m)
{
	int err;

	if (m->self == 0)
		return 0;
	pthread_mutex_lock(&m->clock_lock);
	err = burst_close(m);
	pthread_mutex_unlock(&m->clock_lock);
	return err;
}

unsigned machine_clock_burst(struct machine *m)
{
	uint64_t interval_ns;

	if (m->self == 0)
		return 0;
	pthread_mutex_lock(&m->clock_lock);
	if (m->burst_left)
		burst_close(m);
	m->burst_left = BURST_PINGS;
	interval_ns = m->clock_sync.interval_ns;
	pthread_mutex_unlock(&m->clock_lock);
	machine_ping(m, 0); /* not sent: the VM is over */
	return (unsigned)(interval_ns / NS_PER_MS);
}

/* ---- answering, and the answers: engine thread ---- */

/* The engine thread is the only writer. */
static void ping_answered(struct machine *m, unsigned from, uint64_t rtt_ns)
{
	uint64_t best_ns = atomic_load(&m->ping[from].best_ns);

	if (!best_ns || rtt_ns < best_ns)
		atomic_store(&m->ping[from].best_ns, rtt_ns);
	atomic_fetch_add(&m->ping[from].answers, 1);
}

static void clock_told(struct machine *m, const struct wire_msg *pong, uint64_t now_ns)
{
	bool more = false;

	pthread_mutex_lock(&m->clock_lock);
	clock_sync_add(&m->clock_sync, pong->arg, now_ns, pong->gfn);
	if (m->burst_left && !(more = --m->burst_left))
		burst_close(m);
	pthread_mutex_unlock(&m->clock_lock);
	if (more)
		machine_ping(m, 0);
}

static int pong_received(struct machine *m, unsigned from, const struct wire_msg *msg)
{
	uint64_t now_ns = guest_clock_host_ns(&m->clock);

	/* Guest time of 292 years, and time that others than slice 0 tell, are not guest time. */
	if (msg->payload_len || msg->gfn > INT64_MAX || (from && msg->gfn))
		return -PANGEA_EWIRE;
	if (msg->arg > now_ns)
		return 0;
	if (from == 0)
		clock_told(m, msg, now_ns);
	ping_answered(m, from, now_ns - msg->arg);
	return 0;
}

int machine_ping_msg(struct machine *m, unsigned from, const struct wire_msg *msg)
{
	struct wire_msg pong = {.type = MSG_MACHINE_PONG, .arg = msg->arg};

	if (msg->type == MSG_MACHINE_PONG)
		return pong_received(m, from, msg);
	if (msg->payload_len || msg->gfn)
		return -PANGEA_EWIRE;
	if (m->self == 0)
		pong.gfn = guest_clock_now(&m->clock);
	machine_post(m, from, &pong, NULL);
	return 0;
}
