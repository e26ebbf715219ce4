/* SPDX-License-Identifier: Apache-2.0 */
/* Started processes: their name spaces, root, user and limits, as far as this host has them; memory's bound. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine/confine.h"
#include "confine/confine_parts.h"

#define MIB (UINT64_C(1) << 20)

/* What a child found out, told through a pipe. */
struct report {
	int err;
	char why[CONFINE_WHY_MAX];
	uid_t uid;
	pid_t pid;
	ino_t space[4];	  /* of spaces[] */
	unsigned entries; /* of its root, beside dev, proc and sys */
	bool etc;	  /* it sees the host's files */
	bool capable;
	bool opens_null;
	bool fabric;   /* it sees the folder of RDMA devices */
	rlim_t locked; /* RLIMIT_MEMLOCK */
};

static const char *const spaces[] = {"mnt", "pid", "ipc", "net"};

static void spaces_read(ino_t out[4])
{
	char path[64];
	struct stat st;

	for (unsigned i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", spaces[i]);
		out[i] = stat(path, &st) == 0 ? st.st_ino : 0;
	}
}

static void root_look(struct report *r)
{
	DIR *dir = opendir("/");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		r->entries += entry->d_name[0] != '.' && strcmp(entry->d_name, "dev") &&
			      strcmp(entry->d_name, "proc") && strcmp(entry->d_name, "sys");
	r->etc = access("/etc/passwd", F_OK) == 0;
	r->fabric = access("/dev/infiniband", F_OK) == 0;
	r->opens_null = open("/dev/null", O_RDWR | O_CLOEXEC) >= 0;
	if (dir)
		closedir(dir);
}

static bool status_has_capability(void)
{
	char line[128];
	unsigned long long caps = 1;
	FILE *file = fopen("/proc/self/status", "r");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "CapPrm: %llx", &caps) == 1)
			break;
	if (file)
		fclose(file);
	return caps != 0;
}

static void child_report(const char *option, void *arg)
{
	const int *pipe_fd = arg;
	struct report r = {0};
	struct rlimit limit;

	/* The list of calls is test_calls.c's affair, and getdents is not on it. */
	struct confine_option parsed;
	r.err = confine_option_parse(option, &parsed);
	if (!r.err && parsed.spaces)
		r.err = confine_root_make(&parsed, r.why);
	if (!r.err)
		root_look(&r);
	spaces_read(r.space);
	if (!r.err)
		r.err = confine_enter(parsed.user ? strstr(option, "user=") : "none", r.why);
	r.locked = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 ? limit.rlim_cur : 0;
	r.uid = getuid();
	r.pid = getpid();
	r.capable = status_has_capability();
	_exit(write(*pipe_fd, &r, sizeof(r)) == (ssize_t)sizeof(r) ? 0 : 1);
}

