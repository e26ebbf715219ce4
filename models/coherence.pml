/* SPDX-License-Identifier: Apache-2.0 */
/* Promela model of the coherence protocol, for spin: every fault is answered. One page, homed at node 0. Run by
 * models/check, which defines NODES, CHANNEL_DEPTH, HOLDS, EVICTIONS, WATCHED (whose faults the claim is about), and for
 * a seeded fault SEED_... What the page holds, and losses, are the Murphi model's matter. */

mtype = {
	MSG_NOTHING, MSG_GET_S, MSG_GET_M, MSG_FWD_S, MSG_FWD_M, MSG_INV, MSG_ACK, MSG_DATA_S, MSG_DATA_M, MSG_GRANT,
	MSG_WB, MSG_DONE, MSG_PUT_M, MSG_PUT_S, MSG_PUT_ACK,
	P_I, P_S, P_M, P_IS, P_IM, P_IMA, P_SM, P_SMA, P_MI, P_SI, P_II,
	E_FAULT_READ, E_FAULT_WRITE, E_EVICT, E_FWD_S, E_FWD_M, E_INV, E_HELD, E_DATA_S, E_DATA_S_HOME, E_DATA_M,
	E_DATA_M_HOME, E_DATA_M_ACKS, E_GRANT, E_GRANT_ALONE, E_GRANT_ACKS, E_ACK, E_ACK_LAST, E_PUT_ACK,
	H_U, H_S, H_O, H_SD, H_OD, H_SH, H_OH, H_SW, H_SB,
	G_GET_S, G_GET_S_NEAR, G_GET_S_OWN, G_GET_M, G_GET_M_OTHERS, G_GET_M_OWN, G_DONE, G_OWN, G_OWN_OTHERS, G_WB,
	G_PUT_M, G_PUT_M_FWD, G_PUT_M_LATE, G_PUT_S, G_PUT_S_FWD, G_PUT_S_LATE,
	VIOLATION,
	WANTS_NOTHING, WANTS_READ, WANTS_WRITE,
	TASK_NOTHING, TASK_MESSAGE, TASK_RELEASE, TASK_FAULT, TASK_SLICE, TASK_NEXT,
	RECEIVER, VCPU, TIMER, IDLE
};

#define HOME 0
#define BIT(n) (1 << (n))
#define COUNT(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1) + (((set) >> 3) & 1))

/* Slice side, by node. */
mtype state[NODES] = P_I;
byte acked[NODES];
byte acks[NODES];
mtype held[NODES] = MSG_NOTHING; /* set aside for the hold time */
byte held_for[NODES];
mtype want[NODES] = WANTS_NOTHING; /* the access that a vCPU is about to make */
bool asleep[NODES];                /* it sleeps in its fault */

/* Home side. */
mtype home = H_U;
byte sharers;
byte owner;
byte requester;
bool forwarded;
bool wb_here;
bool put_later;
mtype queue[NODES] = WANTS_NOTHING;

chan channel[NODES * NODES] = [CHANNEL_DEPTH] of { mtype, byte, byte };

/* What the step is about, and who takes it; cleared at its end. Which FWD or INV of it is set aside: the so-many-th. */
byte me;
byte from;
mtype msg;
byte msg_req;
byte msg_acks;
mtype ev;
mtype task;
byte hold_after;

/* Scratch inside one step: set before it is read. The messages to ourselves are none between two steps. */
hidden mtype before, again;
hidden int todo;
hidden byte i, was_owner, was_busy, grant;
hidden byte local_count;
hidden mtype local_kind[4];
hidden byte local_req[4], local_acks[4];

inline send(dest_, kind_, req_, acks_)
{
	if
	:: (dest_) == me ->
		assert(local_count < 4);
		local_kind[local_count] = kind_;
		local_req[local_count] = req_;
		local_acks[local_count] = acks_;
		local_count++
	:: else ->
		assert(nfull(channel[me * NODES + (dest_)]));
		channel[me * NODES + (dest_)]!kind_, req_, acks_
	fi
}

