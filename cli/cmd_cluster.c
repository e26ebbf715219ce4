/* SPDX-License-Identifier: Apache-2.0 */
/* pangea cluster: a coordinator and daemons on this machine, as background processes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/program.h"
#include "cli/cluster.h"

/* Until the coordinator listens, and until the daemons have registered. */
#define UP_MS	15000
#define POLL_MS 30

static const char usage[] =
	"Usage: pangea cluster up --loopback N [OPTION]...\n"
	"       pangea cluster down [--state-dir DIR]\n"
	"Starts a coordinator and N node daemons (node0, node1, ...) on this machine; stops them.\n"
	"\n"
	"  --loopback N             how many daemons, from 1 to 64\n"
	"  --cpus C                 CPUs that each one offers (4)\n"
	"  --mem SIZE               memory that each one offers (1G)\n"
	"  --port P                 the coordinator's port on 127.0.0.1 (any free one)\n"
	"  --grace SECONDS          how long a lost link may take to be made again (60)\n"
	"  --deadline SECONDS       how long a slice may be silent before its VM ends (30)\n"
	"  --data-address ADDRESS   where slices reach each other, as that of an RDMA device "
	"(127.0.0.1)\n"
	"  --vmm FILE               the slice program (the pangea-vmm of this program)\n"
	"  --state-dir DIR          addresses, process ids and logs\n"
	"                           ($XDG_RUNTIME_DIR/pangea, else /tmp/pangea-UID)\n"
	"  --help, --version\n";

struct up {
	char dir[STATE_PATH_MAX];
	char coordinator[STATE_PATH_MAX], node[STATE_PATH_MAX]; /* the daemons' programs */
	unsigned nodes, cpus, port;
	uint64_t mem_bytes;
	const char *vmm, *grace, *deadline, *data_address;
	char address[128];
};

enum {
	OPT_LOOPBACK = OPT_OWN,
	OPT_CPUS,
	OPT_MEM,
	OPT_PORT,
	OPT_VMM,
	OPT_GRACE,
	OPT_DEADLINE,
	OPT_DATA_ADDRESS,
};

