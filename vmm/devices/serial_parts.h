/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the serial port share with each other and nobody else. */
#ifndef VMM_SERIAL_PARTS_H
#define VMM_SERIAL_PARTS_H

#include "vmm/devices/serial.h"

/* serial.c; lock held: tells the line's level if it changed. */
void serial_line_update(struct serial *s);

/* serial_output.c; lock held. A whole FIFO must fit: the guest fills it after one look at LSR. */
bool serial_out_room(const struct serial *s);
void serial_out_push(struct serial *s, uint8_t byte);

#endif