/* A vCPU that is woken makes its access at once if it can: the page stays that long (hold time). */
inline wake()
{
	asleep[me] = false;
	if
	:: state[me] == P_M -> want[me] = WANTS_NOTHING
	:: (state[me] == P_S || state[me] == P_SM || state[me] == P_SMA) && want[me] == WANTS_READ ->
		want[me] = WANTS_NOTHING
	:: else
	fi
}

inline mapped()
{
	acked[me] = 0;
	acks[me] = 0;
	wake()
}

/* The actions of a row, as bits: the row's text sets them, and slice_obey does them in order. */
#define SLICE_TAKE 1
#define SLICE_COUNT 2
#define SLICE_UNMAP 4
#define SLICE_PROTECT 8
#define SLICE_MAP_SHARED 16
#define SLICE_MAP_EXCLUSIVE 32
#define SLICE_MAP_UPGRADE 64
#define SLICE_DROP 128
#define SLICE_WAKE 256
#define SLICE_DEFER 512
#define SLICE_DATA_S 1024
#define SLICE_WB 2048
#define SLICE_DATA_M 4096
#define SLICE_ACK 8192
#define SLICE_GET_S 16384
#define SLICE_GET_M 32768
#define SLICE_PUT_M 65536
#define SLICE_PUT_S 131072
#define SLICE_DONE 262144

#define IF_DO(action, what) if :: todo & (action) -> what :: else fi

inline answer(kind_)
{
	if
	:: me == HOME -> send(HOME, MSG_DONE, msg_req, 0)
	:: else -> send(msg_req, kind_, msg_req, 0)
	fi
}

/* What the page holds and how it is mapped is the Murphi model's matter: TAKE, UNMAP, PROTECT, DROP do nothing here. */
inline slice_obey()
{
	IF_DO(SLICE_COUNT, acked[me] = acked[me] | BIT(from));
	IF_DO(SLICE_MAP_SHARED | SLICE_MAP_EXCLUSIVE | SLICE_MAP_UPGRADE, mapped());
	IF_DO(SLICE_WAKE, wake());
	IF_DO(SLICE_DEFER, held[me] = msg; held_for[me] = msg_req);
	IF_DO(SLICE_DATA_S, answer(MSG_DATA_S));
	IF_DO(SLICE_WB, if :: me != HOME && msg_req != HOME -> send(HOME, MSG_WB, msg_req, 0) :: else fi);
	IF_DO(SLICE_DATA_M, answer(MSG_DATA_M));
#if SEED_ACK_DROPPED
	IF_DO(SLICE_ACK, if :: me == HOME -> answer(MSG_ACK) :: else fi);
#else
	IF_DO(SLICE_ACK, answer(MSG_ACK));
#endif
	IF_DO(SLICE_GET_S, send(HOME, MSG_GET_S, me, 0));
	IF_DO(SLICE_GET_M, send(HOME, MSG_GET_M, me, 0));
	IF_DO(SLICE_PUT_M, send(HOME, MSG_PUT_M, me, 0));
	IF_DO(SLICE_PUT_S, send(HOME, MSG_PUT_S, me, 0));
	IF_DO(SLICE_DONE, send(HOME, MSG_DONE, me, 0))
}

#define DO(action) todo = todo | SLICE_##action;
#define NOTHING
#define SLICE_ROW(state_, event, next, actions) \
	:: before == P_##state_ && ev == E_##event -> state[me] = P_##next; actions
inline slice_row()
{
	before = state[me];
	todo = 0;
	if
#include "rows.inc"
	:: else -> assert(false) /* an unexpected message */
	fi;
	slice_obey()
}
#undef DO
#undef NOTHING
#undef SLICE_ROW

#define IS_ASKING(k) ((k) == MSG_FWD_S || (k) == MSG_FWD_M || (k) == MSG_INV)
#define REQUEST_OPEN (state[me] == P_IS || state[me] == P_IM || state[me] == P_IMA || state[me] == P_SM || \
		      state[me] == P_SMA)
/* Is an answer for the home's own request one that the directory waits for? */
#define EXPECTED(ok) (me != HOME || from == HOME || \
		      (requester == HOME && (home == H_SD || home == H_OD) && (ok)))

