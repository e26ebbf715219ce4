/* SPDX-License-Identifier: Apache-2.0 */
/* Units of the protocol core: one slice, one message at a time, and what it must answer. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dsm/protocol/protocol_parts.h"

#define MEM_SIZE (1u << 20)
#define HOLD_NS	 8000
/* Chunk k is homed at slice k; slice 0 is the one under test. */
#define SLICES	 4
#define GFN_OURS 5u
#define GFN_OF1	 (CHUNK_PAGES + 7u)

static uint8_t homes[SLICES] = {0, 1, 2, 3};
static _Alignas(64) uint8_t mem[MEM_SIZE];
static struct protocol_actions out;
static uint64_t now;

static struct protocol_config config_make(void)
{
	return (struct protocol_config){.self = 0,
					.slices = SLICES,
					.epoch = 7,
					.gfns = SLICES * CHUNK_PAGES,
					.home_of_chunk = homes,
					.requests_max = 2};
}

static struct protocol *start_with(uint64_t hold_ns)
{
	struct protocol_config config = config_make();
	config.hold_ns = hold_ns;
	cr_assert_leq(protocol_size(&config), MEM_SIZE);
	memset(mem, 0, sizeof(mem));
	now = 1000;
	return protocol_init(mem, &config);
}

static struct protocol *start(void)
{
	return start_with(0);
}

static int step(struct protocol *p, enum protocol_event_type type, uint64_t gfn)
{
	struct protocol_event event = {.type = type, .gfn = gfn, .now_ns = now};
	return protocol_step(p, &event, &out);
}

struct extra {
	unsigned flags, acks, bytes;
};

static void receive_with(struct protocol *p, unsigned from, unsigned type, uint64_t gfn,
			 unsigned requester, struct extra extra)
{
	struct protocol_event event = {.type = EVENT_MESSAGE, .from = from, .now_ns = now};
	event.msg = msg_make(p, type, gfn, requester);
	event.msg.flags = (uint8_t)extra.flags;
	event.msg.acks = (uint16_t)extra.acks;
	event.msg.payload_len = extra.bytes;
	cr_assert_eq(protocol_step(p, &event, &out), 0);
}

static void receive(struct protocol *p, unsigned from, unsigned type, uint64_t gfn,
		    unsigned requester)
{
	receive_with(p, from, type, gfn, requester, (struct extra){0});
}

static const struct extra page_shared = {.bytes = PANGEA_PAGE_SIZE};
static const struct extra page_exclusive = {.flags = MSG_FLAG_EXCLUSIVE, .bytes = PANGEA_PAGE_SIZE};
static const struct extra zero_exclusive = {.flags = MSG_FLAG_EXCLUSIVE | MSG_FLAG_ZERO};

static void expect_action(unsigned index, enum protocol_action_type type)
{
	cr_assert_lt(index, out.count, "action %u is missing", index);
	cr_assert_eq(out.list[index].type, type, "action %u is %u, not %u", index,
		     out.list[index].type, type);
}

static const struct wire_msg *expect_send(unsigned index, enum protocol_action_type type,
					  unsigned to, unsigned msg_type)
{
	expect_action(index, type);
	const struct protocol_action *a = &out.list[index];
	cr_assert_eq(a->to, to, "action %u goes to %u, not %u", index, a->to, to);
	cr_assert_eq(a->msg.type, msg_type, "action %u is message %u, not %u", index, a->msg.type,
		     msg_type);
	return &a->msg;
}

static void expect_state(const struct protocol *p, uint64_t gfn, const char *state)
{
	cr_assert_str_eq(protocol_page_state(p, gfn), state);
}

static void expect_violation(const struct protocol *p, unsigned from)
{
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_VIOLATION);
	cr_assert_eq(out.list[0].to, from);
	cr_assert_not_null(out.list[0].why);
	cr_assert_gt(protocol_stats(p)->violations, 0);
}

/* --- reads and writes from this side --- */

/* Brings the page of slice 1 here in state S or M. */
static void fetch(struct protocol *p, bool write)
{
	step(p, write ? EVENT_FAULT_WRITE : EVENT_FAULT_READ, GFN_OF1);
	receive_with(p, 1, MSG_DATA, GFN_OF1, 0, write ? page_exclusive : page_shared);
	expect_state(p, GFN_OF1, write ? "M" : "S");
}

Test(protocol, a_read_asks_the_home_and_maps_what_comes)
{
	struct protocol *p = start();
	cr_assert_eq(step(p, EVENT_FAULT_READ, GFN_OF1), 0);
	cr_assert_eq(out.count, 1);
	const struct wire_msg *get = expect_send(0, ACTION_SEND, 1, MSG_GET_S);
	cr_assert_eq(get->epoch, 7);
	cr_assert_eq(get->requester, 0);
	expect_state(p, GFN_OF1, "IS");
	receive_with(p, 2, MSG_DATA, GFN_OF1, 0, page_shared); /* from the owner, straight */
	cr_assert_eq(out.count, 2);
	expect_action(0, ACTION_MAP_SHARED);
	expect_send(1, ACTION_SEND, 1, MSG_DONE);
	cr_assert_eq(protocol_stats(p)->pages_shared, 1);
	cr_assert_eq(protocol_stats(p)->requests_read, 1);
	cr_assert_eq(protocol_stats(p)->data_received, 1);
}

Test(protocol, the_home_needs_no_done_for_what_it_sends_alone)
{
	struct protocol *p = start();
	fetch(p, false);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_SHARED);
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	receive(p, 1, MSG_GRANT, GFN_OF1, 0);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_UPGRADE);
	receive(p, 1, MSG_FWD_M, GFN_OF1, 2);
	fetch(p, true);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_EXCLUSIVE);
	cr_assert_eq(p->requests.used, 0);
	receive(p, 1, MSG_FWD_M, GFN_OF1, 2);
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	receive_with(p, 2, MSG_DATA, GFN_OF1, 0, page_exclusive); /* from the owner: it does */
	cr_assert_eq(out.count, 2);
	expect_send(1, ACTION_SEND, 1, MSG_DONE);
	receive(p, 1, MSG_GET_M, GFN_OURS, 1); /* and the other way round */
	receive(p, 1, MSG_DONE, GFN_OURS, 1);
	expect_violation(p, 1);
}

Test(protocol, a_second_fault_joins_and_a_satisfied_one_only_wakes)
{
	struct protocol *p = start();
	step(p, EVENT_FAULT_READ, GFN_OF1);
	cr_assert_eq(step(p, EVENT_FAULT_WRITE, GFN_OF1), 0);
	cr_assert_eq(out.count, 0);
	receive_with(p, 1, MSG_DATA, GFN_OF1, 0, page_shared);
	step(p, EVENT_FAULT_READ, GFN_OF1);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_WAKE);
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	expect_send(0, ACTION_SEND, 1, MSG_GET_M);
	step(p, EVENT_FAULT_READ, GFN_OF1);
	expect_action(0, ACTION_WAKE);
}

