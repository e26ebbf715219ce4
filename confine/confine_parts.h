/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of confine/ share: the steps, each in a file of its own. */
#ifndef CONFINE_CONFINE_PARTS_H
#define CONFINE_CONFINE_PARTS_H

#include "confine/confine.h"

/* The name spaces of a process that is confined whole; the network's comes where it needs none. */
#define CONFINE_SPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)

/* What confine_enter is told (confine_option.c). */
struct confine_option {
	bool spaces; /* there is a mount name space of its own */
	bool rdma;   /* RDMA devices are shown, and may be asked */
	bool user;   /* become uid and gid */
	uid_t uid;
	gid_t gid;
};
#define CONFINE_OPTION_MAX 64
void confine_option_print(const struct confine_option *option, char out[CONFINE_OPTION_MAX]);
/* 0 or -EINVAL. */
int confine_option_parse(const char *text, struct confine_option *out);

/* fork() with these clone flags: 0 in the child. Safe: what is safe after fork. */
pid_t confine_fork(unsigned long flags);
/* In a child in a new user name space: we are its root. 0 or -errno. Safe after fork. */
int confine_become_root(const char *uid_map, const char *gid_map);
/* The VM's user. */
uid_t confine_uid(const struct confine *c, uint64_t vm);

/* confine_cgroup.c */
/* Finds where cgroups can be made; what is missing goes into why. */
void confine_cgroup_probe(struct confine *c, char *why, size_t size);
/* Makes one with this limit, its path into hold; without any success the hold is empty. 0 or -errno. */
int confine_cgroup_make(const struct confine *c, const struct confine_process *process,
			struct confine_hold *hold);

/* confine_root.c: an empty root with what a slice reads, and the devices that its user may use. 0 or -errno with a
 * sentence. */
int confine_root_make(const struct confine_option *option, char why[CONFINE_WHY_MAX]);

/* confine_calls.c: the lists of system calls come into force, for this thread and for all. */
int confine_calls_enter(bool rdma);
int confine_calls_settle(void);

#endif
