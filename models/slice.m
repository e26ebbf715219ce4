/* SPDX-License-Identifier: Apache-2.0 */
/* The slice side of the model: as dsm/protocol_slice.c, its rows from rows.inc. */

procedure map(n: Node; p: Page; before: Mapping; after: Mapping);
begin
	if slice[n][p].mapping != before then
		error "a mapping changes from another state than the action says";
	endif;
	slice[n][p].mapping := after;
	slice[n][p].waiting := false;
	for i: Node do
		slice[n][p].acked[i] := false;
	endfor;
	slice[n][p].acks := 0;
end;

/* One procedure for each action, so that a row's text is what the model runs. */
procedure do_TAKE(n: Node; p: Page; from: Node; m: Msg);
begin
	frame_take(n, p, from, m.kind);
end;

procedure do_COUNT(n: Node; p: Page; from: Node; m: Msg);
begin
	slice[n][p].acked[from] := true;
end;

procedure do_UNMAP(n: Node; p: Page; from: Node; m: Msg);
begin
#if SEED_UNMAP_FORGOTTEN
	if slice[n][p].mapping = MAPPED_WRITE & slice[n][p].state = P_I then
		return;
	endif;
#endif
	if slice[n][p].mapping = MAPPED_NONE then
		error "an unmapped page is unmapped";
	endif;
	slice[n][p].mapping := MAPPED_NONE;
end;

procedure do_PROTECT(n: Node; p: Page; from: Node; m: Msg);
begin
#if !SEED_PROTECT_FORGOTTEN
	slice[n][p].mapping := MAPPED_READ;
#endif
end;

procedure do_MAP_SHARED(n: Node; p: Page; from: Node; m: Msg);
begin
	map(n, p, MAPPED_NONE, MAPPED_READ);
end;

procedure do_MAP_EXCLUSIVE(n: Node; p: Page; from: Node; m: Msg);
begin
	map(n, p, MAPPED_NONE, MAPPED_WRITE);
end;

procedure do_MAP_UPGRADE(n: Node; p: Page; from: Node; m: Msg);
begin
	map(n, p, MAPPED_READ, MAPPED_WRITE);
end;

/* The engine may keep the bytes, but nothing may count on them. */
procedure do_DROP(n: Node; p: Page; from: Node; m: Msg);
begin
	frame_touch(n, p);
	slice[n][p].fresh := false;
end;

procedure do_WAKE(n: Node; p: Page; from: Node; m: Msg);
begin
#if SEED_WAKE_FORGOTTEN
	if slice[n][p].state = P_I then
		return;
	endif;
#endif
	slice[n][p].waiting := false;
end;

procedure do_DEFER(n: Node; p: Page; from: Node; m: Msg);
begin
#if HOLDS
	slice[n][p].held := m.kind;
	slice[n][p].held_for := m.req;
#else
	error "nothing is held in this configuration";
#endif
end;

/* Its vCPUs wait for ever, and that was said. */
procedure do_LOST(n: Node; p: Page; from: Node; m: Msg);
begin
	slice[n][p].waiting := false;
end;

/* Our own directory sends the page itself: it is only told that we have obeyed. */
procedure do_DATA_S(n: Node; p: Page; from: Node; m: Msg);
begin
	if n = home(p) then
		send(n, n, MSG_DONE, p, m.req, 0);
	else
		send(n, m.req, MSG_DATA_S, p, m.req, 0);
	endif;
end;

procedure do_DATA_M(n: Node; p: Page; from: Node; m: Msg);
begin
	if n = home(p) then
		send(n, n, MSG_DONE, p, m.req, 0);
	else
		send(n, m.req, MSG_DATA_M, p, m.req, 0);
	endif;
end;

/* A home that is the requester gets the DATA itself. */
procedure do_WB(n: Node; p: Page; from: Node; m: Msg);
begin
	if n != home(p) & m.req != home(p) then
		send(n, home(p), MSG_WB, p, m.req, 0);
	endif;
end;

procedure do_ACK(n: Node; p: Page; from: Node; m: Msg);
begin
	if n = home(p) then
		send(n, n, MSG_DONE, p, m.req, 0);
