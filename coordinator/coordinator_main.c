/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-coordinator: the libuv shell around the state machine, and its options. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "coordinator/certificates.h"
#include "coordinator/coordinator_state.h"
#include "control/service.h"
#include "coordinator/keeping.h"

#define DEFAULT_LISTEN "127.0.0.1:7420"
/* Deadlines are seconds; this is how late they may be noticed. */
#define TICK_MS 200
/* The directories of certificates are looked at this often. */
#define REFRESH_TICKS 10
/* A connection may have its certificate renewed so often: each one leaves a copy with the authority. */
#define RENEWALS_MAX 8

struct shell_peer {
	uint64_t id; /* 0: free */
	struct control_conn *conn;
	/* Console output dropped and not yet told: how much, and a message it came in. */
	uint64_t console_lost;
	json_t *console_msg;
	unsigned renewals; /* of its certificate, on this connection */
};

struct shell {
	uv_loop_t loop;
	struct coordinator *co;
	struct keeping keeping;
	unsigned steps; /* that are under way */
	struct control_listener *listener;
	uv_timer_t tick;
	uv_signal_t sigterm, sigint, sighup;
	struct service service; /* what started this process is told */
	struct shell_peer peer[CONTROL_CONNS_MAX];
	uint64_t next_id;
	bool stopping;
	struct certificates certs;
	unsigned refresh_ticks;
	/* options */
	const char *listen, *token_file, *address_file, *pki_dir, *ca_dir;
	bool plaintext;
	unsigned grace_s, deadline_s;
	char token[CONTROL_TOKEN_MAX];
};

static struct shell_peer *peer_find(struct shell *shell, uint64_t id)
{
	for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++)
		if (shell->peer[i].id == id)
			return &shell->peer[i];
	return NULL;
}

static struct shell_peer *peer_of(struct shell *shell, const struct control_conn *conn)
{
	for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++)
		if (shell->peer[i].id && shell->peer[i].conn == conn)
			return &shell->peer[i];
	return NULL;
}

static void action_send(struct shell_peer *peer, const json_t *msg, const void *blob, size_t len)
{
	int err = control_send(peer->conn, msg, blob, len);

	/* One message that is too long: its receiver can do nothing about it. */
	if (err == -PANGEA_EWIRELEN || err == -EINVAL) {
		log_error("cannot say \"%s\" to connection %llu: %s", control_type(msg),
			  (unsigned long long)peer->id, error_text(err));
		return;
	}
	if (err && err != -EPIPE) {
		log_warn("cannot send to connection %llu: %s; closing it",
			 (unsigned long long)peer->id, error_text(err));
		control_abort(peer->conn);
	}
}

/* Tells a slow watcher what it missed, in a message of its own or with what comes next. */
static void console_send(struct shell_peer *peer, const json_t *msg, const void *blob, size_t len)
{
	json_t *copy = json_copy((json_t *)msg);

	invariant(copy != NULL);
	json_object_set_new(copy, "lost", json_integer((json_int_t)peer->console_lost));
	action_send(peer, copy, blob, len);
	json_decref(copy);
	json_decref(peer->console_msg);
	peer->console_msg = NULL;
	peer->console_lost = 0;
}

static void console_lost_send(struct shell_peer *peer)
{
	if (peer->console_lost)
		console_send(peer, peer->console_msg, NULL, 0);
}

/* Console output waits for a slow watcher, then is dropped; it resumes once half has gone. */
static void console_take(struct shell_peer *peer, const struct coordinator_action *action)
{
	size_t limit =
		peer->console_lost ? CONTROL_CONSOLE_QUEUE_MAX / 2 : CONTROL_CONSOLE_QUEUE_MAX;

	peer->console_lost += (uint64_t)json_integer_value(json_object_get(action->msg, "lost"));
	if (control_queued(peer->conn) <= limit) {
		console_send(peer, action->msg, action->blob, action->blob_len);
		return;
	}
	peer->console_lost += action->blob_len;
	if (!peer->console_msg)
		peer->console_msg = json_incref(action->msg);
}

