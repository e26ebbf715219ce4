/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the rights of a program of others away that serves a slice, between fork and exec. */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/confine_parts.h"

/* The kernel has 41; a number beyond its last one is refused and ends the loop. */
#define CAPABILITIES_MAX 64

/*
 * The system calls themselves: glibc's functions would have every thread of the process change its user, and it
 * knows of threads that are not in this child.
 */
static int user_become(uid_t uid, gid_t gid)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
	    syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -errno;
	return 0;
}

/* None can come back by a program that is executed, be it by the user 0 of a user name space. */
static int bounds_drop(void)
{
	for (unsigned long cap = 0; cap < CAPABILITIES_MAX; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
			continue;
		/* Who may not drop them has none to be got. */
		return errno == EINVAL || errno == EPERM ? 0 : -errno;
	}
	return 0;
}

static int capabilities_drop(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

void confine_user(const struct confine *c, uint64_t vm, uid_t *uid, gid_t *gid)
{
	*uid = confine_uid(c, vm);
	*gid = c->named ? c->gid : *uid;
}

int confine_helper(uid_t uid, gid_t gid)
{
	int err = bounds_drop();

	if (!err && uid != (uid_t)-1)
		err = user_become(uid, gid);
	if (!err)
		err = capabilities_drop();
	if (err)
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* After the change of user, with which the kernel forgets it. */
	return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? -errno : 0;
}
