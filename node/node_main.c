/* SPDX-License-Identifier: Apache-2.0 */
/* pangead: the daemon of one machine; options, signals, beginning and end. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "host/host.h"
#include "base/log.h"
#include "base/program.h"
#include "node/node.h"

#define DEFAULT_COORDINATOR "127.0.0.1:7420"

static const char usage[] =
	"Usage: pangead [OPTION]...\n"
	"Offers CPUs and memory of this machine to a coordinator and runs slices of its VMs.\n"
	"\n"
	"  --coordinator HOST:PORT  where pangea-coordinator listens (" DEFAULT_COORDINATOR ")\n"
	"  --name NAME              this node's name (its certificate's; with --plaintext the "
	"host's)\n"
	"  --cpus N                 CPUs on offer (those online)\n"
	"  --mem SIZE               memory on offer, as 512M or 16G (half of the machine's)\n"
	"  --data-address ADDRESS   where slices reach each other (127.0.0.1)\n"
	"  --run-dir DIR            for temporary files (under $XDG_RUNTIME_DIR or /tmp)\n"
	"  --console-dir DIR        keep what VMs that boot here print, in DIR/VM.console\n"
	"  --disks DIR              a folder below which disks of VMs may lie; repeat it\n"
	"                           (" NODE_DISK_DIR ")\n"
	"  --image-dir DIR          keep the read-only images of VMs there\n"
	"                           (" NODE_IMAGE_DIR ")\n"
	"  --image-cache SIZE       of them at most, the least recently used go first (16G)\n"
	"  --grace SECONDS          how long slices go on without a coordinator (60)\n"
	"  --pki DIR                node.pem, ca.crt and crl.pem (/etc/pangea/pki for root, else\n"
	"                           ~/.config/pangea/pki)\n"
	"  --plaintext              no TLS and no certificates: for a network that is trusted\n"
	"  --token-file FILE        with --plaintext, the coordinator's token (mode 0600, one "
	"line)\n"
	"  --vmm FILE               the slice program (the pangea-vmm of this program)\n"
	"  --confine HOW            auto: slices have name spaces, a user and a memory cgroup\n"
	"                           of their own where this host allows it; require: else this\n"
	"                           daemon does not start; none (auto)\n"
	"  --rdma WHAT              auto: links to other nodes go over RDMA where a device has "
	"the\n"
	"                           data address (not encrypted); none; or DEVICE[:PORT] (auto)\n"
	"  --rdma-gid N             the index of the device's address to use (the data address's)\n"
	"  --rdma-mtu BYTES         of its paths: 256 to 4096, a power of two (the link's)\n"
	"  --slice-user USER        whom slices run as (each VM as a user of its own)\n"
	"  --log-level LEVEL        error, warn, info or debug (info)\n"
	"  --help, --version\n";

/* What the options default to needs room to live in. */
struct defaults {
	char name[NAME_MAX_LEN + 1];
	char vmm[4096];
	char run_dir[4096];
	char tag[NAME_MAX_LEN + 16];
	char data_address[64];
	bool run_dir_made;
};

static int options_bad(const char *what)
{
	fprintf(stderr, "pangead: %s\nTry 'pangead --help'.\n", what);
	return EXIT_USAGE;
}

static void options_default(struct node_options *opts, struct defaults *defaults)
{
	uint64_t half = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	if (!opts->vmm) {
		/* If it is nowhere, prepare() says where it was looked for. */
		(void)program_find("pangea-vmm", defaults->vmm, sizeof(defaults->vmm));
		opts->vmm = defaults->vmm;
	}
	if (!opts->disks)
		opts->disk_dir[opts->disks++] = NODE_DISK_DIR;
	if (!opts->image_dir)
		opts->image_dir = NODE_IMAGE_DIR;
	if (!opts->image_cache_bytes)
		opts->image_cache_bytes = NODE_IMAGE_CACHE_MAX;
	if (!opts->cpus)
		opts->cpus = online < 1 ? 1 : online > VCPUS_MAX ? VCPUS_MAX : (unsigned)online;
	if (!opts->mem_bytes) {
		half = half < GUEST_MEM_MAX ? half : GUEST_MEM_MAX;
		opts->mem_bytes = half & ~(HOME_CHUNK_SIZE - 1);
	}
}