static void report_get(const struct confine *c, bool network, bool rdma, struct report *out)
{
	struct confine_process process = {
		.name = "pangea-test.1", .vm = 77, .network = network, .rdma = rdma};
	struct confine_hold hold;
	int fds[2], status;
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	pid = confine_spawn(c, &process, child_report, &fds[1], &hold);
	cr_assert_gt(pid, 0, "%s", strerror(-pid));
	close(fds[1]);
	cr_assert_eq(read(fds[0], out, sizeof(*out)), (ssize_t)sizeof(*out));
	close(fds[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	cr_expect_eq(confine_release(c, &hold), false);
	cr_expect_eq(out->err, 0, "%s", out->why);
}

Test(confine_spawn, a_process_has_all_that_the_probe_promised)
{
	struct confine c;
	struct report r;
	ino_t own[4];

	cr_assert_eq(confine_probe(CONFINE_AUTO, NULL, &c), 0);
	spaces_read(own);
	report_get(&c, false, false, &r);
	cr_expect_not(r.capable);
	if (c.users) {
		cr_expect_eq(r.uid, CONFINE_UID_FIRST + 77);
	}
	if (c.spaces == CONFINE_SPACES_NONE)
		cr_skip_test("%s", c.lacks);
	for (unsigned i = 0; i < 4; i++)
		cr_expect(r.space[i] && r.space[i] != own[i], "%s", spaces[i]);
	cr_expect_eq(r.pid, 1);
	cr_expect_eq(r.entries, 0);
	cr_expect_not(r.etc);
	cr_expect(r.opens_null);
	/* Who has others to speak to stays in the host's network. */
	report_get(&c, true, false, &r);
	cr_expect_eq(r.space[3], own[3]);
	cr_expect_neq(r.space[0], own[0]);
}

Test(confine_spawn, without_confinement_there_are_no_privileges_either)
{
	struct confine c;
	struct report r;
	ino_t own[4];

	cr_assert_eq(confine_probe(CONFINE_NONE, NULL, &c), 0);
	cr_expect_not(confine_whole(&c));
	spaces_read(own);
	report_get(&c, true, false, &r);
	cr_expect_arr_eq(r.space, own, sizeof(own));
	cr_expect_eq(r.uid, getuid());
	cr_expect_not(r.capable);
}

/* Its devices are the host's; who is not to use them sees none. */
Test(confine_spawn, rdma_is_shown_to_whom_it_is_allowed)
{
	const bool there = access("/dev/infiniband", F_OK) == 0;
	struct rlimit own;
	struct confine c;
	struct report r;

	cr_assert_eq(confine_probe(CONFINE_AUTO, NULL, &c), 0);
	cr_assert_eq(getrlimit(RLIMIT_MEMLOCK, &own), 0);
	report_get(&c, true, false, &r);
	cr_expect_eq(r.locked, own.rlim_cur);
	cr_expect_eq(r.fabric, there && c.spaces == CONFINE_SPACES_NONE);
	report_get(&c, true, true, &r);
	cr_expect_eq(r.fabric, there);
	/* As much as may be had, and never less than before. */
	cr_expect_geq(r.locked, own.rlim_cur);
	cr_expect(r.locked >= CONFINE_LOCKED_MAX || r.locked == own.rlim_max);
}

Test(confine_spawn, a_user_that_is_not_there_is_said)
{
	struct confine c;

	cr_expect_eq(confine_probe(CONFINE_AUTO, "nobody-of-this-name", &c), -ENOENT);
	cr_expect_str_eq(c.lacks, "there is no user nobody-of-this-name");
	cr_expect_eq(confine_probe(CONFINE_AUTO, "root", &c), -ENOENT);
	cr_expect(strstr(c.lacks, "who may do everything"));
}

/* Each VM as another, and always as the same. */
Test(confine_spawn, virtual_machines_are_users_of_their_own)
{
	struct confine c = {.users = true}, named = {.users = true, .named = true, .uid = 5};

	cr_expect_eq(confine_uid(&c, 12345), confine_uid(&c, 12345));
	cr_expect_neq(confine_uid(&c, 12345), confine_uid(&c, 12346));
	cr_expect_eq(confine_uid(&c, UINT64_MAX),
		     CONFINE_UID_FIRST + (uid_t)(UINT64_MAX % CONFINE_UIDS));
	cr_expect_eq(confine_uid(&named, 12345), 5);
}

static void child_eat(const char *option, void *arg)
{
	char *at = mmap(NULL, 96 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)option;
	(void)arg;
	if (at == MAP_FAILED)
		_exit(1);
	for (size_t i = 0; i < 96 * MIB; i += 4096)
		((volatile char *)at)[i] = 1;
	_exit(0);
}

/* The status of a process that touches 96 MiB; *killed: the kernel says that it was for its own limit. */
static int eat(const struct confine *c, uint64_t limit, bool *over)
{
	struct confine_process process = {.name = "pangea-test.2", .mem_bytes = limit};
	struct confine_hold hold;
	int status;
	pid_t pid = confine_spawn(c, &process, child_eat, NULL, &hold);

	cr_assert_gt(pid, 0, "%s", strerror(-pid));
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	*over = confine_release(c, &hold);
	cr_expect_eq(hold.cgroup[0], 0);
	return status;
}

Test(confine_spawn, who_wants_more_memory_than_its_limit_ends_alone)
{
	struct confine c;
	bool over;
	int status;

	cr_assert_eq(confine_probe(CONFINE_AUTO, NULL, &c), 0);
	if (c.cgroups == CONFINE_CGROUPS_NONE)
		cr_skip_test("no memory cgroup: %s", c.lacks);
	status = eat(&c, 32 * MIB, &over);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	cr_expect(over);
	status = eat(&c, 256 * MIB, &over);
	cr_expect_eq(status, 0);
	cr_expect_not(over);
}

/* ---- programs of others that serve a slice ---- */

struct helped {
	int err;
	uid_t uid;
	bool capable, gains;
	int death;
	ino_t space[4];
};

struct helper_arg {
	int out;
	uid_t uid;
};

static void helper_report(const char *option, void *arg)
{
	const struct helper_arg *to = arg;
	struct helped h = {0};

	(void)option;
	h.err = confine_helper(to->uid, to->uid);
	h.uid = getuid();
	h.capable = status_has_capability();
	h.gains = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
	prctl(PR_GET_PDEATHSIG, &h.death);
	spaces_read(h.space);
	_exit(write(to->out, &h, sizeof(h)) == (ssize_t)sizeof(h) ? 0 : 1);
}

static void helped_get(const struct confine *c, uid_t uid, bool own_spaces, struct helped *out)
{
	struct confine_process process = {.name = "pangea-test.helper.1",
					  .vm = 77,
					  .network = own_spaces,
					  .helper = true,
					  .own_spaces = own_spaces};
	struct confine_hold hold;
	struct helper_arg arg = {.uid = uid};
	int fds[2], status;
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	arg.out = fds[1];
	pid = confine_spawn(c, &process, helper_report, &arg, &hold);
	cr_assert_gt(pid, 0, "%s", strerror(-pid));
	close(fds[1]);
	cr_assert_eq(read(fds[0], out, sizeof(*out)), (ssize_t)sizeof(*out));
	close(fds[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	cr_expect_eq(confine_release(c, &hold), false);
	cr_expect_eq(out->err, 0, "%s", strerror(-out->err));
}

Test(confine_spawn, a_helper_keeps_no_rights)
{
	struct confine c;
	struct helped h;
	ino_t own[4];

	cr_assert_eq(confine_probe(CONFINE_AUTO, NULL, &c), 0);
	spaces_read(own);
	for (int own_spaces = 0; own_spaces < 2; own_spaces++) {
		helped_get(&c, c.users ? 4711 : (uid_t)-1, own_spaces, &h);
		cr_expect_not(h.capable);
		cr_expect_not(h.gains);
		cr_expect_eq(h.death, SIGKILL);
		if (c.users)
			cr_expect_eq(h.uid, 4711);
		for (unsigned i = 0; i < 4 && c.spaces != CONFINE_SPACES_NONE; i++)
			cr_expect_eq(h.space[i] == own[i], own_spaces, "%s", spaces[i]);
	}
}

/* ---- a folder ---- */

struct shown {
	int err, made_errno;
	uid_t uid;
	bool gains, rooted, etc;
	int death;
};

struct folder_arg {
	int out, folder;
	const char *path;
	bool readonly;
	struct confine_folder how;
};

static void folder_report(const char *option, void *arg)
{
	const struct folder_arg *to = arg;
	struct shown s = {0};
	char root[64];
	int fd;

	(void)option;
	s.err = confine_folder_show(to->folder, to->path, to->readonly);
	if (!s.err)
		s.err = confine_folder_enter(&to->how);
	s.uid = getuid();
	s.gains = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
	prctl(PR_GET_PDEATHSIG, &s.death);
	snprintf(root, sizeof(root), "/proc/self/fd/%d/.", to->folder);
	s.rooted = chroot(root) == 0 && chdir("/") == 0;
	s.etc = access("/etc/passwd", F_OK) == 0;
	fd = open("/made", O_CREAT | O_WRONLY, 0600);
	s.made_errno = fd < 0 ? errno : 0;
	_exit(write(to->out, &s, sizeof(s)) == (ssize_t)sizeof(s) ? 0 : 1);
}

static void folder_try(const struct confine *c, const char *path, const char *name, bool readonly,
		       struct shown *out)
{
	struct confine_process process = {.name = "pangea-test.folder.1", .vm = 77, .helper = true};
	struct folder_arg arg = {.path = name, .readonly = readonly};
	uid_t uid = c->users ? 4711 : (uid_t)-1;
	struct confine_hold hold;
	int fds[2], status;
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	arg.out = fds[1];
	arg.folder = open(path, O_PATH | O_DIRECTORY);
	cr_assert_geq(arg.folder, 0);
	cr_assert_eq(confine_folder_make(c, uid, uid, &arg.how), 0);
	pid = confine_spawn(c, &process, folder_report, &arg, &hold);
	cr_assert_gt(pid, 0, "%s", strerror(-pid));
	close(fds[1]);
	close(arg.folder);
	cr_assert_eq(read(fds[0], out, sizeof(*out)), (ssize_t)sizeof(*out));
	close(fds[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	cr_expect_eq(confine_release(c, &hold), false);
}

Test(confine_spawn, a_folder_is_all_that_is_shown)
{
	char path[] = "/tmp/pangea-folder-XXXXXX", made[64];
	struct confine c;
	struct shown s;
	struct stat st;

	cr_assert_eq(confine_probe(CONFINE_AUTO, NULL, &c), 0);
	if (c.spaces == CONFINE_SPACES_NONE)
		cr_skip_test("no name spaces can be made here: %s", c.lacks);
	cr_assert_not_null(mkdtemp(path));
	if (c.users)
		cr_assert_eq(chown(path, 4711, 4711), 0);
	snprintf(made, sizeof(made), "%s/made", path);
	for (int readonly = 1; readonly >= 0; readonly--) {
		folder_try(&c, path, path, readonly, &s);
		cr_expect_eq(s.err, 0, "%s", strerror(-s.err));
		cr_expect_eq(s.uid, 0, "it is root where it is");
		cr_expect(s.rooted);
		cr_expect_not(s.etc);
		cr_expect_not(s.gains);
		cr_expect_eq(s.death, SIGKILL);
		cr_expect_eq(s.made_errno, readonly ? EROFS : 0, "%s", strerror(s.made_errno));
	}
	cr_assert_eq(stat(made, &st), 0);
	if (c.users)
		cr_expect_eq(st.st_uid, 4711, "what it makes is the folder's owner's");
	/* The name leads to another folder by now. */
	folder_try(&c, path, "/tmp", false, &s);
	cr_expect_eq(s.err, -ESTALE);
	cr_assert_eq(unlink(made), 0);
	cr_assert_eq(rmdir(path), 0);
}
