/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of a slice's process: each group with its reason; all others kill the process. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "confine/confine_parts.h"

#define CALL(name) SCMP_SYS(name)
/* A list ends with this; no system call has the number. */
#define END	  (-0x7fff)
#define CALLS_MAX 32

/* Allowed whatever their arguments are. */
static const struct {
	const char *reason;
	int calls[CALLS_MAX];
} groups[] = {
	{"descriptors that are open: sockets to the daemon and to other slices, the guest's "
	 "memory, the log",
	 {CALL(read),
	  CALL(write),
	  CALL(readv),
	  CALL(writev),
	  CALL(pread64),
	  CALL(pwrite64),
	  CALL(close),
	  CALL(fcntl),
	  CALL(fstat),
	  CALL(newfstatat),
	  CALL(fstatfs),
	  CALL(lseek),
	  CALL(dup),
	  CALL(dup2),
	  CALL(dup3),
	  CALL(access),
	  CALL(faccessat),
	  CALL(faccessat2),
	  CALL(readlink),
	  CALL(readlinkat),
	  CALL(getcwd),
	  CALL(statx),
	  END}},
	{"messages to other slices and the daemon",
	 {CALL(sendto), CALL(sendmsg), CALL(sendmmsg), CALL(recvfrom), CALL(recvmsg),
	  CALL(shutdown), CALL(getsockopt), CALL(setsockopt), CALL(getsockname), CALL(getpeername),
	  END}},
	{"connections, until they stand (confine_settle ends it)",
	 {CALL(socket), CALL(socketpair), CALL(bind), CALL(listen), CALL(accept4), CALL(accept),
	  CALL(connect), END}},
	{"waiting: the event loop, timers, locks, vCPUs that are halted",
	 {CALL(epoll_create1),	 CALL(epoll_ctl),	CALL(epoll_wait),
	  CALL(epoll_pwait),	 CALL(epoll_pwait2),	CALL(poll),
	  CALL(ppoll),		 CALL(select),		CALL(pselect6),
	  CALL(futex),		 CALL(eventfd2),	CALL(pipe2),
	  CALL(timerfd_create),	 CALL(timerfd_settime), CALL(nanosleep),
	  CALL(clock_nanosleep), CALL(sched_yield),	CALL(restart_syscall),
	  CALL(alarm),		 CALL(membarrier),	END}},
	{"the guest's memory and our own: made, shared, given back",
	 {CALL(munmap), CALL(mremap), CALL(madvise), CALL(process_madvise), CALL(mincore),
	  CALL(brk), CALL(mlock), CALL(mlock2), CALL(munlock), CALL(memfd_create), CALL(ftruncate),
	  CALL(fallocate), CALL(userfaultfd), CALL(mbind), END}},
	{"threads: names, priorities, signals that kick a vCPU out of the guest, their end",
	 {CALL(set_robust_list),
	  CALL(set_tid_address),
	  CALL(rseq),
	  CALL(gettid),
	  CALL(getpid),
	  CALL(tgkill),
	  CALL(rt_sigaction),
	  CALL(rt_sigprocmask),
	  CALL(rt_sigreturn),
	  CALL(rt_sigtimedwait),
	  CALL(sigaltstack),
	  CALL(sched_setscheduler),
	  CALL(sched_getscheduler),
	  CALL(sched_getparam),
	  CALL(sched_getaffinity),
	  CALL(sched_setaffinity),
	  CALL(sched_get_priority_max),
	  CALL(sched_get_priority_min),
	  CALL(setpriority),
	  CALL(getpriority),
	  CALL(exit),
	  CALL(exit_group),
	  END}},
	{"what it is and where: nothing of it changes anything",
	 {CALL(getuid), CALL(geteuid), CALL(getgid), CALL(getegid), CALL(getppid), CALL(uname),
	  CALL(sysinfo), CALL(getrusage), CALL(getcpu), CALL(times), CALL(time), CALL(gettimeofday),
	  CALL(clock_gettime), CALL(clock_getres), CALL(getrandom), CALL(arch_prctl), END}},
};

/* Not there, as on an older kernel: whoever asks has another way. */
static const struct {
	const char *reason;
	int call, error;
} absent[] = {
	/* Its arguments lie in memory, where no filter sees them. */
	{"glibc makes threads by clone then", CALL(clone3), ENOSYS},
	{"libuv does without", CALL(io_uring_setup), ENOSYS},
};

static int groups_allow(scmp_filter_ctx filter)
{
	int err = 0;

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		for (const int *call = groups[i].calls; !err && *call != END; call++)
			err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, *call, 0);
	for (size_t i = 0; !err && i < sizeof(absent) / sizeof(absent[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)absent[i].error),
				       absent[i].call, 0);
	return err;
}