Test(protocol, acks_may_come_before_the_page)
{
	struct protocol *p = start();
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	receive(p, 2, MSG_ACK, GFN_OF1, 0);
	cr_assert_eq(out.count, 0);
	struct extra extra = page_exclusive;
	extra.acks = 2;
	receive_with(p, 1, MSG_DATA, GFN_OF1, 0, extra);
	cr_assert_eq(out.count, 0);
	expect_state(p, GFN_OF1, "IMA");
	step(p, EVENT_FAULT_READ, GFN_OF1); /* not yet: others may still read the old page */
	cr_assert_eq(out.count, 0);
	receive(p, 2, MSG_ACK, GFN_OF1, 0); /* twice from one sharer */
	expect_violation(p, 2);
	receive(p, 3, MSG_ACK, GFN_OF1, 0);
	cr_assert_eq(out.count, 2);
	expect_action(0, ACTION_MAP_EXCLUSIVE);
	expect_send(1, ACTION_SEND, 1, MSG_DONE);
	cr_assert_eq(protocol_stats(p)->pages_exclusive, 1);
}

Test(protocol, an_upgrade_needs_no_data)
{
	struct protocol *p = start();
	fetch(p, false);
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	expect_state(p, GFN_OF1, "SM");
	receive_with(p, 1, MSG_GRANT, GFN_OF1, 0, (struct extra){.acks = 1});
	cr_assert_eq(out.count, 0);
	expect_state(p, GFN_OF1, "SMA");
	receive(p, 3, MSG_ACK, GFN_OF1, 0);
	expect_action(0, ACTION_MAP_UPGRADE);
	expect_send(1, ACTION_SEND, 1, MSG_DONE);
	cr_assert_eq(protocol_stats(p)->requests_upgrade, 1);
}

Test(protocol, an_upgrade_that_comes_second_becomes_a_write)
{
	struct protocol *p = start();
	fetch(p, false);
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	receive(p, 1, MSG_INV, GFN_OF1, 2);
	expect_action(0, ACTION_UNMAP);
	expect_send(1, ACTION_SEND, 2, MSG_ACK);
	expect_state(p, GFN_OF1, "IM");
	receive(p, 1, MSG_GRANT, GFN_OF1, 0); /* there is nothing to grant on */
	expect_violation(p, 1);
	receive_with(p, 2, MSG_DATA, GFN_OF1, 0, page_exclusive);
	expect_action(0, ACTION_MAP_EXCLUSIVE);
}

Test(protocol, a_zero_page_clears_only_a_frame_that_was_used)
{
	struct protocol *p = start();
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	receive_with(p, 1, MSG_DATA, GFN_OF1, 0, zero_exclusive);
	expect_action(0, ACTION_MAP_EXCLUSIVE);
	receive(p, 1, MSG_FWD_M, GFN_OF1, 2);
	expect_action(0, ACTION_UNMAP);
	const struct wire_msg *data = expect_send(1, ACTION_SEND_PAGE, 2, MSG_DATA);
	cr_assert_eq(data->flags, MSG_FLAG_EXCLUSIVE);
	cr_assert_eq(data->payload_len, PANGEA_PAGE_SIZE);
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	receive_with(p, 2, MSG_DATA, GFN_OF1, 0, zero_exclusive);
	expect_action(0, ACTION_ZERO_FRAME);
	expect_action(1, ACTION_MAP_EXCLUSIVE);
	cr_assert_eq(protocol_stats(p)->zero_pages, 2);
}

Test(protocol, an_owner_answers_the_requester_and_writes_back)
{
	struct protocol *p = start();
	fetch(p, true);
	receive(p, 1, MSG_FWD_S, GFN_OF1, 3);
	cr_assert_eq(out.count, 3);
	expect_action(0, ACTION_PROTECT);
	cr_assert_eq(expect_send(1, ACTION_SEND_PAGE, 3, MSG_DATA)->flags, 0);
	expect_send(2, ACTION_SEND_PAGE, 1, MSG_WB);
	expect_state(p, GFN_OF1, "S");
}

Test(protocol, no_write_back_when_the_home_is_the_reader)
{
	struct protocol *p = start();
	fetch(p, true);
	receive(p, 1, MSG_FWD_S, GFN_OF1, 1);
	cr_assert_eq(out.count, 2);
	expect_action(0, ACTION_PROTECT);
	expect_send(1, ACTION_SEND_PAGE, 1, MSG_DATA);
}

/* --- eviction --- */

Test(protocol, evictions_keep_the_frame_until_the_home_is_done)
{
	struct protocol *p = start();
	fetch(p, true);
	step(p, EVENT_EVICT, GFN_OF1);
	expect_action(0, ACTION_UNMAP);
	expect_send(1, ACTION_SEND_PAGE, 1, MSG_PUT_M);
	expect_state(p, GFN_OF1, "MI");
	step(p, EVENT_FAULT_WRITE, GFN_OF1); /* waits */
	cr_assert_eq(out.count, 0);
	receive(p, 1, MSG_FWD_S, GFN_OF1, 3); /* race 4 */
	cr_assert_eq(out.count, 2);
	expect_send(0, ACTION_SEND_PAGE, 3, MSG_DATA);
	expect_send(1, ACTION_SEND_PAGE, 1, MSG_WB);
	expect_state(p, GFN_OF1, "II");
	receive(p, 1, MSG_PUT_ACK, GFN_OF1, 0);
	expect_action(0, ACTION_DROP_FRAME);
	expect_action(1, ACTION_WAKE);
	expect_state(p, GFN_OF1, "I");
}

Test(protocol, an_inv_that_crosses_put_s_is_acknowledged)
{
	struct protocol *p = start();
	fetch(p, false);
	step(p, EVENT_EVICT, GFN_OF1);
	expect_send(1, ACTION_SEND, 1, MSG_PUT_S);
	receive(p, 1, MSG_INV, GFN_OF1, 2);
	cr_assert_eq(out.count, 1);
	expect_send(0, ACTION_SEND, 2, MSG_ACK);
	receive(p, 1, MSG_INV, GFN_OF1, 2);
	expect_violation(p, 1);
	receive(p, 1, MSG_PUT_ACK, GFN_OF1, 0);
	expect_state(p, GFN_OF1, "I");
}

Test(protocol, the_home_never_evicts_and_a_busy_page_is_left)
{
	struct protocol *p = start();
	step(p, EVENT_FAULT_WRITE, GFN_OURS);
	step(p, EVENT_EVICT, GFN_OURS);
	cr_assert_eq(out.count, 0);
	expect_state(p, GFN_OURS, "M");
	step(p, EVENT_FAULT_READ, GFN_OF1);
	step(p, EVENT_EVICT, GFN_OF1);
	cr_assert_eq(out.count, 0);
	expect_state(p, GFN_OF1, "IS");
}

/* --- the home --- */

Test(protocol, the_homes_own_faults_cost_no_message)
{
	struct protocol *p = start();
	step(p, EVENT_FAULT_READ, GFN_OURS);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_SHARED);
	step(p, EVENT_FAULT_WRITE, GFN_OURS);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_UPGRADE);
	step(p, EVENT_FAULT_WRITE, GFN_OURS + 1);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_EXCLUSIVE);
	cr_assert_eq(protocol_stats(p)->faults_local, 3);
	cr_assert_eq(protocol_stats(p)->requests_read, 0);
	cr_assert_eq(protocol_stats(p)->pages_exclusive, 0);
}