/* A piece of a VM's console log. */
static void log_send(struct shell *shell, struct shell_peer *peer,
		     const struct coordinator_action *action)
{
	size_t len;
	uint8_t *data = keeping_log_read(&shell->keeping, action, &len);

	action_send(peer, action->msg, data, len);
	free(data);
}

/* What is for peers that start detached VMs again; false: it is not. */
static bool own_peer_do(struct shell *shell, const struct coordinator_action *action)
{
	struct agains *agains = shell->keeping.agains;

	if (!agains)
		return false;
	if (action->type == COORDINATOR_AGAIN) {
		agains_start(agains, action->why, action->msg, ++shell->next_id);
		return true;
	}
	if (action->type == COORDINATOR_REFUSE)
		return agains_refused(agains, action->peer);
	return action->type == COORDINATOR_SEND && agains_take(agains, action->peer, action->msg);
}

static void action_do(struct shell *shell, const struct coordinator_action *action)
{
	struct shell_peer *peer = action->peer ? peer_find(shell, action->peer) : NULL;

	if (keeping_do(&shell->keeping, action) || own_peer_do(shell, action))
		return;
	if (action->type == COORDINATOR_LOG)
		log_info("%s", action->why);
	if (!peer)
		return;
	switch (action->type) {
	case COORDINATOR_CONSOLE:
		console_take(peer, action);
		break;
	case COORDINATOR_SEND:
		/* Before the VM's end, and before a slow watcher has left. */
		if (control_is(action->msg, "vm-ended") || control_is(action->msg, "detached"))
			console_lost_send(peer);
		action_send(peer, action->msg, action->blob, action->blob_len);
		break;
	case COORDINATOR_LOG_READ:
		log_send(shell, peer, action);
		break;
	case COORDINATOR_REFUSE:
		log_warn("connection %llu closed: %s", (unsigned long long)peer->id, action->why);
		control_refuse(peer->conn, -PANGEA_ECONTROL, action->why);
		break;
	default:
		break; /* above */
	}
}

/* From the kernel each time: whoever knows one VM's key learns nothing of another's. */
static uint64_t id_draw(void)
{
	uint64_t id;

	invariant(getrandom(&id, sizeof(id), 0) == (ssize_t)sizeof(id));
	return id;
}

static void step_once(struct shell *shell, struct coordinator_event *event)
{
	struct coordinator_actions actions = {0};

	event->now_ms = clock_now_ns() / NS_PER_MS;
	event->unix_s = (uint64_t)time(NULL);
	if (event->type == COORDINATOR_MESSAGE) {
		invariant(getrandom(event->fresh_secret, sizeof(event->fresh_secret), 0) ==
			  (ssize_t)sizeof(event->fresh_secret));
		event->fresh_incarnation = id_draw();
		event->fresh_owner = id_draw();
	}
	coordinator_step(shell->co, event, &actions);
	pair_wipe(event->fresh_secret, sizeof(event->fresh_secret));
	for (size_t i = 0; i < actions.count; i++)
		action_do(shell, &actions.list[i]);
	coordinator_actions_free(&actions);
}

static void step(struct shell *shell, struct coordinator_event *event)
{
	shell->steps++;
	step_once(shell, event);
	/* Not in the middle of a step: they make steps of their own. */
	if (--shell->steps == 0 && shell->keeping.agains) {
		shell->steps++;
		agains_go_on(shell->keeping.agains);
		shell->steps--;
	}
}

static void again_event(void *arg, struct coordinator_event *event)
{
	step(arg, event);
}

/* Every node and every operator goes by the authority's latest list. */
static void revocations_send(const struct shell *shell, struct control_conn *conn)
{
	json_t *msg = certificates_revocations(&shell->certs);

	if (msg && control_send(conn, msg, NULL, 0) < 0)
		log_warn("a peer cannot be told the revocations");
	json_decref(msg);
}

