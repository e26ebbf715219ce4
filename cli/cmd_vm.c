/* SPDX-License-Identifier: Apache-2.0 */
/* pangea vm example: a description of a virtual machine that explains itself. */
#include <string.h>

#include "cli/cli.h"

static const char usage[] = "Usage: pangea vm example\n"
			    "Prints a file that describes a virtual machine, with comments: "
			    "'pangea run FILE' runs it.\n"
			    "\n"
			    "  --help, --version\n";

static const char example[] =
	"# A virtual machine. 'pangea run FILE' runs it, 'pangea run -d FILE' without this\n"
	"# terminal, 'pangea run --check FILE' only looks whether the file is in order.\n"
	"#\n"
	"# Each key is an option of 'pangea run' without its dashes; 'pangea run --help' and\n"
	"# pangea-run(1) explain them. An option on the command line takes the key's place.\n"
	"# A path is relative to this file.\n"
	"\n"
	"name: example\n"
	"\n"
	"# What it runs: a kernel with its initial ramdisk and command line.\n"
	"kernel: vmlinuz\n"
	"initrd: initramfs.cpio\n"
	"append: console=ttyS0 root=/dev/vda1\n"
	"\n"
	"# How big it is: as a whole, spread over the nodes that are ready.\n"
	"cpus: 4\n"
	"mem: 2G\n"
	"nodes: 2\n"
	"\n"
	"# Or slice by slice, instead of cpus, mem and nodes:\n"
	"# slice:\n"
	"#   - {node: node0, cpus: 2, mem: 1G}\n"
	"#   - node=node1,cpus=2,mem=1G\n"
	"\n"
	"# Disks, each a map or the text that --disk takes. The file lies on the node that boots\n"
	"# the guest.\n"
	"disk:\n"
	"  - file: disk.img\n"
	"    format: raw\n"
	"  - /var/lib/images/data.qcow2,readonly\n"
	"\n"
	"# Networks, in the same way: port 2222 of the node leads to port 22 of the guest.\n"
	"net:\n"
	"  - type: user\n"
	"    forward:\n"
	"      - 2222:22\n"
	"\n"
	"# What follows when the guest reboots, and when it crashes: restart or end.\n"
	"on-reboot: restart\n"
	"on-crash: end\n"
	"\n"
	"# Options without a value are true or false.\n"
	"no-console: false\n";

int cmd_vm(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return fputs(usage, stdout) < 0;
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return puts("pangea " PANGEA_VERSION) < 0;
	if (argc != 2 || strcmp(argv[1], "example") != 0)
		return cli_usage(argv[0], "there is 'pangea vm example', and nothing else");
	return fputs(example, stdout) < 0 || fflush(stdout) != 0;
}
