/* SPDX-License-Identifier: Apache-2.0 */
/* A thread for each CPU, pinned to it; and the clock and random numbers that the tests share. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "selftest.h"

struct member {
	struct team *team;
	void (*work)(void *arg, unsigned member);
	void *arg;
	unsigned index;
};

static void *member_main(void *data)
{
	struct member *self = data;
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(self->team->topo->cpu[self->index], &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0) {
		printf("SELFTEST FAIL: cannot run on CPU %u\n", self->team->topo->cpu[self->index]);
		exit(EXIT_FAILURE);
	}
	team_wait(self->team);
	self->work(self->arg, self->index);
	return NULL;
}

void team_run(struct team *team, void (*work)(void *arg, unsigned member), void *arg)
{
	pthread_t thread[CPUS_MAX];
	struct member member[CPUS_MAX];
	pthread_barrier_init(&team->barrier, NULL, team->size);
	for (unsigned i = 0; i < team->size; i++) {
		member[i] = (struct member){team, work, arg, i};
		if (pthread_create(&thread[i], NULL, member_main, &member[i]) != 0) {
			printf("SELFTEST FAIL: cannot start thread %u\n", i);
			exit(EXIT_FAILURE);
		}
	}
	for (unsigned i = 0; i < team->size; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&team->barrier);
}

void team_wait(struct team *team)
{
	pthread_barrier_wait(&team->barrier);
}

uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t random_at(uint64_t seed, uint64_t index)
{
	uint64_t z = seed + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}