static void refresh(struct shell *shell, bool asked)
{
	if (!certificates_refresh(&shell->certs, asked))
		return;
	for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++) {
		if (!shell->peer[i].id)
			continue;
		control_recheck(shell->peer[i].conn);
		if (control_peer_role(shell->peer[i].conn) != CONTROL_ROLE_JOIN)
			revocations_send(shell, shell->peer[i].conn);
	}
}

/* Who has no certificate yet: it is no peer of the state machine. */
static void joiner_msg(struct shell *shell, struct control_conn *conn, const json_t *msg)
{
	char why[CONTROL_WHY_MAX] = "out of memory";
	json_t *answer;

	if (!control_is(msg, "join"))
		return;
	answer = certificates_join(&shell->certs, msg, why);
	if (!answer) {
		control_refuse_peer(conn, PKI_TOKEN, why);
		return;
	}
	control_send(conn, answer, NULL, 0);
	control_close(conn, "joined");
	json_decref(answer);
}

static void renew_msg(struct shell *shell, struct control_conn *conn, const json_t *msg)
{
	const struct pki_identity *id = control_peer_identity(conn);
	struct shell_peer *peer = peer_of(shell, conn);
	char why[CONTROL_WHY_MAX] = "there are no certificates without TLS";
	json_t *answer = NULL;

	if (peer && peer->renewals++ >= RENEWALS_MAX)
		snprintf(why, sizeof(why), "it was renewed on this connection often enough");
	else if (id)
		answer = certificates_renew(&shell->certs, id, msg, why);

	if (!answer) {
		log_warn("a certificate was not renewed: %s", why);
		control_sendf(conn, "{s:s, s:i, s:s}", "type", "error", "code", EXIT_ERROR,
			      "reason", why);
		return;
	}
	control_send(conn, answer, NULL, 0);
	json_decref(answer);
}

/* What is about certificates; true: it was. */
static bool certificate_msg(struct shell *shell, struct control_conn *conn, const json_t *msg)
{
	const struct pki_identity *id = control_peer_identity(conn);
	char why[CONTROL_WHY_MAX];

	if (control_peer_role(conn) == CONTROL_ROLE_JOIN) {
		joiner_msg(shell, conn, msg);
		return true;
	}
	if (control_is(msg, "renew")) {
		renew_msg(shell, conn, msg);
		return true;
	}
	if (!id || !control_is(msg, "register") || control_name_check(msg, id, why) == 0)
		return false;
	control_refuse_peer(conn, PKI_OTHER_ROLE, why);
	return true;
}

static void peer_opened(struct control_conn *conn, enum control_role role)
{
	struct shell *shell = control_user(conn);
	struct shell_peer *peer = peer_find(shell, 0);

	if (role == CONTROL_ROLE_JOIN)
		return;
	if (!peer) {
		control_refuse(conn, -ENOMEM, "the coordinator has too many connections");
		return;
	}
	*peer = (struct shell_peer){.id = ++shell->next_id, .conn = conn};
	log_debug("connection %llu: %s", (unsigned long long)peer->id, control_role_name(role));
	/* A node is told once it has registered. */
	if (role == CONTROL_ROLE_CLI)
		revocations_send(shell, conn);
	step(shell, &(struct coordinator_event){
			    .type = COORDINATOR_OPENED, .peer = peer->id, .role = role});
}

static void peer_msg(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len)
{
	struct shell *shell = control_user(conn);
	struct shell_peer *peer = peer_of(shell, conn);

	if (certificate_msg(shell, conn, msg) || !peer)
		return;
	step(shell, &(struct coordinator_event){.type = COORDINATOR_MESSAGE,
						.peer = peer->id,
						.msg = msg,
						.blob = blob,
						.blob_len = len});
	if (control_is(msg, "register"))
		revocations_send(shell, conn);
}

