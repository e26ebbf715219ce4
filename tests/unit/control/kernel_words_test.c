/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a kernel's command line that are refused: found as the kernel would find them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "control/control.h"

static void refused(const char *cmdline, const char *word)
{
	char why[CONTROL_WHY_MAX] = "";

	cr_expect_eq(control_kernel_words_check(cmdline, why), -EINVAL, "%s", cmdline);
	cr_expect(strstr(why, word), "%s: %s", cmdline, why);
}

static void taken(const char *cmdline)
{
	char why[CONTROL_WHY_MAX] = "";

	cr_expect_eq(control_kernel_words_check(cmdline, why), 0, "%s: %s", cmdline, why);
}

Test(kernel_words, refused)
{
	refused("acpi=off", "\"acpi=off\"");
	refused("console=ttyS0 acpi=off panic=-1", "needs ACPI");
	refused("acpi=noirq", "\"acpi=noirq\"");
	refused("nox2apic", "x2APIC");
	refused("a=\"b c\"\tnox2apic", "x2APIC");
	refused("nolapic disableapic", "\"nolapic\"");
	refused("disableapic", "\"disableapic\"");
	refused("nolapic=1", "\"nolapic\"");
	refused("pci=nommconf,noacpi", "\"pci=noacpi\"");
	refused("nopv", "x2APIC");
	refused("clearcpuid=smap,hypervisor", "\"clearcpuid=hypervisor\"");
	refused("noapictimer", "timers");
	refused("nolapic-timer", "timers"); /* '-' is '_' */
	/* Quotes around the value or the word are not the kernel's. */
	refused("acpi=\"off\"", "acpi=off");
	refused("\"acpi=off\"", "acpi=off");
	refused("\"nox2apic\"", "nox2apic");
	refused("x=\"--\" nox2apic", "nox2apic");
}

Test(kernel_words, taken)
{
	taken("");
	taken("   ");
	taken("console=ttyS0 panic=-1");
	/* Other words, and other values. */
	taken("acpi=force");
	taken("acpi=offish xacpi=off nolapicx");
	taken("acpi");
	taken("nolapic_timers lapic=off noapic pci=off,noacpis acpi=off2,x");
	/* Within another one's value. */
	taken("dyndbg=\"file x acpi=off nox2apic\"");
	taken("\"init=/bin/sh acpi=off\"");
	/* Behind "--" they go to the first process. */
	taken("quiet -- acpi=off nox2apic");
	/* Odd ends. */
	taken("=");
	taken("=off");
	taken("\"");
	taken("acpi=\"");
	taken("acpi=");
	taken("\"=\"");
}
