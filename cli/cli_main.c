/* SPDX-License-Identifier: Apache-2.0 */
/* pangea: finds the sub-command; the options they share. */
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"

static const struct {
	const char *name, *full_name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"check", "pangea check", cmd_check},
	{"cluster", "pangea cluster", cmd_cluster},
	{"console", "pangea console", cmd_console},
	{"image", "pangea image", cmd_image},
	{"inspect", "pangea inspect", cmd_inspect},
	{"join", "pangea join", cmd_join},
	{"logs", "pangea logs", cmd_logs},
	{"nodes", "pangea nodes", cmd_nodes},
	{"pages", "pangea pages", cmd_pages},
	{"pki", "pangea pki", cmd_pki},
	{"ps", "pangea ps", cmd_ps},
	{"reset", "pangea reset", cmd_reset},
	{"rm", "pangea rm", cmd_rm},
	{"run", "pangea run", cmd_run},
	{"stop", "pangea stop", cmd_stop},
	{"vm", "pangea vm", cmd_vm},
	{"vms", "pangea vms", cmd_vms},
};

static const char usage[] =
	"Usage: pangea COMMAND [OPTION]...\n"
	"One big virtual machine out of many ordinary machines.\n"
	"\n"
	"  pangea check                     look at this machine: what works, what mends the rest\n"
	"  pangea cluster up --loopback N   start a coordinator and N daemons on this machine\n"
	"  pangea cluster down              stop them\n"
	"  pangea pki                       the cluster's certificates: make, issue, revoke, show\n"
	"  pangea join TOKEN                get this machine's certificate from a coordinator\n"
	"  pangea nodes                     list nodes and what they have free\n"
	"  pangea run [FILE]                run a virtual machine, by options or as a file says\n"
	"  pangea vm example                print such a file, with comments\n"
	"  pangea run -d                    the same, without this terminal\n"
	"  pangea ps                        list virtual machines; with -a those that ended, too\n"
	"  pangea vms                       list those that run, with their links and nodes\n"
	"  pangea inspect VM                all that is known of one, as JSON\n"
	"  pangea logs VM                   what its console showed\n"
	"  pangea pages VM                  list the pages that its nodes fault on most\n"
	"  pangea stop VM                   press one's power button, and pull its plug if that is "
	"of no use\n"
	"  pangea reset VM                  have one begin anew\n"
	"  pangea console VM                attach to one's console\n"
	"  pangea rm VM                     remove one that has ended from the list\n"
	"  pangea image                     disk images: fetch, list, take the kernel out of one\n"
	"\n"
	"'pangea COMMAND --help' says more.\n"
	"  --help, --version\n";

void cli_say(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	fprintf(stderr, "pangea: %s\n", text);
}

void cli_say_raw(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	fprintf(stderr, isatty(STDERR_FILENO) ? "\r\npangea: %s\r\n" : "pangea: %s\n", text);
}

int cli_usage(const char *command, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (text[0])
		fprintf(stderr, "%s: %s\n", command, text);
	/* A place in a file has no help of its own. */
	if (strncmp(command, "pangea", strlen("pangea")) == 0 && !strchr(command, ':'))
		fprintf(stderr, "Try '%s --help'.\n", command);
	return EXIT_USAGE;
}

int cli_common_option(struct cli_target *target, int opt, const char *command, const char *text)
{
	switch (opt) {
	case OPT_COORDINATOR:
		target->coordinator = optarg;
		return -1;
	case OPT_STATE_DIR:
		target->state_dir = optarg;
		return -1;
	case OPT_TOKEN_FILE:
		target->token_file = optarg;
		return -1;
	case OPT_PKI:
		target->pki = optarg;
		return -1;
	case OPT_PLAINTEXT:
		target->plaintext = true;
		return -1;
	case OPT_HELP:
		return fputs(text, stdout) < 0;
	case OPT_VERSION:
		return puts("pangea " PANGEA_VERSION) < 0;
	default:
		/* getopt has said what is wrong. */
		return cli_usage(command, "%s", "");
	}
}

