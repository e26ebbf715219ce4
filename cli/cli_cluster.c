/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping a loopback cluster and removing what it left. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cluster.h"

/* Daemons end in milliseconds; a loaded machine may take long to schedule them. */
#define TERM_MS 6000
#define KILL_MS 3000
#define LOCK_MS 20000

static void pause_ms(unsigned ms)
{
	struct timespec ts = {.tv_sec = 0, .tv_nsec = (long)ms * 1000000};

	nanosleep(&ts, NULL);
}

int cluster_lock(const char *dir)
{
	uint64_t until_ns = clock_now_ns() + LOCK_MS * NS_PER_MS;
	char path[STATE_PATH_MAX + 64];
	int fd;

	state_path(dir, "lock", path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		cli_say("cannot open %s: %s", path, error_text(errno));
		return -errno;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (clock_now_ns() > until_ns) {
			cli_say("another 'pangea cluster' holds %s", path);
			close(fd);
			return -EBUSY;
		}
		pause_ms(50);
	}
	return fd;
}

/* The name of member i: the coordinator, then the daemons. */
static void member_name(unsigned i, char *name, size_t size)
{
	if (i == 0)
		snprintf(name, size, "coordinator");
	else
		snprintf(name, size, "node%u", i - 1);
}

static pid_t member_pid(const char *dir, unsigned i)
{
	char name[32], path[STATE_PATH_MAX + 64];

	member_name(i, name, sizeof(name) - 4);
	strcat(name, ".pid");
	state_path(dir, name, path);
	return process_noted(path);
}

#define MEMBERS (CLUSTER_NODES_MAX + 1)

/* Signals (0: only counts) all members that still run. */
static int members_signal(const char *dir, int signum)
{
	int running = 0;

	/* Daemons first: they leave in good order while there is a coordinator. */
	for (unsigned i = MEMBERS; i-- > 0;) {
		pid_t pid = member_pid(dir, i);
		if (!pid)
			continue;
		/* A child of ours, when `up` fails, would stay a zombie. */
		if (waitpid(pid, NULL, WNOHANG) == pid)
			continue;
		running++;
		if (signum)
			kill(pid, signum);
	}
	return running;
}

bool cluster_running(const char *dir)
{
	return members_signal(dir, 0) > 0;
}

static bool members_gone_within(const char *dir, unsigned ms)
{
	uint64_t until_ns = clock_now_ns() + ms * NS_PER_MS;

	while (members_signal(dir, 0) > 0) {
		if (clock_now_ns() > until_ns)
			return false;
		pause_ms(20);
	}
	return true;
}

/* What a daemon may have put into its run directory: uploads, and the consoles of its VMs; and what the
 * coordinator keeps. */
static bool members_file(const char *name)
{
	static const char *const begins[] = {"upload-", "vm-", "kept-", "ended-", "file-", "log-"};
	const char *dot = strchr(name, '.');

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		if (strncmp(name, begins[i], strlen(begins[i])) == 0)
			return true;
	return strcmp(name, "lock") == 0 ||
	       (dot && (strcmp(dot, ".console") == 0 || strcmp(dot, ".console.old") == 0));
}

/* A member's own directory: only what it may have put there goes. */
static void run_dir_remove(const char *path)
{
	char file[STATE_PATH_MAX + 400];
	struct dirent *entry;
	DIR *dir = opendir(path);

	if (!dir)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (!members_file(entry->d_name))
			continue;
		snprintf(file, sizeof(file), "%s/%.255s", path, entry->d_name);
		unlink(file);
	}
	closedir(dir);
	rmdir(path);
}

void cluster_clean(const char *dir)
{
	static const char *const plain[] = {"coordinator.address", "coordinator.address.new"};
	static const char *const ends[] = {".pid", ".log"};
	char name[64], member[32], path[STATE_PATH_MAX + 64];

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		state_path(dir, plain[i], path);
		unlink(path);
	}
	cluster_pki_clean(dir);
	for (unsigned i = 0; i < MEMBERS; i++) {
		member_name(i, member, sizeof(member));
		for (size_t e = 0; e < 2; e++) {
			snprintf(name, sizeof(name), "%s%s", member, ends[e]);
			state_path(dir, name, path);
			unlink(path);
		}
		state_path(dir, member, path);
		run_dir_remove(path);
	}
}

int cluster_stop(const char *dir)
{
	int running = members_signal(dir, SIGTERM);
	char path[STATE_PATH_MAX + 64];

	if (running && !members_gone_within(dir, TERM_MS)) {
		members_signal(dir, SIGKILL);
		if (!members_gone_within(dir, KILL_MS))
			return -ETIMEDOUT;
	}
	cluster_clean(dir);
	state_path(dir, "lock", path);
	unlink(path);
	rmdir(dir);
	return running;
}
