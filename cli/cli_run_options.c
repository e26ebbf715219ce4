/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `pangea run`. */
#include <stdlib.h>
#include <string.h>

#include "base/cpu_feature.h"
#include "cli/run.h"
#include "cli/run_file.h"

static const char usage[] =
	"Usage: pangea run --kernel FILE --cpus C --mem SIZE [OPTION]...\n"
	"       pangea run --kernel FILE --slice node=NAME,cpus=C,mem=SIZE... [OPTION]...\n"
	"       pangea run --guest NAME [--args WORDS] ...\n"
	"       pangea run FILE [OPTION]...\n"
	"Runs a virtual machine; this terminal is its console. Ctrl-] d detaches, Ctrl-] q stops.\n"
	"FILE describes it in YAML ('pangea vm example'): its keys are these options; what is said "
	"here\n"
	"counts before what it says.\n"
	"\n"
	"  --kernel FILE            a bzImage or an ELF kernel (vmlinux)\n"
	"  --initrd FILE            its initial ramdisk\n"
	"  --append TEXT            its command line\n"
	"  --profile NAME           words for a Linux of this shape, before those: spanning (with "
	"several\n"
	"                           slices), plain (with one) or none; each is printed with its "
	"reason\n"
	"  --guest NAME             a micro-guest instead of a kernel; a wrong name lists them\n"
	"  --args WORDS             its arguments\n"
	"  --cpu ENGINE             what runs the CPUs: auto, kvm or soft (auto: kvm where it "
	"fits)\n"
	"  --cpu-vendor VENDOR      the CPU model: intel or amd (that of the first host that uses "
	"kvm)\n"
	"  --cpu-model MODEL        what the CPUs have: v1, v2, v3 or max (the most that all hosts "
	"give)\n"
	"  --force                  with --cpu kvm: on hosts that are not fit for the guest, too\n"
	"  --cpus C, -m, --mem SIZE the size of the whole machine (as 512M, 4G)\n"
	"  --placement spread|pack  on all nodes, evenly, or on as few as there need be (spread)\n"
	"  --overcommit             let nodes give up to 4 times as many CPUs as they offer\n"
	"  --nodes N                spread it over at most N nodes (all that are ready)\n"
	"  --slice node=NAME,cpus=C,mem=SIZE\n"
	"                           one slice, spelled out; the first one boots; repeat it\n"
	"  --cache SIZE|PERCENT%|none\n"
	"                           most memory that each slice spends on pages of other slices: "
	"a\n"
	"                           size, a part of its own memory (5%), or no limit; else an "
	"eighth\n"
	"                           of its own memory, and as much again where the node has room\n"
	"  --transport WHAT         what carries messages between slices: auto, shm, rdma or tcp "
	"(auto:\n"
	"                           shared memory on one host; between hosts RDMA where both have "
	"it,\n"
	"                           which is not encrypted, else TCP)\n"
	"  --plaintext-data         for a network that is trusted: do not encrypt messages over "
	"TCP\n"
	"  --require-encryption     take no link between hosts that is not encrypted: no RDMA "
	"either\n"
	"  --disk FILE[,format=raw|qcow2][,readonly][,id=ID][,cache=writeback|none]"
	"[,on-error=report|restart]\n"
	"        [,node=N]\n"
	"                           a disk: a file on the node of slice N, a number or a node's "
	"name (0, which\n"
	"                           boots), in a folder that its daemon allows; repeat it, up to "
	"8\n"
	"  --net user[,forward=[HOST:]PORT:GUESTPORT]...[,mac=MAC][,id=ID][,node=N],\n"
	"        tap,ifname=NAME[,mac=MAC][,id=ID][,node=N] or none\n"
	"                           a network card that reaches out by way of that node; forward "
	"leads a\n"
	"                           TCP port of the node (of 127.0.0.1) into the guest; repeat it, "
	"up to 4\n"
	"  --fs DIR,tag=TAG[,readonly][,id=ID][,node=N]\n"
	"                           a folder of that node, in a folder that its daemon allows; the "
	"guest\n"
	"                           mounts it by mount -t virtiofs TAG; repeat it, up to 4\n"
	"  --image FILE             a read-only image, as persistent memory (/dev/pmem0, ...): "
	"each node "
	"reads\n"
	"                           its own copy of it, which is fetched once; repeat it, up to 4\n"
	"  --cloud-init FILE        user-data for cloud-init, on a small disk (cidata) of its own\n"
	"  --hostname NAME          the guest's name, for cloud-init\n"
	"  --ssh-key FILE           public keys that may log in, for cloud-init\n"
	"  --on-reboot restart|end  what follows when the guest reboots: the same machine is "
	"started "
	"again, or\n"
	"                           the run ends with code 12 (restart with a --disk, else end)\n"
	"  --on-crash restart|end   the same for a panic and a triple fault (end)\n"
	"  --distance D             the distance of any two NUMA nodes, 11 to 254 (as measured)\n"
	"  --name VM                its name (vm1, vm2, ...)\n"
	"  -d, --detach             leave the VM to the coordinator: it goes on without this "
	"terminal, and is\n"
	"                           started again there; its name is printed once it runs\n"
	"  --rm                     do not list the VM once it has ended\n"
	"  --no-console             neither show nor feed the console\n"
	"  --console-log FILE       all console output into a file, also what a slow reader of "
	"the\n"
	"                           standard output misses\n"
	"  --check                  only look whether the file and the options are in order\n"
	"  --stats                  at the end, tables of what each slice did and of the hottest "
	"pages,\n"
	"                           on stderr\n"
	"  --stats-json FILE        the same and more as JSON, into a file\n" CLI_COMMON_USAGE "\n"
	"Exit codes: 0 the guest powered off; 1 error; 2 wrong usage; 3 no coordinator; 4 does "
	"not\n"
	"fit; 5 unusable kernel or initrd; 6 refused (token); 10 guest panic; 11 triple fault; 12 "
	"reset; 13 a node "
	"or\n"
	"slice was lost; 14 stopped; 15 the micro-guest failed.\n";

