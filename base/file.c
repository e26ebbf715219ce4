/* SPDX-License-Identifier: Apache-2.0 */
/* Writes that go on until all is written. */
#include "base/file.h"

#include <errno.h>
#include <unistd.h>

int file_write_at(int fd, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *at = data;

	while (len) {
		ssize_t n = pwrite(fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}