/* Its name is the certificate's, unless it is told another: the coordinator judges that. */
static void names_default(struct node_daemon *node, struct defaults *defaults)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	struct node_options *opts = &node->opts;

	if (!opts->name && node->tls) {
		snprintf(defaults->name, sizeof(defaults->name), "%s",
			 control_tls_member(node->tls)->self.name);
		opts->name = defaults->name;
	} else if (!opts->name) {
		control_host_name(defaults->name);
		opts->name = defaults->name;
	}
	if (!opts->run_dir) {
		if (dir && dir[0] == '/')
			snprintf(defaults->run_dir, sizeof(defaults->run_dir), "%s/pangead-%s", dir,
				 opts->name);
		else
			snprintf(defaults->run_dir, sizeof(defaults->run_dir), "/tmp/pangead-%u-%s",
				 (unsigned)getuid(), opts->name);
		opts->run_dir = defaults->run_dir;
	}
	snprintf(defaults->tag, sizeof(defaults->tag), "pangead %s", opts->name);
	log_init(defaults->tag, opts->level);
}

/* The data address: what a name means, and whether the other nodes can reach it at all. */
static int data_address_take(struct node_options *opts, struct defaults *defaults)
{
	struct sockaddr_storage data, coordinator;
	char text[CONTROL_HOST_MAX + 8], sentence[512];
	const char *six = strchr(opts->data_address, ':') ? "[%.250s]:0" : "%.250s:0";

	snprintf(text, sizeof(text), six, opts->data_address);
	int err = control_address_resolve(text, &data);
	if (err == -EINVAL)
		return options_bad("--data-address is an address or a host name, without a port");
	if (err) {
		log_error("--data-address: there is no host %s", opts->data_address);
		return EXIT_ERROR;
	}
	control_address_format((struct sockaddr *)&data, text, sizeof(text));
	*strrchr(text, ':') = 0;
	snprintf(defaults->data_address, sizeof(defaults->data_address), "%.*s",
		 (int)strcspn(text + (text[0] == '['), "]"), text + (text[0] == '['));
	opts->data_address = defaults->data_address;
	/* A name that cannot be resolved now may be later: the link tries again. */
	if (!control_address_loopback(&data) ||
	    control_address_resolve(opts->coordinator, &coordinator) < 0 ||
	    control_address_loopback(&coordinator))
		return -1;
	snprintf(sentence, sizeof(sentence),
		 "the data address %s is this machine's own, but the coordinator at %.250s is "
		 "elsewhere: say by --data-address where other nodes reach this one",
		 opts->data_address, opts->coordinator);
	return options_bad(sentence);
}

static int options_check(struct node_options *opts, struct defaults *defaults)
{
	char host[CONTROL_HOST_MAX], port[6];

	if (opts->name && !control_name_valid(opts->name))
		return options_bad("--name is 1 to 63 of a-z, 0-9 and '-', not first '-'");
	if (opts->token_file && !opts->plaintext)
		return options_bad("--token-file goes with --plaintext: with TLS, certificates say "
				   "who may connect");
	if (opts->plaintext && opts->pki_dir)
		return options_bad("--plaintext goes without certificates: leave out --pki");
	if (control_address_split(opts->coordinator, host, port) < 0)
		return options_bad("--coordinator is HOST:PORT");
	if (opts->mem_bytes > GUEST_MEM_MAX)
		return options_bad("--mem is at most 4T");
	return data_address_take(opts, defaults);
}

