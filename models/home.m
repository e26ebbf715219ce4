/* SPDX-License-Identifier: Apache-2.0 */
/* The home side of the model: as dsm/protocol/protocol_home.c, its rows from rows.inc. */

function busy(p: Page): boolean;
var s: HomeState;
begin
	s := dir[p].state;
	return s = H_SD | s = H_OD | s = H_SH | s = H_OH | s = H_SW | s = H_SB;
end;

function queue_empty(p: Page): boolean;
begin
	return forall i: Node do dir[p].queue[i] = WANTS_NOTHING end;
end;

/* Has the requester of the transaction under way not yet said DONE? */
function requester_waits(p: Page; n: Node): boolean;
begin
	return busy(p) & dir[p].state != H_SB & dir[p].req = n;
end;

/* Is this the owner that was sent a FWD in this transaction? */
function is_forwarder(p: Page; n: Node): boolean;
begin
	return busy(p) & dir[p].forwarded & dir[p].owner = n;
end;

/* How many others than the requester and the home have a copy, or are about to lose it? */
function sharers_remote(p: Page): Acks;
var sum: Acks;
begin
	sum := 0;
	for i: Node do
		if dir[p].sharers[i] & i != home(p) & i != dir[p].req then
			sum := sum + 1;
		endif;
	endfor;
	return sum;
end;

/* A write of a page that is not busy: by who else has a copy. */
function home_event_write(p: Page; from: Node): HomeEvent;
var h: Node;
begin
	h := home(p);
	if dir[p].state = H_O then
		return dir[p].owner = h ? G_GET_M_OWN : G_GET_M;
	endif;
	if dir[p].state != H_S then
		return G_GET_M;
	endif;
	if dir[p].sharers[h] & from != h then
		return G_GET_M_OWN;
	endif;
	if exists i: Node do dir[p].sharers[i] & i != from end then
		return G_GET_M_OTHERS;
	endif;
	return G_GET_M;
end;

function home_event_get(p: Page; from: Node; write: boolean): HomeEvent;
begin
	if busy(p) then
		if requester_waits(p, from) | dir[p].queue[from] != WANTS_NOTHING then
			return G_VIOLATION;
		endif;
		return write ? G_GET_M : G_GET_S;
	endif;
	if dir[p].state = H_O & dir[p].owner = from then
		return G_VIOLATION;
	endif;
	if write then
		return home_event_write(p, from);
	endif;
	if dir[p].state = H_S & dir[p].sharers[from] then
		return G_VIOLATION;
	endif;
	if dir[p].state != H_O then
		return G_GET_S;
	endif;
	if from = home(p) then
		return G_GET_S_NEAR;
	endif;
	return dir[p].owner = home(p) ? G_GET_S_OWN : G_GET_S;
end;

function home_event_put(p: Page; from: Node; owned: boolean): HomeEvent;
begin
	if requester_waits(p, from) then
		return G_VIOLATION;
	endif;
	if is_forwarder(p, from) then
		/* PUT_M goes before the answer to the FWD, PUT_S after it. */
		if dir[p].put_later | owned = dir[p].wb_here then
			return G_VIOLATION;
		endif;
		return owned ? G_PUT_M_FWD : G_PUT_S_FWD;
	endif;
	if dir[p].state = H_O & dir[p].owner = from then
		return owned ? G_PUT_M : G_VIOLATION;
	endif;
	if owned then
		return dir[p].sharers[from] ? G_VIOLATION : G_PUT_M_LATE;
	endif;
	/* In OH the sharers have been sent their INVs. */
	return dir[p].sharers[from] & dir[p].state != H_OH ? G_PUT_S : G_PUT_S_LATE;
end;

function home_event_done(p: Page; from: Node; m: Msg): HomeEvent;
begin
	if m.req = from then
		return requester_waits(p, from) ? G_DONE : G_VIOLATION;
	endif;
	/* Our own slice says it for what it obeyed. */
	if from != home(p) | (dir[p].state != H_SH & dir[p].state != H_OH) | m.req != dir[p].req then
		return G_VIOLATION;
	endif;
	return dir[p].state = H_OH & sharers_remote(p) != 0 ? G_OWN_OTHERS : G_OWN;
end;