#if !SEED_ACK_DROPPED
	else
		send(n, m.req, MSG_ACK, p, m.req, 0);
#endif
	endif;
end;

procedure do_GET_S(n: Node; p: Page; from: Node; m: Msg);
begin
	send(n, home(p), MSG_GET_S, p, n, 0);
end;

procedure do_GET_M(n: Node; p: Page; from: Node; m: Msg);
begin
	send(n, home(p), MSG_GET_M, p, n, 0);
end;

procedure do_PUT_M(n: Node; p: Page; from: Node; m: Msg);
begin
	send(n, home(p), MSG_PUT_M, p, n, 0);
end;

procedure do_PUT_S(n: Node; p: Page; from: Node; m: Msg);
begin
	send(n, home(p), MSG_PUT_S, p, n, 0);
end;

procedure do_DONE(n: Node; p: Page; from: Node; m: Msg);
begin
	send(n, home(p), MSG_DONE, p, n, 0);
end;

#define DO(action) do_##action(n, p, from, m);
#define NOTHING
#define SLICE_ROW(state_, event, next, actions) \
	elsif state = P_##state_ & e = E_##event then slice[n][p].state := P_##next; actions
/* The row for what happens to page p at n; without one the sender broke the protocol. */
procedure slice_row(n: Node; p: Page; e: SliceEvent; from: Node; m: Msg);
var state: SliceState;
begin
	state := slice[n][p].state;
	if e = E_VIOLATION then
		unexpected();
#include "rows.inc"
	else
		unexpected();
	endif;
end;
#undef DO
#undef NOTHING
#undef SLICE_ROW

function acks_here(n: Node; p: Page): Acks;
var sum: Acks;
begin
	sum := 0;
	for i: Node do
		if slice[n][p].acked[i] then
			sum := sum + 1;
		endif;
	endfor;
	return sum;
end;

function request_open(n: Node; p: Page): boolean;
var s: SliceState;
begin
	s := slice[n][p].state;
	return s = P_IS | s = P_IM | s = P_IMA | s = P_SM | s = P_SMA;
end;

function is_asking(k: Kind): boolean;
begin
	return k = MSG_FWD_S | k = MSG_FWD_M | k = MSG_INV;
end;

/* Is an answer for our own request on a page homed here one that the directory waits for? */
function answer_expected(n: Node; from: Node; m: Msg): boolean;
begin
	if home(m.page) != n | from = n then
		return true;
	endif;
	if dir[m.page].req != n | (dir[m.page].state != H_SD & dir[m.page].state != H_OD) then
		return false;
	endif;
	if m.kind = MSG_DATA_S | m.kind = MSG_DATA_M then
		return dir[m.page].forwarded & dir[m.page].owner = from;
	endif;
	return m.kind = MSG_ACK & !dir[m.page].forwarded;
end;

/* What the acknowledgements that are here and those announced make of a DATA for writing, or of a GRANT. */
function slice_event_acks(n: Node; m: Msg; all: SliceEvent; none: SliceEvent; out: SliceEvent;
			  from_home: boolean): SliceEvent;
var have: Acks;
begin
	have := acks_here(n, m.page);
	if have > m.acks then
		return E_VIOLATION;
	endif;
	if have < m.acks then
#if SEED_GRANT_EARLY
		return all;
#else
		return out;
#endif
	endif;
	if from_home & m.acks = 0 then
		return none;
	endif;
	return all;
end;

function slice_event_ack(n: Node; from: Node; p: Page): SliceEvent;
begin
	if !request_open(n, p) | slice[n][p].acked[from] then
		return E_VIOLATION;
	endif;
	if slice[n][p].acks != 0 & acks_here(n, p) + 1 = slice[n][p].acks then
		return E_ACK_LAST;
	endif;
	return E_ACK;
end;