static const struct option longs[] = {
	{"coordinator", required_argument, NULL, 'c'},
	{"name", required_argument, NULL, 'n'},
	{"cpus", required_argument, NULL, 'C'},
	{"mem", required_argument, NULL, 'M'},
	{"data-address", required_argument, NULL, 'd'},
	{"run-dir", required_argument, NULL, 'r'},
	{"console-dir", required_argument, NULL, 'o'},
	{"disks", required_argument, NULL, 'D'},
	{"image-dir", required_argument, NULL, 'i'},
	{"image-cache", required_argument, NULL, 'I'},
	{"grace", required_argument, NULL, 'g'},
	{"pki", required_argument, NULL, 'p'},
	{"plaintext", no_argument, NULL, 'P'},
	{"token-file", required_argument, NULL, 't'},
	{"vmm", required_argument, NULL, 'x'},
	{"confine", required_argument, NULL, 'f'},
	{"rdma", required_argument, NULL, 'R'},
	{"rdma-gid", required_argument, NULL, 'G'},
	{"rdma-mtu", required_argument, NULL, 'T'},
	{"slice-user", required_argument, NULL, 'u'},
	{"log-level", required_argument, NULL, 'L'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{NULL, 0, NULL, 0},
};

static int confine_parse(const char *word, enum confine_wish *out)
{
	static const char *const words[] = {
		[CONFINE_AUTO] = "auto", [CONFINE_REQUIRE] = "require", [CONFINE_NONE] = "none"};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(word, words[i]) == 0) {
			*out = (enum confine_wish)i;
			return 0;
		}
	return -EINVAL;
}

/* The same, of RDMA. */
static int rdma_take(struct node_rdma *rdma, int opt)
{
	switch (opt) {
	case 'R':
		return node_rdma_parse(optarg, rdma)
			       ? options_bad("--rdma is auto, none, or a device and perhaps its "
					     "port, as mlx5_0:1")
			       : -1;
	case 'G':
		return node_rdma_gid_parse(optarg, rdma)
			       ? options_bad("--rdma-gid is a number from 0 to 255")
			       : -1;
	default: /* 'T' */
		return node_rdma_mtu_parse(optarg, rdma)
			       ? options_bad("--rdma-mtu is 256, 512, 1024, 2048 or 4096")
			       : -1;
	}
}

static int disks_take(struct node_options *opts)
{
	if (optarg[0] != '/' || opts->disks == NODE_DISK_DIRS_MAX)
		return options_bad("--disks is a folder by its whole path, at most 16 times");
	opts->disk_dir[opts->disks++] = optarg;
	return -1;
}

static int images_option(struct node_options *opts, int opt)
{
	if (opt == 'i' && optarg[0] != '/')
		return options_bad("--image-dir is a folder by its whole path");
	if (opt == 'i')
		opts->image_dir = optarg;
	else if (control_size_parse(optarg, &opts->image_cache_bytes) < 0 ||
		 !opts->image_cache_bytes)
		return options_bad("--image-cache is a size such as 512M or 16G");
	return -1;
}

/* One option; -1 to go on, else the exit code. */
static int option_take(struct node_options *opts, int opt, int *level)
{
	switch (opt) {
	case 'c':
		opts->coordinator = optarg;
		return -1;
	case 'n':
		opts->name = optarg;
		return -1;
	case 'C':
		if (control_uint_parse(optarg, 1, VCPUS_MAX, &opts->cpus) < 0)
			return options_bad("--cpus is a number from 1 to 256");
		return -1;
	case 'M':
		if (control_size_parse(optarg, &opts->mem_bytes) < 0 || !opts->mem_bytes)
			return options_bad("--mem is a size such as 512M or 16G");
		return -1;
	case 'd':
		opts->data_address = optarg;
		return -1;
	case 'r':
		opts->run_dir = optarg;
		return -1;
	case 'o':
		opts->console_dir = optarg;
		return -1;
	case 'D':
		return disks_take(opts);
	case 'i':
	case 'I':
		return images_option(opts, opt);
	case 'g':
		if (control_uint_parse(optarg, 1, 86400, &opts->grace_s) < 0)
			return options_bad("--grace is a number of seconds from 1 to 86400");
		return -1;
	case 't':
		opts->token_file = optarg;
		return -1;
	case 'p':
		opts->pki_dir = optarg;
		return -1;
	case 'P':
		opts->plaintext = true;
		return -1;
	case 'x':
		opts->vmm = optarg;
		return -1;
	case 'f':
		return confine_parse(optarg, &opts->confine)
			       ? options_bad("--confine is auto, require or none")
			       : -1;
	case 'u':
		opts->slice_user = optarg;
		return -1;
	case 'R':
	case 'G':
	case 'T':
		return rdma_take(&opts->rdma, opt);
	case 'L':
		*level = log_level_parse(optarg);
		return *level < 0 ? options_bad("--log-level is error, warn, info or debug") : -1;
	case 'h':
		return fputs(usage, stdout) < 0;
	case 'v':
		return puts("pangead " PANGEA_VERSION) < 0;
	default:
		return options_bad("wrong usage");
	}
}