static const struct option longs[] = {
	{"loopback", required_argument, NULL, OPT_LOOPBACK},
	{"cpus", required_argument, NULL, OPT_CPUS},
	{"mem", required_argument, NULL, OPT_MEM},
	{"port", required_argument, NULL, OPT_PORT},
	{"vmm", required_argument, NULL, OPT_VMM},
	{"grace", required_argument, NULL, OPT_GRACE},
	{"deadline", required_argument, NULL, OPT_DEADLINE},
	{"data-address", required_argument, NULL, OPT_DATA_ADDRESS},
	{"state-dir", required_argument, NULL, OPT_STATE_DIR},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

static int option_take(struct up *up, struct cli_target *target, int opt, const char *command)
{
	switch (opt) {
	case OPT_LOOPBACK:
		if (control_uint_parse(optarg, 1, CLUSTER_NODES_MAX, &up->nodes) < 0)
			return cli_usage(command, "--loopback is a number from 1 to %d",
					 CLUSTER_NODES_MAX);
		return -1;
	case OPT_CPUS:
		if (control_uint_parse(optarg, 1, VCPUS_MAX, &up->cpus) < 0)
			return cli_usage(command, "--cpus is a number from 1 to %d", VCPUS_MAX);
		return -1;
	case OPT_MEM:
		if (control_size_parse(optarg, &up->mem_bytes) < 0 ||
		    up->mem_bytes < HOME_CHUNK_SIZE || up->mem_bytes > GUEST_MEM_MAX)
			return cli_usage(command, "--mem is a size from 2M to 4T");
		return -1;
	case OPT_PORT:
		if (control_uint_parse(optarg, 1, 65535, &up->port) < 0)
			return cli_usage(command, "--port is a number from 1 to 65535");
		return -1;
	case OPT_VMM:
		up->vmm = optarg;
		return -1;
	case OPT_DATA_ADDRESS:
		up->data_address = optarg;
		return -1;
	case OPT_GRACE:
		if (control_uint_parse(optarg, 1, 86400, &(unsigned){0}) < 0)
			return cli_usage(command, "--grace is a number of seconds from 1 to 86400");
		up->grace = optarg;
		return -1;
	case OPT_DEADLINE:
		if (control_uint_parse(optarg, 5, 86400, &(unsigned){0}) < 0)
			return cli_usage(command,
					 "--deadline is a number of seconds from 5 to 86400");
		up->deadline = optarg;
		return -1;
	default:
		return cli_common_option(target, opt, command, usage);
	}
}

/* A daemon's program; it may be in a package that is not installed. */
static int daemon_find(const char *name, const char *package, char *path, size_t size)
{
	int err = program_find(name, path, size);

	if (err)
		cli_say("%s is not installed: it is in the package %s", path[0] ? path : name,
			package);
	return err;
}

static void pause_ms(unsigned ms)
{
	struct timespec ts = {.tv_sec = 0, .tv_nsec = (long)ms * 1000000};

	nanosleep(&ts, NULL);
}

/* Starts a program and notes it down as NAME.pid. */
static pid_t member_start(struct up *up, const char *name, char *const argv[])
{
	char file[80], log[STATE_PATH_MAX + 64], note[STATE_PATH_MAX + 64];
	pid_t pid;
	int err;

	snprintf(file, sizeof(file), "%.40s.log", name);
	state_path(up->dir, file, log);
	snprintf(file, sizeof(file), "%.40s.pid", name);
	state_path(up->dir, file, note);
	pid = process_start(argv, log);
	if (pid < 0) {
		cli_say("cannot start %s: %s", argv[0], error_text(pid));
		return pid;
	}
	err = process_note(pid, note);
	if (err) {
		cli_say("cannot write %s: %s", note, error_text(err));
		kill(pid, SIGKILL);
		return err;
	}
	return pid;
}

/* A member has ended before its time: its log's last line says why. */
static void member_mourn(const struct up *up, const char *name)
{
	char file[80], path[STATE_PATH_MAX + 64], line[512], last[512] = "it said nothing";
	FILE *log;

	snprintf(file, sizeof(file), "%.40s.log", name);
	state_path(up->dir, file, path);
	log = fopen(path, "re");
	while (log && fgets(line, sizeof(line), log))
		snprintf(last, sizeof(last), "%s", line);
	if (log)
		fclose(log);
	last[strcspn(last, "\n")] = 0;
	control_text_clean(last);
	cli_say("%s did not start: %s", name, last);
}

static pid_t coordinator_start(struct up *up)
{
	char listen[32];
	char pki[STATE_PATH_MAX + 64], address[STATE_PATH_MAX + 64];
	char state[STATE_PATH_MAX + 64];

	snprintf(listen, sizeof(listen), "127.0.0.1:%u", up->port);
	state_path(up->dir, "pki", pki);
	state_path(up->dir, "coordinator.address", address);
	state_path(up->dir, "coordinator", state);
	char *argv[] = {up->coordinator,
			(char[]){"--listen"},
			listen,
			(char[]){"--pki"},
			pki,
			(char[]){"--ca"},
			pki,
			(char[]){"--address-file"},
			address,
			(char[]){"--state-dir"},
			state,
			(char[]){"--grace"},
			(char *)(uintptr_t)(up->grace ? up->grace : "60"),
			(char[]){"--deadline"},
			(char *)(uintptr_t)(up->deadline ? up->deadline : "30"),
			NULL};
	return member_start(up, "coordinator", argv);
}

static pid_t node_start(struct up *up, unsigned number)
{
	char name[16], cpus[16], mem[32];
	char pki[STATE_PATH_MAX + 64], run_dir[STATE_PATH_MAX + 64];
	char images[STATE_PATH_MAX + 96];

	snprintf(name, sizeof(name), "node%u", number);
	snprintf(cpus, sizeof(cpus), "%u", up->cpus);
	snprintf(mem, sizeof(mem), "%llu", (unsigned long long)up->mem_bytes);
	cluster_pki_path(up->dir, name, pki);
	state_path(up->dir, name, run_dir);
	snprintf(images, sizeof(images), "%s/images", run_dir);
	char *argv[] = {up->node, (char[]){"--coordinator"}, up->address, (char[]){"--name"}, name,
			(char[]){"--cpus"}, cpus, (char[]){"--mem"}, mem, (char[]){"--pki"}, pki,
			(char[]){"--run-dir"}, run_dir, (char[]){"--console-dir"}, run_dir,
			(char[]){"--image-dir"}, images,
			/* This user's own files, as far as he may use them. */
			(char[]){"--disks"}, (char[]){"/"}, (char[]){"--data-address"},
			(char *)(uintptr_t)(up->data_address ? up->data_address : "127.0.0.1"),
			(char[]){"--grace"}, (char *)(uintptr_t)(up->grace ? up->grace : "60"),
			up->vmm ? (char[]){"--vmm"} : NULL, (char *)(uintptr_t)up->vmm, NULL};
	return member_start(up, name, argv);
}

/* Waits until the coordinator has written its address. */
static int coordinator_wait(struct up *up, pid_t pid, uint64_t until_ns)
{
	char path[STATE_PATH_MAX + 64];
	int status;

	state_path(up->dir, "coordinator.address", path);
	while (state_line_read(path, up->address, sizeof(up->address)) < 0) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			member_mourn(up, "coordinator");
			return EXIT_ERROR;
		}
		if (clock_now_ns() > until_ns) {
			cli_say("the coordinator did not start within %d s", UP_MS / 1000);
			return EXIT_ERROR;
		}
		pause_ms(POLL_MS);
	}
	return 0;
}

