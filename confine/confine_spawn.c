/* SPDX-License-Identifier: Apache-2.0 */
/* Starts a process with what only the outside can give it: cgroup, name spaces, limits. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/confine_parts.h"

/* The exit code of a child that never became a slice: the shell's for what cannot be run. */
#define CHILD_FAILED 127

/* All that the child needs, made before it exists: it may not allocate, nor print. */
struct child {
	const struct confine *confine;
	bool rdma, helper, own_spaces;
	char procs[PATH_MAX]; /* "": no cgroup */
	char uid_map[32], gid_map[32];
	char option[CONFINE_OPTION_MAX];
};

/* Not glibc's fork, which has no flags; and none of its handlers matter to a child that execs. */
pid_t confine_fork(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);

	return pid < 0 ? (pid_t)-errno : (pid_t)pid;
}

/* In the child. */
static int text_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int confine_become_root(const char *uid_map, const char *gid_map)
{
	int err = text_put("/proc/self/setgroups", "deny");

	if (!err)
		err = text_put("/proc/self/uid_map", uid_map);
	return err ? err : text_put("/proc/self/gid_map", gid_map);
}

uid_t confine_uid(const struct confine *c, uint64_t vm)
{
	return c->named ? c->uid : CONFINE_UID_FIRST + (uid_t)(vm % CONFINE_UIDS);
}

static void option_make(const struct confine *c, const struct confine_process *process,
			struct confine_option *option)
{
	memset(option, 0, sizeof(*option));
	option->spaces = c->spaces != CONFINE_SPACES_NONE;
	option->rdma = process->rdma;
	option->user = c->users;
	confine_user(c, process->vm, &option->uid, &option->gid);
}

static unsigned long flags_of(const struct confine *c, const struct confine_process *process)
{
	unsigned long flags = 0;

	if (c->spaces == CONFINE_SPACES_NONE || process->own_spaces)
		return 0;
	flags = CONFINE_SPACES;
	if (c->spaces == CONFINE_SPACES_USER)
		flags |= CLONE_NEWUSER;
	return process->network ? flags : flags | CLONE_NEWNET;
}

/* In the child: as much as its own hard limit allows. */
static void limit_set(int resource, rlim_t value)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return;
	if (limit.rlim_max == RLIM_INFINITY || value < limit.rlim_max || geteuid() == 0)
		limit.rlim_max = value;
	limit.rlim_cur = limit.rlim_max < value ? limit.rlim_max : value;
	/* Who may not raise it keeps what he has. */
	(void)setrlimit(resource, &limit);
}

/*
 * In the child. Its engine thread asks for the lowest real-time priority. It has no privileges, so it needs the
 * right to it from us; and where only the limit may not be raised, the priority itself, which the process gives
 * up again (confine_priority_drop) once that thread has it.
 */
static void priority_grant(void)
{
	const struct sched_param lowest = {.sched_priority = 1};
	struct rlimit limit;

	if (getrlimit(RLIMIT_RTPRIO, &limit) < 0 || limit.rlim_cur >= 1)
		return;
	limit.rlim_cur = 1;
	limit.rlim_max = limit.rlim_max < 1 ? 1 : limit.rlim_max;
	if (setrlimit(RLIMIT_RTPRIO, &limit) < 0)
		(void)sched_setscheduler(0, SCHED_FIFO, &lowest);
}

/* In the child: for RDMA, which locks what it registers. Never lowered; as far as it may be raised. */
static void locked_raise(void)
{
	struct rlimit limit, wanted;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur >= CONFINE_LOCKED_MAX)
		return;
	wanted.rlim_cur = CONFINE_LOCKED_MAX;
	wanted.rlim_max = limit.rlim_max < CONFINE_LOCKED_MAX ? CONFINE_LOCKED_MAX : limit.rlim_max;
	if (setrlimit(RLIMIT_MEMLOCK, &wanted) == 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* In the child. */
static void limits_set(const struct child *child)
{
	limit_set(RLIMIT_NOFILE, CONFINE_FILES_MAX);
	if (child->helper)
		return;
	priority_grant();
	if (child->rdma)
		locked_raise();
	/* Counted by user, so only where the user is its own. */
	if (child->confine->users)
		limit_set(RLIMIT_NPROC, CONFINE_PROCESSES_MAX);
}

/* In the child, which has no log yet: its log is what it writes to its standard error. */
static void child_fail(const char *sentence)
{
	(void)!write(STDERR_FILENO, sentence, strlen(sentence));
	_exit(CHILD_FAILED);
}

/* In the child. */
static void child_prepare(const struct child *child)
{
	if (child->procs[0] && text_put(child->procs, "0") < 0)
		child_fail("pangea-slice: its memory cgroup cannot be joined\n");
	if (child->confine->spaces == CONFINE_SPACES_USER && !child->own_spaces &&
	    confine_become_root(child->uid_map, child->gid_map) < 0)
		child_fail("pangea-slice: the map of its user name space cannot be written\n");
	limits_set(child);
}

pid_t confine_spawn(const struct confine *c, const struct confine_process *process,
		    void (*run)(const char *option, void *arg), void *arg,
		    struct confine_hold *hold)
{
	struct confine_option option;
	struct child child = {.confine = c,
			      .rdma = process->rdma,
			      .helper = process->helper,
			      .own_spaces = process->own_spaces};
	pid_t pid;
	int err = confine_cgroup_make(c, process, hold);

	if (err)
		return err;
	if (hold->cgroup[0])
		snprintf(child.procs, sizeof(child.procs), "%.*s/cgroup.procs", PATH_MAX - 16,
			 hold->cgroup);
	snprintf(child.uid_map, sizeof(child.uid_map), "0 %u 1", geteuid());
	snprintf(child.gid_map, sizeof(child.gid_map), "0 %u 1", getegid());
	option_make(c, process, &option);
	confine_option_print(&option, child.option);
	pid = confine_fork(flags_of(c, process));
	if (pid == 0) {
		child_prepare(&child);
		run(child.option, arg);
		_exit(CHILD_FAILED);
	}
	if (pid < 0)
		(void)confine_release(c, hold);
	return pid;
}
