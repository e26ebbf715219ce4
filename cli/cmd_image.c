/* SPDX-License-Identifier: Apache-2.0 */
/* pangea image: what can be done with disk images without a VM. */
#include <string.h>

#include "cli/image.h"

/* Where a daemon serves disks from, if it is not told otherwise (node/node.h). */
#define DISK_DIR "/var/lib/pangea/disks"

static const char usage[] =
	"Usage: pangea image kernel FILE [--out DIR] [--json]\n"
	"       pangea image pull URL [--name NAME] [--sha256 DIGEST] [--dir DIR]\n"
	"       pangea image list [--dir DIR] [--json]\n"
	"       pangea image info NAME|FILE [--dir DIR] [--json]\n"
	"       pangea image remove NAME [--dir DIR]\n"
	"Takes the newest kernel, its initrd and the root file system's name out of a disk image "
	"(raw or\n"
	"qcow2, with or without partitions, ext4), so that 'pangea run' boots the image with them; "
	"fetches\n"
	"an image into this machine's folder of disks; lists, describes and removes what is "
	"there.\n"
	"\n"
	"  --out DIR                where kernel puts the two files (the working directory)\n"
	"  --dir DIR                the folder of disks (" DISK_DIR ")\n"
	"  --name NAME              the file's name there (the last part of the URL)\n"
	"  --sha256 DIGEST          what comes must have this digest, else it is thrown away\n"
	"  --json                   say as JSON what was found\n"
	"  --help, --version\n";

enum {
	OPT_OUT = OPT_OWN,
	OPT_DIR,
	OPT_NAME,
	OPT_SHA256,
	OPT_JSON,
};

static const struct option longs[] = {
	{"out", required_argument, NULL, OPT_OUT},
	{"dir", required_argument, NULL, OPT_DIR},
	{"name", required_argument, NULL, OPT_NAME},
	{"sha256", required_argument, NULL, OPT_SHA256},
	{"json", no_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

static const struct {
	const char *name, *needs; /* an argument, in words; null: it takes none */
	int (*run)(const struct image_options *opts);
} commands[] = {
	{"kernel", "the name of an image", image_kernel},
	{"pull", "a URL", image_pull},
	{"list", NULL, image_list},
	{"info", "the name of an image", image_info},
	{"remove", "the name of an image", image_remove},
};

static int option_take(struct image_options *opts, int opt, const char *command)
{
	struct cli_target none = {0};

	switch (opt) {
	case OPT_OUT:
		opts->out = optarg;
		return -1;
	case OPT_DIR:
		opts->dir = optarg;
		return -1;
	case OPT_NAME:
		if (!image_name_plain(optarg) || strlen(optarg) > IMAGE_NAME_MAX)
			return cli_usage(command,
					 "--name is a name of letters, digits and . _ + ~ -");
		opts->name = optarg;
		return -1;
	case OPT_SHA256:
		if (strlen(optarg) != IMAGE_SHA256_TEXT - 1 ||
		    strspn(optarg, "0123456789abcdefABCDEF") != IMAGE_SHA256_TEXT - 1)
			return cli_usage(command, "--sha256 is 64 hexadecimal digits");
		opts->sha256 = optarg;
		return -1;
	case OPT_JSON:
		opts->json = true;
		return -1;
	default:
		return cli_common_option(&none, opt, command, usage);
	}
}

int cmd_image(int argc, char **argv)
{
	struct image_options opts = {.dir = DISK_DIR};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		code = option_take(&opts, opt, argv[0]);
		if (code >= 0)
			return code;
	}
	if (optind == argc)
		return cli_usage(argv[0], "needs kernel, pull, list, info or remove");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[optind], commands[i].name) != 0)
			continue;
		if (argc - optind - 1 != (commands[i].needs ? 1 : 0))
			return cli_usage(argv[0], "%s takes %s", commands[i].name,
					 commands[i].needs ? commands[i].needs : "no argument");
		opts.file = argv[optind + 1];
		return commands[i].run(&opts);
	}
	return cli_usage(argv[0], "there is no \"%.40s\"", argv[optind]);
}
