/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol's transition tables as data: what the code runs and what docs/protocol.md prints. */
#ifndef DSM_PROTOCOL_TABLE_H
#define DSM_PROTOCOL_TABLE_H

#include <stdint.h>

/* Slice side: what this slice may do with a page, and what it waits for. All zero: I. */
#define SLICE_STATES(X)                                                                            \
	X(I, "invalid: no copy here")                                                              \
	X(S, "shared: a readable copy")                                                            \
	X(M, "modified: the only copy, writable")                                                  \
	X(IS, "read wanted, waits for DATA")                                                       \
	X(IM, "write wanted, waits for DATA (ACKs may come first)")                                \
	X(IMA, "DATA has come, waits for the rest of the ACKs")                                    \
	X(SM, "write wanted on a shared copy, waits for GRANT (ACKs may come first)")              \
	X(SMA, "GRANT has come, waits for the rest of the ACKs")                                   \
	X(MI, "owned page being evicted, waits for PUT_ACK; the frame is kept")                    \
	X(SI, "shared copy being evicted, waits for PUT_ACK; the frame is kept")                   \
	X(II, "as MI or SI, and the page was taken meanwhile; waits for PUT_ACK")

#define X(name, text) PAGE_##name,
enum page_state {
	SLICE_STATES(X) PAGE_STATES
};
#undef X

/* What happens to a page on the slice side; conditions are resolved into events of their own. */
#define SLICE_EVENTS(X)                                                                            \
	X(FAULT_READ, "FAULT_READ", "a vCPU wants to read")                                        \
	X(FAULT_WRITE, "FAULT_WRITE", "a vCPU wants to write")                                     \
	X(EVICT, "EVICT", "the engine wants the frame back")                                       \
	X(FWD_S, "FWD_S", "the home asks for a shared copy for another slice")                     \
	X(FWD_M, "FWD_M", "the home asks for the page for another slice")                          \
	X(INV, "INV", "the home asks to drop the copy")                                            \
	X(HELD, "FWD/INV in hold", "one of these three within the hold time")                      \
	X(DATA_S, "DATA S", "a shared copy comes from the owner")                                  \
	X(DATA_S_HOME, "DATA S, home", "a shared copy comes from the home")                        \
	X(DATA_M, "DATA M", "the page comes and all its ACKs are here")                            \
	X(DATA_M_HOME, "DATA M, home", "the page comes from the home and needs no ACK")            \
	X(DATA_M_ACKS, "DATA M, ACKs out", "the page comes and ACKs are still out")                \
	X(GRANT, "GRANT", "the write is granted and all its ACKs are here")                        \
	X(GRANT_ALONE, "GRANT, no ACKs", "the write is granted and needs no ACK")                  \
	X(GRANT_ACKS, "GRANT, ACKs out", "the write is granted and ACKs are still out")            \
	X(ACK, "ACK", "a sharer has dropped its copy, and it is not the last")                     \
	X(ACK_LAST, "ACK, last", "the last sharer has dropped its copy")                           \
	X(PUT_ACK, "PUT_ACK", "the home is done with the eviction")

#define X(name, label, text) SLICE_##name,
enum slice_event {
	SLICE_EVENTS(X) SLICE_EVENT_COUNT
};
#undef X

/* Actions of the slice side; one event's run in this order. */
#define SLICE_ACTIONS(X)                                                                           \
	X(TAKE, "take the page")                                                                   \
	X(COUNT, "count the ACK")                                                                  \
	X(UNMAP, "unmap")                                                                          \
	X(PROTECT, "write-protect")                                                                \
	X(MAP_SHARED, "map readable")                                                              \
	X(MAP_EXCLUSIVE, "map writable")                                                           \
	X(MAP_UPGRADE, "make writable")                                                            \
	X(DROP, "drop the frame")                                                                  \
	X(WAKE, "wake")                                                                            \
	X(DEFER, "set it aside, set the hold timer")                                               \
	X(DATA_S, "DATA S to the requester")                                                       \
	X(WB, "WB to the home")                                                                    \
	X(DATA_M, "DATA M to the requester")                                                       \
	X(ACK, "ACK to the requester")                                                             \
	X(GET_S, "GET_S")                                                                          \
	X(GET_M, "GET_M")                                                                          \
	X(PUT_M, "PUT_M")                                                                          \
	X(PUT_S, "PUT_S")                                                                          \
	X(DONE, "DONE")

/* Home side: the directory's state of a page. All zero: U. */
#define HOME_STATES(X)                                                                             \
	X(U, "untouched: nobody has had it, all zeroes")                                           \
	X(S, "shared: the home's frame is valid; a set of sharers, maybe empty")                   \
	X(O, "owned: one slice has the only valid copy")                                           \
	X(SD, "a read was forwarded, waits for DONE; then S")                                      \
	X(OD, "a write is served, waits for DONE; then O")                                         \
	X(SH, "a read waits for the home's own slice, which owns the page")                        \
	X(OH, "a write waits for the home's own slice, which has a copy")                          \
	X(SW, "a read was forwarded, waits for DONE and WB")                                       \
	X(SB, "as SW, and DONE has come: waits for WB")