inline slice_event_acks(all, none, out)
{
	if
	:: COUNT(acked[me]) > msg_acks -> ev = VIOLATION
	:: COUNT(acked[me]) < msg_acks -> ev = out
	:: else -> ev = (from == HOME && msg_acks == 0 -> none : all)
	fi
}

inline slice_event()
{
	ev = VIOLATION;
	if
	:: from == HOME && msg_req != me && msg == MSG_FWD_S -> ev = E_FWD_S
	:: from == HOME && msg_req != me && msg == MSG_FWD_M -> ev = E_FWD_M
	:: from == HOME && msg_req != me && msg == MSG_INV -> ev = E_INV
	:: from == HOME && msg_req == me && msg == MSG_PUT_ACK -> ev = E_PUT_ACK
	:: msg_req == me && msg == MSG_DATA_S && msg_acks == 0 && EXPECTED(forwarded && owner == from) ->
		ev = (from == HOME -> E_DATA_S_HOME : E_DATA_S)
	:: msg_req == me && msg == MSG_DATA_M && (msg_acks == 0 || from == HOME) &&
	   EXPECTED(forwarded && owner == from) ->
		slice_event_acks(E_DATA_M, E_DATA_M_HOME, E_DATA_M_ACKS)
	:: msg_req == me && msg == MSG_GRANT && from == HOME -> slice_event_acks(E_GRANT, E_GRANT_ALONE, E_GRANT_ACKS)
	:: msg_req == me && msg == MSG_ACK && EXPECTED(!forwarded) && REQUEST_OPEN && !(acked[me] & BIT(from)) ->
		ev = (acks[me] && COUNT(acked[me]) + 1 == acks[me] -> E_ACK_LAST : E_ACK)
	:: else
	fi
}

/* Sets the event of a message for the slice side, or of its being set aside. */
inline slice_message()
{
	slice_event();
	if
	:: IS_ASKING(msg) && (state[me] == P_S || state[me] == P_M) ->
		assert(held[me] == MSG_NOTHING);
		if
		:: hold_after == 1 -> ev = E_HELD; hold_after = 0
		:: hold_after > 1 -> hold_after--
		:: else
		fi
	:: (msg == MSG_DATA_M || msg == MSG_GRANT) && msg_acks -> acks[me] = msg_acks
	:: else
	fi
}

#define BUSY (home == H_SD || home == H_OD || home == H_SH || home == H_OH || home == H_SW || home == H_SB)
#define REQUESTER_WAITS(n) (BUSY && home != H_SB && requester == (n))
#define FORWARDER(n) (BUSY && forwarded && owner == (n))
#define SHARERS_REMOTE (sharers & ~BIT(HOME) & ~BIT(requester))
#if NODES == 2
#define QUEUE_EMPTY (queue[0] == WANTS_NOTHING && queue[1] == WANTS_NOTHING)
#else
#define QUEUE_EMPTY (queue[0] == WANTS_NOTHING && queue[1] == WANTS_NOTHING && queue[2] == WANTS_NOTHING)
#endif

/* The home's frame, or the right to write, to the requester. */
inline give_shared()
{
	sharers = sharers | BIT(requester);
	send(requester, MSG_DATA_S, requester, 0)
}

inline give_exclusive()
{
	grant = (sharers & BIT(requester)) != 0;
	i = COUNT(SHARERS_REMOTE);
	sharers = 0;
	send(requester, (grant -> MSG_GRANT : MSG_DATA_M), requester, i)
}

inline forward(kind_, after)
{
	forwarded = true;
	sharers = after;
	send(owner, kind_, requester, 0)
}

inline invalidate()
{
	for (i : 0 .. NODES - 1) {
		if
		:: (sharers & BIT(i)) && i != requester -> send(i, MSG_INV, requester, 0)
		:: else
		fi
	}
}

inline settle()
{
	forwarded = false;
	wb_here = false;
	put_later = false;
	owner = (home == H_O -> requester : 0);
	if
	:: QUEUE_EMPTY -> requester = 0
	:: else
	fi
}