enum {
	OPT_KERNEL = OPT_OWN,
	OPT_INITRD,
	OPT_APPEND,
	OPT_PROFILE,
	OPT_GUEST,
	OPT_ARGS,
	OPT_CPU,
	OPT_CPU_VENDOR,
	OPT_CPU_MODEL,
	OPT_FORCE,
	OPT_CPUS,
	OPT_MEM,
	OPT_SLICE,
	OPT_CACHE,
	OPT_TRANSPORT,
	OPT_PLAINTEXT_DATA,
	OPT_REQUIRE_ENCRYPTION,
	OPT_DISK,
	OPT_NET,
	OPT_FS,
	OPT_IMAGE,
	OPT_CLOUD_INIT,
	OPT_HOSTNAME,
	OPT_SSH_KEY,
	OPT_ON_REBOOT,
	OPT_ON_CRASH,
	OPT_DISTANCE,
	OPT_NAME,
	OPT_NODES,
	OPT_PLACEMENT,
	OPT_OVERCOMMIT,
	OPT_DETACH,
	OPT_RM,
	OPT_NO_CONSOLE,
	OPT_CONSOLE_LOG,
	OPT_STATS,
	OPT_STATS_JSON,
	OPT_CHECK,
	OPT_END,
};

static const struct option longs[] = {
	CLI_COMMON_OPTIONS,
	{"kernel", required_argument, NULL, OPT_KERNEL},
	{"initrd", required_argument, NULL, OPT_INITRD},
	{"append", required_argument, NULL, OPT_APPEND},
	{"profile", required_argument, NULL, OPT_PROFILE},
	{"guest", required_argument, NULL, OPT_GUEST},
	{"args", required_argument, NULL, OPT_ARGS},
	{"cpu", required_argument, NULL, OPT_CPU},
	{"cpu-vendor", required_argument, NULL, OPT_CPU_VENDOR},
	{"cpu-model", required_argument, NULL, OPT_CPU_MODEL},
	{"force", no_argument, NULL, OPT_FORCE},
	{"cpus", required_argument, NULL, OPT_CPUS},
	{"mem", required_argument, NULL, OPT_MEM},
	{"slice", required_argument, NULL, OPT_SLICE},
	{"cache", required_argument, NULL, OPT_CACHE},
	{"transport", required_argument, NULL, OPT_TRANSPORT},
	{"plaintext-data", no_argument, NULL, OPT_PLAINTEXT_DATA},
	{"require-encryption", no_argument, NULL, OPT_REQUIRE_ENCRYPTION},
	{"disk", required_argument, NULL, OPT_DISK},
	{"net", required_argument, NULL, OPT_NET},
	{"fs", required_argument, NULL, OPT_FS},
	{"image", required_argument, NULL, OPT_IMAGE},
	{"cloud-init", required_argument, NULL, OPT_CLOUD_INIT},
	{"hostname", required_argument, NULL, OPT_HOSTNAME},
	{"ssh-key", required_argument, NULL, OPT_SSH_KEY},
	{"on-reboot", required_argument, NULL, OPT_ON_REBOOT},
	{"on-crash", required_argument, NULL, OPT_ON_CRASH},
	{"distance", required_argument, NULL, OPT_DISTANCE},
	{"name", required_argument, NULL, OPT_NAME},
	{"nodes", required_argument, NULL, OPT_NODES},
	{"placement", required_argument, NULL, OPT_PLACEMENT},
	{"overcommit", no_argument, NULL, OPT_OVERCOMMIT},
	{"detach", no_argument, NULL, OPT_DETACH},
	{"rm", no_argument, NULL, OPT_RM},
	{"no-console", no_argument, NULL, OPT_NO_CONSOLE},
	{"console-log", required_argument, NULL, OPT_CONSOLE_LOG},
	{"stats", no_argument, NULL, OPT_STATS},
	{"stats-json", required_argument, NULL, OPT_STATS_JSON},
	{"check", no_argument, NULL, OPT_CHECK},
	{NULL, 0, NULL, 0},
};

