/* SPDX-License-Identifier: Apache-2.0 */
/* Images in messages, and the SHA-256 that names one. */
#include "control/images.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "control/control.h"

#define READ_BYTES (1u << 20)

bool control_digest_valid(const char *text)
{
	return strlen(text) == CONTROL_DIGEST_TEXT - 1 &&
	       strspn(text, "0123456789abcdef") == CONTROL_DIGEST_TEXT - 1;
}

static int image_get(const json_t *one, struct control_image *image, char *why)
{
	const char *name, *digest;
	int err;

	if ((err = control_get_string(one, "name", &name, why)) ||
	    (err = control_get_string(one, "digest", &digest, why)) ||
	    (err = control_get_u64(one, "bytes", 1, CONTROL_IMAGE_BYTES_MAX, &image->bytes, why)))
		return err;
	if (!control_digest_valid(digest)) {
		snprintf(why, CONTROL_WHY_MAX,
			 "malformed control message: a digest is 64 hexadecimal digits");
		return -PANGEA_ECONTROL;
	}
	snprintf(image->name, sizeof(image->name), "%s", *name ? name : "image");
	control_text_clean(image->name);
	memcpy(image->digest, digest, sizeof(image->digest));
	return 0;
}

int control_images_get(const json_t *msg, struct control_images *out, char *why)
{
	json_t *list, *one;
	size_t i;
	int err;

	memset(out, 0, sizeof(*out));
	if (!json_object_get(msg, "images"))
		return 0;
	err = control_get_array(msg, "images", CONTROL_IMAGES_MAX, &list, why);
	if (err)
		return err;
	json_array_foreach(list, i, one)
	{
		err = image_get(one, &out->list[i], why);
		if (err)
			return err;
		out->count++;
	}
	return 0;
}

json_t *control_images_json(const struct control_images *images)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < images->count && list; i++) {
		const struct control_image *image = &images->list[i];
		json_t *one = json_pack("{s:s, s:s, s:I}", "name", image->name, "digest",
					image->digest, "bytes", (json_int_t)image->bytes);

		if (json_array_append_new(list, one)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* ---- digests ---- */

struct control_digest {
	EVP_MD_CTX *ctx;
};

struct control_digest *control_digest_new(void)
{
	struct control_digest *digest = calloc(1, sizeof(*digest));

	if (!digest)
		return NULL;
	digest->ctx = EVP_MD_CTX_new();
	if (digest->ctx && EVP_DigestInit_ex(digest->ctx, EVP_sha256(), NULL) == 1)
		return digest;
	control_digest_free(digest);
	return NULL;
}

int control_digest_add(struct control_digest *digest, const void *data, size_t len)
{
	return EVP_DigestUpdate(digest->ctx, data, len) == 1 ? 0 : -EIO;
}

int control_digest_end(struct control_digest *digest, char out[CONTROL_DIGEST_TEXT])
{
	uint8_t bytes[CONTROL_DIGEST_BYTES];
	unsigned len = sizeof(bytes);
	int err = EVP_DigestFinal_ex(digest->ctx, bytes, &len) == 1 ? 0 : -EIO;

	for (unsigned i = 0; i < len && !err; i++)
		snprintf(out + (size_t)2 * i, 3, "%02x", bytes[i]);
	control_digest_free(digest);
	return err;
}

void control_digest_free(struct control_digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->ctx);
	free(digest);
}

static int file_digest(struct control_digest *digest, int fd, uint64_t bytes, uint8_t *buf,
		       bool (*tell)(void *arg, uint64_t done), void *arg)
{
	uint64_t done = 0;

	while (done < bytes) {
		size_t want = bytes - done < READ_BYTES ? (size_t)(bytes - done) : READ_BYTES;
		ssize_t n = pread(fd, buf, want, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		if (control_digest_add(digest, buf, (size_t)n))
			return -EIO;
		done += (uint64_t)n;
		if (tell && !tell(arg, done))
			return -ECANCELED;
	}
	return 0;
}

int control_digest_file(int fd, uint64_t bytes, bool (*tell)(void *arg, uint64_t done), void *arg,
			char out[CONTROL_DIGEST_TEXT])
{
	struct control_digest *digest = control_digest_new();
	uint8_t *buf = malloc(READ_BYTES);
	int err = digest && buf ? file_digest(digest, fd, bytes, buf, tell, arg) : -ENOMEM;

	free(buf);
	if (!err)
		return control_digest_end(digest, out);
	control_digest_free(digest);
	return err;
}
