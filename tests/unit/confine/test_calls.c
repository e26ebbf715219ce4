/* SPDX-License-Identifier: Apache-2.0 */
/* The list of system calls: one forbidden call of each kind kills; what slices need goes on working. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/rdma_user_ioctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine/confine.h"
#include "confine/confine_parts.h"

/* Of a child that came to the end of what it tried. */
#define DONE 9
/* Of one that did not get so far. */
#define BROKEN 8

enum stage {
	STAGE_FREE,    /* not confined: what is tried kills nobody by itself */
	STAGE_ENTERED, /* confine_enter */
	STAGE_RDMA,    /* the same, and RDMA is allowed */
	STAGE_SETTLED, /* confine_enter and confine_settle, and RDMA is allowed */
};

/* The status of a child that does it at this stage. */
static int status_of(enum stage stage, void (*deed)(void))
{
	char why[CONFINE_WHY_MAX];
	int status = 0;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		/* What is tried may end the child in its own way; not by a core file. */
		const struct rlimit none = {0};

		setrlimit(RLIMIT_CORE, &none);
		alarm(60);
		if (stage >= STAGE_ENTERED &&
		    confine_enter(stage >= STAGE_RDMA ? "rdma" : NULL, why))
			_exit(BROKEN);
		if (stage >= STAGE_SETTLED && confine_settle())
			_exit(BROKEN);
		deed();
		_exit(DONE);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static bool killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static bool done(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == DONE;
}

static void skip_beside_sanitizers(void)
{
	if (!confine_calls_possible())
		cr_skip_test("a sanitizer's own calls are on no list");
}

/* ---- what kills; each is harmless, or fails, where nobody is confined ---- */

#define NOWHERE ((long)"/nonexistent/x")

static const struct forbidden {
	const char *kind;
	long call;
	long args[6];
} forbidden[] = {
	{"programs", SYS_execve, {NOWHERE}},
	{"processes", SYS_clone, {0}},
	{"other processes: ptrace", SYS_ptrace, {PTRACE_PEEKDATA}},
	{"other processes: memory", SYS_process_vm_readv, {1}},
	{"other processes: signals", SYS_kill, {0, 0}},
	{"other processes: limits", SYS_prlimit64, {1, RLIMIT_NOFILE}},
	{"files: making", SYS_openat, {AT_FDCWD, NOWHERE, O_WRONLY | O_CREAT}},
	{"files: making without a name", SYS_openat, {AT_FDCWD, NOWHERE, O_WRONLY | O_TMPFILE}},
	{"files: cutting", SYS_openat, {AT_FDCWD, NOWHERE, O_WRONLY | O_TRUNC}},
	{"files: removing", SYS_unlink, {NOWHERE}},
	{"files: modes", SYS_chmod, {NOWHERE}},
	{"files: folders", SYS_mkdir, {NOWHERE}},
	{"mounts", SYS_mount, {0, NOWHERE}},
	{"name spaces", SYS_unshare, {0}},
	{"name spaces of others", SYS_setns, {-1}},
	{"roots", SYS_chroot, {NOWHERE}},
	{"users", SYS_setuid, {-1}},
	{"capabilities", SYS_capset, {0}},
	{"secure bits", SYS_prctl, {PR_SET_SECUREBITS, -1}},
	{"limits", SYS_setrlimit, {-1}},
	{"code: mmap", SYS_mmap, {0, 0, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1}},
	{"code: mprotect", SYS_mprotect, {1, 4096, PROT_READ | PROT_EXEC}},
	{"RDMA: packets of management", SYS_ioctl, {-1, IB_USER_MAD_REGISTER_AGENT2, NOWHERE}},
	{"terminals", SYS_ioctl, {-1, TIOCSTI, NOWHERE}},
	{"the kernel: modules", SYS_finit_module, {-1, NOWHERE}},
	{"the kernel: bpf", SYS_bpf, {-1}},
	{"the kernel: keys", SYS_keyctl, {-1}},
	{"the kernel: perf", SYS_perf_event_open, {0, 0, -1, -1}},
	{"the host: reboot", SYS_reboot, {0}},
	{"the host: its name", SYS_sethostname, {0, -1}},
	{"the host: its clock", SYS_clock_settime, {-1}},
};

static const struct forbidden *tried;

static void try_forbidden(void)
{
	const long *a = tried->args;

	if (tried->call != SYS_clone) {
		(void)syscall(tried->call, a[0], a[1], a[2], a[3], a[4], a[5]);
		return;
	}
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	(void)waitpid(pid, NULL, 0);
}

Test(confine_calls, each_forbidden_kind_kills)
{
	skip_beside_sanitizers();
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		tried = &forbidden[i];
		cr_expect(done(status_of(STAGE_FREE, try_forbidden)), "%s, not confined",
			  tried->kind);
		cr_expect(killed(status_of(STAGE_ENTERED, try_forbidden)), "%s", tried->kind);
		cr_expect(killed(status_of(STAGE_RDMA, try_forbidden)), "%s, with RDMA",
			  tried->kind);
	}
}

