/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded random machines: many slices and pages, hold times, evictions, losses, garbage. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "tools/search/world.h"

#define SEEDS	       40
#define SEEDS_COHERENT 800
#define MOVES	       20000
#define HOLD_NS	       1000
#define TIME_STEP      150
#define DRAIN_MAX      200000

struct random {
	uint64_t state;
};

static uint32_t random_below(struct random *r, uint32_t limit)
{
	return (uint32_t)((random_xorshift(&r->state) >> 16) % limit);
}

/* Which rows of the tables an event from outside has used. */
struct coverage {
	bool slice[PAGE_STATES][SLICE_EVENT_COUNT];
	bool home[HOME_STATE_COUNT][HOME_EVENT_COUNT];
	uint64_t deferred, writes, zero_writes, moves;
};

struct run {
	struct world *w;
	struct random random;
	struct coverage *coverage;
	uint32_t last_value;
	unsigned slow; /* what this slice sends takes long: late messages are the rule */
};

static uint8_t home_table[WORLD_PAGES];
static struct world the_world, the_copy;

static void slice_cover(struct coverage *c, const struct protocol_rule *rule, enum page_state state)
{
	for (unsigned e = 0; rule && e < SLICE_EVENT_COUNT; e++)
		c->slice[state][e] |= slice_rule(state, e) == rule;
}

static void home_cover(struct coverage *c, const struct protocol_rule *rule, unsigned state)
{
	for (unsigned e = 0; rule && e < HOME_EVENT_COUNT; e++)
		c->home[state][e] |= home_rule(state, e) == rule;
}

static void message_cover(struct run *run, unsigned from, unsigned to)
{
	const struct protocol *p = world_protocol(run->w, to);
	const struct wire_msg *msg = &channel_head(run->w, from, to)->msg;
	if (msg->epoch != p->config.epoch)
		return;
	if (protocol_home(p, msg->gfn) == to &&
	    (msg->type == MSG_WB || msg->type == MSG_DONE || msg->type == MSG_GET_S ||
	     msg->type == MSG_GET_M || msg->type == MSG_PUT_S || msg->type == MSG_PUT_M))
		home_cover(run->coverage, home_classify(p, from, msg),
			   entry_find(p, msg->gfn)->state);
	else
		slice_cover(run->coverage, slice_classify(p, from, msg), page_state(p, msg->gfn));
}

static void access_cover(struct run *run, unsigned slice, unsigned page, enum slice_event event)
{
	const struct protocol *p = world_protocol(run->w, slice);
	uint64_t gfn = WORLD_GFN(page);
	enum page_state state = page_state(p, gfn);
	run->coverage->slice[state][event] = true;
	uint32_t get = slice_rule(state, event)->actions & (DO_GET_S | DO_GET_M);
	if (!get || protocol_home(p, gfn) != slice || hold_deferred(p, gfn))
		return;
	/* The home's own request. */
	struct wire_msg msg = msg_make(p, get & DO_GET_S ? MSG_GET_S : MSG_GET_M, gfn, slice);
	home_cover(run->coverage, home_classify(p, slice, &msg), entry_find(p, gfn)->state);
}

static void move_access(struct run *run, unsigned slice)
{
	struct world *w = run->w;
	unsigned page = random_below(&run->random, w->pages);
	switch (random_below(&run->random, 5)) {
	case 0:
		access_cover(run, slice, page, SLICE_EVICT);
		world_evict(w, slice, page);
		break;
	case 1:
	case 2:
		/* A spurious fault, as two vCPUs that fault at once cause them. */
		if (w->mapping[slice][page] != MAPPED_NONE) {
			struct protocol_event event = {.type = EVENT_FAULT_READ,
						       .gfn = WORLD_GFN(page),
						       .now_ns = w->now_ns};
			access_cover(run, slice, page, SLICE_FAULT_READ);
			world_step(w, slice, &event);
		} else {
			access_cover(run, slice, page, SLICE_FAULT_READ);
			world_read(w, slice, page);
		}
		break;
	default: {
		bool zero = random_below(&run->random, 4) == 0;
		access_cover(run, slice, page, SLICE_FAULT_WRITE);
		if (world_write(w, slice, page, zero ? 0 : run->last_value + 1)) {
			run->last_value += !zero;
			run->coverage->writes++;
			run->coverage->zero_writes += zero;
		}
	}
	}
}

