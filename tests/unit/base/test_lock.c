/* SPDX-License-Identifier: Apache-2.0 */
/* Locks lend priority: who holds one runs at the priority of who waits for it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"

static pthread_mutex_t lock;
static _Atomic bool waiter_ready, waiter_refused;

/* The kernel's priority of a thread: 0 and above ordinary, below -1 real-time (proc(5), stat). */
static int priority_of(pid_t tid)
{
	char name[64], text[512] = {0}, *at;
	int priority = 0;
	FILE *file;

	snprintf(name, sizeof(name), "/proc/self/task/%d/stat", (int)tid);
	file = fopen(name, "r");
	cr_assert(file && fgets(text, sizeof(text), file));
	fclose(file);
	at = strrchr(text, ')');
	cr_assert(at && sscanf(at + 2,
			       "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d "
			       "%*d %d",
			       &priority) == 1);
	return priority;
}

static void *waiter_main(void *arg)
{
	struct sched_param param = {.sched_priority = 1};

	(void)arg;
	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &param))
		atomic_store(&waiter_refused, true);
	atomic_store(&waiter_ready, true);
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
	return NULL;
}

Test(lock, who_holds_one_gets_the_priority_of_who_waits)
{
	pid_t self = (pid_t)syscall(SYS_gettid);
	uint64_t deadline_ns = clock_now_ns() + 20 * NS_PER_S;
	pthread_t waiter;
	bool lifted = false;

	cr_assert_eq(lock_init(&lock), 0);
	pthread_mutex_lock(&lock);
	cr_assert_geq(priority_of(self), 0);
	cr_assert_eq(pthread_create(&waiter, NULL, waiter_main, NULL), 0);
	while (!atomic_load(&waiter_ready))
		usleep(1000);
	while (!waiter_refused && !lifted && clock_now_ns() < deadline_ns) {
		lifted = priority_of(self) < -1;
		usleep(1000);
	}
	pthread_mutex_unlock(&lock);
	pthread_join(waiter, NULL);
	if (waiter_refused)
		cr_skip_test("this user may not have real-time threads (RLIMIT_RTPRIO)");
	cr_assert(lifted, "a real-time thread waits for an ordinary one");
	cr_assert_geq(priority_of(self), 0, "and it is over with the lock");
	pthread_mutex_destroy(&lock);
}

Test(lock, waits_end_by_the_monotonic_clock)
{
	uint64_t start_ns = clock_now_ns(), until_ns = start_ns + 20 * NS_PER_MS;
	struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
				 .tv_nsec = (long)(until_ns % NS_PER_S)};
	pthread_cond_t cond;
	int err = 0;

	cr_assert_eq(lock_init(&lock), 0);
	cr_assert_eq(lock_cond_init(&cond), 0);
	pthread_mutex_lock(&lock);
	while (err == 0)
		err = pthread_cond_timedwait(&cond, &lock, &until);
	pthread_mutex_unlock(&lock);
	cr_assert_eq(err, ETIMEDOUT);
	cr_assert_geq(clock_now_ns(), until_ns, "not at once, as real time's clock would");
	pthread_cond_destroy(&cond);
	pthread_mutex_destroy(&lock);
}