static int options_parse(struct node_options *opts, struct defaults *defaults, int argc,
			 char **argv)
{
	int level = LOG_INFO, opt, code;

	opts->coordinator = DEFAULT_COORDINATOR;
	opts->data_address = "127.0.0.1";
	opts->grace_s = CONTROL_GRACE_MS / 1000;
	opts->rdma = (struct node_rdma){.allowed = true, .gid_index = -1};
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		code = option_take(opts, opt, &level);
		if (code >= 0)
			return code;
	}
	if (optind < argc)
		return options_bad("takes no arguments, only options");
	options_default(opts, defaults);
	opts->level = (enum log_level)level;
	log_init("pangead", opts->level);
	return options_check(opts, defaults);
}

/* A directory of ours alone; made if it is not there. */
static int run_dir_prepare(const char *dir, bool *made)
{
	struct stat st;

	*made = mkdir(dir, 0700) == 0;
	if (!*made && errno != EEXIST) {
		int err = -errno;
		log_error("cannot make the run directory %s: %s", dir, error_text(err));
		return err;
	}
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & 022)) {
		log_error("the run directory %s is no directory that only this user can write",
			  dir);
		return -EPERM;
	}
	return 0;
}

/* The report goes to the coordinator; what stands in the way of guests also into the log. */
static int host_look(struct node_daemon *node)
{
	struct host_report report;

	host_probe(&report);
	for (unsigned i = 0; i < report.count; i++) {
		const struct host_item *item = &report.items[i];
		if (item->matters == HOST_REFUSE)
			log_warn("%s: %s: %s", item->name, item->found, item->sentence);
	}
	node->host = control_host_json(&report);
	return node->host ? 0 : -ENOMEM;
}

/* How slices can be confined here; what cannot be had is said once. */
static int confine_look(struct node_daemon *node)
{
	struct confine *c = &node->confine;
	int err = confine_probe(node->opts.confine, node->opts.slice_user, c);

	if (err) {
		log_error("--slice-user: %s", c->lacks);
		return err;
	}
	if (confine_whole(c))
		return 0;
	if (node->opts.confine == CONFINE_REQUIRE) {
		log_error("slices cannot be confined as --confine require asks for: %s", c->lacks);
		return -EPERM;
	}
	log_warn("slices are confined in part only: %s", c->lacks);
	return 0;
}

static int prepare(struct node_daemon *node, struct defaults *defaults)
{
	struct stat st;
	int err;

	if (stat(node->opts.vmm, &st) < 0 || !S_ISREG(st.st_mode) ||
	    access(node->opts.vmm, X_OK) < 0) {
		log_error("the slice program %s cannot be executed", node->opts.vmm);
		return -ENOENT;
	}
	if (node->opts.token_file) {
		err = control_token_read(node->opts.token_file, node->token);
		if (err) {
			log_error("cannot use the token in %s: %s", node->opts.token_file,
				  err == -EPERM ? "others can read it" : error_text(err));
			return err;
		}
	}
	err = host_look(node);
	if (!err)
		err = confine_look(node);
	if (err)
		return err;
	node->records = json_object();
	if (!node->records || getrandom(&node->incarnation, sizeof(node->incarnation), 0) !=
				      (ssize_t)sizeof(node->incarnation))
		return -EIO;
	return run_dir_prepare(node->opts.run_dir, &defaults->run_dir_made);
}