#define HOME_TAKE 1
#define HOME_DROP_SHARER 2
#define HOME_QUEUE 4
#define HOME_INV 8
#define HOME_DATA_S 16
#define HOME_DATA_M 32
#define HOME_FWD_S 64
#define HOME_FWD_M 128
#define HOME_PUT_ACK 256
#define HOME_PUT_LATER 512
#define HOME_NEXT 1024

inline home_obey()
{
	IF_DO(HOME_TAKE, if :: msg == MSG_WB -> wb_here = true :: else fi);
	IF_DO(HOME_DROP_SHARER, sharers = sharers & ~BIT(from));
	IF_DO(HOME_QUEUE, queue[from] = (msg == MSG_GET_M -> WANTS_WRITE : WANTS_READ));
	IF_DO(HOME_INV, invalidate());
	IF_DO(HOME_DATA_S, give_shared());
	IF_DO(HOME_DATA_M, give_exclusive());
	IF_DO(HOME_FWD_S, forward(MSG_FWD_S, BIT(owner) | BIT(requester)));
	IF_DO(HOME_FWD_M, forward(MSG_FWD_M, 0));
	IF_DO(HOME_PUT_ACK, send(from, MSG_PUT_ACK, from, 0));
	IF_DO(HOME_PUT_LATER, put_later = true)
}

#define DO(action) todo = todo | HOME_##action;
#define NOTHING
#define HOME_ROW(state_, event, next, actions) \
	:: before == H_##state_ && ev == G_##event -> home = H_##next; actions
inline home_row()
{
	before = home;
	todo = 0;
	if
#include "rows.inc"
	:: else -> assert(false) /* an unexpected message */
	fi;
	home_obey()
}
#undef DO
#undef NOTHING
#undef HOME_ROW

inline home_event_get()
{
	if
	:: BUSY && (REQUESTER_WAITS(from) || queue[from] != WANTS_NOTHING) -> ev = VIOLATION
	:: BUSY && !(REQUESTER_WAITS(from) || queue[from] != WANTS_NOTHING) ->
		ev = (msg == MSG_GET_M -> G_GET_M : G_GET_S)
	:: home == H_O && owner == from -> ev = VIOLATION
	:: home == H_O && owner != from && msg == MSG_GET_M -> ev = (owner == HOME -> G_GET_M_OWN : G_GET_M)
	:: home == H_O && owner != from && msg == MSG_GET_S ->
		ev = (from == HOME -> G_GET_S_NEAR : (owner == HOME -> G_GET_S_OWN : G_GET_S))
	:: home == H_S && msg == MSG_GET_M ->
		ev = ((sharers & BIT(HOME)) && from != HOME -> G_GET_M_OWN :
		      ((sharers & ~BIT(from)) -> G_GET_M_OTHERS : G_GET_M))
	:: home == H_S && msg == MSG_GET_S -> ev = (sharers & BIT(from) -> VIOLATION : G_GET_S)
	:: home == H_U -> ev = (msg == MSG_GET_M -> G_GET_M : G_GET_S)
	:: else -> ev = VIOLATION
	fi
}

inline home_event_put()
{
	if
	:: REQUESTER_WAITS(from) -> ev = VIOLATION
	:: !REQUESTER_WAITS(from) && FORWARDER(from) ->
		if
		:: put_later -> ev = VIOLATION
		:: !put_later && msg == MSG_PUT_M -> ev = (wb_here -> VIOLATION : G_PUT_M_FWD)
		:: !put_later && msg == MSG_PUT_S -> ev = (wb_here -> G_PUT_S_FWD : VIOLATION)
		fi
	:: !BUSY && home == H_O && owner == from -> ev = (msg == MSG_PUT_M -> G_PUT_M : VIOLATION)
	:: else ->
		if
		:: msg == MSG_PUT_M -> ev = (sharers & BIT(from) -> VIOLATION : G_PUT_M_LATE)
		:: else -> ev = ((sharers & BIT(from)) && home != H_OH -> G_PUT_S : G_PUT_S_LATE)
		fi
	fi
}

