/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-spread, in the guest: gives threads that only compute a node with CPUs to spare, and leaves
 * those that talk together, where the words of profile spanning keep them. */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Threads looked at; those beyond stay where they are. A power of two. */
#define THREADS_MAX 8192u
#define NODES_MAX   64u
#define CPUS_MAX    1024u
/* A thread computes if it ran for this much of a period, a share among twelve... */
#define BUSY_PERCENT 8
/* ...and waited for something no more often than this in it, or only after so much work each time: to
 * be woken from another node costs up to 2 ms, over TCP. Threads that meet at barriers compute in between;
 * a server and its clients work less for each message. */
#define WAITS_MAX	 20
#define WORK_PER_WAIT_MS 4
/* Rounds that it must have done so: what starts many others soon ends. */
#define ROUNDS_MIN 2u
#define PF_KTHREAD 0x00200000ul

struct thread {
	int tid; /* 0: free */
	bool computes;
	unsigned cpu, round, rounds; /* rounds that it has computed, on end */
	uint64_t start, ticks, waits;
};

struct node {
	cpu_set_t cpus;
	unsigned cpus_count, computing;
};

struct spread {
	unsigned nodes_count, round, period_ms;
	bool verbose;
	cpu_set_t all;
	struct node node[NODES_MAX];
	int node_of[CPUS_MAX];
	struct thread thread[THREADS_MAX];
};

/* ---- the machine ---- */

static void cpu_range_add(struct spread *s, unsigned node, unsigned first, unsigned last)
{
	for (unsigned cpu = first; cpu <= last && cpu < CPUS_MAX; cpu++) {
		CPU_SET(cpu, &s->node[node].cpus);
		CPU_SET(cpu, &s->all);
		s->node[node].cpus_count++;
		s->node_of[cpu] = (int)node;
	}
}

/* "0-3,8": false if the file is not there. */
static bool node_read(struct spread *s, unsigned node)
{
	char path[64], text[512], *at = text;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = 0;
	fclose(file);
	while (*at >= '0' && *at <= '9') {
		unsigned first = (unsigned)strtoul(at, &at, 10), last = first;

		if (*at == '-')
			last = (unsigned)strtoul(at + 1, &at, 10);
		cpu_range_add(s, node, first, last);
		at += *at == ',';
	}
	return true;
}

static void nodes_read(struct spread *s)
{
	memset(s->node_of, -1, sizeof(s->node_of));
	CPU_ZERO(&s->all);
	while (s->nodes_count < NODES_MAX && node_read(s, s->nodes_count))
		s->nodes_count++;
}

/* ---- threads ---- */

/* Its place, or a free one; NULL: the table is full. */
static struct thread *thread_at(struct spread *s, int tid)
{
	struct thread *free = NULL;

	for (unsigned i = 0; i < 64; i++) {
		struct thread *t = &s->thread[((unsigned)tid * 2654435761u + i) % THREADS_MAX];

		if (t->tid == tid)
			return t;
		if (!free && (!t->tid || t->round + 1 < s->round))
			free = t;
	}
	return free;
}

static uint64_t waits_read(int pid, int tid)
{
	char path[64], line[256];
	unsigned long long waits = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "voluntary_ctxt_switches: %llu", &waits) == 1)
			break;
	fclose(file);
	return waits;
}

/* What is behind the name in /proc/PID/task/TID/stat (proc_pid_stat(5)). */
static bool stat_read(int pid, int tid, unsigned long *flags, uint64_t *ticks, uint64_t *start,
		      unsigned *cpu)
{
	char path[64], text[1024], *at;
	unsigned long long utime, stime, begun;
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	file = fopen(path, "r");
	if (!file)
		return false;
	n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = 0;
	at = strrchr(text, ')');
	if (!at ||
	    sscanf(at + 1,
		   " %*c %*d %*d %*d %*d %*d %lu %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d "
		   "%llu %*u %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*d %u",
		   flags, &utime, &stime, &begun, cpu) != 5)
		return false;
	*ticks = utime + stime;
	*start = begun;
	return true;
}

/* Is it the scheduler's to place? */
static bool thread_free(const struct spread *s, const struct thread *t)
{
	cpu_set_t set;

	return sched_getaffinity(t->tid, sizeof(set), &set) == 0 && CPU_EQUAL(&set, &s->all);
}

/* For a thread that ran so many ticks. */
static uint64_t waits_allowed(uint64_t ticks)
{
	uint64_t allowed = ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK) / WORK_PER_WAIT_MS;

	return allowed > WAITS_MAX ? allowed : WAITS_MAX;
}

static void thread_look(struct spread *s, int pid, int tid)
{
	uint64_t ticks, start, waits, ran,
		per_period = (uint64_t)sysconf(_SC_CLK_TCK) * s->period_ms / 1000;
	unsigned long flags;
	struct thread *t;
	unsigned cpu;
	bool known;

	if (!stat_read(pid, tid, &flags, &ticks, &start, &cpu) || (flags & PF_KTHREAD))
		return;
	t = thread_at(s, tid);
	if (!t)
		return;
	known = t->tid == tid && t->start == start && t->round + 1 == s->round;
	if (!known)
		*t = (struct thread){.tid = tid, .start = start, .ticks = ticks};
	ran = ticks - t->ticks;
	waits = 0;
	if (!known || ran * 100 >= per_period * BUSY_PERCENT)
		waits = waits_read(pid, tid) + 1;
	/* A count that was not taken is none to compare with. */
	if (known && waits && t->waits && waits - t->waits <= waits_allowed(ran))
		t->rounds++;
	else
		t->rounds = 0;
	t->computes = t->rounds >= ROUNDS_MIN && thread_free(s, t);
	t->waits = waits;
	t->ticks = ticks;
	t->cpu = cpu;
	t->round = s->round;
}

