/* SPDX-License-Identifier: Apache-2.0 */
/* Hands the keys of a connection to the kernel (Linux's Documentation/networking/tls.rst). */
#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/tls_parts.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/* Of one direction: what both ciphers' structures are filled from. */
struct record_key {
	uint8_t key[32], iv[12];
};

/* HKDF-Expand-Label of at most 32 bytes without context (RFC 8446, 7.1; RFC 5869, 2.3: one block). */
static void label_expand(const uint8_t secret[TLS_SECRET_SIZE], const char *label, uint8_t *out,
			 uint8_t len)
{
	uint8_t info[32] = {0, len, (uint8_t)(6 + strlen(label))}, block[TLS_SECRET_SIZE];
	int used = 3 + snprintf((char *)info + 3, sizeof(info) - 5, "tls13 %s", label);
	const struct pair_part part = {info, (size_t)used + 2};

	info[used + 1] = 1; /* after the empty context: the number of the block */
	pair_hmac(secret, &part, 1, block);
	memcpy(out, block, len);
	pair_wipe(block, sizeof(block));
}

static int aes_give(int fd, int direction, const struct record_key *key)
{
	struct tls12_crypto_info_aes_gcm_128 info = {
		.info = {.version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128}};
	int err;

	memcpy(info.key, key->key, sizeof(info.key));
	memcpy(info.salt, key->iv, sizeof(info.salt));
	memcpy(info.iv, key->iv + sizeof(info.salt), sizeof(info.iv));
	err = setsockopt(fd, SOL_TLS, direction, &info, sizeof(info)) < 0 ? -errno : 0;
	pair_wipe(&info, sizeof(info));
	return err;
}

static int chacha_give(int fd, int direction, const struct record_key *key)
{
	struct tls12_crypto_info_chacha20_poly1305 info = {
		.info = {.version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_CHACHA20_POLY1305}};
	int err;

	memcpy(info.key, key->key, sizeof(info.key));
	memcpy(info.iv, key->iv, sizeof(info.iv));
	err = setsockopt(fd, SOL_TLS, direction, &info, sizeof(info)) < 0 ? -errno : 0;
	pair_wipe(&info, sizeof(info));
	return err;
}

/* No record has gone either way: both begin with number 0. */
static int direction_give(struct tls_link *link, int fd, int direction, unsigned secret)
{
	bool aes = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(link->ssl)) == 0x1301;
	struct record_key key;
	int err;

	label_expand(link->secrets[secret], "key", key.key, aes ? 16 : 32);
	label_expand(link->secrets[secret], "iv", key.iv, sizeof(key.iv));
	err = (aes ? aes_give : chacha_give)(fd, direction, &key);
	pair_wipe(&key, sizeof(key));
	return err;
}

static int keys_give(struct tls_link *link, int fd)
{
	unsigned ours = link->called ? 0 : 1;
	int err;

	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0) {
		tls_kernel_refuse(link->context, errno == ENOENT ? "this kernel has no tls module"
								 : strerror(errno));
		return -ENOENT;
	}
	err = direction_give(link, fd, TLS_TX, ours);
	if (!err && direction_give(link, fd, TLS_RX, 1 - ours) == 0)
		return 0;
	tls_kernel_refuse(link->context, err == -ENOENT
						 ? "this kernel has no module of the cipher"
						 : "this kernel's tls module refused the keys");
	/* Without keys the socket still is as it was; with one of two it is neither. */
	return err ? -EOPNOTSUPP : -EPROTO;
}

int tls_kernel_take(struct tls_link *link, int fd)
{
	int err = -EOPNOTSUPP;

	if (link->context->kernel && link->secret_have[0] && link->secret_have[1])
		err = keys_give(link, fd);
	pair_wipe(link->secrets, sizeof(link->secrets));
	return err;
}
