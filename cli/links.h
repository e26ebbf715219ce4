/* SPDX-License-Identifier: Apache-2.0 */
/* What `pangea vms` says of the links between a VM's slices. */
#ifndef CLI_LINKS_H
#define CLI_LINKS_H

#include <jansson.h>

#define LINKS_WORDS_MAX 40
#define LINKS_RTT_MAX	48

/* What carries the messages between these slices, as far as they have told: words joined by '+'; "-": nothing known. */
void links_words(const json_t *slices, char out[LINKS_WORDS_MAX]);
/* The measured round trips of all pairs, "15 us" or "15-70 us"; "-": none is known. */
void links_rtt(const json_t *slices, char out[LINKS_RTT_MAX]);
/* A line for each pair. */
void links_pairs_print(const json_t *slices);

#endif
