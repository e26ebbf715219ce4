/* SPDX-License-Identifier: Apache-2.0 */
/* --image of `pangea run`: the files and their digests, and sending one to nodes that lack it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/run.h"

/* How far it has come is said this often, and not before it has taken that long. */
#define PROGRESS_MS 2000

int run_image_option(struct run_options *opts, const char *value, const char *command)
{
	if (opts->images == CONTROL_IMAGES_MAX)
		return cli_usage(command, "--image is there %d times at most", CONTROL_IMAGES_MAX);
	opts->image[opts->images++] = value;
	return -1;
}

/* ---- progress ---- */

struct progress {
	const char *doing, *name;
	uint64_t bytes, said_ns;
};

static void progress_begin(struct progress *p, const char *doing, const struct control_image *image)
{
	*p = (struct progress){doing, image->name, image->bytes, clock_now_ns()};
}

static bool progress_say(void *arg, uint64_t done)
{
	struct progress *p = arg;
	uint64_t now_ns = clock_now_ns();

	if (now_ns - p->said_ns < PROGRESS_MS * NS_PER_MS || done == p->bytes)
		return true;
	p->said_ns = now_ns;
	cli_say("%s image %s: %u %% of %llu MiB", p->doing, p->name,
		(unsigned)(done * 100 / p->bytes), (unsigned long long)p->bytes >> 20);
	return true;
}

/* ---- opening ---- */

static int image_open(struct run_image *one, const char *path, struct control_image *what)
{
	const char *name = strrchr(path, '/');
	struct stat st;

	one->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (one->fd < 0) {
		cli_say("cannot open the image %s: %s", path, error_text(errno));
		return EXIT_IMAGE;
	}
	if (fstat(one->fd, &st) < 0 || !S_ISREG(st.st_mode))
		cli_say("the image %s is no regular file", path);
	else if (st.st_size == 0)
		cli_say("the image %s is empty", path);
	else if ((uint64_t)st.st_size > CONTROL_IMAGE_BYTES_MAX)
		cli_say("the image %s is larger than 64 GiB", path);
	else {
		snprintf(what->name, sizeof(what->name), "%.63s", name ? name + 1 : path);
		control_text_clean(what->name);
		what->bytes = (uint64_t)st.st_size;
		return 0;
	}
	return EXIT_IMAGE;
}

static int image_name(struct run_image *one, struct control_image *what)
{
	struct progress progress;
	int err;

	progress_begin(&progress, "reading", what);
	err = control_digest_file(one->fd, what->bytes, progress_say, &progress, what->digest);
	if (!err)
		return 0;
	cli_say("cannot read the image %s: %s", what->name, error_text(err));
	return EXIT_IMAGE;
}

int run_images_open(struct run_images *images, const struct run_options *opts)
{
	int code = 0;

	*images = (struct run_images){0};
	for (unsigned i = 0; i < opts->images && !code; i++) {
		images->list.count++;
		code = image_open(&images->one[i], opts->image[i], &images->list.list[i]);
		if (!code)
			code = image_name(&images->one[i], &images->list.list[i]);
	}
	if (code)
		run_images_close(images);
	return code;
}

void run_images_close(struct run_images *images)
{
	for (unsigned i = 0; i < images->list.count; i++)
		if (images->one[i].fd >= 0)
			close(images->one[i].fd);
	images->list.count = 0;
}

void run_images_renew(struct run_images *images)
{
	for (unsigned i = 0; i < images->list.count; i++) {
		images->one[i].asked = false;
		images->one[i].sent = 0;
	}
}

/* ---- sending ---- */

bool run_images_asked(struct run_images *images, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	unsigned image, nodes;

	if (!images->list.count ||
	    control_get_uint(msg, "image", 0, images->list.count - 1, &image, why) ||
	    control_get_uint(msg, "nodes", 1, SLICES_MAX, &nodes, why))
		return false;
	images->one[image].asked = true;
	images->one[image].said_ns = clock_now_ns();
	cli_say("image %s (%llu MiB) goes to %u node%s", images->list.list[image].name,
		(unsigned long long)images->list.list[image].bytes >> 20, nodes,
		nodes == 1 ? "" : "s");
	return true;
}

static int piece_send(struct run_image *one, const struct control_image *what, unsigned index,
		      struct control_conn *conn, size_t want)
{
	uint8_t *buf = malloc(want);
	ssize_t n = buf ? pread(one->fd, buf, want, (off_t)one->sent) : -1;
	int err = -EIO;

	if (n == (ssize_t)want) {
		json_t *msg = json_pack("{s:s, s:i, s:I}", "type", "image-chunk", "image",
					(int)index, "offset", (json_int_t)one->sent);

		err = control_send(conn, msg, buf, want);
		json_decref(msg);
		one->sent += want;
	}
	free(buf);
	if (!err || err == -EPIPE) /* a lost connection has its own sentence */
		return 0;
	cli_say("cannot send the image %s: %s", what->name,
		n < 0		    ? error_text(-errno)
		: n < (ssize_t)want ? "it has become shorter"
				    : error_text(err));
	return EXIT_IMAGE;
}

int run_images_continue(struct run_images *images, struct control_conn *conn, unsigned *unanswered)
{
	for (unsigned i = 0; i < images->list.count; i++) {
		struct run_image *one = &images->one[i];
		const struct control_image *what = &images->list.list[i];
		struct progress progress = {"sending", what->name, what->bytes, one->said_ns};

		while (one->asked && one->sent < what->bytes) {
			uint64_t left = what->bytes - one->sent;
			unsigned want =
				left < CONTROL_UPLOAD_PIECE ? (unsigned)left : CONTROL_UPLOAD_PIECE;
			int code;

			if (want > CONTROL_UPLOAD_WINDOW - *unanswered)
				break;
			code = piece_send(one, what, i, conn, want);
			if (code)
				return code;
			*unanswered += want;
		}
		if (one->asked)
			progress_say(&progress, one->sent);
		one->said_ns = progress.said_ns;
	}
	return 0;
}
