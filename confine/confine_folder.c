/* SPDX-License-Identifier: Apache-2.0 */
/* Shows a program of others one folder, as the root of a user name space in which it is its owner; between fork and exec. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/confine_parts.h"

int confine_folder_make(const struct confine *c, uid_t uid, gid_t gid, struct confine_folder *out)
{
	if (c->spaces == CONFINE_SPACES_NONE)
		return -EPERM;
	*out = (struct confine_folder){
		.own_space = c->spaces == CONFINE_SPACES_ROOT, .uid = uid, .gid = gid};
	if (uid == (uid_t)-1) {
		out->uid = geteuid();
		out->gid = getegid();
	}
	snprintf(out->uid_map, sizeof(out->uid_map), "0 %u 1", out->uid);
	snprintf(out->gid_map, sizeof(out->gid_map), "0 %u 1", out->gid);
	return 0;
}

/* The folder that the descriptor has, by its name in this mount name space: the descriptor's own is another. */
static int tree_open(int folder, const char *path)
{
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path,
			      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	struct stat wanted, got;

	if (fd < 0)
		return -errno;
	if (fstat(folder, &wanted) < 0 || fstat(fd, &got) < 0 || wanted.st_dev != got.st_dev ||
	    wanted.st_ino != got.st_ino) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

int confine_folder_show(int folder, const char *path, bool readonly)
{
	struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
						    (readonly ? MOUNT_ATTR_RDONLY : 0)};
	int fd = tree_open(folder, path), err = 0;

	if (fd < 0)
		return fd;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
		    sizeof(attributes)) < 0 ||
	    dup2(fd, folder) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* The calls themselves, as confine_helper.c has them. */
static int owner_become(const struct confine_folder *f)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 ||
	    syscall(SYS_setresgid, f->gid, f->gid, f->gid) < 0 ||
	    syscall(SYS_setresuid, f->uid, f->uid, f->uid) < 0)
		return -errno;
	/* Who has changed its user may not write its own maps, else. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 || unshare(CLONE_NEWUSER) < 0)
		return -errno;
	return confine_become_root(f->uid_map, f->gid_map);
}

int confine_folder_enter(const struct confine_folder *f)
{
	int err = f->own_space ? owner_become(f) : 0;

	if (err)
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? -errno : 0;
}
