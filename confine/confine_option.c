/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon tells a process about its confinement, as one word of its command line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "confine/confine_parts.h"

/* "spaces,rdma,user=UID:GID": each part where it is so; "none" without any. */
void confine_option_print(const struct confine_option *option, char out[CONFINE_OPTION_MAX])
{
	size_t used = 0;

	out[0] = 0;
	if (option->spaces)
		used += (size_t)snprintf(out, CONFINE_OPTION_MAX, "spaces,");
	if (option->rdma)
		used += (size_t)snprintf(out + used, CONFINE_OPTION_MAX - used, "rdma,");
	if (option->user)
		used += (size_t)snprintf(out + used, CONFINE_OPTION_MAX - used, "user=%u:%u,",
					 option->uid, option->gid);
	if (used)
		out[used - 1] = 0;
	else
		strcpy(out, "none");
}

static int id_parse(const char *text, char **end, unsigned *out)
{
	unsigned long value;

	/* strtoul would take a sign or blanks. */
	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, end, 10);
	/* -1 means "no change" to the kernel. */
	if (errno || value >= UINT32_MAX)
		return -EINVAL;
	*out = (unsigned)value;
	return 0;
}

static int part_parse(const char *part, struct confine_option *out)
{
	char *end;

	if (strcmp(part, "none") == 0)
		return 0;
	if (strcmp(part, "spaces") == 0) {
		out->spaces = true;
		return 0;
	}
	if (strcmp(part, "rdma") == 0) {
		out->rdma = true;
		return 0;
	}
	if (strncmp(part, "user=", 5) != 0 || id_parse(part + 5, &end, &out->uid) || *end != ':' ||
	    id_parse(end + 1, &end, &out->gid) || *end)
		return -EINVAL;
	out->user = true;
	return 0;
}

int confine_option_parse(const char *text, struct confine_option *out)
{
	char copy[CONFINE_OPTION_MAX], *rest = copy, *part;
	int err = 0;

	memset(out, 0, sizeof(*out));
	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, text);
	while (!err && (part = strsep(&rest, ",")))
		err = part_parse(part, out);
	return err;
}

bool confine_rdma(const char *text)
{
	struct confine_option option;

	return text && confine_option_parse(text, &option) == 0 && option.rdma;
}
