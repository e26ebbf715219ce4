/* SPDX-License-Identifier: Apache-2.0 */
/* The coherence model's state: nodes, pages, channels that keep their order, frames and mappings. */
const
	DEPTH: CHANNEL_DEPTH; /* of a channel; one more is an error, not a limit of the model */
	LOCAL_MAX: 4;

type
	Node: 0 .. NODES - 1;
	Page: 0 .. PAGES - 1;
	Acks: 0 .. NODES - 1;

	/* A DATA's flag for writing is part of its kind here. */
	Kind: enum {
		MSG_GET_S, MSG_GET_M, MSG_FWD_S, MSG_FWD_M, MSG_INV, MSG_ACK, MSG_DATA_S, MSG_DATA_M,
		MSG_GRANT, MSG_WB, MSG_DONE, MSG_PUT_M, MSG_PUT_S, MSG_PUT_ACK
	};
	Msg: record
		kind: Kind;
		page: Page;
		req: Node;
		acks: Acks;
	end;
	/* The first `count` messages are there; m[0] is the oldest. */
	Channel: record
		count: 0 .. DEPTH;
		m: array [0 .. DEPTH - 1] of Msg;
#if ARRIVALS
		begun: boolean; /* the first bytes of m[0] are in the receiver's frame */
#endif
	end;

	SliceState: enum { P_I, P_S, P_M, P_IS, P_IM, P_IMA, P_SM, P_SMA, P_MI, P_SI, P_II };
	SliceEvent: enum {
		E_FAULT_READ, E_FAULT_WRITE, E_EVICT, E_FWD_S, E_FWD_M, E_INV, E_HELD, E_DATA_S, E_DATA_S_HOME,
		E_DATA_M, E_DATA_M_HOME, E_DATA_M_ACKS, E_GRANT, E_GRANT_ALONE, E_GRANT_ACKS, E_ACK, E_ACK_LAST,
		E_PUT_ACK, E_VIOLATION
	};
	Start: enum { S_FAULT_READ, S_FAULT_WRITE, S_EVICT, S_HOLD_END };
	Mapping: enum { MAPPED_NONE, MAPPED_READ, MAPPED_WRITE };
	Slice: record
		state: SliceState;
		mapping: Mapping;
		fresh: boolean;   /* the frame holds what the last write wrote */
		waiting: boolean; /* a vCPU sleeps in a fault on this page */
		/* The request under way: who has acknowledged, how many must (0: not known yet). */
		acked: array [Node] of boolean;
		acks: Acks;
#if HOLDS
		/* FWD or INV set aside for the hold time, and its requester; undefined: none. */
		held: Kind;
		held_for: Node;
#endif
	end;

	HomeState: enum { H_U, H_S, H_O, H_SD, H_OD, H_SH, H_OH, H_SW, H_SB };
	HomeEvent: enum {
		G_GET_S, G_GET_S_NEAR, G_GET_S_OWN, G_GET_M, G_GET_M_OTHERS, G_GET_M_OWN, G_DONE, G_OWN,
		G_OWN_OTHERS, G_WB, G_PUT_M, G_PUT_M_FWD, G_PUT_M_LATE, G_PUT_S, G_PUT_S_FWD, G_PUT_S_LATE,
		G_VIOLATION
	};
	SliceAction: enum { A_TAKE, A_COUNT, A_UNMAP, A_PROTECT, A_MAP_SHARED, A_MAP_EXCLUSIVE, A_MAP_UPGRADE, A_DROP, A_WAKE, A_DEFER,
		A_DATA_S, A_WB, A_DATA_M, A_ACK, A_GET_S, A_GET_M, A_PUT_M, A_PUT_S, A_DONE };
	SliceActions: array [SliceAction] of boolean;
	HomeAction: enum { D_TAKE, D_DROP_SHARER, D_QUEUE, D_INV, D_DATA_S, D_DATA_M, D_FWD_S, D_FWD_M, D_PUT_ACK, D_PUT_LATER,
		D_NEXT };
	HomeActions: array [HomeAction] of boolean;
	Want: enum { WANTS_NOTHING, WANTS_READ, WANTS_WRITE };
	Entry: record
		state: HomeState;
		sharers: array [Node] of boolean;
		owner: Node;
		req: Node;
		forwarded: boolean;
		wb_here: boolean;
		put_later: boolean;
		queue: array [Node] of Want;
	end;