static void peer_closed(struct control_conn *conn, int err, const char *why)
{
	struct shell *shell = control_user(conn);
	struct shell_peer *peer = peer_of(shell, conn);

	if (!peer) {
		/* One that was refused for what it is has its line already. */
		log_line(err && err != -EKEYREJECTED ? LOG_INFO : LOG_DEBUG,
			 "a connection ended before its hello: %s", why);
		return;
	}
	uint64_t id = peer->id;
	log_debug("connection %llu ended (%s): %s", (unsigned long long)id,
		  err ? error_name(err) : "closed", why);
	json_decref(peer->console_msg);
	memset(peer, 0, sizeof(*peer));
	if (!shell->stopping)
		step(shell, &(struct coordinator_event){.type = COORDINATOR_CLOSED,
							.peer = id,
							.why = why,
							.ended = control_peer_ended(conn),
							.lost = err == -EKEYREVOKED});
}

static const struct control_ops shell_ops = {peer_opened, peer_msg, peer_closed};

static void tick(uv_timer_t *timer)
{
	struct shell *shell = timer->data;

	/* A guest that falls silent behind a gap: nothing else would tell of it. */
	for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++)
		if (shell->peer[i].id && shell->peer[i].console_lost &&
		    control_queued(shell->peer[i].conn) <= CONTROL_CONSOLE_QUEUE_MAX / 2)
			console_lost_send(&shell->peer[i]);
	if (++shell->refresh_ticks % REFRESH_TICKS == 0)
		refresh(shell, false);
	step(shell, &(struct coordinator_event){.type = COORDINATOR_TICK});
}

static void reload_asked(uv_signal_t *handle, int signum)
{
	(void)signum;
	log_info("SIGHUP: reading the certificates again");
	refresh(handle->data, true);
}

/* It listens, or there would be no loop: it is ready. */
static bool service_status(void *user, char *status, size_t size)
{
	const struct shell *shell = user;
	struct coordinator_counts n;

	coordinator_count(shell->co, &n);
	snprintf(status, size,
		 "%u nodes (%u away), %u VMs (%u running); free: %u of %u CPUs, %llu of %llu MiB",
		 n.nodes, n.away, n.vms, n.running, n.cpus_free, n.cpus,
		 (unsigned long long)(n.mem_free_bytes >> 20),
		 (unsigned long long)(n.mem_bytes >> 20));
	return true;
}

/* Ends this process; VMs go on for the grace time, in which another one may take them up. */
static void shell_stop(uv_signal_t *handle, int signum)
{
	struct shell *shell = handle->data;

	if (shell->stopping)
		return;
	log_info("stopping: %s", strsignal(signum));
	shell->stopping = true;
	service_stop(&shell->service, "VMs go on for the grace time");
	control_listener_close(shell->listener);
	uv_close((uv_handle_t *)&shell->tick, NULL);
	uv_close((uv_handle_t *)&shell->sigterm, NULL);
	uv_close((uv_handle_t *)&shell->sigint, NULL);
	uv_close((uv_handle_t *)&shell->sighup, NULL);
	for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++)
		if (shell->peer[i].id)
			control_refuse(shell->peer[i].conn, 0, "the coordinator was stopped");
	if (shell->address_file)
		unlink(shell->address_file);
}

static void handles_start(struct shell *shell)
{
	uv_timer_init(&shell->loop, &shell->tick);
	uv_signal_init(&shell->loop, &shell->sigterm);
	uv_signal_init(&shell->loop, &shell->sigint);
	uv_signal_init(&shell->loop, &shell->sighup);
	shell->tick.data = shell->sigterm.data = shell->sigint.data = shell->sighup.data = shell;
	uv_timer_start(&shell->tick, tick, TICK_MS, TICK_MS);
	uv_signal_start(&shell->sigterm, shell_stop, SIGTERM);
	uv_signal_start(&shell->sigint, shell_stop, SIGINT);
	uv_signal_start(&shell->sighup, reload_asked, SIGHUP);
	service_start(&shell->service, &shell->loop, 0, service_status, shell);
}

