/* SPDX-License-Identifier: Apache-2.0 */
/* Losses in the model: a node that freezes, as dsm/protocol/protocol_loss.c has it. */
#if LOSSES
/* What nobody will look at any more, so that states which differ in nothing else are one. */
procedure forget(n: Node; p: Page);
begin
	slice[n][p].state := P_I;
	slice[n][p].acks := 0;
	for i: Node do
		slice[n][p].acked[i] := false;
	endfor;
	if home(p) = n then
		dir[p].state := H_U;
		dir[p].owner := 0;
		dir[p].req := 0;
		dir[p].forwarded := false;
		dir[p].wb_here := false;
		dir[p].put_later := false;
		for i: Node do
			dir[p].sharers[i] := false;
			dir[p].queue[i] := WANTS_NOTHING;
		endfor;
	endif;
end;

/*
 * Node n sends and takes nothing from here on; its vCPUs may use what is mapped. That is a survivor that was told of a
 * loss, rightly or since a connection was cut. It is as well the node that is lost: what it had sent may still arrive,
 * and all that it could still do is less than what a frozen node may. What a cut connection swallows is a message that
 * takes for ever.
 */
procedure freeze(n: Node);
begin
	frozen[n] := true;
	for from: Node do
		while channel[from][n].count > 0 do
			channel_drop(from, n, 0);
		endwhile;
	endfor;
	for p: Page do
		slice[n][p].waiting := false;
#if HOLDS
		undefine slice[n][p].held;
		undefine slice[n][p].held_for;
#endif
#if SEED_LOST_NOT_ASKED
		if !frozen[home(p)] then
			dir[p].sharers[n] := false;
		endif;
#endif
#if !SEED_LOSS_OUTLIVED
		forget(n, p);
#endif
	endfor;
end;
#endif