inline home_event()
{
	if
	:: msg == MSG_GET_S || msg == MSG_GET_M -> home_event_get()
	:: msg == MSG_PUT_S || msg == MSG_PUT_M -> home_event_put()
	:: msg == MSG_WB -> ev = (FORWARDER(from) && msg_req == requester -> G_WB : VIOLATION)
	:: msg == MSG_DONE && msg_req == from -> ev = (REQUESTER_WAITS(from) -> G_DONE : VIOLATION)
	:: msg == MSG_DONE && msg_req != from ->
		if
		:: from == HOME && (home == H_SH || home == H_OH) && msg_req == requester ->
			ev = (home == H_OH && SHARERS_REMOTE -> G_OWN_OTHERS : G_OWN)
		:: else -> ev = VIOLATION
		fi
	fi
}

/* One message at the directory, without what its end lets in. */
inline home_message()
{
	home_event();
	was_busy = BUSY;
	was_owner = home == H_O && owner == from && (msg == MSG_PUT_M || msg == MSG_PUT_S);
	if
	:: (msg == MSG_PUT_M || msg == MSG_PUT_S) && home != H_OH -> sharers = sharers & ~BIT(from)
	:: (msg == MSG_GET_M || msg == MSG_GET_S) && !was_busy -> requester = from
	:: else
	fi;
	home_row();
	if
	:: was_owner -> owner = 0
	:: else
	fi;
	if
	:: was_busy && !BUSY && put_later -> send(owner, MSG_PUT_ACK, owner, 0)
	:: else
	fi;
	if
	:: !BUSY && (was_busy || msg == MSG_GET_M || msg == MSG_GET_S) -> settle()
	:: else
	fi
}

#define IS_HOMES(k) ((k) == MSG_GET_S || (k) == MSG_GET_M || (k) == MSG_WB || (k) == MSG_DONE || (k) == MSG_PUT_M || \
		     (k) == MSG_PUT_S)

/* The next request of the queue, of the slice whose turn it is. */
inline queue_pop()
{
#if SEED_TURN_UNFAIR
#define TURN_BY (NODES - 1)
	from = 0;
#else
#define TURN_BY 1
	from = requester;
#endif
	do
	:: true ->
		from = (from + TURN_BY) % NODES;
		if
		:: queue[from] != WANTS_NOTHING -> break
		:: else
		fi
	od;
	msg = (queue[from] == WANTS_WRITE -> MSG_GET_M : MSG_GET_S);
	msg_req = from;
	msg_acks = 0;
	queue[from] = WANTS_NOTHING
}

inline local_pop()
{
	from = me;
	msg = local_kind[0];
	msg_req = local_req[0];
	msg_acks = local_acks[0];
	local_count--;
	local_kind[0] = local_kind[1];
	local_kind[1] = local_kind[2];
	local_kind[2] = local_kind[3];
	local_req[0] = local_req[1];
	local_req[1] = local_req[2];
	local_req[2] = local_req[3];
	local_acks[0] = local_acks[1];
	local_acks[1] = local_acks[2];
	local_acks[2] = local_acks[3]
}

/* The message that was set aside, out again. */
inline hold_pop()
{
	from = HOME;
	msg = held[me];
	msg_req = held_for[me];
	msg_acks = 0;
	held[me] = MSG_NOTHING;
	held_for[me] = 0;
	slice_event()
}

inline fault_begin()
{
	asleep[me] = true;
	from = me;
	ev = (want[me] == WANTS_WRITE -> E_FAULT_WRITE : E_FAULT_READ)
}

