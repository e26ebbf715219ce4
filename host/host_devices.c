/* SPDX-License-Identifier: Apache-2.0 */
/* The programs that serve guests' disks, networks and folders: whether they are installed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/host_parts.h"

/* Where programs are if nobody says. */
#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"
#define PATH_BYTES   512

/* The folders of PATH, below the root. */
static bool program_find(const struct host_judge *j, const char *name, char path[PATH_BYTES])
{
	const char *folders = getenv("PATH");

	for (const char *at = folders ? folders : PATH_DEFAULT; *at;) {
		size_t len = strcspn(at, ":");
		if (*at == '/' &&
		    snprintf(path, PATH_BYTES, "%.*s/%s", (int)len, at, name) < PATH_BYTES &&
		    host_file_there(j, path))
			return true;
		at += len + (at[len] == ':');
	}
	return false;
}

/* virtiofsd is no command, and only this one serves (node/node_devices.c). */
static bool virtiofsd_find(const struct host_judge *j, char path[PATH_BYTES])
{
	snprintf(path, PATH_BYTES, "/usr/lib/qemu/virtiofsd");
	return host_file_there(j, path);
}

static void judge_program(struct host_judge *j, const char *item_name, const char *program,
			  const char *good, const char *bad, const char *mend)
{
	char path[PATH_BYTES];
	bool there = strcmp(program, "virtiofsd") == 0 ? virtiofsd_find(j, path)
						       : program_find(j, program, path);
	struct host_item *item = host_item_add(j, item_name, there ? HOST_OK : HOST_NOTE);

	if (there)
		host_item_found(item, "%.90s", path);
	else
		host_item_found(item, "no %s", program);
	host_item_say(item, there ? good : bad, there ? "" : mend);
}

void host_devices_judge(struct host_judge *j)
{
	judge_program(j, "disks", "qemu-storage-daemon",
		      "guests that boot here can have disks (pangea run --disk)",
		      "guests that boot here can have no disks (pangea run --disk): the program "
		      "that serves them is not installed",
		      "apt-get install qemu-utils  # Debian 12: qemu-system-common");
	judge_program(j, "networks", "passt",
		      "guests that boot here can have a network (pangea run --net)",
		      "guests that boot here can have no network (pangea run --net): the program "
		      "that carries it is not installed",
		      "apt-get install passt");
	judge_program(
		j, "folders", "virtiofsd",
		"guests that boot here can have folders of this host (pangea run --fs)",
		"guests that boot here can have no folders of this host (pangea run --fs): the "
		"program that serves them, Debian 12's, is not installed; that of Debian 13 does "
		"not "
		"serve here",
		"apt-get install qemu-system-common  # Debian 12");
}