function home_event(from: Node; m: Msg): HomeEvent;
begin
	if m.kind != MSG_WB & m.kind != MSG_DONE & m.req != from then
		return G_VIOLATION;
	endif;
	switch m.kind
	case MSG_GET_S: return home_event_get(m.page, from, false);
	case MSG_GET_M: return home_event_get(m.page, from, true);
	case MSG_DONE: return home_event_done(m.page, from, m);
	case MSG_WB:
		return is_forwarder(m.page, from) & m.req = dir[m.page].req ? G_WB : G_VIOLATION;
	case MSG_PUT_M:
		return from != home(m.page) ? home_event_put(m.page, from, true) : G_VIOLATION;
	case MSG_PUT_S:
		return from != home(m.page) ? home_event_put(m.page, from, false) : G_VIOLATION;
	else
		return G_VIOLATION;
	endswitch;
end;

/* The home's frame, or the right to write, to the requester of the transaction. */
procedure page_give(p: Page; write: boolean);
var acks: Acks; kind: Kind;
begin
	kind := MSG_DATA_S;
	acks := 0;
	if write then
		kind := dir[p].sharers[dir[p].req] ? MSG_GRANT : MSG_DATA_M;
		acks := sharers_remote(p);
		for i: Node do
			dir[p].sharers[i] := false;
		endfor;
#if !SEED_SHARER_FORGOTTEN
	else
		dir[p].sharers[dir[p].req] := true;
#endif
	endif;
	send(home(p), dir[p].req, kind, p, dir[p].req, acks);
end;

procedure forward(p: Page; write: boolean);
var kind: Kind;
begin
	dir[p].forwarded := true;
	for i: Node do
		dir[p].sharers[i] := !write & (i = dir[p].owner | i = dir[p].req);
	endfor;
	kind := write ? MSG_FWD_M : MSG_FWD_S;
	send(home(p), dir[p].owner, kind, p, dir[p].req, 0);
end;

/* The page is at rest: the last requester owns it, or nobody does. */
procedure settle(p: Page);
begin
	dir[p].forwarded := false;
	dir[p].wb_here := false;
	dir[p].put_later := false;
	dir[p].owner := dir[p].state = H_O ? dir[p].req : 0;
	if queue_empty(p) then
		dir[p].req := 0;
	endif;
end;

/* One procedure for each action. */
procedure home_do_TAKE(p: Page; from: Node; m: Msg);
begin
	frame_take(home(p), p, from, m.kind);
	if m.kind = MSG_WB then
		dir[p].wb_here := true;
	endif;
end;

procedure home_do_DROP_SHARER(p: Page; from: Node; m: Msg);
begin
	dir[p].sharers[from] := false;
end;

procedure home_do_QUEUE(p: Page; from: Node; m: Msg);
begin
	dir[p].queue[from] := m.kind = MSG_GET_M ? WANTS_WRITE : WANTS_READ;
end;

procedure home_do_INV(p: Page; from: Node; m: Msg);
begin
	for i: Node do
		if dir[p].sharers[i] & i != dir[p].req then
			send(home(p), i, MSG_INV, p, dir[p].req, 0);
		endif;
	endfor;
end;

procedure home_do_PUT_ACK(p: Page; from: Node; m: Msg);
begin
	send(home(p), from, MSG_PUT_ACK, p, from, 0);
end;

procedure home_do_PUT_LATER(p: Page; from: Node; m: Msg);
begin
#if SEED_PUT_ACK_EARLY
	send(home(p), from, MSG_PUT_ACK, p, from, 0);
#else
	dir[p].put_later := true;
#endif
end;

/* What a row asks for, in the order in which the core obeys. NEXT is transaction_end, which follows where the page has
 * come to rest. */
procedure home_obey(p: Page; from: Node; m: Msg; todo: HomeActions);
begin
	if todo[D_TAKE] then home_do_TAKE(p, from, m); endif;
	if todo[D_DROP_SHARER] then home_do_DROP_SHARER(p, from, m); endif;
	if todo[D_QUEUE] then home_do_QUEUE(p, from, m); endif;
	if todo[D_INV] then home_do_INV(p, from, m); endif;
	if todo[D_DATA_S] | todo[D_DATA_M] then page_give(p, todo[D_DATA_M]); endif;
	if todo[D_FWD_S] | todo[D_FWD_M] then forward(p, todo[D_FWD_M]); endif;
	if todo[D_PUT_ACK] then home_do_PUT_ACK(p, from, m); endif;
	if todo[D_PUT_LATER] then home_do_PUT_LATER(p, from, m); endif;
	if todo[D_NEXT] & busy(p) then
		error "a transaction ends in a state that is busy";
	endif;