static bool channels_roomy(const struct world *w)
{
	for (unsigned i = 0; i < w->slices; i++) {
		for (unsigned j = 0; j < w->slices; j++) {
			if (w->channel[i][j].count > WORLD_DEPTH / 2)
				return false;
		}
	}
	return true;
}

/* The end of a hold at the home lets the directory go on by itself. */
static void hold_cover(struct run *run, unsigned slice, unsigned page)
{
	const struct protocol *p = world_protocol(run->w, slice);
	uint64_t gfn = WORLD_GFN(page);
	run->coverage->deferred++;
	if (protocol_home(p, gfn) != slice || !hold_deferred(p, gfn))
		return;
	const struct home_entry *entry = entry_find(p, gfn);
	struct wire_msg own = msg_make(p, MSG_DONE, gfn, entry->requester);
	home_cover(run->coverage, home_classify(p, slice, &own), entry->state);
}

static void timers_fire(struct run *run)
{
	struct world *w = run->w;
	for (unsigned i = 0; i < w->slices; i++) {
		for (unsigned page = 0; page < w->pages; page++) {
			if (!w->timer[i][page] || w->timer[i][page] > w->now_ns)
				continue;
			if (w->lost & slice_bit(i)) {
				w->timer[i][page] = 0;
				continue;
			}
			hold_cover(run, i, page);
			world_hold_end(w, i, page);
		}
	}
}

/* Delivers, or begins to deliver, at the head of some channel. */
static bool move_receive(struct run *run)
{
	struct world *w = run->w;
	unsigned start = random_below(&run->random, w->slices * w->slices);
	for (unsigned k = 0; k < w->slices * w->slices; k++) {
		unsigned at = (start + k) % (w->slices * w->slices);
		unsigned from = at / w->slices, to = at % w->slices;
		if (!channel_head(w, from, to) ||
		    (from == run->slow && random_below(&run->random, 16)))
			continue;
		if (random_below(&run->random, 3) == 0) {
			world_receive_begin(w, from, to);
		} else {
			message_cover(run, from, to);
			world_receive(w, from, to);
		}
		return true;
	}
	return false;
}

static void move_any(struct run *run)
{
	struct world *w = run->w;
	unsigned slice = random_below(&run->random, w->slices);
	run->coverage->moves++;
	if (random_below(&run->random, 8) == 0) {
		w->now_ns += random_below(&run->random, TIME_STEP);
		timers_fire(run);
	}
	if (random_below(&run->random, 3) == 0 && channels_roomy(w) &&
	    !(w->lost & slice_bit(slice)))
		move_access(run, slice);
	else
		move_receive(run);
}

/* Lets everything that is under way come to its end; false if it never does. */
static bool run_drain(struct run *run)
{
	for (unsigned i = 0; i < DRAIN_MAX && !world_quiet(run->w) && !run->w->failure; i++) {
		run->w->now_ns += TIME_STEP;
		timers_fire(run);
		move_receive(run);
	}
	return world_quiet(run->w);
}

static void run_begin(struct run *run, struct coverage *coverage, uint64_t seed)
{
	*run = (struct run){.w = &the_world, .coverage = coverage};
	run->random.state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	unsigned slices = 2 + random_below(&run->random, WORLD_SLICES - 1);
	unsigned pages = 1 + random_below(&run->random, WORLD_PAGES);
	for (unsigned page = 0; page < WORLD_PAGES; page++)
		home_table[page] = (uint8_t)(page % slices);
	run->slow = random_below(&run->random, 2 * slices);
	uint64_t hold_ns = random_below(&run->random, 2) ? HOLD_NS : 0;
	unsigned requests = 1 + random_below(&run->random, 4);
	cr_assert(world_init(run->w, slices, pages, home_table, hold_ns, requests));
}

static void world_assert(const struct world *w, uint64_t seed)
{
	cr_assert(!w->failure, "seed %llu: %s", (unsigned long long)seed, w->failure);
}

