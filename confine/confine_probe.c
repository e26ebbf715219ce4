/* SPDX-License-Identifier: Apache-2.0 */
/* What this host and our own rights allow, found out by trying it in short-lived children. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine/confine_parts.h"

/* Adds a clause to the sentence of what is missing. */
static void lack_say(struct confine *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void lack_say(struct confine *c, const char *fmt, ...)
{
	size_t used = strlen(c->lacks);
	va_list ap;

	if (used && used + 3 < sizeof(c->lacks)) {
		strcpy(c->lacks + used, "; ");
		used += 2;
	}
	va_start(ap, fmt);
	vsnprintf(c->lacks + used, sizeof(c->lacks) - used, fmt, ap);
	va_end(ap);
}

/* The exit code of a child that tries something: an errno, or 0. */
static int child_reap(pid_t pid)
{
	int status = 0;

	if (pid < 0)
		return -pid;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
}

/* 0 or an errno: can a child have name spaces, and mount there? */
static int spaces_try(bool user)
{
	char uid_map[32], gid_map[32];
	int err = 0;
	pid_t pid;

	snprintf(uid_map, sizeof(uid_map), "0 %u 1", geteuid());
	snprintf(gid_map, sizeof(gid_map), "0 %u 1", getegid());
	pid = confine_fork(CONFINE_SPACES | CLONE_NEWNET | (user ? CLONE_NEWUSER : 0));
	if (pid == 0) {
		if (user)
			err = -confine_become_root(uid_map, gid_map);
		/* Some systems let everybody make a user name space, and forbid all in it. */
		if (!err && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			err = errno;
		_exit(err);
	}
	return child_reap(pid);
}

/* 0 or an errno: can a child become this user? */
static int user_try(uid_t uid, gid_t gid)
{
	pid_t pid = confine_fork(0);

	if (pid == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0)
			_exit(errno);
		_exit(0);
	}
	return child_reap(pid);
}

static int user_probe(struct confine *c, const char *name)
{
	const struct passwd *user;
	int err;

	if (name) {
		user = getpwnam(name);
		if (!user || user->pw_uid == 0) {
			snprintf(c->lacks, sizeof(c->lacks),
				 user ? "slices cannot run as %.64s, who may do everything"
				      : "there is no user %.64s",
				 name);
			return -ENOENT;
		}
		c->named = true;
		c->uid = user->pw_uid;
		c->gid = user->pw_gid;
	}
	err = user_try(confine_uid(c, 0), c->named ? c->gid : confine_uid(c, 0));
	c->users = err == 0;
	if (err && name) {
		snprintf(c->lacks, sizeof(c->lacks), "this process may not run slices as %.64s: %s",
			 name, strerror(err));
		return -EPERM;
	}
	/* An ordinary user's slices are his own processes, and cannot be anybody else's. */
	if (err && geteuid() == 0)
		lack_say(c, "slices run as this daemon's own user: %s", strerror(err));
	return 0;
}

static void spaces_probe(struct confine *c)
{
	int err = spaces_try(false), user_err;

	c->spaces = CONFINE_SPACES_ROOT;
	if (!err)
		return;
	user_err = spaces_try(true);
	c->spaces = CONFINE_SPACES_USER;
	if (!user_err)
		return;
	c->spaces = CONFINE_SPACES_NONE;
	lack_say(c, "no name spaces can be made here: %s, and in one of the user's own: %s",
		 strerror(err), strerror(user_err));
}

int confine_probe(enum confine_wish wish, const char *user, struct confine *out)
{
	char why[CONFINE_WHY_MAX] = "";
	int err;

	memset(out, 0, sizeof(*out));
	if (wish == CONFINE_NONE) {
		snprintf(out->lacks, sizeof(out->lacks), "it was asked for");
		return 0;
	}
	err = user_probe(out, user);
	if (err)
		return err;
	spaces_probe(out);
	/* In a user name space of its own another user cannot be had, nor needs to be. */
	if (out->spaces == CONFINE_SPACES_USER)
		out->users = false;
	confine_cgroup_probe(out, why, sizeof(why));
	if (why[0])
		lack_say(out, "the memory of slices is not limited by the kernel: %s", why);
	return 0;
}

bool confine_whole(const struct confine *c)
{
	return !c->lacks[0];
}
