/* SPDX-License-Identifier: Apache-2.0 */
/* A heap that fails on demand: malloc, calloc, realloc and mmap of what is linked with --wrap. */
#ifndef TESTS_ALLOC_HEAP_H
#define TESTS_ALLOC_HEAP_H

#include <stdbool.h>

/* From now on the nth allocation (1: the next one), of whatever thread, fails once. 0: none does. */
void heap_fail_at(unsigned n);
/* Whether that allocation has come and failed. */
bool heap_failed(void);
/* Allocations since the last heap_fail_at. */
unsigned heap_count(void);

#endif
