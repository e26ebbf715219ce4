/* SPDX-License-Identifier: Apache-2.0 */
/* Included before each file of the core that the search compiles: the core then tells its rows. */
#ifndef TOOLS_SEARCH_ROWS_H
#define TOOLS_SEARCH_ROWS_H

struct protocol_actions;
struct protocol_rule;

void world_row_obeyed(struct protocol_actions *actions, const struct protocol_rule *rule);

#define PROTOCOL_ROW_OBEYED(step, rule) world_row_obeyed((step)->actions, (rule))

#endif
