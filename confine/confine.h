/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process that runs a guest's code may do: its user, name spaces, root, memory and system calls.
 *
 * Two sides. The daemon looks once at what its host and its own rights allow (confine_probe), and starts
 * each process by confine_spawn, which gives it what only the outside can give: name spaces, a memory
 * cgroup, limits. The process goes on from there with confine_enter, before it has read a byte from
 * anybody: an empty root, its own user, no capabilities, and a list of system calls; and with
 * confine_settle, once its connections stand: no new sockets, no new files. docs/confinement.md.
 */
#ifndef CONFINE_CONFINE_H
#define CONFINE_CONFINE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The longest sentence, with its zero. */
#define CONFINE_WHY_MAX 512
/* User ids of VMs, where no user is named: this one and the next CONFINE_UIDS. systemd's table of user
 * ids (UIDS-GIDS.md) leaves them free. */
#define CONFINE_UID_FIRST 1900000000u
#define CONFINE_UIDS	  100000000u
/* Open files of a process, and threads and processes of its user where that is its own. */
#define CONFINE_FILES_MAX     4096
#define CONFINE_PROCESSES_MAX 4096
/* Memory that a process may register with RDMA devices: some 300 KiB for a link, to 63 others, and as much again
 * for queues that drivers keep in it and for secrets that are locked. */
#define CONFINE_LOCKED_MAX (UINT64_C(64) << 20)

/* ---- the daemon's side (confine_probe.c, confine_spawn.c, confine_cgroup.c) ---- */

enum confine_wish {
	CONFINE_AUTO,	 /* as far as this host allows */
	CONFINE_REQUIRE, /* all of it, or nothing is started */
	CONFINE_NONE,	 /* system calls and privileges alone */
};

/* How name spaces are had. */
enum confine_spaces {
	CONFINE_SPACES_NONE, /* they are not */
	CONFINE_SPACES_ROOT, /* by our own privileges */
	CONFINE_SPACES_USER, /* in a user name space of the process's own */
};

enum confine_cgroups {
	CONFINE_CGROUPS_NONE,
	CONFINE_CGROUPS_V1, /* the memory controller's own hierarchy */
	CONFINE_CGROUPS_V2,
};

struct confine {
	enum confine_spaces spaces;
	bool users; /* a process gets another user than ours */
	bool named; /* that user is uid and gid, for all; else each VM has one of its own */
	uid_t uid;
	gid_t gid;
	enum confine_cgroups cgroups;
	char cgroup[PATH_MAX];	     /* the folder in which those of processes are made */
	char lacks[CONFINE_WHY_MAX]; /* a sentence on what cannot be had and why; "": nothing */
};

/*
 * Finds out by trying what can be had here: starts and reaps short-lived children. user names the
 * processes' user; null: one for each VM, if we may choose. May move this process into a cgroup below
 * its own (version 2 allows processes only in leaves). Errors: -ENOENT, there is no such user; -EPERM,
 * a user is named but we may not change to it; either with lacks as the sentence. Once, before there are threads.
 */
int confine_probe(enum confine_wish wish, const char *user, struct confine *out);
/* Whether anything is missing that CONFINE_REQUIRE asks for. */
bool confine_whole(const struct confine *c);

/* One process to be started. */
struct confine_process {
	const char *name;   /* of its cgroup: letters, digits, '-' and '.' */
	uint64_t vm;	    /* whose user it gets */
	uint64_t mem_bytes; /* the most memory it may have; 0: no limit */
	bool network;	    /* it needs the host's network */
	bool rdma;	    /* and may use its RDMA devices */
	/*
	 * It is no slice but a program of others that serves one: it gets no priority, keeps the host's files,
	 * and its rights are taken away by confine_helper. With own_spaces it makes its name spaces itself.
	 */
	bool helper, own_spaces;
};

/* What a started process has that must be given back. */
struct confine_hold {
	char cgroup[PATH_MAX]; /* "": none */
};

/*
 * Starts a process as fork does, in its cgroup and name spaces and with its limits, and calls child(option,
 * arg) there, which must exec or _exit and may call what is safe after fork. option is what confine_enter
 * wants to be told. Returns the pid; the caller reaps it and then calls confine_release. Or -errno.
 */
pid_t confine_spawn(const struct confine *c, const struct confine_process *process,
		    void (*child)(const char *option, void *arg), void *arg,
		    struct confine_hold *hold);
/*
 * In the child of confine_spawn, for a helper, before it execs: it becomes this user for good (uid -1: it keeps its
 * own), has no capabilities and can get none, and is killed when the daemon ends. Only what is safe after fork. 0 or
 * -errno.
 */
int confine_helper(uid_t uid, gid_t gid);
/*
 * For a helper that serves a folder: it must be able to act as each user of a guest, so it gets a user name space
 * whose root is this one user of the host (uid -1: the daemon's) and which has no other. In the daemon. 0, or -EPERM:
 * this host or the daemon's own choice gives no name spaces.
 */
struct confine_folder {
	bool own_space; /* else confine_spawn has given it one */
	uid_t uid;
	gid_t gid;
	char uid_map[32], gid_map[32];
};
int confine_folder_make(const struct confine *c, uid_t uid, gid_t gid, struct confine_folder *out);
/*
 * In the child, first: in the place of an open folder, whose name this is, comes a mount of it that is in no name
 * space, read-only if that is wanted. -ESTALE: the name leads elsewhere by now. Safe after fork, as the next.
 */
int confine_folder_show(int folder, const char *path, bool readonly);
/* In the child, then, in the place of confine_helper: it has the rights of that user and none beside. 0 or -errno. */
int confine_folder_enter(const struct confine_folder *f);
/* The user and group of a VM's processes, where c->users. */
void confine_user(const struct confine *c, uint64_t vm, uid_t *uid, gid_t *gid);
/*
 * The process has been reaped: removes its cgroup. True if the kernel killed in it for want of memory
 * below its own limit.
 */
bool confine_release(const struct confine *c, struct confine_hold *hold);

/* ---- the process's own side (confine_enter.c, confine_root.c, confine_calls.c) ---- */

/*
 * Takes the process's rights away. option is what confine_spawn gave its child; null: no name spaces and no
 * other user. Single-threaded, before any input is read. Returns 0, or -errno with a sentence in why; the process
 * must end then.
 */
int confine_enter(const char *option, char why[CONFINE_WHY_MAX]);
/* Whether option lets the process use RDMA devices: whose drivers it must load before confine_enter, then. */
bool confine_rdma(const char *option);
/* Threads that are made from now on begin at normal priority; so does this one go on. */
void confine_priority_drop(void);
/*
 * All connections stand and all files are open: from now on sockets and files cannot be made by any thread. 0 or
 * -errno.
 */
int confine_settle(void);
/* Whether confine_enter and confine_settle put a list of system calls into force in this build: not beside
 * sanitizers, whose own calls are on no list. */
bool confine_calls_possible(void);

#endif