/* ---- until the connections stand ---- */

static void new_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		_exit(BROKEN);
}
static void called(void)
{
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	(void)connect(-1, &nobody, sizeof(nobody));
}
static void listened(void)
{
	(void)listen(-1, 1);
}
static void bound(void)
{
	(void)bind(-1, NULL, 0);
}
static void third_list(void)
{
	(void)syscall(SYS_seccomp, -1, 0, NULL);
}

static void (*const until_settled[])(void) = {new_socket, called, listened, bound, third_list};

Test(confine_calls, sockets_are_made_until_it_settles)
{
	skip_beside_sanitizers();
	for (size_t i = 0; i < sizeof(until_settled) / sizeof(until_settled[0]); i++) {
		cr_expect(done(status_of(STAGE_ENTERED, until_settled[i])), "%zu", i);
		cr_expect(killed(status_of(STAGE_SETTLED, until_settled[i])), "%zu", i);
	}
}

/* Who calls late, or looks for a file, hears no, and nobody dies of it. */
static void late(void)
{
	if (accept4(-1, NULL, NULL, 0) >= 0 || errno != EPERM)
		_exit(BROKEN);
	if (open("/proc/self/status", O_RDONLY) >= 0 || errno != EPERM)
		_exit(BROKEN);
}

Test(confine_calls, what_comes_late_is_refused)
{
	skip_beside_sanitizers();
	cr_expect(done(status_of(STAGE_SETTLED, late)));
}

/* A list that were not there for threads that are older would be none. */
static pthread_barrier_t old_thread_barrier;

static void *old_thread(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&old_thread_barrier);
	pthread_barrier_wait(&old_thread_barrier);
	(void)socket(AF_INET, SOCK_STREAM, 0);
	_exit(BROKEN);
}

static void settled_beside_a_thread(void)
{
	pthread_t thread;

	pthread_barrier_init(&old_thread_barrier, NULL, 2);
	if (pthread_create(&thread, NULL, old_thread, NULL))
		_exit(BROKEN);
	pthread_barrier_wait(&old_thread_barrier);
	if (confine_settle())
		_exit(BROKEN);
	pthread_barrier_wait(&old_thread_barrier);
	pthread_join(thread, NULL);
}

Test(confine_calls, threads_that_are_there_already_settle_too)
{
	skip_beside_sanitizers();
	cr_expect(killed(status_of(STAGE_ENTERED, settled_beside_a_thread)));
}

/* ---- what a slice does ---- */

static void *thread_main(void *arg)
{
	return arg;
}

static void work(void)
{
	const struct timespec moment = {.tv_nsec = 1000};
	char text[8] = "";
	pthread_t thread;
	void *result = NULL;
	int fd = memfd_create("x", MFD_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char *at;

	if (fd < 0 || null < 0 || ftruncate(fd, 8192) < 0 || pwrite(fd, "abc", 3, 4096) != 3)
		_exit(BROKEN);
	at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED || strcmp(at + 4096, "abc") != 0 ||
	    madvise(at, 8192, MADV_DONTNEED) < 0 || mprotect(at, 4096, PROT_READ) < 0 ||
	    pread(fd, text, 3, 4096) != 3)
		_exit(BROKEN);
	if (pthread_create(&thread, NULL, thread_main, &fd) || pthread_join(thread, &result) ||
	    result != &fd)
		_exit(BROKEN);
	if (prctl(PR_SET_NAME, "worker", 0, 0, 0) < 0 || nanosleep(&moment, NULL) < 0)
		_exit(BROKEN);
}

Test(confine_calls, what_a_slice_does_goes_on)
{
	cr_expect(done(status_of(STAGE_FREE, work)));
	cr_expect(done(status_of(STAGE_ENTERED, work)));
}

/* ---- devices: what speaks to a back end once the slice has settled ---- */

static int back_end[2];

static bool descriptor_send(int sock, int fd)
{
	char text = 'x';
	struct iovec part = {&text, 1};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1;
}

