/* SPDX-License-Identifier: Apache-2.0 */
/* The engine thread: a libuv loop over faults, connections, hold timers and other threads' posts.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

/*
 * False: the handle gives an error, and would give it again and again. It is watched no longer, and
 * the slice has failed, since nothing that it waits for there will come.
 */
static bool handle_works(struct engine *e, uv_poll_t *poll, int status, const char *what)
{
	char text[96];

	if (status >= 0)
		return true;
	uv_poll_stop(poll);
	snprintf(text, sizeof(text), "this host no longer tells the engine of %s", what);
	engine_host_failed(e, text, status);
	return false;
}

static void on_fault(uv_poll_t *poll, int status, int events)
{
	struct engine *e = poll->data;

	(void)events;
	if (!handle_works(e, poll, status, "page faults"))
		return;
	for (int turn = 0; turn < FAULT_READS_PER_TURN; turn++) {
		struct page_fault faults[PAGE_FAULTS_MAX];
		int count = pages_read_faults(e->pages, faults);
		uint64_t now_ns = clock_now_ns();

		if (count < 0) {
			(void)handle_works(e, poll, count, "page faults");
			return;
		}
		for (int i = 0; i < count; i++)
			engine_fault(e, &faults[i], now_ns);
		if (count < PAGE_FAULTS_MAX)
			return;
	}
}

static void on_timer(uv_poll_t *poll, int status, int events)
{
	(void)events;
	if (handle_works(poll->data, poll, status, "hold times"))
		engine_holds_run(poll->data);
}

void engine_settle(struct engine *e)
{
	unsigned known = (unsigned)__builtin_popcountll(
		e->peers_up | atomic_load_explicit(&e->peers_lost, memory_order_relaxed));

	if (e->settled || known + 1 < e->config.slices)
		return;
	e->settled = true;
	invariant(uv_poll_start(&e->fault_poll, UV_READABLE, on_fault) == 0);
	engine_wake(e); /* what was posted before is sent now */
}

/* Takes what other threads want: connecting, stopping. */
static bool command_take(struct engine *e, struct command *command)
{
	bool stop;

	pthread_mutex_lock(&e->lock);
	*command = e->command;
	e->command.connect_wanted = false;
	stop = e->stop;
	pthread_mutex_unlock(&e->lock);
	return stop;
}

static void command_answer(struct engine *e, int result)
{
	pthread_mutex_lock(&e->lock);
	e->command.result = result;
	e->command.connect_done = true;
	pthread_cond_broadcast(&e->answered);
	pthread_mutex_unlock(&e->lock);
}

static void handles_close(struct engine *e)
{
	e->closing = true;
	engine_locked_take(e);
	engine_locked_run(e);
	e->transport->ops->close(e->transport);
	uv_close((uv_handle_t *)&e->fault_poll, NULL);
	uv_close((uv_handle_t *)&e->timer_poll, NULL);
	uv_close((uv_handle_t *)&e->wake_poll, NULL);
	uv_close((uv_handle_t *)&e->prepare, NULL);
	uv_close((uv_handle_t *)&e->idle, NULL);
	uv_close((uv_handle_t *)&e->cache_timer, NULL);
	uv_close((uv_handle_t *)&e->stale_timer, NULL);
}

void engine_wake(struct engine *e)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the engine is awake already. */
	if (write(e->wake_fd, &one, sizeof(one)) < 0)
		invariant(errno == EAGAIN || errno == EINTR);
}

uint64_t engine_turns(struct engine *e)
{
	uint64_t turns = atomic_load_explicit(&e->turns, memory_order_relaxed);

	engine_wake(e);
	return turns;
}

static void on_wake(uv_poll_t *poll, int status, int events)
{
	struct engine *e = poll->data;
	struct command command;
	uint64_t count;

	(void)events;
	if (!handle_works(e, poll, status, "other threads"))
		return;
	if (read(e->wake_fd, &count, sizeof(count)) < 0)
		return;
	if (command_take(e, &command)) {
		handles_close(e);
		return;
	}
	if (command.connect_wanted)
		command_answer(e, e->transport->ops->connect(e->transport,
							     (const char *const *)e->addresses));
	if (e->settled)
		engine_locked_take(e);
	e->outgoing = true;
}

