/* SPDX-License-Identifier: Apache-2.0 */
/* The slice side of the model: as dsm/protocol/protocol_slice.c, its rows from rows.inc. */

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

/* One procedure for each action. */
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

/* The message that an action sends, if it sends one. To ourselves as the home: our own directory sends the page, and is
 * only told that we have obeyed. A home that is the requester gets the DATA itself, and no WB. */
procedure do_SEND(n: Node; p: Page; m: Msg; a: SliceAction);
var kind: Kind; dest: Node; req: Node;
begin
	dest := home(p);
	req := n;
	switch a
	case A_GET_S: kind := MSG_GET_S;
	case A_GET_M: kind := MSG_GET_M;
	case A_PUT_M: kind := MSG_PUT_M;
	case A_PUT_S: kind := MSG_PUT_S;
	case A_DONE: kind := MSG_DONE;
	case A_WB:
		if n = home(p) | m.req = home(p) then
			return;
		endif;
		kind := MSG_WB;
		req := m.req;
	case A_DATA_S, A_DATA_M, A_ACK:
		req := m.req;
		dest := m.req;
		switch a
		case A_DATA_S: kind := MSG_DATA_S;
		case A_DATA_M: kind := MSG_DATA_M;
		else kind := MSG_ACK;
		endswitch;
		if n = home(p) then
			kind := MSG_DONE;
			dest := n;
		endif;
#if SEED_ACK_DROPPED
		if kind = MSG_ACK then
			return;
		endif;
#endif
	else
		return;
	endswitch;
	send(n, dest, kind, p, req, 0);
end;

/* What a row asks for, in the order in which the core obeys. Calls from many places would cost rumur minutes. */
procedure slice_obey(n: Node; p: Page; from: Node; m: Msg; todo: SliceActions);
begin
	if todo[A_TAKE] then do_TAKE(n, p, from, m); endif;
	if todo[A_COUNT] then do_COUNT(n, p, from, m); endif;
	if todo[A_UNMAP] then do_UNMAP(n, p, from, m); endif;
	if todo[A_PROTECT] then do_PROTECT(n, p, from, m); endif;
	if todo[A_MAP_SHARED] then do_MAP_SHARED(n, p, from, m); endif;
	if todo[A_MAP_EXCLUSIVE] then do_MAP_EXCLUSIVE(n, p, from, m); endif;
	if todo[A_MAP_UPGRADE] then do_MAP_UPGRADE(n, p, from, m); endif;
	if todo[A_DROP] then do_DROP(n, p, from, m); endif;
	if todo[A_WAKE] then do_WAKE(n, p, from, m); endif;
	if todo[A_DEFER] then do_DEFER(n, p, from, m); endif;
	for a: SliceAction do
		if todo[a] then
			do_SEND(n, p, m, a);
		endif;
	endfor;
end;

#define DO(action) todo[A_##action] := true;
#define NOTHING
#define SLICE_ROW(state_, event, next, actions) \
	if state = P_##state_ & e = E_##event then slice[n][p].state := P_##next; actions found := true; endif;
/* The row for what happens to page p at n; without one the sender broke the protocol. */
procedure slice_row(n: Node; p: Page; e: SliceEvent; from: Node; m: Msg);
var state: SliceState; todo: SliceActions; found: boolean;
begin
	state := slice[n][p].state;
	found := false;
	for a: SliceAction do
		todo[a] := false;
	endfor;
#include "rows.inc"
	if found then
		slice_obey(n, p, from, m, todo);
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
		do_SEND(n, m.page, m, A_ACK);
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

/* Is there a message set aside that this step obeys first? An upgrade would wait behind the writer that asks for our
 * copy, so that one goes first. */
function releases(n: Node; p: Page; s: Start): boolean;
begin
#if HOLDS
	return held_here(n, p) & (s = S_HOLD_END | (s = S_FAULT_WRITE & slice[n][p].state = P_S));
#else
	return false;
#endif
end;

/* A fault that must be asked for: can it be, now? */
function must_ask(n: Node; p: Page; s: Start): boolean;
begin
	return (s = S_FAULT_READ | s = S_FAULT_WRITE) &
	       (slice[n][p].state = P_I | (s = S_FAULT_WRITE & slice[n][p].state = P_S));
end;

function start_event(n: Node; p: Page; s: Start): SliceEvent;
begin
	switch s
	case S_FAULT_READ: return E_FAULT_READ;
	case S_FAULT_WRITE: return E_FAULT_WRITE;
	else return E_EVICT;
	endswitch;
end;

/* What begins at n itself: a fault, an eviction, the end of a hold time. */
procedure slice_start(n: Node; p: Page; s: Start);
var m: Msg; e: SliceEvent; from: Node; released: boolean; more: boolean;
begin
	more := true;
	while more do
		more := false;
		released := releases(n, p, s);
		if released then
#if HOLDS
			m.kind := slice[n][p].held;
			m.page := p;
			m.req := slice[n][p].held_for;
			m.acks := 0;
			from := home(p);
			e := slice_event(n, from, m);
			undefine slice[n][p].held;
			undefine slice[n][p].held_for;
			more := s != S_HOLD_END;
#endif
		else
			from := n;
			e := start_event(n, p, s);
			if e = E_FAULT_READ | e = E_FAULT_WRITE then
				if must_ask(n, p, s) & !request_room(n) then
					return;
				endif;
				slice[n][p].waiting := true;
			endif;
		endif;
#if SEED_HOLD_FORGOTTEN
		if released then
			return;
		endif;
#endif
		slice_row(n, p, e, from, m);
	endwhile;
end;
