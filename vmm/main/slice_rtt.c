/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the round trips to the other slices, one ping at a time, for the distances of the SLIT
 * and for the guest's time; then follows slice 0's clock as long as the slice lives. */
#include "vmm/main/slice.h"

/* The shortest of this many: a busy host delays some, hardly all. */
#define RTT_PINGS 24
/* A ping in flight is looked after this often. */
#define RTT_TICK_MS 1
/* Then the distances stay at their defaults where no answer came. */
#define RTT_TIMEOUT_MS 2000
/* Without slice 0's clock there is no guest time, and so no VM. */
#define ALIGN_TIMEOUT_MS 30000

static bool peer_measured(struct slice *s, unsigned peer)
{
	unsigned answers;

	machine_ping_best(s->machine, peer, &answers);
	if (answers < RTT_PINGS && answers == s->rtt_sent[peer]) {
		s->rtt_sent[peer]++;
		machine_ping(s->machine, peer); /* not sent: the timeout covers it */
	}
	return answers >= RTT_PINGS;
}

static void clock_tick(uv_timer_t *timer)
{
	struct slice *s = timer->data;
	unsigned next_ms = s->state == SLICE_ENDING ? 0 : machine_clock_burst(s->machine);
	struct machine_stats stats;

	machine_stats(s->machine, &stats);
	engine_clock_set(s->engine, stats.clock_offset_ns);
	if (next_ms)
		uv_timer_start(timer, clock_tick, next_ms, 0);
}

static void rtt_tick(uv_timer_t *timer)
{
	struct slice *s = timer->data;
	uint64_t past_ms = uv_now(&s->loop) - s->rtt_start_ms;
	bool all = true;
	int err;

	for (unsigned i = 0; i < s->config.shape.slices; i++)
		if (i != s->config.self)
			all &= peer_measured(s, i);
	if (!all && past_ms < RTT_TIMEOUT_MS)
		return;
	err = machine_clock_align(s->machine);
	if (err && past_ms < ALIGN_TIMEOUT_MS)
		return;
	uv_timer_stop(timer);
	if (err) {
		slice_exit(s, EXIT_ERROR, "slice 0 did not tell its clock within %d s",
			   ALIGN_TIMEOUT_MS / 1000);
		return;
	}
	clock_tick(timer);
	slice_measured(s);
}

void slice_rtt_measure(struct slice *s)
{
	uv_update_time(&s->loop);
	s->rtt_start_ms = uv_now(&s->loop);
	uv_timer_start(&s->rtt_timer, rtt_tick, 0, RTT_TICK_MS);
}

json_t *slice_rtt_list(struct slice *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < s->config.shape.slices; i++) {
		uint64_t best_ns = machine_ping_best(s->machine, i, NULL);

		json_array_append_new(list, json_integer((json_int_t)best_ns));
	}
	return list;
}

json_t *slice_links_list(struct slice *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < s->config.shape.slices; i++)
		json_array_append_new(list, json_string(link_kind_word(engine_link(s->engine, i))));
	return list;
}
