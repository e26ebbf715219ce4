/* SPDX-License-Identifier: Apache-2.0 */
/* Records in user space: one system call for a record's bytes, OpenSSL between them and the caller's. */
#include "transport/tls_link.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "transport/tls_parts.h"

bool tls_unsent(const struct tls_link *link)
{
	return link->out.at < link->out.end;
}

int tls_flush(struct tls_link *link, int fd)
{
	struct tls_bytes *out = &link->out;

	while (out->at < out->end) {
		ssize_t n = send(fd, out->bytes + out->at, out->end - out->at,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		out->at += (unsigned)n;
	}
	out->at = out->end = 0;
	return 0;
}

/* What fits into a record, behind one another: OpenSSL takes no vectors. */
static size_t plain_gather(struct tls_link *link, const struct iovec *iov, unsigned count)
{
	size_t have = 0;

	for (unsigned i = 0; i < count && have < TLS_PLAIN_MAX; i++) {
		size_t room = TLS_PLAIN_MAX - have;
		size_t take = iov[i].iov_len < room ? iov[i].iov_len : room;

		memcpy(link->plain + have, iov[i].iov_base, take);
		have += take;
	}
	return have;
}

void tls_rekey_allow(struct tls_link *link, uint64_t records)
{
	link->rekey_records = records;
}

/* The other direction is the other side's affair. */
static bool record_count(struct tls_link *link)
{
	if (!link->rekey_records || ++link->records <= link->rekey_records)
		return true;
	link->records = 1;
	/* It goes with the next record. */
	return SSL_key_update(link->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1;
}

ssize_t tls_write(struct tls_link *link, int fd, const struct iovec *iov, unsigned count)
{
	size_t len, put = 0;
	int err = tls_flush(link, fd);

	if (err)
		return err;
	len = plain_gather(link, iov, count);
	ERR_clear_error();
	if (!record_count(link) || SSL_write_ex(link->ssl, link->plain, len, &put) != 1 ||
	    put != len) {
		ERR_clear_error();
		return -EBADMSG;
	}
	err = tls_flush(link, fd);
	/* What the socket did not take is ours to send; the caller is done with it. */
	return err && err != -EAGAIN ? err : (ssize_t)len;
}

/* Fills what OpenSSL reads from: how much came; 0: the end; or a negative errno. */
static ssize_t bytes_receive(struct tls_link *link, int fd, bool *drained)
{
	struct tls_bytes *in = &link->in;
	size_t room;
	ssize_t n;

	if (in->at == in->end)
		in->at = in->end = 0;
	/* OpenSSL takes what there is into its own buffer, so there is room whenever it wants more. */
	room = sizeof(in->bytes) - in->end;
	do {
		n = recv(fd, in->bytes + in->end, room, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	in->end += (unsigned)n;
	*drained = (size_t)n < room;
	return n;
}

/* Decrypted bytes to `to`: 1, and *got says how many; 0: there are none yet; -EBADMSG. */
static int plain_take(struct tls_link *link, void *to, size_t room, size_t *got)
{
	int err;

	if (SSL_read_ex(link->ssl, to, room, got) == 1)
		return 1;
	err = SSL_get_error(link->ssl, 0);
	ERR_clear_error();
	return err == SSL_ERROR_WANT_READ ? 0 : -EBADMSG;
}

/*
 * As much as there is for one place; *drained: the socket is known to be empty. The bytes so far, or,
 * if there are none, 0 at the end of the connection, or a negative errno.
 */
static ssize_t place_fill(struct tls_link *link, int fd, const struct iovec *place, bool *drained)
{
	size_t have = 0;

	while (have < place->iov_len) {
		size_t got = 0;
		int took = plain_take(link, (uint8_t *)place->iov_base + have,
				      place->iov_len - have, &got);
		ssize_t n;

		have += got;
		if (took > 0)
			continue;
		n = took < 0 ? took : *drained ? -EAGAIN : bytes_receive(link, fd, drained);
		if (n <= 0)
			return have ? (ssize_t)have : n;
	}
	return (ssize_t)have;
}

ssize_t tls_read(struct tls_link *link, int fd, const struct iovec *iov, int count, bool more)
{
	bool drained = !more;
	ssize_t total = 0;

	ERR_clear_error();
	for (int i = 0; i < count; i++) {
		ssize_t n = place_fill(link, fd, &iov[i], &drained);

		if (n <= 0)
			return total ? total : n;
		total += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return total;
}
