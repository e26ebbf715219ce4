/* SPDX-License-Identifier: Apache-2.0 */
/* The home side of the model: as dsm/protocol_home.c, its rows from rows.inc. */

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
var never: HomeEvent;
begin
	/* What was sent to an owner may have been dropped by it, but only by a loss. */
	never := !owned & any_lost_for(home(p)) ? G_PUT_S_NEVER : G_VIOLATION;
	if requester_waits(p, from) then
		return G_VIOLATION;
	endif;
	if is_forwarder(p, from) then
		/* PUT_M goes before the answer to the FWD, PUT_S after it. */
		if dir[p].put_later then
			return G_VIOLATION;
		endif;
		if owned = dir[p].wb_here then
			return never;
		endif;
		return owned ? G_PUT_M_FWD : G_PUT_S_FWD;
	endif;
	if dir[p].state = H_O & dir[p].owner = from then
		return owned ? G_PUT_M : never;
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
var grant: boolean; acks: Acks; dest: Node; kind: Kind;
begin
	dest := dir[p].req;
	if !write then
#if !SEED_SHARER_FORGOTTEN
		dir[p].sharers[dest] := true;
#endif
		send(home(p), dest, MSG_DATA_S, p, dest, 0);
		return;
	endif;
	grant := dir[p].sharers[dest];
	acks := sharers_remote(p);
	for i: Node do
		dir[p].sharers[i] := false;
	endfor;
	kind := grant ? MSG_GRANT : MSG_DATA_M;
	send(home(p), dest, kind, p, dest, acks);
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

/* One procedure for each action, so that a row's text is what the model runs. */
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

procedure home_do_DATA_S(p: Page; from: Node; m: Msg);
begin
	page_give(p, false);
end;

procedure home_do_DATA_M(p: Page; from: Node; m: Msg);
begin
	page_give(p, true);
end;

procedure home_do_FWD_S(p: Page; from: Node; m: Msg);
begin
	forward(p, false);
end;

procedure home_do_FWD_M(p: Page; from: Node; m: Msg);
begin
	forward(p, true);
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

/* The transaction is over; what follows is transaction_end. */
procedure home_do_NEXT(p: Page; from: Node; m: Msg);
begin
end;

procedure home_do_LOST(p: Page; from: Node; m: Msg);
begin
end;

#define DO(action) home_do_##action(p, from, m);
#define NOTHING
#define HOME_ROW(state_, event, next, actions) \
	elsif state = H_##state_ & e = G_##event then dir[p].state := H_##next; actions
/* The row for what happens to page p at its home; without one the sender broke the protocol. */
procedure home_row(p: Page; e: HomeEvent; from: Node; m: Msg);
var state: HomeState;
begin
	state := dir[p].state;
	if e = G_VIOLATION then
		unexpected();
#include "rows.inc"
	else
		unexpected();
	endif;
end;
#undef DO
#undef NOTHING
#undef HOME_ROW

/* Serves a request of a page that is not busy. */
procedure serve(p: Page; from: Node; m: Msg);
var e: HomeEvent;
begin
	e := home_event(from, m);
	dir[p].req := from;
	home_row(p, e, from, m);
#if SEED_DONE_NOT_AWAITED
	if dir[p].state = H_OD & !dir[p].forwarded then
		dir[p].state := H_O;
	endif;
#endif
	if !busy(p) then
		settle(p);
	endif;
end;

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

/* A transaction is over: the PUT_ACK that waited for it, then the next requests. */
procedure transaction_end(p: Page);
var m: Msg; from: Node;
begin
	if dir[p].put_later then
		send(home(p), dir[p].owner, MSG_PUT_ACK, p, dir[p].owner, 0);
	endif;
	settle(p);
#if !SEED_QUEUE_DROPPED
	while !busy(p) & !queue_empty(p) do
		from := turn(p);
		m.kind := dir[p].queue[from] = WANTS_WRITE ? MSG_GET_M : MSG_GET_S;
		m.page := p;
		m.req := from;
		dir[p].queue[from] := WANTS_NOTHING;
		serve(p, from, m);
	endwhile;
#endif
	if !busy(p) then
		dir[p].req := 0;
	endif;
end;

procedure home_put(p: Page; from: Node; m: Msg);
var e: HomeEvent; was_owner: boolean; was_busy: boolean;
begin
	e := home_event(from, m);
	was_owner := dir[p].state = H_O & dir[p].owner = from;
	was_busy := busy(p);
	/* In OH a sharer that evicts is still one that will acknowledge its INV. */
#if SEED_EVICTION_UNCOUNTED
	dir[p].sharers[from] := false;
#else
	if dir[p].state != H_OH then
		dir[p].sharers[from] := false;
	endif;
#endif
#if SEED_LATE_PUT_TAKEN
	if e = G_PUT_M_LATE then
		frame_take(home(p), p, from, m.kind);
	endif;
#endif
	home_row(p, e, from, m);
	if was_owner then
		dir[p].owner := 0;
	endif;
	if was_busy & !busy(p) then
		transaction_end(p);
	endif;
end;

/* At home(m.page). */
procedure home_message(from: Node; m: Msg);
var e: HomeEvent; p: Page;
begin
	p := m.page;
	switch m.kind
	case MSG_GET_S, MSG_GET_M:
		if busy(p) then
			home_row(p, home_event(from, m), from, m);
		else
			serve(p, from, m);
		endif;
	case MSG_PUT_M, MSG_PUT_S:
		home_put(p, from, m);
	else
		e := home_event(from, m);
#if SEED_WB_NOT_AWAITED
		if e = G_DONE & dir[p].state = H_SW then
			dir[p].state := H_SD;
		endif;
#endif
		home_row(p, e, from, m);
		if !busy(p) then
			transaction_end(p);
		endif;
	endswitch;
end;
