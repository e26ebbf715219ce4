/* SPDX-License-Identifier: Apache-2.0 */
/* The failing heap, by the linker's --wrap: the code under test calls __wrap_..., which count. */
#include "tests/unit/alloc/heap.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);

static _Atomic unsigned counted, fails_at;

void heap_fail_at(unsigned n)
{
	atomic_store(&counted, 0);
	atomic_store(&fails_at, n);
}

unsigned heap_count(void)
{
	return atomic_load(&counted);
}

bool heap_failed(void)
{
	return fails_at && heap_count() >= fails_at;
}

static bool fails_now(void)
{
	if (atomic_fetch_add(&counted, 1) + 1 != atomic_load(&fails_at))
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails_now() ? NULL : __real_realloc(old, size);
}

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	return fails_now() ? MAP_FAILED : __real_mmap(at, size, prot, flags, fd, offset);
}
