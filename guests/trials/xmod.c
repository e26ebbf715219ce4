/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread writes code, another runs it: a JIT's arena (slots are written again, a pointer to the
 * new code is handed over by memory), and one function patched in place and announced by a flag or
 * a futex. Processors keep instruction fetch coherent: the reader runs what was written before it
 * learnt of it. Every thread is pinned; with two slices they are on different ones. Each trial
 * prints "NAME ok" or "NAME FAIL stale=...".
 */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	ARENA,
	IN_PLACE,
	IN_PLACE_FUTEX
};

static _Atomic uint32_t announced, answered;
static uint8_t *_Atomic current;
static int mode, failed;
static uint32_t stale;

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* mov $value, %eax; ret */
static void code_write(uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	memcpy(at + 1, &value, 4);
	at[5] = 0xc3;
	__asm__ volatile("" ::: "memory");
}

static uint32_t code_run(uint8_t *at)
{
	return ((uint32_t (*)(void))(void *)at)();
}

static void *reader_main(void *unused)
{
	uint32_t last = 0, now;

	(void)unused;
	pin(1);
	for (;;) {
		while ((now = announced) == last)
			if (mode == IN_PLACE_FUTEX)
				syscall(SYS_futex, &announced, FUTEX_WAIT, last, NULL, NULL, 0);
		if (now == UINT32_MAX)
			return NULL;
		stale += code_run(current) != now;
		last = now;
		answered = now;
	}
}

static void trial(const char *name, int how, int ms)
{
	uint8_t *page = mmap(NULL, 16384, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timespec t0, t;
	pthread_t reader;
	uint32_t i;

	mode = how, stale = 0, announced = answered = 0;
	code_write(page, 0);
	current = page;
	pin(0);
	pthread_create(&reader, NULL, reader_main, NULL);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (i = 1; i < 20000; i++) {
		uint8_t *slot = how == ARENA ? page + i % 7 * 64 : page;

		code_write(slot, i);
		current = slot;
		announced = i;
		if (how == IN_PLACE_FUTEX)
			syscall(SYS_futex, &announced, FUTEX_WAKE, 1, NULL, NULL, 0);
		while (answered != i)
			;
		clock_gettime(CLOCK_MONOTONIC, &t);
		if (i >= 50 &&
		    (t.tv_sec - t0.tv_sec) * 1000 + (t.tv_nsec - t0.tv_nsec) / 1000000 > ms)
			break;
	}
	announced = UINT32_MAX;
	syscall(SYS_futex, &announced, FUTEX_WAKE, 1, NULL, NULL, 0);
	pthread_join(reader, NULL);
	failed |= stale != 0;
	if (stale)
		printf("%s FAIL stale=%u of %u\n", name, stale, i);
	else
		printf("%s ok\n", name);
}

int main(void)
{
	trial("xmod_arena", ARENA, 2000);
	trial("xmod_in_place", IN_PLACE, 2000);
	trial("xmod_in_place_futex", IN_PLACE_FUTEX, 2000);
	return failed;
}