static int mem_parse(const char *text, uint64_t *bytes)
{
	int err = control_size_parse(text, bytes);

	if (!err && (*bytes % HOME_CHUNK_SIZE || *bytes > GUEST_MEM_MAX))
		return -ERANGE;
	return err;
}

struct slice_words {
	const char *node;
	unsigned cpus;
	uint64_t mem_bytes;
};

/* One KEY=VALUE; 0 or negative. */
static int slice_word(struct slice_words *words, char *word)
{
	char *value = strchr(word, '=');

	if (!value)
		return -EINVAL;
	*value++ = 0;
	if (strcmp(word, "node") == 0) {
		words->node = value;
		return control_name_valid(value) ? 0 : -EINVAL;
	}
	if (strcmp(word, "cpus") == 0)
		return control_uint_parse(value, 0, VCPUS_MAX, &words->cpus);
	if (strcmp(word, "mem") == 0)
		return mem_parse(value, &words->mem_bytes);
	return -EINVAL;
}

static int slice_add(struct run_options *opts, const char *text)
{
	struct slice_words words = {0};
	char *copy = strdup(text), *save = NULL, *word;
	int err = copy ? 0 : -ENOMEM;

	for (word = copy ? strtok_r(copy, ",", &save) : NULL; word && !err;
	     word = strtok_r(NULL, ",", &save))
		err = slice_word(&words, word);
	if (!err && (!words.node || json_array_size(opts->slices) == SLICES_MAX))
		err = -EINVAL;
	if (!err)
		err = json_array_append_new(opts->slices,
					    json_pack("{s:s, s:i, s:I}", "node", words.node, "cpus",
						      (int)words.cpus, "mem_bytes",
						      (json_int_t)words.mem_bytes));
	free(copy);
	return err;
}

/* What the kernel's command line may contain also makes it valid JSON. */
static bool append_valid(const char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			return false;
	return true;
}

/* SIZE, PERCENT% or none. */
static int cache_parse(struct run_options *opts, const char *text)
{
	size_t digits = strcspn(text, "%");
	char number[4];
	int err;

	opts->cache_bytes = opts->cache_percent = 0;
	opts->cache_none = strcmp(text, "none") == 0;
	if (opts->cache_none)
		return 0;
	if (!text[digits]) {
		err = control_size_parse(text, &opts->cache_bytes);
		if (!err && (!opts->cache_bytes || opts->cache_bytes > GUEST_MEM_MAX))
			return -ERANGE;
		return err;
	}
	if (text[digits + 1] || digits >= sizeof(number))
		return -EINVAL;
	memcpy(number, text, digits);
	number[digits] = 0;
	return control_uint_parse(number, 1, 100, &opts->cache_percent);
}

