/* SPDX-License-Identifier: Apache-2.0 */
/* The slices' processes: their start, rounds, and an end that each must come to by itself. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "tools/tso/tool.h"

#define LOOK_US 300
/* Without an operation by anybody; a stop takes 0.2 s, a lost peer at most 10 s to be told. */
#define STALL_NS (30 * NS_PER_S)
#define START_NS (30 * NS_PER_S)
#define END_NS	 (20 * NS_PER_S)
/* Slices that lost nobody play on for this long after the others were told. */
#define GRACE_US 150000
/* The threads have heard of the round by then. */
#define LEAD_NS (500 * 1000ull)

static int broken(const struct cluster *c, const char *what)
{
	fprintf(stderr, "pangea-tso: round %u: %s\nrepeat: ", c->round, what);
	report_command(stderr, c->o);
	return TOOL_BROKEN;
}

/* ---- start ---- */

static int shared_make(struct cluster *c)
{
	static const uint64_t holds_ns[] = {0, 20000, 200000};

	c->shared_bytes = sizeof(*c->s) + (size_t)c->o->slices * c->o->threads *
						  tso_ops_room(c->o) * sizeof(struct tso_op);
	c->s = mmap(NULL, c->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		    0);
	if (c->s == MAP_FAILED) {
		c->s = NULL;
		return broken(c, "no memory");
	}
	c->s->hold_ns = holds_ns[random_below(&c->random, 3)];
	return 0;
}

static int slices_fork(struct cluster *c)
{
	fflush(NULL);
	for (unsigned i = 0; i < c->o->slices; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return broken(c, "no process");
		if (pid == 0)
			_exit(slice_run(c->o, c->s, i));
		c->pids[i] = pid;
	}
	return 0;
}

static int engine_failed(const struct cluster *c, int err)
{
	if (err == -EPERM || err == -ENOSYS || err == -EACCES) {
		fprintf(stderr, "pangea-tso: skipped: userfaultfd is refused here (%s)\n",
			error_text(err));
		return TOOL_SKIPPED;
	}
	return broken(c, error_text(err));
}

static int states_await(struct cluster *c, enum slice_state wanted)
{
	uint64_t deadline_ns = clock_now_ns() + START_NS;

	for (unsigned i = 0; i < c->o->slices;) {
		struct shared_slice *slice = &c->s->slice[i];
		uint32_t state = atomic_load_explicit(&slice->state, memory_order_acquire);

		if (state == SLICE_FAILED)
			return engine_failed(c, slice->err);
		if (state >= wanted)
			i++;
		else if (clock_now_ns() > deadline_ns)
			return broken(c, "the slices do not come up");
		else
			usleep(LOOK_US);
	}
	return 0;
}

int cluster_start(struct cluster *c)
{
	int code = shared_make(c);

	if (!code)
		code = slices_fork(c);
	if (!code)
		code = states_await(c, SLICE_LISTENS);
	if (code)
		return code;
	atomic_store_explicit(&c->s->connect, 1, memory_order_release);
	c->killed = c->o->slices;
	c->totals->clusters++;
	return states_await(c, SLICE_READY);
}

/* ---- rounds ---- */