Test(protocol, an_untouched_page_is_a_flag)
{
	struct protocol *p = start();
	receive(p, 2, MSG_GET_S, GFN_OURS, 2);
	cr_assert_eq(out.count, 1);
	cr_assert_eq(expect_send(0, ACTION_SEND, 2, MSG_DATA)->flags, MSG_FLAG_ZERO);
	receive(p, 3, MSG_GET_S, GFN_OURS, 3); /* still never written */
	cr_assert_eq(expect_send(0, ACTION_SEND, 3, MSG_DATA)->flags, MSG_FLAG_ZERO);
	receive(p, 1, MSG_GET_M, GFN_OURS, 1);
	cr_assert_eq(out.count, 3);
	expect_send(0, ACTION_SEND, 2, MSG_INV);
	expect_send(1, ACTION_SEND, 3, MSG_INV);
	const struct wire_msg *data = expect_send(2, ACTION_SEND, 1, MSG_DATA);
	cr_assert_eq(data->flags, MSG_FLAG_ZERO | MSG_FLAG_EXCLUSIVE);
	cr_assert_eq(data->acks, 2);
}

Test(protocol, the_home_answers_for_its_own_copy)
{
	struct protocol *p = start();
	step(p, EVENT_FAULT_WRITE, GFN_OURS);
	receive(p, 2, MSG_GET_S, GFN_OURS, 2);
	cr_assert_eq(out.count, 2);
	expect_action(0, ACTION_PROTECT);
	expect_send(1, ACTION_SEND_PAGE, 2, MSG_DATA);
	receive(p, 2, MSG_GET_M, GFN_OURS, 2);
	cr_assert_eq(out.count, 2);
	expect_action(0, ACTION_UNMAP);
	cr_assert_eq(expect_send(1, ACTION_SEND, 2, MSG_GRANT)->acks, 0);
	cr_assert_eq(protocol_stats(p)->invalidations, 1);
	step(p, EVENT_FAULT_READ, GFN_OURS);
	expect_send(0, ACTION_SEND, 2, MSG_FWD_S);
	receive_with(p, 2, MSG_DATA, GFN_OURS, 0, page_shared); /* no WB follows */
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_SHARED);
	receive(p, 3, MSG_GET_S, GFN_OURS, 3);
	expect_send(0, ACTION_SEND_PAGE, 3, MSG_DATA);
}

Test(protocol, the_homes_own_copy_goes_before_the_page)
{
	struct protocol *p = start_with(HOLD_NS);
	step(p, EVENT_FAULT_WRITE, GFN_OURS);
	receive(p, 2, MSG_GET_M, GFN_OURS, 2); /* soon: from now on it is contended */
	expect_action(0, ACTION_UNMAP);
	step(p, EVENT_FAULT_WRITE, GFN_OURS);
	receive_with(p, 2, MSG_DATA, GFN_OURS, 0, page_exclusive);
	receive(p, 3, MSG_GET_S, GFN_OURS, 3);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_HOLD_TIMER);
	receive(p, 1, MSG_GET_S, GFN_OURS, 1); /* waits */
	cr_assert_eq(out.count, 0);
	now = out.list[0].deadline_ns;
	step(p, EVENT_HOLD_END, GFN_OURS);
	cr_assert_eq(out.count, 3);
	expect_action(0, ACTION_PROTECT);
	cr_assert_eq(expect_send(1, ACTION_SEND_PAGE, 3, MSG_DATA)->acks, 0);
	expect_send(2, ACTION_SEND_PAGE, 1, MSG_DATA);
	receive(p, 3, MSG_GET_M, GFN_OURS, 3); /* our copy in hold, and slice 1 has one */
	cr_assert_eq(out.count, 2);
	expect_send(0, ACTION_SEND, 1, MSG_INV);
	expect_action(1, ACTION_HOLD_TIMER);
	receive(p, 1, MSG_PUT_S, GFN_OURS, 1); /* crosses its INV, which it will acknowledge */
	expect_send(0, ACTION_SEND, 1, MSG_PUT_ACK);
	step(p, EVENT_HOLD_END, GFN_OURS);
	cr_assert_eq(out.count, 2);
	expect_action(0, ACTION_UNMAP);
	cr_assert_eq(expect_send(1, ACTION_SEND, 3, MSG_GRANT)->acks, 1);
	receive(p, 1, MSG_GET_S, GFN_OURS, 1);
	cr_assert_eq(out.count, 0);
	receive(p, 3, MSG_DONE, GFN_OURS, 3);
	expect_send(0, ACTION_SEND, 3, MSG_FWD_S);
}

/* Slice 1 owns our page. */
static void owned_by_1(struct protocol *p)
{
	receive(p, 1, MSG_GET_M, GFN_OURS, 1);
}

Test(protocol, one_transaction_at_a_time_and_nobody_is_forgotten)
{
	struct protocol *p = start();
	owned_by_1(p);
	receive(p, 2, MSG_GET_S, GFN_OURS, 2);
	expect_send(0, ACTION_SEND, 1, MSG_FWD_S);
	cr_assert_eq(out.list[0].msg.requester, 2);
	receive(p, 3, MSG_GET_M, GFN_OURS, 3);
	cr_assert_eq(out.count, 0);
	cr_assert_eq(step(p, EVENT_FAULT_WRITE, GFN_OURS), 0);
	cr_assert_eq(out.count, 0);
	receive(p, 3, MSG_GET_M, GFN_OURS, 3); /* already in the queue */
	expect_violation(p, 3);
	receive(p, 2, MSG_GET_S, GFN_OURS, 2); /* already being served */
	expect_violation(p, 2);
	receive(p, 2, MSG_DONE, GFN_OURS, 2);
	cr_assert_eq(out.count, 0);
	receive_with(p, 1, MSG_WB, GFN_OURS, 2, page_shared);
	cr_assert_eq(out.count, 3); /* slice 3 is next */
	expect_send(0, ACTION_SEND, 1, MSG_INV);
	expect_send(1, ACTION_SEND, 2, MSG_INV);
	cr_assert_eq(expect_send(2, ACTION_SEND_PAGE, 3, MSG_DATA)->acks, 2);
	receive(p, 3, MSG_DONE, GFN_OURS, 3);
	expect_send(0, ACTION_SEND, 3, MSG_FWD_M); /* for us */
	receive_with(p, 3, MSG_DATA, GFN_OURS, 0, page_exclusive);
	expect_action(0, ACTION_MAP_EXCLUSIVE);
}

Test(protocol, done_that_overtakes_wb_keeps_the_page_busy)
{
	struct protocol *p = start();
	owned_by_1(p);
	receive(p, 2, MSG_GET_S, GFN_OURS, 2);
	expect_send(0, ACTION_SEND, 1, MSG_FWD_S);
	receive(p, 2, MSG_DONE, GFN_OURS, 2);
	receive(p, 3, MSG_GET_S, GFN_OURS, 3);
	cr_assert_eq(out.count, 0);	       /* the frame here is stale */
	receive(p, 2, MSG_PUT_S, GFN_OURS, 2); /* the reader may even be gone again */
	expect_send(0, ACTION_SEND, 2, MSG_PUT_ACK);
	receive_with(p, 1, MSG_WB, GFN_OURS, 2, page_shared);
	cr_assert_eq(out.count, 1);
	expect_send(0, ACTION_SEND_PAGE, 3, MSG_DATA);
}