/* A row that no run reaches is a row that nobody has checked. */
static void coverage_assert(const struct coverage *c)
{
	for (unsigned s = 0; s < PAGE_STATES; s++) {
		for (unsigned e = 0; e < SLICE_EVENT_COUNT; e++) {
			/* Deferral is seen by its counter. */
			if (slice_rule(s, e) && e != SLICE_HELD)
				cr_assert(c->slice[s][e], "row %s x %s was never used",
					  page_state_name(s), slice_event_name(e));
		}
	}
	for (unsigned s = 0; s < HOME_STATE_COUNT; s++) {
		for (unsigned e = 0; e < HOME_EVENT_COUNT; e++) {
			if (home_rule(s, e))
				cr_assert(c->home[s][e], "home row %s x %s was never used",
					  home_state_name(s), home_event_name(e));
		}
	}
}

Test(protocol_random, machines_stay_coherent_and_every_row_is_used)
{
	static struct coverage coverage;
	for (uint64_t seed = 1; seed <= SEEDS_COHERENT; seed++) {
		struct run run;
		run_begin(&run, &coverage, seed);
		for (unsigned i = 0; i < MOVES && !run.w->failure; i++)
			move_any(&run);
		cr_assert(run_drain(&run) || run.w->failure, "seed %llu never comes to rest",
			  (unsigned long long)seed);
		world_check_rest(run.w);
		world_assert(run.w, seed);
	}
	printf("seeds 1..%d: %llu moves, %llu writes, %llu hold times\n", SEEDS_COHERENT,
	       (unsigned long long)coverage.moves, (unsigned long long)coverage.writes,
	       (unsigned long long)coverage.deferred);
	cr_assert_gt(coverage.deferred, 100);
	cr_assert_gt(coverage.zero_writes, 1000);
	coverage_assert(&coverage);
}

/* A slice is lost, or a connection cut, and who is to learn of it learns at any time later. */
static void losses_happen(struct run *run)
{
	struct world *w = run->w;
	unsigned slice = random_below(&run->random, w->slices);
	unsigned other = (slice + 1 + random_below(&run->random, w->slices - 1)) % w->slices;
	bool over = (w->lost | w->frozen) & slice_bit(slice);
	if (!over && !w->lost && random_below(&run->random, 8) == 0)
		world_crash(w, slice);
	else if (!over)
		world_tell(w, slice, other);
}

Test(protocol_random, after_losses_nobody_is_accused_and_no_read_is_wrong)
{
	static struct coverage coverage;
	unsigned frozen = 0, crashed = 0;
	uint64_t writes = 0;
	for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++) {
		struct run run;
		run_begin(&run, &coverage, seed);
		unsigned at = random_below(&run.random, MOVES / 8);
		for (unsigned i = 0; i < MOVES / 4 && !run.w->failure; i++) {
			uint64_t before = coverage.writes;
			if (i >= at && random_below(&run.random, 300) == 0)
				losses_happen(&run);
			move_any(&run);
			writes += run.w->frozen ? coverage.writes - before : 0;
		}
		cr_assert(run_drain(&run) || run.w->failure);
		world_assert(run.w, seed);
		frozen += bits_count(run.w->frozen);
		crashed += bits_count(run.w->lost);
	}
	printf("seeds 1..%d: %u slices lost, %u told of a loss, %llu writes after the first was\n",
	       4 * SEEDS, crashed, frozen, (unsigned long long)writes);
	cr_assert_gt(frozen, 4 * SEEDS);
	cr_assert_gt(crashed, SEEDS);
	cr_assert_gt(writes, 1000);
}

static struct wire_msg garbage(struct random *r, const struct world *w, uint32_t epoch)
{
	struct wire_msg msg = {
		.type = (uint8_t)(random_below(r, MSG_COHERENCE_END + 1)),
		.flags = (uint8_t)(random_below(r, 3) ? random_below(r, 4) : random_below(r, 256)),
		.requester = (uint16_t)random_below(r, w->slices + 1),
		.epoch = random_below(r, 8) ? epoch : epoch + 1 - random_below(r, 3),
		.gfn = WORLD_GFN(random_below(r, w->pages)),
		.acks = (uint16_t)(random_below(r, 2) ? 0 : random_below(r, w->slices + 2)),
		.payload_len = random_below(r, 2) ? PANGEA_PAGE_SIZE : 0,
	};
	if (random_below(r, 16) == 0)
		msg.gfn += UINT64_C(1) << random_below(r, 60);
	if (random_below(r, 32) == 0)
		msg.arg = 1;
	return msg;
}