/* Writes the address whole or not at all: others wait for the file to appear. */
static int address_write(const struct shell *shell, unsigned port)
{
	char path[4096], host[CONTROL_HOST_MAX + 2];
	FILE *file;

	snprintf(host, sizeof(host), "%.*s", (int)(strrchr(shell->listen, ':') - shell->listen),
		 shell->listen);
	log_info("listening on %s:%u", host, port);
	if (!shell->address_file)
		return 0;
	if ((size_t)snprintf(path, sizeof(path), "%s.new", shell->address_file) >= sizeof(path))
		return -ENAMETOOLONG;
	file = fopen(path, "we");
	if (!file)
		return -errno;
	int bad = fprintf(file, "%s:%u\n", host, port) < 0;
	if (fclose(file) != 0 || bad || rename(path, shell->address_file) < 0)
		return errno ? -errno : -EIO;
	return 0;
}

static int shell_run(struct shell *shell)
{
	struct control_options opts = {.loop = &shell->loop,
				       .ops = &shell_ops,
				       .user = shell,
				       .role = CONTROL_ROLE_COORDINATOR,
				       .tls = shell->certs.tls,
				       .expect_token = shell->token_file ? shell->token : NULL};
	unsigned port;
	int err;

	err = control_listen(&opts, shell->listen, &shell->listener, &port);
	if (err) {
		log_error("cannot listen on %s: %s", shell->listen,
			  err == -EINVAL   ? "not HOST:PORT"
			  : err == -ENOENT ? "there is no such host"
					   : error_text(err));
		return err == -EINVAL ? EXIT_USAGE : EXIT_ERROR;
	}
	err = address_write(shell, port);
	if (err) {
		log_error("cannot write %s: %s", shell->address_file, error_text(err));
		control_listener_close(shell->listener);
		return EXIT_ERROR;
	}
	handles_start(shell);
	uv_run(&shell->loop, UV_RUN_DEFAULT);
	return EXIT_OK;
}

static const char usage[] =
	"Usage: pangea-coordinator [OPTION]...\n"
	"Keeps track of node daemons and makes virtual machines of what they offer.\n"
	"\n"
	"  --listen HOST:PORT   where daemons and pangea(1) connect; port 0: any (" DEFAULT_LISTEN
	")\n"
	"  --pki DIR            coordinator.pem, ca.crt and crl.pem (/etc/pangea/pki for root, "
	"else\n"
	"                       ~/.config/pangea/pki)\n"
	"  --ca DIR             the cluster's authority: issue certificates for join tokens, renew "
	"them\n"
	"  --plaintext          no TLS and no certificates: for a network that is trusted\n"
	"  --token-file FILE    with --plaintext, accept only peers that know this token (mode "
	"0600)\n"
	"  --address-file FILE  write HOST:PORT there once listening\n"
	"  --state-dir DIR      keep there what must last when this process does not\n"
	"  --grace SECONDS      how long a lost link may take to be made again (60)\n"
	"  --deadline SECONDS   how long a slice may be silent before its VM ends (30)\n"
	"  --log-level LEVEL    error, warn, info or debug (info)\n"
	"  --help, --version\n";

static int options_bad(const char *what)
{
	fprintf(stderr, "pangea-coordinator: %s\nTry 'pangea-coordinator --help'.\n", what);
	return EXIT_USAGE;
}

/* In plaintext whoever can connect can run programs here: not without a secret where others can connect. */
static int listen_check(const struct shell *shell)
{
	struct sockaddr_storage addr;
	char sentence[512];

	if (!shell->plaintext && shell->token_file)
		return options_bad("--token-file goes with --plaintext: with TLS, certificates say "
				   "who may connect");
	if (shell->plaintext && (shell->pki_dir || shell->ca_dir))
		return options_bad(
			"--plaintext goes without certificates: leave out --pki and --ca");
	if (!shell->plaintext || shell->token_file ||
	    control_address_resolve(shell->listen, &addr) < 0 || control_address_loopback(&addr))
		return -1;
	snprintf(sentence, sizeof(sentence),
		 "--plaintext with --listen %.250s lets everybody run virtual machines who can "
		 "connect: leave out --plaintext, or name a secret by --token-file FILE (one line, "
		 "mode 0600), or listen on 127.0.0.1",
		 shell->listen);
	return options_bad(sentence);
}

