/* SPDX-License-Identifier: Apache-2.0 */
/* What people write on command lines and in files: names, sizes, numbers, addresses, tokens. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/control.h"

bool control_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX_LEN || name[0] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

void control_host_name(char name[NAME_MAX_LEN + 1])
{
	char host[256] = "";
	size_t used = 0;

	gethostname(host, sizeof(host) - 1);
	for (const char *p = host; *p && *p != '.' && used < NAME_MAX_LEN; p++)
		name[used++] = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
	name[used] = 0;
	if (!control_name_valid(name))
		snprintf(name, NAME_MAX_LEN + 1, "node");
}

/* Digits only: no sign, no space, no base prefix. */
static int decimal_parse(const char *text, const char **end, uint64_t *out)
{
	uint64_t value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			return -ERANGE;
	}
	if (p == text)
		return -EINVAL;
	*end = p;
	*out = value;
	return 0;
}

int control_uint_parse(const char *text, unsigned min, unsigned max, unsigned *out)
{
	const char *end;
	uint64_t value;
	int err = decimal_parse(text, &end, &value);

	if (err)
		return err;
	if (*end)
		return -EINVAL;
	if (value < min || value > max)
		return -ERANGE;
	*out = (unsigned)value;
	return 0;
}

int control_size_parse(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *end, *unit;
	unsigned shift = 0;
	uint64_t value;
	int err = decimal_parse(text, &end, &value);

	if (err)
		return err;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit)
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
		if (*end && strcmp(end, "B") != 0 && strcmp(end, "iB") != 0)
			return -EINVAL;
	}
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = value << shift;
	return 0;
}

void control_size_format(uint64_t bytes, char *out, size_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	unsigned unit = 0;

	while (unit < 4 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(out, size, "%llu %s", (unsigned long long)bytes, units[unit]);
}

int control_address_parse(const char *text, struct sockaddr_storage *out)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN];
	size_t len;
	unsigned port;

	if (!colon || control_uint_parse(colon + 1, 0, 65535, &port) < 0)
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	len = (size_t)(colon - text);
	bool six = len >= 2 && text[0] == '[' && text[len - 1] == ']';
	if (six) {
		text++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = 0;
	if (six) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1 ? 0 : -EINVAL;
	}
	in4->sin_family = AF_INET;
	in4->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, host, &in4->sin_addr) == 1 ? 0 : -EINVAL;
}

/* Names are letters, digits, '-' and '.'; what is between brackets must be an IPv6 address. */
static bool host_valid(const char *host)
{
	size_t len = strlen(host);

	return len && len < CONTROL_HOST_MAX && host[0] != '-' && host[0] != '.' &&
	       strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") ==
		       len;
}

int control_address_split(const char *text, char host[CONTROL_HOST_MAX], char port[6])
{
	const char *colon = strrchr(text, ':');
	struct sockaddr_storage addr;
	unsigned number;

	if (!colon || (size_t)(colon - text) >= CONTROL_HOST_MAX ||
	    control_uint_parse(colon + 1, 0, 65535, &number) < 0)
		return -EINVAL;
	snprintf(host, CONTROL_HOST_MAX, "%.*s", (int)(colon - text), text);
	snprintf(port, 6, "%u", number);
	if (host[0] != '[')
		return host_valid(host) ? 0 : -EINVAL;
	if (control_address_parse(text, &addr) < 0)
		return -EINVAL;
	host[strlen(host) - 1] = 0;
	memmove(host, host + 1, strlen(host));
	return 0;
}

int control_address_resolve(const char *text, struct sockaddr_storage *out)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	char host[CONTROL_HOST_MAX], port[6];
	struct addrinfo *list;

	if (control_address_parse(text, out) == 0)
		return 0;
	if (control_address_split(text, host, port) < 0)
		return -EINVAL;
	if (getaddrinfo(host, port, &hints, &list) != 0)
		return -ENOENT;
	memset(out, 0, sizeof(*out));
	memcpy(out, list->ai_addr, list->ai_addrlen);
	freeaddrinfo(list);
	return 0;
}

bool control_address_loopback(const struct sockaddr_storage *addr)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)addr;

	if (addr->ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
	return ntohl(in4->sin_addr.s_addr) >> 24 == 127;
}

void control_address_format(const struct sockaddr *addr, char *out, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(out, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		const struct sockaddr_in *in4 = (const struct sockaddr_in *)addr;
		inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
		snprintf(out, size, "%s:%u", host, ntohs(in4->sin_port));
	}
}

void control_text_clean(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}

bool control_device_valid(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-.";
	size_t len = strlen(name);

	/* It becomes part of a path. */
	return len && len < CONTROL_DEVICE_MAX && strspn(name, allowed) == len && name[0] != '.';
}

int control_token_read(const char *path, char token[CONTROL_TOKEN_MAX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	ssize_t n;
	int err = 0;

	if (fd < 0)
		return -errno;
	memset(token, 0, CONTROL_TOKEN_MAX);
	if (fstat(fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EINVAL;
	else if (st.st_mode & 077)
		err = -EPERM;
	else if ((n = read(fd, token, CONTROL_TOKEN_MAX)) < 0)
		err = -errno;
	else if (n == CONTROL_TOKEN_MAX)
		err = -EINVAL;
	close(fd);
	token[CONTROL_TOKEN_MAX - 1] = 0;
	token[strcspn(token, "\r\n")] = 0;
	if (!err && !token[0])
		err = -EINVAL;
	return err;
}
