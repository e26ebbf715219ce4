/* SPDX-License-Identifier: Apache-2.0 */
/* Where Pangea's own programs lie, in a build's folder and installed. */
#ifndef BASE_PROGRAM_H
#define BASE_PROGRAM_H

#include <stddef.h>

/*
 * Finds the program `name` beside the running one; else where `cmake --install` puts programs, seen from there:
 * ../libexec/pangea, ../sbin, ../bin. So a tree that was moved as a whole, or installed under DESTDIR, finds its own.
 * 0, or -ENOENT with the first of these in path, for the sentence; -ENAMETOOLONG. Any thread.
 */
int program_find(const char *name, char *path, size_t size);

#endif