end;

#define DO(action) todo[D_##action] := true;
#define NOTHING
#define HOME_ROW(state_, event, next, actions) \
	if state = H_##state_ & e = G_##event then dir[p].state := H_##next; actions found := true; endif;
/* The row for what happens to page p at its home; without one the sender broke the protocol. */
procedure home_row(p: Page; e: HomeEvent; from: Node; m: Msg);
var state: HomeState; todo: HomeActions; found: boolean;
begin
	state := dir[p].state;
	found := false;
	for a: HomeAction do
		todo[a] := false;
	endfor;
#include "rows.inc"
	if found then
		home_obey(p, from, m, todo);
	else
		unexpected();
	endif;
end;
#undef DO
#undef NOTHING
#undef HOME_ROW

/* The slice whose turn it is: the first one that waits after the last requester. */
function turn(p: Page): Node;
var n: Node;
begin
	n := dir[p].req;
	for i: 1 .. NODES do
		n := (n + 1) % NODES;
		if dir[p].queue[n] != WANTS_NOTHING then
			return n;
		endif;
	endfor;
	error "nobody waits";
end;

/* What a PUT does to the entry, whatever its row. */
procedure put_begin(p: Page; from: Node; m: Msg; e: HomeEvent);
begin
#if SEED_LATE_PUT_TAKEN
	if e = G_PUT_M_LATE then
		frame_take(home(p), p, from, m.kind);
	endif;
#endif
	/* In OH a sharer that evicts is still one that will acknowledge its INV. */
#if !SEED_EVICTION_UNCOUNTED
	if dir[p].state = H_OH then
		return;
	endif;
#endif
	dir[p].sharers[from] := false;
end;

/* One message at the directory, without what its end lets in. */
procedure home_step(p: Page; from: Node; m: Msg);
var e: HomeEvent; is_get: boolean; is_put: boolean; was_owner: boolean; was_busy: boolean;
begin
	e := home_event(from, m);
	is_get := m.kind = MSG_GET_S | m.kind = MSG_GET_M;
	is_put := m.kind = MSG_PUT_S | m.kind = MSG_PUT_M;
	was_owner := is_put & dir[p].state = H_O & dir[p].owner = from;
	was_busy := busy(p);
	if is_put then
		put_begin(p, from, m, e);
	endif;
	if is_get & !was_busy then
		dir[p].req := from;
	endif;
#if SEED_WB_NOT_AWAITED
	if e = G_DONE & dir[p].state = H_SW then
		dir[p].state := H_SD;
	endif;
#endif
	home_row(p, e, from, m);
#if SEED_DONE_NOT_AWAITED
	if is_get & dir[p].state = H_OD & !dir[p].forwarded then
		dir[p].state := H_O;
	endif;
#endif
	if was_owner then
		dir[p].owner := 0;
	endif;
	if was_busy & !busy(p) & dir[p].put_later then
		send(home(p), dir[p].owner, MSG_PUT_ACK, p, dir[p].owner, 0);
	endif;
	if !busy(p) & (was_busy | is_get) then
		settle(p);
	endif;
end;

/* At home(m.page): the message, then those who wait, as long as the page is at rest. */
procedure home_message(from: Node; m: Msg);
var now: Msg; now_from: Node; p: Page; more: boolean;
begin
	p := m.page;
	now := m;
	now_from := from;
	more := true;
	while more do
		home_step(p, now_from, now);
		more := false;
#if !SEED_QUEUE_DROPPED
		if !busy(p) then
			if exists i: Node do dir[p].queue[i] != WANTS_NOTHING end then
				more := true;
				now_from := turn(p);
				now.kind := dir[p].queue[now_from] = WANTS_WRITE ? MSG_GET_M : MSG_GET_S;
				now.req := now_from;
				now.acks := 0;
				dir[p].queue[now_from] := WANTS_NOTHING;
			endif;
		endif;
#endif
	endwhile;
	if !busy(p) then
		dir[p].req := 0;
	endif;
end;