/* Memory that holds code stays as the program was loaded: nothing becomes code. */
static int memory_allow(scmp_filter_ctx filter)
{
	int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(mmap), 1,
				   SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

	return err ? err
		   : seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(mprotect), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

/* Threads, not processes. */
static int threads_allow(scmp_filter_ctx filter)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(clone), 1,
				SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
}

/* The root is empty but for what it is to see; yet nothing is made or cut there. */
static int files_allow(scmp_filter_ctx filter)
{
	return seccomp_rule_add(
		filter, SCMP_ACT_ALLOW, CALL(openat), 1,
		SCMP_A2(SCMP_CMP_MASKED_EQ, O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY), 0));
}

/* KVM's and userfaultfd's requests by their kind; of others', what libuv and stdio ask of any descriptor. */
static int requests_allow(scmp_filter_ctx filter)
{
	static const unsigned kinds[] = {KVMIO, UFFDIO};
	static const unsigned requests[] = {FIONBIO, FIONREAD, FIOCLEX, TCGETS, TIOCGWINSZ};
	const unsigned kind_mask = _IOC_TYPEMASK << _IOC_TYPESHIFT;
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		err = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, CALL(ioctl), 1,
			SCMP_A1(SCMP_CMP_MASKED_EQ, kind_mask, kinds[i] << _IOC_TYPESHIFT));
	for (size_t i = 0; !err && i < sizeof(requests) / sizeof(requests[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(ioctl), 1,
				       SCMP_A1_32(SCMP_CMP_EQ, requests[i]));
	return err;
}

/*
 * RDMA, where the daemon allows it. Its verbs are one request (older ones, and those of the connection manager, are
 * writes); not those of the same kind by which packets of management are sent. Devices are looked for in folders, of
 * which the slice's root has few. What is not there yet would be waited for by inotify: it is not.
 */
static int rdma_allow(scmp_filter_ctx filter)
{
	int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(ioctl), 1,
				   SCMP_A1_32(SCMP_CMP_EQ, (unsigned)RDMA_VERBS_IOCTL));

	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(getdents64), 0);
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), CALL(inotify_init1), 0);
	return err;
}

/* Names of threads and of memory; how exactly a thread's timers fire; and more of the same calls that are made here. */
static int process_allow(scmp_filter_ctx filter)
{
	static const unsigned options[] = {PR_SET_NAME,	     PR_GET_NAME,     PR_SET_TIMERSLACK,
					   PR_SET_VMA,	     PR_GET_DUMPABLE, PR_SET_DUMPABLE,
					   PR_SET_PDEATHSIG, PR_CAPBSET_READ};
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(options) / sizeof(options[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(prctl), 1,
				       SCMP_A0_32(SCMP_CMP_EQ, options[i]));
	/* Limits may be read, and nobody else's. */
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(prlimit64), 2,
				       SCMP_A0_32(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0));
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(getrlimit), 0);
	/* The second list, which can only take away. */
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(seccomp), 0);
	return err;
}

/* What both filters are loaded with. */
static int filter_load(scmp_filter_ctx filter)
{
	/* Not before us: no_new_privs is set already, and a failure is ours to tell. */
	int err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);

	/* Else older kernels switch the processor's store bypass off, which costs a tenth. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
	/* Threads that are there already, too. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return err ? err : seccomp_load(filter);
}

bool confine_calls_possible(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return false;
#else
	return true;
#endif
}

int confine_calls_enter(bool rdma)
{
	scmp_filter_ctx filter;
	int err;

	if (!confine_calls_possible())
		return 0;
	filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter)
		return -ENOMEM;
	err = groups_allow(filter);
	if (!err)
		err = memory_allow(filter);
	if (!err)
		err = threads_allow(filter);
	if (!err)
		err = files_allow(filter);
	if (!err)
		err = requests_allow(filter);
	if (!err && rdma)
		err = rdma_allow(filter);
	if (!err)
		err = process_allow(filter);
	if (!err)
		err = filter_load(filter);
	seccomp_release(filter);
	return err;
}

/* A second list, beside the first: what is not needed any more. */
int confine_calls_settle(void)
{
	static const int over[] = {CALL(socket), CALL(socketpair), CALL(bind),
				   CALL(listen), CALL(connect),	   CALL(seccomp)};
	/* A stranger may still call where we listened, and a library look for its settings. */
	static const int refused[] = {CALL(accept), CALL(accept4), CALL(openat)};
	scmp_filter_ctx filter;
	int err = 0;

	if (!confine_calls_possible())
		return 0;
	filter = seccomp_init(SCMP_ACT_ALLOW);
	if (!filter)
		return -ENOMEM;
	for (size_t i = 0; !err && i < sizeof(over) / sizeof(over[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, over[i], 0);
	for (size_t i = 0; !err && i < sizeof(refused) / sizeof(refused[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
	if (!err)
		err = filter_load(filter);
	seccomp_release(filter);
	return err;
}
