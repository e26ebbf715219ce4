/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pangea image pull: fetches an image into the folder of disks. Its file has no name until all of it is there, is written
 * down and is what was promised: whatever ends the command, nothing is left behind.
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/image.h"

#define CONNECT_S     30L
#define SILENCE_S     60L /* without a byte */
#define REDIRECTS_MAX 5L
/* How often it is said how far it is: to a terminal, and else. */
#define SAY_MS	    500
#define SAY_SLOW_MS 10000

struct pull {
	int fd;
	uint64_t bytes;
	EVP_MD_CTX *sum;
	int err;	     /* of writing */
	bool terminal, said; /* a line of progress stands there */
	uint64_t next_ns;
};

static int bytes_write(struct pull *pull, const char *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(pull->fd, data + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return EVP_DigestUpdate(pull->sum, data, len) == 1 ? 0 : -EIO;
}

/* curl takes any other number than the length as an end. */
static size_t body_take(char *data, size_t size, size_t count, void *arg)
{
	struct pull *pull = arg;
	size_t len = size * count;

	pull->err = len > IMAGE_UNPACKED_MAX - pull->bytes ? -EFBIG : bytes_write(pull, data, len);
	if (pull->err)
		return len + 1;
	pull->bytes += len;
	return len;
}

static int progress_say(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
			curl_off_t up)
{
	struct pull *pull = arg;
	uint64_t time_ns = clock_now_ns();

	(void)up_total;
	(void)up;
	if (time_ns < pull->next_ns)
		return 0;
	pull->next_ns = time_ns + (pull->terminal ? SAY_MS : SAY_SLOW_MS) * NS_PER_MS;
	if (total > 0)
		fprintf(stderr, "%spangea: %lld of %lld MiB, %lld %%%s", pull->terminal ? "\r" : "",
			(long long)now >> 20, (long long)total >> 20,
			(long long)(now * 100 / total), pull->terminal ? "  " : "\n");
	else
		fprintf(stderr, "%spangea: %lld MiB%s", pull->terminal ? "\r" : "",
			(long long)now >> 20, pull->terminal ? "  " : "\n");
	pull->said = pull->terminal;
	return 0;
}

static bool options_set(CURL *curl, struct pull *pull, const char *url)
{
	return curl_easy_setopt(curl, CURLOPT_URL, url) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "file,http,https") == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_MAXREDIRS, REDIRECTS_MAX) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, SILENCE_S) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, body_take) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_WRITEDATA, pull) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress_say) == CURLE_OK &&
	       curl_easy_setopt(curl, CURLOPT_XFERINFODATA, pull) == CURLE_OK;
}

static int fetch(struct pull *pull, const char *url)
{
	char why[CURL_ERROR_SIZE] = "";
	CURL *curl = curl_global_init(CURL_GLOBAL_DEFAULT) ? NULL : curl_easy_init();
	CURLcode code = CURLE_FAILED_INIT;

	if (curl && options_set(curl, pull, url) &&
	    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why) == CURLE_OK)
		code = curl_easy_perform(curl);
	curl_easy_cleanup(curl);
	curl_global_cleanup();
	if (pull->said)
		fputc('\n', stderr);
	if (code == CURLE_OK && pull->bytes)
		return 0;
	control_text_clean(why);
	if (pull->err)
		cli_say("cannot write what comes: %s", error_text(pull->err));
	else if (code == CURLE_OK)
		cli_say("%s is empty", url);
	else
		cli_say("cannot fetch %s: %s", url, why[0] ? why : curl_easy_strerror(code));
	return EXIT_ERROR;
}

/* Its digest as text; compared with the one that was promised, if one was. */
static int sum_check(struct pull *pull, const char *promised, char out[IMAGE_SHA256_TEXT])
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_DigestFinal_ex(pull->sum, sum, &len) != 1 || len != 32) {
		cli_say("its SHA-256 cannot be computed");
		return EXIT_ERROR;
	}
	for (unsigned i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", sum[i]);
	if (!promised || strcasecmp(promised, out) == 0)
		return 0;
	cli_say("its SHA-256 is %s, not %s: it is thrown away", out, promised);
	return EXIT_IMAGE;
}

/* The file gets its name, unless that is taken. */
static int file_name(const struct pull *pull, int folder, const char *name, const char *dir)
{
	char self[32];
	int err = 0;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", pull->fd);
	if (fsync(pull->fd) < 0 || fchmod(pull->fd, 0600) < 0 ||
	    linkat(AT_FDCWD, self, folder, name, AT_SYMLINK_FOLLOW) < 0 || fsync(folder) < 0)
		err = errno;
	if (!err)
		return 0;
	cli_say("cannot write %s/%s: %s", dir, name, error_text(-err));
	return EXIT_ERROR;
}

static int pull_into(const struct image_options *opts, const char *name, int folder)
{
	struct pull pull = {.terminal = isatty(STDERR_FILENO),
			    .next_ns = clock_now_ns() + NS_PER_S};
	char sum[IMAGE_SHA256_TEXT];
	int code = EXIT_ERROR;

	pull.fd = openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (pull.fd < 0) {
		cli_say("cannot write in %s: %s", opts->dir, error_text(-errno));
		return EXIT_ERROR;
	}
	pull.sum = EVP_MD_CTX_new();
	if (pull.sum && EVP_DigestInit_ex(pull.sum, EVP_sha256(), NULL) == 1)
		code = fetch(&pull, opts->file);
	if (!code)
		code = sum_check(&pull, opts->sha256, sum);
	if (!code)
		code = file_name(&pull, folder, name, opts->dir);
	if (!code)
		printf("%s/%s: %llu bytes, SHA-256 %s\n", opts->dir, name,
		       (unsigned long long)pull.bytes, sum);
	EVP_MD_CTX_free(pull.sum);
	close(pull.fd);
	return code;
}

/* What stands behind the last slash, before a question mark; 0 or -EINVAL. */
static int url_name(const char *url, char name[IMAGE_NAME_MAX + 1])
{
	size_t len = strcspn(url, "?#"), begin = len;

	while (begin && url[begin - 1] != '/')
		begin--;
	if (len - begin > IMAGE_NAME_MAX)
		return -EINVAL;
	memcpy(name, url + begin, len - begin);
	name[len - begin] = 0;
	return image_name_plain(name) ? 0 : -EINVAL;
}

int image_pull(const struct image_options *opts)
{
	char name[IMAGE_NAME_MAX + 1];
	int folder, code;

	if (opts->name)
		snprintf(name, sizeof(name), "%s", opts->name);
	else if (url_name(opts->file, name))
		return cli_usage("pangea image", "the URL ends in no name for a file: say --name");
	folder = open(opts->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0) {
		cli_say("there is no folder %s: %s; make it, or name another with --dir", opts->dir,
			error_text(-errno));
		return EXIT_ERROR;
	}
	if (faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		cli_say("%s/%s is there already: remove it first, or say another --name", opts->dir,
			name);
		code = EXIT_ERROR;
	} else {
		code = pull_into(opts, name, folder);
	}
	close(folder);
	return code;
}