static int number_of(const struct dirent *entry)
{
	return entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? atoi(entry->d_name) : 0;
}

static void process_look(struct spread *s, int pid)
{
	char path[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (number_of(entry))
			thread_look(s, pid, number_of(entry));
	closedir(dir);
}

static bool threads_look(struct spread *s)
{
	struct dirent *entry;
	DIR *dir = opendir("/proc");

	if (!dir)
		return false;
	while ((entry = readdir(dir)))
		if (number_of(entry))
			process_look(s, number_of(entry));
	closedir(dir);
	return true;
}

/* ---- moving ---- */

/*
 * It is bound to the node and set free again at once: by itself it stays there, and what it starts
 * is bound to nothing. It may have ended meanwhile.
 */
static void thread_move(const struct spread *s, const struct thread *t, const struct node *node)
{
	if (sched_setaffinity(t->tid, sizeof(node->cpus), &node->cpus) < 0)
		return;
	sched_setaffinity(t->tid, sizeof(s->all), &s->all);
	if (s->verbose)
		printf("thread %d computes: from CPU %u to node %d\n", t->tid, t->cpu,
		       (int)(node - s->node));
}

/* Computing threads of each node. */
static void nodes_count(struct spread *s)
{
	for (unsigned n = 0; n < s->nodes_count; n++)
		s->node[n].computing = 0;
	for (unsigned i = 0; i < THREADS_MAX; i++) {
		struct thread *t = &s->thread[i];

		if (!t->tid || t->round != s->round)
			continue;
		if (t->computes && t->cpu < CPUS_MAX && s->node_of[t->cpu] >= 0)
			s->node[s->node_of[t->cpu]].computing++;
	}
}

/* The node with the most threads for its CPUs, or with the fewest. */
static int node_pick(const struct spread *s, bool most)
{
	int best = -1;

	for (unsigned n = 0; n < s->nodes_count; n++) {
		const struct node *node = &s->node[n], *other = best < 0 ? NULL : &s->node[best];
		uint64_t mine, theirs;

		if (!node->cpus_count)
			continue;
		mine = (uint64_t)node->computing * (other ? other->cpus_count : 1);
		theirs = other ? (uint64_t)other->computing * node->cpus_count : 0;
		if (!other || (most ? mine > theirs : mine < theirs))
			best = (int)n;
	}
	return best;
}

static unsigned node_cpu(const struct node *node)
{
	unsigned cpu = 0;

	while (!CPU_ISSET(cpu, &node->cpus))
		cpu++;
	return cpu;
}

/* One thread from the fullest node to the emptiest; false: nothing would be better for it. */
static bool one_move(struct spread *s)
{
	int from = node_pick(s, true), to = node_pick(s, false);

	if (from < 0 || from == to || s->node[from].computing <= s->node[from].cpus_count ||
	    s->node[to].computing >= s->node[to].cpus_count)
		return false;
	for (unsigned i = 0; i < THREADS_MAX; i++) {
		struct thread *t = &s->thread[i];

		if (!t->tid || t->round != s->round || !t->computes || t->cpu >= CPUS_MAX ||
		    s->node_of[t->cpu] != from)
			continue;
		thread_move(s, t, &s->node[to]);
		t->cpu = node_cpu(&s->node[to]); /* counted there from now on */
		s->node[from].computing--;
		s->node[to].computing++;
		return true;
	}
	return false;
}

static const char usage[] = "Usage: pangea-spread [--period MS] [--verbose]\n"
			    "Gives threads that compute, and nobody has bound, a node with CPUs to "
			    "spare. Runs until it is\n"
			    "ended; ends at once where there is one node.\n"
			    "  --period MS   between two looks (300)\n"
			    "  --verbose     says what it moves\n"
			    "  --help, --version\n";

int main(int argc, char **argv)
{
	static struct spread s = {.period_ms = 300};

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help"))
			return fputs(usage, stdout) < 0;
		if (!strcmp(argv[i], "--version"))
			return printf("pangea-spread %s\n", PANGEA_VERSION) < 0;
		if (!strcmp(argv[i], "--verbose")) {
			s.verbose = true;
		} else if (!strcmp(argv[i], "--period") && i + 1 < argc &&
			   atoi(argv[i + 1]) >= 10) {
			s.period_ms = (unsigned)atoi(argv[++i]);
		} else {
			fputs(usage, stderr);
			return 2;
		}
	}
	nodes_read(&s);
	if (s.nodes_count < 2)
		return 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		struct timespec pause = {.tv_sec = s.period_ms / 1000,
					 .tv_nsec = (long)(s.period_ms % 1000) * 1000000};

		s.round++;
		if (!threads_look(&s)) {
			fprintf(stderr, "pangea-spread: cannot read /proc: %s\n", strerror(errno));
			return 1;
		}
		nodes_count(&s);
		while (one_move(&s))
			;
		nanosleep(&pause, NULL);
	}
}
