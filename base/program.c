/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for a program of ours beside the running one and where it is installed. */
#include "base/program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int program_find(const char *name, char *path, size_t size)
{
	static const char *const places[] = {"", "../libexec/pangea/", "../sbin/", "../bin/"};
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	path[0] = 0;
	if (n < 0)
		return -errno;
	self[n] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return -ENOENT;
	slash[1] = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if ((size_t)snprintf(path, size, "%s%s%s", self, places[i], name) >= size)
			return -ENAMETOOLONG;
		if (access(path, X_OK) == 0)
			return 0;
	}
	snprintf(path, size, "%s%s", self, name);
	return -ENOENT;
}