#define X(name, text) HOME_##name,
enum home_state {
	HOME_STATES(X) HOME_STATE_COUNT
};
#undef X

#define HOME_EVENTS(X)                                                                             \
	X(GET_S, "GET_S", "a slice without a copy wants to read")                                  \
	X(GET_S_NEAR, "GET_S, near", "the same, and the home's own slice is the requester")        \
	X(GET_S_OWN, "GET_S, own", "the same, and the home's own slice is the owner")              \
	X(GET_M, "GET_M", "a slice wants to write")                                                \
	X(GET_M_OTHERS, "GET_M, others", "the same, and other slices have copies")                 \
	X(GET_M_OWN, "GET_M, own", "the same, and the home's own slice has a copy")                \
	X(DONE, "DONE", "the requester has mapped the page")                                       \
	X(OWN, "own DONE", "the home's own slice has obeyed")                                      \
	X(OWN_OTHERS, "own DONE, others", "the same, and other slices had copies, too")            \
	X(WB, "WB", "the forwarding owner's bytes for the home's frame")                           \
	X(PUT_M, "PUT_M", "the owner gives the page back")                                         \
	X(PUT_M_FWD, "PUT_M, crossed", "the same, from the owner that a FWD is on its way to")     \
	X(PUT_M_LATE, "PUT_M, late", "PUT_M from one that is no longer the owner")                 \
	X(PUT_S, "PUT_S", "a sharer has dropped its copy")                                         \
	X(PUT_S_FWD, "PUT_S, forwarder", "the same, from the owner that answered a FWD_S")         \
	X(PUT_S_LATE, "PUT_S, late", "PUT_S from one whose copy no longer counts")

#define X(name, label, text) HOME_EVENT_##name,
enum home_event {
	HOME_EVENTS(X) HOME_EVENT_COUNT
};
#undef X

#define HOME_ACTIONS(X)                                                                            \
	X(TAKE, "take the page")                                                                   \
	X(DROP_SHARER, "remove the sharer")                                                        \
	X(QUEUE, "queue the request")                                                              \
	X(INV, "INV to the other sharers")                                                         \
	X(DATA_S, "DATA S to the requester")                                                       \
	X(DATA_M, "DATA M (GRANT if a sharer) to the requester")                                   \
	X(FWD_S, "FWD_S to the owner")                                                             \
	X(FWD_M, "FWD_M to the owner")                                                             \
	X(PUT_ACK, "PUT_ACK")                                                                      \
	X(PUT_LATER, "PUT_ACK when this transaction ends")                                         \
	X(NEXT, "serve the next in the queue")

/* The bits of struct protocol_rule.actions: DO_... on the slice side, HOME_DO_... at the home. */
#define X(name, text) DO_BIT_##name,
enum slice_action_bit {
	SLICE_ACTIONS(X) DO_BITS
};
#undef X
#define X(name, text) DO_##name = 1 << DO_BIT_##name,
enum slice_action {
	DO_NOTHING = 0,
	SLICE_ACTIONS(X)
};
#undef X
#define X(name, text) HOME_DO_BIT_##name,
enum home_action_bit {
	HOME_ACTIONS(X) HOME_DO_BITS
};
#undef X
#define X(name, text) HOME_DO_##name = 1 << HOME_DO_BIT_##name,
enum home_action {
	HOME_DO_NOTHING = 0,
	HOME_ACTIONS(X)
};
#undef X

/* One row of a table. A row without a reason is no row: the event is a violation there. */
struct protocol_rule {
	uint8_t next;
	uint32_t actions;
	const char *why;
};

/*
 * Every row that a step obeys passes here. Nothing in the product; tools/search compiles the core
 * with a function of its own and so knows which rows were reached.
 */
#ifndef PROTOCOL_ROW_OBEYED
#define PROTOCOL_ROW_OBEYED(step, rule) ((void)0)
#endif

/* The row for (state, event), or NULL: the peer broke the protocol. */
const struct protocol_rule *slice_rule(enum page_state state, enum slice_event event);
const struct protocol_rule *home_rule(enum home_state state, enum home_event event);

/* Names for people and for the documentation; static storage. */
const char *page_state_name(enum page_state state);
const char *page_state_text(enum page_state state);
const char *slice_event_name(enum slice_event event);
const char *slice_event_text(enum slice_event event);
const char *slice_action_text(unsigned bit);
const char *home_state_name(enum home_state state);
const char *home_state_text(enum home_state state);
const char *home_event_name(enum home_event event);
const char *home_event_text(enum home_event event);
const char *home_action_text(unsigned bit);

#endif