static void command_give(struct cluster *c, enum command command)
{
	c->s->command = command;
	atomic_fetch_add_explicit(&c->s->command_number, 1, memory_order_release);
	syscall(SYS_futex, &c->s->command_number, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Has a slice ended that should not have? */
static bool slice_died(struct cluster *c)
{
	for (unsigned i = 0; i < c->o->slices; i++) {
		int status;

		if (c->pids[i] && waitpid(c->pids[i], &status, WNOHANG) > 0) {
			fprintf(stderr, "pangea-tso: slice %u ended by itself: status 0x%x\n", i,
				(unsigned)status);
			c->pids[i] = 0;
			return true;
		}
	}
	return false;
}

static bool all_finished(const struct cluster *c, uint64_t *done)
{
	bool finished = true;

	*done = 0;
	for (unsigned t = 0; t < c->o->slices * c->o->threads; t++) {
		const struct shared_thread *thread = &c->s->thread[t];

		*done += atomic_load_explicit(&thread->done, memory_order_acquire);
		if (atomic_load_explicit(&thread->finished, memory_order_acquire) !=
		    c->s->command_number)
			finished = false;
	}
	return finished;
}

static void stall_print(const struct cluster *c)
{
	for (unsigned t = 0; t < c->o->slices * c->o->threads; t++) {
		const struct shared_thread *thread = &c->s->thread[t];
		const struct tso_op *ops = c->s->ops + (size_t)t * tso_ops_room(c->o);

		if (thread->finished != c->s->command_number)
			fprintf(stderr, "  slice %u thread %u waits at #%u: %s w%u\n",
				t / c->o->threads, t % c->o->threads, thread->done,
				tso_kind_name(ops[thread->done].kind), ops[thread->done].word);
	}
}

/* Until all have finished, or a slice or connection was lost. */
static int play_await(struct cluster *c)
{
	uint64_t done, done_last = 0, deadline_ns = clock_now_ns() + STALL_NS;

	while (!all_finished(c, &done) && !c->disturbed_ns) {
		uint64_t now_ns = clock_now_ns();
		int code;

		if (done != done_last)
			deadline_ns = now_ns + STALL_NS;
		done_last = done;
		if (now_ns > deadline_ns) {
			stall_print(c);
			return broken(c, "no thread makes progress");
		}
		code = disturb_step(c, now_ns);
		if (code)
			return code;
		/* After a loss the others end by themselves, maybe already now. */
		if (!c->disturbed_ns && slice_died(c))
			return broken(c, "a slice is gone");
		usleep(LOOK_US);
	}
	return 0;
}

/* Each slice that lost a peer must be told, and soon. */
static int losses_await(struct cluster *c)
{
	uint64_t deadline_ns = clock_now_ns() + END_NS;

	for (unsigned i = 0; i < c->o->slices;) {
		const struct shared_slice *slice = &c->s->slice[i];
		uint64_t lost = atomic_load_explicit(&slice->lost, memory_order_acquire);

		if ((lost & c->lost_wanted[i]) == c->lost_wanted[i]) {
			if (c->lost_wanted[i] &&
			    slice->lost_ns > c->disturbed_ns + c->totals->notice_ns_max)
				c->totals->notice_ns_max = slice->lost_ns - c->disturbed_ns;
			c->totals->losses += c->lost_wanted[i] != 0;
			i++;
		} else if (clock_now_ns() > deadline_ns) {
			return broken(c, "a slice was not told that it had lost a peer");
		} else {
			usleep(LOOK_US);
		}
	}
	usleep(GRACE_US);
	return 0;
}

static void round_prepare(struct cluster *c, bool disturb)
{
	for (unsigned t = 0; t < c->o->slices * c->o->threads; t++) {
		struct shared_thread *thread = &c->s->thread[t];

		thread->begun = thread->done = 0;
		thread->epilogue = TSO_NO_EPILOGUE;
	}
	c->s->round = c->round;
	c->s->start_ns = clock_now_ns() + LEAD_NS;
	c->disturb_ns = 0;
	if (disturb)
		/* Rounds take from under a millisecond to a second; too late a time is as if not.
		 */
		c->disturb_ns = c->s->start_ns + (random_splitmix(&c->random) %
						  (NS_PER_MS << random_below(&c->random, 8)));
}

int cluster_round(struct cluster *c, bool disturb, bool *torn)
{
	int code;

	*torn = false;
	round_prepare(c, disturb);
	command_give(c, COMMAND_PLAY);
	code = play_await(c);
	disturb_continue_all(c);
	if (code)
		return code;
	if (c->disturbed_ns) {
		*torn = true;
		return losses_await(c);
	}
	command_give(c, COMMAND_FINAL);
	c->disturb_ns = 0;
	c->next_stop_ns = UINT64_MAX;
	code = play_await(c);
	c->next_stop_ns = 0;
	return code;
}

/* ---- end ---- */

static int slice_await(struct cluster *c, unsigned i, uint64_t deadline_ns)
{
	int status = 0;

	while (c->pids[i] && waitpid(c->pids[i], &status, WNOHANG) == 0) {
		if (clock_now_ns() > deadline_ns)
			return broken(c, "a slice does not end");
		usleep(LOOK_US);
	}
	c->pids[i] = 0;
	if (status == 0)
		return 0;
	fprintf(stderr, "pangea-tso: slice %u ended with status 0x%x\n", i, (unsigned)status);
	return broken(c, "a slice did not end well");
}

int cluster_end(struct cluster *c)
{
	uint64_t deadline_ns = clock_now_ns() + END_NS;
	int code = 0;

	command_give(c, COMMAND_QUIT);
	atomic_store_explicit(&c->s->end, 1, memory_order_release);
	for (unsigned i = 0; i < c->o->slices && !code; i++)
		code = slice_await(c, i, deadline_ns);
	return code;
}

static void figures_add(const struct cluster *c)
{
	for (unsigned i = 0; i < c->o->slices; i++) {
		c->totals->faults += c->s->slice[i].faults;
		c->totals->faults_remote += c->s->slice[i].faults_remote;
		c->totals->msgs += c->s->slice[i].msgs;
		c->totals->stuck += c->s->slice[i].stuck;
	}
}

void cluster_free(struct cluster *c)
{
	for (unsigned i = 0; i < c->o->slices; i++) {
		if (!c->pids[i])
			continue;
		kill(c->pids[i], SIGKILL);
		waitpid(c->pids[i], NULL, 0);
		c->pids[i] = 0;
	}
	if (c->s) {
		figures_add(c);
		munmap(c->s, c->shared_bytes);
	}
	c->s = NULL;
}
