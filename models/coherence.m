/* SPDX-License-Identifier: Apache-2.0 */
/* Murphi model of the coherence protocol, for rumur: what can happen, and what must always hold. Run by models/check,
 * which defines NODES, PAGES, REQUESTS, CHANNEL_DEPTH, HOLDS, ARRIVALS, LOSSES, EVICTIONS, and for a seeded fault SEED_... */
#include "state.m"
#include "slice.m"
#include "home.m"
#include "loss.m"

function is_homes(k: Kind): boolean;
begin
	return k = MSG_GET_S | k = MSG_GET_M | k = MSG_WB | k = MSG_DONE | k = MSG_PUT_M | k = MSG_PUT_S;
end;

procedure handle(n: Node; from: Node; m: Msg);
begin
	if is_homes(m.kind) then
		if home(m.page) != n then
			unexpected();
		else
			home_message(from, m);
		endif;
	else
		slice_message(n, from, m);
	endif;
end;

/* Messages to ourselves take the same road, in the same step. */
procedure drain(n: Node);
var m: Msg;
begin
	while local_count > 0 do
		m := local[0];
		for i: 0 .. LOCAL_MAX - 2 do
			if i + 1 < local_count then
				local[i] := local[i + 1];
			endif;
		endfor;
		local_count := local_count - 1;
		undefine local[local_count];
		handle(n, n, m);
	endwhile;
#if HOLDS
	hold_after := 0;
#endif
end;

/* Will the page that comes with m be taken? */
function awaited(n: Node; from: Node; m: Msg): boolean;
begin
	switch m.kind
	case MSG_DATA_S: return slice[n][m.page].state = P_IS;
	case MSG_DATA_M: return slice[n][m.page].state = P_IM;
	case MSG_WB: return dir[m.page].state = H_SW | dir[m.page].state = H_SB;
#if SEED_PUT_M_INTO_FRAME
	case MSG_PUT_M: return dir[m.page].state = H_O & dir[m.page].owner = from;
#endif
	else return false;
	endswitch;
end;

procedure receive(from: Node; dest: Node; i: 0 .. DEPTH - 1);
var m: Msg; begun: boolean;
begin
	m := channel[from][dest].m[i];
#if ARRIVALS
	begun := channel[from][dest].begun;
	channel_drop(from, dest, i);
	if begun & !awaited(dest, from, m) then
#if SEED_PUT_M_INTO_FRAME
		/* The rest of its bytes. */
		slice[dest][m.page].fresh := slice[from][m.page].fresh;
#else
		error "a page was awaited and is not taken";
#endif
	endif;
#else
	channel_drop(from, dest, i);
#endif
	handle(dest, from, m);
	drain(dest);
end;

startstate
begin
	for n: Node do
		for p: Page do
			slice[n][p].state := P_I;
			slice[n][p].mapping := MAPPED_NONE;
			slice[n][p].fresh := n = home(p);
			slice[n][p].waiting := false;
			for i: Node do
				slice[n][p].acked[i] := false;
			endfor;
			slice[n][p].acks := 0;
		endfor;
		for dest: Node do
			channel[n][dest].count := 0;
#if ARRIVALS
			channel[n][dest].begun := false;
#endif
		endfor;
#if LOSSES
		frozen[n] := false;
#endif
	endfor;
	for p: Page do
		dir[p].state := H_U;
		for i: Node do
			dir[p].sharers[i] := false;
			dir[p].queue[i] := WANTS_NOTHING;
		endfor;
		dir[p].owner := 0;
		dir[p].req := 0;
		dir[p].forwarded := false;
		dir[p].wb_here := false;
		dir[p].put_later := false;
	endfor;
	local_count := 0;
#if HOLDS
	hold_after := 0;
#endif
end;

#if HOLDS
#define HOLD_CHOICES ruleset hold: 0 .. 2 do
#define HOLD_END endruleset;
#define HOLD_POSSIBLE(n, p) (hold = 0 | (n = home(p) & HOLDS_AT(n)))
#define HOLD_SET hold_after := hold;
#define HOLDS_AT(n) (HOLDS = 2 | n = home(0))
#else
#define HOLD_CHOICES
#define HOLD_END
#define HOLD_POSSIBLE(n, p) true
#define HOLD_SET
#endif

