/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that stands for a vCPU: plays its program on guest memory and records what it sees. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/tso/tool.h"

#define COMMAND_POLL_MS 50
/* FAULT_LATE_STORE: so many operations late. */
#define LATE_OPS 12

/* ---- out of a wait for memory ---- */

static __thread sigjmp_buf way_out;
static __thread volatile sig_atomic_t may_jump;

static void on_signal(int number)
{
	(void)number;
	if (may_jump)
		siglongjmp(way_out, 1);
}

void player_signal_install(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(PLAYER_SIGNAL, &action, NULL);
}

/* ---- one operation ---- */

static uint64_t *word_at(struct player *p, unsigned word)
{
	uint64_t gpa = tso_word_gpa(p->o, word);

	if (p->private_page && word % p->o->pages == 0)
		return (uint64_t *)(void *)(p->private_page + gpa % PANGEA_PAGE_SIZE);
	return (uint64_t *)(void *)(p->ram + gpa);
}

static void late_store(struct player *p)
{
	__atomic_store_n(word_at(p, p->late->word), p->late->value, __ATOMIC_RELAXED);
	p->late = NULL;
}

/* The update in two steps, as a machine without LOCK would. */
static uint64_t torn_update(struct player *p, uint64_t *word, const struct tso_op *op)
{
	uint64_t found = __atomic_load_n(word, __ATOMIC_RELAXED);
	bool stores = op->kind != TSO_CMPXCHG || found == op->expect;

	usleep(random_below(&p->random, 200));
	if (stores)
		__atomic_store_n(word, op->kind == TSO_XADD ? found + op->value : op->value,
				 __ATOMIC_RELAXED);
	return found;
}

