/* SPDX-License-Identifier: Apache-2.0 */
/* The small printf behind print and fail. */
#include "guests/micro/lib/kernel.h"

struct output {
	char *text;
	size_t size, used;
};

struct spec {
	bool left, zero, is_long;
	unsigned width;
};

static void put(struct output *o, char c)
{
	if (o->used + 1 < o->size)
		o->text[o->used++] = c;
}

static void put_padded(struct output *o, const struct spec *s, const char *text, size_t len)
{
	for (size_t i = len; !s->left && i < s->width; i++)
		put(o, s->zero ? '0' : ' ');
	for (size_t i = 0; i < len; i++)
		put(o, text[i]);
	for (size_t i = len; s->left && i < s->width; i++)
		put(o, ' ');
}

static void put_number(struct output *o, const struct spec *s, uint64_t value, unsigned base,
		       bool negative)
{
	char digits[24];
	size_t at = sizeof(digits);

	do {
		digits[--at] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	if (negative)
		digits[--at] = '-';
	put_padded(o, s, digits + at, sizeof(digits) - at);
}

static const char *spec_parse(const char *fmt, struct spec *s)
{
	*s = (struct spec){0};
	for (;; fmt++) {
		if (*fmt == '-')
			s->left = true;
		else if (*fmt == '0')
			s->zero = true;
		else
			break;
	}
	while (*fmt >= '0' && *fmt <= '9')
		s->width = s->width * 10 + (unsigned)(*fmt++ - '0');
	while (*fmt == 'l' || *fmt == 'z') {
		s->is_long = true;
		fmt++;
	}
	return fmt;
}

static void put_signed(struct output *o, const struct spec *s, int64_t value)
{
	put_number(o, s, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, value < 0);
}

size_t text_format(char *out, size_t size, const char *fmt, va_list ap)
{
	struct output o = {out, size, 0};
	struct spec s;

	for (; *fmt; fmt++) {
		const char *text;
		char c;

		if (*fmt != '%') {
			put(&o, *fmt);
			continue;
		}
		fmt = spec_parse(fmt + 1, &s);
		switch (*fmt) {
		case 's':
			text = va_arg(ap, const char *);
			put_padded(&o, &s, text, strlen(text));
			break;
		case 'c':
			c = (char)va_arg(ap, int);
			put_padded(&o, &s, &c, 1);
			break;
		case 'd':
			put_signed(&o, &s, s.is_long ? va_arg(ap, int64_t) : va_arg(ap, int));
			break;
		case 'u':
		case 'x':
			put_number(&o, &s, s.is_long ? va_arg(ap, uint64_t) : va_arg(ap, unsigned),
				   *fmt == 'x' ? 16 : 10, false);
			break;
		default:
			put(&o, *fmt);
		}
	}
	o.text[o.used] = '\0';
	return o.used;
}
