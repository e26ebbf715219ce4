/* SPDX-License-Identifier: Apache-2.0 */
/* Memory cgroups of started processes: where they can be made, made with a limit, and removed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "confine/confine_parts.h"

/* Where systemd and Debian mount them. */
#define MOUNT_V2 "/sys/fs/cgroup"
#define MOUNT_V1 "/sys/fs/cgroup/memory"
/* The leaf that the daemon itself moves to. */
#define LEAF	 "daemon"
#define TEXT_MAX 4096

/* The files of the two versions. */
static const struct {
	const char *limit, *killed;
} files[] = {
	[CONFINE_CGROUPS_V1] = {"memory.limit_in_bytes", "memory.oom_control"},
	[CONFINE_CGROUPS_V2] = {"memory.max", "memory.events"},
};

/* The path of a folder's file; false: too long. */
static bool path_of(char out[PATH_MAX], const char *folder, const char *name)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);

	return n > 0 && n < PATH_MAX;
}

static int file_write(const char *folder, const char *name, const char *text)
{
	char path[PATH_MAX];
	int fd, err = 0;

	if (!path_of(path, folder, name))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* A small file as text; "" if it cannot be read. */
static void file_read(const char *path, char text[TEXT_MAX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, TEXT_MAX - 1);

	text[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

/* The rest of the first line that holds key, from after it on; null: none does. */
static char *line_after(char *text, const char *key)
{
	char *at = strstr(text, key);

	if (!at)
		return NULL;
	at += strlen(key);
	at[strcspn(at, "\n")] = 0;
	return at;
}

/* Our own cgroup's folder. */
static bool own_folder(const char *key, const char *mount, char out[PATH_MAX])
{
	char text[TEXT_MAX];
	const char *path;
	int n;

	file_read("/proc/self/cgroup", text);
	path = line_after(text, key);
	if (!path)
		return false;
	n = snprintf(out, PATH_MAX, "%s%s", mount, strcmp(path, "/") ? path : "");
	return n > 0 && n < PATH_MAX;
}

/*
 * Version 2: below a cgroup that has children with controllers there may be no processes, except in the root.
 * So we go into a leaf ourselves; where others are in our cgroup too, that is in vain.
 */
static int v2_enable(const char *own)
{
	char leaf[PATH_MAX];
	int err;

	if (strcmp(own, MOUNT_V2) == 0)
		return file_write(own, "cgroup.subtree_control", "+memory");
	if (!path_of(leaf, own, LEAF))
		return -ENAMETOOLONG;
	if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
		return -errno;
	err = file_write(leaf, "cgroup.procs", "0");
	if (!err)
		err = file_write(own, "cgroup.subtree_control", "+memory");
	if (err) {
		(void)file_write(own, "cgroup.procs", "0");
		(void)rmdir(leaf);
	}
	return err;
}

static int v2_probe(struct confine *c)
{
	char text[TEXT_MAX], path[PATH_MAX];

	if (!own_folder("0::", MOUNT_V2, c->cgroup) ||
	    !path_of(path, c->cgroup, "cgroup.controllers"))
		return -ENOENT;
	file_read(path, text);
	if (!strstr(text, "memory"))
		return -ENOENT;
	return v2_enable(c->cgroup);
}

/* Version 1: our own cgroup may have children as it is. */
static int v1_probe(struct confine *c)
{
	if (!own_folder(":memory:", MOUNT_V1, c->cgroup))
		return -ENOENT;
	return access(c->cgroup, W_OK) < 0 ? -errno : 0;
}

void confine_cgroup_probe(struct confine *c, char *why, size_t size)
{
	int err = v2_probe(c);

	c->cgroups = CONFINE_CGROUPS_V2;
	if (err == -ENOENT) {
		err = v1_probe(c);
		c->cgroups = CONFINE_CGROUPS_V1;
	}
	if (!err)
		return;
	c->cgroups = CONFINE_CGROUPS_NONE;
	snprintf(why, size,
		 err == -ENOENT ? "the kernel has no memory controller here"
		 : err == -EBUSY
			 ? "other processes are in this one's cgroup: start it as a service of "
			   "systemd with Delegate=yes, or by systemd-run --scope -p Delegate=yes"
			 : "no memory cgroup can be made below this process's own: %s",
		 strerror(-err));
}

int confine_cgroup_make(const struct confine *c, const struct confine_process *process,
			struct confine_hold *hold)
{
	char limit[32];
	int err = 0;

	hold->cgroup[0] = 0;
	if (c->cgroups == CONFINE_CGROUPS_NONE || !process->mem_bytes)
		return 0;
	if (!path_of(hold->cgroup, c->cgroup, process->name))
		err = -ENAMETOOLONG;
	else if (mkdir(hold->cgroup, 0755) < 0)
		err = -errno;
	if (err) {
		hold->cgroup[0] = 0;
		return err;
	}
	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)process->mem_bytes);
	err = file_write(hold->cgroup, files[c->cgroups].limit, limit);
	if (err) {
		rmdir(hold->cgroup);
		hold->cgroup[0] = 0;
	}
	return err;
}

bool confine_release(const struct confine *c, struct confine_hold *hold)
{
	char path[PATH_MAX], text[TEXT_MAX];
	const char *killed = NULL;

	if (!hold->cgroup[0])
		return false;
	if (path_of(path, hold->cgroup, files[c->cgroups].killed)) {
		file_read(path, text);
		killed = line_after(text, "oom_kill ");
	}
	/* What it left in memory files that others hold too is charged further up from now on. */
	(void)rmdir(hold->cgroup);
	hold->cgroup[0] = 0;
	return killed && strtoul(killed, NULL, 10) > 0;
}