void daemon_slice_over(struct node_daemon *node)
{
	if (!node->stopping || slices_any(node, false) ||
	    uv_is_closing((uv_handle_t *)&node->sigchld))
		return;
	uv_close((uv_handle_t *)&node->sigchld, NULL);
}

static void child_ended(uv_signal_t *handle, int signum)
{
	struct node_daemon *node = handle->data;

	(void)signum;
	slices_reap(node);
}

static void reload_asked(uv_signal_t *handle, int signum)
{
	(void)signum;
	log_info("SIGHUP: reading the certificate again");
	certificate_reload(handle->data, true);
}

static void daemon_stop(uv_signal_t *handle, int signum)
{
	struct node_daemon *node = handle->data;

	if (node->stopping)
		return;
	log_info("stopping: %s", strsignal(signum));
	node->stopping = true;
	service_stop(&node->service, "ending the slices here");
	link_stop(node, "the daemon was stopped");
	slices_kill(node);
	uv_close((uv_handle_t *)&node->sigterm, NULL);
	uv_close((uv_handle_t *)&node->sigint, NULL);
	uv_close((uv_handle_t *)&node->sighup, NULL);
	daemon_slice_over(node);
}

static void daemon_run(struct node_daemon *node)
{
	uv_signal_init(&node->loop, &node->sigterm);
	uv_signal_init(&node->loop, &node->sigint);
	uv_signal_init(&node->loop, &node->sigchld);
	uv_signal_init(&node->loop, &node->sighup);
	node->sigterm.data = node->sigint.data = node->sigchld.data = node->sighup.data = node;
	uv_signal_start(&node->sigterm, daemon_stop, SIGTERM);
	uv_signal_start(&node->sigint, daemon_stop, SIGINT);
	uv_signal_start(&node->sighup, reload_asked, SIGHUP);
	uv_signal_start(&node->sigchld, child_ended, SIGCHLD);
	log_info("offering %u CPUs and %llu MiB", node->opts.cpus,
		 (unsigned long long)(node->opts.mem_bytes >> 20));
	if (node->tls)
		certificate_reload(node, true);
	else
		log_warn(
			"plaintext: the control connection is not encrypted, and nobody proves who "
			"he is");
	node->images.cache = (struct image_cache){.dir = node->opts.image_dir,
						  .max_bytes = node->opts.image_cache_bytes,
						  .dir_fd = -1,
						  .lock_fd = -1};
	link_start(node);
	node_service_start(node);
	uv_run(&node->loop, UV_RUN_DEFAULT);
	/* Only a refused registration stops the loop early; there are no slices then. */
	images_close(node);
	uv_loop_close(&node->loop);
}

int main(int argc, char **argv)
{
	struct node_daemon *node = calloc(1, sizeof(*node));
	struct defaults *defaults = calloc(1, sizeof(*defaults));
	int code = EXIT_ERROR;

	if (!node || !defaults)
		goto out;
	control_values_wipe();
	code = options_parse(&node->opts, defaults, argc, argv);
	if (code >= 0)
		goto out;
	code = EXIT_ERROR;
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	if (certificate_open(node) < 0)
		goto out;
	names_default(node, defaults);
	if (prepare(node, defaults) < 0)
		goto out;
	uv_loop_init(&node->loop);
	daemon_run(node);
	code = node->exit_code;
	if (defaults->run_dir_made)
		rmdir(node->opts.run_dir);
out:
	if (node)
		certificate_close(node);
	json_decref(node ? node->host : NULL);
	json_decref(node ? node->records : NULL);
	free(defaults);
	free(node);
	return code;
}
