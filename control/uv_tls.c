/* SPDX-License-Identifier: Apache-2.0 */
/* TLS between a control connection's socket and its frames, and what peers are told who get no further. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "control/uv_internal.h"

/* Plain bytes taken at a time: a TLS record. */
#define PLAIN_BYTES 16384u
/* Answers to handshakes and key updates that a stranger may let wait for him. */
#define STRANGER_OUTPUT_MAX (64u << 10)

static const char plain_peer[] =
	"it speaks without TLS, but this coordinator speaks TLS alone: leave out --plaintext and "
	"show "
	"a certificate ('pangea join' gets one), or take a version of pangea that knows TLS";
static const char plain_server[] = "the coordinator speaks without TLS: it was started with "
				   "--plaintext, or it is an old one; say "
				   "--plaintext here, too, if the network between is trusted";

void control_refuse_peer(struct control_conn *conn, enum pki_verdict verdict, const char *why)
{
	if (conn->state >= CONN_FLUSHING)
		return;
	listener_refusal_note(conn, verdict, why);
	control_refuse(conn, -EKEYREJECTED, why);
}

const struct pki_identity *control_peer_identity(const struct control_conn *conn)
{
	return conn->stream && conn->stream->done && conn->stream->verdict == PKI_GOOD
		       ? &conn->stream->peer
		       : NULL;
}

X509 *control_peer_authority(const struct control_conn *conn)
{
	return conn->stream ? conn->stream->joined_ca : NULL;
}

void control_recheck(struct control_conn *conn)
{
	char why[CONTROL_WHY_MAX];

	if (!conn->stream || !conn->stream->done || conn->state >= CONN_FLUSHING ||
	    tls_stream_judge(conn->stream, why) != PKI_REVOKED)
		return;
	listener_refusal_note(conn, PKI_REVOKED, why);
	control_refuse(conn, -EKEYREVOKED, why);
}

/* What TLS has to say to the peer. */
static int output_send(struct control_conn *conn)
{
	uint8_t *data;
	size_t len = tls_stream_output(conn->stream, &data);
	bool stranger = conn->listener && !conn->known;
	size_t limit = stranger ? STRANGER_OUTPUT_MAX : 2 * CONTROL_QUEUE_MAX;

	if (len == 0)
		return 0;
	if (!data)
		return -ENOMEM;
	/* A frame was measured before it was encrypted; this bounds who asks for answers and reads
	 * none of them. */
	if (conn->queued_bytes + len > limit) {
		free(data);
		return -ENOBUFS;
	}
	return conn_raw_send(conn, data, len);
}

int conn_tls_send(struct control_conn *conn, const uint8_t *frame, size_t len)
{
	int err = tls_stream_write(conn->stream, frame, len);

	return err ? err : output_send(conn);
}

void conn_tls_end(struct control_conn *conn)
{
	tls_stream_end(conn->stream);
	/* It is only a farewell: the socket's own end follows. */
	(void)output_send(conn);
}

int conn_tls_begin(struct control_conn *conn)
{
	int done = tls_stream_handshake(conn->stream);

	return done < 0 ? done : output_send(conn);
}

/* The whole way to frames is open. */
static void handshake_done(struct control_conn *conn)
{
	const struct tls_stream *stream = conn->stream;
	int err;

	/* A stranger may want to join: its hello says so. */
	if (stream->verdict != PKI_GOOD && stream->verdict != PKI_STRANGER) {
		control_refuse_peer(conn, stream->verdict, stream->why);
		return;
	}
	err = conn_early_send(conn);
	if (err)
		conn_end(conn, err, error_text(err));
}

static void handshake_failed(struct control_conn *conn)
{
	char why[CONTROL_WHY_MAX];

	listener_refusal_note(conn, conn->stream->verdict, conn->stream->why);
	if (conn->listener || conn->stream->verdict == PKI_HANDSHAKE)
		snprintf(why, sizeof(why), "%s", conn->stream->why);
	else
		snprintf(why, sizeof(why), "the coordinator is not to be trusted: %.300s",
			 conn->stream->why);
	/* The alert that tells the peer is out by then. */
	conn_flush(conn, -EKEYREJECTED, why);
}

static bool handshake_step(struct control_conn *conn)
{
	int done = tls_stream_handshake(conn->stream);
	int err = output_send(conn);

	if (done < 0)
		handshake_failed(conn);
	else if (err)
		conn_end(conn, err, error_text(err));
	else if (done)
		handshake_done(conn);
	return conn->stream->done && (conn->state == CONN_HELLO || conn->state == CONN_OPEN);
}

static void frames_read(struct control_conn *conn)
{
	uint8_t plain[PLAIN_BYTES];
	int n = 0, err;

	while (conn->state == CONN_HELLO || conn->state == CONN_OPEN) {
		n = tls_stream_read(conn->stream, plain, sizeof(plain));
		if (n <= 0)
			break;
		conn_take(conn, plain, (size_t)n);
		explicit_bzero(plain, (size_t)n);
	}
	/* Reading may have made an answer: a key update. */
	err = conn->state < CONN_FLUSHING ? output_send(conn) : 0;
	if (conn->state >= CONN_FLUSHING || (n > 0 && !err))
		return;
	if (n == -EPIPE)
		conn_stream_ended(conn, UV_EOF);
	else if (n < 0)
		conn_end(conn, n, conn->stream->why);
	else if (err)
		conn_end(conn, err, error_text(err));
}

/* The peer gets a sentence in its own language, which an old pangea can show. */
static void plaintext_met(struct control_conn *conn)
{
	if (!conn->listener) {
		conn_end(conn, -EKEYREJECTED, plain_server);
		return;
	}
	listener_refusal_note(conn, PKI_PLAINTEXT, plain_peer);
	tls_stream_free(conn->stream);
	conn->stream = NULL;
	control_refuse(conn, -EKEYREJECTED, plain_peer);
}

void conn_tls_take(struct control_conn *conn, const uint8_t *data, size_t len)
{
	if (!conn->heard && !tls_first_byte(data[0])) {
		plaintext_met(conn);
		return;
	}
	if (tls_stream_feed(conn->stream, data, len) < 0) {
		conn_end(conn, -ENOMEM, error_text(-ENOMEM));
		return;
	}
	if (conn->stream->done || handshake_step(conn))
		frames_read(conn);
}
