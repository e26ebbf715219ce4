/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the way to an encrypted connection: what a stranger sends instead of a handshake, to who was
 * called and to who calls; and the names of keys. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "transport/tls_parts.h"

static const uint8_t key[PAIR_KEY_SIZE] = {1, 2, 3};
static const struct tls_ends ends = {.vm = 0x1234, .epoch = 1, .caller = 1, .callee = 0};

static const uint8_t *key_of(void *ctx, const struct tls_ends *named, char *why)
{
	(void)ctx;
	strcpy(why, "not this one");
	return named->vm == ends.vm && named->caller == ends.caller ? key : NULL;
}

/* Only what is printed for its ends is a name. */
static void name_read(const uint8_t *data, size_t size)
{
	struct tls_ends named = {0};
	char again[TLS_NAME_MAX];

	if (!tls_name_parse(data, size, &named))
		return;
	tls_name_print(&named, again);
	invariant(strlen(again) == size && memcmp(again, data, size) == 0);
}

/* Says these bytes to one side of a handshake, which must end or ask for more, and never succeed: for
 * its nonces are new. */
static void handshake_with(struct tls_link *link, const uint8_t *data, size_t size)
{
	char why[TLS_WHY_MAX] = "";
	int fds[2], err = -EAGAIN;

	invariant(link && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	/* In two pieces, as a network may. */
	for (unsigned i = 0; i < 2 && err == -EAGAIN; i++) {
		size_t from = i ? size / 2 : 0, to = i ? size : size / 2;

		(void)!send(fds[1], data + from, to - from, MSG_DONTWAIT | MSG_NOSIGNAL);
		err = tls_handshake(link, fds[0], why);
	}
	invariant(err < 0);
	invariant(err == -EAGAIN || why[0]);
	close(fds[0]);
	close(fds[1]);
	tls_link_destroy(link);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct tls_callee callee = {.ctx = NULL, .key = key_of};
	static struct tls_context *context;

	if (!context)
		invariant(tls_context_create(&context) == 0);
	if (size == 0)
		return 0;
	name_read(data + 1, size - 1);
	handshake_with(data[0] % 2 ? tls_call(context, &ends, key) : tls_answer(context, &callee),
		       data + 1, size - 1);
	return 0;
}