var
	slice: array [Node] of array [Page] of Slice;
	dir: array [Page] of Entry; /* at node home(page) */
	channel: array [Node] of array [Node] of Channel;
	/* Messages to ourselves: empty between two steps. */
	local_count: 0 .. LOCAL_MAX;
	local: array [0 .. LOCAL_MAX - 1] of Msg;
#if HOLDS
	hold_after: 0 .. 2; /* in this step the so-many-th FWD or INV that may be held is; 0: none */
#endif
#if LOSSES
	frozen: array [Node] of boolean; /* this node is lost, or was told that another is */
#endif

/* Page k's home is node k, and so on round. */
function home(p: Page): Node;
begin
	return p % NODES;
end;

/* Does n take no part any more? */
function is_frozen(n: Node): boolean;
begin
#if LOSSES
	return frozen[n];
#else
	return false;
#endif
end;

/* A message that the table has no row for: its sender would be accused. */
procedure unexpected();
begin
	error "an unexpected message";
end;

function carries_page(k: Kind): boolean;
begin
	return k = MSG_DATA_S | k = MSG_DATA_M | k = MSG_WB | k = MSG_PUT_M;
end;

/* The bytes of a frame change: no message may be on its way that is sent straight from it. */
procedure frame_touch(n: Node; p: Page);
begin
	for dest: Node do
		for i: 0 .. DEPTH - 1 do
			if i < channel[n][dest].count then
				if carries_page(channel[n][dest].m[i].kind) & channel[n][dest].m[i].page = p then
					error "a frame changes while it is in flight";
				endif;
			endif;
		endfor;
	endfor;
end;

#if SEED_FROZEN_ACKNOWLEDGES
procedure acknowledge(n: Node; inv: Msg);
var m: Msg;
begin
	m := inv;
	m.kind := MSG_ACK;
	channel[n][m.req].m[channel[n][m.req].count] := m;
	channel[n][m.req].count := channel[n][m.req].count + 1;
end;
#endif

procedure channel_push(from: Node; dest: Node; m: Msg);
begin
	if is_frozen(dest) then
#if SEED_FROZEN_ACKNOWLEDGES
		if m.kind = MSG_INV then
			acknowledge(dest, m);
		endif;
#endif
		return;
	endif;
	if channel[from][dest].count = DEPTH then
		error "a channel is full";
	endif;
	channel[from][dest].m[channel[from][dest].count] := m;
	channel[from][dest].count := channel[from][dest].count + 1;
end;

/* Takes the i-th message out; all but a seeded fault take the oldest. */
procedure channel_drop(from: Node; dest: Node; i: 0 .. DEPTH - 1);
begin
	for k: 0 .. DEPTH - 2 do
		if k >= i & k + 1 < channel[from][dest].count then
			channel[from][dest].m[k] := channel[from][dest].m[k + 1];
		endif;
	endfor;
	channel[from][dest].count := channel[from][dest].count - 1;
	undefine channel[from][dest].m[channel[from][dest].count];
#if ARRIVALS
	channel[from][dest].begun := false;
#endif
end;

/* To another node, or to be handled in this step. */
procedure send(from: Node; dest: Node; k: Kind; p: Page; req: Node; acks: Acks);
var m: Msg;
begin
	m.kind := k;
	m.page := p;
	m.req := req;
	m.acks := acks;
	if from != dest then
		channel_push(from, dest, m);
		return;
	endif;
	if local_count = LOCAL_MAX then
		error "too many messages to ourselves";
	endif;
	local[local_count] := m;
	local_count := local_count + 1;
end;

/* The bytes that came with a message are in the frame now. They are read from the sender's frame, where they still
 * are: whatever changed that frame meanwhile was an error. */
procedure frame_take(n: Node; p: Page; from: Node; k: Kind);
begin
	if from = n then
		return;
	endif;
	frame_touch(n, p);
	slice[n][p].fresh := slice[from][p].fresh;
end;
