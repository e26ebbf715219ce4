/* SPDX-License-Identifier: Apache-2.0 */
/* Names, sizes, numbers, addresses and tokens as people write them. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/control.h"

static void size_is(const char *text, int err, uint64_t want)
{
	uint64_t bytes = 0;

	cr_expect_eq(control_size_parse(text, &bytes), err, "%s", text);
	cr_expect_eq(bytes, want, "%s", text);
}

Test(text, sizes)
{
	size_is("0", 0, 0);
	size_is("4096", 0, 4096);
	size_is("512K", 0, 512 << 10);
	size_is("512M", 0, 512 << 20);
	size_is("512m", 0, 512 << 20);
	size_is("512MiB", 0, 512 << 20);
	size_is("512MB", 0, 512 << 20);
	size_is("1G", 0, 1 << 30);
	size_is("2T", 0, UINT64_C(2) << 40);
	size_is("18446744073709551615", 0, UINT64_MAX);
	size_is("18446744073709551616", -ERANGE, 0);
	size_is("16777216T", -ERANGE, 0);
	size_is("", -EINVAL, 0);
	size_is("G", -EINVAL, 0);
	size_is("-1G", -EINVAL, 0);
	size_is("+1G", -EINVAL, 0);
	size_is(" 1G", -EINVAL, 0);
	size_is("1.5G", -EINVAL, 0);
	size_is("1GG", -EINVAL, 0);
	size_is("1P", -EINVAL, 0);
	size_is("0x10", -EINVAL, 0);
}

static void size_says(uint64_t bytes, const char *want)
{
	char text[32];

	control_size_format(bytes, text, sizeof(text));
	cr_expect_str_eq(text, want);
}

Test(text, sizes_out)
{
	size_says(0, "0 B");
	size_says(4095, "4095 B");
	size_says(1 << 30, "1 GiB");
	size_says(1536 << 20, "1536 MiB");
	size_says(UINT64_C(4) << 50, "4096 TiB");
}

Test(text, names)
{
	char name[66];

	cr_expect(control_name_valid("a"));
	cr_expect(control_name_valid("node-0"));
	cr_expect_not(control_name_valid(""));
	cr_expect_not(control_name_valid("-a"));
	cr_expect_not(control_name_valid("A"));
	cr_expect_not(control_name_valid("a/b"));
	cr_expect_not(control_name_valid(".."));
	cr_expect_not(control_name_valid("a b"));
	memset(name, 'a', sizeof(name));
	name[63] = 0;
	cr_expect(control_name_valid(name));
	name[63] = 'a';
	name[64] = 0;
	cr_expect_not(control_name_valid(name));
}

Test(text, numbers)
{
	unsigned n = 0;

	cr_expect_eq(control_uint_parse("17", 1, 64, &n), 0);
	cr_expect_eq(n, 17);
	cr_expect_eq(control_uint_parse("65", 1, 64, &n), -ERANGE);
	cr_expect_eq(control_uint_parse("0", 1, 64, &n), -ERANGE);
	cr_expect_eq(control_uint_parse("4x", 1, 64, &n), -EINVAL);
	cr_expect_eq(control_uint_parse("", 1, 64, &n), -EINVAL);
	cr_expect_eq(control_uint_parse("-1", 0, 64, &n), -EINVAL);
}

static void address_round(const char *text)
{
	struct sockaddr_storage addr;
	char out[64];

	cr_assert_eq(control_address_parse(text, &addr), 0, "%s", text);
	control_address_format((struct sockaddr *)&addr, out, sizeof(out));
	cr_expect_str_eq(out, text);
}

Test(text, addresses)
{
	static const char *const bad[] = {"",	       "127.0.0.1",   "127.0.0.1:",    ":80",
					  "host:80",   "127.0.0.1:x", "1.2.3.4:65536", "::1:80",
					  "[::1]",     "[::1:80",     "[]:80",	       "1.2.3:80",
					  "1.2.3.4:-1"};
	struct sockaddr_storage addr;

	address_round("127.0.0.1:7420");
	address_round("[::1]:80");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(control_address_parse(bad[i], &addr), -EINVAL, "%s", bad[i]);
}

static int token_try(const char *text, mode_t mode, char token[CONTROL_TOKEN_MAX])
{
	char path[] = "/tmp/pangea-token-test-XXXXXX";
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	fchmod(fd, mode);
	close(fd);
	int err = control_token_read(path, token);
	unlink(path);
	return err;
}

Test(text, tokens)
{
	char token[CONTROL_TOKEN_MAX], big[CONTROL_TOKEN_MAX + 1];

	cr_expect_eq(token_try("abc\n", 0600, token), 0);
	cr_expect_str_eq(token, "abc");
	cr_expect_eq(token_try("abc", 0644, token), -EPERM);
	cr_expect_eq(token_try("\n", 0600, token), -EINVAL);
	cr_expect_eq(token_try("", 0600, token), -EINVAL);
	memset(big, 'a', sizeof(big));
	big[sizeof(big) - 1] = 0;
	cr_expect_eq(token_try(big, 0600, token), -EINVAL);
	cr_expect_eq(control_token_read("/dev/zero", token), -EINVAL);
	cr_expect_eq(control_token_read("/nonexistent/token", token), -ENOENT);
}

static void split(const char *text, const char *host, const char *port)
{
	char got_host[CONTROL_HOST_MAX], got_port[6];

	cr_assert_eq(control_address_split(text, got_host, got_port), host ? 0 : -EINVAL, "%s",
		     text);
	if (host) {
		cr_expect_str_eq(got_host, host);
		cr_expect_str_eq(got_port, port);
	}
}

Test(text, addresses_split)
{
	split("localhost:7420", "localhost", "7420");
	split("node-1.example.org:1", "node-1.example.org", "1");
	split("192.0.2.1:65535", "192.0.2.1", "65535");
	split("[2001:db8::1]:7420", "2001:db8::1", "7420");
	split("[localhost]:7420", NULL, NULL);
	split("::1:7420", NULL, NULL);
	split("localhost", NULL, NULL);
	split(":7420", NULL, NULL);
	split("-x:7420", NULL, NULL);
	split("a b:7420", NULL, NULL);
	split("host:65536", NULL, NULL);
}

static bool loopback(const char *text)
{
	struct sockaddr_storage addr;

	cr_assert_eq(control_address_resolve(text, &addr), 0, "%s", text);
	return control_address_loopback(&addr);
}

Test(text, loopback_addresses)
{
	cr_expect(loopback("127.0.0.1:1"));
	cr_expect(loopback("127.255.0.9:1"));
	cr_expect(loopback("[::1]:1"));
	cr_expect(loopback("[::ffff:127.0.0.1]:1"));
	cr_expect_not(loopback("0.0.0.0:1"));
	cr_expect_not(loopback("[::]:1"));
	cr_expect_not(loopback("192.0.2.1:1"));
	cr_expect_not(loopback("[::ffff:192.0.2.1]:1"));
}