/* A step: what the task says, then the queue as long as the page is at rest, then messages to ourselves. */
inline step()
{
	again = TASK_NEXT;
	local_count = 0;
	do
	:: task == TASK_MESSAGE ->
		if
		:: IS_HOMES(msg) ->
			assert(me == HOME);
			home_message();
			task = TASK_NEXT
		:: else ->
			slice_message();
			task = TASK_SLICE
		fi
	:: task == TASK_RELEASE ->
		hold_pop();
		task = TASK_SLICE
	:: task == TASK_FAULT ->
		/* An upgrade would wait behind the writer that asks for our copy: let that one go first. */
		if
		:: want[me] == WANTS_WRITE && state[me] == P_S && held[me] != MSG_NOTHING ->
			task = TASK_RELEASE;
			again = TASK_FAULT
		:: else ->
			fault_begin();
			task = TASK_SLICE
		fi
	:: task == TASK_SLICE ->
		slice_row();
		task = again;
		again = TASK_NEXT
	:: task == TASK_NEXT ->
#if SEED_QUEUE_DROPPED
		if
		:: local_count > 0 -> local_pop(); task = TASK_MESSAGE
		:: else -> break
		fi
#else
		if
		:: me == HOME && !BUSY && !QUEUE_EMPTY -> queue_pop(); task = TASK_MESSAGE
		:: !(me == HOME && !BUSY && !QUEUE_EMPTY) && local_count > 0 -> local_pop(); task = TASK_MESSAGE
		:: !(me == HOME && !BUSY && !QUEUE_EMPTY) && local_count == 0 -> break
		fi
#endif
	:: task == TASK_NOTHING -> break
	od;
	/* At rest the last requester is forgotten. */
	if
	:: !BUSY -> requester = 0
	:: else
	fi;
	me = 0;
	from = 0;
	msg = MSG_NOTHING;
	msg_req = 0;
	msg_acks = 0;
	ev = 0;
	task = TASK_NOTHING;
	hold_after = 0
}

#define READABLE(n) (state[n] == P_M || state[n] == P_S || state[n] == P_SM || state[n] == P_SMA)

inline access_choose(n)
{
	if
	:: want[n] = WANTS_READ
	:: want[n] = WANTS_WRITE
	fi;
	if
	:: state[n] == P_M || (want[n] == WANTS_READ && READABLE(n)) ->
		want[n] = WANTS_NOTHING;
		task = TASK_NOTHING
	:: else -> task = TASK_FAULT
	fi
}

/* One process for each thing that happens at its own time, and that fairness is about: what the ordered connection a
 * to b brings; the vCPUs of slice a, which read, write, evict, or do nothing any more; the hold timer of slice a. */
proctype actor(mtype role; byte a; byte b)
{
end:	do
	:: atomic {
		if
		:: role == RECEIVER && nempty(channel[a * NODES + b]) ->
			me = b;
			from = a;
			channel[a * NODES + b]?msg, msg_req, msg_acks;
			task = TASK_MESSAGE
		:: role == VCPU && want[a] == WANTS_NOTHING ->
			me = a;
			access_choose(a)
		:: role == VCPU && want[a] != WANTS_NOTHING && !asleep[a] -> /* woken, but not with what it wanted */
			me = a;
			task = TASK_FAULT
#if EVICTIONS
		:: role == VCPU && a != HOME && want[a] == WANTS_NOTHING && held[a] == MSG_NOTHING &&
		   (state[a] == P_S || state[a] == P_M) ->
			me = a;
			from = a;
			ev = E_EVICT;
			task = TASK_SLICE
#endif
		:: role == VCPU && want[a] == WANTS_NOTHING ->
			role = IDLE;
			task = TASK_NOTHING
#if HOLDS
		:: role == TIMER && held[a] != MSG_NOTHING ->
			me = a;
			task = TASK_RELEASE
#endif
		fi;
#if HOLDS
		/* Which FWD or INV of this step, if any, is set aside. */
		if
		:: hold_after = 0
		:: hold_after = 1
		:: hold_after = 2
		fi;
#endif
		d_step {
			step()
		}
	}
	od
}

init {
	byte a, b;
	atomic {
		for (a : 0 .. NODES - 1) {
			run actor(VCPU, a, a);
#if HOLDS
			run actor(TIMER, a, a);
#endif
			for (b : 0 .. NODES - 1) {
				if
				:: a != b -> run actor(RECEIVER, a, b)
				:: else
				fi
			}
		}
		a = 0;
		b = 0
	}
}

/* No run, fair to every connection, vCPU and timer, in which an access waits for ever. */
ltl answered { [] <> (want[WATCHED] == WANTS_NOTHING) }