static int number_option(struct run_options *opts, int opt, const char *command)
{
	switch (opt) {
	case OPT_CPUS:
		if (control_uint_parse(optarg, 1, VCPUS_MAX, &opts->cpus) < 0)
			return cli_usage(command, "--cpus is a number from 1 to %d", VCPUS_MAX);
		return -1;
	case OPT_MEM:
		if (mem_parse(optarg, &opts->mem_bytes) < 0 || !opts->mem_bytes)
			return cli_usage(command,
					 "--mem is a size such as 512M or 4G, in pieces of "
					 "2M and at most 4T");
		return -1;
	case OPT_NODES:
		if (control_uint_parse(optarg, 1, SLICES_MAX, &opts->nodes) < 0)
			return cli_usage(command, "--nodes is a number from 1 to %d", SLICES_MAX);
		return -1;
	case OPT_DISTANCE:
		if (control_uint_parse(optarg, NUMA_DISTANCE_MIN, NUMA_DISTANCE_MAX,
				       &opts->distance) < 0)
			return cli_usage(command, "--distance is a number from %d to %d",
					 NUMA_DISTANCE_MIN, NUMA_DISTANCE_MAX);
		return -1;
	case OPT_CACHE:
		if (cache_parse(opts, optarg) < 0)
			return cli_usage(command,
					 "--cache is a size such as 64M, 1%% to 100%% of the "
					 "slice's own memory, or none, not \"%.20s\"",
					 optarg);
		return -1;
	default:
		if (slice_add(opts, optarg) < 0)
			return cli_usage(command,
					 "--slice is node=NAME,cpus=C,mem=SIZE, memory in "
					 "pieces of 2M, not \"%.80s\"",
					 optarg);
		return -1;
	}
}

static int append_option(const char **out, const char *name, const char *command)
{
	if (!append_valid(optarg) || strlen(optarg) >= CMDLINE_MAX)
		return cli_usage(command, "--%s is at most %d printable characters", name,
				 CMDLINE_MAX - 1);
	*out = optarg;
	return -1;
}

static int engine_option(struct run_options *opts, const char *command)
{
	static const char *const names[] = {"auto", "kvm", "soft"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(optarg, names[i]) != 0)
			continue;
		opts->cpu = names[i];
		return -1;
	}
	return cli_usage(command, "--cpu is auto, kvm or soft, not \"%.20s\"", optarg);
}

static int transport_option(struct run_options *opts, const char *command)
{
	static const char *const words[] = {"auto", "shm", "rdma", "tcp"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(optarg, words[i]) != 0)
			continue;
		opts->transport = words[i];
		return -1;
	}
	return cli_usage(command, "--transport is auto, shm, rdma or tcp, not \"%.20s\"", optarg);
}

static int vendor_option(struct run_options *opts, const char *command)
{
	if (strcmp(optarg, "intel") != 0 && strcmp(optarg, "amd") != 0)
		return cli_usage(command, "--cpu-vendor is intel or amd, not \"%.20s\"", optarg);
	opts->vendor = optarg;
	return -1;
}

static int model_option(struct run_options *opts, const char *command)
{
	uint64_t features;

	if (cpu_model_parse(optarg, &features))
		return cli_usage(command, "--cpu-model is v1, v2, v3 or max, not \"%.20s\"",
				 optarg);
	opts->model = optarg;
	return -1;
}

/* What the guest is, and what runs it. */
static int guest_option(struct run_options *opts, int opt, const char *command)
{
	switch (opt) {
	case OPT_KERNEL:
		opts->path[RUN_KERNEL] = optarg;
		return -1;
	case OPT_INITRD:
		opts->path[RUN_INITRD] = optarg;
		return -1;
	case OPT_APPEND:
		return append_option(&opts->append, "append", command);
	case OPT_PROFILE:
		return run_profile_option(opts, optarg, command);
	case OPT_GUEST:
		opts->guest = optarg;
		return -1;
	case OPT_ARGS:
		return append_option(&opts->args, "args", command);
	case OPT_CPU:
		return engine_option(opts, command);
	case OPT_CPU_VENDOR:
		return vendor_option(opts, command);
	case OPT_CPU_MODEL:
		return model_option(opts, command);
	default: /* OPT_FORCE */
		opts->force = true;
		return -1;
	}
}

