/* SPDX-License-Identifier: Apache-2.0 */
/* The process gives its rights away, one after the other, before it has read anything. */
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cap-ng.h>

#include "confine/confine_parts.h"

static int failed(char why[CONFINE_WHY_MAX], const char *what, int err)
{
	snprintf(why, CONFINE_WHY_MAX, "the slice cannot be confined: %s: %s", what,
		 strerror(err < 0 ? -err : err));
	return err < 0 ? err : -err;
}

/* For good: all three ids, and no groups. */
static int user_become(const struct confine_option *option)
{
	if (setgroups(0, NULL) < 0 || setresgid(option->gid, option->gid, option->gid) < 0 ||
	    setresuid(option->uid, option->uid, option->uid) < 0)
		return -errno;
	return 0;
}

/* None can come back by a program that is executed. Before the user changes: afterwards we may not. */
static int bounds_drop(void)
{
	if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
		return 0;
	capng_clear(CAPNG_SELECT_BOUNDS);
	return capng_apply(CAPNG_SELECT_BOUNDS) < 0 ? -EPERM : 0;
}

/* None is left in any set, and none can be got. */
static int capabilities_drop(void)
{
	capng_clear(CAPNG_SELECT_CAPS);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return -EPERM;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

int confine_enter(const char *text, char why[CONFINE_WHY_MAX])
{
	struct confine_option option = {0};
	int err;

	if (text && confine_option_parse(text, &option))
		return failed(why, "what the daemon says of it", EINVAL);
	if (option.spaces && (err = confine_root_make(&option, why)))
		return err;
	if ((err = bounds_drop()))
		return failed(why, "its capabilities", err);
	if (option.user && (err = user_become(&option)))
		return failed(why, "its user", err);
	/* Another user, another dumpable flag: without it /proc/self would be root's. */
	if (option.user && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return failed(why, "its files in /proc", errno);
	/* The kernel forgets it with the change of user. */
	if (text && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return failed(why, "its end with the daemon's", errno);
	if ((err = capabilities_drop()))
		return failed(why, "its capabilities", err);
	if ((err = confine_calls_enter(option.rdma)))
		return failed(why, "its system calls", err);
	return 0;
}

void confine_priority_drop(void)
{
	const struct sched_param normal = {0};

	/* It was given by the daemon, if at all; to give it up needs no right. */
	if (sched_getscheduler(0) == SCHED_FIFO)
		(void)sched_setscheduler(0, SCHED_OTHER, &normal);
}

int confine_settle(void)
{
	return confine_calls_settle();
}