static void on_idle(uv_idle_t *idle)
{
	(void)idle; /* Its presence keeps the loop from sleeping. */
}

/* Should the loop go round again rather than sleep? */
static void spin_or_sleep(struct engine *e)
{
	bool more = engine_touch_ahead(e);

	if (e->config.poll || e->closing)
		return;
	if (more || engine_spin(e))
		invariant(uv_idle_start(&e->idle, on_idle) == 0);
	else
		uv_idle_stop(&e->idle);
}

/* Behind the faults and messages of this turn, and before the loop sleeps. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct engine *e = prepare->data;

	atomic_store_explicit(&e->turns, e->turns + 1, memory_order_relaxed);
	engine_locked_run(e);
	if (e->outgoing && e->settled && !e->closing)
		e->outgoing = engine_posts_send(e);
	spin_or_sleep(e);
	engine_stats_publish(e);
}

static void handles_data(struct engine *e)
{
	e->fault_poll.data = e;
	e->timer_poll.data = e;
	e->wake_poll.data = e;
	e->prepare.data = e;
	e->idle.data = e;
	e->cache_timer.data = e;
	e->stale_timer.data = e;
}

int engine_loop_create(struct engine *e)
{
	int err;

	e->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	e->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (e->timer_fd < 0 || e->wake_fd < 0)
		return -errno;
	err = uv_poll_init(&e->loop, &e->timer_poll, e->timer_fd);
	if (!err)
		err = uv_poll_init(&e->loop, &e->fault_poll, pages_fault_fd(e->pages));
	if (!err)
		err = uv_poll_init(&e->loop, &e->wake_poll, e->wake_fd);
	if (err)
		return err;
	invariant(uv_prepare_init(&e->loop, &e->prepare) == 0);
	invariant(uv_idle_init(&e->loop, &e->idle) == 0);
	invariant(uv_timer_init(&e->loop, &e->cache_timer) == 0);
	invariant(uv_timer_init(&e->loop, &e->stale_timer) == 0);
	handles_data(e);
	invariant(uv_poll_start(&e->timer_poll, UV_READABLE, on_timer) == 0);
	invariant(uv_poll_start(&e->wake_poll, UV_READABLE, on_wake) == 0);
	invariant(uv_prepare_start(&e->prepare, on_prepare) == 0);
	return 0;
}

void engine_loop_close(struct engine *e)
{
	handles_close(e);
	uv_run(&e->loop, UV_RUN_DEFAULT);
}

/*
 * A vCPU thread in its time slice would otherwise make a remote fault wait for the scheduler's
 * tick. Real-time only where the thread sleeps between events: spinning would take the CPU whole.
 */
static void priority_raise(const struct engine *e)
{
	struct sched_param param = {.sched_priority = 1};
	id_t tid = (id_t)syscall(SYS_gettid);

	if (!e->config.poll && pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) == 0) {
		log_debug("the engine thread runs at real-time priority 1 (SCHED_FIFO)");
		return;
	}
	for (int nice = -20; nice < 0; nice++) {
		if (setpriority(PRIO_PROCESS, tid, nice) == 0) {
			log_debug("the engine thread runs at nice %d", nice);
			return;
		}
	}
	log_info("the engine thread runs at normal priority: RLIMIT_RTPRIO or RLIMIT_NICE would "
		 "allow more, and make remote faults faster beside busy vCPUs");
}

void *engine_thread_main(void *arg)
{
	struct engine *e = arg;

	pthread_setname_np(pthread_self(), "pangea-engine");
	priority_raise(e);
	engine_spin_create(e);
	if (e->config.poll)
		invariant(uv_idle_start(&e->idle, on_idle) == 0);
	if (e->config.slices == 1) {
		engine_settle(e);
		e->config.callbacks.on_ready(e->config.callbacks.ctx);
	}
	uv_run(&e->loop, UV_RUN_DEFAULT);
	return NULL;
}