/* What it has beside CPUs and memory. */
static int device_option(struct run_options *opts, int opt, const char *command)
{
	switch (opt) {
	case OPT_DISK:
		return run_disk_option(opts, optarg, command);
	case OPT_NET:
		return run_net_option(opts, optarg, command);
	case OPT_FS:
		return run_fs_option(opts, optarg, command);
	case OPT_IMAGE:
		return run_image_option(opts, optarg, command);
	case OPT_CLOUD_INIT:
		return run_seed_option(opts, &opts->seed.user_data, optarg, command);
	case OPT_HOSTNAME:
		return run_seed_option(opts, &opts->seed.hostname, optarg, command);
	default: /* OPT_SSH_KEY */
		return run_seed_option(opts, &opts->seed.ssh_key, optarg, command);
	}
}

/* How long it lives, and whose it is. */
static int life_option(struct run_options *opts, int opt, const char *command)
{
	switch (opt) {
	case OPT_ON_REBOOT:
		opts->on_reboot_said = true;
		return run_again_option(&opts->again.on_reboot, "on-reboot", optarg, command);
	case OPT_ON_CRASH:
		return run_again_option(&opts->again.on_crash, "on-crash", optarg, command);
	case OPT_PLACEMENT:
		if (strcmp(optarg, "spread") != 0 && strcmp(optarg, "pack") != 0)
			return cli_usage(command, "--placement is spread or pack, not \"%.20s\"",
					 optarg);
		opts->placement = optarg;
		return -1;
	case OPT_OVERCOMMIT:
		opts->overcommit = true;
		return -1;
	case OPT_DETACH:
		opts->detach = true;
		return -1;
	default: /* OPT_RM */
		opts->rm = true;
		return -1;
	}
}

static int option_take(struct run_options *opts, struct cli_target *target, int opt,
		       const char *command)
{
	switch (opt) {
	case OPT_KERNEL:
	case OPT_INITRD:
	case OPT_APPEND:
	case OPT_PROFILE:
	case OPT_GUEST:
	case OPT_ARGS:
	case OPT_CPU:
	case OPT_CPU_VENDOR:
	case OPT_CPU_MODEL:
	case OPT_FORCE:
		return guest_option(opts, opt, command);
	case OPT_ON_REBOOT:
	case OPT_ON_CRASH:
	case OPT_PLACEMENT:
	case OPT_OVERCOMMIT:
	case OPT_DETACH:
	case OPT_RM:
		return life_option(opts, opt, command);
	case OPT_NAME:
		if (!control_name_valid(optarg))
			return cli_usage(command,
					 "--name is 1 to 63 of a-z, 0-9 and '-', not first '-'");
		opts->name = optarg;
		return -1;
	case OPT_DISK:
	case OPT_NET:
	case OPT_FS:
	case OPT_IMAGE:
	case OPT_CLOUD_INIT:
	case OPT_HOSTNAME:
	case OPT_SSH_KEY:
		return device_option(opts, opt, command);
	case OPT_TRANSPORT:
		return transport_option(opts, command);
	case OPT_PLAINTEXT_DATA:
		opts->plaintext_data = true;
		return -1;
	case OPT_REQUIRE_ENCRYPTION:
		opts->require_encryption = true;
		return -1;
	case OPT_CHECK:
		opts->check = true;
		return -1;
	case OPT_NO_CONSOLE:
		opts->no_console = true;
		return -1;
	case OPT_CONSOLE_LOG:
		opts->console_log = optarg;
		return -1;
	case OPT_STATS:
		opts->stats = true;
		return -1;
	case OPT_STATS_JSON:
		opts->stats_json = optarg;
		return -1;
	case OPT_CPUS:
	case OPT_MEM:
	case OPT_NODES:
	case OPT_SLICE:
	case OPT_CACHE:
	case OPT_DISTANCE:
		return number_option(opts, opt, command);
	default:
		return cli_common_option(target, opt, command, usage);
	}
}

static int guest_check(const struct run_options *opts, const char *command)
{
	char why[CONTROL_WHY_MAX];

	if (opts->guest && opts->path[RUN_KERNEL])
		return cli_usage(command, "takes --kernel or --guest, not both");
	if (!opts->guest && !opts->path[RUN_KERNEL])
		return cli_usage(command, "needs --kernel or --guest");
	if (opts->guest && (opts->path[RUN_INITRD] || opts->append))
		return cli_usage(command, "--guest takes --args, neither --initrd nor --append");
	if (opts->append && control_kernel_words_check(opts->append, why))
		return cli_usage(command, "%s", why);
	if (opts->guest && opts->profile)
		return cli_usage(command, "--profile is for --kernel");
	if (!opts->guest && opts->args)
		return cli_usage(command, "--args is for --guest");
	if (opts->force && strcmp(opts->cpu, "kvm") != 0)
		return cli_usage(command, "--force is for --cpu kvm");
	return -1;
}