/* A vCPU's fault reaches the engine at any time later, whatever the page's state is by then. */
function can_start(n: Node; p: Page; s: Start): boolean;
begin
	switch s
	case S_EVICT:
#if HOLDS
		if held_here(n, p) then
			return false;
		endif;
#endif
		return EVICTIONS = 1 & n != home(p);
	case S_HOLD_END:
#if HOLDS
		return held_here(n, p);
#else
		return false;
#endif
	else return true;
	endswitch;
end;

ruleset n: Node; p: Page do
	ruleset s: Start do
	HOLD_CHOICES
	rule "start"
		!is_frozen(n) & can_start(n, p, s) & HOLD_POSSIBLE(n, p)
	==>
	begin
		HOLD_SET
		slice_start(n, p, s);
		drain(n);
	end;
	HOLD_END
	endruleset;

	rule "write"
		slice[n][p].mapping = MAPPED_WRITE
	==>
	begin
		frame_touch(n, p);
		for i: Node do
			slice[i][p].fresh := i = n;
		endfor;
	end;
endruleset;

ruleset from: Node; dest: Node do
#if SEED_UNORDERED
	ruleset i: 0 .. DEPTH - 1 do
#define INDEX i
#else
#define INDEX 0
#endif
	HOLD_CHOICES
	rule "receive"
		channel[from][dest].count > INDEX
#if HOLDS
		& (hold = 0 | (hold = 1 & HOLDS_AT(dest)) | HOLD_POSSIBLE(dest, channel[from][dest].m[INDEX].page))
#endif
	==>
	begin
		HOLD_SET
		receive(from, dest, INDEX);
#if HOLDS
		hold_after := 0;
#endif
	end;
	HOLD_END
#if SEED_UNORDERED
	endruleset;
#endif

#if ARRIVALS
	/* The first bytes of a page that is awaited go straight into the frame. */
	rule "begin"
		channel[from][dest].count > 0 & !channel[from][dest].begun &
		awaited(dest, from, channel[from][dest].m[0])
	==>
	begin
		channel[from][dest].begun := true;
		frame_touch(dest, channel[from][dest].m[0].page);
		slice[dest][channel[from][dest].m[0].page].fresh := false;
	end;
#endif
endruleset;

#if LOSSES
ruleset n: Node do
	rule "lost, or told of a loss"
		!frozen[n]
	==>
	begin
		freeze(n);
	end;

#if SEED_LOSS_OUTLIVED
	rule "goes on"
		frozen[n]
	==>
	begin
		frozen[n] := false;
	end;
#endif
endruleset;
#endif

invariant "one writer or many readers"
	forall p: Page do forall i: Node do slice[i][p].mapping = MAPPED_WRITE ->
		forall j: Node do i = j | slice[j][p].mapping = MAPPED_NONE end end end;

invariant "a read returns the last write"
	forall p: Page do forall i: Node do slice[i][p].mapping != MAPPED_NONE -> slice[i][p].fresh end end;

/* After a loss nobody need be served: then only the above is asked for. */
#if HOLDS
#define NOTHING_HELD(n, p) isundefined(slice[n][p].held)
#else
#define NOTHING_HELD(n, p) true
#endif
#define QUIET \
	(forall i: Node do forall j: Node do channel[i][j].count = 0 end end & \
	 forall i: Node do !is_frozen(i) & forall p: Page do NOTHING_HELD(i, p) end end)

invariant "every transaction ends"
	QUIET -> forall p: Page do
		!busy(p) & queue_empty(p) & !dir[p].forwarded & !dir[p].wb_here & !dir[p].put_later end;

invariant "nobody waits at rest"
	QUIET -> forall p: Page do forall n: Node do
		!slice[n][p].waiting end end;

invariant "directory and caches agree at rest"
	QUIET -> forall p: Page do forall n: Node do
		((slice[n][p].state = P_M) = (dir[p].state = H_O & dir[p].owner = n)) &
		((slice[n][p].state = P_S) = (dir[p].state = H_S & dir[p].sharers[n])) &
		(slice[n][p].state = P_I | slice[n][p].state = P_S | slice[n][p].state = P_M) end end;

invariant "the home's frame holds a shared page"
	QUIET -> forall p: Page do dir[p].state = H_S -> slice[home(p)][p].fresh end;