/* Steps garbage on a copy: either it is refused and nothing changes, or the state allows it. */
static bool garbage_refused(struct world *w, unsigned to, unsigned from, const struct wire_msg *msg)
{
	static struct protocol_actions actions;
	struct protocol_event event = {
		.type = EVENT_MESSAGE, .from = from, .gfn = msg->gfn, .now_ns = 1, .msg = *msg};
	struct protocol *p = world_protocol(w, to);
	bool takes = protocol_awaits_page(p, from, msg);
	the_copy.mem_size = w->mem_size;
	memcpy(world_protocol(&the_copy, to), world_protocol(w, to), w->mem_size);
	cr_assert_eq(protocol_step(p, &event, &actions), 0);
	uint64_t violations = p->stats.violations, stale = p->stats.dropped;
	bool refused = actions.count == 1 && actions.list[0].type == ACTION_VIOLATION;
	bool dropped = actions.count == 0 && msg->epoch != p->config.epoch;
	if (refused || dropped) {
		struct protocol *before = world_protocol(&the_copy, to);
		cr_assert_eq(violations, before->stats.violations + refused);
		cr_assert_eq(stale, before->stats.dropped + dropped);
		cr_assert(!takes);
		before->stats.violations = violations;
		before->stats.dropped = stale;
		cr_assert_eq(memcmp(p, before, w->mem_size), 0, "a violation changed the state");
		cr_assert(dropped || actions.list[0].to == from);
	}
	return refused || dropped;
}

Test(protocol_random, garbage_in_any_state_changes_nothing)
{
	static struct coverage coverage;
	bool seen[PAGE_STATES] = {0}, homes_seen[HOME_STATE_COUNT] = {0};
	uint64_t refused = 0, allowed = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct run run;
		run_begin(&run, &coverage, seed);
		for (unsigned i = 0; i < MOVES / 2; i++) {
			move_any(&run);
			unsigned to = random_below(&run.random, run.w->slices);
			unsigned from = random_below(&run.random, run.w->slices);
			struct protocol *p = world_protocol(run.w, to);
			struct wire_msg msg = garbage(&run.random, run.w, p->config.epoch);
			if (protocol_home(p, msg.gfn) != SLICE_NONE)
				seen[page_state(p, msg.gfn)] = true;
			if (protocol_home(p, msg.gfn) == to)
				homes_seen[entry_find(p, msg.gfn)->state] = true;
			if (garbage_refused(run.w, to, from, &msg)) {
				refused++;
				continue;
			}
			/* It was a message that this state allows: as if it had not come. */
			allowed++;
			memcpy(p, world_protocol(&the_copy, to), run.w->mem_size);
		}
		world_assert(run.w, seed);
	}
	printf("garbage: %llu refused, %llu allowed by the state\n", (unsigned long long)refused,
	       (unsigned long long)allowed);
	cr_assert_gt(refused, 10 * SEEDS);
	for (unsigned s = 0; s < PAGE_STATES; s++)
		cr_assert(seen[s], "state %s was never tried", page_state_name(s));
	for (unsigned s = 0; s < HOME_STATE_COUNT; s++)
		cr_assert(homes_seen[s], "home state %s was never tried", home_state_name(s));
}

/* A slice that says whatever it likes, and is believed where it may be: no crash, no invariant. */
Test(protocol_random, a_lying_peer_crashes_nobody)
{
	static struct protocol_actions actions;
	static struct coverage coverage;
	uint64_t stepped = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct run run;
		run_begin(&run, &coverage, seed);
		struct protocol *p = world_protocol(run.w, 0);
		for (unsigned i = 0; i < MOVES; i++, stepped++) {
			struct protocol_event event = {
				.type = random_below(&run.random, 4) ? EVENT_MESSAGE
								     : random_below(&run.random, 5),
				.from = 1 + random_below(&run.random, run.w->slices - 1),
				.gfn = WORLD_GFN(random_below(&run.random, run.w->pages)),
				.now_ns = run.w->now_ns++,
				.msg = garbage(&run.random, run.w, p->config.epoch)};
			int err = protocol_step(p, &event, &actions);
			cr_assert(err == 0 || err == -EAGAIN);
			cr_assert_leq(p->requests.used, p->config.requests_max);
			cr_assert_leq(p->queues.used, p->config.requests_total);
		}
	}
	printf("%llu lies\n", (unsigned long long)stepped);
}