static bool any_ended(const struct up *up, const pid_t *pid)
{
	char name[16];
	int status;

	for (unsigned i = 0; i < up->nodes; i++) {
		if (waitpid(pid[i], &status, WNOHANG) != pid[i])
			continue;
		snprintf(name, sizeof(name), "node%u", i);
		member_mourn(up, name);
		return true;
	}
	return false;
}

/* Waits until all daemons have registered. */
static int nodes_wait(struct up *up, const pid_t *pid, uint64_t until_ns)
{
	struct cli_target target = {.state_dir = up->dir};
	json_t *question = json_pack("{s:s}", "type", "nodes"), *answer;
	int code = cli_target_resolve(&target);
	size_t ready = 0;

	while (!code) {
		if (client_ask(&target, question, "nodes-list", CLI_REPLY_MS, &answer, true) ==
		    EXIT_OK) {
			ready = json_array_size(json_object_get(answer, "nodes"));
			json_decref(answer);
		}
		if (ready >= up->nodes)
			break;
		if (any_ended(up, pid))
			code = EXIT_ERROR;
		if (!code && clock_now_ns() > until_ns) {
			cli_say("%zu of %u nodes registered within %d s; logs are in %s", ready,
				up->nodes, UP_MS / 1000, up->dir);
			code = EXIT_ERROR;
		}
		if (!code)
			pause_ms(POLL_MS);
	}
	json_decref(question);
	return code;
}

static int members_start(struct up *up)
{
	uint64_t until_ns = clock_now_ns() + UP_MS * NS_PER_MS;
	pid_t pid, node[CLUSTER_NODES_MAX];
	int code;

	code = cluster_certificates(up->dir, up->nodes);
	if (code)
		return code;
	pid = coordinator_start(up);
	code = pid < 0 ? EXIT_ERROR : coordinator_wait(up, pid, until_ns);
	for (unsigned i = 0; i < up->nodes && !code; i++) {
		node[i] = node_start(up, i);
		if (node[i] < 0)
			code = EXIT_ERROR;
	}
	if (!code)
		code = nodes_wait(up, node, until_ns);
	return code;
}

static int dir_prepare(const char *dir)
{
	int err;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		cli_say("cannot make the state directory %s: %s", dir, error_text(errno));
		return EXIT_ERROR;
	}
	err = state_dir_check(dir);
	if (!err)
		return 0;
	cli_say("the state directory %s is not this user's alone", dir);
	return EXIT_ERROR;
}

static int cluster_up(struct up *up)
{
	int lock, code;

	if (daemon_find("pangea-coordinator", "pangea-coordinator", up->coordinator,
			sizeof(up->coordinator)) < 0 ||
	    daemon_find("pangead", "pangea-node", up->node, sizeof(up->node)) < 0)
		return EXIT_ERROR;
	code = dir_prepare(up->dir);
	if (code)
		return code;
	lock = cluster_lock(up->dir);
	if (lock < 0)
		return EXIT_ERROR;
	if (cluster_running(up->dir)) {
		cli_say("a cluster is up already in %s: 'pangea cluster down' stops it", up->dir);
		code = EXIT_ERROR;
	} else {
		cluster_clean(up->dir); /* what a crash may have left */
		code = members_start(up);
		if (code)
			cluster_stop(up->dir);
		else
			printf("coordinator on %s, %u node%s, state in %s\n", up->address,
			       up->nodes, up->nodes == 1 ? "" : "s", up->dir);
	}
	close(lock);
	return code;
}

static int cluster_down(const char *dir)
{
	int lock, stopped;

	if (state_dir_check(dir) < 0) {
		cli_say("no cluster is up in %s", dir);
		return EXIT_ERROR;
	}
	lock = cluster_lock(dir);
	if (lock < 0)
		return EXIT_ERROR;
	stopped = cluster_stop(dir);
	close(lock);
	if (stopped < 0) {
		cli_say("some processes of the cluster in %s cannot be ended", dir);
		return EXIT_ERROR;
	}
	printf("stopped %d process%s\n", stopped, stopped == 1 ? "" : "es");
	return EXIT_OK;
}

int cmd_cluster(int argc, char **argv)
{
	struct up up = {.cpus = 4, .mem_bytes = UINT64_C(1) << 30};
	struct cli_target target = {0};
	int opt, code;
	bool is_up;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		code = option_take(&up, &target, opt, argv[0]);
		if (code >= 0)
			return code;
	}
	if (argc - optind != 1)
		return cli_usage(argv[0], "needs 'up' or 'down'");
	is_up = strcmp(argv[optind], "up") == 0;
	if (!is_up && strcmp(argv[optind], "down") != 0)
		return cli_usage(argv[0], "knows 'up' and 'down', not \"%.40s\"", argv[optind]);
	if (is_up && !up.nodes)
		return cli_usage(argv[0], "needs --loopback N");
	if (state_dir_path(target.state_dir, up.dir) < 0)
		return cli_usage(argv[0], "the state directory's name is too long");
	return is_up ? cluster_up(&up) : cluster_down(up.dir);
}