Test(protocol, a_write_back_becomes_the_homes_page)
{
	struct protocol *p = start();
	owned_by_1(p);
	struct wire_msg put = msg_make(p, MSG_PUT_M, GFN_OURS, 1);
	put.payload_len = PANGEA_PAGE_SIZE;
	cr_assert(protocol_awaits_page(p, 1, &put));
	cr_assert_not(protocol_awaits_page(p, 2, &put));
	receive_with(p, 1, MSG_PUT_M, GFN_OURS, 1, page_shared);
	cr_assert_eq(out.count, 1);
	expect_send(0, ACTION_SEND, 1, MSG_PUT_ACK);
	receive(p, 3, MSG_GET_M, GFN_OURS, 3);
	cr_assert_eq(out.count, 1);
	expect_send(0, ACTION_SEND_PAGE, 3, MSG_DATA);
}

Test(protocol, a_put_m_that_crosses_its_fwd_is_acknowledged_at_the_end)
{
	struct protocol *p = start();
	owned_by_1(p);
	receive(p, 2, MSG_GET_M, GFN_OURS, 2);
	expect_send(0, ACTION_SEND, 1, MSG_FWD_M);
	receive_with(p, 1, MSG_PUT_M, GFN_OURS, 1, page_shared);
	cr_assert_eq(out.count, 0); /* what it sent to 2 may be on its way from that frame */
	receive(p, 2, MSG_DONE, GFN_OURS, 2);
	cr_assert_eq(out.count, 1);
	expect_send(0, ACTION_SEND, 1, MSG_PUT_ACK);
	/* Once more from slice 1 would be late, and is let pass; the owner's own counts. */
	receive(p, 3, MSG_GET_S, GFN_OURS, 3);
	expect_send(0, ACTION_SEND, 2, MSG_FWD_S);
}

Test(protocol, late_puts_change_nothing)
{
	struct protocol *p = start();
	owned_by_1(p);
	receive(p, 2, MSG_GET_M, GFN_OURS, 2);
	receive(p, 2, MSG_DONE, GFN_OURS, 2);
	receive_with(p, 1, MSG_PUT_M, GFN_OURS, 1, page_shared);
	cr_assert_eq(out.count, 1);
	expect_send(0, ACTION_SEND, 1, MSG_PUT_ACK);
	receive(p, 3, MSG_PUT_S, GFN_OURS, 3);
	expect_send(0, ACTION_SEND, 3, MSG_PUT_ACK);
	step(p, EVENT_FAULT_READ, GFN_OURS);
	expect_send(0, ACTION_SEND, 2, MSG_FWD_S);
}

Test(protocol, awaits_says_what_the_step_will_do)
{
	struct protocol *p = start();
	struct wire_msg data = msg_make(p, MSG_DATA, GFN_OF1, 0);
	data.payload_len = PANGEA_PAGE_SIZE;
	cr_assert_not(protocol_awaits_page(p, 1, &data));
	step(p, EVENT_FAULT_READ, GFN_OF1);
	cr_assert(protocol_awaits_page(p, 1, &data));
	cr_assert(protocol_awaits_page(p, 2, &data));
	data.epoch--;
	cr_assert_not(protocol_awaits_page(p, 1, &data));
	data.epoch++;
	data.flags = MSG_FLAG_EXCLUSIVE;
	cr_assert_not(protocol_awaits_page(p, 1, &data));
	data.flags = 0;
	data.payload_len = 0;
	cr_assert_not(protocol_awaits_page(p, 1, &data));
}

/* --- epoch, hold time, loss --- */

Test(protocol, another_epoch_is_dropped_and_counted)
{
	struct protocol *p = start();
	for (unsigned epoch = 6; epoch <= 8; epoch += 2) {
		struct protocol_event event = {.type = EVENT_MESSAGE, .from = 1, .now_ns = now};
		event.msg = msg_make(p, MSG_GET_M, GFN_OURS, 1);
		event.msg.epoch = epoch;
		cr_assert_eq(protocol_step(p, &event, &out), 0);
		cr_assert_eq(out.count, 0);
	}
	cr_assert_eq(protocol_stats(p)->dropped, 2);
	receive(p, 1, MSG_GET_M, GFN_OURS, 1); /* not busy */
	cr_assert_eq(out.count, 1);
}

/* Takes the page of slice 1 here and has it stolen at once; returns when it will be given up. */
static uint64_t steal(struct protocol *p)
{
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	receive_with(p, 1, MSG_DATA, GFN_OF1, 0, page_exclusive);
	now += 10;
	receive(p, 1, MSG_FWD_M, GFN_OF1, 2);
	if (out.list[0].type != ACTION_HOLD_TIMER)
		return 0;
	cr_assert_eq(out.count, 1);
	expect_state(p, GFN_OF1, "M");
	return out.list[0].deadline_ns;
}

Test(protocol, the_hold_time_grows_with_contention_and_goes_without)
{
	struct protocol *p = start_with(HOLD_NS);
	cr_assert_eq(steal(p), 0); /* nobody contends yet */
	uint64_t expected[] = {HOLD_NS / 4, HOLD_NS / 2, HOLD_NS, HOLD_NS};
	for (unsigned i = 0; i < 4; i++) {
		uint64_t granted = now, deadline = steal(p);
		cr_assert_eq(deadline, granted + expected[i]);
		now = deadline;
		step(p, EVENT_HOLD_END, GFN_OF1);
		expect_action(0, ACTION_UNMAP);
		expect_send(1, ACTION_SEND_PAGE, 2, MSG_DATA);
	}
	cr_assert_eq(protocol_stats(p)->deferred, 4);
	for (unsigned i = 0; i < 4; i++) {
		step(p, EVENT_FAULT_WRITE, GFN_OF1);
		receive_with(p, 1, MSG_DATA, GFN_OF1, 0, page_exclusive);
		now += 10 * HOLD_NS;
		receive(p, 1, MSG_FWD_M, GFN_OF1, 2);
		expect_action(0, ACTION_UNMAP);
	}
	cr_assert_eq(steal(p), 0);
}

/* Slice `requester` wants the page that this slice has; true if it must wait. */
static bool kept_from(struct protocol *p, unsigned requester, struct protocol_event event)
{
	event.type = EVENT_MESSAGE;
	event.from = 1;
	event.gfn = GFN_OF1;
	event.now_ns = now;
	event.msg = msg_make(p, MSG_FWD_M, GFN_OF1, requester);
	cr_assert_eq(protocol_step(p, &event, &out), 0);
	cr_assert_eq(out.list[0].type == ACTION_HOLD_TIMER,
		     !strcmp(protocol_page_state(p, GFN_OF1), "M"));
	return out.list[0].type == ACTION_HOLD_TIMER;
}

static void contend(struct protocol *p)
{
	for (unsigned i = 0; i < 2; i++) {
		fetch(p, true);
		now += 10;
		if (kept_from(p, 2, (struct protocol_event){0}))
			step(p, EVENT_HOLD_END, GFN_OF1);
	}
	cr_assert(protocol_page_contended(p, GFN_OF1));
}

