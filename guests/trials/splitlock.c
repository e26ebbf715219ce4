/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LOCKed additions to a word that lies on two pages, by one thread a CPU: none may be lost, and
 * they must go on.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static uint8_t *pages;
static volatile int stop;
static unsigned offset;

static void *adder_main(void *arg)
{
	long cpu = (long)arg;
	uint64_t did = 0;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (!stop) {
		for (int i = 0; i < 100; i++)
			__asm__ volatile("lock incq (%0)" ::"r"(pages + offset) : "memory", "cc");
		did += 100;
	}
	return (void *)did;
}

int main(void)
{
	static const unsigned offsets[] = {4096 - 4, 4096 - 1, 4096 - 7, 64 - 4};
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int failed = 0;

	if (cpus > 16)
		cpus = 16;
	for (unsigned k = 0; k < 4; k++) {
		pthread_t t[16];
		uint64_t did = 0, counted, least = UINT64_MAX;
		void *one;

		pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
		offset = offsets[k], stop = 0;
		for (long i = 0; i < cpus; i++)
			pthread_create(&t[i], NULL, adder_main, (void *)i);
		nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
		stop = 1;
		for (long i = 0; i < cpus; i++) {
			pthread_join(t[i], &one);
			did += (uint64_t)one;
			least = (uint64_t)one < least ? (uint64_t)one : least;
		}
		__builtin_memcpy(&counted, pages + offset, 8);
		failed |= counted != did || !least;
		printf("lock_incq at %4u: %s counted=%llu did=%llu least=%llu\n", offset,
		       counted == did && least ? "ok" : "FAIL", (unsigned long long)counted,
		       (unsigned long long)did, (unsigned long long)least);
	}
	return failed;
}
