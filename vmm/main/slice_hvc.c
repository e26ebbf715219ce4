/* SPDX-License-Identifier: Apache-2.0 */
/* The VM's second console, hvc0: there if the kernel's command line names it, and then what is typed may be for it. */
#include <string.h>

#include "vmm/main/slice.h"
#include "vmm/virtio/virtio_console.h"

/* Takes the next of the kernel's words from *at; those behind "--" are init's. False: there is none. */
static bool word_next(const char **at, const char **word, size_t *len)
{
	*at += strspn(*at, " ");
	*word = *at;
	*len = strcspn(*at, " ");
	*at += *len;
	return *len > 0 && !(*len == 2 && strncmp(*word, "--", 2) == 0);
}

static bool begins(const char *word, size_t len, const char *with)
{
	return len >= strlen(with) && strncmp(word, with, strlen(with)) == 0;
}

static bool names_hvc0(const char *word, size_t len)
{
	size_t name = strlen("console=hvc0");

	return begins(word, len, "console=hvc0") && (len == name || word[name] == ',');
}

bool slice_hvc_wanted(const struct slice_config *c)
{
	const char *at = c->append, *word;
	size_t len;

	if (c->self != 0 || c->micro)
		return false;
	while (word_next(&at, &word, &len))
		if (names_hvc0(word, len))
			return true;
	return false;
}

/* /dev/console is the last one that is named (Linux, Documentation/admin-guide/serial-console.rst). */
static bool hvc_is_last(const struct slice_config *c)
{
	const char *at = c->append, *word;
	bool last = false;
	size_t len;

	while (word_next(&at, &word, &len))
		if (begins(word, len, "console="))
			last = names_hvc0(word, len);
	return last;
}

/* On the device's thread. The machine was made before there was one. */
static void hvc_output(void *ctx, const uint8_t *bytes, size_t len)
{
	struct slice *s = ctx;

	machine_console_watch(s->machine, bytes, len);
	slice_console_output(s, bytes, len);
}

static void hvc_input_room(void *ctx)
{
	struct slice *s = ctx;

	uv_async_send(&s->wake);
}

int slice_hvc_make(struct slice *s, struct virtio_device *out)
{
	const struct virtio_console_config config = {
		.name = "hvc0", .ctx = s, .output = hvc_output, .input_room = hvc_input_room};
	struct virtio_console *console;
	int err = virtio_console_create(&config, out, &console);

	if (!err && hvc_is_last(&s->config))
		s->hvc = console;
	return err;
}

size_t slice_hvc_input(struct slice *s, const uint8_t *bytes, size_t len)
{
	return virtio_console_input(s->hvc, bytes, len);
}