Test(protocol, in_its_turn_a_slice_keeps_contended_pages)
{
	struct protocol *p = start_with(HOLD_NS);
	struct protocol_event turn = {.turn_ns = 100 * HOLD_NS};

	contend(p);
	fetch(p, true);
	now += 3 * HOLD_NS; /* the hold time is over and does not matter */
	turn.turn_end_ns = now + 7 * HOLD_NS;
	turn.turn = 0; /* its own */
	cr_assert(kept_from(p, 2, turn));
	cr_assert_eq(out.list[0].deadline_ns, turn.turn_end_ns);
	now = turn.turn_end_ns;
	step(p, EVENT_HOLD_END, GFN_OF1);
	expect_state(p, GFN_OF1, "I");
	fetch(p, true);
	turn.turn_end_ns = now + 1;
	turn.turn = 1; /* the order is 1, 2, 0 */
	cr_assert_not(kept_from(p, 2, turn));
	fetch(p, true);
	turn.turn = 2; /* the order is 2, 0, 1 */
	cr_assert_not(kept_from(p, 2, turn));
	fetch(p, true);
	cr_assert(kept_from(p, 1, turn));
}

Test(protocol, a_contended_page_stays_until_it_is_used)
{
	struct protocol *p = start_with(HOLD_NS);
	struct protocol_event unused = {.unused = true};

	fetch(p, true);
	cr_assert_not(kept_from(p, 2, unused)); /* nobody contends yet */
	contend(p);
	fetch(p, true);
	now += 100 * HOLD_NS;
	cr_assert(kept_from(p, 2, unused));
	cr_assert_eq(out.list[0].deadline_ns, now + HOLD_NS);
	step(p, EVENT_HOLD_END, GFN_OF1); /* the engine says when it was used */
	expect_state(p, GFN_OF1, "I");
}

/* Slice 2 asks for it this long after it came; what the hold time was. */
static uint64_t asked_after(struct protocol *p, uint64_t ns, uint64_t long_hold_ns)
{
	struct protocol_event event = {.long_hold_ns = long_hold_ns};
	uint64_t granted_ns;

	fetch(p, true);
	granted_ns = now;
	now += ns;
	if (!kept_from(p, 2, event))
		return 0;
	now = out.list[0].deadline_ns;
	step(p, EVENT_HOLD_END, GFN_OF1);
	expect_state(p, GFN_OF1, "I");
	return now - granted_ns;
}

Test(protocol, a_page_that_is_asked_for_soon_again_and_again_is_held_long)
{
	struct protocol *p = start_with(HOLD_NS);
	const uint64_t long_ns = 10 * HOLD_NS;

	for (unsigned i = 0; i < HOLD_LONG_AFTER - 1; i++)
		cr_assert_leq(asked_after(p, 1, long_ns), HOLD_NS);
	cr_assert_eq(asked_after(p, 1, long_ns), long_ns);
	cr_assert_eq(asked_after(p, long_ns - 1, long_ns), long_ns);
	cr_assert_eq(asked_after(p, long_ns, long_ns), 0); /* soon enough to stay so */
	cr_assert_eq(protocol_page_hold_ns(p, GFN_OF1, long_ns), long_ns);
	cr_assert_eq(asked_after(p, 1, long_ns), long_ns);
	/* Not where it is not known, or shorter. */
	cr_assert_eq(protocol_page_hold_ns(p, GFN_OF1, HOLD_NS / 2), HOLD_NS);
	cr_assert_eq(protocol_page_hold_ns(p, GFN_OF1, 0), HOLD_NS);
	cr_assert_leq(asked_after(p, 1, 0), HOLD_NS);
	cr_assert_eq(asked_after(p, 1, long_ns), long_ns);     /* not forgotten */
	cr_assert_eq(asked_after(p, 2 * long_ns, long_ns), 0); /* late */
	cr_assert_leq(asked_after(p, 1, long_ns), HOLD_NS);
}

Test(protocol, a_page_is_not_held_long_that_is_asked_for_now_and_then)
{
	struct protocol *p = start_with(HOLD_NS);
	const uint64_t long_ns = 10 * HOLD_NS;

	for (unsigned i = 0; i < 10 * HOLD_LONG_AFTER; i++)
		cr_assert_leq(asked_after(p, i % 4 ? 1 : 3 * long_ns, long_ns), HOLD_NS);
}

/* --- pins --- */

Test(protocol, a_pinned_page_is_kept_once_it_is_exclusive)
{
	struct protocol *p = start();
	cr_assert_eq(step(p, EVENT_PIN, GFN_OF1), 0);
	cr_assert_eq(out.count, 0); /* it asks for nothing */
	fetch(p, false);
	cr_assert_not(protocol_page_pinned(p, GFN_OF1));
	receive(p, 1, MSG_INV, GFN_OF1, 2); /* a copy is no use to anybody: it goes */
	expect_action(0, ACTION_UNMAP);
	expect_send(1, ACTION_SEND, 2, MSG_ACK);
	fetch(p, true);
	cr_assert(protocol_page_pinned(p, GFN_OF1));
	step(p, EVENT_EVICT, GFN_OF1);
	cr_assert_eq(out.count, 0);
	receive(p, 1, MSG_FWD_M, GFN_OF1, 2);
	cr_assert_eq(out.count, 0); /* no timer: it stays as long as it is pinned */
	step(p, EVENT_HOLD_END, GFN_OF1);
	expect_state(p, GFN_OF1, "M");
	cr_assert_eq(protocol_stats(p)->deferred, 1);
	receive(p, 1, MSG_FWD_S, GFN_OF1, 3); /* the home has one transaction at a time */
	expect_violation(p, 1);
	step(p, EVENT_UNPIN, GFN_OF1);
	cr_assert_eq(out.count, 2);
	expect_action(0, ACTION_UNMAP);
	expect_send(1, ACTION_SEND_PAGE, 2, MSG_DATA);
	step(p, EVENT_UNPIN, GFN_OF1);
	cr_assert_eq(out.count, 0);
	fetch(p, true);
	receive(p, 1, MSG_FWD_S, GFN_OF1, 2);
	expect_action(0, ACTION_PROTECT);
}

/* A FWD that waits for a hold time must not take a page away that is pinned meanwhile. */
Test(protocol, a_pin_outlasts_the_hold_time)
{
	struct protocol *p = start_with(HOLD_NS);
	cr_assert_eq(steal(p), 0);
	cr_assert_neq(steal(p), 0); /* a FWD_M for slice 2 waits */
	cr_assert_eq(step(p, EVENT_PIN, GFN_OF1), 0);
	now += 10 * HOLD_NS;
	step(p, EVENT_HOLD_END, GFN_OF1);
	cr_assert_eq(out.count, 0);
	cr_assert(protocol_page_pinned(p, GFN_OF1));
	step(p, EVENT_UNPIN, GFN_OF1);
	expect_action(0, ACTION_UNMAP);
	expect_send(1, ACTION_SEND_PAGE, 2, MSG_DATA);
}

/* The home sends the FWD to itself within the step that brings the page. */
Test(protocol, a_homes_own_page_is_pinned_as_it_comes)
{
	struct protocol *p = start();
	receive(p, 2, MSG_GET_M, GFN_OURS, 2);
	cr_assert_eq(step(p, EVENT_PIN, GFN_OURS), 0);
	step(p, EVENT_FAULT_WRITE, GFN_OURS);
	expect_send(0, ACTION_SEND, 2, MSG_FWD_M);
	receive(p, 3, MSG_GET_M, GFN_OURS, 3); /* waits */
	receive_with(p, 2, MSG_DATA, GFN_OURS, 0, page_exclusive);
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_EXCLUSIVE);
	cr_assert(protocol_page_pinned(p, GFN_OURS));
	step(p, EVENT_UNPIN, GFN_OURS);
	cr_assert_eq(out.count, 2);
	expect_action(0, ACTION_UNMAP);
	expect_send(1, ACTION_SEND_PAGE, 3, MSG_DATA);
}

