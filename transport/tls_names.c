/* SPDX-License-Identifier: Apache-2.0 */
/* The names of keys in TLS: whose connection a key is for. No I/O. */
#include <stdio.h>
#include <string.h>

#include "transport/tls_parts.h"

void tls_name_print(const struct tls_ends *ends, char name[TLS_NAME_MAX])
{
	snprintf(name, TLS_NAME_MAX, "pangea vm=%016llx epoch=%u caller=%u callee=%u",
		 (unsigned long long)ends->vm, ends->epoch, ends->caller, ends->callee);
}

/* Only what tls_name_print would print is a name: what was read is printed again and compared. */
bool tls_name_parse(const unsigned char *name, size_t len, struct tls_ends *ends)
{
	char text[TLS_NAME_MAX], again[TLS_NAME_MAX];
	unsigned long long vm;

	if (len >= sizeof(text) || memchr(name, 0, len))
		return false;
	memcpy(text, name, len);
	text[len] = '\0';
	if (sscanf(text, "pangea vm=%16llx epoch=%10u caller=%5u callee=%5u", &vm, &ends->epoch,
		   &ends->caller, &ends->callee) != 4)
		return false;
	ends->vm = vm;
	tls_name_print(ends, again);
	return strcmp(text, again) == 0;
}
