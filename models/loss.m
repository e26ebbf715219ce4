/* SPDX-License-Identifier: Apache-2.0 */
/* The loss of a node in the model: as dsm/protocol_loss.c and home_lose of dsm/protocol_home.c. */
#if LOSSES
procedure slice_tear(n: Node; p: Page);
var m: Msg; e: SliceEvent;
begin
	/* A directory that is here sees to its pages itself. */
	e := home(p) = n | gone[home(p)] ? E_ORPHAN : E_TORN;
	for i: Node do
		slice[n][p].acked[i] := false;
	endfor;
	slice[n][p].acks := 0;
#if SEED_TORN_SILENTLY
	if slice[n][p].state = P_IS | slice[n][p].state = P_IM then
		slice[n][p].state := P_I;
		slice[n][p].waiting := false;
		return;
	endif;
#endif
	slice_row(n, p, e, n, m);
end;

procedure dir_clear(p: Page; s: HomeState);
begin
	dir[p].state := s;
	for i: Node do
		dir[p].sharers[i] := false;
		dir[p].queue[i] := WANTS_NOTHING;
	endfor;
	dir[p].owner := 0;
	dir[p].req := 0;
	dir[p].forwarded := false;
	dir[p].wb_here := false;
	dir[p].put_later := false;
end;

procedure home_lose(p: Page; lost: Node);
var m: Msg; e: HomeEvent;
begin
	if dir[p].state = H_U then
		return;
	endif;
	e := dir[p].state = H_O & dir[p].owner = lost ? G_OWNER_LOST : G_SLICE_LOST;
	for i: Node do
		dir[p].queue[i] := WANTS_NOTHING;
	endfor;
	dir[p].sharers[lost] := false;
#if SEED_OWNER_LOSS_IGNORED
	if e = G_OWNER_LOST then
		dir_clear(p, H_S);
		return;
	endif;
#endif
	home_row(p, e, lost, m);
	if dir[p].state = H_L then
		dir_clear(p, H_L);
	endif;
end;

/* What is in a channel from another epoch will be dropped by its receiver, whenever it is looked at. */
procedure inbound_clear(n: Node);
var i: 0 .. DEPTH;
begin
	for from: Node do
		i := 0;
		while i < channel[from][n].count do
			if channel[from][n].m[i].epoch != knows[n] then
				channel_drop(from, n, i);
			else
				i := i + 1;
			endif;
		endwhile;
	endfor;
end;

/* Node n is told that `lost` is gone: evictions, requests, directory, in this order. */
procedure loss_learn(n: Node; lost: Node);
var s: SliceState; evicting: array [Page] of boolean;
begin
	knows[n] := true;
#if !SEED_EPOCH_IGNORED
	inbound_clear(n);
#endif
#if HOLDS
	for p: Page do
		undefine slice[n][p].held;
		undefine slice[n][p].held_for;
	endfor;
#endif
	for p: Page do
		s := slice[n][p].state;
		evicting[p] := s = P_MI | s = P_SI | s = P_II | s = P_T;
		if evicting[p] then
			slice_tear(n, p);
		endif;
	endfor;
	for p: Page do
		if !evicting[p] & request_open(n, p) then
			slice_tear(n, p);
		endif;
	endfor;
	for p: Page do
		if home(p) = n then
			home_lose(p, lost);
		endif;
	endfor;
end;

/* The node stops: what it has sent may still arrive, what is sent to it is gone. Its frames stay readable for the
 * former. */
procedure node_lose(n: Node);
begin
	gone[n] := true;
	for other: Node do
		while channel[other][n].count > 0 do
			channel_drop(other, n, 0);
		endwhile;
	endfor;
	for p: Page do
		slice[n][p].state := P_I;
		slice[n][p].mapping := MAPPED_NONE;
		slice[n][p].waiting := false;
		for i: Node do
			slice[n][p].acked[i] := false;
		endfor;
		slice[n][p].acks := 0;
#if HOLDS
		undefine slice[n][p].held;
		undefine slice[n][p].held_for;
#endif
		if home(p) = n then
			dir_clear(p, H_U);
		endif;
	endfor;
end;
#endif