function slice_event(n: Node; from: Node; m: Msg): SliceEvent;
var from_home: boolean;
begin
	from_home := from = home(m.page);
	if is_asking(m.kind) then
		if !from_home | m.req = n then
			return E_VIOLATION;
		endif;
		switch m.kind
		case MSG_FWD_S: return E_FWD_S;
		case MSG_FWD_M: return E_FWD_M;
		else return E_INV;
		endswitch;
	endif;
	if m.req != n | !answer_expected(n, from, m) then
		return E_VIOLATION;
	endif;
	switch m.kind
	case MSG_DATA_S:
		if m.acks != 0 then
			return E_VIOLATION;
		elsif from_home then
			return E_DATA_S_HOME;
		endif;
		return E_DATA_S;
	case MSG_DATA_M:
		if m.acks != 0 & !from_home then
			return E_VIOLATION;
		endif;
		return slice_event_acks(n, m, E_DATA_M, E_DATA_M_HOME, E_DATA_M_ACKS, from_home);
	case MSG_GRANT:
		if !from_home then
			return E_VIOLATION;
		endif;
		return slice_event_acks(n, m, E_GRANT, E_GRANT_ALONE, E_GRANT_ACKS, true);
	case MSG_ACK:
		return slice_event_ack(n, from, m.page);
	case MSG_PUT_ACK:
		if from_home then
			return E_PUT_ACK;
		endif;
		return E_VIOLATION;
	else
		return E_VIOLATION;
	endswitch;
end;

#if HOLDS
function held_here(n: Node; p: Page): boolean;
begin
	return !isundefined(slice[n][p].held);
end;

/* Does this step's choice set it aside? */
function hold_taken(): boolean;
begin
	if hold_after = 0 then
		return false;
	endif;
	hold_after := hold_after - 1;
	return hold_after = 0;
end;
#endif

procedure slice_message(n: Node; from: Node; m: Msg);
var e: SliceEvent;
begin
	e := slice_event(n, from, m);
#if SEED_INV_KEEPS_UPGRADE
	if e = E_INV & slice[n][m.page].state = P_SM then
		do_ACK(n, m.page, from, m);
		return;
	endif;
#endif
#if SEED_EVICTED_DEAF
	if (e = E_FWD_S | e = E_FWD_M) & slice[n][m.page].state = P_MI then
		return;
	endif;
#endif
#if HOLDS
	if is_asking(m.kind) then
		if held_here(n, m.page) then
			unexpected();
		endif;
		if slice[n][m.page].state = P_S | slice[n][m.page].state = P_M then
			if hold_taken() then
				e := E_HELD;
			endif;
		endif;
	endif;
#endif
	if (m.kind = MSG_DATA_M | m.kind = MSG_GRANT) & m.acks != 0 then
		slice[n][m.page].acks := m.acks;
	endif;
	slice_row(n, m.page, e, from, m);
end;

/* Obeys what was set aside, if anything. */
procedure hold_release(n: Node; p: Page);
var m: Msg;
begin
#if HOLDS
	if !held_here(n, p) then
		return;
	endif;
	m.kind := slice[n][p].held;
	m.page := p;
	m.req := slice[n][p].held_for;
	m.acks := 0;
	undefine slice[n][p].held;
	undefine slice[n][p].held_for;
#if !SEED_HOLD_FORGOTTEN
	slice_row(n, p, slice_event(n, home(p), m), home(p), m);
#endif
#endif
end;

/* A slice has this many requests at most; beyond it a fault is to come again later. */
function request_room(n: Node): boolean;
var open: 0 .. PAGES;
begin
	open := 0;
	for p: Page do
		if request_open(n, p) then
			open := open + 1;
		endif;
	endfor;
	return open < REQUESTS;
end;

procedure slice_fault(n: Node; p: Page; write: boolean);
var m: Msg; e: SliceEvent; s: SliceState;
begin
	/* An upgrade would wait behind the writer that asks for our copy: let that one go first. */
	if write & slice[n][p].state = P_S then
		hold_release(n, p);
	endif;
	s := slice[n][p].state;
	e := write ? E_FAULT_WRITE : E_FAULT_READ;
	if s = P_I | (s = P_S & write) then
		if lost_for(n, home(p)) then
			e := E_ORPHAN;
		elsif !request_room(n) then
			return;
		endif;
	endif;
	slice[n][p].waiting := true;
	slice_row(n, p, e, n, m);
end;
