/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine tells the protocol and takes from page memory: the linker puts us between. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "dsm/pages/pages.h"
#include "dsm/protocol/protocol.h"
#include "tests/unit/dsm/engine_rig.h"

static struct rig rig; /* each test runs in a process of its own */

/* ---- what the tests watch and do: atomics ---- */

static _Atomic unsigned reads_fail;	  /* pages_read_faults gives an error */
static _Atomic unsigned reads_stop;	  /* pages_read_faults does not return */
static _Atomic unsigned reads_stopped;	  /* that it is in it */
static _Atomic unsigned reads_failed;	  /* so often */
static uint64_t step_latest_ns;		  /* of slice 1's steps */
static _Atomic unsigned steps_back;	  /* its steps that were told an earlier time */
static _Atomic unsigned steps_put_off;	  /* its faults that found no request free */
static _Atomic unsigned messages_delayed; /* its messages wait a little, so that faults pile up */

int __real_pages_read_faults(struct pages *pages, struct page_fault faults[PAGE_FAULTS_MAX]);
int __wrap_pages_read_faults(struct pages *pages, struct page_fault faults[PAGE_FAULTS_MAX]);

int __wrap_pages_read_faults(struct pages *pages, struct page_fault faults[PAGE_FAULTS_MAX])
{
	atomic_store(&reads_stopped, atomic_load(&reads_stop));
	while (atomic_load(&reads_stop))
		usleep(1000);
	if (atomic_load(&reads_fail)) {
		atomic_fetch_add(&reads_failed, 1);
		return -EIO;
	}
	return __real_pages_read_faults(pages, faults);
}

int __real_protocol_step(struct protocol *p, const struct protocol_event *event,
			 struct protocol_actions *actions);
int __wrap_protocol_step(struct protocol *p, const struct protocol_event *event,
			 struct protocol_actions *actions);

int __wrap_protocol_step(struct protocol *p, const struct protocol_event *event,
			 struct protocol_actions *actions)
{
	/* Slice 1's own: page 0 is homed at slice 0, and these events are slice 1's faults. */
	bool ours = protocol_home(p, event->gfn) == 0 && event->type != EVENT_PEER_LOST &&
		    atomic_load(&messages_delayed) &&
		    strcmp(protocol_page_state(p, rig_page(1, 0) >> PAGE_SHIFT), "M") == 0;
	int err;

	if (ours && event->type == EVENT_MESSAGE)
		usleep(3000);
	if (ours && event->now_ns < step_latest_ns)
		atomic_fetch_add(&steps_back, 1);
	if (ours)
		step_latest_ns = event->now_ns;
	err = __real_protocol_step(p, event, actions);
	if (ours && err == -EAGAIN)
		atomic_fetch_add(&steps_put_off, 1);
	return err;
}

/* ---- tests ---- */

#define THREADS 6u

static void *pages_touch(void *arg)
{
	uintptr_t first = (uintptr_t)arg;

	for (unsigned n = 0; n < 40; n++)
		rig_write(&rig, 1, rig_page(0, (unsigned)first + n * THREADS), n + 1);
	return NULL;
}

Test(engine_inside, a_fault_that_waited_for_a_request_is_stepped_at_its_own_time)
{
	pthread_t threads[THREADS];

	rig_init(&rig, 2);
	rig.config.faulters_max = 1; /* two requests, for six threads */
	rig_up(&rig, 2);
	rig_write(&rig, 1, rig_page(1, 0), 1); /* so that __wrap_protocol_step knows slice 1 */
	atomic_store(&messages_delayed, 1);
	for (uintptr_t i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, pages_touch, (void *)i), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_gt(atomic_load(&steps_put_off), 0, "no fault had to wait");
	cr_assert_eq(atomic_load(&steps_back), 0,
		     "%u steps were told an earlier time than the one before",
		     atomic_load(&steps_back));
	rig_down(&rig);
}

static void *page_wait(void *arg)
{
	(void)arg;
	rig_write(&rig, 0, rig_page(0, 9), 1);
	return NULL;
}

Test(engine_inside, a_host_that_tells_no_more_faults_is_told_once)
{
	pthread_t thread;

	rig_up(&rig, 2);
	atomic_store(&reads_fail, 1);
	cr_assert_eq(pthread_create(&thread, NULL, page_wait, NULL), 0);
	pthread_detach(thread);
	cr_assert(rig_until(&rig.slice[0].lost, 1), "nobody is told");
	cr_assert_eq(rig.slice[0].lost_peer, 0, "it is this slice itself");
	cr_assert_eq(rig.slice[0].lost_err, -EIO);
	usleep(100000);
	cr_assert_eq(reads_failed, 1, "the engine asked %u times", reads_failed);
	cr_assert_eq(rig.slice[0].lost, 1);
	/* A thread waits in a fault for ever: the engine ends with the process. */
}

/* Waits at most 20 s until the engine has gone round once more. */
static bool turned(uint64_t *turns)
{
	for (unsigned ms = 0; ms < 20000; ms++) {
		uint64_t now = engine_turns(rig.slice[0].engine);
		if (now != *turns) {
			*turns = now;
			return true;
		}
		usleep(1000);
	}
	return false;
}

Test(engine_inside, an_engine_that_stands_still_makes_no_turns)
{
	uint64_t turns = 0;
	pthread_t thread;

	rig_up(&rig, 2); /* alone it would be told of no fault */
	/* Nothing happens, but each call has it go round. */
	for (unsigned i = 0; i < 5; i++)
		cr_assert(turned(&turns), "an idle engine does not turn");
	atomic_store(&reads_stop, 1);
	cr_assert_eq(pthread_create(&thread, NULL, page_wait, NULL), 0);
	cr_assert(rig_until(&reads_stopped, 1));
	turns = engine_turns(rig.slice[0].engine);
	for (unsigned i = 0; i < 50; i++) {
		usleep(1000);
		cr_assert_eq(engine_turns(rig.slice[0].engine), turns);
	}
	atomic_store(&reads_stop, 0);
	cr_assert(turned(&turns), "it does not go on");
	pthread_join(thread, NULL);
	rig_down(&rig);
}