Test(protocol, pins_are_limited_and_end_with_a_loss)
{
	struct protocol *p = start();
	for (unsigned i = 0; i < PROTOCOL_PINS_MAX; i++)
		cr_assert_eq(step(p, EVENT_PIN, GFN_OURS + i), 0);
	cr_assert_eq(step(p, EVENT_PIN, GFN_OURS), 0); /* again */
	cr_assert_eq(step(p, EVENT_PIN, GFN_OF1), -ENOBUFS);
	cr_assert_eq(step(p, EVENT_PIN, SLICES * CHUNK_PAGES), -EFAULT);
	step(p, EVENT_UNPIN, GFN_OURS);
	cr_assert_eq(step(p, EVENT_PIN, GFN_OF1), 0);
	fetch(p, true);
	receive(p, 1, MSG_FWD_M, GFN_OF1, 2);
	struct protocol_event loss = {.type = EVENT_PEER_LOST, .from = 3, .now_ns = now};
	cr_assert_eq(protocol_step(p, &loss, &out), 0);
	step(p, EVENT_UNPIN, GFN_OF1);
	cr_assert_eq(out.count, 0);
	expect_state(p, GFN_OF1, "M");
	cr_assert_eq(step(p, EVENT_PIN, GFN_OF1), -EOWNERDEAD);
}

Test(protocol, a_write_lets_the_deferred_writer_go_first)
{
	struct protocol *p = start_with(HOLD_NS);
	steal(p);
	fetch(p, false);
	receive(p, 1, MSG_INV, GFN_OF1, 2);
	expect_action(0, ACTION_HOLD_TIMER);
	receive(p, 1, MSG_INV, GFN_OF1, 2); /* a second one cannot be */
	expect_violation(p, 1);
	step(p, EVENT_EVICT, GFN_OF1); /* busy */
	cr_assert_eq(out.count, 0);
	step(p, EVENT_FAULT_WRITE, GFN_OF1);
	expect_action(0, ACTION_UNMAP);
	expect_send(1, ACTION_SEND, 2, MSG_ACK);
	expect_send(2, ACTION_SEND, 1, MSG_GET_M);
	expect_state(p, GFN_OF1, "IM");
	step(p, EVENT_HOLD_END, GFN_OF1); /* the timer finds nothing to do */
	cr_assert_eq(out.count, 0);
}

static int lose(struct protocol *p, unsigned slice)
{
	struct protocol_event event = {.type = EVENT_PEER_LOST, .from = slice, .now_ns = now};
	return protocol_step(p, &event, &out);
}

/* Pages 0.. of ours, in every state in which the last write may be on slice 1 alone, or not. */
Test(protocol, a_loss_tells_what_may_have_gone_with_it)
{
	struct protocol *p = start();
	receive(p, 1, MSG_GET_M, 0, 1); /* it owns this one */
	receive(p, 1, MSG_GET_M, 1, 1); /* and this one, which is on its way to a writer: */
	receive(p, 2, MSG_GET_M, 1, 2);
	receive(p, 1, MSG_GET_M, 2, 1); /* to a reader, and the bytes to us: */
	receive(p, 2, MSG_GET_S, 2, 2);
	receive(p, 2, MSG_GET_S, 3, 2); /* it waits for an ACK, or has it and has written: */
	receive(p, 1, MSG_GET_M, 3, 1);
	receive(p, 1, MSG_GET_S, 4, 1); /* it has a copy: no loss */
	receive(p, 2, MSG_GET_M, 5, 2); /* another has the only copy: */
	receive(p, 1, MSG_GET_M, 6, 1); /* the reader has it, and we have the bytes: */
	receive(p, 2, MSG_GET_S, 6, 2);
	receive_with(p, 1, MSG_WB, 6, 2, page_shared);
	receive(p, 1, MSG_GET_M, 7, 1); /* on its way to us: */
	step(p, EVENT_FAULT_READ, 7);
	cr_assert_eq(lose(p, 1), 0);
	static const uint64_t gone[] = {0, 1, 2, 3, 7};
	cr_assert_eq(out.count, 5);
	for (unsigned i = 0; i < 5; i++) {
		expect_action(i, ACTION_PAGE_LOST);
		cr_assert_eq(out.list[i].gfn, gone[i]);
	}
	cr_assert_eq(lose(p, 2), 0);
	cr_assert_eq(out.count, 2);
	cr_assert_eq(out.list[0].gfn, 1);
	cr_assert_eq(out.list[1].gfn, 5);
	cr_assert_eq(lose(p, 0), -EINVAL);
	cr_assert_eq(lose(p, SLICES), -EINVAL);
}

Test(protocol, many_lost_pages_take_several_steps)
{
	static uint8_t all_ours[2 * ACTIONS_MAX / CHUNK_PAGES + 1];
	struct protocol_config config = config_make();
	config.gfns = sizeof(all_ours) * CHUNK_PAGES;
	config.home_of_chunk = all_ours;
	cr_assert_leq(protocol_size(&config), MEM_SIZE);
	memset(mem, 0, sizeof(mem));
	struct protocol *p = protocol_init(mem, &config);
	unsigned owned = 2 * ACTIONS_MAX, lost = 0, steps = 1;
	for (unsigned gfn = 0; gfn < owned; gfn++) {
		receive(p, 1, MSG_GET_M, gfn, 1);
	}
	int err;
	for (; (err = lose(p, 1)) == -EAGAIN; steps++) {
		lost += out.count;
		cr_assert_eq(step(p, EVENT_FAULT_READ, GFN_OURS), -EOWNERDEAD); /* frozen by now */
		cr_assert_eq(lose(p, 2), -EBUSY);
	}
	cr_assert_eq(err, 0);
	cr_assert_eq(lost + out.count, owned);
	cr_assert_gt(steps, 1);
}

/* What is here stays as it is, and is all that there is. */
Test(protocol, after_a_loss_copies_stay_and_nothing_else_is_had)
{
	struct protocol *p = start();
	fetch(p, false);
	step(p, EVENT_FAULT_WRITE, GFN_OURS);
	step(p, EVENT_FAULT_READ, GFN_OURS + 1);
	cr_assert_eq(lose(p, 3), 0);
	cr_assert_eq(out.count, 0);
	static const struct {
		enum protocol_event_type type;
		uint64_t gfn;
		bool here;
	} faults[] = {
		{EVENT_FAULT_READ, GFN_OF1, true},	  {EVENT_FAULT_WRITE, GFN_OF1, false},
		{EVENT_FAULT_READ, GFN_OURS, true},	  {EVENT_FAULT_WRITE, GFN_OURS, true},
		{EVENT_FAULT_WRITE, GFN_OURS + 1, false}, {EVENT_FAULT_READ, GFN_OURS + 2, false},
		{EVENT_FAULT_READ, GFN_OF1 + 1, false}};
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		cr_assert_eq(step(p, faults[i].type, faults[i].gfn),
			     faults[i].here ? 0 : -EOWNERDEAD);
		cr_assert_eq(out.count, faults[i].here);
		if (faults[i].here)
			expect_action(0, ACTION_WAKE);
	}
	step(p, EVENT_EVICT, GFN_OF1);
	cr_assert_eq(out.count, 0);
	expect_state(p, GFN_OF1, "S");
	expect_state(p, GFN_OURS, "M");
	cr_assert_eq(p->requests.used, 0);
}

