/* SPDX-License-Identifier: Apache-2.0 */
/* The directory in which `pangea cluster` keeps what it started. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

int state_dir_path(const char *given, char out[STATE_PATH_MAX])
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int n;

	if (given)
		n = snprintf(out, STATE_PATH_MAX, "%s", given);
	else if (runtime && runtime[0] == '/' && stat(runtime, &st) == 0)
		n = snprintf(out, STATE_PATH_MAX, "%s/pangea", runtime);
	else
		n = snprintf(out, STATE_PATH_MAX, "/tmp/pangea-%u", (unsigned)getuid());
	return n > 0 && n < STATE_PATH_MAX ? 0 : -ENAMETOOLONG;
}

void state_path(const char *dir, const char *name, char out[STATE_PATH_MAX + 64])
{
	snprintf(out, STATE_PATH_MAX + 64, "%s/%.60s", dir, name);
}

int state_dir_check(const char *dir)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return st.st_uid == geteuid() && !(st.st_mode & 077) ? 0 : -EPERM;
}

int state_line_read(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	int err = 0;

	if (!file)
		return -errno;
	if (!fgets(line, (int)size, file) || !strchr(line, '\n'))
		err = -EINVAL;
	else
		line[strcspn(line, "\n")] = 0;
	fclose(file);
	return err;
}
