/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line's connection to the coordinator.
 *
 * Timers: a heartbeat a second, answered by the coordinator, which also notices one that has been
 * silent for SILENCE_MS; the command's own deadline, if it has one; and while a lost connection is
 * made again, the next attempt, every RETRY_MS for at most the grace time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"

#define HEARTBEAT_MS 1000
#define SILENCE_MS   15000
#define RETRY_MS     500

static void client_over(struct client *client)
{
	if (!client->over && client->ops->on_over)
		client->ops->on_over(client);
	client->over = true;
}

void client_finish(struct client *client, int code)
{
	if (client->finished)
		return;
	client_over(client);
	client->finished = true;
	client->code = code;
	control_deadline_cancel(&client->deadline);
	control_deadline_cancel(&client->retry);
	uv_close((uv_handle_t *)&client->heartbeat, NULL);
	if (client->conn)
		control_close(client->conn, "done");
}

static void late(void *arg)
{
	struct client *client = arg;

	client->deadline = NULL;
	client_over(client);
	if (!client->quiet)
		cli_say("the coordinator at %s does not answer", client->address);
	client_finish(client, EXIT_UNREACHABLE);
}

void client_deadline(struct client *client, uint64_t ms)
{
	control_deadline_cancel(&client->deadline);
	client->deadline = control_deadline_start(&client->loop, ms, late, client);
}

static void conn_open(struct control_conn *conn, enum control_role peer)
{
	struct client *client = control_user(conn);

	if (peer != CONTROL_ROLE_COORDINATOR) {
		control_refuse(conn, -PANGEA_EPEERMAGIC, "the peer is no coordinator");
		return;
	}
	client->heard_ns = clock_now_ns();
	client->ops->on_open(client);
}

static void error_take(struct client *client, const json_t *msg)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX];
	const char *reason;
	unsigned code;

	if (control_get_uint(msg, "code", 1, 255, &code, why) < 0 ||
	    control_get_string(msg, "reason", &reason, why) < 0) {
		code = EXIT_ERROR;
		reason = why;
	}
	snprintf(text, sizeof(text), "%s", reason);
	control_text_clean(text);
	client_over(client);
	cli_say("%s", text);
	client_finish(client, (int)code);
}

/* Believed for the authority's signature, and kept for this command and the next; where it cannot be, the old one stays. */
static void revocations_take(struct client *client, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	const char *pem;

	if (client->role != CONTROL_ROLE_CLI || !client->tls ||
	    control_get_string(msg, "crl", &pem, why) < 0)
		return;
	if (pki_member_crl(control_tls_dir(client->tls), control_tls_member(client->tls), pem,
			   why) == -EINVAL)
		cli_say_raw("the coordinator's list of revocations is of no use: %.200s", why);
	control_recheck(client->conn);
}

static void conn_msg(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len)
{
	struct client *client = control_user(conn);

	client->heard_ns = clock_now_ns();
	if (control_is(msg, "revocations")) {
		revocations_take(client, msg);
		return;
	}
	client->answered = true;
	if (client->finished || control_is(msg, "heartbeat"))
		return;
	if (control_is(msg, "error"))
		error_take(client, msg);
	else
		client->ops->on_msg(client, msg, blob, len);
}

/* It never was there for us: says so, and what mends it. */
static int never_open(const struct client *client, int err, const char *why)
{
	if (err == -EKEYREJECTED) {
		if (!client->quiet)
			cli_say("the coordinator at %s: %s", client->address, why);
		return EXIT_REFUSED;
	}
	if (err != -EACCES) {
		if (!client->quiet)
			cli_say("the coordinator at %s cannot be reached: %s", client->address,
				why);
		return EXIT_UNREACHABLE;
	}
	if (!client->quiet)
		cli_say("the coordinator at %s refused: %s%s", client->address, why,
			strcmp(why, "wrong token") == 0 ? "; name the file with its token by "
							  "--token-file or $PANGEA_TOKEN_FILE"
							: "");
	return EXIT_REFUSED;
}

static void retry(void *arg);

void client_back(struct client *client)
{
	client->lost_ns = 0;
}

/* Tries to make the connection again, if the command wants that and there is time left. */
static bool retry_later(struct client *client, const char *why)
{
	uint64_t now_ns = clock_now_ns();

	if (!client->ops->on_retry || !client->ops->on_retry(client, why))
		return false;
	if (!client->lost_ns)
		client->lost_ns = now_ns;
	if (now_ns - client->lost_ns >= client->grace_ms * NS_PER_MS)
		return false;
	control_deadline_cancel(&client->deadline);
	client->heard_ns = 0;
	client->retry = control_deadline_start(&client->loop, RETRY_MS, retry, client);
	return client->retry != NULL;
}

static void conn_closed(struct control_conn *conn, int err, const char *why)
{
	struct client *client = control_user(conn);
	int code = EXIT_UNREACHABLE;

	client->conn = NULL;
	if (client->finished || retry_later(client, why))
		return;
	client_over(client);
	if (!client->answered)
		code = never_open(client, err, why);
	else if (client->ops->on_lost)
		code = client->ops->on_lost(client, why);
	else if (!client->quiet)
		cli_say("lost the coordinator at %s: %s", client->address, why);
	client_finish(client, code);
}

static const struct control_ops conn_ops = {conn_open, conn_msg, conn_closed};

