/* SPDX-License-Identifier: Apache-2.0 */
/* Files, where a system call may do only a part of what was asked. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

/* Writes all len bytes at this offset, whatever the file's own position is. 0 or -errno; some may have been written then. Any
 * thread. */
int file_write_at(int fd, const void *data, size_t len, uint64_t offset);

#endif
