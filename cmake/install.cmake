# SPDX-License-Identifier: Apache-2.0
# The layout of an installed Pangea, as `cmake --install` makes it: FHS, one component a package (deploy/packages).
# Programs find each other by their place beside the running one (base/program.c), so a prefix or DESTDIR works anywhere.
include(GNUInstallDirs)
set(PANGEA_SHARE ${CMAKE_INSTALL_DATADIR}/pangea)
# Programs for guests: whatever the host is, these are x86-64, and nobody here runs them. So not the multiarch folder.
set(PANGEA_GUESTS lib/pangea)
set(files ${PROJECT_SOURCE_DIR}/deploy/packages/files)

# pangea_install_manuals(COMPONENT PAGE...)
function(pangea_install_manuals component)
  foreach(page ${ARGN})
    string(REGEX REPLACE ".*\\." "" section ${page})
    install(FILES docs/man/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT ${component})
  endforeach()
endfunction()

# pangea_install_etc(COMPONENT FILE FOLDER NAME): below /etc for the prefix /usr, which only `cmake --install` knows.
function(pangea_install_etc component file folder name)
  install(CODE "set(etc \"\${CMAKE_INSTALL_PREFIX}/etc\")
    if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\")
      set(etc /etc)
    endif()
    file(INSTALL DESTINATION \"\${etc}/${folder}\" TYPE FILE RENAME \"${name}\" FILES \"${files}/${file}\")"
    COMPONENT ${component})
endfunction()

install(TARGETS pangea DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT cli)
pangea_install_manuals(cli pangea.1 pangea-check.1 pangea-cluster.1 pangea-console.1 pangea-image.1 pangea-inspect.1
  pangea-join.1 pangea-logs.1 pangea-nodes.1 pangea-pages.1 pangea-pki.1 pangea-ps.1 pangea-reset.1 pangea-rm.1
  pangea-run.1 pangea-stop.1 pangea-vm.1 pangea-vms.1)
file(GLOB pages ${PROJECT_SOURCE_DIR}/docs/*.md)
install(FILES ${pages} README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT cli)
install(FILES ${files}/pangea.sysusers DESTINATION lib/sysusers.d RENAME pangea.conf COMPONENT cli)

install(TARGETS pangead DESTINATION ${CMAKE_INSTALL_SBINDIR} COMPONENT node)
install(TARGETS pangea-vmm DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/pangea COMPONENT node)
pangea_install_manuals(node pangead.8 pangea-vmm.8)
install(FILES ${files}/pangea-node.service DESTINATION lib/systemd/system COMPONENT node)
install(FILES ${files}/pangea-node.tmpfiles DESTINATION lib/tmpfiles.d RENAME pangea-node.conf COMPONENT node)
install(FILES ${files}/pangea-node.udev DESTINATION lib/udev/rules.d RENAME 60-pangea-node.rules COMPONENT node)
install(FILES ${files}/pangea-node.modprobe DESTINATION lib/modprobe.d RENAME pangea-node.conf COMPONENT node)
pangea_install_etc(node pangea-node.limits security/limits.d pangea-node.conf)
pangea_install_etc(node pangea-node.default default pangea-node)

install(TARGETS pangea-coordinator DESTINATION ${CMAKE_INSTALL_SBINDIR} COMPONENT coordinator)
pangea_install_manuals(coordinator pangea-coordinator.8)
install(FILES ${files}/pangea-coordinator.service DESTINATION lib/systemd/system COMPONENT coordinator)
install(FILES ${files}/pangea-coordinator.tmpfiles DESTINATION lib/tmpfiles.d RENAME pangea-coordinator.conf
  COMPONENT coordinator)
pangea_install_etc(coordinator pangea-coordinator.default default pangea-coordinator)

# Builds with sanitizers have no guests.
if(TARGET pangea-spread)
  install(TARGETS pangea-spread pangea-kernels DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT guest)
  pangea_install_manuals(guest pangea-spread.1 pangea-kernels.1)
  install(FILES guests/spread/pangea-spread.service DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/pangea-guest/examples
    COMPONENT guest)
  # What deploy/initramfs packs.
  install(TARGETS selftest xmod splitlock traps DESTINATION ${PANGEA_GUESTS}/initramfs COMPONENT guest)
  foreach(program pangea-spread pangea-kernels)
    install(CODE "file(CREATE_LINK ../../../${CMAKE_INSTALL_BINDIR}/${program}
      \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${PANGEA_GUESTS}/initramfs/${program}\" SYMBOLIC)" COMPONENT guest)
  endforeach()
  install(PROGRAMS guests/base/init DESTINATION ${PANGEA_SHARE}/guests/base COMPONENT guest)
  install(PROGRAMS guests/initramfs/init guests/initramfs/udhcpc-script
    DESTINATION ${PANGEA_SHARE}/guests/initramfs COMPONENT guest)
  install(PROGRAMS deploy/fetch deploy/initramfs DESTINATION ${PANGEA_SHARE}/deploy COMPONENT guest)
  install(PROGRAMS deploy/images/make-debian deploy/images/make-base DESTINATION ${PANGEA_SHARE}/deploy/images COMPONENT guest)
  install(FILES deploy/lib.sh deploy/guest.conf DESTINATION ${PANGEA_SHARE}/deploy COMPONENT guest)
  get_property(microguests GLOBAL PROPERTY PANGEA_MICROGUESTS)
  install(TARGETS ${microguests} DESTINATION ${PANGEA_GUESTS}/guests COMPONENT guest)
endif()
