/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's side of guest time: pieces of a line, each beginning where the last one is. */
#include "vmm/clock/clock.h"

#include <errno.h>
#include <string.h>

static int64_t rate_cut(int64_t rate)
{
	if (rate > GUEST_CLOCK_RATE_MAX)
		return GUEST_CLOCK_RATE_MAX;
	return rate < -GUEST_CLOCK_RATE_MAX ? -GUEST_CLOCK_RATE_MAX : rate;
}

static void piece_set(struct guest_clock_piece *p, uint64_t host_ns, uint64_t guest_ns,
		      int64_t rate)
{
	atomic_store_explicit(&p->host_ns, host_ns, memory_order_release);
	atomic_store_explicit(&p->guest_ns, guest_ns, memory_order_release);
	atomic_store_explicit(&p->rate, rate, memory_order_release);
}

static void piece_copy(struct guest_clock_piece *to, const struct guest_clock_piece *from)
{
	piece_set(to, atomic_load(&from->host_ns), atomic_load(&from->guest_ns),
		  atomic_load(&from->rate));
}

/* From here to write_end readers wait. The host's clock is to be read after this (clock.h). */
static void write_begin(struct guest_clock *c)
{
	atomic_fetch_add(&c->seq, 1);
}

static void write_end(struct guest_clock *c)
{
	atomic_fetch_add_explicit(&c->seq, 1, memory_order_release);
}

void guest_clock_init(struct guest_clock *c, const struct guest_clock_source *source,
		      uint64_t host_ns, uint64_t guest_ns)
{
	memset(c, 0, sizeof(*c));
	if (source)
		c->source = *source;
	guest_clock_step(c, host_ns, guest_ns, 0);
}

void guest_clock_step(struct guest_clock *c, uint64_t host_ns, uint64_t guest_ns, int64_t rate)
{
	write_begin(c);
	piece_set(&c->prev, host_ns, guest_ns, rate_cut(rate));
	piece_set(&c->next, host_ns, guest_ns, rate_cut(rate));
	write_end(c);
}

int guest_clock_slew(struct guest_clock *c, int64_t rate)
{
	uint64_t from_ns;
	int err = 0;

	write_begin(c);
	from_ns = guest_clock_host_ns(c);
	if (from_ns < atomic_load(&c->next.host_ns)) {
		err = -EAGAIN; /* two pieces are all that readers know */
	} else {
		from_ns += GUEST_CLOCK_LEAD_NS;
		piece_copy(&c->prev, &c->next);
		piece_set(&c->next, from_ns, guest_clock_compute(c, from_ns), rate_cut(rate));
	}
	write_end(c);
	return err;
}

int64_t guest_clock_rate(const struct guest_clock *c)
{
	return atomic_load(&c->next.rate);
}