/* As a disk's and a network's threads do: memory and events that are shared, messages, frames. */
static void device(void)
{
	uint64_t count = 1;
	char text[8];
	struct iovec parts[2] = {{text, 1}, {text + 1, 2}};
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 1};
	int memory = memfd_create("queues", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd polled = {.fd = back_end[1], .events = POLLIN};

	if (memory < 0 || kick < 0 || ftruncate(memory, 4096) < 0 ||
	    fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ||
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0) == MAP_FAILED)
		_exit(BROKEN);
	if (!descriptor_send(back_end[0], memory) || !descriptor_send(back_end[0], kick))
		_exit(BROKEN);
	if (poll(&polled, 1, 1000) != 1 || recvmsg(back_end[1], &msg, 0) != 1)
		_exit(BROKEN);
	msg.msg_iov = &(struct iovec){text, 1};
	if (recvmsg(back_end[1], &msg, MSG_DONTWAIT) != 1 ||
	    write(kick, &count, sizeof(count)) != (ssize_t)sizeof(count) ||
	    read(kick, &count, sizeof(count)) != (ssize_t)sizeof(count))
		_exit(BROKEN);
	if (writev(back_end[0], parts, 2) != 3 || readv(back_end[1], parts, 2) != 3 ||
	    ppoll(&polled, 1, &(struct timespec){0}, NULL) != 0 || close(kick) < 0)
		_exit(BROKEN);
}

Test(confine_calls, devices_speak_to_their_back_ends)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, back_end), 0);
	cr_expect(done(status_of(STAGE_FREE, device)));
	cr_expect(done(status_of(STAGE_SETTLED, device)));
}

/* ---- RDMA ---- */

/* What libraries do to find devices, and to speak to one. */
static void verbs(void)
{
	char entries[1024];
	int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root < 0 || syscall(SYS_getdents64, root, entries, sizeof(entries)) <= 0)
		_exit(BROKEN);
	if (ioctl(-1, RDMA_VERBS_IOCTL, entries) >= 0 || errno != EBADF)
		_exit(BROKEN);
	if (syscall(SYS_inotify_init1, 0) >= 0 || errno != ENOSYS)
		_exit(BROKEN);
}

static void verb(void)
{
	char nothing[64];

	(void)ioctl(-1, RDMA_VERBS_IOCTL, nothing);
}

static void folder(void)
{
	(void)syscall(SYS_getdents64, -1, NULL, 0);
}

Test(confine_calls, verbs_are_for_whom_rdma_is_allowed)
{
	skip_beside_sanitizers();
	cr_expect(done(status_of(STAGE_RDMA, verbs)));
	/* Links go on when they stand. */
	cr_expect(done(status_of(STAGE_SETTLED, verb)));
	cr_expect(killed(status_of(STAGE_ENTERED, verb)));
	cr_expect(killed(status_of(STAGE_ENTERED, folder)));
}

/* ---- what the daemon says of it ---- */

Test(confine_option, is_read_as_it_was_written)
{
	const struct confine_option options[] = {
		{0},
		{.spaces = true},
		{.rdma = true},
		{.spaces = true,
		 .rdma = true,
		 .user = true,
		 .uid = 4294967294u,
		 .gid = 4294967294u},
		{.user = true, .uid = 1, .gid = 4294967294u},
		{.spaces = true, .user = true, .uid = CONFINE_UID_FIRST, .gid = 7},
	};
	char text[CONFINE_OPTION_MAX];
	struct confine_option back;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		confine_option_print(&options[i], text);
		cr_expect_eq(confine_option_parse(text, &back), 0, "%s", text);
		cr_expect_eq(back.spaces, options[i].spaces);
		cr_expect_eq(back.rdma, options[i].rdma);
		cr_expect_eq(confine_rdma(text), options[i].rdma, "%s", text);
		cr_expect_eq(back.user, options[i].user);
		cr_expect_eq(back.uid, options[i].uid);
		cr_expect_eq(back.gid, options[i].gid);
	}
}

Test(confine_option, anything_else_is_refused)
{
	static const char *const bad[] = {
		"",
		"space",
		"spaces,",
		"rdma,",
		"rdma=1",
		"user=1",
		"user=1:",
		"user=:1",
		"user=-1:1",
		"user= 1:1",
		"user=1:1x",
		"user=4294967295:1",
		"user=1:1:1",
		"spaces none",
		"user=99999999999999999999:1",
		"spaces,user=1:1,user=1:1,user=1:1,user=1:1,user=1:1,user=1:1,user=1:1",
	};
	struct confine_option back;
	char why[CONFINE_WHY_MAX] = "";

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(confine_option_parse(bad[i], &back), -EINVAL, "%s", bad[i]);
	cr_expect_not(confine_rdma(NULL));
	cr_expect_not(confine_rdma("rdma,"));
	cr_expect_lt(confine_enter("spaces,", why), 0);
	cr_expect(strstr(why, "what the daemon says"));
}
