/* SPDX-License-Identifier: Apache-2.0 */
/* An empty root for the process: a file system of its own with what a slice looks at, and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/confine_parts.h"

/* Every system has it, and nothing in it is ours. */
#define PLACE "/tmp"
/* Files of no content and a few folders. */
#define PLACE_OPTIONS "size=64k,nr_inodes=64,mode=755"

/* Devices. Each is made anew, for the slice's user alone; or shown as it is, where that cannot be. */
static const struct {
	const char *path;
	const char *reason;
} devices[] = {
	{"/dev/null", "standard input"},
	{"/dev/kvm", "the CPU engine kvm"},
	{"/dev/userfaultfd", "faults of the kernel's own accesses, as KVM makes them"},
};

/* RDMA's: one for each device, and the connection manager's. Their numbers have gaps where devices came and went. */
#define FABRIC_FOLDER	   "/dev/infiniband"
#define FABRIC_MANAGER	   FABRIC_FOLDER "/rdma_cm"
#define FABRIC_DEVICE	   FABRIC_FOLDER "/uverbs%u"
#define FABRIC_DEVICES_MAX 32

static int failed(char why[CONFINE_WHY_MAX], const char *what)
{
	int err = -errno;

	snprintf(why, CONFINE_WHY_MAX, "cannot make the slice's root: %s: %s", what,
		 strerror(-err));
	return err;
}

/* Some containers forbid it. */
static int device_make(const char *place, const struct stat *st,
		       const struct confine_option *option)
{
	if (mknod(place, S_IFCHR | 0600, st->st_rdev) < 0)
		return -1;
	if (chown(place, option->uid, option->gid) == 0)
		return 0;
	(void)unlink(place);
	return -1;
}

static int device_show(const char *path, const char *place)
{
	int fd = open(place, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	close(fd);
	return mount(path, place, NULL, MS_BIND, NULL);
}

/* One device, if the host has it. */
static int device_put(const char *path, const struct confine_option *option)
{
	char place[PATH_MAX];
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISCHR(st.st_mode))
		return 0;
	snprintf(place, sizeof(place), PLACE "%s", path);
	if (option->user && device_make(place, &st, option) == 0)
		return 0;
	return device_show(path, place);
}

/* All that make up RDMA, if the host has it: with them a slice reads and writes no memory but what it registers itself. */
static int fabric_put(const struct confine_option *option)
{
	char path[64];
	int err;

	if (access(FABRIC_FOLDER, F_OK) < 0)
		return 0;
	/* Whatever the daemon's umask is: another user looks into it. */
	if (mkdir(PLACE FABRIC_FOLDER, 0755) < 0 || chmod(PLACE FABRIC_FOLDER, 0755) < 0)
		return -1;
	err = device_put(FABRIC_MANAGER, option);
	for (unsigned i = 0; !err && i < FABRIC_DEVICES_MAX; i++) {
		snprintf(path, sizeof(path), FABRIC_DEVICE, i);
		err = device_put(path, option);
	}
	return err;
}

static int devices_make(const struct confine_option *option)
{
	if (mkdir(PLACE "/dev", 0755) < 0 ||
	    mount("none", PLACE "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, PLACE_OPTIONS) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (device_put(devices[i].path, option) < 0)
			return -1;
	if (option->rdma && fabric_put(option) < 0)
		return -1;
	return mount(NULL, PLACE "/dev", NULL,
		     MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL);
}

/* What KVM's modules were told, and the processors' numbers. */
static int sys_show(void)
{
	if (mkdir(PLACE "/sys", 0755) < 0 ||
	    mount("/sys", PLACE "/sys", NULL, MS_BIND | MS_REC, NULL) < 0)
		return -1;
	return mount(NULL, PLACE "/sys", NULL,
		     MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

/* Its own processes only; where a container hides parts of /proc the kernel refuses that, and it sees what we do. */
static int proc_make(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;

	if (mkdir(PLACE "/proc", 0555) < 0)
		return -1;
	if (mount("proc", PLACE "/proc", "proc", flags, NULL) == 0)
		return 0;
	return mount("/proc", PLACE "/proc", NULL, MS_BIND | MS_REC, NULL);
}

/* The kernel's first file system cannot go: the new root covers it, and without capabilities there is no way below. */
static int root_cover(void)
{
	return mount(".", "/", NULL, MS_MOVE, NULL) < 0 ? -1 : chroot(".");
}

/* The new root takes the old one's place, and the old one goes. */
static int root_change(void)
{
	if (chdir(PLACE) < 0)
		return -1;
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return -1;
	} else if (errno != EINVAL || root_cover() < 0) {
		return -1;
	}
	if (chdir("/") < 0)
		return -1;
	return mount(NULL, "/", NULL,
		     MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

int confine_root_make(const struct confine_option *option, char why[CONFINE_WHY_MAX])
{
	/* Nothing of this shows outside; what is mounted outside does not show here. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return failed(why, "the mounts");
	if (mount("none", PLACE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, PLACE_OPTIONS) < 0)
		return failed(why, "a tmpfs");
	if (devices_make(option) < 0)
		return failed(why, "/dev");
	if (sys_show() < 0)
		return failed(why, "/sys");
	if (proc_make() < 0)
		return failed(why, "/proc");
	return root_change() < 0 ? failed(why, "the change of root") : 0;
}
