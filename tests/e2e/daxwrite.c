/* SPDX-License-Identifier: Apache-2.0 */
/* daxwrite FILE BYTES DISK: writes the file's mapping to the disk past the page cache, so that the disk reads the file's own pages. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

int main(int argc, char **argv)
{
	size_t bytes = argc == 4 ? strtoul(argv[2], NULL, 10) : 0, done = 0;
	int from = bytes ? open(argv[1], O_RDONLY) : -1;
	int to = bytes ? open(argv[3], O_WRONLY | O_DIRECT) : -1;
	char *map;

	if (from < 0 || to < 0)
		return fail("open");
	map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, from, 0);
	if (map == MAP_FAILED)
		return fail("mmap");
	while (done < bytes) {
		ssize_t n = write(to, map + done, bytes - done);

		if (n <= 0)
			return fail("write");
		done += (size_t)n;
	}
	return fsync(to) < 0 ? fail("fsync") : 0;
}