/* Returns -1 to go on, else the exit code. */
static int options_parse(struct shell *shell, int argc, char **argv)
{
	static const struct option longs[] = {
		{"listen", required_argument, NULL, 'l'},
		{"token-file", required_argument, NULL, 't'},
		{"pki", required_argument, NULL, 'p'},
		{"ca", required_argument, NULL, 'c'},
		{"plaintext", no_argument, NULL, 'P'},
		{"address-file", required_argument, NULL, 'a'},
		{"state-dir", required_argument, NULL, 's'},
		{"grace", required_argument, NULL, 'g'},
		{"deadline", required_argument, NULL, 'd'},
		{"log-level", required_argument, NULL, 'L'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	int level = LOG_INFO, opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt == 'l')
			shell->listen = optarg;
		else if (opt == 't')
			shell->token_file = optarg;
		else if (opt == 'p')
			shell->pki_dir = optarg;
		else if (opt == 'c')
			shell->ca_dir = optarg;
		else if (opt == 'P')
			shell->plaintext = true;
		else if (opt == 'a')
			shell->address_file = optarg;
		else if (opt == 's')
			shell->keeping.dir = optarg;
		else if (opt == 'g' && control_uint_parse(optarg, 1, 86400, &shell->grace_s) < 0)
			return options_bad("--grace is a number of seconds from 1 to 86400");
		else if (opt == 'd' && control_uint_parse(optarg, 5, 86400, &shell->deadline_s) < 0)
			return options_bad("--deadline is a number of seconds from 5 to 86400");
		else if (opt == 'L' && (level = log_level_parse(optarg)) < 0)
			return options_bad("--log-level is error, warn, info or debug");
		else if (opt == 'h')
			return fputs(usage, stdout) < 0;
		else if (opt == 'v')
			return puts("pangea-coordinator " PANGEA_VERSION) < 0;
		else if (opt == '?')
			return options_bad("wrong usage");
	}
	if (optind < argc)
		return options_bad("takes no arguments, only options");
	log_init("pangea-coordinator", (enum log_level)level);
	return listen_check(shell);
}

static int token_load(struct shell *shell)
{
	int err;

	if (!shell->token_file)
		return 0;
	err = control_token_read(shell->token_file, shell->token);
	if (err)
		log_error("cannot use the token in %s: %s", shell->token_file,
			  err == -EPERM ? "others can read it" : error_text(err));
	return err;
}

int main(int argc, char **argv)
{
	struct shell *shell = calloc(1, sizeof(*shell));
	int code = EXIT_ERROR;

	if (!shell)
		return EXIT_ERROR;
	shell->listen = DEFAULT_LISTEN;
	shell->grace_s = CONTROL_GRACE_MS / 1000;
	shell->deadline_s = CONTROL_DEADLINE_S;
	control_values_wipe();
	code = options_parse(shell, argc, argv);
	if (code >= 0)
		goto out;
	code = EXIT_ERROR;
	/* Files it makes are its user's alone; a write to a closed socket is an error code. */
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	if (token_load(shell) < 0)
		goto out;
	if (shell->plaintext)
		log_warn("plaintext: control connections are not encrypted, and nobody proves who "
			 "he is");
	else if (certificates_open(&shell->certs, shell->pki_dir, shell->ca_dir) < 0)
		goto out;
	shell->co = coordinator_new();
	if (!shell->co)
		goto out;
	coordinator_set_lease(shell->co, id_draw(), (uint64_t)shell->grace_s * 1000);
	coordinator_set_deadline(shell->co, shell->deadline_s);
	if (keeping_load(&shell->keeping, shell->co, shell->grace_s) < 0) {
		coordinator_free(shell->co);
		goto out;
	}
	if (shell->keeping.dir)
		shell->keeping.agains = agains_new(shell->keeping.dir, again_event, shell);
	uv_loop_init(&shell->loop);
	code = shell_run(shell);
	/* After a failure too: what was opened is closing. */
	uv_run(&shell->loop, UV_RUN_DEFAULT);
	uv_loop_close(&shell->loop);
	agains_free(shell->keeping.agains);
	coordinator_free(shell->co);
out:
	certificates_close(&shell->certs);
	free(shell);
	return code;
}
