/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a tap of the host's for a VM: one that there is already, and that was made for this daemon's user. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "node/node.h"

/* A number that sysfs says of an interface; -ENOENT: there is none such, or it is no tap. */
static int number_read(const char *ifname, const char *what, long *out)
{
	char path[64 + CONTROL_IFNAME_MAX], text[32];
	char *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", ifname, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	text[n] = '\0';
	*out = strtol(text, &end, 0);
	return end == text ? -EIO : 0;
}

static int refuse(const struct node_daemon *node, const struct control_device *what, int err,
		  const char *sentence, char *why)
{
	snprintf(why, CONTROL_WHY_MAX,
		 "%s: %s on node %s %s: make it with ip tuntap add dev %s mode tap user USER, USER "
		 "being pangead's",
		 what->id, what->ifname, node->opts.name, sentence, what->ifname);
	return err;
}

int node_tap_open(const struct node_daemon *node, const struct control_device *what, int *out,
		  char *why)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	long flags, owner;
	int fd, err;

	if (number_read(what->ifname, "tun_flags", &flags) ||
	    number_read(what->ifname, "owner", &owner))
		return refuse(node, what, -ENOENT, "is no tap", why);
	if (!(flags & IFF_TAP) || !(flags & IFF_PERSIST) || (flags & IFF_MULTI_QUEUE))
		return refuse(node, what, -EINVAL, "is no lasting tap of one queue", why);
	/* Root's daemon could have any other one, too. */
	if (owner != (long)geteuid())
		return refuse(node, what, -EACCES, "belongs to another user or to none", why);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", what->ifname);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		snprintf(why, CONTROL_WHY_MAX, "%s: %s on node %s cannot be opened: %s", what->id,
			 what->ifname, node->opts.name,
			 err == -EBUSY ? "another program has it" : error_text(err));
		return err;
	}
	*out = fd;
	return 0;
}