/* Every message that would be answered, and one that breaks the protocol: nothing comes of them. */
Test(protocol, after_a_loss_no_message_is_taken)
{
	struct protocol *p = start_with(HOLD_NS);
	fetch(p, false);
	step(p, EVENT_FAULT_WRITE, GFN_OF1 + 1);
	struct wire_msg data = msg_make(p, MSG_DATA, GFN_OF1 + 1, 0);
	data.flags = MSG_FLAG_EXCLUSIVE;
	data.payload_len = PANGEA_PAGE_SIZE;
	cr_assert(protocol_awaits_page(p, 1, &data));
	cr_assert_eq(lose(p, 3), 0);
	cr_assert_not(protocol_awaits_page(p, 1, &data));
	static const struct {
		unsigned from, type;
		uint64_t gfn;
		unsigned requester;
	} messages[] = {{1, MSG_INV, GFN_OF1, 2},     {2, MSG_GET_M, GFN_OURS, 2},
			{3, MSG_GET_S, GFN_OURS, 3},  {2, MSG_PUT_S, GFN_OURS, 2},
			{2, MSG_ACK, GFN_OF1 + 1, 0}, {1, MSG_FWD_M, GFN_OF1 + 2, 2}};
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		receive(p, messages[i].from, messages[i].type, messages[i].gfn,
			messages[i].requester);
		cr_assert_eq(out.count, 0);
		cr_assert_eq(protocol_stats(p)->dropped, i + 1);
	}
	receive_with(p, 1, MSG_DATA, GFN_OF1 + 1, 0, page_exclusive);
	cr_assert_eq(out.count, 0);
	expect_state(p, GFN_OF1, "S");
	expect_state(p, GFN_OF1 + 1, "IM");
	cr_assert_eq(protocol_stats(p)->violations, 0);
}

/* --- limits --- */

/* Everybody waits for a page, and one event serves them all: the most actions that there can be. */
Test(protocol, a_full_queue_is_served_in_one_step)
{
	static uint8_t all_ours[1];
	struct protocol_config config = config_make();
	config.slices = SLICES_MAX;
	config.gfns = CHUNK_PAGES;
	config.home_of_chunk = all_ours;
	cr_assert_leq(protocol_size(&config), MEM_SIZE);
	memset(mem, 0, sizeof(mem));
	struct protocol *p = protocol_init(mem, &config);
	receive(p, 1, MSG_GET_M, 0, 1);
	receive(p, 2, MSG_GET_S, 0, 2);
	for (unsigned i = 3; i < SLICES_MAX; i++)
		receive(p, i, i == SLICES_MAX - 1 ? MSG_GET_M : MSG_GET_S, 0, i);
	receive(p, 2, MSG_DONE, 0, 2);
	receive_with(p, 1, MSG_WB, 0, 2, page_shared);
	unsigned readers = SLICES_MAX - 4;
	cr_assert_eq(out.count, readers + readers + 2 + 1); /* DATA, INVs (to 1, 2, too), DATA */
	expect_send(0, ACTION_SEND_PAGE, 3, MSG_DATA);
	expect_send(readers, ACTION_SEND, 1, MSG_INV);
	cr_assert_eq(expect_send(out.count - 1, ACTION_SEND_PAGE, SLICES_MAX - 1, MSG_DATA)->acks,
		     readers + 2);
}

/* --- more slices than the sharer vector has bits --- */

static struct protocol *start_wide(unsigned slices)
{
	static uint16_t all_ours[1];
	struct protocol_config config = config_make();
	config.slices = slices;
	config.gfns = CHUNK_PAGES;
	config.home_of_chunk = NULL;
	config.home_of_chunk_wide = all_ours;
	cr_assert_leq(protocol_size(&config), MEM_SIZE);
	memset(mem, 0, sizeof(mem));
	return protocol_init(mem, &config);
}

/* 100 slices: two to a bit. A write costs an INV to the sharer's neighbour, too. */
Test(protocol, a_group_is_invalidated_as_a_whole)
{
	struct protocol *p = start_wide(100);
	receive(p, 70, MSG_GET_S, GFN_OURS, 70);
	receive(p, 98, MSG_GET_M, GFN_OURS, 98);
	cr_assert_eq(out.count, 3);
	expect_send(0, ACTION_SEND, 70, MSG_INV);
	expect_send(1, ACTION_SEND, 71, MSG_INV);
	cr_assert_eq(expect_send(2, ACTION_SEND, 98, MSG_DATA)->acks, 2);
}

/* The home cannot tell which of a group has a copy: its own slice it knows. */
Test(protocol, a_group_gets_the_page_and_never_a_grant)
{
	struct protocol *p = start_wide(100);
	receive(p, 70, MSG_GET_S, GFN_OURS, 70);
	receive(p, 70, MSG_GET_M, GFN_OURS, 70);
	expect_send(0, ACTION_SEND, 71, MSG_INV);
	expect_send(1, ACTION_SEND, 70, MSG_DATA);
	receive(p, 71, MSG_GET_S, GFN_OURS + 1, 71);
	receive(p, 70, MSG_PUT_S, GFN_OURS + 1, 70); /* it may have had one */
	expect_send(0, ACTION_SEND, 70, MSG_PUT_ACK);
	step(p, EVENT_FAULT_READ, GFN_OURS + 2);
	step(p, EVENT_FAULT_WRITE, GFN_OURS + 2);
	expect_state(p, GFN_OURS + 2, "M");
	cr_assert_eq(out.count, 1);
	expect_action(0, ACTION_MAP_UPGRADE);
}

/* All of the largest machine wait for a page, and one event serves them. */
Test(protocol, a_full_queue_of_1024_slices_is_served_in_one_step)
{
	struct protocol *p = start_wide(PROTOCOL_SLICES_MAX);
	unsigned last = PROTOCOL_SLICES_MAX - 1;
	receive(p, 1, MSG_GET_M, 0, 1);
	receive(p, 2, MSG_GET_S, 0, 2);
	for (unsigned i = 3; i <= last; i++)
		receive(p, i, i == last ? MSG_GET_M : MSG_GET_S, 0, i);
	receive(p, 2, MSG_DONE, 0, 2);
	receive_with(p, 1, MSG_WB, 0, 2, page_shared);
	unsigned readers = PROTOCOL_SLICES_MAX - 4;
	cr_assert_eq(out.count, readers + readers + 2 + 1);
	cr_assert_eq(expect_send(out.count - 1, ACTION_SEND_PAGE, last, MSG_DATA)->acks,
		     readers + 2);
	for (unsigned i = 0; i < out.count; i++)
		cr_assert_eq(out.list[i].type == ACTION_SEND, i >= readers && i < out.count - 1);
}