int cli_simple_options(int argc, char **argv, const char *text, struct cli_target *target,
		       bool *json, int args)
{
	static const struct option with_json[] = {
		CLI_COMMON_OPTIONS, {"json", no_argument, NULL, OPT_OWN}, {NULL, 0, NULL, 0}};
	static const struct option without[] = {CLI_COMMON_OPTIONS, {NULL, 0, NULL, 0}};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", json ? with_json : without, NULL)) != -1) {
		if (opt == OPT_OWN) {
			*json = true;
			continue;
		}
		code = cli_common_option(target, opt, argv[0], text);
		if (code >= 0)
			return code;
	}
	if (argc - optind != args)
		return cli_usage(argv[0], args ? "needs the name of a VM" : "takes no arguments");
	return -1;
}

int cli_pki_dir(const char *given, char dir[PKI_PATH_MAX])
{
	if (given ? snprintf(dir, PKI_PATH_MAX, "%s", given) < PKI_PATH_MAX
		  : pki_dir_default(dir) == 0)
		return 0;
	cli_say("there is no place for certificates: name a directory with --pki");
	return EXIT_ERROR;
}

/* A token stands in for certificates where there are none. */
static int token_find(struct cli_target *target)
{
	const char *file = target->token_file ? target->token_file : getenv("PANGEA_TOKEN_FILE");
	int err;

	if (!target->plaintext && target->token_file)
		return cli_usage("pangea",
				 "--token-file goes with --plaintext: with TLS, certificates "
				 "say who may connect");
	if (!target->plaintext || !file)
		return 0;
	err = control_token_read(file, target->token);
	if (!err)
		return 0;
	cli_say("cannot use the token in %s: %s", file,
		err == -EPERM ? "others can read it" : error_text(err));
	return EXIT_ERROR;
}

/* dir: the state directory of a loopback cluster, which has its own; or null. */
static int certificates_find(struct cli_target *target, const char *dir)
{
	int code = token_find(target);

	if (code || target->plaintext)
		return code;
	if (!dir || target->pki)
		return cli_pki_dir(target->pki, target->pki_dir);
	snprintf(target->pki_dir, sizeof(target->pki_dir), "%s/pki", dir);
	return 0;
}

int cli_target_resolve(struct cli_target *target)
{
	const char *address = target->coordinator;
	char dir[STATE_PATH_MAX], path[STATE_PATH_MAX + 64];
	char host[CONTROL_HOST_MAX], port[6];
	bool from_dir = false;

	if (!address && !target->state_dir)
		address = getenv("PANGEA_COORDINATOR");
	if (address) {
		snprintf(target->address, sizeof(target->address), "%s", address);
	} else {
		from_dir = true;
		if (state_dir_path(target->state_dir, dir) < 0)
			return cli_usage("pangea", "the state directory's name is too long");
		state_path(dir, "coordinator.address", path);
		if (state_dir_check(dir) < 0 ||
		    state_line_read(path, target->address, sizeof(target->address)) < 0) {
			cli_say("no coordinator: there is none in %s; start one with 'pangea "
				"cluster up' or name one with --coordinator",
				dir);
			return EXIT_UNREACHABLE;
		}
	}
	if (control_address_split(target->address, host, port) < 0)
		return cli_usage("pangea", "the coordinator is HOST:PORT, not \"%.60s\"",
				 target->address);
	return certificates_find(target, from_dir ? dir : target->state_dir);
}

int main(int argc, char **argv)
{
	log_init("pangea", LOG_WARN);
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return cli_usage("pangea", "needs a command");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		argv[1] = strdup(commands[i].full_name);
		int code = argv[1] ? commands[i].run(argc - 1, argv + 1) : EXIT_ERROR;
		free(argv[1]);
		return code;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
		return fputs(usage, stdout) < 0;
	if (strcmp(argv[1], "--version") == 0)
		return puts("pangea " PANGEA_VERSION) < 0;
	return cli_usage("pangea", "there is no command \"%.40s\"", argv[1]);
}