static uint64_t load(struct player *p, const uint64_t *word, const struct tso_op *op)
{
	if (p->o->fault == FAULT_STALE_LOAD && p->slice == 1 && random_below(&p->random, 4) == 0)
		return p->last[op->word];
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void store(struct player *p, uint64_t *word, struct tso_op *op)
{
	if (p->o->fault == FAULT_LATE_STORE && p->slice == 1 && !p->late &&
	    random_below(&p->random, 4) == 0)
		p->late = op;
	else
		__atomic_store_n(word, op->value, __ATOMIC_RELAXED);
}

/* Relaxed loads and stores are plain MOVs, the others locked instructions. */
static void op_play(struct player *p, struct tso_op *op)
{
	uint64_t *word = word_at(p, op->word);

	if (tso_kind_updates(op->kind) && p->o->fault == FAULT_TORN_UPDATE) {
		op->result = torn_update(p, word, op);
		return;
	}
	switch (op->kind) {
	case TSO_LOAD:
		op->result = load(p, word, op);
		break;
	case TSO_STORE:
		store(p, word, op);
		break;
	case TSO_FENCE:
		__asm__ volatile("mfence" ::: "memory");
		break;
	case TSO_XCHG:
		op->result = __atomic_exchange_n(word, op->value, __ATOMIC_SEQ_CST);
		break;
	case TSO_XADD:
		op->result = __atomic_fetch_add(word, op->value, __ATOMIC_SEQ_CST);
		break;
	case TSO_CMPXCHG:
		op->result = op->expect;
		(void)__atomic_compare_exchange_n(word, &op->result, op->value, false,
						  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		break;
	}
}

static void op_learn(struct player *p, const struct tso_op *op)
{
	if (op->kind == TSO_LOAD || op->kind == TSO_CMPXCHG)
		p->last[op->word] = op->result;
	else if (op->kind == TSO_XADD)
		p->last[op->word] = op->result + op->value;
	else if (op->kind != TSO_FENCE)
		p->last[op->word] = op->value;
}

/* ---- a round ---- */

/* No load begins before, and all have ended: the fences hold the clock's reading in its place. */
static uint64_t clock_between(void)
{
	uint64_t now_ns;

	__builtin_ia32_lfence();
	now_ns = clock_now_ns();
	__builtin_ia32_lfence();
	return now_ns;
}

/* Some operations with one look at the clock before and one after, so that they can race. */
static void burst_play(struct player *p, struct shared_thread *t, struct tso_op *ops,
		       uint32_t first, uint32_t end)
{
	uint64_t begin_ns, end_ns;

	for (uint32_t i = first; i < end; i++)
		if (ops[i].kind == TSO_CMPXCHG)
			ops[i].expect = p->last[ops[i].word];
	begin_ns = clock_between();
	for (uint32_t i = first; i < end; i++)
		ops[i].begin_ns = begin_ns;
	atomic_store_explicit(&t->begun, end, memory_order_release);
	for (uint32_t i = first; i < end; i++) {
		op_play(p, &ops[i]);
		atomic_store_explicit(&t->done, i + 1, memory_order_release);
	}
	end_ns = clock_between();
	for (uint32_t i = first; i < end; i++) {
		ops[i].end_ns = end_ns;
		op_learn(p, &ops[i]);
	}
}

static void pause_until(uint64_t at_ns)
{
	struct timespec at = {.tv_sec = (time_t)(at_ns / NS_PER_S),
			      .tv_nsec = (long)(at_ns % NS_PER_S)};
	uint64_t now_ns = clock_now_ns();

	/* The timer is some 50 us late. */
	if (at_ns > now_ns + 100000)
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	while (clock_now_ns() < at_ns)
		__builtin_ia32_pause();
}

static void round_play(struct player *p, struct shared_thread *t, struct tso_op *ops)
{
	struct program program;
	uint32_t late_until = 0;

	program_make(&program, p->o, p->number, p->s->round, ops);
	for (unsigned w = 0; w < p->o->words; w++)
		p->last[w] = p->s->initial[w];
	pause_until(p->s->start_ns + random_below(&program.random, 20000));
	for (uint32_t i = 0; i < program.count;) {
		uint32_t end = i + 1 + random_below(&program.random, program.burst_max);

		if (atomic_load_explicit(&p->quit, memory_order_acquire))
			return;
		end = end < program.count ? end : program.count;
		burst_play(p, t, ops, i, end);
		i = end;
		if (p->late && !late_until)
			late_until = i + LATE_OPS;
		if (p->late && (i >= late_until || i == program.count)) {
			late_store(p);
			late_until = 0;
		}
		if (program.pause_ns)
			pause_until(clock_now_ns() +
				    random_below(&program.random, program.pause_ns));
	}
}

/* Everybody has ended: the first thread of each slice reads all words. */
static void final_play(struct player *p, struct shared_thread *t, struct tso_op *ops)
{
	if (p->number % p->o->threads)
		return;
	t->epilogue = t->done;
	for (unsigned w = 0; w < p->o->words; w++) {
		ops[t->done] = (struct tso_op){.kind = TSO_LOAD, .word = (uint8_t)w};
		burst_play(p, t, ops, t->done, t->done + 1);
	}
}

/* Loads, not copying by a function that might read in pieces: faults are resolved for each. */
static void private_take(struct player *p)
{
	if (!p->private_page || p->number % p->o->threads)
		return;
	for (unsigned i = 0; i < PANGEA_PAGE_SIZE; i += 8)
		__atomic_store_n(
			(uint64_t *)(void *)(p->private_page + i),
			__atomic_load_n((uint64_t *)(void *)(p->ram + i), __ATOMIC_RELAXED),
			__ATOMIC_RELAXED);
}

static void command_obey(struct player *p, uint32_t command)
{
	struct shared_thread *t = &p->s->thread[p->number];
	struct tso_op *ops = p->s->ops + (size_t)p->number * tso_ops_room(p->o);

	if (sigsetjmp(way_out, 1)) {
		may_jump = 0;
		p->stuck = true;
		return;
	}
	may_jump = 1;
	if (command == COMMAND_PLAY) {
		private_take(p);
		round_play(p, t, ops);
	} else if (command == COMMAND_FINAL) {
		final_play(p, t, ops);
	}
	may_jump = 0;
}

static uint32_t command_await(struct player *p, uint32_t seen)
{
	struct timespec wait = {.tv_nsec = COMMAND_POLL_MS * 1000000L};
	uint32_t now;

	while ((now = atomic_load_explicit(&p->s->command_number, memory_order_acquire)) == seen &&
	       !atomic_load_explicit(&p->quit, memory_order_acquire))
		syscall(SYS_futex, &p->s->command_number, FUTEX_WAIT, seen, &wait, NULL, 0);
	return now;
}

void *player_main(void *arg)
{
	struct player *p = arg;
	struct shared_thread *t = &p->s->thread[p->number];
	uint32_t seen = 0;

	while (!p->stuck && !atomic_load_explicit(&p->quit, memory_order_acquire)) {
		uint32_t number = command_await(p, seen);

		if (number == seen)
			continue;
		seen = number;
		if (p->s->command == COMMAND_QUIT)
			break;
		command_obey(p, p->s->command);
		if (!p->stuck)
			atomic_store_explicit(&t->finished, seen, memory_order_release);
	}
	atomic_store_explicit(&p->out, 1, memory_order_release);
	return NULL;
}