/* A micro-guest is a kernel whose words are its arguments. */
static int guest_take(struct run_options *opts)
{
	if (run_guest_find(opts->guest, opts->guest_path, sizeof(opts->guest_path)))
		return EXIT_IMAGE;
	opts->path[RUN_KERNEL] = opts->guest_path;
	opts->append = opts->args;
	return -1;
}

static int options_check(const struct run_options *opts, const char *command)
{
	size_t slices = json_array_size(opts->slices);

	if (slices && (opts->cpus || opts->mem_bytes || opts->nodes || opts->placement))
		return cli_usage(command,
				 "--slice says it all: no --cpus, --mem, --nodes or --placement "
				 "with it");
	if (opts->plaintext_data && opts->require_encryption)
		return cli_usage(command, "--plaintext-data is what --require-encryption refuses");
	if (opts->require_encryption && strcmp(opts->transport, "rdma") == 0)
		return cli_usage(command, "--transport rdma is not encrypted, which is what "
					  "--require-encryption refuses");
	if (opts->detach && (opts->console_log || opts->stats || opts->stats_json))
		return cli_usage(command, "--detach leaves no one to write --console-log, --stats "
					  "or --stats-json: 'pangea logs' and 'pangea inspect' "
					  "have them");
	if (!slices && (!opts->cpus || !opts->mem_bytes))
		return cli_usage(command, "needs --cpus and --mem, or --slice");
	return -1;
}

/* What is given to each option of the file, and which the command line has. */
struct taking {
	struct run_options *opts;
	struct cli_target *target;
	bool said[OPT_END];
};

static bool file_said(void *arg, int val)
{
	const struct taking *taking = arg;

	return taking->said[val];
}

static int file_take(void *arg, int val, const char *value, const char *at)
{
	struct taking *taking = arg;

	/* Where the command line's value would be. */
	optarg = (char *)value;
	return option_take(taking->opts, taking->target, val, at);
}

/* The file, without what the command line says itself; -1 to go on, else the exit code. */
static int file_read(struct taking *taking, const char *path)
{
	struct run_description file = {.path = path,
				       .options = longs,
				       .keys = run_file_keys,
				       .said = file_said,
				       .take = file_take,
				       .arg = taking,
				       .strings = taking->opts->strings};

	return run_file_read(&file);
}

/* Goes over the command line; what is no option is behind it afterwards. */
static int line_take(struct taking *taking, int argc, char **argv, bool only_look)
{
	int opt, code = -1;

	optind = 0;
	while (code < 0 && (opt = getopt_long(argc, argv, "dm:", longs, NULL)) != -1) {
		opt = opt == 'd' ? OPT_DETACH : opt == 'm' ? OPT_MEM : opt;
		if (!only_look)
			code = option_take(taking->opts, taking->target, opt, argv[0]);
		else if (opt == '?')
			code = cli_usage(argv[0], "%s", "");
		else
			taking->said[opt] = true;
	}
	return code;
}

int run_options_parse(struct run_options *opts, struct cli_target *target, int argc, char **argv)
{
	struct taking taking = {.opts = opts, .target = target};
	int code;

	opts->cpu = opts->transport = "auto";
	opts->slices = json_array();
	opts->strings = json_array();
	code = line_take(&taking, argc, argv, true);
	if (code < 0 && optind + 1 < argc)
		code = cli_usage(argv[0], "takes one file at most; all else are options");
	if (code < 0 && optind < argc)
		code = file_read(&taking, argv[optind]);
	if (code < 0)
		code = line_take(&taking, argc, argv, false);
	if (code < 0)
		code = guest_check(opts, argv[0]);
	if (code < 0)
		code = options_check(opts, argv[0]);
	if (!opts->on_reboot_said)
		opts->again.on_reboot = run_again_default(&opts->devices);
	if (code < 0)
		code = run_seed_make(opts, argv[0]);
	if (code < 0 && opts->check) {
		cli_say("%s: in order", optind < argc ? argv[optind] : "the options");
		return EXIT_OK;
	}
	if (code < 0 && opts->guest)
		code = guest_take(opts);
	return code;
}