static void heartbeat(uv_timer_t *timer)
{
	struct client *client = timer->data;

	if (!client->conn || !client->heard_ns)
		return; /* connecting: the hello has its own deadline */
	if (clock_now_ns() - client->heard_ns > SILENCE_MS * NS_PER_MS)
		control_abort(client->conn);
	else
		control_sendf(client->conn, "{s:s}", "type", "heartbeat");
}

static int client_connect(struct client *client)
{
	struct control_options opts = {.loop = &client->loop,
				       .ops = &conn_ops,
				       .user = client,
				       .role = client->role,
				       .tls = client->tls,
				       .token = client->target->token};
	int err = control_connect(&opts, client->target->address, &client->conn);

	if (err)
		client->conn = NULL;
	return err;
}

static void retry(void *arg)
{
	struct client *client = arg;
	char why[PKI_WHY_MAX];
	int err;

	client->retry = NULL;
	/* They may have been renewed since; if they are of no use, the old ones are tried. */
	if (client->tls && control_tls_reload(client->tls, why) < 0)
		cli_say_raw("%s", why);
	err = client_connect(client);
	if (err && !retry_later(client, error_text(err)))
		client_finish(client, EXIT_UNREACHABLE);
}

/* Certificates are read for each run: they are small, and may have been renewed. */
static int certificates_load(struct client *client)
{
	char why[PKI_WHY_MAX];
	int err;

	if (client->target->plaintext) {
		if (!client->quiet)
			cli_say("plaintext: this connection to %s is not encrypted",
				client->target->address);
		return 0;
	}
	err = control_tls_new(client->target->pki_dir, PKI_OPERATOR, &client->tls, why);
	if (!err)
		return 0;
	cli_say(err == -ENOENT
			? "%s: 'pangea pki' and 'pangea join' make certificates, --pki says where "
			  "they are; --plaintext goes without"
			: "%s",
		why);
	return EXIT_ERROR;
}

static void client_loop(struct client *client, const struct cli_target *target)
{
	int err;

	client->address = target->address;
	client->over = client->finished = client->answered = false;
	client->heard_ns = client->lost_ns = 0;
	uv_timer_init(&client->loop, &client->heartbeat);
	client->heartbeat.data = client;
	uv_timer_start(&client->heartbeat, heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
	err = client_connect(client);
	if (err) {
		cli_say("cannot connect to %s: %s", target->address, error_text(err));
		client_finish(client, EXIT_UNREACHABLE);
	}
	uv_run(&client->loop, UV_RUN_DEFAULT);
}

int client_run(struct client *client, const struct cli_target *target)
{
	bool joins = client->tls != NULL;
	int code;

	client->target = target;
	if (!joins) {
		client->role = CONTROL_ROLE_CLI;
		code = certificates_load(client);
		if (code) {
			/* What was set up for the loop ends with it. */
			control_deadline_cancel(&client->deadline);
			client_over(client);
			uv_run(&client->loop, UV_RUN_DEFAULT);
			return code;
		}
	}
	client_loop(client, target);
	if (!joins) {
		control_tls_free(client->tls);
		client->tls = NULL;
	}
	return client->code;
}

/* ---- one question, one answer ---- */

struct question {
	json_t *msg;
	const char *answer_type;
	json_t *answer;
};

static void ask_open(struct client *client)
{
	struct question *question = client->user;

	control_send(client->conn, question->msg, NULL, 0);
}

static void ask_msg(struct client *client, json_t *msg, const uint8_t *blob, size_t len)
{
	struct question *question = client->user;

	(void)blob;
	(void)len;
	if (!control_is(msg, question->answer_type))
		return;
	question->answer = json_incref(msg);
	client_finish(client, EXIT_OK);
}

static const struct client_ops ask_ops = {.on_open = ask_open, .on_msg = ask_msg};

int client_ask(const struct cli_target *target, json_t *question, const char *answer_type,
	       uint64_t deadline_ms, json_t **answer, bool quiet)
{
	struct question state = {.msg = question, .answer_type = answer_type};
	struct client client = {.ops = &ask_ops, .user = &state, .quiet = quiet};
	int code;

	uv_loop_init(&client.loop);
	client_deadline(&client, deadline_ms);
	code = client_run(&client, target);
	uv_loop_close(&client.loop);
	if (code == EXIT_OK)
		*answer = state.answer;
	else
		json_decref(state.answer);
	return code;
}

int client_end_code(const json_t *ended, char *text)
{
	char why[CONTROL_WHY_MAX];
	const char *reason;
	unsigned code = EXIT_ERROR;
	bool sound = control_get_string(ended, "reason", &reason, why) == 0 &&
		     control_get_uint(ended, "code", 0, 255, &code, why) == 0;

	snprintf(text, CONTROL_WHY_MAX, "%s", sound ? reason : why);
	control_text_clean(text);
	return sound ? (int)code : EXIT_ERROR;
}

int client_list(struct cli_target *target, const char *type, const char *answer_type,
		json_t **answer)
{
	json_t *question;
	int code = cli_target_resolve(target);

	if (code)
		return code;
	question = json_pack("{s:s}", "type", type);
	code = client_ask(target, question, answer_type, CLI_REPLY_MS, answer, false);
	json_decref(question);
	return code;
}
