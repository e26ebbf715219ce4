/* SPDX-License-Identifier: Apache-2.0 */
/* Mutexes that lend priority, and condition variables that count by the monotonic clock. */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>

/*
 * The engine thread of a slice runs at real-time priority. An ordinary thread that holds a lock
 * which that one wants might wait for a CPU behind every other thread of the host; so it is lifted
 * to the waiter's priority as long as it holds the lock (PTHREAD_PRIO_INHERIT). For every lock that
 * the engine thread takes, or that is held while one of those is waited for. A host that has no
 * such locks gives plain ones. 0 or a negative errno. Destroy by pthread_mutex_destroy.
 */
int lock_init(pthread_mutex_t *lock);
/* Deadlines of its timed waits are CLOCK_MONOTONIC's. 0 or a negative errno. Destroy by
 * pthread_cond_destroy. */
int lock_cond_init(pthread_cond_t *cond);

#endif