Test(protocol, acks_of_1024_slices_are_told_apart)
{
	static uint16_t all_of_1[1] = {1};
	struct protocol_config config = config_make();
	config.slices = PROTOCOL_SLICES_MAX;
	config.gfns = CHUNK_PAGES;
	config.home_of_chunk_wide = all_of_1;
	memset(mem, 0, sizeof(mem));
	struct protocol *p = protocol_init(mem, &config);
	step(p, EVENT_FAULT_WRITE, 0);
	receive(p, 1, MSG_INV, 0, 900); /* for another of our group */
	expect_send(0, ACTION_SEND, 900, MSG_ACK);
	expect_state(p, 0, "IM");
	for (unsigned i = 2; i < 1000; i++) {
		receive(p, i, MSG_ACK, 0, 0);
		cr_assert_eq(out.count, 0);
	}
	receive(p, 999, MSG_ACK, 0, 0);
	expect_violation(p, 999);
	struct extra extra = page_exclusive;
	extra.acks = 999;
	receive_with(p, 1, MSG_DATA, 0, 0, extra);
	expect_state(p, 0, "IMA");
	receive(p, 1000, MSG_ACK, 0, 0);
	expect_state(p, 0, "M");
}

Test(protocol, requests_are_bounded)
{
	struct protocol *p = start();
	cr_assert_eq(step(p, EVENT_FAULT_READ, GFN_OF1), 0);
	cr_assert_eq(step(p, EVENT_FAULT_READ, GFN_OF1 + 1), 0);
	cr_assert_eq(step(p, EVENT_FAULT_READ, GFN_OF1 + 2), -EAGAIN);
	cr_assert_eq(out.count, 0);
	expect_state(p, GFN_OF1 + 2, "I");
	receive_with(p, 1, MSG_DATA, GFN_OF1, 0, page_shared);
	cr_assert_eq(step(p, EVENT_FAULT_READ, GFN_OF1 + 2), 0);
	cr_assert_eq(step(p, EVENT_FAULT_READ, SLICES * CHUNK_PAGES), -EFAULT);
}

Test(protocol, a_peer_cannot_fill_the_queues)
{
	struct protocol *p = start();
	unsigned room = SLICES * 2 - 2, refused = 0;
	for (unsigned gfn = 0; gfn < room + 4; gfn++) {
		receive(p, 2, MSG_GET_M, gfn, 2);
		receive(p, 3, MSG_GET_M, gfn, 3);
		receive(p, 1, MSG_GET_M, gfn, 1);
		refused += out.count == 1 && out.list[0].type == ACTION_VIOLATION;
	}
	cr_assert_eq(refused, 4);
	cr_assert_eq(step(p, EVENT_FAULT_READ, 0), 0); /* ours still find room */
	cr_assert_eq(step(p, EVENT_FAULT_READ, 1), 0);
}

Test(protocol, configurations_beyond_the_limits_are_refused)
{
	struct protocol_config good = config_make(), bad;
	cr_assert_gt(protocol_size(&good), 0);
#define REFUSED(field, value)                                                                      \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.field = (value);                                                               \
		cr_assert_eq(protocol_size(&bad), 0, #field);                                      \
		cr_assert_null(protocol_init(mem, &bad), #field);                                  \
	} while (0)
	REFUSED(slices, 0);
	REFUSED(slices, SLICES_MAX + 1);
	REFUSED(slices, 2); /* homes name slices 2 and 3 */
	REFUSED(self, SLICES);
	REFUSED(gfns, 0);
	REFUSED(gfns, (GUEST_MEM_MAX >> PAGE_SHIFT) * 2);
	REFUSED(home_of_chunk, NULL);
	REFUSED(requests_max, 0);
	REFUSED(requests_max, PROTOCOL_REQUESTS_MAX + 1);
	REFUSED(requests_total, 1);
	REFUSED(hold_ns, UINT64_MAX);
#undef REFUSED
	static uint16_t wide[SLICES];
	good.home_of_chunk_wide = wide;
	good.slices = PROTOCOL_SLICES_MAX;
	cr_assert_gt(protocol_size(&good), 0);
	good.sharer_group = 15; /* too few for 64 bits */
	cr_assert_eq(protocol_size(&good), 0);
	good.sharer_group = 0;
	good.slices++;
	cr_assert_eq(protocol_size(&good), 0);
}

static size_t resident(const void *region, size_t size)
{
	size_t pages = (size + 4095) / 4096, count = 0;
	unsigned char *map = malloc(pages);
	cr_assert_not_null(map);
	cr_assert_eq(mincore((void *)(uintptr_t)region, size, map), 0);
	for (size_t i = 0; i < pages; i++)
		count += map[i] & 1;
	free(map);
	return count * 4096;
}

/* 64 GiB over 4 slices: what it may cost, and that it costs nothing before it is used. */
Test(protocol, metadata_is_small_and_lazy)
{
	uint64_t gfns = (UINT64_C(64) << 30) >> PAGE_SHIFT, chunks = gfns >> CHUNK_PAGES_SHIFT;
	uint8_t *table = malloc(chunks);
	cr_assert_not_null(table);
	for (uint64_t i = 0; i < chunks; i++)
		table[i] = (uint8_t)(i / (chunks / SLICES));
	struct protocol_config config = config_make();
	config.gfns = gfns;
	config.home_of_chunk = table;
	config.hold_ns = HOLD_NS;
	size_t size = protocol_size(&config), fixed = 1u << 20;
	cr_assert_leq(size, 2 * gfns + 16 * (gfns / SLICES) + fixed);
	void *region = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cr_assert_neq(region, MAP_FAILED);
	madvise(region, size, MADV_NOHUGEPAGE);
	struct protocol *p = protocol_init(region, &config);
	cr_assert_not_null(p);
	size_t idle = resident(region, size);
	cr_assert_leq(idle, 512u << 10);
	printf("64 GiB, 4 slices: %zu bytes reserved, %zu resident when untouched; %zu a guest "
	       "page, %zu a homed page\n",
	       size, idle, sizeof(*page_at(p, 0)), sizeof(*entry_find(p, 0)));
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(step(p, EVENT_FAULT_WRITE, i), 0);
	cr_assert_leq(resident(region, size), idle + (64u << 10));
	munmap(region, size);
	free(table);
}

Test(protocol, every_row_is_within_the_tables_own_rules)
{
	for (unsigned s = 0; s < PAGE_STATES; s++) {
		/* Faults and evictions have a row in every state: they are our own events. */
		for (unsigned e = SLICE_FAULT_READ; e <= SLICE_EVICT; e++)
			cr_assert_not_null(slice_rule(s, e));
		for (unsigned e = 0; e < SLICE_EVENT_COUNT; e++) {
			const struct protocol_rule *rule = slice_rule(s, e);
			if (!rule)
				continue;
			cr_assert_lt(rule->next, PAGE_STATES);
			/* Who gets a page says DONE, but to a home that sent it all by itself. */
			bool done = rule->actions & DO_DONE;
			bool got =
				rule->actions & (DO_MAP_SHARED | DO_MAP_EXCLUSIVE | DO_MAP_UPGRADE);
			bool alone = e == SLICE_DATA_S_HOME || e == SLICE_DATA_M_HOME ||
				     e == SLICE_GRANT_ALONE;
			cr_assert_eq(done, got && !alone);
		}
	}
	cr_assert_null(slice_rule(PAGE_STATES, SLICE_INV));
	cr_assert_null(home_rule(HOME_STATE_COUNT, HOME_EVENT_DONE));
	cr_assert_null(slice_rule(PAGE_I, SLICE_EVENT_COUNT));
}
