/* SPDX-License-Identifier: Apache-2.0 */
/* The transition tables of the coherence protocol: state x event -> next state, actions, why. */
#include <stddef.h>

#include "dsm/protocol/protocol_table.h"

/* The races named here are those of docs/protocol.md. */
#define ROW(state, event, next_, acts, reason)                                                     \
	[PAGE_##state][SLICE_##event] = {.next = PAGE_##next_, .actions = (acts), .why = (reason)},
static const struct protocol_rule slice_rules[PAGE_STATES][SLICE_EVENT_COUNT] = {
	/* clang-format off */
	ROW(I, FAULT_READ, IS, DO_GET_S, "no copy: ask the home")
	ROW(I, FAULT_WRITE, IM, DO_GET_M, "no copy: ask the home")
	ROW(I, EVICT, I, DO_NOTHING, "nothing to evict")

	ROW(S, FAULT_READ, S, DO_WAKE, "satisfied meanwhile")
	ROW(S, FAULT_WRITE, SM, DO_GET_M, "upgrade: the copy stays readable until the grant")
	ROW(S, EVICT, SI, DO_UNMAP | DO_PUT_S, "the frame stays until PUT_ACK: it may be in flight")
	ROW(S, INV, I, DO_UNMAP | DO_ACK, "another slice writes")
	ROW(S, HELD, S, DO_DEFER, "race 6: granted a moment ago and contended")

	ROW(M, FAULT_READ, M, DO_WAKE, "satisfied meanwhile")
	ROW(M, FAULT_WRITE, M, DO_WAKE, "satisfied meanwhile")
	ROW(M, EVICT, MI, DO_UNMAP | DO_PUT_M, "the home's frame becomes the page again")
	ROW(M, FWD_S, S, DO_PROTECT | DO_DATA_S | DO_WB, "another slice reads; a copy stays here")
	ROW(M, FWD_M, I, DO_UNMAP | DO_DATA_M, "another slice writes")
	ROW(M, HELD, M, DO_DEFER, "race 6: granted a moment ago and contended")

	ROW(IS, FAULT_READ, IS, DO_NOTHING, "joins the request under way")
	ROW(IS, FAULT_WRITE, IS, DO_NOTHING, "joins; woken by DATA it faults again and upgrades")
	ROW(IS, EVICT, IS, DO_NOTHING, "busy")
	ROW(IS, DATA_S, S, DO_TAKE | DO_MAP_SHARED | DO_DONE, "the read is served")
	ROW(IS, DATA_S_HOME, S, DO_TAKE | DO_MAP_SHARED, "the read is served, and the home knows")

	ROW(IM, FAULT_READ, IM, DO_NOTHING, "joins the request under way")
	ROW(IM, FAULT_WRITE, IM, DO_NOTHING, "joins the request under way")
	ROW(IM, EVICT, IM, DO_NOTHING, "busy")
	ROW(IM, DATA_M, M, DO_TAKE | DO_MAP_EXCLUSIVE | DO_DONE, "the write is served")
	ROW(IM, DATA_M_HOME, M, DO_TAKE | DO_MAP_EXCLUSIVE, "the write is served, and the home knows")
	ROW(IM, DATA_M_ACKS, IMA, DO_TAKE, "other slices may still read the old copy")
	ROW(IM, ACK, IM, DO_COUNT, "race 1: before DATA")

	ROW(IMA, FAULT_READ, IMA, DO_NOTHING, "joins the request under way")
	ROW(IMA, FAULT_WRITE, IMA, DO_NOTHING, "joins the request under way")
	ROW(IMA, EVICT, IMA, DO_NOTHING, "busy")
	ROW(IMA, ACK, IMA, DO_COUNT, "more are to come")
	ROW(IMA, ACK_LAST, M, DO_COUNT | DO_MAP_EXCLUSIVE | DO_DONE, "nobody else has a copy now")

	ROW(SM, FAULT_READ, SM, DO_WAKE, "the copy is readable")
	ROW(SM, FAULT_WRITE, SM, DO_NOTHING, "joins the request under way")
	ROW(SM, EVICT, SM, DO_NOTHING, "busy")
	ROW(SM, INV, IM, DO_UNMAP | DO_ACK, "race 2: another writer was first; DATA will come")
	ROW(SM, GRANT, M, DO_MAP_UPGRADE | DO_DONE, "the write is granted without data")
	ROW(SM, GRANT_ALONE, M, DO_MAP_UPGRADE, "the same, and the home knows")
	ROW(SM, GRANT_ACKS, SMA, DO_NOTHING, "other slices may still read the old copy")
	ROW(SM, ACK, SM, DO_COUNT, "race 1: before GRANT")

	ROW(SMA, FAULT_READ, SMA, DO_WAKE, "the copy is readable")
	ROW(SMA, FAULT_WRITE, SMA, DO_NOTHING, "joins the request under way")
	ROW(SMA, EVICT, SMA, DO_NOTHING, "busy")
	ROW(SMA, ACK, SMA, DO_COUNT, "more are to come")
	ROW(SMA, ACK_LAST, M, DO_COUNT | DO_MAP_UPGRADE | DO_DONE, "nobody else has a copy now")

	ROW(MI, FAULT_READ, MI, DO_NOTHING, "waits; PUT_ACK wakes it and it faults again")
	ROW(MI, FAULT_WRITE, MI, DO_NOTHING, "waits; PUT_ACK wakes it and it faults again")
	ROW(MI, EVICT, MI, DO_NOTHING, "busy")
	ROW(MI, FWD_S, II, DO_DATA_S | DO_WB, "race 4: answered from the kept frame")
	ROW(MI, FWD_M, II, DO_DATA_M, "race 4: answered from the kept frame")
	ROW(MI, PUT_ACK, I, DO_DROP | DO_WAKE, "evicted")

	ROW(SI, FAULT_READ, SI, DO_NOTHING, "waits; PUT_ACK wakes it and it faults again")
	ROW(SI, FAULT_WRITE, SI, DO_NOTHING, "waits; PUT_ACK wakes it and it faults again")
	ROW(SI, EVICT, SI, DO_NOTHING, "busy")
	ROW(SI, INV, II, DO_ACK, "race 3: the copy has gone already")
	ROW(SI, PUT_ACK, I, DO_DROP | DO_WAKE, "evicted")

	ROW(II, FAULT_READ, II, DO_NOTHING, "waits; PUT_ACK wakes it and it faults again")
	ROW(II, FAULT_WRITE, II, DO_NOTHING, "waits; PUT_ACK wakes it and it faults again")
	ROW(II, EVICT, II, DO_NOTHING, "busy")
	ROW(II, PUT_ACK, I, DO_DROP | DO_WAKE, "evicted")
	/* clang-format on */
};
#undef ROW

#define ROW(state, event, next_, acts, reason)                                                     \
	[HOME_##state][HOME_EVENT_##event] = {                                                     \
		.next = HOME_##next_, .actions = (acts), .why = (reason)},
static const struct protocol_rule home_rules[HOME_STATE_COUNT][HOME_EVENT_COUNT] = {
	/* clang-format off */
	ROW(U, GET_S, S, HOME_DO_DATA_S, "first touch: zeroes, as a flag")
	ROW(U, GET_M, O, HOME_DO_DATA_M, "first touch: zeroes, as a flag")

	ROW(S, GET_S, S, HOME_DO_DATA_S, "two hops; what follows travels behind the DATA")
	ROW(S, GET_M, O, HOME_DO_DATA_M, "two hops; what follows travels behind the DATA or GRANT")
	ROW(S, GET_M_OTHERS, OD, HOME_DO_INV | HOME_DO_DATA_M, "all INVs at once, beside the page")
	ROW(S, GET_M_OWN, OH, HOME_DO_INV, "all INVs at once; the page when our own copy has gone")
	ROW(S, PUT_M_LATE, S, HOME_DO_PUT_ACK, "race 4: the data is old, the home's frame newer")
	ROW(S, PUT_S, S, HOME_DO_DROP_SHARER | HOME_DO_PUT_ACK, "one sharer less")
	ROW(S, PUT_S_LATE, S, HOME_DO_PUT_ACK, "race 5: an INV crossed it")

	ROW(O, GET_S, SW, HOME_DO_FWD_S, "three hops, and the home's frame becomes valid again")
	ROW(O, GET_S_NEAR, SD, HOME_DO_FWD_S, "the home gets the bytes anyway: no WB")
	ROW(O, GET_S_OWN, SH, HOME_DO_FWD_S, "to ourselves: at once, or at the end of the hold time")
	ROW(O, GET_M, OD, HOME_DO_FWD_M, "three hops")
	ROW(O, GET_M_OWN, OH, HOME_DO_FWD_M, "to ourselves: at once, or at the end of the hold time")
	ROW(O, PUT_M, S, HOME_DO_TAKE | HOME_DO_PUT_ACK, "written back: nobody has a copy")
	ROW(O, PUT_M_LATE, O, HOME_DO_PUT_ACK, "race 4: DONE was faster than the PUT_M")
	ROW(O, PUT_S_LATE, O, HOME_DO_PUT_ACK, "race 5: an INV crossed it")

	ROW(SD, GET_S, SD, HOME_DO_QUEUE, "one transaction at a time")
	ROW(SD, GET_M, SD, HOME_DO_QUEUE, "one transaction at a time")
	ROW(SD, DONE, S, HOME_DO_NEXT, "the read is over")
	ROW(SD, PUT_M_FWD, SD, HOME_DO_PUT_LATER, "race 4: the owner's frame may be in flight")
	ROW(SD, PUT_M_LATE, SD, HOME_DO_PUT_ACK, "race 4: an earlier owner's")
	ROW(SD, PUT_S_FWD, SD, HOME_DO_PUT_LATER, "the DATA it sent may still be in flight")
	ROW(SD, PUT_S_LATE, SD, HOME_DO_PUT_ACK, "race 5: an INV crossed it")

	ROW(OD, GET_S, OD, HOME_DO_QUEUE, "one transaction at a time")
	ROW(OD, GET_M, OD, HOME_DO_QUEUE, "one transaction at a time")
	ROW(OD, DONE, O, HOME_DO_NEXT, "the requester is the owner")
	ROW(OD, PUT_M_FWD, OD, HOME_DO_PUT_LATER, "race 4: the owner's frame may be in flight")
	ROW(OD, PUT_M_LATE, OD, HOME_DO_PUT_ACK, "race 4: an earlier owner's")
	ROW(OD, PUT_S_LATE, OD, HOME_DO_PUT_ACK, "race 5: the INV is on its way")

	ROW(SH, GET_S, SH, HOME_DO_QUEUE, "one transaction at a time")
	ROW(SH, GET_M, SH, HOME_DO_QUEUE, "one transaction at a time")
	ROW(SH, OWN, S, HOME_DO_DATA_S | HOME_DO_NEXT, "two hops; what follows travels behind the DATA")
	ROW(SH, PUT_M_LATE, SH, HOME_DO_PUT_ACK, "race 4: an earlier owner's")
	ROW(SH, PUT_S_LATE, SH, HOME_DO_PUT_ACK, "race 5: an INV crossed it")

	ROW(OH, GET_S, OH, HOME_DO_QUEUE, "one transaction at a time")
	ROW(OH, GET_M, OH, HOME_DO_QUEUE, "one transaction at a time")
	ROW(OH, OWN, O, HOME_DO_DATA_M | HOME_DO_NEXT, "two hops; what follows travels behind the DATA or GRANT")
	ROW(OH, OWN_OTHERS, OD, HOME_DO_DATA_M, "the others' ACKs go to the requester")
	ROW(OH, PUT_M_LATE, OH, HOME_DO_PUT_ACK, "race 4: an earlier owner's")
	ROW(OH, PUT_S_LATE, OH, HOME_DO_PUT_ACK, "race 5: the INV is on its way")

	ROW(SW, GET_S, SW, HOME_DO_QUEUE, "one transaction at a time")
	ROW(SW, GET_M, SW, HOME_DO_QUEUE, "one transaction at a time")
	ROW(SW, DONE, SB, HOME_DO_NOTHING, "race 7: DONE overtook WB; the home's frame is stale")
	ROW(SW, WB, SD, HOME_DO_TAKE, "the home's frame is valid")
	ROW(SW, PUT_M_FWD, SW, HOME_DO_PUT_LATER, "race 4: the WB follows it")
	ROW(SW, PUT_M_LATE, SW, HOME_DO_PUT_ACK, "race 4: an earlier owner's")
	ROW(SW, PUT_S_LATE, SW, HOME_DO_PUT_ACK, "race 5: an INV crossed it")

	ROW(SB, GET_S, SB, HOME_DO_QUEUE, "one transaction at a time")
	ROW(SB, GET_M, SB, HOME_DO_QUEUE, "one transaction at a time")
	ROW(SB, WB, S, HOME_DO_TAKE | HOME_DO_NEXT, "race 7: both are here, the read is over")
	ROW(SB, PUT_M_FWD, SB, HOME_DO_PUT_LATER, "race 4: the WB follows it")
	ROW(SB, PUT_M_LATE, SB, HOME_DO_PUT_ACK, "race 4: an earlier owner's")
	ROW(SB, PUT_S, SB, HOME_DO_DROP_SHARER | HOME_DO_PUT_ACK, "the reader has evicted already")
	ROW(SB, PUT_S_LATE, SB, HOME_DO_PUT_ACK, "race 5: an INV crossed it")
	/* clang-format on */
};
#undef ROW

const struct protocol_rule *slice_rule(enum page_state state, enum slice_event event)
{
	if ((unsigned)state >= PAGE_STATES || (unsigned)event >= SLICE_EVENT_COUNT)
		return NULL;
	const struct protocol_rule *rule = &slice_rules[state][event];
	return rule->why ? rule : NULL;
}

const struct protocol_rule *home_rule(enum home_state state, enum home_event event)
{
	if ((unsigned)state >= HOME_STATE_COUNT || (unsigned)event >= HOME_EVENT_COUNT)
		return NULL;
	const struct protocol_rule *rule = &home_rules[state][event];
	return rule->why ? rule : NULL;
}

#define LOOK_UP(table, index)                                                                      \
	((unsigned)(index) < sizeof(table) / sizeof((table)[0]) ? (table)[index] : "?")

#define X(name, text) #name,
const char *page_state_name(enum page_state state)
{
	static const char *const names[] = {SLICE_STATES(X)};
	return LOOK_UP(names, state);
}

const char *home_state_name(enum home_state state)
{
	static const char *const names[] = {HOME_STATES(X)};
	return LOOK_UP(names, state);
}
#undef X

#define X(name, text) text,
const char *page_state_text(enum page_state state)
{
	static const char *const texts[] = {SLICE_STATES(X)};
	return LOOK_UP(texts, state);
}

const char *home_state_text(enum home_state state)
{
	static const char *const texts[] = {HOME_STATES(X)};
	return LOOK_UP(texts, state);
}

const char *slice_action_text(unsigned bit)
{
	static const char *const texts[] = {SLICE_ACTIONS(X)};
	return LOOK_UP(texts, bit);
}

const char *home_action_text(unsigned bit)
{
	static const char *const texts[] = {HOME_ACTIONS(X)};
	return LOOK_UP(texts, bit);
}
#undef X

#define X(name, label, text) label,
const char *slice_event_name(enum slice_event event)
{
	static const char *const names[] = {SLICE_EVENTS(X)};
	return LOOK_UP(names, event);
}

const char *home_event_name(enum home_event event)
{
	static const char *const names[] = {HOME_EVENTS(X)};
	return LOOK_UP(names, event);
}
#undef X

#define X(name, label, text) text,
const char *slice_event_text(enum slice_event event)
{
	static const char *const texts[] = {SLICE_EVENTS(X)};
	return LOOK_UP(texts, event);
}

const char *home_event_text(enum home_event event)
{
	static const char *const texts[] = {HOME_EVENTS(X)};
	return LOOK_UP(texts, event);
}
#undef X
